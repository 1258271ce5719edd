package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// address is a broker's URL, understood.
type address struct {
	kind     string   // nats, amqp or kafka
	hosts    []string // HOST:PORT, any of which may be asked
	user     *url.Userinfo
	vhost    string      // of RabbitMQ
	prefix   string      // what the names of all that is made at the broker begin with
	tls      *tls.Config // nil: no TLS
	sasl     string      // Kafka's mechanism
	replicas int         // 0: the broker's default
}

// Check says what is wrong with the URL of a broker, without repeating it: it may hold a password.
func Check(raw string) error {
	_, err := parse(raw)
	return err
}

var prefixes = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func parse(raw string) (address, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	a := address{kind: scheme, prefix: "orderkeep", sasl: "scram-sha-512"}
	port := map[string]string{"nats": "4222", "amqp": "5672", "amqps": "5671", "kafka": "9092"}[scheme]
	if !ok || port == "" {
		return a, errors.New("must begin with nats://, amqp://, amqps:// or kafka://; leave it out for events within one process")
	}
	if scheme == "amqps" {
		a.kind, a.tls = "amqp", &tls.Config{MinVersion: tls.VersionTLS12}
	}
	// net/url knows one host; brokers have several.
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndex(rest[:end], "@") + 1
	var u *url.URL
	for host := range strings.SplitSeq(rest[at:end], ",") {
		var err error
		if u, err = url.Parse(scheme + "://" + rest[:at] + host + rest[end:]); err != nil {
			return a, fmt.Errorf("is not a URL such as %s://user:password@host:%s; percent-encode what is special in the password", scheme, port)
		}
		if u.Hostname() == "" {
			return a, errors.New("names no host")
		}
		if n, err := strconv.Atoi(u.Port()); u.Port() != "" && (err != nil || n < 1 || n > 65535) {
			return a, errors.New("has a port that is not between 1 and 65535")
		}
		if u.Port() == "" {
			host = net.JoinHostPort(u.Hostname(), port)
		}
		if _, _, err := net.SplitHostPort(host); err != nil { // net/url takes a:b:1 for a host called a:b
			return a, errors.New("has a host that is none")
		}
		a.hosts = append(a.hosts, host)
	}
	a.user = u.User
	a.vhost = strings.TrimPrefix(u.Path, "/")
	if a.vhost != "" && a.kind != "amqp" {
		return a, fmt.Errorf("has a path, and %s takes none", scheme)
	}
	if u.Fragment != "" {
		return a, errors.New("has a fragment; percent-encode a # in the password")
	}
	return a, a.settings(u.RawQuery)
}

// settings reads what stands behind the question mark.
func (a *address) settings(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("has settings that are not NAME=VALUE joined by &")
	}
	for name, v := range values {
		value := v[len(v)-1]
		switch {
		case name == "prefix":
			if !prefixes.MatchString(value) {
				return errors.New("has a prefix that is not 1 to 64 letters, digits, _ and -")
			}
			a.prefix = value
		case name == "tls" && a.kind != "amqp":
			on, err := strconv.ParseBool(value)
			if err != nil {
				return errors.New("has a tls that is neither true nor false")
			}
			if on && a.tls == nil {
				a.tls = &tls.Config{MinVersion: tls.VersionTLS12}
			}
		case name == "ca":
		case name == "replicas" && a.kind != "amqp":
			if a.replicas, err = strconv.Atoi(value); err != nil || a.replicas < 1 || a.replicas > 5 {
				return errors.New("has replicas that are not a number from 1 to 5")
			}
		case name == "sasl" && a.kind == "kafka":
			if !slices.Contains([]string{"plain", "scram-sha-256", "scram-sha-512"}, value) {
				return errors.New("has a sasl that is none of plain, scram-sha-256, scram-sha-512")
			}
			a.sasl = value
		default:
			return fmt.Errorf("has a setting that this broker does not know; there are prefix and ca, tls and replicas for nats and kafka, and sasl for kafka")
		}
	}
	if file := values.Get("ca"); file != "" {
		return a.trust(file)
	}
	return nil
}

// trust makes the certificates in a file those that sign the broker's.
func (a *address) trust(file string) error {
	if a.tls == nil {
		return errors.New("has a ca but no TLS: use amqps://, or tls=true")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("has a ca that cannot be read: %w", err)
	}
	a.tls.RootCAs = x509.NewCertPool()
	if !a.tls.RootCAs.AppendCertsFromPEM(text) {
		return fmt.Errorf("has a ca without a PEM certificate: %s", file)
	}
	return nil
}

// String is the address without what is nobody's business.
func (a address) String() string { return a.kind + "://" + strings.Join(a.hosts, ",") }

// Masked returns the URL of a broker without what proves who one is: the password, or NATS's token.
func Masked(raw string) string {
	scheme, rest, _ := strings.Cut(raw, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndex(rest, "@") // also one in a password that is not percent-encoded
	if at < 0 {
		return raw
	}
	user, _, has := strings.Cut(rest[:min(at, end)], ":")
	if !has {
		return scheme + "://xxxxx" + rest[at:]
	}
	return scheme + "://" + user + ":xxxxx" + rest[at:]
}

func (a address) password() string {
	p, _ := a.user.Password()
	return p
}
