// Package sales reads a shop's past sales from CSV and says what each invoice was: an order, a return, a correction of
// stock, or nothing for a shop to do.
//
// It promises that a file is understood whole before anything of it is used: Read gives all invoices, or errors with the
// numbers of the rows at fault. It refuses to guess: a price that is not a decimal number, or an invoice that sells
// and takes back in one, is an error. It knows no server.
//
// The columns are those of the data set "Online Retail" (Chen, Sain and Guo, 2012): InvoiceNo, StockCode, Quantity,
// UnitPrice and CustomerID, in any order, beside any others.
package sales

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Kind is what an invoice was.
type Kind int

const (
	Order      Kind = iota // units sold; all quantities are above 0
	Return                 // units that came back: the number begins with C
	Correction             // stock corrected: no quantity is above 0
	Skipped                // an adjustment of bad debt: the number begins with A
)

func (k Kind) String() string {
	return [...]string{"order", "return", "correction", "skipped"}[k]
}

// Invoice is all rows of the file that share a number, in the order of the file.
type Invoice struct {
	Number   string
	Kind     Kind
	Customer string // of the first row that names one; may be empty
	Lines    []Line
}

// Line is one row of an invoice.
type Line struct {
	SKU   string
	Qty   int64 // as in the file: below 0 for what came back
	Price int64 // of a unit, in pence
	Row   int   // of the file; the header is row 1
}

// Total returns the sum of the lines' prices in pence. ok is false if it is past 63 bits.
func (v *Invoice) Total() (pence int64, ok bool) {
	for _, l := range v.Lines {
		if l.Price != 0 && l.Qty > math.MaxInt64/l.Price {
			return 0, false
		}
		p := l.Price * l.Qty
		if pence > math.MaxInt64-p {
			return 0, false
		}
		pence += p
	}
	return pence, true
}

// Units returns the sum of the lines' quantities.
func (v *Invoice) Units() int64 {
	var n int64
	for _, l := range v.Lines {
		n += l.Qty
	}
	return n
}

// kindOf sorts an invoice by its number and its quantities. An error comes with the row that it is about.
func kindOf(number string, lines []Line) (kind Kind, row int, err error) {
	switch {
	case strings.HasPrefix(number, "A"):
		return Skipped, 0, nil
	case strings.HasPrefix(number, "C"):
		for _, l := range lines {
			if l.Qty >= 0 {
				return 0, l.Row, fmt.Errorf("invoice %s is a return (C), and its quantity is %d: a return has quantities below 0", number, l.Qty)
			}
		}
		return Return, 0, nil
	}
	if !slices.ContainsFunc(lines, func(l Line) bool { return l.Qty > 0 }) {
		return Correction, 0, nil
	}
	for _, l := range lines {
		if l.Qty <= 0 {
			return 0, l.Row, fmt.Errorf("invoice %s sells other lines, and the quantity here is %d: an invoice sells, or corrects stock, not both", number, l.Qty)
		}
		if l.Price < 0 {
			return 0, l.Row, fmt.Errorf("invoice %s sells at a price below 0", number)
		}
	}
	return Order, 0, nil
}

// maxPence bounds a price to what the contract of Orders takes, the largest integer that every JSON reader keeps.
const maxPence = 1<<53 - 1

// errPrice says what a price looks like.
var errPrice = errors.New("is not a price in pounds such as 2.55")

// pence reads a decimal number of pounds and rounds it half up to pence, exactly: the text never becomes a
// floating-point number. Half of a negative penny rounds away from zero, as a refund of a charge would.
func pence(text string) (int64, error) {
	digits, negative := strings.CutPrefix(text, "-")
	whole, part, _ := strings.Cut(digits, ".")
	if whole == "" && part == "" {
		return 0, errPrice
	}
	for _, c := range whole + part {
		if c < '0' || c > '9' {
			return 0, errPrice
		}
	}
	var n int64
	for _, c := range whole + (part + "00")[:2] {
		n = n*10 + int64(c-'0')
		if n > maxPence {
			return 0, errors.New("is a price past 2^53 pence")
		}
	}
	if len(part) > 2 && part[2] >= '5' {
		n++
	}
	if negative {
		n = -n
	}
	return n, nil
}
