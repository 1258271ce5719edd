package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/program"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
)

const (
	// answerTimeout bounds a call, answer included. A server answers or says 202 or 503 within a fraction of it.
	answerTimeout = 60 * time.Second
	// streamTimeout bounds the wait for the first byte of a call whose body is a file: a large import is one transaction.
	streamTimeout = 10 * time.Minute
	dialTimeout   = 5 * time.Second
)

// defaultURL is where serve answers by default. It also stands in the grammar's tag.
const defaultURL = "http://127.0.0.1:3000"

// client speaks the contracts of one server.
type client struct {
	orders *ordersapi.Client
	stock  *stockapi.Client
	http   *http.Client
	url    string
}

// client returns the client of the server that --url names. At most idle connections are kept for reuse. With files,
// bodies may be of any length and take any time.
func (s *session) client(idle int, files bool) (*client, error) {
	base := strings.TrimRight(cmp.Or(s.url, defaultURL), "/") // an empty ORDERKEEP_URL is none
	if u, err := url.Parse(base); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usage("--url: %q is not a URL such as http://127.0.0.1:3000", program.Masked(base))
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = idle, idle
	transport.ResponseHeaderTimeout = streamTimeout
	c, err := clientOver(base, transport)
	if err == nil && !files {
		c.http.Timeout = answerTimeout
	}
	return c, err
}

// clientOver returns the client of the server at a URL that transport reaches.
func clientOver(url string, transport http.RoundTripper) (*client, error) {
	c := &client{url: url, http: &http.Client{Transport: wire{transport}}}
	var err error
	if c.orders, err = ordersapi.NewClient(c.url, ordersapi.WithClient(c.http)); err != nil {
		return nil, err
	}
	c.stock, err = stockapi.NewClient(c.url, stockapi.WithClient(c.http))
	return c, err
}

// wire gives each request a correlation id, and tells an answer that is not Orderkeep's before anybody reads it as one.
type wire struct{ next http.RoundTripper }

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	id := telemetry.Correlation(r.Context())
	if id == "" {
		id = telemetry.NewCorrelation()
	}
	r = r.Clone(r.Context())
	r.Header.Set(telemetry.Header, id)
	res, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); res.StatusCode >= 300 && kind != "application/problem+json" {
		res.Body.Close()
		return nil, &foreignAnswer{status: res.StatusCode, kind: kind}
	}
	return res, nil
}

// foreignAnswer is an answer that is not in the contract: of a proxy, or of another program.
type foreignAnswer struct {
	status int
	kind   string
}

func (e *foreignAnswer) Error() string {
	kind := e.kind
	if kind == "" {
		kind = "no content type"
	}
	return fmt.Sprintf("answered %d (%s), which is not an answer of Orderkeep", e.status, kind)
}

// explain turns an error of a call into a sentence that says what to do. Problems stay as they are.
func (c *client) explain(err error) error {
	var p *problem
	var foreign *foreignAnswer
	var timeout net.Error
	switch {
	case err == nil, errors.As(err, &p), errors.Is(err, context.Canceled):
		return err
	case unreached(err):
		return fmt.Errorf("no server answers at %s: start one with \"orderkeep serve\", or name another with --url or ORDERKEEP_URL", program.Masked(c.url))
	case errors.As(err, &foreign):
		return fmt.Errorf("%s %w: does --url name the right server?", program.Masked(c.url), foreign)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s did not answer in time; whether it acted is not known", program.Masked(c.url))
	}
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("the connection to %s broke: %w; whether the server acted is not known", program.Masked(c.url), u.Err)
	}
	return fmt.Errorf("the answer of %s was not understood: %w; are the server and this program of one version?", program.Masked(c.url), err)
}

// problem is a problem document (RFC 9457) as an error. It reads as a sentence, with a line for each item.
type problem struct {
	document   []byte // as JSON
	status     int
	retryAfter time.Duration
	replayed   bool

	Detail        string        `json:"detail"`
	Code          string        `json:"error"`
	Items         []problemItem `json:"items"`
	OrderID       string        `json:"orderId"`
	CorrelationID string        `json:"correlationId"`
}

type problemItem struct {
	SKU       string `json:"sku"`
	Requested *int64 `json:"requested"`
	Available *int64 `json:"available"`
	Row       int64  `json:"row"`
	Field     string `json:"field"`
	Detail    string `json:"detail"`
}

func (p *problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", p.Code, p.Detail)
	for _, i := range p.Items {
		b.WriteString("\n  " + i.String())
	}
	if p.OrderID != "" {
		fmt.Fprintf(&b, "\n  order %s", p.OrderID)
	}
	if p.CorrelationID != "" {
		fmt.Fprintf(&b, "\n  correlation id %s", p.CorrelationID)
	}
	return b.String()
}

func (i problemItem) String() string {
	var about []string
	if i.Row != 0 {
		about = append(about, fmt.Sprintf("row %d", i.Row))
	}
	for _, name := range []string{i.Field, i.SKU} {
		if name != "" {
			about = append(about, name)
		}
	}
	var says []string
	if i.Requested != nil {
		says = append(says, strconv.FormatInt(*i.Requested, 10)+" requested")
	}
	if i.Available != nil {
		says = append(says, strconv.FormatInt(*i.Available, 10)+" available")
	}
	if i.Detail != "" {
		says = append(says, i.Detail)
	}
	if len(says) == 0 {
		return strings.Join(about, ", ")
	}
	if len(about) == 0 {
		return strings.Join(says, ", ")
	}
	return strings.Join(about, ", ") + ": " + strings.Join(says, ", ")
}

// answer returns err, or the problem if an answer is one, or nil. The two contracts have the same problem document
// in two Go types; whichever it is, it is kept as the server wrote it.
func answer(res any, err error) error {
	if err != nil {
		return err
	}
	var p *problem
	var document json.Marshaler
	switch r := res.(type) {
	case *ordersapi.ProblemStatusCodeWithHeaders:
		p = &problem{status: r.StatusCode, retryAfter: time.Duration(r.RetryAfter.Value) * time.Second, replayed: r.IdempotentReplayed.Value}
		document = &r.Response
	case *stockapi.ProblemStatusCodeWithHeaders:
		p = &problem{status: r.StatusCode, retryAfter: time.Duration(r.RetryAfter.Value) * time.Second, replayed: r.IdempotentReplayed.Value}
		document = &r.Response
	default:
		return nil
	}
	text, err := document.MarshalJSON()
	if err != nil {
		return err
	}
	p.document = text
	if err := json.Unmarshal(text, p); err != nil {
		return err
	}
	return p
}

// maxProblem bounds a problem document: 2,000 items of the longest SKU fit.
const maxProblem = 4 << 20

// readProblem reads the problem document of an answer that was not asked for through a generated client.
func readProblem(res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxProblem))
	if err != nil {
		return err
	}
	p := &problem{document: text, status: res.StatusCode}
	if err := json.Unmarshal(text, p); err != nil {
		return err
	}
	return p
}

// unreached reports that an error of a call means that no request left.
func unreached(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// broken reports that an error of a call is the connection's: it was refused, broke or took too long.
func broken(err error) bool {
	var u *url.Error
	return errors.As(err, &u)
}

// health asks for the first contract's GET /health.
func (c *client) health(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/health", nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return readProblem(res)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
