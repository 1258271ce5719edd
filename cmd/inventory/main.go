// Command inventory is Inventory as a program of its own.
package main

import (
	"os"

	"github.com/orderkeep/orderkeep/internal/program"
	"github.com/orderkeep/orderkeep/inventory"
)

var defaults = program.Defaults{
	Listen: "127.0.0.1:3001", GRPCListen: "127.0.0.1:3101",
}

func main() {
	os.Exit(program.Main("inventory", "Inventory: holds the stock, and never sells what is not there.", defaults, os.Args[1:], os.Stdout, os.Stderr, inventory.Context()))
}
