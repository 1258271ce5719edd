package call

import "time"

// Loop is a call to a broker, which its one caller repeats until it is done: nobody waits for it, and what it is to tell is on disk.
// So it has neither a breaker nor a bound on attempts, and the caller's loop is in the package that knows the broker. The numbers
// are here, beside all others.
type Loop struct {
	Name     string
	Timeout  time.Duration // of one attempt
	First    time.Duration // the wait after the first failure is drawn from 0 to this, and to twice as much after each other
	Most     time.Duration // to no more than this
	InFlight string
	Fallback string // what becomes of the caller's business meanwhile
	Why      string // the reason for the numbers
}

// The loops that there are.
var (
	BrokerConnect = Loop{
		Name: "broker/Connect", Timeout: 15 * time.Second, First: 200 * time.Millisecond, Most: 5 * time.Second,
		InFlight: "1", Fallback: "degraded; events wait in the outbox and at the broker",
		Why: "an attempt makes streams and queues too; 5s are soon enough for what waits, and no load on a broker that starts",
	}
	BrokerPublish = Loop{
		Name: "broker/Publish", Timeout: 15 * time.Second, First: 50 * time.Millisecond, Most: 30 * time.Second,
		InFlight: "1 batch of 256 events for each context", Fallback: "events wait in the outbox",
		Why: "a broker that takes a batch and does not answer is found out; before, the batch waits 10s for one that is away",
	}
)
