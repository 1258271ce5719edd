package node

import (
	"log/slog"

	"google.golang.org/grpc"
)

// What tests look at from inside.
const (
	MaxStreams  = maxStreams
	MemoryLimit = memoryLimit
	Headroom    = headroom
)

// UnmapFile gives back what the start has needed of the program's file.
var UnmapFile = unmapFile

// Memory is what Tune limits the process to, Growth what it lets a heap grow by, and FollowHeap begins to do so.
var (
	Memory     = memory
	Growth     = growth
	FollowHeap = func() { afterCollection(-1) }
)

// Local is the wire to a context in this process, with the service that register adds.
func Local(register func(grpc.ServiceRegistrar)) grpc.ClientConnInterface {
	l := newLocal(slog.New(slog.DiscardHandler), nil)
	register(l)
	close(l.open)
	return l
}
