// Command orders is Orders as a program of its own.
package main

import (
	"os"

	"github.com/orderkeep/orderkeep/internal/program"
	"github.com/orderkeep/orderkeep/orders"
)

var defaults = program.Defaults{
	Listen: "127.0.0.1:3000", GRPCListen: "127.0.0.1:3100",
	InventoryURL: "http://localhost:3001", PaymentsURL: "http://localhost:3002",
}

func main() {
	os.Exit(program.Main("orders", "Orders: takes orders, and drives each to its end.", defaults, os.Args[1:], os.Stdout, os.Stderr, orders.Context()))
}
