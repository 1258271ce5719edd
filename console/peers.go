package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	stockapi "github.com/orderkeep/orderkeep/inventory/v1/rest"
	ordersapi "github.com/orderkeep/orderkeep/orders/v1/rest"
	paymentsapi "github.com/orderkeep/orderkeep/payments/v1/rest"
)

const (
	// patience bounds each question of a page: what has not answered by then is shown as missing, and the rest of the page is there.
	patience = 2 * time.Second
	// patienceActs bounds what somebody does. A saga's step may wait for a provider.
	patienceActs = 20 * time.Second
	// mostAnswer bounds what is read of an answer that no generated client reads: a thousand parked events.
	mostAnswer = 16 << 20
)

// contexts are the services in the order of the pages.
var contexts = []string{"orders", "inventory", "payments"}

// peers are the contexts as the console asks them.
type peers struct {
	orders   *ordersapi.Client
	stock    *stockapi.Client
	payments *paymentsapi.Client
	fronts   map[string]node.Front
	listed   []process // that the settings name
}

func newPeers(fronts map[string]node.Front, processes []node.Front) (peers, error) {
	p := peers{fronts: map[string]node.Front{}}
	for _, name := range contexts {
		f, ok := fronts[name]
		if !ok {
			f.Missing = "This program does not have it."
		}
		if f.Missing != "" {
			f.URL, f.HTTP = "http://missing.invalid", &http.Client{Transport: missing(f.Missing)}
		}
		f.HTTP = &http.Client{Transport: carrier{f.HTTP}}
		p.fronts[name] = f
	}
	for _, f := range processes {
		p.listed = append(p.listed, p.listedProcess(f))
	}
	var err, err2, err3 error
	p.orders, err = ordersapi.NewClient(p.fronts["orders"].URL, ordersapi.WithClient(p.fronts["orders"].HTTP))
	p.stock, err2 = stockapi.NewClient(p.fronts["inventory"].URL, stockapi.WithClient(p.fronts["inventory"].HTTP))
	p.payments, err3 = paymentsapi.NewClient(p.fronts["payments"].URL, paymentsapi.WithClient(p.fronts["payments"].HTTP))
	return p, errors.Join(err, err2, err3)
}

// carrier gives each question the correlation id of the page that asks it.
type carrier struct{ http *http.Client }

func (c carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if id := telemetry.Correlation(r.Context()); id != "" {
		r.Header.Set(telemetry.Header, id)
	}
	return c.http.Transport.RoundTrip(r)
}

// missing answers for a service that has no address.
type missing string

func (m missing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errMissing(m) }

type errMissing string

func (e errMissing) Error() string { return string(e) }

// trouble is an answer that was not what was asked for.
type trouble struct {
	Service string // such as Orders
	Code    string // of the problem, or "" if there was no answer
	Status  int
	Detail  string // what it says, and what to do
	Items   []item
}

type item struct {
	Row    int64  `json:"row"`
	Field  string `json:"field"`
	SKU    string `json:"sku"`
	Detail string `json:"detail"`
}

func (t *trouble) Error() string { return t.Service + ": " + t.Detail }

// Gone reports that the service did not answer at all.
func (t *trouble) Gone() bool { return t != nil && t.Code == "" }

// NotFound reports that it knows of no such thing.
func (t *trouble) NotFound() bool { return t != nil && t.Status == http.StatusNotFound }

func titleOf(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// silent is the trouble with a service that did not answer.
func silent(service string, err error) *trouble {
	t := &trouble{Service: service}
	var m errMissing
	switch {
	case errors.As(err, &m):
		t.Detail = string(m)
	case errors.Is(err, context.DeadlineExceeded):
		t.Detail = "It did not answer in time. What is shown of the others is not affected."
	default:
		t.Detail = "It does not answer. Look whether its process runs, and whether its address is right."
	}
	return t
}

// told returns what a generated client was answered, or the trouble.
func told[T any](service string, res any, err error) (T, *trouble) {
	var none T
	service = titleOf(service)
	if err != nil {
		return none, silent(service, err)
	}
	if v, ok := res.(T); ok {
		return v, nil
	}
	status := 0
	switch p := res.(type) {
	case *ordersapi.ProblemStatusCodeWithHeaders:
		status = p.StatusCode
		res = &p.Response
	case *stockapi.ProblemStatusCodeWithHeaders:
		status = p.StatusCode
		res = &p.Response
	case *paymentsapi.ProblemStatusCodeWithHeaders:
		status = p.StatusCode
		res = &p.Response
	}
	text, err := json.Marshal(res)
	if err != nil {
		return none, silent(service, err)
	}
	return none, problem(service, status, text)
}

// problem reads a problem document.
func problem(service string, status int, text []byte) *trouble {
	var p struct {
		Detail string `json:"detail"`
		Error  string `json:"error"`
		Items  []item `json:"items"`
	}
	if json.Unmarshal(text, &p) != nil || p.Error == "" {
		return &trouble{Service: service, Status: status, Detail: fmt.Sprintf("It answered %d, and not in the way of its contract. Is there another program at its address?", status)}
	}
	return &trouble{Service: service, Code: p.Error, Status: status, Detail: p.Detail, Items: p.Items}
}

// ask sends what is in no generated client to a context, and reads the JSON of the answer into v unless that is nil.
func (p peers) ask(ctx context.Context, service, method, path string, query url.Values, v any) *trouble {
	return process{Front: p.fronts[service], Name: titleOf(service)}.ask(ctx, method, path, query, v)
}

// processes are those that the settings name, or else the contexts by the process that answers for them: one in the one-process
// form, else one for each.
func (p peers) processes() []process {
	if len(p.listed) == 0 {
		return p.answering()
	}
	return p.listed
}

// answering are the processes that answer for the contexts.
func (p peers) answering() (all []process) {
	for _, name := range contexts {
		at := p.fronts[name]
		i := slices.IndexFunc(all, func(x process) bool { return at.Missing == "" && x.URL == at.URL })
		if i < 0 {
			i = len(all)
			all = append(all, process{Front: at})
		}
		all[i].Contexts = append(all[i].Contexts, name)
		all[i].Name = titleOf(all[i].Contexts[0])
	}
	return all
}

// process is one that runs contexts, for what belongs to it and not to them.
type process struct {
	node.Front
	Name     string   // in a sentence: one of its contexts, or its address if the settings name it
	Contexts []string // that it runs, as far as is known
	Listed   bool     // by the settings
}

// listedProcess is one that the settings name. What it runs is known where a context is asked at the same address; else it says so itself.
func (p peers) listedProcess(f node.Front) process {
	_, address, _ := strings.Cut(f.URL, "://")
	f.HTTP = &http.Client{Transport: carrier{f.HTTP}}
	x := process{Front: f, Name: address, Listed: true}
	for _, name := range contexts {
		if at := p.fronts[name]; at.Missing == "" && at.URL == f.URL {
			x.Contexts = append(x.Contexts, name)
		}
	}
	return x
}

// Address is where it is, or "" if its contexts say enough.
func (p process) Address() string {
	if p.Listed {
		return p.Name
	}
	return ""
}

func (p process) ask(ctx context.Context, method, path string, query url.Values, v any) *trouble {
	text, bad := p.text(ctx, method, path, query)
	if bad != nil || v == nil {
		return bad
	}
	if json.Unmarshal(text, v) != nil {
		return problem(p.Name, http.StatusOK, text)
	}
	return nil
}

func (p process) text(ctx context.Context, method, path string, query url.Values) ([]byte, *trouble) {
	at := p.URL + path
	if len(query) > 0 {
		at += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, at, nil)
	if err != nil {
		return nil, silent(p.Name, err)
	}
	res, err := p.HTTP.Do(r)
	if err != nil {
		return nil, silent(p.Name, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, mostAnswer))
	if err != nil {
		return nil, silent(p.Name, err)
	}
	if res.StatusCode >= 300 && path != "/readyz" { // a service that is not ready says why
		return nil, problem(p.Name, res.StatusCode, text)
	}
	return text, nil
}
