package node

// What tests look at from inside.
const (
	MaxStreams  = maxStreams
	MemoryLimit = memoryLimit
)

// Memory is what Tune limits the process to.
var Memory = memory
