package node

import (
	"context"
	"log/slog"

	"github.com/orderkeep/orderkeep/internal/telemetry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// local is the wire to a context in this process: the generated client on one side, the generated server on the other, and nothing shared
// between them but the caller's deadline and its going away. Messages and metadata are copied, and errors are statuses. Calls wait until the context is
// open: contexts open at once and may call each other while they do.
//
// The server runs on the caller's goroutine, so the caller is back when the server is. Ours go when the context ends, and whoever waits for a
// disk that hangs waits with them.
type local struct {
	edge    grpc.UnaryServerInterceptor
	methods map[string]localMethod // by full name; not changed once open
	open    chan struct{}
}

type localMethod struct {
	server any
	handle grpc.MethodHandler
}

func newLocal(log *slog.Logger, tracer *telemetry.Tracer) *local {
	return &local{edge: serverInterceptor(log, tracer), methods: map[string]localMethod{}, open: make(chan struct{})}
}

// RegisterService implements grpc.ServiceRegistrar.
func (l *local) RegisterService(d *grpc.ServiceDesc, server any) {
	for _, m := range d.Methods {
		l.methods["/"+d.ServiceName+"/"+m.MethodName] = localMethod{server, m.Handler}
	}
}

// Invoke implements grpc.ClientConnInterface. Call options are about connections, and there is none.
func (l *local) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	select {
	case <-l.open:
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	m, ok := l.methods[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "%s is not spoken here", method)
	}
	res, err := m.handle(m.server, far(ctx), func(req any) error { return carry(req, args) }, l.edge)
	switch {
	case err == nil:
		return carry(reply, res)
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err() // as over a network, where nobody would be there to hear more
	}
	return err
}

// NewStream implements grpc.ClientConnInterface. No contract has streams.
func (l *local) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "no streams are spoken here")
}

// carry copies a message from one side to the other, so that neither sees the other change it. Both sides use the same
// generated types: merging is enough.
func carry(to, from any) error {
	dst, ok := to.(proto.Message)
	src, ok2 := from.(proto.Message)
	if !ok || !ok2 {
		return status.Errorf(codes.Internal, "%T or %T is no message", to, from)
	}
	proto.Reset(dst)
	proto.Merge(dst, src)
	return nil
}

// far is the caller's context on the far side: its end, and as incoming metadata what it sends. None of its values is there.
func far(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	return metadata.NewIncomingContext(valueless{ctx}, md)
}

type valueless struct{ context.Context }

func (valueless) Value(any) any { return nil }
