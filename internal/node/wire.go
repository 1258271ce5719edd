package node

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/orderkeep/orderkeep/internal/call"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/resolver/manual"
)

// pingEvery is how often a client asks over a connection with calls under way whether the peer is still there.
const pingEvery = 30 * time.Second

// reconnect is the wait between two attempts to connect. gRPC's own grows to two minutes, for which a peer that is back
// would be taken for absent.
var reconnect = backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}

// dial makes the peer of a context at an address that Check has accepted. Nothing is connected yet: a peer that is not
// there is a failed call, not a failed start.
func dial(name, address string, target *call.Target) (Peer, func() error, error) {
	a, err := parseAddress(address)
	if err != nil {
		return Peer{}, nil, err
	}
	switch a.scheme {
	case "grpc", "grpcs":
		transport := insecure.NewCredentials()
		if a.scheme == "grpcs" {
			transport = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
		}
		where, replicas := endpoint(name, a.hosts)
		// Each call goes to the next replica that is there. The keepalive finds one that vanished without a word.
		conn, err := grpc.NewClient(where, replicas, grpc.WithTransportCredentials(transport),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`), grpc.WithDisableRetry(),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: 10 * time.Second}),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 3 * time.Second}))
		if err != nil {
			return Peer{}, nil, fmt.Errorf("dial %s: %w", name, err)
		}
		return Peer{Conn: target.Conn(conn)}, conn.Close, nil
	default:
		// As many idle connections as calls in flight: fewer would open and close one for each call under load.
		base := &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: 90 * time.Second,
			MaxIdleConns: 512, MaxIdleConnsPerHost: 512, ForceAttemptHTTP2: true,
		}
		stop := func() error { base.CloseIdleConnections(); return nil }
		return Peer{URL: address, HTTP: target.Client(base)}, stop, nil
	}
}

// endpoint is what gRPC dials, and how it finds the replicas there: behind one name all addresses that DNS has for it, asked
// again when one is lost; of several names each is one replica, looked up whenever it is connected to.
func endpoint(name string, hosts []string) (where string, replicas grpc.DialOption) {
	if len(hosts) == 1 {
		askDNSOften()
		return "dns:///" + hosts[0], grpc.EmptyDialOption{}
	}
	var list resolver.State
	for _, host := range hosts {
		server, _, _ := net.SplitHostPort(host)
		list.Addresses = append(list.Addresses, resolver.Address{Addr: host, ServerName: server})
	}
	r := manual.NewBuilderWithScheme("list")
	r.InitialState(list)
	return "list:///" + name, grpc.WithResolvers(r)
}

// askDNSOften lets gRPC look a name up again after as long as it waits between two attempts to connect. Its own 30 s would be an
// outage when all replicas were replaced by ones at other addresses, as a rolling deployment does.
var askDNSOften = sync.OnceFunc(func() { dns.SetMinResolutionInterval(reconnect.MaxDelay) })
