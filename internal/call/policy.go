// Package call is the policy around every outbound call to another context: a deadline, a timeout for each attempt,
// repeats where they are harmless, a circuit breaker and a bound on what is in flight, for each target and method.
//
// It promises that a peer that hangs costs its caller no more than the timeout and no more than a bounded number of
// goroutines, that a command which is not declared repeatable is sent once, that retries never multiply an overload, and
// that an open breaker closes by itself. It refuses to retry what the peer has understood and refused. The
// mechanisms are failsafe-go's; docs/calls.md has the numbers for each edge.
package call

import (
	"cmp"
	"strings"
	"time"
)

// Policy is what holds for one method of one target.
type Policy struct {
	Target   string        // the context that is called
	Method   string        // the full gRPC method, or METHOD /path of a REST contract with {name} for a segment
	Timeout  time.Duration // of one attempt; the caller's deadline ends it earlier
	Attempts int           // 1: not repeatable, sent once
	InFlight int           // calls under way at once; the next is refused
	Why      string        // the reason for the numbers

	// The circuit breaker opens after so many failures in a row, and lets a probe through after so long.
	OpenAfter int
	OpenFor   time.Duration
}

// Edge is the name of what the policy is for: the target and the method without its package, such as inventory/Reserve.
func (p Policy) Edge() string {
	if p.grpc() {
		return p.Target + "/" + p.Method[strings.LastIndexByte(p.Method, '/')+1:]
	}
	return p.Target + "/" + p.Method
}

// grpc reports whether the method is one of a gRPC service, and rest, whether it is one of a REST contract.
func (p Policy) grpc() bool { return strings.HasPrefix(p.Method, "/") }
func (p Policy) rest() bool { return strings.Contains(p.Method, " ") }

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

const (
	inventory = "/orderkeep.inventory.v1.InventoryService/"
	payments  = "/orderkeep.payments.v1.PaymentsService/"
)

// table is the one place that says what holds for which call. 1,024 in flight is four times the batches that a
// context's queue holds: more would only wait longer.
var table = []Policy{
	{Target: "inventory", Method: inventory + "Reserve", Timeout: 5 * time.Second, Attempts: 3, InFlight: 1024, Why: "the customer waits; named by the order, so a repeat gets the first answer"},
	{Target: "inventory", Method: inventory + "Release", Timeout: 5 * time.Second, Attempts: 3, InFlight: 1024, Why: "named by the order; recovery repeats it anyway, later"},
	{Target: "inventory", Method: inventory + "Commit", Timeout: 5 * time.Second, Attempts: 3, InFlight: 1024, Why: "named by the order; nobody waits"},
	{Target: "inventory", Method: inventory + "Check", Timeout: 1 * time.Second, Attempts: 2, InFlight: 1024, Why: "a read that only saves work: not worth waiting for"},
	{Target: "payments", Method: payments + "Authorize", Timeout: 10 * time.Second, Attempts: 2, InFlight: 1024, Why: "a provider takes seconds; named by the order, and a repeat asks the provider and never charges again"},
	{Target: "payments", Method: payments + "Capture", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Why: "a provider takes seconds; named by the order"},
	{Target: "payments", Method: payments + "Void", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Why: "a provider takes seconds; recovery repeats it anyway, later"},
	{Target: "payments", Method: payments + "Refund", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Why: "a provider takes seconds; named by the order"},

	{Target: "inventory", Method: "PUT /v1/reservations/{reservationId}", Timeout: 5 * time.Second, Attempts: 3, InFlight: 512, Why: "as Reserve; fewer, as each holds a connection"},
	{Target: "inventory", Method: "DELETE /v1/reservations/{reservationId}", Timeout: 5 * time.Second, Attempts: 3, InFlight: 512, Why: "as Release; fewer, as each holds a connection"},
	{Target: "inventory", Method: "GET /v1/stock/{sku}", Timeout: 1 * time.Second, Attempts: 2, InFlight: 512, Why: "as Check"},
	{Target: "inventory", Method: "POST /reserve", Timeout: 5 * time.Second, Attempts: 1, InFlight: 512, Why: "a foreign Inventory may ignore the key and reserve twice: sent once"},
	{Target: "payments", Method: "PUT /v1/payments/{orderId}", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Why: "as Authorize"},
	{Target: "payments", Method: "POST /v1/payments/{orderId}/capture", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Why: "as Capture; repeating it does nothing more"},
	{Target: "payments", Method: "POST /v1/payments/{orderId}/void", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Why: "as Void; repeating it does nothing more"},
	{Target: "payments", Method: "POST /v1/payments/{orderId}/refund", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Why: "as Refund; repeating it does nothing more"},
}

// other holds for a method that the table does not name: nothing is known of it, so it is sent once.
var other = Policy{Timeout: 5 * time.Second, Attempts: 1, InFlight: 256, Why: "not in the table: nothing is known of it"}

// full returns the policy with what all edges share, where it has no number of its own.
func (p Policy) full() Policy {
	p.OpenAfter, p.OpenFor = cmp.Or(p.OpenAfter, openAfter), cmp.Or(p.OpenFor, openFor)
	return p
}

// Table is the policies of all edges that are known.
type Table []Policy

// Policies returns the table as it is without settings.
func Policies() Table {
	t := make(Table, len(table))
	for i, p := range table {
		t[i] = p.full()
	}
	return t
}
