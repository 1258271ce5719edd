package call

import (
	"errors"
	"strconv"
	"time"
)

// TimeoutHeader carries over REST how long the caller will wait, so that a server need not work for one who is gone. It is
// the header of gRPC, in gRPC's format (up to eight digits and a unit: H, M, S, m, u or n), which gateways between
// REST and gRPC understand too.
const TimeoutHeader = "Grpc-Timeout"

var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// mostTimeout is eight digits.
const mostTimeout = 99_999_999

// FormatTimeout writes d as TimeoutHeader has it: never more than d, unless that is below a microsecond.
func FormatTimeout(d time.Duration) string {
	if us := max(1, d.Microseconds()); us <= mostTimeout {
		return strconv.FormatInt(us, 10) + "u"
	}
	return strconv.FormatInt(min(d.Milliseconds(), mostTimeout), 10) + "m"
}

var errTimeout = errors.New("must be up to eight digits and a unit (H, M, S, m, u or n), such as 500m")

// ParseTimeout reads what FormatTimeout and others write.
func ParseTimeout(s string) (time.Duration, error) {
	if len(s) >= 2 && len(s) <= 9 {
		n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
		if unit := timeoutUnits[s[len(s)-1]]; err == nil && unit > 0 {
			// Eight digits of hours are past what a Duration holds; nobody waits for them.
			return time.Duration(min(n, uint64((1<<62)/unit))) * unit, nil
		}
	}
	return 0, errTimeout
}
