package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/broker"
	"github.com/orderkeep/orderkeep/internal/call"
	"github.com/orderkeep/orderkeep/internal/db"
	"github.com/orderkeep/orderkeep/internal/rate"
)

// Config is the settings of a process. The tags are kong's: flag, environment, default and help. The defaults stand in
// the tags alone, so that a Config made by hand says what it means; those that differ between programs are names in
// ${}, which internal/program fills in.
type Config struct {
	// Run names the contexts to run here, by whichever wire they are called. Empty: all that have no address elsewhere.
	Run []string `kong:"-"`

	Listen       string        `name:"listen" env:"ORDERKEEP_LISTEN" default:"${listen}" help:"Address to answer on. Port 0 takes a free one. There is no TLS and no authentication: name another host than the loopback only behind something that has both."`
	GRPCListen   string        `name:"grpc-listen" env:"ORDERKEEP_GRPC_LISTEN" default:"${grpc_listen}" help:"Address to answer gRPC on, for contexts in other processes; as open as --listen. Empty: none."`
	Data         string        `name:"data" env:"ORDERKEEP_DATA" default:"orderkeep-data" placeholder:"DIR" help:"Directory of the databases. Made if it is not there. Each file in it belongs to one process at a time."`
	OrdersDB     string        `name:"orders-db" env:"ORDERS_DB" placeholder:"URL" help:"Database of Orders, such as postgres://user:password@host:5432/orders. Default: sqlite:DIR/orders.db."`
	InventoryDB  string        `name:"inventory-db" env:"INVENTORY_DB" placeholder:"URL" help:"Database of Inventory, likewise. Default: sqlite:DIR/inventory.db."`
	PaymentsDB   string        `name:"payments-db" env:"PAYMENTS_DB" placeholder:"URL" help:"Database of Payments, likewise. Default: sqlite:DIR/payments.db."`
	ProviderDB   string        `name:"simulated-provider-db" env:"SIMULATED_PROVIDER_DB" placeholder:"URL" help:"Record of the simulated provider, one for all replicas of Payments. Default: sqlite:DIR/simulated-provider.db, if Payments is on SQLite too."`
	OrdersURL    string        `name:"orders-url" env:"ORDERS_URL" placeholder:"URL" help:"Where the console asks Orders, if not within this process: http:// or https:// and HOST:PORT."`
	InventoryURL string        `name:"inventory-url" env:"INVENTORY_URL" default:"${inventory_url}" help:"Where Inventory is called, if not within this process: grpc://, grpcs://, http:// or https:// and HOST:PORT. gRPC takes several, separated by commas, for replicas without a name in common."`
	PaymentsURL  string        `name:"payments-url" env:"PAYMENTS_URL" default:"${payments_url}" help:"Where Payments is called, if not within this process: grpc://, grpcs://, http:// or https:// and HOST:PORT. gRPC takes several, separated by commas, for replicas without a name in common."`
	BrokerURL    string        `name:"broker-url" env:"BROKER_URL" placeholder:"URL" help:"Broker that carries events between processes: nats://, amqp:// or kafka:// and [USER:PASSWORD@]HOST:PORT. Default: events stay within this process."`
	RateLimit    rate.Limit    `name:"rate-limit" env:"ORDERKEEP_RATE_LIMIT" default:"0" placeholder:"N/s|m|h" help:"Requests that one client may make, such as 100/s or 6000/m; 0 for any number. Health and documentation are not counted."`
	RedisURL     string        `name:"redis-url" env:"REDIS_URL" placeholder:"URL" help:"Redis where the replicas of a service count requests together: redis://HOST:PORT. Default: each process counts for itself."`
	Proxies      Prefixes      `name:"trusted-proxies" env:"ORDERKEEP_TRUSTED_PROXIES" placeholder:"CIDR" help:"Proxies in front, separated by commas, whose X-Forwarded-For and client header are believed."`
	ClientHeader string        `name:"client-header" env:"ORDERKEEP_CLIENT_HEADER" placeholder:"NAME" help:"Header in which a trusted proxy that knows its API clients names the one that asks. Default: a client is an address."`
	Processes    []string      `name:"process" env:"ORDERKEEP_PROCESSES" placeholder:"URL" help:"A process that the console looks at for figures, breakers, log lines and spans, all replicas and this process too: http:// or https:// and HOST:PORT, once for each. Default: where it asks each context."`
	ConsoleToken Secret        `name:"console-token" env:"ORDERKEEP_CONSOLE_TOKEN" placeholder:"TOKEN" help:"What people sign in to the console with, 16 characters or more. Default: the console answers this machine only, to whoever is on it."`
	CallPolicy   []string      `name:"call-policy" env:"ORDERKEEP_CALL_POLICY" placeholder:"'CALL NAME=VALUE...'" help:"Policy of one call to another context, to the payment provider or to Redis, such as 'inventory/Reserve timeout=3s attempts=2 in-flight=256 open-after=5 open-for=2s'; several are separated by commas. orderkeep calls list has the names."`
	MetricsFrom  Prefixes      `name:"metrics-from" env:"ORDERKEEP_METRICS_FROM" placeholder:"CIDR" help:"Networks, besides this machine, that may read /metrics, separated by commas."`
	WindowSize   Bytes         `name:"window-size" env:"ORDERKEEP_WINDOW_SIZE" default:"32MiB" placeholder:"SIZE" help:"Disk for recent log lines and spans, which orderkeep logs and the console show; from 1MiB to 1GiB, or 0 for none."`
	WindowAge    time.Duration `name:"window-age" env:"ORDERKEEP_WINDOW_AGE" default:"72h" help:"How long they are kept, from 1m to 720h, while there is room."`
	WindowFrom   Prefixes      `name:"window-from" env:"ORDERKEEP_WINDOW_FROM" placeholder:"CIDR" help:"Networks, besides this machine, that may read them at /internal/window, separated by commas."`
	Keep         time.Duration `name:"keep" env:"ORDERKEEP_KEEP" default:"720h" help:"How long an order and its idempotency key stay at least after its end, and events after they happened: orderkeep archive takes nothing younger. 24h or more; with --for-tests any time."`
	ArchiveFrom  Prefixes      `name:"archive-from" env:"ORDERKEEP_ARCHIVE_FROM" placeholder:"CIDR" help:"Networks, besides this machine, from which orderkeep archive may move ended orders out, separated by commas."`
	TraceURL     string        `name:"trace-url" env:"ORDERKEEP_TRACE_URL" placeholder:"URL" help:"Where people look traces up, if OTEL_EXPORTER_OTLP_ENDPOINT names a collector: an address with {traceId} or {correlationId} in it."`
	Slow         time.Duration `name:"slow" env:"ORDERKEEP_SLOW" default:"500ms" help:"What takes as long is recorded as a span, sampled or not."`
	BodyLimit    Bytes         `name:"body-limit" env:"ORDERKEEP_BODY_LIMIT" default:"1MiB" placeholder:"SIZE" help:"Largest body of a request, over REST and gRPC. The import of stock has its own limit, 256MiB."`
	ReadTimeout  time.Duration `name:"read-timeout" env:"ORDERKEEP_READ_TIMEOUT" default:"30s" help:"Time for a request to arrive whole. The import of stock has 10 minutes."`
	ForTests     bool          `name:"for-tests" env:"ORDERKEEP_FOR_TESTS" help:"Say in /readyz that what is stored here may be thrown away: orderkeep bench fills no other server unasked."`
	DrainTimeout time.Duration `name:"drain-timeout" env:"ORDERKEEP_DRAIN_TIMEOUT" default:"30s" help:"Time for the requests under way to finish after SIGTERM."`
}

// provider keeps a record of its own, as a context does, and is run by Payments.
const provider = "simulated-provider"

// The names of the settings by context, as an operator knows them.
type setting struct{ name, value string }

func (c Config) db(context string) setting {
	return map[string]setting{
		"orders":    {"ORDERS_DB", c.OrdersDB},
		"inventory": {"INVENTORY_DB", c.InventoryDB},
		"payments":  {"PAYMENTS_DB", c.PaymentsDB},
		provider:    {"SIMULATED_PROVIDER_DB", c.ProviderDB},
	}[context]
}

func (c Config) address(context string) setting {
	return map[string]setting{
		"orders":    {"ORDERS_URL", c.OrdersURL},
		"inventory": {"INVENTORY_URL", c.InventoryURL},
		"payments":  {"PAYMENTS_URL", c.PaymentsURL},
	}[context]
}

// consumers are the names of all that consume events, wherever they run. A broker that keeps nothing for those that have
// never run has to know them.
func (Config) consumers() []string { return []string{"orders", "inventory", "payments"} }

// Database returns the URL of a context's database, or the simulated provider's: the one set, or a SQLite file in the data
// directory.
func (c Config) Database(context string) string {
	if set := c.db(context).value; set != "" {
		return set
	}
	return "sqlite:" + filepath.Join(c.Data, context+".db")
}

// Elsewhere reports that a context is at an address and its database is not named: its records are out of reach.
func (c Config) Elsewhere(context string) bool {
	return c.address(context).value != "" && c.db(context).value == ""
}

// Here returns those of a program's contexts that run in this process.
func (c Config) Here(contexts []Context) []Context {
	var here []Context
	for _, x := range contexts {
		if slices.Contains(c.Run, x.Name) || len(c.Run) == 0 && c.address(x.Name).value == "" {
			here = append(here, x)
		}
	}
	return here
}

// policies are those of the calls to others, with the settings applied.
func (c Config) policies() (call.Table, error) {
	var mistakes []error
	t := call.Policies()
	for _, setting := range c.CallPolicy {
		if err := t.Set(setting); err != nil {
			mistakes = append(mistakes, fmt.Errorf("--call-policy: %w", err))
		}
	}
	return t, errors.Join(mistakes...)
}

// Check returns all mistakes in the settings at once, each with the name of its setting. contexts are those that the
// program has.
func (c Config) Check(contexts []Context) error {
	var mistakes []error
	wrong := func(name, text string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("%s: %s", name, fmt.Sprintf(text, args...)))
	}
	if why := listenMistake(c.Listen); why != "" {
		wrong("--listen", "%s", why)
	}
	if c.GRPCListen != "" {
		if why := listenMistake(c.GRPCListen); why != "" {
			wrong("--grpc-listen", "%s", why)
		}
	}
	if c.Data == "" {
		wrong("--data", "name a directory for the databases")
	}
	if c.BodyLimit < 1 {
		wrong("--body-limit", "must be at least 1 byte")
	}
	if c.ReadTimeout <= 0 {
		wrong("--read-timeout", "must be above 0")
	}
	if c.WindowSize != 0 && (c.WindowSize < 1<<20 || c.WindowSize > 1<<30) {
		wrong("--window-size", "must be from 1MiB to 1GiB, or 0 for none")
	}
	if c.WindowSize != 0 && (c.WindowAge < time.Minute || c.WindowAge > 720*time.Hour) {
		wrong("--window-age", "must be from 1m to 720h")
	}
	if c.TraceURL != "" && (!strings.HasPrefix(c.TraceURL, "https://") && !strings.HasPrefix(c.TraceURL, "http://") ||
		!strings.Contains(c.TraceURL, "{traceId}") && !strings.Contains(c.TraceURL, "{correlationId}")) {
		wrong("--trace-url", "must be http:// or https://, and have {traceId} or {correlationId} where the id goes")
	}
	if c.Keep < shortestKeep && !c.ForTests {
		wrong("--keep", "must be at least %s: for so long a key or an event may come again", shortestKeep)
	}
	if c.Keep < 0 {
		wrong("--keep", "must not be negative")
	}
	if c.DrainTimeout < 0 {
		wrong("--drain-timeout", "must not be negative")
	}
	if c.BrokerURL != "" {
		if err := broker.Check(c.BrokerURL); err != nil {
			wrong("BROKER_URL", "%v", err)
		}
	}
	if c.RedisURL != "" {
		if err := rate.CheckURL(c.RedisURL); err != nil {
			wrong("REDIS_URL", "%v", err)
		} else if c.RateLimit == (rate.Limit{}) {
			wrong("REDIS_URL", "is for counting requests together, and --rate-limit sets no limit to count for")
		}
	}
	if _, err := c.policies(); err != nil {
		mistakes = append(mistakes, err)
	}
	if c.ClientHeader != "" && len(c.Proxies) == 0 {
		wrong("--client-header", "is believed from trusted proxies only: name them with --trusted-proxies")
	}
	for i, p := range c.Processes {
		if a, err := parseAddress(p); err != nil {
			wrong("--process", "number %d %v", i+1, err)
		} else if !strings.HasPrefix(a.scheme, "http") {
			wrong("--process", "number %d is an address for gRPC: name the one for REST, http:// or https://", i+1)
		} else if slices.Contains(c.Processes[:i], p) {
			wrong("--process", "number %d is named before: once is enough", i+1)
		}
	}
	if c.ConsoleToken != "" && len(c.ConsoleToken) < shortestToken {
		wrong("--console-token", "is shorter than %d characters, and could be guessed: openssl rand -hex 16 makes one", shortestToken)
	}
	for _, name := range c.Run {
		if !slices.Contains(names(contexts), name) {
			wrong("--run", "there is no context %q; this program has %s", name, strings.Join(names(contexts), ", "))
		}
	}
	here := c.Here(contexts)
	if len(here) == 0 && len(c.Run) == 0 && len(contexts) > 0 {
		wrong("--run", "every context of this program has an address elsewhere: name those that are to run here")
	}
	checked := map[string]bool{}
	for _, x := range here {
		for _, name := range x.Peers {
			if checked[name] {
				continue
			}
			checked[name] = true
			s := c.address(name)
			if s.value != "" {
				a, err := parseAddress(s.value)
				if err != nil {
					wrong(s.name, "%v", err)
				} else if c.BrokerURL == "" && strings.HasPrefix(a.scheme, "grpc") && !slices.Contains(names(here), name) {
					wrong("BROKER_URL", "%s is in another process (%s): without a broker it would never hear that an order was cancelled. Set BROKER_URL in both; orderkeep broker runs one", name, s.name)
				}
			} else if !slices.Contains(names(here), name) {
				wrong(strings.ToUpper(name)+"_URL", "%s calls %s, which does not run in this process: say where it is", x.Name, name)
			}
		}
		if x.Client {
			for _, name := range names(contexts) {
				if s := c.address(name); s.value != "" && !checked[name] {
					checked[name] = true
					if _, err := parseAddress(s.value); err != nil {
						wrong(s.name, "%v", err)
					}
				}
			}
		}
		for _, name := range records(x) {
			if err := db.Check(c.Database(name)); err != nil {
				wrong(c.db(name).name, "%v", err)
			}
		}
		if slices.Contains(records(x), provider) && c.ProviderDB == "" && strings.HasPrefix(c.Database(x.Name), "postgres") {
			wrong(c.db(provider).name, "%s may have several processes on its server, and with a record of the simulated provider for each of them an order could be charged by two: "+
				"name a database for it on a server too, with a user of its own, or sqlite:PATH if there will only ever be one process", x.Name)
		}
	}
	return errors.Join(mistakes...)
}

// records names the databases that a context opens.
func records(x Context) []string {
	switch {
	case x.Client:
		return nil
	case x.Name == "payments":
		return []string{x.Name, provider}
	}
	return []string{x.Name}
}

// shortestKeep is longer than anybody repeats a request under its key.
const shortestKeep = 24 * time.Hour

// shortestToken is 64 bits in hexadecimal digits.
const shortestToken = 16

// Secret is a setting that is never shown.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "xxxxx"
}

// files are the paths of the contexts' databases on SQLite, by database.
func (c Config) files(here []Context) map[string]string {
	files := map[string]string{}
	for _, x := range here {
		for _, name := range records(x) {
			if path, ok := strings.CutPrefix(c.Database(name), "sqlite:"); ok {
				files[name] = path
			}
		}
	}
	return files
}

func listenMistake(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Sprintf("%q is not HOST:PORT, such as 127.0.0.1:3000", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Sprintf("%q has no port between 0 and 65535", address)
	}
	return ""
}

func names(contexts []Context) []string {
	all := make([]string, len(contexts))
	for i, x := range contexts {
		all[i] = x.Name
	}
	return all
}

// address is where a context in another process is called.
type address struct {
	scheme string
	hosts  []string // HOST:PORT; several only over gRPC
}

// parseAddress checks the URL of a context in another process. Its errors do not repeat the URL: it may hold a password.
func parseAddress(raw string) (address, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	a := address{scheme: scheme}
	list := strings.Split(rest, ",") // net/url knows one host
	switch scheme {
	case "grpc", "grpcs":
	case "http", "https":
		if len(list) > 1 {
			return a, fmt.Errorf("names several hosts, and %s takes one: give the replicas one name, or put a load balancer before them", scheme)
		}
	default:
		return a, errors.New("must begin with grpc://, grpcs://, http:// or https://")
	}
	for _, host := range list {
		u, err := url.Parse(scheme + "://" + host)
		if err == nil && u.Port() != "" {
			_, _, err = net.SplitHostPort(u.Host) // net/url takes a:b:1 for a host called a:b
		}
		switch {
		case err != nil:
			return a, errors.New("is not a URL such as grpc://host:3101 or http://host:3001")
		case u.Hostname() == "":
			return a, errors.New("names no host")
		case u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return a, errors.New("must have nothing but scheme, host, port and path")
		case strings.HasPrefix(scheme, "grpc") && u.Port() == "":
			return a, fmt.Errorf("needs a port, such as %s://host:3101", scheme)
		case strings.HasPrefix(scheme, "grpc") && strings.Trim(u.Path, "/") != "":
			return a, fmt.Errorf("has a path, and %s takes none", scheme)
		}
		a.hosts = append(a.hosts, u.Host)
	}
	return a, nil
}

// Bytes is a size; its text form takes the suffixes KiB, MiB and GiB.
type Bytes int64

var units = []struct {
	suffix string
	size   int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// UnmarshalText reads a size such as 1MiB or 65536.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := string(text)
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.size {
			break
		}
		*b = Bytes(n * u.size)
		return nil
	}
	return fmt.Errorf("%q is not a size such as 65536, 512KiB or 1MiB", s)
}

// MarshalText writes the size with the largest unit that divides it.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func (b Bytes) String() string {
	for _, u := range units {
		if b != 0 && int64(b)%u.size == 0 && u.suffix != "" && u.size > 1 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Prefixes are networks; their text form has commas between them.
type Prefixes []netip.Prefix

// UnmarshalText reads networks such as 10.0.0.0/8,127.0.0.1; a lone address is a network of one.
func (p *Prefixes) UnmarshalText(text []byte) error {
	*p = nil
	for part := range strings.SplitSeq(string(text), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if a, err := netip.ParseAddr(part); err == nil {
			*p = append(*p, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(part)
		if err != nil {
			return fmt.Errorf("%q is not a network such as 10.0.0.0/8, or an address", part)
		}
		*p = append(*p, network.Masked())
	}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (p Prefixes) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

func (p Prefixes) String() string {
	all := make([]string, len(p))
	for i, network := range p {
		all[i] = network.String()
	}
	return strings.Join(all, ",")
}
