package simulated

import (
	"strings"
	"time"
)

// script is what a token makes the provider do.
type script struct {
	decline string        // decline with this code
	slow    time.Duration // answer so much later
	lost    bool          // the first answer gets lost: the caller does not know
	acts    bool          // with lost: the call arrives all the same
	down    bool          // away whenever money is asked for
	downFor time.Duration // away for every call about the charge, for so long after the first
}

// declines are the test tokens that fail, with the codes that merchants know them by
// (https://docs.stripe.com/testing#declined-payments).
var declines = map[string]string{
	"pm_card_chargeDeclined":                           "card_declined",
	"pm_card_chargeDeclinedInsufficientFunds":          "insufficient_funds",
	"pm_card_chargeDeclinedLostCard":                   "lost_card",
	"pm_card_chargeDeclinedStolenCard":                 "stolen_card",
	"pm_card_chargeDeclinedExpiredCard":                "expired_card",
	"pm_card_chargeDeclinedIncorrectCvc":               "incorrect_cvc",
	"pm_card_chargeDeclinedProcessingError":            "processing_error",
	"pm_card_chargeDeclinedFraudulent":                 "fraudulent",
	"pm_card_visa_chargeDeclinedVelocityLimitExceeded": "card_velocity_exceeded",
}

// approved are the test tokens that succeed.
var approved = map[string]bool{
	"pm_card_visa": true, "pm_card_visa_debit": true, "pm_card_mastercard": true, "pm_card_mastercard_debit": true,
	"pm_card_amex": true, "pm_card_discover": true, "pm_card_diners": true, "pm_card_jcb": true, "pm_card_unionpay": true,
}

// The scripted tokens. Those with a duration take one of Go's after the prefix: pm_simulated_slow_2s.
const (
	timeoutCharged    = "pm_simulated_timeout_charged"     // holds the money, and the answer is lost
	timeoutDeclined   = "pm_simulated_timeout_declined"    // declines, and the answer is lost
	timeoutNotCharged = "pm_simulated_timeout_not_charged" // the first call is lost; the repeat holds the money
	down              = "pm_simulated_down"                // away whenever money is asked for; what gives it back is answered, so that an order can end
	downPrefix        = "pm_simulated_down_"               // away for every call about the charge, for a while after the first
	slowPrefix        = "pm_simulated_slow_"               // holds the money, and answers later

	// longest bounds a script's time, so that a test's typo does not hold a call for hours.
	longest = time.Minute
)

// read returns a token's script. A token that is none of the known ones is declined, as a provider declines what it did
// not issue.
func read(token string) script {
	if code, ok := declines[token]; ok {
		return script{decline: code}
	}
	switch {
	case approved[token]:
		return script{}
	case token == timeoutCharged:
		return script{lost: true, acts: true}
	case token == timeoutDeclined:
		return script{lost: true, acts: true, decline: "card_declined"}
	case token == timeoutNotCharged:
		return script{lost: true}
	case token == down:
		return script{down: true}
	}
	if d, ok := duration(token, slowPrefix); ok {
		return script{slow: d}
	}
	if d, ok := duration(token, downPrefix); ok {
		return script{downFor: d}
	}
	return script{decline: "unknown_token"}
}

func duration(token, prefix string) (time.Duration, bool) {
	s, ok := strings.CutPrefix(token, prefix)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d > 0 && d <= longest
}
