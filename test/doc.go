// Package test holds the scenarios: what a shop may expect of Orderkeep, played through the public contracts alone against
// running processes, on every topology of one table; and the proofs that only whole processes can give, such as a kill -9
// under load.
//
// It promises that a scenario knows no topology: what passes in one process passes when contexts are moved apart, or is
// not promised there, and then the table says so. It refuses short cuts: nothing here reaches into a running context, and
// everything that was started is stopped.
package test
