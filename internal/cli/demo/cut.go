//go:build ignore

// Cut takes a week out of the data set "Online Retail" and an opening stock for it. README.md says where the data set is
// from.
//
//	go run cut.go SALES.csv.gz STOCK.csv 2011-03-21 2011-03-28
//
// It writes week.csv.gz, the rows of all invoices whose first row lies in the time given, and stock.csv, the items in
// them: every twentieth has half of what the week tries to sell on hand, so that its shelf runs empty, the others have more
// than that.
package main

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 5 {
		log.Fatal("usage: go run cut.go SALES.csv.gz STOCK.csv FROM BEFORE")
	}
	if err := cut(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		log.Fatal(err)
	}
}

func cut(salesFile, stockFile, from, before string) error {
	f, err := os.Open(salesFile)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	all, err := csv.NewReader(z).ReadAll()
	if err != nil {
		return err
	}
	const number, sku, quantity, date = 0, 1, 3, 4
	in := map[string]bool{} // whether an invoice lies in the week, by its first row
	sold := map[string]int{}
	week := all[:1:1]
	for _, r := range all[1:] {
		if _, seen := in[r[number]]; !seen {
			in[r[number]] = r[date] >= from && r[date] < before
		}
		if !in[r[number]] {
			continue
		}
		week = append(week, r)
		qty, err := strconv.Atoi(r[quantity])
		if err != nil {
			return err
		}
		sold[r[sku]] += 0
		if qty > 0 && !strings.HasPrefix(r[number], "A") {
			sold[r[sku]] += qty
		}
	}
	if err := write("week.csv.gz", week); err != nil {
		return err
	}

	s, err := os.Open(stockFile)
	if err != nil {
		return err
	}
	defer s.Close()
	items, err := csv.NewReader(s).ReadAll()
	if err != nil {
		return err
	}
	const item, onHand, tracked = 0, 2, 3
	stock := items[:1:1]
	for _, r := range items[1:] {
		n, ok := sold[r[item]]
		if !ok {
			continue
		}
		r = slices.Clone(r)
		r[onHand] = "0"
		if r[tracked] == "true" {
			enough := n + n/10 + 5
			if len(stock)%20 == 0 {
				enough = n / 2
			}
			r[onHand] = strconv.Itoa(enough)
		}
		stock = append(stock, r)
	}
	fmt.Println(len(week)-1, "rows of sales,", len(stock)-1, "items")
	return write("stock.csv", stock)
}

func write(name string, rows [][]string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(name, ".gz") {
		w := csv.NewWriter(f)
		if err := w.WriteAll(rows); err != nil {
			return err
		}
		return f.Close()
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := csv.NewWriter(z)
	if err := w.WriteAll(rows); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}
