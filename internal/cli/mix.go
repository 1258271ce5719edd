package cli

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/orderkeep/orderkeep/internal/load"
)

// mix is what a bench orders. Order n is a function of n, so that a mix is the same each time, and its shares are even from the first
// orders on.
type mix struct {
	SKUs    int     `name:"skus" default:"1000" placeholder:"N" json:"skus" help:"SKUs that the lines go through in turn; 1 is one hot SKU."`
	Hot     float64 `placeholder:"SHARE" json:"hot" help:"Share of the orders whose first line is on one SKU, the same for all: 0 to 1."`
	Lines   int     `default:"1" placeholder:"N" json:"lines" help:"Lines of an order, each of one unit."`
	Paid    float64 `placeholder:"SHARE" json:"paid" help:"Share of the orders that have a price, and a payment with the simulated provider."`
	Refused float64 `placeholder:"SHARE" json:"refused" help:"Share of the orders for a SKU that is sold out; they are wanted to be refused."`
	Keyed   float64 `placeholder:"SHARE" json:"keyed" help:"Share of the orders with an idempotency key."`
}

const (
	maxSKUs  = 10_000 // their names have four digits
	maxLines = 500
	soldOut  = "BENCH-GONE"
	plenty   = 1_000_000_000 // units of each SKU: no bench sells so many
)

// Validate refuses numbers that mean nothing.
func (m *mix) Validate() error {
	if m.SKUs < 1 || m.SKUs > maxSKUs {
		return fmt.Errorf("--skus: must be between 1 and %d", maxSKUs)
	}
	if m.Lines < 1 || m.Lines > maxLines {
		return fmt.Errorf("--lines: must be between 1 and %d", maxLines)
	}
	for _, share := range []struct {
		flag  string
		value float64
	}{{"--hot", m.Hot}, {"--paid", m.Paid}, {"--refused", m.Refused}, {"--keyed", m.Keyed}} {
		if !(share.value >= 0 && share.value <= 1) {
			return fmt.Errorf("%s: must be a share between 0 and 1, such as 0.5", share.flag)
		}
	}
	return nil
}

// within reports whether order n is one of a share: the multiples of an irrational number spread evenly between 0 and 1, and those
// of several such numbers independently of each other.
func within(share float64, n uint64, irrational float64) bool {
	_, fraction := math.Modf(float64(n%(1<<40)) * irrational)
	return fraction < share
}

func (m *mix) refused(n uint64) bool { return within(m.Refused, n, math.Sqrt2) }
func (m *mix) paid(n uint64) bool    { return !m.refused(n) && within(m.Paid, n, 1.7320508075688772) } // the root of 3
func (m *mix) keyed(n uint64) bool   { return within(m.Keyed, n, 2.23606797749979) }                   // of 5
func (m *mix) hot(n uint64) bool     { return within(m.Hot, n, 2.6457513110645907) }                   // of 7

// body appends order n as JSON.
func (m *mix) body(n uint64, buf []byte) []byte {
	buf = append(buf, `{"items":[`...)
	paid := m.paid(n)
	for i := range m.Lines {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, `{"sku":"`...)
		switch {
		case i == 0 && m.refused(n):
			buf = append(buf, soldOut...)
		case i == 0 && m.hot(n):
			buf = appendSKU(buf, 0)
		default:
			buf = appendSKU(buf, (n*uint64(m.Lines)+uint64(i))%uint64(m.SKUs))
		}
		buf = append(buf, `","qty":1`...)
		if paid {
			buf = append(buf, `,"unitPrice":100`...)
		}
		buf = append(buf, '}')
	}
	buf = append(buf, ']')
	if paid {
		buf = append(buf, `,"currency":"EUR","payment":{"provider":"simulated","token":"pm_card_visa"}`...)
	}
	return append(buf, '}')
}

// appendSKU appends the name of a SKU of a bench.
func appendSKU(buf []byte, n uint64) []byte {
	buf = append(buf, "BENCH-"...)
	for limit := uint64(1000); limit > 1 && n < limit; limit /= 10 {
		buf = append(buf, '0')
	}
	return strconv.AppendUint(buf, n, 10)
}

// request appends order n as it goes over the wire. key begins its idempotency key, if it has one.
func (m *mix) request(host, path, key string) func(n uint64, buf []byte) []byte {
	return func(n uint64, buf []byte) []byte {
		header := ""
		if m.keyed(n) {
			header = "Idempotency-Key: " + key + strconv.FormatUint(n, 10) + "\r\n"
		}
		return load.AppendRequest(buf, http.MethodPost, host, path, header, m.body(n, make([]byte, 0, 256)))
	}
}

// The outcomes of an order, beside those of load.
const (
	confirmed  = "confirmed"
	pending    = "pending" // accepted and not decided yet: it may still be confirmed
	refused    = "refused" // there is not enough stock
	turnedAway = "turned_away"
)

// judge names the outcome of order n.
func (m *mix) judge(n uint64, status int, body []byte) (outcome string, served bool) {
	switch {
	case status == http.StatusCreated:
		return confirmed, !m.refused(n)
	case status == http.StatusAccepted:
		return pending, false
	case status == http.StatusConflict && bytes.Contains(body, []byte(`"out_of_stock"`)):
		return refused, m.refused(n)
	case status == http.StatusServiceUnavailable:
		return turnedAway, false
	}
	return "status_" + strconv.Itoa(status), false
}

// stockFile is the shelf of a bench as the CSV of the stock import.
func (m *mix) stockFile() io.Reader {
	csv := []byte("sku,title,on_hand,tracked\n" + soldOut + ",Bench: sold out,0,true\n")
	for i := range m.SKUs {
		csv = fmt.Appendf(appendSKU(csv, uint64(i)), ",Bench,%d,true\n", plenty)
	}
	return bytes.NewReader(csv)
}
