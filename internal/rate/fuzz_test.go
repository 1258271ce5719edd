package rate_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/rate"
)

// FuzzLimit reads --rate-limit and REDIS_URL. A limit that is taken is written and read again as the same, and makes a limiter; the
// refusal of a URL does not repeat it.
func FuzzLimit(f *testing.F) {
	for _, s := range []string{"100/s", "1000000/h", "1000001/h", "0", "0/s", "+5/m", "-5/m", "5/", "/s", "5/d", "redis://user:secret@host:6379/0", "rediss://h/x", "redis://h?max_retries=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := rate.CheckURL(text); err != nil && len(text) > 12 && strings.Contains(err.Error(), text) {
			t.Errorf("the refusal repeats %q: %v", text, err)
		}
		var l, again rate.Limit
		if l.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(l.String())); err != nil || again != l {
			t.Errorf("%q is %v, and read again %v, %v", text, l, again, err)
		}
		if l == (rate.Limit{}) {
			return
		}
		if _, err := rate.New(l, "", "", call.NewEdges(call.Policies(), slog.New(slog.DiscardHandler), nil)); err != nil {
			t.Errorf("%q makes no limiter: %v", text, err)
		}
	})
}
