package node

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// longestCall ends a call that came without a deadline: longer than any attempt that internal/call makes.
	longestCall = 30 * time.Second
	// maxHeader bounds a call's metadata; what we send is a few hundred bytes.
	maxHeader = 64 << 10
	// maxStreams bounds the calls under way on one connection: above what internal/call lets through to one context.
	maxStreams = 32768
	// connectionAge makes clients connect anew now and then, so that they find the replicas that came after them.
	connectionAge      = 5 * time.Minute
	connectionAgeGrace = 30 * time.Second
)

// grpcServer answers the v1 Protobuf contracts of all contexts here on one listener, and grpc.health.v1. There is no
// reflection: the contracts are files.
type grpcServer struct {
	listener net.Listener
	server   *grpc.Server
	health   *vitals
}

func (n *node) grpcServer(listener net.Listener) *grpcServer {
	s := &grpcServer{listener: listener}
	services := map[string]string{} // full name of a service -> its context
	edges := map[string]grpc.UnaryServerInterceptor{}
	s.server = grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if _, ok := ctx.Deadline(); !ok {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, longestCall)
				defer cancel()
			}
			if edge := edges[serviceOf(info.FullMethod)]; edge != nil {
				return edge(ctx, req, info, handler)
			}
			return handler(ctx, req)
		}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(stream)
			return status.Errorf(codes.Unimplemented, "%s is not spoken here; spoken are %s", method, strings.Join(slices.Sorted(maps.Keys(services)), ", "))
		}),
		grpc.MaxRecvMsgSize(int(n.cfg.BodyLimit)), grpc.MaxHeaderListSize(maxHeader), grpc.MaxConcurrentStreams(maxStreams),
		grpc.WaitForHandlers(true),
		// A client pings every 30 s, and one that is a little early is no attacker.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionAgeGrace, Time: 2 * pingEvery, Timeout: 10 * time.Second,
		}),
	)
	for _, o := range n.services {
		if o.service.Register == nil {
			continue
		}
		edge := serverInterceptor(n.log.With(telemetry.ContextKey, o.context.Name), n.tracers[o.context.Name])
		o.service.Register(registrar(func(d *grpc.ServiceDesc, impl any) {
			services[d.ServiceName], edges[d.ServiceName] = o.context.Name, edge
			s.server.RegisterService(d, impl)
		}))
	}
	s.health = newVitals(n.notReady, services)
	healthpb.RegisterHealthServer(s.server, s.health)
	return s
}

type registrar func(*grpc.ServiceDesc, any)

func (r registrar) RegisterService(d *grpc.ServiceDesc, impl any) { r(d, impl) }

// serviceOf returns the service of a full method such as /orderkeep.inventory.v1.InventoryService/Reserve.
func serviceOf(method string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return service
}

// Serve answers until Drain, and returns nil after it.
func (s *grpcServer) Serve() error {
	if err := s.server.Serve(s.listener); err != nil {
		return fmt.Errorf("serve gRPC on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// Drain takes no more calls and waits until those under way are answered, but no longer than ctx; then it cuts them off.
func (s *grpcServer) Drain(ctx context.Context) error {
	s.health.end()
	done := make(chan struct{})
	go func() {
		s.server.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.server.Stop()
		<-done
		return fmt.Errorf("gRPC calls were still under way when the time to drain was up: %w", ctx.Err())
	}
}

// vitals is grpc.health.v1: a service is serving while its context is ready, and the process, "", while all are. What they go on
// without changes nothing.
type vitals struct {
	*health.Server
	notReady func(context.Context) map[string]error
	services map[string]string // full name of a service -> its context
	ended    context.Context
	end      context.CancelFunc // ends the watches, which would never end by themselves
}

func newVitals(notReady func(context.Context) map[string]error, services map[string]string) *vitals {
	v := &vitals{Server: health.NewServer(), notReady: notReady, services: services}
	v.ended, v.end = context.WithCancel(context.Background())
	context.AfterFunc(v.ended, v.Shutdown)
	return v
}

// look brings the statuses up to date.
func (v *vitals) look(ctx context.Context) {
	broken := v.notReady(ctx)
	as := func(ok bool) healthpb.HealthCheckResponse_ServingStatus {
		if ok {
			return healthpb.HealthCheckResponse_SERVING
		}
		return healthpb.HealthCheckResponse_NOT_SERVING
	}
	for service, name := range v.services {
		v.SetServingStatus(service, as(broken[name] == nil))
	}
	v.SetServingStatus("", as(len(broken) == 0))
}

// Check implements healthpb.HealthServer.
func (v *vitals) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	v.look(ctx)
	return v.Server.Check(ctx, req)
}

// List implements healthpb.HealthServer.
func (v *vitals) List(ctx context.Context, req *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	v.look(ctx)
	return v.Server.List(ctx, req)
}

// lookEvery is how soon a watcher learns that a status has changed. Nobody looks while nobody watches.
const lookEvery = time.Second

// Watch implements healthpb.HealthServer. It ends with the drain.
func (v *vitals) Watch(req *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(v.ended, cancel)()
	v.look(ctx)
	go func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				v.look(ctx)
			}
		}
	}()
	return v.Server.Watch(req, watch{stream, ctx})
}

type watch struct {
	healthpb.Health_WatchServer
	ctx context.Context
}

func (w watch) Context() context.Context { return w.ctx }

// serverInterceptor is the edge of a context's gRPC contract, on any wire: it takes the correlation id up, turns errors
// into statuses, logs those whose detail stays here, and makes a panic one call's trouble.
func serverInterceptor(log *slog.Logger, tracer *telemetry.Tracer) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (res any, err error) {
		ctx, op := tracer.Enter(ctx, correlation(ctx), traceParent(ctx), telemetry.Server)
		ctx = telemetry.WithLogger(ctx, log)
		var trouble error // a refusal is none, but an answer
		defer func() {
			if p := recover(); p != nil {
				log.ErrorContext(ctx, "handler panicked", "method", info.FullMethod, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				res, err, trouble = nil, fault.ToGRPC(errPanicked), errPanicked
			}
			if op.Kept(trouble) {
				op.Name = info.FullMethod
				op.End(trouble, attribute.String("rpc.system", "grpc"), attribute.String("rpc.grpc.status_code", status.Code(err).String()))
			}
		}()
		res, err = handler(ctx, req)
		if err == nil {
			return res, nil
		}
		kind := fault.KindOf(err)
		if kind == fault.Internal || kind == fault.Unavailable {
			trouble = err
		}
		if kind == fault.Internal && ctx.Err() == nil {
			log.ErrorContext(ctx, "call failed", "method", info.FullMethod, "error", err)
		}
		return nil, fault.ToGRPC(err)
	}
}

var errPanicked = fault.New(fault.Internal, "internal", "the handler panicked")

// correlationKey is telemetry.Header as gRPC metadata has it.
const correlationKey = "x-correlation-id"

// traceParentKey is telemetry.TraceHeader as gRPC metadata has it.
const traceParentKey = "traceparent"

// traceParent names the caller's span, if it is recorded.
func traceParent(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, traceParentKey); len(v) == 1 {
		return v[0]
	}
	return ""
}

// correlation is the caller's id, or a new one: whatever a call leaves behind has an id to find it by.
func correlation(ctx context.Context) string {
	if id := metadata.ValueFromIncomingContext(ctx, correlationKey); len(id) == 1 && telemetry.ValidCorrelation(id[0]) {
		return id[0]
	}
	return telemetry.NewCorrelation()
}
