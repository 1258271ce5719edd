package stock

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/orderkeep/orderkeep/internal/fault"
)

// ErrInvalidCSV refuses a file with all that is wrong in it.
var ErrInvalidCSV = fault.New(fault.Invalid, "invalid_csv", "The file is not as it must be.")

// maxListed bounds the problems that one answer lists; nobody mends a file by the hundred-and-first.
const maxListed = 100

// maxRow bounds the bytes of one row. The longest row that can be right has 128 bytes of SKU and 1,024 of title, each
// at most doubled by quoting.
const maxRow = 64 << 10

// Row is one line of an import: the item as it shall be, and the number of units that are there.
type Row struct {
	N       int64 // the header is row 1
	SKU     string
	Title   string
	OnHand  int64
	Tracked bool
}

// Problems collects what is wrong with a file, and keeps the first hundred.
type Problems struct {
	total  int
	listed []fault.Item
}

// Add notes that something is wrong in a row.
func (p *Problems) Add(row int64, field, sku, detail string, args ...any) {
	p.total++
	if len(p.listed) < maxListed {
		p.listed = append(p.listed, fault.Item{Row: row, Field: field, SKU: clip(sku), Detail: fmt.Sprintf(detail, args...)})
	}
}

// clip keeps what cannot be a SKU from making the answer long or unreadable.
func clip(sku string) string {
	if badSKU(sku) != "" {
		return ""
	}
	return sku
}

// Err is ErrInvalidCSV with the problems, or nil if there are none.
func (p *Problems) Err() error {
	if p.total == 0 {
		return nil
	}
	detail := "Nothing was imported: 1 problem, in row %[2]d."
	if p.total > 1 {
		detail = "Nothing was imported: %[1]d problems, the first in row %[2]d."
	}
	if p.total > len(p.listed) {
		detail = fmt.Sprintf("Nothing was imported: %%[1]d problems, the first in row %%[2]d. The first %d are listed.", len(p.listed))
	}
	return ErrInvalidCSV.Detailf(detail, p.total, p.listed[0].Row).With(p.listed...)
}

// Sheet reads an import row by row, in constant memory: RFC 4180 with a header of sku, title, on_hand and tracked in
// any order. A byte order mark is skipped; the columns reserved and available, which an export has, are
// ignored, so that an export can be imported.
type Sheet struct {
	csv   *csv.Reader
	guard *guard
	col   map[string]int
	folds int64 // line ends inside of fields, so that a row's number is not its line's
	last  int64 // the number of the row before
	ended bool
}

// columns of a file: true if an import must have it.
var columns = map[string]bool{"sku": true, "title": true, "on_hand": true, "tracked": true, "reserved": false, "available": false}

// ReadSheet reads the header. A wrong one is noted in p, and there are no rows then. The error is the reader's.
func ReadSheet(from io.Reader, p *Problems) (*Sheet, error) {
	g := &guard{r: bufio.NewReader(from), left: maxRow}
	if bom, _ := g.r.Peek(3); string(bom) == "\xef\xbb\xbf" {
		_, _ = g.r.Discard(3)
	}
	s := &Sheet{csv: csv.NewReader(g), guard: g, col: map[string]int{}, last: 1, ended: true}
	s.csv.ReuseRecord = true
	header, err := s.csv.Read()
	var syntax *csv.ParseError
	switch {
	case err == io.EOF:
		p.Add(1, "", "", "the file is empty; it begins with the header sku,title,on_hand,tracked")
		return s, nil
	case errors.As(err, &syntax), errors.Is(err, errLongRow):
		p.Add(1, "", "", "the header cannot be read; it is sku,title,on_hand,tracked")
		return s, nil
	case err != nil:
		return nil, err
	}
	before := p.total
	for i, name := range header {
		if _, known := columns[name]; !known {
			p.Add(1, "", "", "the column %q is not known; the header is sku,title,on_hand,tracked", strings.ToValidUTF8(name[:min(len(name), 64)], "?"))
			continue
		}
		if _, twice := s.col[name]; twice {
			p.Add(1, name, "", "the column occurs twice")
		}
		s.col[name] = i
	}
	for _, name := range []string{"sku", "title", "on_hand", "tracked"} {
		if _, ok := s.col[name]; !ok {
			p.Add(1, name, "", "the column is missing; the header is sku,title,on_hand,tracked")
		}
	}
	s.ended = p.total > before
	return s, nil
}

// Next reads the next row and returns io.EOF after the last. A row with ok false is wrong, and p says why. Any other
// error is the reader's.
func (s *Sheet) Next(p *Problems) (row Row, ok bool, err error) {
	if s.ended {
		return Row{}, false, io.EOF
	}
	s.guard.left = maxRow
	fields, err := s.csv.Read()
	var syntax *csv.ParseError
	switch {
	case errors.Is(err, errLongRow):
		s.ended = true
		p.Add(s.last+1, "", "", "a row after row %d is longer than %d bytes, or has a quote that is never closed; the rest was not read", s.last, maxRow)
		return Row{}, false, nil
	case errors.As(err, &syntax):
		n := int64(syntax.StartLine) - s.folds
		s.last = n
		if syntax.Err == csv.ErrFieldCount {
			p.Add(n, "", "", "there are %d columns, and the header has %d", len(fields), s.csv.FieldsPerRecord)
			s.fold(fields)
			return Row{}, false, nil
		}
		s.folds += int64(syntax.Line - syntax.StartLine)
		p.Add(n, "", "", "%s (column %d)", strings.ReplaceAll(syntax.Err.Error(), "\"", "quote "), syntax.Column)
		return Row{}, false, nil
	case err != nil:
		return Row{}, false, err
	}
	line, _ := s.csv.FieldPos(0)
	s.last = int64(line) - s.folds
	row, ok = s.parse(s.last, fields, p)
	s.fold(fields)
	return row, ok, nil
}

// fold counts the line ends inside of fields.
func (s *Sheet) fold(fields []string) {
	for _, f := range fields {
		s.folds += int64(strings.Count(f, "\n"))
	}
}

func (s *Sheet) parse(n int64, fields []string, p *Problems) (Row, bool) {
	row := Row{N: n, SKU: fields[s.col["sku"]], Title: fields[s.col["title"]]}
	before := p.total
	if problem := badSKU(row.SKU); problem != "" {
		p.Add(n, "sku", row.SKU, "the SKU %s", problem)
	}
	if problem := badText(row.Title, 0, maxTitle); problem != "" {
		p.Add(n, "title", row.SKU, "the title %s", problem)
	}
	switch strings.ToLower(fields[s.col["tracked"]]) {
	case "true":
		row.Tracked = true
	case "false":
	default:
		p.Add(n, "tracked", row.SKU, "tracked is neither true nor false")
		return row, false
	}
	onHand, err := strconv.ParseInt(fields[s.col["on_hand"]], 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		p.Add(n, "on_hand", row.SKU, "on_hand is not a whole number")
	case err != nil || outside(onHand):
		p.Add(n, "on_hand", row.SKU, "on_hand passes 2^53 - 1")
	case onHand < 0 && row.Tracked:
		p.Add(n, "on_hand", row.SKU, "on_hand is %d, and a tracked item cannot have less than 0", onHand)
	}
	row.OnHand = onHand
	return row, p.total == before
}

var errLongRow = errors.New("the row is too long")

// guard ends a read that would take a whole file into memory for want of a closing quote.
type guard struct {
	r    *bufio.Reader
	left int // bytes that may still be read before the row must have ended
}

func (g *guard) Read(b []byte) (int, error) {
	if g.left <= 0 {
		return 0, errLongRow
	}
	n, err := g.r.Read(b[:min(len(b), g.left)])
	g.left -= n
	return n, err
}

// Import says what a row of an import did.
type Import int

// An unchanged item already was as the row says.
const (
	Unchanged Import = iota
	Created
	Changed
)

// Import makes an item as a row says, or changes it, and sets what is on hand at the default location, with a movement
// for the difference. A row that would leave less than is reserved is noted in p. The movement's Delta is 0
// if on hand did not change.
func (r *Room) Import(row Row, correlation string, p *Problems) (Import, Movement) {
	s, ok := r.shelves[row.SKU]
	did := Changed
	if !ok {
		s = &shelf{item: Item{SKU: row.SKU, Title: row.Title, Tracked: row.Tracked, Levels: []Level{{Location: Default}}}, renamed: true, touched: true}
		r.shelves[row.SKU] = s
		did = Created
	}
	level := s.level(Default)
	if row.Tracked {
		for _, l := range s.item.Levels {
			if l.Location == Default {
				l.OnHand = row.OnHand
			}
			if l.Available() < 0 {
				p.Add(row.N, "on_hand", row.SKU, "on_hand would be %d at %s, and %d units are reserved", l.OnHand, l.Location, l.Reserved)
				return Unchanged, Movement{}
			}
		}
	}
	if did == Changed && s.item.Title == row.Title && s.item.Tracked == row.Tracked && level.OnHand == row.OnHand {
		return Unchanged, Movement{}
	}
	if s.item.Title != row.Title || s.item.Tracked != row.Tracked {
		s.renamed = true
		s.touched = s.touched || s.item.Tracked != row.Tracked
		s.item.Title, s.item.Tracked = row.Title, row.Tracked
	}
	if delta := row.OnHand - level.OnHand; delta != 0 {
		return did, r.move(s, level, Movement{Delta: delta, Reason: "import", Actor: "import", CorrelationID: correlation})
	}
	return did, Movement{}
}
