// Package lab is what the fault lab (test/faults) needs inside of the programs: named points at which a process can be made to
// die, and a clock that can be made to jump. It is compiled in by the build tag "faults", for tests only; without it a point is nothing,
// and the clock is the system's.
//
// It promises that a program built without the tag behaves the same whatever the environment says.
package lab
