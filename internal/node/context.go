// Package node assembles contexts into a process: it opens each with its database, joins them by the wires that the
// settings name, serves their contracts, and drains them. It knows no context: the program hands them in.
package node

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/orderkeep/orderkeep/internal/archive"
	"github.com/orderkeep/orderkeep/internal/audit"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"google.golang.org/grpc"
)

// Context is one bounded context as a process sees it: its door.
type Context struct {
	Name  string   // such as "orders"; its database is <NAME>_DB, its address for others <NAME>_URL
	Peers []string // names of the contexts that it calls
	// Contract is the v1 OpenAPI document.
	Contract []byte
	// Open opens the context. It returns when the context can answer, except that its peers may not be there yet.
	Open func(ctx context.Context, env Env) (*Service, error)
	// Schema is that of its database.
	Schema db.Schema
	// Inspect opens the context's records for an audit, read only, beside a running process or without one.
	// db is the database's URL and provider that of the simulated provider's record.
	Inspect func(ctx context.Context, db, provider string) (audit.Source, error)
	// Client is one that keeps no records and has no contract: it only asks the contexts, over REST.
	Client bool
}

// Env is what a context gets from its process.
type Env struct {
	DB   string // the URL of its database
	Data string // the data directory, for a context's other files
	// ProviderDB is the URL of the simulated provider's record, for the context that runs it.
	ProviderDB string
	Peers      map[string]Peer
	Bus        outbox.Bus
	// Backlog is the longest that a write would wait in those of the contexts which run in this process; nil if nobody looks.
	Backlog func(contexts ...string) time.Duration
	Calls   *call.Edges        // of the process: for what it calls that is no context
	Archive archive.Rules      // for what leaves the database into an archive
	Metrics *telemetry.Metrics // of the process: a context's own have the label context
	Log     *slog.Logger

	// What a Client gets besides: the contexts of its program by name, and the token that people show it, or "".
	Fronts map[string]Front
	Token  string
	// Processes are those that Config.Processes names; none if it names none.
	Processes []Front
	// Audit proves the promises on the records within reach; nil where there are none.
	Audit func(context.Context) (audit.Report, error)
}

// Front is where a context answers REST, its own and what is for the operator.
type Front struct {
	URL  string // its base
	HTTP *http.Client
	Here bool // in this process
	// Missing says why it cannot be asked, and what to do; then there is nothing else.
	Missing string
}

// Peer is the wire to another context: exactly one of the two is set.
type Peer struct {
	// Conn speaks the peer's v1 Protobuf contract, in this process or over TCP, with the policy of internal/call around it.
	Conn grpc.ClientConnInterface
	// URL is the base of a peer that speaks only REST (http:// or https://), and HTTP the client for it.
	URL  string
	HTTP *http.Client
}

// Service is an open context.
type Service struct {
	// Routes maps a path prefix, such as "/v1/orders", to its handler. A prefix matches whole path segments.
	Routes map[string]http.Handler
	// Register adds the gRPC services of its v1 contract.
	Register func(grpc.ServiceRegistrar)
	// Ready fails while the context cannot work, for reasons of its own: not of its peers.
	Ready func(context.Context) error
	// Backlog is how long a write would wait for its transaction; nil for a context that has no queue.
	Backlog func() time.Duration
	// Write runs f in a transaction of the context's database; nil for a context that has none.
	Write outbox.Writer
	// Lag says how far behind its events are; nil for a context that has none.
	Lag func(context.Context) (outbox.Lag, error)
	// Close finishes what is in flight and closes the database. The edges have stopped taking requests before it.
	Close func(context.Context) error
}
