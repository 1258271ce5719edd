package httpd

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/rate"
)

// Clients says who a request comes from. The zero Clients goes by the address of the connection.
type Clients struct {
	Proxies []netip.Prefix // whose X-Forwarded-For, and Header, are believed
	Header  string         // in which a proxy names the API client that it knows, or ""
}

// maxClientName bounds what a proxy may name a client: a key of a store in memory.
const maxClientName = 128

// of names the client of r: "client:" and a name, or "address:" and an address.
func (c Clients) of(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "address:" + r.RemoteAddr // a test's, or a listener of another kind than TCP
	}
	addr := at.Addr().Unmap()
	if c.trusted(addr) {
		if name := r.Header.Get(c.Header); c.Header != "" && name != "" && len(name) <= maxClientName {
			return "client:" + name
		}
		addr = c.forwarded(r, addr)
	}
	return "address:" + network(addr)
}

func (c Clients) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(c.Proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// forwarded is the last address that a trusted proxy vouches for. What stands before it in the header is the client's own
// claim.
func (c Clients) forwarded(r *http.Request, from netip.Addr) netip.Addr {
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return from
		}
		from = a.Unmap().WithZone("")
		if !c.trusted(from) {
			return from
		}
	}
	return from
}

// network is what one client has: an IPv4 address, or the 64 bits that a provider gives to one line of IPv6.
func network(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a.String()
	}
	return p.String()
}

var errRateLimited = fault.New(fault.Unavailable, "rate_limited", "")

// admit counts r against its client's limit, or answers 429 and reports false. The headers are those of
// draft-ietf-httpapi-ratelimit-headers-10.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	if s.o.Rate == nil {
		return true
	}
	limit := s.o.Rate.Limit()
	d := s.o.Rate.Take(r.Context(), s.o.Clients.of(r))
	h := w.Header()
	h.Set("RateLimit-Policy", `"client";q=`+strconv.Itoa(limit.Requests)+";w="+strconv.Itoa(limit.Seconds()))
	h.Set("RateLimit", `"client";r=`+strconv.Itoa(d.Remaining)+";t="+strconv.Itoa(rate.WholeSeconds(d.Reset)))
	if d.OK {
		return true
	}
	f := errRateLimited.Detailf("More than %s requests came from this client. Wait as long as Retry-After says, and repeat the request.", limit)
	f.RetryAfter = d.Retry
	WriteProblem(w, r, f)
	return false
}
