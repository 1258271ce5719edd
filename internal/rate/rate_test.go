package rate_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/telemetrytest"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/rate"
	"github.com/orderkeep/orderkeep/internal/rate/ratetest"
)

func limiter(t *testing.T, l rate.Limit, redisURL string, log *slog.Logger) *rate.Limiter {
	t.Helper()
	return limiterOf(t, "shop", l, redisURL, log)
}

func limiterOf(t *testing.T, service string, l rate.Limit, redisURL string, log *slog.Logger) *rate.Limiter {
	t.Helper()
	r, err := rate.New(l, service, redisURL, call.NewEdges(call.Policies(), log, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// take asks n times at once, taking turns among the limiters, and counts who was let in.
func take(t *testing.T, n int, client string, limiters ...*rate.Limiter) int {
	t.Helper()
	var in atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			d := limiters[i%len(limiters)].Take(t.Context(), client)
			if d.OK {
				in.Add(1)
			} else if d.Retry <= 0 {
				t.Errorf("turned away without a time to come back: %+v", d)
			}
		})
	}
	wg.Wait()
	return int(in.Load())
}

// Ten an hour: the quota does not come back while a test runs, however slow the machine.
var ten = rate.Limit{Requests: 10, Period: time.Hour}

func TestLetsInAsManyAsTheQuota(t *testing.T) {
	t.Parallel()
	l := limiter(t, ten, "", nil)
	if got := take(t, 200, "a", l); got != 10 {
		t.Errorf("%d of 200 requests at once were let in", got)
	}
	if got := take(t, 3, "b", l); got != 3 {
		t.Errorf("another client was let in %d times of 3", got)
	}
	d := l.Take(t.Context(), "c")
	if !d.OK || d.Remaining != 9 || d.Reset <= 0 || d.Retry != 0 {
		t.Errorf("first request: %+v", d)
	}
}

func TestReplicasCountTogetherInRedis(t *testing.T) {
	t.Parallel()
	url, _ := ratetest.Redis(t)
	// On a machine that stands still for a moment Redis counts as away, and what was let in says nothing.
	for try := range 20 {
		var log telemetrytest.Log
		logger := slog.New(slog.NewTextHandler(&log, nil))
		one, two := limiter(t, ten, url, logger), limiter(t, ten, url, logger)
		client := fmt.Sprint("client", try)
		got := take(t, 40, client, one, two)
		neighbour := one.Take(t.Context(), client+"'s neighbour")
		elsewhere := limiterOf(t, "till", ten, url, logger).Take(t.Context(), client)
		if log.String() != "" {
			continue
		}
		if got != 10 {
			t.Errorf("two replicas let in %d of 40", got)
		}
		for what, d := range map[string]rate.Decision{"another client": neighbour, "the same client at another service": elsewhere} {
			if !d.OK || d.Remaining != 9 {
				t.Errorf("%s: %+v", what, d)
			}
		}
		return
	}
	t.Error("Redis was never there for a whole try")
}

// While Redis is away requests go on, counted here; and when it is back, counting together does.
func TestRedisAwayIsNoReasonToFail(t *testing.T) {
	t.Parallel()
	var log telemetrytest.Log
	url, stop := ratetest.Redis(t)
	l := limiter(t, ten, url, slog.New(slog.NewTextHandler(&log, nil)))
	if got := take(t, 4, "a", l); got != 4 {
		t.Fatalf("%d of 4", got)
	}
	if err := l.Ready(t.Context()); err != nil {
		t.Errorf("with Redis: %v", err)
	}
	stop()
	if err := l.Ready(t.Context()); fault.Of(err).Code != "redis_unavailable" {
		t.Errorf("without Redis: %v", err)
	}
	start := time.Now()
	if got := take(t, 200, "a", l); got != 10 {
		t.Errorf("without Redis %d of 200 were let in", got)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("200 requests without Redis took %s", took)
	}
	if n := strings.Count(log.String(), "from=closed to=open"); n != 1 {
		t.Errorf("the outage is in the log %d times", n)
	}
	ratetest.Restart(t, url)
	other := limiter(t, ten, url, slog.Default())
	if got := take(t, 10, "b", other); got != 10 {
		t.Fatalf("the other replica: %d of 10", got)
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	giveUp := time.After(30 * time.Second)
	for log.Count("to=closed") == 0 { // Redis is asked once a second
		select {
		case <-again.C:
			l.Take(t.Context(), "c")
		case <-giveUp:
			t.Fatal("Redis is not asked again")
		}
	}
	if got := take(t, 5, "b", l); got != 0 {
		t.Errorf("%d requests were let in that the other replica has counted", got)
	}
}

// Each request would wait for a Redis that is away: the first that did is enough.
func TestOneFailureIsEnoughToLeaveRedisAlone(t *testing.T) {
	t.Parallel()
	var log telemetrytest.Log
	edges := call.NewEdges(call.Policies(), slog.New(slog.NewTextHandler(&log, nil)), nil)
	l, err := rate.New(ten, "shop", "redis://127.0.0.1:1", edges)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if d := l.Take(t.Context(), "a"); !d.OK || d.Remaining != 9 {
		t.Errorf("%+v", d)
	}
	if s := edges.States(); len(s) != 1 || s[0].Edge != "redis/Allow" || s[0].Breaker != "open" || s[0].Failures != 1 {
		t.Errorf("%+v", s)
	}
	for _, says := range []string{"target=redis", "refused", `meanwhile="each process counts for itself"`} {
		if log.Count(says) != 1 {
			t.Errorf("the log does not say %s:\n%s", says, &log)
		}
	}
}

func TestLimitIsReadAndWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]rate.Limit{
		"0": {}, "100/s": {Requests: 100, Period: time.Second}, "6000/m": {Requests: 6000, Period: time.Minute}, "1/h": {Requests: 1, Period: time.Hour},
	} {
		var got rate.Limit
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s reads as %v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%s is written as %s", text, got)
		}
	}
	for _, text := range []string{"", "100", "-1/s", "0/s", "1.5/s", "100/d", "1000001/s", "/s", "100/s/s"} {
		if err := new(rate.Limit).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestRedisURLIsCheckedAndNeverRepeated(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"redis://h:6379", "rediss://me:secret@h:6379/2", "redis://h"} {
		if err := rate.CheckURL(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"", "h:6379", "http://h", "redis://", "redis://me:secret@h/x", "redis://me:secret@h:port"} {
		if err := rate.CheckURL(url); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func ExampleLimit() {
	var l rate.Limit
	_ = l.UnmarshalText([]byte("600/m"))
	fmt.Println(l.Requests, l.Period)
	// Output: 600 1m0s
}
