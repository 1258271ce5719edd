package sales

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of what a row may hold. They are the contract's for SKUs, customers and quantities; a number of an
// invoice becomes part of an idempotency key of at most 255 characters.
const (
	maxSKU      = 128
	maxCustomer = 256
	maxNumber   = 200
	maxQty      = 1<<31 - 1
)

// maxErrors bounds the rows at fault that are told at once: more are more of the same.
const maxErrors = 20

// columns are the names that the header must have.
var columns = [...]string{"InvoiceNo", "StockCode", "Quantity", "UnitPrice", "CustomerID"}

const (
	colNumber = iota
	colSKU
	colQty
	colPrice
	colCustomer
)

// Read reads CSV, gzipped or not, and returns its invoices in order of each one's first row; rows of one invoice need
// not lie together. The header is row 1. The errors name the rows at fault, up to twenty of them.
//
// It holds the invoices in memory, each SKU and customer once: about 10 MB for a file of 300,000 rows.
func Read(r io.Reader) ([]Invoice, error) {
	in := bufio.NewReader(r)
	// gzip is told by its first two bytes (RFC 1952), so that standard input needs no name.
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("read gzip: %w", err)
		}
		defer z.Close()
		in = bufio.NewReader(z)
	}
	if bom, err := in.Peek(3); err == nil && string(bom) == "\ufeff" {
		_, _ = in.Discard(3)
	}
	f := &file{csv: csv.NewReader(in), index: map[string]int{}, words: map[string]string{}}
	f.csv.ReuseRecord = true
	if err := f.header(); err != nil {
		return nil, err
	}
	for f.rows() {
	}
	f.sort()
	if len(f.errs) > 0 {
		return nil, errors.Join(f.errs...)
	}
	if len(f.invoices) == 0 {
		return nil, errors.New("the file has a header and no rows")
	}
	return f.invoices, nil
}

// file is a file half read.
type file struct {
	csv      *csv.Reader
	at       [len(columns)]int // where each column is
	row      int               // the row last read
	invoices []Invoice
	index    map[string]int // by number
	words    map[string]string
	errs     []error
}

func (f *file) header() error {
	f.row = 1
	names, err := f.csv.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	}
	if err != nil {
		return fmt.Errorf("row 1: %w", plain(err))
	}
	var missing []string
	for i, name := range columns {
		f.at[i] = slices.Index(names, name)
		if f.at[i] < 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("row 1: the header lacks %s; it must name %s", strings.Join(missing, ", "), strings.Join(columns[:], ", "))
	}
	return nil
}

// rows reads one row and reports whether to go on.
func (f *file) rows() bool {
	record, err := f.csv.Read()
	if errors.Is(err, io.EOF) {
		return false
	}
	f.row++
	if err != nil {
		// A row of another width is one row's mistake. After a quote that is never closed, or a stream that breaks,
		// nothing that follows can be trusted.
		return f.fault(f.row, plain(err)) && errors.Is(err, csv.ErrFieldCount)
	}
	if err := f.take(record); err != nil {
		return f.fault(f.row, err)
	}
	return true
}

// fault keeps an error and reports whether there is room for more.
func (f *file) fault(row int, err error) bool {
	f.errs = append(f.errs, fmt.Errorf("row %d: %w", row, err))
	if len(f.errs) < maxErrors {
		return true
	}
	f.errs = append(f.errs, fmt.Errorf("these are the first %d rows at fault", maxErrors))
	return false
}

func (f *file) take(record []string) error {
	number, sku, customer := record[f.at[colNumber]], record[f.at[colSKU]], record[f.at[colCustomer]]
	if err := name("InvoiceNo", number, maxNumber); err != nil {
		return err
	}
	if strings.ContainsFunc(number, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("InvoiceNo %q has characters that an idempotency key cannot have", number)
	}
	if err := name("StockCode", sku, maxSKU); err != nil {
		return err
	}
	if customer != "" {
		if err := name("CustomerID", customer, maxCustomer); err != nil {
			return err
		}
	}
	qty, err := strconv.ParseInt(record[f.at[colQty]], 10, 64)
	if err != nil || qty > maxQty || qty < -maxQty {
		return fmt.Errorf("Quantity %q is not a whole number within 2^31", record[f.at[colQty]])
	}
	price, err := pence(record[f.at[colPrice]])
	if err != nil {
		return fmt.Errorf("UnitPrice %q %w", record[f.at[colPrice]], err)
	}

	i, ok := f.index[number]
	if !ok {
		i = len(f.invoices)
		number = strings.Clone(number) // the record's memory is the reader's
		f.index[number] = i
		f.invoices = append(f.invoices, Invoice{Number: number})
	}
	v := &f.invoices[i]
	if v.Customer == "" {
		v.Customer = f.word(customer)
	}
	v.Lines = append(v.Lines, Line{SKU: f.word(sku), Qty: qty, Price: price, Row: f.row})
	return nil
}

// name checks a text that will be sent as it is.
func name(column, text string, most int) error {
	switch {
	case text == "":
		return fmt.Errorf("%s is empty", column)
	case !utf8.ValidString(text):
		return fmt.Errorf("%s %q is not UTF-8", column, text)
	case utf8.RuneCountInString(text) > most:
		return fmt.Errorf("%s is longer than %d characters", column, most)
	}
	return nil
}

// word returns the one copy of a text that comes again and again.
func (f *file) word(text string) string {
	if w, ok := f.words[text]; ok {
		return w
	}
	text = strings.Clone(text)
	f.words[text] = text
	return text
}

// sort says what each invoice was. It needs all of an invoice's rows, so it comes after the last row of the file.
func (f *file) sort() {
	if len(f.errs) >= maxErrors {
		return
	}
	for i := range f.invoices {
		v := &f.invoices[i]
		kind, row, err := kindOf(v.Number, v.Lines)
		if err != nil && !f.fault(row, err) {
			return
		}
		v.Kind = kind
	}
}

// plain takes the line number out of an error of encoding/csv: rows are counted here.
func plain(err error) error {
	if e := (*csv.ParseError)(nil); errors.As(err, &e) {
		return fmt.Errorf("%w (line %d of the file)", e.Err, e.Line)
	}
	return err
}
