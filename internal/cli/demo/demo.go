// Package demo carries a real shop's week of sales, and an opening stock for it under which some shelves run empty. README.md
// beside this file says where they are from and under which licence.
package demo

import _ "embed"

// Week is the sales of 2011-03-21 to 2011-03-27, as gzipped CSV in the form that package sales reads.
//
//go:embed week.csv.gz
var Week []byte

// Stock is the opening stock, as the CSV that the import of stock takes.
//
//go:embed stock.csv
var Stock []byte
