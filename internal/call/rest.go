package call

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// route finds the guard of a REST method; a segment in braces stands for any.
type route struct {
	method   string
	segments []string
	guard    *guard
}

func (r route) matches(method, path string) bool {
	if method != r.method {
		return false
	}
	for i, want := range r.segments {
		got, rest, more := strings.Cut(path, "/")
		if last := i == len(r.segments)-1; last == more || got != want && !strings.HasPrefix(want, "{") {
			return false
		}
		path = rest
	}
	return true
}

// Client returns a client for a target that speaks REST: requests go by the policies and carry the correlation id and the
// deadline; an answer comes back as it is, and no answer as a fault. Close the body of an answer, as with any client.
func (t *Target) Client(base http.RoundTripper) *http.Client {
	t.use(Policy.rest)
	var routes []route
	for _, g := range t.all() {
		if method, path, ok := strings.Cut(g.policy.Method, " "); ok {
			routes = append(routes, route{method, strings.Split(path, "/"), g})
		}
	}
	return &http.Client{
		Transport: transport{t, routes, base},
		// A contract does not redirect, and following one would repeat a command elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type transport struct {
	target *Target
	routes []route
	base   http.RoundTripper
}

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	g, known := t.guard(req)
	var answer *http.Response
	sent := false
	err := g.do(ctx, func(attempt context.Context) error {
		r := req.Clone(attempt)
		if sent && req.Body != nil && req.Body != http.NoBody {
			if req.GetBody == nil {
				return fault.New(fault.Internal, "internal", "a request whose body cannot be sent twice")
			}
			body, err := req.GetBody()
			if err != nil {
				return fmt.Errorf("repeat the body of %s: %w", req.URL.Path, err)
			}
			r.Body = body
		}
		sent = true
		if id := telemetry.Correlation(ctx); id != "" {
			r.Header.Set(telemetry.Header, id)
		}
		if p := telemetry.TraceParent(attempt); p != "" {
			r.Header.Set(telemetry.TraceHeader, p)
		}
		if end, ok := attempt.Deadline(); ok {
			r.Header.Set(TimeoutHeader, FormatTimeout(time.Until(end)))
		}
		if answer != nil {
			answer.Body.Close()
			answer = nil
		}
		res, err := t.base.RoundTrip(r)
		if err != nil {
			return wireFault(attempt, err)
		}
		answer, err = whole(res)
		if err != nil {
			return wireFault(attempt, err)
		}
		if known && req.Method != http.MethodGet {
			if err := contractFault(answer); err != nil {
				answer = nil
				return err
			}
		}
		return statusFault(res)
	})
	if answer != nil && ctx.Err() == nil {
		return answer, nil
	}
	return nil, err
}

// guard returns the guard of a request, and whether the table names its route.
func (t transport) guard(req *http.Request) (g *guard, known bool) {
	for _, r := range t.routes {
		if r.matches(req.Method, req.URL.Path) {
			return r.guard, true
		}
	}
	// The path is not part of the name: ids in it would make a guard for each.
	return t.target.guard(req.Method), false
}

// contractFault is ErrContract if the answer says that a command's route is not there, by the problem document of a server of
// ours. Commands are named by their caller, so in the contract no id of theirs is unknown.
func contractFault(res *http.Response) error {
	if res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusMethodNotAllowed {
		return nil
	}
	if ct, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); ct != "application/problem+json" {
		return nil // a foreign peer, which the caller may know how to speak to
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	var p struct{ Error, Detail string }
	if err := json.Unmarshal(body, &p); err != nil || p.Error != "not_found" && p.Error != "method_not_allowed" {
		return nil
	}
	return fault.ErrContract.Because(fmt.Errorf("%s: %s", res.Status, p.Detail))
}

// maxAnswer bounds an answer that is kept in memory. Contracts between contexts answer with less than a kilobyte; a
// larger answer is not theirs.
const maxAnswer = 1 << 20

// whole reads the body while the attempt's time runs, so that a peer that answers and then hangs is found out.
func whole(res *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	res.Body = io.NopCloser(strings.NewReader(string(body)))
	res.ContentLength = int64(len(body))
	return res, nil
}

func wireFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fault.New(fault.Unavailable, fault.Unavailable.String(), "no answer").Because(err)
}

// statusFault is what an answer's status says to the breaker and to the retry; the caller gets the answer itself.
func statusFault(res *http.Response) error {
	f := fault.FromHTTP(res.StatusCode, "", "")
	if res.StatusCode < 400 {
		return nil
	}
	if f.Kind == fault.Unavailable && res.Header.Get("Retry-After") != "" {
		f.RetryAfter = 1 // any: the peer has said when to come back, and it is not now
	}
	return f
}
