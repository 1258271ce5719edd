package call

import "time"

const (
	inventory = "/orderkeep.inventory.v1.InventoryService/"
	payments  = "/orderkeep.payments.v1.PaymentsService/"
)

// What becomes of a caller's business.
const (
	notTaken = "503, the order is not taken"
	pending  = "202, the order is pending and its stock held; recovery drives it on"
	later    = "under way until it is done; recovery repeats it"
)

// table is the one place that says what holds for which call. 4,096 in flight is what a context's queue holds: more would
// only wait longer. An authorization holds no queue but the memory of its order, about 70 KB, while a slow provider takes its time: 16,384 of them
// are 10,000 in flight with room for more, in little over a gigabyte, and in 1.25 GiB at most (internal/node, memoryLimit). Of what nobody waits for, fewer do.
var table = Table{
	{Target: "inventory", Method: inventory + "Reserve", Timeout: 5 * time.Second, Attempts: 3, InFlight: 4096, Fallback: notTaken,
		Why: "the customer waits; named by the order, so a repeat gets the first answer"},
	{Target: "inventory", Method: inventory + "Release", Timeout: 5 * time.Second, Attempts: 3, InFlight: 1024, Fallback: later,
		Why: "named by the order; recovery repeats it anyway, later"},
	{Target: "inventory", Method: inventory + "Commit", Timeout: 5 * time.Second, Attempts: 3, InFlight: 1024, Fallback: later,
		Why: "named by the order; nobody waits"},
	{Target: "inventory", Method: inventory + "Check", Timeout: 1 * time.Second, Attempts: 2, InFlight: 1024, Fallback: "Reserve is asked",
		Why: "a read that only saves work: not worth waiting for"},
	{Target: "inventory", Method: inventory + "ListReservations", Timeout: 5 * time.Second, Attempts: 2, InFlight: 16, Fallback: "orders are recorded before their units are reserved",
		Why: "a read after a crash, and now and then to see that it could be made; nobody waits"},
	{Target: "payments", Method: payments + "Authorize", Timeout: 10 * time.Second, Attempts: 2, InFlight: 16384, Fallback: pending,
		Why: "a provider takes seconds; named by the order, and a repeat asks the provider and never charges again"},
	{Target: "payments", Method: payments + "Capture", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Fallback: later,
		Why: "a provider takes seconds; named by the order"},
	{Target: "payments", Method: payments + "Void", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Fallback: later,
		Why: "a provider takes seconds; recovery repeats it anyway, later"},
	{Target: "payments", Method: payments + "Refund", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Fallback: later,
		Why: "a provider takes seconds; named by the order"},

	{Target: "inventory", Method: "PUT /v1/reservations/{reservationId}", Timeout: 5 * time.Second, Attempts: 3, InFlight: 512, Fallback: notTaken,
		Why: "as Reserve; fewer, as each holds a connection"},
	{Target: "inventory", Method: "DELETE /v1/reservations/{reservationId}", Timeout: 5 * time.Second, Attempts: 3, InFlight: 512, Fallback: later,
		Why: "as Release; fewer, as each holds a connection"},
	{Target: "inventory", Method: "GET /v1/stock/{sku}", Timeout: 1 * time.Second, Attempts: 2, InFlight: 512, Fallback: "Reserve is asked",
		Why: "as Check"},
	{Target: "inventory", Method: "POST /reserve", Timeout: 5 * time.Second, Attempts: 1, InFlight: 512, Fallback: notTaken,
		Why: "a foreign Inventory may ignore the key and reserve twice: sent once"},
	{Target: "payments", Method: "PUT /v1/payments/{orderId}", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Fallback: pending,
		Why: "as Authorize"},
	{Target: "payments", Method: "POST /v1/payments/{orderId}/capture", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Fallback: later,
		Why: "as Capture; repeating it does nothing more"},
	{Target: "payments", Method: "POST /v1/payments/{orderId}/void", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Fallback: later,
		Why: "as Void; repeating it does nothing more"},
	{Target: "payments", Method: "POST /v1/payments/{orderId}/refund", Timeout: 10 * time.Second, Attempts: 2, InFlight: 512, Fallback: later,
		Why: "as Refund; repeating it does nothing more"},

	// A provider is asked once: whether to ask again is decided over the record that the call is open, and by looking the charge up.
	{Target: "simulated", Method: "Authorize", Timeout: 3 * time.Second, Attempts: 1, InFlight: 16384, Fallback: pending,
		Why: "longer than a card network's slow day, shorter than a customer's patience"},
	{Target: "simulated", Method: "Lookup", Timeout: 3 * time.Second, Attempts: 1, InFlight: 16384, Fallback: pending,
		Why: "comes before a second Authorize, with which it fits into the 10s of a call to Payments"},
	{Target: "simulated", Method: "Capture", Timeout: 3 * time.Second, Attempts: 1, InFlight: 512, Fallback: later,
		Why: "nobody waits; recovery asks again by the charge's key, after 15s to 5m"},
	{Target: "simulated", Method: "Void", Timeout: 3 * time.Second, Attempts: 1, InFlight: 512, Fallback: later,
		Why: "as Capture"},
	{Target: "simulated", Method: "Refund", Timeout: 3 * time.Second, Attempts: 1, InFlight: 512, Fallback: later,
		Why: "as Capture"},

	// A request waits for Redis, and Redis is for nothing but fairness among clients.
	{Target: "redis", Method: "Allow", Timeout: 250 * time.Millisecond, Attempts: 1, InFlight: 1024, OpenAfter: 1, Fallback: "each process counts for itself",
		Why: "it is on the same network, where a busy one answers in a millisecond; so an outage costs one request a second its patience"},
}

// other holds for a method that the table does not name: nothing is known of it, so it is sent once.
var other = Policy{Timeout: 5 * time.Second, Attempts: 1, InFlight: 256, Fallback: "the caller's to say", Why: "not in the table: nothing is known of it"}
