package serve

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/inventory/internal/stock"
	"github.com/orderkeep/orderkeep/inventory/v1/rest"
)

var (
	errOutOfStock = fault.New(fault.Conflict, "out_of_stock", "There is not enough stock.")
	errUnknownSKU = fault.New(fault.Conflict, "unknown_sku", "There is no such item.")
	errCursor     = fault.New(fault.Invalid, "invalid_cursor", "The cursor is not one that this list gave. Start again without one.")
)

// shortage is the refusal of a reservation. An unknown SKU is a mistake of the caller's, and comes first: its answer
// names the unknown SKUs alone.
func shortage(short []stock.Shortage) *fault.Error {
	var unknown []stock.Shortage
	var names []string
	for _, s := range short {
		if s.Unknown {
			unknown = append(unknown, s)
			names = append(names, strconv.Quote(s.SKU))
		}
	}
	if len(unknown) == 0 {
		return outOfStock(short)
	}
	return errUnknownSKU.Detailf("There is no item with the SKU %s. Nothing was reserved.", few(names)).With(problemItems(unknown)...)
}

func outOfStock(short []stock.Shortage) *fault.Error {
	names := make([]string, len(short))
	for i, s := range short {
		names[i] = strconv.Quote(s.SKU)
	}
	return errOutOfStock.Detailf("There is not enough stock of %s. Nothing was reserved.", few(names)).With(problemItems(short)...)
}

// few names at most three in a sentence; items have them all.
func few(names []string) string {
	if len(names) > 3 {
		return strings.Join(names[:3], ", ") + " and " + strconv.Itoa(len(names)-3) + " more"
	}
	return strings.Join(names, ", ")
}

func problemItems(short []stock.Shortage) []fault.Item {
	items := make([]fault.Item, len(short))
	for i, s := range short {
		items[i] = fault.Item{SKU: s.SKU, Requested: s.Requested, Available: s.Available}
		if s.Unknown {
			items[i].Detail = "no item has this SKU"
		}
	}
	return items
}

func restStock(i stock.Item) rest.Stock {
	out := rest.Stock{
		Sku: i.SKU, Title: i.Title, Tracked: i.Tracked, OnHand: i.OnHand(), Reserved: i.Reserved(), Available: i.Available(),
		Locations: make([]rest.LocationStock, len(i.Levels)),
	}
	for n, l := range i.Levels {
		out.Locations[n] = rest.LocationStock{Location: l.Location, OnHand: l.OnHand, Reserved: l.Reserved, Available: l.Available()}
	}
	return out
}

func restReservation(v stock.Reservation) rest.Reservation {
	out := rest.Reservation{
		ReservationId: v.ID, State: rest.ReservationState(v.State), Lines: make([]rest.Line, len(v.Lines)),
		ExpiresAt: rest.OptDateTime{Value: v.Expires, Set: !v.Expires.IsZero()}, Expired: rest.OptBool{Value: true, Set: v.Expired()},
	}
	for i, l := range v.Lines {
		out.Lines[i] = rest.Line{Sku: l.SKU, Qty: l.Qty}
	}
	return out
}

// idempotencyKey returns the key, or "" if there is no header. An empty header is a mistake, not its absence.
func idempotencyKey(h rest.OptString) (string, error) {
	if !h.Set {
		return "", nil
	}
	return h.Value, stock.CheckKey(h.Value)
}

// replayed is true or absent.
func replayed(was bool) rest.OptBool { return rest.OptBool{Value: was, Set: was} }

func optional(s string) rest.OptString { return rest.OptString{Value: s, Set: s != ""} }

// Cursors are opaque to callers: what follows is the place of the last row of a page.

func encodeCursor(place string) string { return base64.RawURLEncoding.EncodeToString([]byte(place)) }

func encodePlace(n int64) string { return encodeCursor(strconv.FormatInt(n, 10)) }

func skuCursor(c rest.OptString) (string, error) {
	if c.Value == "" {
		return "", nil
	}
	decoded, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return "", errCursor.Because(err)
	}
	// What is no text PostgreSQL does not compare with, and would be our failure there.
	place := string(decoded)
	if encodeCursor(place) != c.Value || !utf8.ValidString(place) || strings.Contains(place, "\x00") {
		return "", errCursor
	}
	return place, nil
}

// placeCursor returns 0 for the first page.
func placeCursor(c rest.OptString) (int64, error) {
	place, err := skuCursor(c)
	if err != nil || place == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(place, 10, 64)
	if err != nil || n < 1 || encodePlace(n) != c.Value {
		return 0, errCursor
	}
	return n, nil
}
