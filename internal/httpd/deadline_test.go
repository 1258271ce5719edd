package httpd_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
)

func TestWorksNoLongerThanItsCallerWaits(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/v1/orders": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		end, ok := r.Context().Deadline()
		if !ok {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if time.Until(end) > time.Minute {
			t.Errorf("the deadline is %v away", time.Until(end))
		}
		<-r.Context().Done()
		httpd.WriteProblem(w, r, r.Context().Err())
	})}})
	for header, want := range map[string]struct {
		status int
		text   string
	}{
		"":           {http.StatusNoContent, ""},
		"20m":        {http.StatusServiceUnavailable, `"deadline_exceeded"`},
		"20000u":     {http.StatusServiceUnavailable, `"deadline_exceeded"`},
		"soon":       {http.StatusBadRequest, "Grpc-Timeout must be up to eight digits and a unit"},
		"-1S":        {http.StatusBadRequest, `"invalid_request"`},
		"4242424242": {http.StatusBadRequest, `"invalid_request"`},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/orders", nil)
		if header != "" {
			r.Header.Set("Grpc-Timeout", header)
		}
		w, _ := do(s, r)
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.text) || header != "" && strings.Contains(w.Body.String(), header) {
			t.Errorf("Grpc-Timeout %q is answered %d %s", header, w.Code, w.Body)
		}
	}
}

func TestPathOfAnotherVersionIsToldWhatThereIs(t *testing.T) {
	t.Parallel()
	s := httpd.New(httpd.Options{Routes: map[string]http.Handler{"/v1/stock": echo(), "/v1/reservations": echo(), "/reserve": echo()}})
	w, _ := do(s, httptest.NewRequest(http.MethodPut, "/v2/reservations/1", nil))
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), `"error":"not_found"`) || !strings.Contains(w.Body.String(), "answers /v1/reservations, /v1/stock;") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
