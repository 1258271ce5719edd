package outbox_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/outbox"
)

func TestParkedEventsAreListedAndRedriven(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		h := setup(t, e)
		raw := dbtest.Raw(t, h.url)
		for id, state := range map[string]string{"e-1": "parked", "e-2": "done"} {
			if _, err := raw.Exec(`INSERT INTO inbox (consumer, event_id, source, type, subject, time, correlation_id, causation_id, traceparent, data, state, attempts, error)
				VALUES ('consumer', $1, '/orders', 'x', 's', 1, '', '', '', '', $2, 10, 'it broke')`, id, state); err != nil {
				t.Fatal(err)
			}
		}
		const path = "/v1/events/parked"
		redriver := outbox.NewInbox("consumer", h.db, h.batch.Do, nil, h.log).Parked(path)
		for _, tt := range []struct {
			method, path string
			status       int
			code         string
		}{
			{http.MethodGet, path, http.StatusOK, `{"events":[{"consumer":"consumer","attempts":10,"error":"it broke","id":"e-1","source":"/orders","type":"x","subject":"s","time":"1970-01-01T00:00:00.000001Z"}]}`},
			{http.MethodGet, path + "/e-1/redrive", http.StatusMethodNotAllowed, "method_not_allowed"},
			{http.MethodPost, path + "/e-1", http.StatusNotFound, "not_found"},
			{http.MethodPost, path + "//redrive", http.StatusNotFound, "not_found"},
			{http.MethodPost, path + "/e-1/e-1/redrive", http.StatusNotFound, "not_found"},
			{http.MethodPost, path + "/e-1/redrive?actor=" + strings.Repeat("a", 129), http.StatusBadRequest, "invalid_request"},
			{http.MethodPost, path + "/e-1/redrive?reason=" + strings.Repeat("a", 1025), http.StatusBadRequest, "invalid_request"},
			{http.MethodPost, path + "/e-2/redrive", http.StatusNotFound, "not_parked"},
			{http.MethodPost, path + "/e-1/redrive?actor=ada&reason=mended", http.StatusNoContent, ""},
			{http.MethodPost, path + "/e-1/redrive?actor=ada&reason=mended", http.StatusNotFound, "not_parked"},
			{http.MethodGet, path, http.StatusOK, `{"events":[]}`},
			{http.MethodDelete, path, http.StatusMethodNotAllowed, "method_not_allowed"},
		} {
			w := httptest.NewRecorder()
			redriver.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, nil))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.code) {
				t.Errorf("%s %.60s: %d %s, want %d %s", tt.method, tt.path, w.Code, w.Body, tt.status, tt.code)
			}
		}
		var state, actor, reason string
		if err := raw.QueryRow(`SELECT i.state, a.actor, a.reason FROM inbox i JOIN acts a ON a.subject = i.event_id AND a.what = 'redrive_event'`).Scan(&state, &actor, &reason); err != nil {
			t.Fatal(err)
		}
		if state != "waiting" || actor != "ada" || reason != "mended" {
			t.Errorf("the event is %s, and the trail says %s: %s", state, actor, reason)
		}
	})
}
