package test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/node"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/inventory"
	"github.com/orderkeep/orderkeep/orders"
	"github.com/orderkeep/orderkeep/payments"
	paymentsv1 "github.com/orderkeep/orderkeep/payments/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// wiresEnv makes this test's program Orderkeep in one process whose contexts call each other over TCP. It says where each
// is called: "inventory=HOST:PORT,payments=HOST:PORT". Where each listens, it logs.
const wiresEnv = "ORDERKEEP_TEST_WIRES"

// wired returns the contexts as the program has them, except that no call stays in the process, and that every command
// is sent twice, and a third time when nobody expects it any more. What nobody expects is what networks do.
func wired(wires string) []node.Context {
	at := map[string]string{}
	for w := range strings.SplitSeq(wires, ",") {
		name, addr, _ := strings.Cut(w, "=")
		at[name] = addr
	}
	contexts := []node.Context{orders.Context(), inventory.Context(), payments.Context()}
	for i, c := range contexts {
		contexts[i].Open = func(ctx context.Context, env node.Env) (*node.Service, error) { return openWired(ctx, c, env, at) }
	}
	return contexts
}

func openWired(ctx context.Context, c node.Context, env node.Env, at map[string]string) (*node.Service, error) {
	var hangUp []func() error
	for _, name := range c.Peers {
		conn, err := grpc.NewClient("passthrough:///"+at[name], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		hangUp = append(hangUp, conn.Close)
		env.Peers[name] = node.Peer{Conn: call.New(name, env.Log).Conn(repeater{conn, env.Log})}
	}
	service, err := c.Open(ctx, env)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(edge(env.Log)))
	service.Register(server)
	go func() { _ = server.Serve(listener) }() // ends with GracefulStop
	env.Log.Info("wired", "address", listener.Addr().String())
	closeContext := service.Close
	service.Close = func(ctx context.Context) error {
		server.GracefulStop()
		err := closeContext(ctx)
		for _, f := range hangUp {
			_ = f() // nobody calls any more
		}
		return err
	}
	return service, nil
}

// edge does for these servers what the node does for its own.
func edge(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if id := metadata.ValueFromIncomingContext(ctx, strings.ToLower(telemetry.Header)); len(id) == 1 {
			ctx = telemetry.WithCorrelation(ctx, id[0])
		}
		res, err := handler(telemetry.WithLogger(ctx, log), req)
		if err != nil {
			return nil, fault.ToGRPC(err)
		}
		return res, nil
	}
}

// repeater sends every command again.
type repeater struct {
	grpc.ClientConnInterface
	log *slog.Logger
}

// late is when the third copy of a command is sent: after the order has been answered, and about when tests cancel it.
const late = 50 * time.Millisecond

// Invoke returns the second answer, which has to be the first one again.
func (r repeater) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	err := r.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	if strings.HasSuffix(method, "/Check") || status.Code(err) == codes.Unavailable {
		return err // a question; or nobody was there, and what the policy does about that is to be seen
	}
	first, answer := proto.Clone(reply.(proto.Message)), reply.(proto.Message)
	proto.Reset(answer)
	again := r.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	if err == nil && again == nil && !undecided(first) && !proto.Equal(first, answer) {
		r.log.Error("a repeated command has another answer", "method", method, "first", fmt.Sprint(first), "second", fmt.Sprint(answer))
	}
	copied := proto.Clone(args.(proto.Message))
	time.AfterFunc(late, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = r.ClientConnInterface.Invoke(ctx, method, copied, answer.ProtoReflect().New().Interface()) // nobody waits for it
	})
	return again
}

// undecided reports an answer that says that there is none yet.
func undecided(answer proto.Message) bool {
	a, ok := answer.(*paymentsv1.AuthorizeResponse)
	return ok && a.State == paymentsv1.PaymentState_PAYMENT_STATE_UNKNOWN
}
