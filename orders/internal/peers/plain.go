package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/orderkeep/orderkeep/internal/telemetry"
)

// errForeign says that the peer does not know the path of our contract.
var errForeign = errors.New("the peer knows only the first contract")

// spotter is an HTTP client that tells a peer without our contract from a thing that is not found: our 404 is a problem
// document.
type spotter struct{ *http.Client }

func (s spotter) Do(r *http.Request) (*http.Response, error) {
	if id := telemetry.Correlation(r.Context()); id != "" {
		r.Header.Set(telemetry.Header, id)
	}
	res, err := s.Client.Do(r)
	if err != nil || res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusMethodNotAllowed {
		return res, err
	}
	if ct, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); ct == "application/problem+json" {
		return res, nil
	}
	drain(res)
	return nil, errForeign
}

// plainReserve is POST /reserve: any 2xx is yes, 409 is no.
func plainReserve(ctx context.Context, client *http.Client, base, key, sku string, qty int64) (bool, error) {
	body, err := json.Marshal(struct {
		SKU string `json:"sku"`
		Qty int64  `json:"qty"`
	}{sku, qty})
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/reserve", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	if id := telemetry.Correlation(ctx); id != "" {
		req.Header.Set(telemetry.Header, id)
	}
	res, err := client.Do(req)
	if err != nil {
		return false, unavailable(err)
	}
	defer drain(res)
	switch {
	case res.StatusCode/100 == 2:
		return true, nil
	case res.StatusCode == http.StatusConflict:
		return false, nil
	}
	return false, unavailable(fmt.Errorf("POST /reserve: %s", res.Status))
}

// drain reads what little is left, so that the connection can be used again.
func drain(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	res.Body.Close()
}
