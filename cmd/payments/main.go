// Command payments is Payments as a program of its own.
package main

import (
	"os"

	"github.com/orderkeep/orderkeep/internal/program"
	"github.com/orderkeep/orderkeep/payments"
)

var defaults = program.Defaults{
	Listen: "127.0.0.1:3002", GRPCListen: "127.0.0.1:3102",
}

func main() {
	os.Exit(program.Main("payments", "Payments: moves the money, and never charges twice.", defaults, os.Args[1:], os.Stdout, os.Stderr, payments.Context()))
}
