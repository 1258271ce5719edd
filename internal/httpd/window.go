package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/telemetry/window"
)

// window answers the recent log lines and spans of the process to this machine and to the networks that may read them.
func (s *Server) window(w http.ResponseWriter, r *http.Request) {
	if f := Near(r, s.o.WindowFrom...); f != nil {
		WriteProblem(w, r, f)
		return
	}
	if r.Method != http.MethodGet {
		MethodNotAllowed(w, r, "GET,HEAD")
		return
	}
	q, err := windowQuery(r)
	if err != nil {
		WriteProblem(w, r, errInvalid.Detailf("%s.", err))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.drained, cancel)() // who waits for what comes next does not hold up a drain
	page, err := s.o.Window.Read(ctx, q)
	if errors.Is(err, window.ErrCursor) {
		err = errInvalid.Detailf("after %v: leave it out to begin with the newest.", err)
	}
	if err != nil {
		WriteProblem(w, r, err)
		return
	}
	page.Service, page.TraceURL = s.o.Service, s.o.TraceURL
	text, err := json.Marshal(page)
	if err != nil {
		WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	write(w, http.StatusOK, "application/json", text)
}

// windowQuery reads the parameters; its errors are sentences without a full stop.
func windowQuery(r *http.Request) (q window.Query, err error) {
	v := r.URL.Query()
	for name := range v {
		if !slices.Contains([]string{"correlation", "trace", "text", "kind", "level", "from", "after", "limit", "wait"}, name) {
			return q, errors.New("correlation, trace, text, kind, level, from, after, limit and wait are all the parameters that there are")
		}
	}
	q = window.Query{Correlation: v.Get("correlation"), Trace: v.Get("trace"), Text: v["text"], Kind: v.Get("kind"), Level: strings.ToUpper(v.Get("level")), After: v.Get("after")}
	number := func(name string, least, most int) (n int) {
		text := v.Get(name)
		if text == "" || err != nil {
			return 0
		}
		if n, err = strconv.Atoi(text); err != nil || n < least || n > most {
			err = errors.New(name + " must be a whole number from " + strconv.Itoa(least) + " to " + strconv.Itoa(most))
		}
		return n
	}
	q.Limit = number("limit", 1, window.MaxLimit)
	q.Wait = time.Duration(number("wait", 0, int(window.MaxWait/time.Second))) * time.Second
	switch from := v.Get("from"); {
	case err != nil:
		return q, err
	case from != "":
		if q.From, err = time.Parse(time.RFC3339Nano, from); err != nil {
			return q, errors.New("from must be a time as RFC 3339 writes it, such as 2026-03-01T09:30:00Z")
		}
	}
	if !slices.Contains([]string{"", window.Log, window.Span}, q.Kind) {
		return q, errors.New("kind must be log or span")
	}
	if !slices.Contains([]string{"", "DEBUG", "INFO", "WARN", "ERROR"}, q.Level) {
		return q, errors.New("level must be DEBUG, INFO, WARN or ERROR")
	}
	if len(q.Text) > window.MaxTexts || slices.ContainsFunc(q.Text, func(t string) bool { return t == "" || len(t) > window.MaxText }) {
		return q, errors.New("text may be given " + strconv.Itoa(window.MaxTexts) + " times, each of 1 to " + strconv.Itoa(window.MaxText) + " bytes")
	}
	return q, nil
}
