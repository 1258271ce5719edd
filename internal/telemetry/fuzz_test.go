package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// FuzzCorrelation reads the correlation id of a request. One that is kept goes through a header, a log line and a database as it
// is.
func FuzzCorrelation(f *testing.F) {
	for _, s := range []string{"c-1", "", " ", "a b", "a\nb", "ü", "\xff", strings.Repeat("x", 128), strings.Repeat("x", 129), `"}{"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if !telemetry.ValidCorrelation(id) {
			return
		}
		if id == "" || len(id) > 128 || strings.TrimSpace(id) != id || strings.ContainsAny(id, "\x00\r\n") {
			t.Errorf("kept %q", id)
		}
		var out bytes.Buffer
		telemetry.NewLogger(&out, true, slog.LevelInfo).InfoContext(telemetry.WithCorrelation(t.Context(), id), "m")
		var line struct{ CorrelationID string }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.CorrelationID != id || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%q is logged as %s (%v)", id, out.Bytes(), err)
		}
	})
}
