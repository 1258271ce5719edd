package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/audit"
)

// keepers are the contexts that keep records.
func keepers(contexts []Context) []Context {
	return slices.DeleteFunc(slices.Clone(contexts), func(x Context) bool { return x.Client })
}

// fronts says, for the clients here, where each context of the program answers REST.
func (n *node) fronts() map[string]Front {
	all := map[string]Front{}
	for _, x := range keepers(n.program) {
		all[x.Name] = n.front(x.Name)
	}
	return all
}

// processes are those that the settings name.
func (n *node) processes() []Front {
	all := make([]Front, len(n.cfg.Processes))
	for i, url := range n.cfg.Processes {
		all[i] = n.outside(url)
	}
	return all
}

func (n *node) front(name string) Front {
	if slices.Contains(names(n.contexts), name) {
		return Front{URL: "http://localhost", HTTP: &http.Client{Transport: &n.inside}, Here: true}
	}
	s := n.cfg.address(name)
	a, err := parseAddress(s.value)
	switch {
	case s.value == "":
		return Front{Missing: fmt.Sprintf("It does not run in this process, and %s does not say where it is.", strings.ToUpper(name)+"_URL")}
	case err != nil || !strings.HasPrefix(a.scheme, "http"):
		return Front{Missing: fmt.Sprintf("%s is its address for gRPC, and REST is needed here. Run the console as a process of its own, with an http:// address in %s.", s.name, s.name)}
	}
	return n.outside(s.value)
}

// outside is the process at a URL.
func (n *node) outside(url string) Front {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16, ForceAttemptHTTP2: true,
	}
	n.hangUp = append(n.hangUp, func() error { transport.CloseIdleConnections(); return nil })
	return Front{URL: strings.TrimRight(url, "/"), HTTP: &http.Client{Transport: transport}}
}

// inside asks this process's own server without a connection: what a client asks passes the same edge, wherever the
// contexts run.
type inside struct{ server http.Handler }

func (i *inside) open(server http.Handler) { i.server = server }

var errNotOpen = errors.New("this process does not serve yet")

// RoundTrip implements http.RoundTripper. Answers are kept whole until they are read: it is for people's pages, and no file
// goes this way.
func (i *inside) RoundTrip(r *http.Request) (res *http.Response, err error) {
	if i.server == nil {
		return nil, errNotOpen
	}
	r = r.Clone(r.Context())
	r.RemoteAddr, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor = "[::1]:0", r.URL.RequestURI(), "HTTP/1.1", 1, 1
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	a := &answer{header: http.Header{}}
	defer func() {
		// A handler that gives up in the middle of an answer breaks off the connection.
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // net/http compares it the same way
				panic(p)
			}
			res, err = nil, io.ErrUnexpectedEOF
		}
	}()
	i.server.ServeHTTP(a, r)
	status := a.status
	if status == 0 {
		status = http.StatusOK
	}
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: a.header,
		Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Request: r,
	}, nil
}

type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// audit proves the promises on those records of the contexts that the settings name, or is nil if they name none.
func (c Config) audit(contexts []Context) func(context.Context) (audit.Report, error) {
	if !slices.ContainsFunc(keepers(contexts), func(x Context) bool { return !c.Elsewhere(x.Name) }) {
		return nil
	}
	return func(ctx context.Context) (audit.Report, error) { return Audit(ctx, c, contexts) }
}

// Audit proves the promises on the databases that cfg names, beside a running server or without one. The rules that need
// a context which is elsewhere are left out.
func Audit(ctx context.Context, cfg Config, contexts []Context) (audit.Report, error) {
	return audit.Run(ctx, func(ctx context.Context) ([]audit.Source, error) {
		sources := make([]audit.Source, 0, len(contexts))
		for _, x := range keepers(contexts) {
			if cfg.Elsewhere(x.Name) {
				continue
			}
			source, err := x.Inspect(ctx, cfg.Database(x.Name), cfg.Database(provider))
			if err != nil {
				for _, opened := range sources {
					err = errors.Join(err, opened.Close())
				}
				return nil, err
			}
			sources = append(sources, source)
		}
		return sources, nil
	})
}
