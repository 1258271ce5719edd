// Package rate limits how often one client may ask, so that none takes the service away from the others.
//
// The limit is the generic cell rate algorithm: a client may use its whole quota at once, and gets it back evenly. With a
// Redis the replicas of a service count together; without one each process counts for itself. It promises never to be
// the reason that a request fails: while Redis is away, each replica counts for itself and asks again every second. It
// refuses to know who a client is; that is for the edge.
package rate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
)

// Limit is a quota of requests for each period. The zero Limit is none.
type Limit struct {
	Requests int
	Period   time.Duration
}

var periods = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// maxRequests keeps the time between two requests of a period of an hour above a microsecond, which is Redis's clock.
const maxRequests = 1_000_000

// UnmarshalText reads a limit such as 100/s, 600/m or 5000/h; 0 is none.
func (l *Limit) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*l = Limit{}
		return nil
	}
	number, unit, _ := strings.Cut(string(text), "/")
	n, err := strconv.Atoi(number)
	period, known := periods[unit]
	if err != nil || n < 1 || n > maxRequests || !known {
		return fmt.Errorf("%q is not a limit such as 100/s, 600/m or 5000/h, or 0 for none", text)
	}
	*l = Limit{n, period}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

func (l Limit) String() string {
	for unit, period := range periods {
		if l.Period == period {
			return strconv.Itoa(l.Requests) + "/" + unit
		}
	}
	return "0"
}

// Seconds is the period in whole seconds.
func (l Limit) Seconds() int { return int(l.Period / time.Second) }

// Decision is the answer to one request.
type Decision struct {
	OK        bool
	Remaining int           // requests that the client has left at this moment
	Reset     time.Duration // until it has its whole quota again
	Retry     time.Duration // until the next request will be let in; 0 when OK
}

// Limiter counts. It is safe for concurrent use.
type Limiter struct {
	limit Limit
	local throttled.RateLimiterCtx

	service string
	redis   *redis.Client // nil without one
	shared  *redis_rate.Limiter
	target  *call.Target // Redis, with the policy of internal/call
}

const (
	// clients bounds the memory of one process: about 160 bytes each. The one not seen for longest is forgotten, and
	// starts with its whole quota when it comes back.
	clients = 100_000
	// casAttempts is how often requests of one client that come at the same instant try to count themselves: as many as
	// there can be connections at once, and then some.
	casAttempts = 10_000
	// allow is the one call to Redis, by its name in the table of policies.
	allow = "Allow"
)

// ErrURL says what a Redis URL looks like. It does not repeat the one given, which may hold a password.
var ErrURL = errors.New("is not a URL such as redis://host:6379/0, or rediss:// for TLS")

// CheckURL reports whether New would take the URL.
func CheckURL(redisURL string) error {
	u, err := url.Parse(redisURL)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" {
		return ErrURL
	}
	if _, err := redis.ParseURL(redisURL); err != nil {
		return ErrURL
	}
	return nil
}

// New makes a limiter for a limit that is not zero. redisURL may be empty. Redis need not be there yet. Those of one service count
// together there; another service may use the same Redis. Calls to it are among the edges, as redis/Allow.
func New(limit Limit, service, redisURL string, edges *call.Edges) (*Limiter, error) {
	store, err := memstore.NewCtx(clients)
	if err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	quota := throttled.RateQuota{MaxRate: throttled.PerDuration(limit.Requests, limit.Period), MaxBurst: limit.Requests - 1}
	local, err := throttled.NewGCRARateLimiterCtx(store, quota)
	if err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	local.SetMaxCASAttemptsLimit(casAttempts)
	l := &Limiter{limit: limit, local: local}
	if redisURL == "" {
		return l, nil
	}
	o, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, ErrURL
	}
	l.target = edges.Target("redis")
	patience := l.target.Policy(allow).Timeout
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience, patience
	o.MaxRetries, o.DialerRetries = -1, 1 // a limit is not worth a second attempt
	o.ContextTimeoutEnabled = true
	logging.Disable() // it writes a line for each attempt past our log, which has the outage once
	l.service, l.redis = service, redis.NewClient(o)
	l.shared = redis_rate.NewLimiter(l.redis)
	return l, nil
}

// Limit is what the limiter was made with.
func (l *Limiter) Limit() Limit { return l.limit }

// Close lets go of Redis.
func (l *Limiter) Close() error {
	if l.redis == nil {
		return nil
	}
	return l.redis.Close()
}

// errAway tells whoever asks how the process is, who may be a stranger: the address is for the log.
var errAway = fault.New(fault.Unavailable, "redis_unavailable", "The Redis that REDIS_URL names does not answer. Each process counts requests by itself until it does.")

// Ready fails while Redis is away, which is no reason for Take to. Without a Redis it never fails.
func (l *Limiter) Ready(ctx context.Context) error {
	if l.redis == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.target.Policy(allow).Timeout)
	defer cancel()
	if err := l.redis.Ping(ctx).Err(); err != nil {
		return errAway.Because(err)
	}
	return nil
}

// Take counts one request of a client and decides about it.
func (l *Limiter) Take(ctx context.Context, client string) Decision {
	if l.shared != nil {
		if d, ok := l.takeShared(ctx, client); ok {
			return d
		}
	}
	limited, r, err := l.local.RateLimitCtx(ctx, client, 1)
	if err != nil {
		// Memory fails only when casAttempts were not enough; nobody is turned away for that.
		return Decision{OK: true}
	}
	return Decision{OK: !limited, Remaining: r.Remaining, Reset: max(0, r.ResetAfter), Retry: max(0, r.RetryAfter)}
}

// takeShared counts in Redis, unless it is away.
func (l *Limiter) takeShared(ctx context.Context, client string) (Decision, bool) {
	var r *redis_rate.Result
	// The client's going away says nothing about Redis.
	err := l.target.Do(context.WithoutCancel(ctx), allow, func(ctx context.Context) error {
		var err error
		if r, err = l.shared.Allow(ctx, l.service+" "+client, redis_rate.Limit{Rate: l.limit.Requests, Burst: l.limit.Requests, Period: l.limit.Period}); err != nil {
			return errAway.Because(err)
		}
		return nil
	})
	if err != nil {
		return Decision{}, false
	}
	return Decision{OK: r.Allowed > 0, Remaining: r.Remaining, Reset: max(0, r.ResetAfter), Retry: max(0, r.RetryAfter)}, true
}

// WholeSeconds rounds up, and is 1 at least: a client that waits so long will not come too early.
func WholeSeconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }
