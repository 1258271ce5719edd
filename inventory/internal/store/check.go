package store

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/orderkeep/orderkeep/inventory/internal/stock"
)

// Check says which of the lines, as stock.Sum returns them, could not be reserved at this instant. It writes nothing
// and promises nothing.
func (s *Store) Check(ctx context.Context, lines []stock.Line) ([]stock.Shortage, error) {
	at := s.now().UnixMicro()
	mark, still := s.db.Mark()
	if still {
		if short, ok := s.checked.check(mark, at, lines); ok {
			return short, nil
		}
	}
	found, until, err := s.look(ctx, at, lines)
	if err != nil {
		return nil, wrap("check stock", err)
	}
	if still && len(found) > 0 {
		s.checked.keep(mark, at, until, found)
	}
	return shortages(found, lines), nil
}

// shelf is what a check reads of a SKU.
type shelf struct {
	available int64
	unlimited bool
}

func shortages(found map[string]shelf, lines []stock.Line) []stock.Shortage {
	var short []stock.Shortage
	for _, l := range lines {
		have, ok := found[l.SKU]
		switch {
		case !ok:
			short = append(short, stock.Shortage{SKU: l.SKU, Requested: l.Qty, Unknown: true})
		case !have.unlimited && have.available < l.Qty:
			short = append(short, stock.Shortage{SKU: l.SKU, Requested: l.Qty, Available: have.available})
		}
	}
	return short
}

// checked is what checks have read since the last commit, until the next one or until a hold expires: nothing else changes what they would read. When
// something is sold out its buyers ask for one SKU, and come faster than commits do.
type checked struct {
	mu        sync.Mutex
	mark      uint64 // of the database
	at, until int64  // between which no hold expires, in Unix microseconds; until is after it
	bySKU     map[string]shelf
}

// maxChecked bounds the memory. It is more than are sold out at once and asked for between two commits.
const maxChecked = 1000

// check answers for lines whose SKUs are all there.
func (k *checked) check(mark uint64, at int64, lines []stock.Line) (short []stock.Shortage, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.hold(mark, at) {
		return nil, false
	}
	for _, l := range lines {
		if _, ok := k.bySKU[l.SKU]; !ok {
			return nil, false
		}
	}
	return shortages(k.bySKU, lines), true
}

// keep takes what was read after the database had the mark, at an instant from which on no hold expires until another.
func (k *checked) keep(mark uint64, at, until int64, found map[string]shelf) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.hold(mark, at) || len(k.bySKU)+len(found) > maxChecked {
		k.mark, k.at, k.until, k.bySKU = mark, at, until, map[string]shelf{}
	}
	for sku, l := range found {
		k.bySKU[sku] = l
	}
}

// hold reports whether what is there is what would be read. The clock may have been set back.
func (k *checked) hold(mark uint64, at int64) bool {
	return k.mark == mark && k.at <= at && at < k.until
}

// look reads the shelves of lines, and says until when they stay as they are unless somebody writes.
func (s *Store) look(ctx context.Context, at int64, lines []stock.Line) (found map[string]shelf, until int64, err error) {
	args := make([]any, 0, len(lines)+2)
	args = append(args, at, stock.Default)
	for _, l := range lines {
		args = append(args, l.SKU)
	}
	// A context that can end would cost the driver a goroutine for a query of some microseconds.
	ctx = context.WithoutCancel(ctx)
	query := s.db.Query
	if len(lines) <= checkPrepared {
		query = s.db.Prepared
	}
	rows, err := query(ctx, checkQuery(len(lines)), args...)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	found = make(map[string]shelf, len(lines))
	for rows.Next() {
		var sku string
		var l shelf
		if err := rows.Scan(&sku, &l.available, &l.unlimited, &until); err != nil {
			return nil, 0, err
		}
		found[sku] = l
	}
	return found, until, rows.Err()
}

// checkPrepared is how many lines most demands have at most; each number of them is a text of its own.
const checkPrepared = 4

// nextExpiry is when the next hold expires after $1, or the end of time.
const nextExpiry = `coalesce((SELECT min(expires_at) FROM holds WHERE expires_at > $1), 9223372036854775807)`

// checkOne is checkQuery of one line, as most are: without the table that the join makes of all that has expired.
const checkOne = `SELECT s.sku, s.on_hand - s.reserved + coalesce((SELECT CAST(sum(qty) AS BIGINT) FROM holds h
	WHERE h.expires_at <= $1 AND h.sku = s.sku AND h.location = s.location), 0), s.unlimited, ` + nextExpiry + ` FROM stock s WHERE s.location = $2 AND s.sku = $3`

func checkQuery(n int) string {
	const query = `SELECT s.sku, s.on_hand - s.reserved + coalesce(e.qty, 0), s.unlimited, ` + nextExpiry + `
		FROM stock s LEFT JOIN ` + expired + ` e ON e.sku = s.sku AND e.location = s.location WHERE s.location = $2 AND s.sku IN (`
	if n == 1 {
		return checkOne
	}
	var b strings.Builder
	b.WriteString(query)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "$%d", i+3)
	}
	b.WriteByte(')')
	return b.String()
}
