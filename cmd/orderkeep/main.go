// Command orderkeep is the program: Orders, Inventory, Payments and the console in one process, and the command line that talks to them.
package main

import (
	"os"

	"github.com/orderkeep/orderkeep/console"
	"github.com/orderkeep/orderkeep/internal/cli"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/inventory"
	"github.com/orderkeep/orderkeep/orders"
	"github.com/orderkeep/orderkeep/payments"
)

func main() {
	node.Tune()
	contexts := []node.Context{orders.Context(), inventory.Context(), payments.Context(), console.Context()}
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, contexts))
}
