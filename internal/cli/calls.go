package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

type callsCmd struct {
	List  callsListCmd  `cmd:"" help:"List the calls that the server makes, with their circuit breakers and policies."`
	Reset callsResetCmd `cmd:"" help:"Close circuit breakers, and forget what they counted."`
}

type callsListCmd struct{}

// edge is one call of the list.
type edge struct {
	Edge     string `json:"edge"`
	Breaker  string `json:"breaker"`
	Calls    int64  `json:"calls"`
	Failures int64  `json:"failures"`
	InFlight int64  `json:"inFlight"`
	Policy   struct {
		TimeoutSeconds float64 `json:"timeoutSeconds"`
		Attempts       int     `json:"attempts"`
		InFlight       int64   `json:"inFlight"`
	} `json:"policy"`
}

func (*callsListCmd) Run(s *session) error {
	text, err := s.internal(http.MethodGet, "/internal/calls")
	if err != nil {
		return err
	}
	if s.json {
		return s.document(json.RawMessage(text))
	}
	var got struct {
		Calls []edge `json:"calls"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return err
	}
	rows := make([][]string, len(got.Calls))
	for i, c := range got.Calls {
		rows[i] = []string{
			c.Edge, c.Breaker, commas(c.Calls), commas(c.Failures), commas(c.InFlight), commas(c.Policy.InFlight),
			time.Duration(c.Policy.TimeoutSeconds * float64(time.Second)).String(), strconv.Itoa(c.Policy.Attempts),
		}
	}
	return table(s.out, []string{"CALL", "BREAKER", ">CALLS", ">FAILED", ">IN FLIGHT", ">OF", ">TIMEOUT", ">ATTEMPTS"}, rows)
}

type callsResetCmd struct {
	Edges []string `arg:"" optional:"" name:"call" help:"Calls as list has them, such as inventory/Reserve, or all of a target, such as inventory. Default: all calls."`
}

func (c *callsResetCmd) Run(s *session) error {
	who := url.Values{"edge": c.Edges, "actor": {operator()}, "reason": {"orderkeep calls reset"}}
	text, err := s.internal(http.MethodPost, "/internal/calls/reset?"+who.Encode())
	if err != nil {
		return err
	}
	if s.json {
		return s.document(json.RawMessage(text))
	}
	var got struct {
		Reset []string `json:"reset"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return err
	}
	rows := make([][]string, len(got.Reset))
	for i, name := range got.Reset {
		rows[i] = []string{name}
	}
	return table(s.out, []string{"RESET"}, rows)
}

// internal asks the server what is for the operator, and is in no contract.
func (s *session) internal(method, path string) ([]byte, error) {
	c, err := s.client(1, false)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(s.ctx, method, c.url+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, c.explain(readProblem(res))
	}
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return nil, c.explain(err)
	case !json.Valid(text):
		return nil, fmt.Errorf("the answer of %s was not understood; are the server and this program of one version?", c.url)
	}
	return text, nil
}
