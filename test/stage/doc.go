// Package stage is what tests of whole processes stand on: the programs, built once, as processes that are started, asked to end
// and killed; what they log; and the wires between them, which can be cut.
//
// It promises that what it started has ended when the test has. It refuses to know what the processes do: that is the tests'
// to say.
package stage
