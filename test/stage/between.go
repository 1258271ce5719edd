package stage

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// Call is one that a context makes to another over gRPC. All of them have one command and one answer, which are left as they are on
// the wire.
type Call struct {
	Method  string // such as /orderkeep.inventory.v1.InventoryService/Reserve
	Command []byte

	conn *grpc.ClientConn
	md   metadata.MD
}

// Send sends the command on, as often as it is called.
func (c *Call) Send(ctx context.Context) (answer []byte, err error) {
	err = c.conn.Invoke(metadata.NewOutgoingContext(ctx, c.md), c.Method, &c.Command, &answer)
	return answer, err
}

// Between stands between contexts that speak gRPC, in front of the server at addr, until the test ends: what pass returns is what the
// caller gets. It returns where to call.
func Between(t testing.TB, addr string, pass func(context.Context, *Call) ([]byte, error)) string {
	t.Helper()
	// A server that was restarted is found again within a moment.
	soon := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}, MinConnectTimeout: time.Second}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(soon),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handle := func(_ any, stream grpc.ServerStream) error {
		c := &Call{conn: conn}
		c.Method, _ = grpc.MethodFromServerStream(stream)
		if err := stream.RecvMsg(&c.Command); err != nil {
			return err
		}
		c.md, _ = metadata.FromIncomingContext(stream.Context())
		answer, err := pass(stream.Context(), c)
		if err != nil {
			return err
		}
		return stream.SendMsg(&answer)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(handle), grpc.WaitForHandlers(true))
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(func() {
		server.Stop()
		conn.Close()
	})
	return l.Addr().String()
}

// raw is a codec that leaves messages as they are on the wire.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not raw", v)
	}
	return *b, nil
}

func (raw) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not raw", v)
	}
	*b = bytes.Clone(data)
	return nil
}
