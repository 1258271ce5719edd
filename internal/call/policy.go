// Package call is the policy around every outbound call, to another context, to a payment provider, to Redis: a deadline, a
// timeout for each attempt, repeats where they are harmless, a circuit breaker and a bound on what is in flight, for each
// target and method.
//
// It promises that a peer that hangs costs its caller no more than the timeout and no more than a bounded number of
// goroutines, that a command which is not declared repeatable is sent once, that retries never multiply an overload, and
// that an open breaker closes by itself. It refuses to retry what the peer has understood and refused. The
// mechanisms are failsafe-go's; docs/resilience.md has the numbers for each edge.
package call

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Policy is what holds for one method of one target.
type Policy struct {
	Target   string        // what is called: a context, a payment provider by its name, redis
	Method   string        // the full gRPC method, METHOD /path of a REST contract with {name} for a segment, or a name
	Timeout  time.Duration // of one attempt; the caller's deadline ends it earlier
	Attempts int           // 1: not repeatable, sent once
	InFlight int           // calls under way at once; the next is refused

	// The circuit breaker opens after so many failures in a row, and lets a probe through after so long.
	OpenAfter int
	OpenFor   time.Duration

	Fallback string // what becomes of the caller's business while the call fails or is held back
	Why      string // the reason for the numbers
}

// Edge is the name of what the policy is for: the target and the method without its package, such as inventory/Reserve.
func (p Policy) Edge() string {
	if p.grpc() {
		return p.Target + "/" + p.Method[strings.LastIndexByte(p.Method, '/')+1:]
	}
	return p.Target + "/" + p.Method
}

// grpc reports whether the method is one of a gRPC service, rest, whether it is one of a REST contract, and plain, whether it
// is called as Do has it.
func (p Policy) grpc() bool  { return strings.HasPrefix(p.Method, "/") }
func (p Policy) rest() bool  { return strings.Contains(p.Method, " ") }
func (p Policy) plain() bool { return !p.grpc() && !p.rest() }

// The numbers that all edges share.
const (
	// The waits between attempts are drawn between 0 and twice these: full jitter, so that callers who failed together
	// do not come back together. 25 ms is several commits of a batch; 400 ms is less than anybody waits for an order.
	backoffFirst = 25 * time.Millisecond
	backoffLast  = 400 * time.Millisecond

	// Retries may be one in five of all calls in flight, so that a struggling peer gets at most a quarter more than its
	// callers want; three are always allowed, or a quiet caller could never retry.
	retryShare   = 0.2
	retryMinimum = 3

	// The breaker opens after 10 failures in a row, however slowly they come, or when half of at least 40 calls within
	// 10 s failed. 10 and 40 are more than one lost batch or one restarted replica causes by itself.
	openAfter     = 10
	failureRate   = 0.5
	failureCalls  = 40
	failureWindow = 10 * time.Second

	// An open breaker lets one call through after a second, give or take a fifth so that replicas do not probe together;
	// its success closes it. A peer restarts within that time.
	openFor    = time.Second
	openJitter = 0.2
)

// full returns the policy with what all edges share, where it has no number of its own.
func (p Policy) full() Policy {
	p.OpenAfter, p.OpenFor = cmp.Or(p.OpenAfter, openAfter), cmp.Or(p.OpenFor, openFor)
	return p
}

// Table is the policies of all edges that are known.
type Table []Policy

// Policies returns the table as it is without settings.
func Policies() Table {
	t := slices.Clone(table)
	for i, p := range table {
		t[i] = p.full()
	}
	return t
}
