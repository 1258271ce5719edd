package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Health asks a running program whether it is ready. It is what a container's health check runs, where there is no other
// program: it finds the address in the same setting as Serve.
type Health struct {
	Listen  string        `env:"ORDERKEEP_LISTEN" default:"${listen}" help:"The address that serve was given."`
	Timeout time.Duration `default:"3s" help:"Time for the answer to come."`
}

// Run is kong's: it runs the command.
func (c *Health) Run(s *Session) error {
	ctx, cancel := context.WithTimeout(s.Ctx, c.Timeout)
	defer cancel()
	url := "http://" + dialable(c.Listen) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("--listen: %q is not HOST:PORT, such as 127.0.0.1:3000", c.Listen)
	}
	res, err := http.DefaultClient.Do(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer within %v", url, c.Timeout)
	case err != nil:
		return fmt.Errorf("nobody answers at %s; is it the address that serve was given?", url)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	var answer struct {
		Status   string            `json:"status"`
		NotReady map[string]string `json:"notReady"`
		Away     map[string]string `json:"away"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status == "" {
		return fmt.Errorf("%s is answered by another program", url)
	}
	if s.JSON {
		err = Document(s.Out, json.RawMessage(body))
	} else {
		_, err = fmt.Fprintln(s.Out, answer.Status)
	}
	if err != nil {
		return err
	}
	for _, reasons := range []map[string]string{answer.NotReady, answer.Away} {
		for _, name := range slices.Sorted(maps.Keys(reasons)) {
			fmt.Fprintf(s.Err, "%s: %s\n", name, strings.TrimSpace(reasons[name]))
		}
	}
	if res.StatusCode == http.StatusOK {
		return nil
	}
	return ErrShown
}

// dialable turns an address to listen on into one to call: every host includes this one.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}
