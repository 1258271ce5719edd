// Package faults is the fault lab: real processes of Orderkeep under load, on real databases, brokers and a network that a proxy
// breaks, while they are killed, their disks fill up and their clocks jump; and a checker that holds all that clients asked
// and were told against all that is left when the faults have ended.
//
// It promises that a broken promise fails the run and is named with its ids; that the faults of a run come from a seed, which it
// prints; and that a named crash point of the code which no run reaches is a failure. It refuses to judge by what the programs say
// of themselves alone: the checker reads the databases and the clients' own notes.
package faults
