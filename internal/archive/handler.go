package archive

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
)

// maxAsk bounds the records of one request.
const maxAsk = 500

// Handler answers what runs an archive, below Path(k.Context): on this machine, and from the networks of the rules.
func (k *Keeper) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := httpd.Near(r, k.Rules.From...); f != nil {
			httpd.WriteProblem(w, r, f)
			return
		}
		answer, method := k.route(strings.TrimPrefix(r.URL.Path, Path(k.Context)))
		switch {
		case answer == nil:
			httpd.NotFound(w, r)
			return
		case r.Method != method:
			httpd.MethodNotAllowed(w, r, map[string]string{http.MethodGet: "GET,HEAD", http.MethodPost: "POST"}[method])
			return
		}
		var body bytes.Buffer
		if err := answer(r, &body); err != nil {
			httpd.WriteProblem(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/jsonl")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
		_, _ = w.Write(body.Bytes()) // who is gone asks again
	})
}

func (k *Keeper) route(path string) (answer func(*http.Request, *bytes.Buffer) error, method string) {
	switch path {
	case "/ended":
		if k.Candidates == "" {
			return nil, ""
		}
		return k.answerEnded, http.MethodGet
	case "/events":
		return k.answerEvents, http.MethodGet
	case "/read":
		return k.answerRead, http.MethodPost
	case "/remove", "/events/remove", "/inbox/remove":
		return k.answerRemove, http.MethodPost
	}
	return nil, ""
}

func (k *Keeper) answerEnded(r *http.Request, out *bytes.Buffer) error {
	before, err := k.before(r)
	if err != nil {
		return err
	}
	page, lines, err := k.ended(r.Context(), before, r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	return write(out, page, lines)
}

func (k *Keeper) answerEvents(r *http.Request, out *bytes.Buffer) error {
	before, err := k.before(r)
	if err != nil {
		return err
	}
	after := int64(0)
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil {
			return errRequest.Detailf("after must be the cursor of an event.")
		}
	}
	page, lines, err := k.events(r.Context(), before, after)
	if err != nil {
		return err
	}
	return write(out, page, lines)
}

func (k *Keeper) answerRead(r *http.Request, out *bytes.Buffer) error {
	var q Ask
	if err := k.decode(r, &q, func() (time.Time, int) { return q.Before, len(q.IDs) }); err != nil {
		return err
	}
	ids := make([]any, len(q.IDs))
	for i, id := range q.IDs {
		ids[i] = id
	}
	lines, held, err := k.of(k.reading(r.Context()), q.Before, ids)
	if err != nil {
		return err
	}
	return write(out, Page{Held: held, Records: len(lines)}, lines)
}

func (k *Keeper) answerRemove(r *http.Request, out *bytes.Buffer) error {
	if strings.HasSuffix(r.URL.Path, "/inbox/remove") {
		var q Sweep
		if err := k.decode(r, &q, func() (time.Time, int) { return q.Before, 1 }); err != nil {
			return err
		}
		answer, err := k.sweep(r.Context(), q)
		if err != nil {
			return err
		}
		return write(out, answer, nil)
	}
	var q Removal
	if err := k.decode(r, &q, func() (time.Time, int) { return q.Before, len(q.Records) }); err != nil {
		return err
	}
	remove := k.remove
	if strings.HasSuffix(r.URL.Path, "/events/remove") {
		remove = k.removeEvents
	}
	answer, err := remove(r.Context(), q)
	if err != nil {
		return err
	}
	return write(out, answer, nil)
}

func (k *Keeper) before(r *http.Request) (time.Time, error) {
	before, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("before"))
	if err != nil {
		return before, errRequest.Detailf("before must be a time as RFC 3339 writes it, such as 2026-03-01T00:00:00Z.")
	}
	return before, k.Rules.check(before, k.Now())
}

// decode reads a request's body into q and checks it: told says up to when and about how many it is.
func (k *Keeper) decode(r *http.Request, q any, told func() (before time.Time, n int)) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil {
		return errRequest.Detailf("The body is not what this path takes: is the command line of another version?").Because(err)
	}
	before, n := told()
	if n < 1 || n > maxAsk {
		return errRequest.Detailf("Ask about 1 to %d at once.", maxAsk)
	}
	return k.Rules.check(before, k.Now())
}

// write writes a document and the records that it is about, a line each.
func write(out *bytes.Buffer, document any, lines [][]byte) error {
	if err := json.NewEncoder(out).Encode(document); err != nil {
		return err
	}
	for _, l := range lines {
		out.Write(l)
		out.WriteByte('\n')
	}
	return nil
}

// Read reads what Handler answers: document, and the lines of the records after it, which end with the body.
func Read(body io.Reader, document any) ([][]byte, error) {
	all, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	first, rest, _ := bytes.Cut(all, []byte("\n"))
	if err := json.Unmarshal(first, document); err != nil {
		return nil, err
	}
	var lines [][]byte
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		lines = append(lines, line)
	}
	return lines, nil
}
