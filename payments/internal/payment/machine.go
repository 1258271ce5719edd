package payment

// Status is where a payment stands. The database holds these words.
type Status string

// The statuses. Those that end in -ing, and Pending, are durable before the provider is called; repeating the
// operation leads out of them.
const (
	None       Status = ""           // never heard of
	Pending    Status = "pending"    // authorization begun
	Authorized Status = "authorized" // the provider holds the money
	Declined   Status = "declined"   // the provider will not hold it; final
	Capturing  Status = "capturing"
	Captured   Status = "captured" // the money is ours
	Voiding    Status = "voiding"
	Voided     Status = "voided" // nothing is held and nothing ever will be; final
	Refunding  Status = "refunding"
	Refunded   Status = "refunded" // the money went back; final
)

// Statuses lists all statuses, for tests and pictures that must cover them.
func Statuses() []Status {
	return []Status{None, Pending, Authorized, Declined, Capturing, Captured, Voiding, Voided, Refunding, Refunded}
}

// Cause is what moves a payment: a command, or what the provider says.
type Cause string

// The causes.
const (
	AskAuthorize   Cause = "authorize"
	AskCapture     Cause = "capture"
	AskVoid        Cause = "void"
	AskRefund      Cause = "refund"
	SaysAuthorized Cause = "provider: authorized"
	SaysDeclined   Cause = "provider: declined"
	SaysCaptured   Cause = "provider: captured"
	SaysVoided     Cause = "provider: voided"
	SaysRefunded   Cause = "provider: refunded"
)

// Causes lists all causes.
func Causes() []Cause {
	return []Cause{AskAuthorize, AskCapture, AskVoid, AskRefund, SaysAuthorized, SaysDeclined, SaysCaptured, SaysVoided, SaysRefunded}
}

// Move is one line of the state machine.
type Move struct {
	From Status
	On   Cause
	To   Status
}

// Moves is the state machine, whole. What is not in it does not happen: a command is answered from where the payment
// stands, and a late word of the provider is ignored.
func Moves() []Move {
	return []Move{
		{None, AskAuthorize, Pending},
		{None, AskVoid, Voided}, // the tombstone that refuses a late authorize

		{Pending, SaysAuthorized, Authorized},
		{Pending, SaysDeclined, Declined},
		{Pending, SaysVoided, Voided},
		{Pending, SaysCaptured, Captured}, // by hand at the provider, while its answer was lost
		{Pending, SaysRefunded, Refunded},
		{Pending, AskVoid, Voiding},

		{Authorized, AskCapture, Capturing},
		{Authorized, AskVoid, Voiding},

		{Voiding, SaysAuthorized, Voiding}, // the authorization's late answer: noted, and given back by the void under way
		{Voiding, SaysVoided, Voided},
		{Voiding, SaysDeclined, Declined},
		{Voiding, SaysCaptured, Captured}, // captured behind our back; a refund gives it back
		{Voiding, SaysRefunded, Refunded},

		{Capturing, SaysCaptured, Captured},
		{Capturing, SaysVoided, Voided}, // the hold lapsed at the provider
		{Capturing, SaysRefunded, Refunded},

		{Captured, AskRefund, Refunding},
		{Refunding, SaysRefunded, Refunded},
	}
}

// next returns where cause leads from a status, and whether it leads anywhere. The table is short: a scan is as fast
// as a map, and nothing has to be built.
func next(from Status, on Cause) (Status, bool) {
	for _, m := range table {
		if m.From == from && m.On == on {
			return m.To, true
		}
	}
	return from, false
}

// table is Moves, made once; nothing changes it.
var table = Moves()
