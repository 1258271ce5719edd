// Command floor answers orders and keeps none of them: it parses the body and says 201 with a fresh id. What it reaches is the
// ceiling for any order service in Go on the same machine, because it does only what none of them can leave out: HTTP
// and JSON. It is part of the benchmark and of nothing else.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"github.com/google/uuid"
)

type order struct {
	Items []struct {
		SKU string `json:"sku"`
		Qty int64  `json:"qty"`
	} `json:"items"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: floor 127.0.0.1:3900")
		os.Exit(2)
	}
	http.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		var o order
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil || len(o.Items) == 0 {
			http.Error(w, `{"error":"invalid"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"orderId":"%s"}`, uuid.New())
	})
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"ok"}`) })
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], nil))
	os.Exit(1)
}
