package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// late is when the third copy of a command is sent: after the order has been answered, and about when tests cancel it.
const late = 50 * time.Millisecond

// repeater stands between contexts that speak gRPC, and sends every command on twice, and a third time when nobody expects
// it any more. What nobody expects is what networks do. The second answer is the one that goes back, and has to be the
// first one again.
type repeater struct {
	t    testing.TB
	conn *grpc.ClientConn
	addr string // where to call it
}

// newRepeater starts one in front of the server at addr, until the test ends.
func newRepeater(t testing.TB, addr string) *repeater {
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
	r := &repeater{t: t, conn: conn, addr: l.Addr().String()}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(r.pass), grpc.WaitForHandlers(true))
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(func() {
		server.Stop()
		conn.Close()
	})
	return r
}

// pass is one call. All methods between the contexts have one request and one answer.
func (r *repeater) pass(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	var command, first, second []byte
	if err := stream.RecvMsg(&command); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(stream.Context())
	ctx := metadata.NewOutgoingContext(stream.Context(), md)
	err := r.conn.Invoke(ctx, method, &command, &first)
	if status.Code(err) == codes.Unavailable {
		return err // nobody was there, and what the caller does about that is to be seen
	}
	if strings.HasSuffix(method, "/Check") { // a question, whose answer may change
		if err != nil {
			return err
		}
		return stream.SendMsg(&first)
	}
	again := r.conn.Invoke(ctx, method, &command, &second)
	if err == nil && again == nil && !bytes.Equal(first, second) && !undecided(method, first) {
		r.t.Errorf("%s is answered %x, and when it is repeated, %x", method, first, second)
	}
	time.AfterFunc(late, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		var third []byte
		_ = r.conn.Invoke(ctx, method, &command, &third) // nobody waits for it
	})
	if again != nil {
		return again
	}
	return stream.SendMsg(&second)
}

// undecided reports an answer that says that there is none yet.
func undecided(method string, answer []byte) bool {
	var a paymentsv1.AuthorizeResponse
	return strings.HasSuffix(method, "/Authorize") && proto.Unmarshal(answer, &a) == nil && a.State == paymentsv1.PaymentState_PAYMENT_STATE_UNKNOWN
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
