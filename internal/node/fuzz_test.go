package node

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzPeerURL reads INVENTORY_URL and PAYMENTS_URL. What is taken names hosts that can be dialled, one for REST, and nothing in
// which a password could stand.
func FuzzPeerURL(f *testing.F) {
	for _, s := range []string{"grpc://a:1,b:2,[::1]:3", "grpcs://host:443", "http://host:3001/base", "https://a,b", "grpc://user:word@h:1", "grpc://h", "grpc://h:1/x",
		"grpc://h:1,", "http://", "ftp://h", "grpc://h:1?x#y", "grpc://h:port"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseAddress(raw)
		if err != nil {
			if len(raw) > 40 && strings.Contains(err.Error(), raw) {
				t.Errorf("the refusal repeats %q: %v", raw, err)
			}
			return
		}
		grpc := strings.HasPrefix(a.scheme, "grpc")
		if len(a.hosts) == 0 || !grpc && len(a.hosts) > 1 {
			t.Errorf("took %q as %+v", raw, a)
		}
		for _, h := range a.hosts {
			u := url.URL{Scheme: a.scheme, Host: h}
			if u.Hostname() == "" || strings.Contains(h, "@") {
				t.Errorf("took %q with the host %q", raw, h)
			}
			if _, port, err := net.SplitHostPort(h); grpc && (err != nil || port == "") {
				t.Errorf("took %q, and %q cannot be dialled: %v", raw, h, err)
			}
		}
	})
}

// FuzzSettings reads the settings that have a form of their own: what is taken is written and read again as the same.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{"1MiB", "65536", "0", "9223372036854775807GiB", " 5 KiB", "-1", "10.0.0.0/8, 127.0.0.1", "::1,fe80::1%eth0", "::ffff:10.0.0.1/120", ",,", "127.0.0.1:3000", "[::1]:0", ":x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var b, b2 Bytes
		if b.UnmarshalText(text) == nil {
			if b < 0 {
				t.Errorf("%q is %d bytes", text, b)
			}
			if err := b2.UnmarshalText([]byte(b.String())); err != nil || b2 != b {
				t.Errorf("%q is %d bytes, written %q, read again %d, %v", text, b, b, b2, err)
			}
		}
		var p, p2 Prefixes
		if p.UnmarshalText(text) == nil {
			if err := p2.UnmarshalText([]byte(p.String())); err != nil || !slices.Equal(p, p2) {
				t.Errorf("%q is %q, read again %q, %v", text, p, p2, err)
			}
		}
		if listenMistake(string(text)) == "" {
			if _, _, err := net.SplitHostPort(string(text)); err != nil {
				t.Errorf("%q is no address: %v", text, err)
			}
		}
	})
}
