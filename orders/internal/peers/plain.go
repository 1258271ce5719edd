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
	"net/http/httptrace"
	"sync/atomic"

	"github.com/orderkeep/orderkeep/orders/internal/order"
)

// Answers to a path of our contract by a peer that does not have it.
var (
	errForeign = errors.New("nothing is at this path of the contract")
	// errFirst also says errForeign, and is the first contract's own answer to a path that it does not have: nothing between
	// us and the peer made it.
	errFirst = fmt.Errorf("%w, says a peer of the first contract", errForeign)
)

// spotter is an HTTP client that tells a peer without our contract from a thing that is not found: our 404 is a problem
// document.
type spotter struct{ *http.Client }

func (s spotter) Do(r *http.Request) (*http.Response, error) {
	res, err := s.Client.Do(r)
	if err != nil || res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusMethodNotAllowed {
		return res, err
	}
	ct, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if ct == "application/problem+json" {
		return res, nil
	}
	defer res.Body.Close()
	if errorCode(res) == "not_found" {
		return nil, errFirst
	}
	return nil, errForeign
}

// errorCode is the code of an answer in the first contract, {"error":"..."}, or "" if it is none.
func errorCode(res *http.Response) string {
	var body struct {
		Error string `json:"error"`
	}
	if json.NewDecoder(io.LimitReader(res.Body, maxPlain)).Decode(&body) != nil {
		return ""
	}
	return body.Error
}

// maxPlain bounds what is read of an answer in the first contract, which has one short field that matters.
const maxPlain = 64 << 10

// dialect is what a REST peer turned out to speak.
type dialect struct{ v atomic.Int32 }

const (
	unheard int32 = iota // nothing that it said could only be one or the other
	ours                 // it has answered by our contract: a 404 without a problem document is a proxy's, and passes
	first                // it knows only the first contract
)

func (d *dialect) is(v int32) bool { return d.v.Load() == v }

// heard notes what the peer speaks. That it speaks ours is never taken back: reservations made by our contract must not be
// forgotten because something between us and the peer answers 404 for a while.
func (d *dialect) heard(v int32) (news bool) { return d.v.CompareAndSwap(unheard, v) }

// taking is what became of a line at an Inventory of the first contract.
type taking int

const (
	no      taking = iota
	yes            // it holds the units
	perhaps        // it was sent the line, and did not say
)

// plainReserve is POST /reserve: any 2xx is yes, 409 is no. An error comes with no if the peer cannot hold the units.
func plainReserve(ctx context.Context, client *http.Client, base, key string, l order.Line) (took taking, short order.Shortage, err error) {
	body, err := json.Marshal(struct {
		SKU string `json:"sku"`
		Qty int64  `json:"qty"`
	}{l.SKU, l.Qty})
	if err != nil {
		return no, short, err
	}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/reserve", bytes.NewReader(body))
	if err != nil {
		return no, short, err
	}
	// net/http repeats a request with an Idempotency-Key by itself when a connection breaks, if it can have the body again.
	// This peer may ignore the key and reserve twice.
	req.GetBody = nil
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := client.Do(req)
	if err != nil {
		if sent.Load() {
			took = perhaps
		}
		return took, short, unavailable(err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 2 {
		return yes, short, nil
	}
	if res.StatusCode == http.StatusConflict {
		// How many there are is not part of the first contract.
		short = order.Shortage{SKU: l.SKU, Requested: l.Qty}
		switch errorCode(res) {
		case "out_of_stock", "":
			return no, short, nil
		case "unknown_sku":
			short.Unknown = true
			return no, short, nil
		}
	}
	if res.StatusCode/100 != 4 || res.StatusCode == http.StatusConflict {
		took = perhaps
	}
	return took, short, offContract("POST /reserve: %s", res.Status)
}
