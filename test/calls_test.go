package test

import (
	"encoding/json"
	"net/http"
	"testing"
)

// Breakers are in no database. Who has reset one by hand is in the trail of a context of that process all the same.
func TestWhoResetsABreakerIsInTheTrail(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T, int) *shop{"one process": oneProcess, "three processes over gRPC": threeProcesses("grpc", ownBroker)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, 50)
			want(t, s.place(t, "", paid(visa, one)), http.StatusCreated, "") // calls are there from the first on
			if out, log, code := s.cli(t, "", "calls", "reset", "inventory"); code != 0 {
				t.Fatalf("calls reset exits with %d\n%s%s", code, out, log)
			}
			out, log, code := s.cli(t, "", "trail", "--json")
			var trail struct {
				Acts []struct{ Context, Actor, What, ID, Reason string }
			}
			if err := json.Unmarshal([]byte(out), &trail); err != nil || code != 0 || len(trail.Acts) != 1 {
				t.Fatalf("trail exits with %d: %v\n%s%s", code, err, out, log)
			}
			if a := trail.Acts[0]; a.Context != "orders" || a.What != "reset_breaker" || a.ID != "inventory" || a.Reason != "orderkeep calls reset" || a.Actor == "" {
				t.Errorf("the trail says %+v", a)
			}
			s.close(t)
		})
	}
}
