package node

import (
	"log/slog"

	"google.golang.org/grpc"
)

// What tests look at from inside.
const (
	MaxStreams  = maxStreams
	MemoryLimit = memoryLimit
)

// UnmapFile gives back what the start has needed of the program's file.
var UnmapFile = unmapFile

// Memory is what Tune limits the process to.
var Memory = memory

// Local is the wire to a context in this process, with the service that register adds.
func Local(register func(grpc.ServiceRegistrar)) grpc.ClientConnInterface {
	l := newLocal(slog.New(slog.DiscardHandler), nil)
	register(l)
	close(l.open)
	return l
}
