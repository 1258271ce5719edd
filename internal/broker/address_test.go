package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/orderkeep/orderkeep/internal/broker"
	"github.com/orderkeep/orderkeep/internal/outbox"
	"github.com/twmb/franz-go/pkg/kfake"
	"pgregory.net/rapid"
)

func TestCheckSaysWhatIsWrongWithAURLAndNeverRepeatsIt(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for url, want := range map[string]string{
		"nats://127.0.0.1": "",
		"nats://me:s3cr3t@a:4222,b:4223?prefix=shop-2&replicas=3": "",
		"amqp://me:s3cr3t@[::1]:5672/vhost":                       "",
		"amqps://me:s3cr3t@host":                                  "",
		"kafka://me:s3cr3t@a,b,c:9093?tls=true&sasl=plain":        "",
		"":                                     "must begin with",
		"127.0.0.1:4222":                       "must begin with",
		"redis://me:s3cr3t@host":               "must begin with",
		"nats://":                              "names no host",
		"nats://me:s3cr3t@":                    "names no host",
		"nats://me:s3cr3t@a,,b":                "names no host",
		"nats://me:s3cr3t%zz@a":                "is not a URL",
		"nats://me:s3cr3t@a:port":              "is not a URL",
		"nats://me:s3cr3t@a:70000":             "has a port",
		"amqp://me:s3cr3t#@a":                  "is not a URL", // what stands before the # is taken for a host and a port
		"nats://me:s3cr3t@a/path":              "has a path",
		"kafka://me:s3cr3t@a?tls=s3cr3t":       "neither true nor false",
		"kafka://me:s3cr3t@a?sasl=s3cr3t":      "none of plain",
		"nats://me:s3cr3t@a?prefix=s3cr3t%20x": "has a prefix",
		"nats://me:s3cr3t@a?replicas=9":        "has replicas",
		"nats://me:s3cr3t@a?s3cr3t=1":          "has a setting that",
		"amqp://me:s3cr3t@a?replicas=3":        "has a setting that",
		"nats://me:s3cr3t@a?ca=/nowhere":       "has a ca but no TLS",
		"amqps://me:s3cr3t@a?ca=/nowhere":      "has a ca that cannot be read",
		"nats://me:s3cr3t@a?%zz":               "has settings that are not",
	} {
		err := broker.Check(url)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error repeats what may be a password: %v", url, err)
		}
	}
}

func TestMaskedHidesWhatProvesWhoOneIs(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"":                              "",
		"nats://127.0.0.1:4222":         "nats://127.0.0.1:4222",
		"nats://t0k3n@host":             "nats://xxxxx@host",
		"kafka://me:s3cr3t@a:1,b:2?x=y": "kafka://me:xxxxx@a:1,b:2?x=y",
		"amqp://me:s3cr3t@[::1]:5672/v": "amqp://me:xxxxx@[::1]:5672/v",
		"amqp://me:s3/cr3t@host/v":      "amqp://me:xxxxx@host/v",
		"amqp://me:s3@cr3t@host/v":      "amqp://me:xxxxx@host/v",
		"amqp://s3/cr3t@host":           "amqp://xxxxx@host",
		"kafka://a:1,b:2/?prefix=p":     "kafka://a:1,b:2/?prefix=p",
	} {
		if got := broker.Masked(raw); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

// Wrong credentials, on servers that ask for some: neither an error nor the log repeats them.
func TestCredentialsAreNotPrinted(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for kind, address := range map[string]string{
		"nats":  guardedNATS(t, nil),
		"kafka": guardedKafka(t),
		"amqp":  "", // started only where it runs
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if kind == "amqp" {
				address = running(t, kind)
				address = "amqp://" + address[strings.Index(address, "@")+1:]
			}
			scheme, rest, _ := strings.Cut(address, "://")
			b, log := connectLogged(t, scheme+"://me:"+secret+"@"+rest)
			eventually(t, "it is refused", func() bool { return strings.Contains(log.String(), "the broker is away") })
			err := b.Ready(t.Context())
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("ready: %v", err)
			}
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log has the password:\n%s", log)
			}
		})
	}
}

func TestCredentialsAndTLSAreUsed(t *testing.T) {
	t.Parallel()
	certificate, ca := selfSigned(t)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	kafka := guardedKafka(t, kfake.TLS(config), kfake.Superuser("PLAIN", "other", "right"))
	for name, url := range map[string]string{
		"nats":             strings.Replace(guardedNATS(t, config), "://", "://me:right@", 1) + "?tls=true&ca=" + ca,
		"kafka with SCRAM": strings.Replace(kafka, "://", "://me:right@", 1) + "?tls=true&prefix=one&ca=" + ca,
		"kafka with PLAIN": strings.Replace(kafka, "://", "://other:right@", 1) + "?tls=true&prefix=two&sasl=plain&ca=" + ca,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf()
			b := connect(t, url, s.subscription("c", textType))
			publish(t, b, text("a", "x"))
			s.holds(t, 1)
		})
	}
}

// guardedNATS is a server that wants the user me and the password right.
func guardedNATS(t *testing.T, config *tls.Config) string {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, Username: "me", Password: "right", JetStream: true, StoreDir: t.TempDir(),
		NoSigs: true, NoLog: true, TLSConfig: config, TLSTimeout: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not answer")
	}
	return "nats://" + s.Addr().String()
}

func guardedKafka(t *testing.T, more ...kfake.Opt) string {
	t.Helper()
	c, err := kfake.NewCluster(append(more, kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "me", "right"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return "kafka://" + c.ListenAddrs()[0]
}

// selfSigned makes a certificate of 127.0.0.1 and writes it to a file, to be trusted.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// No wave has a subject twice, and the waves one after the other hold every subject's events in order.
func TestWavesHoldASubjectOnceEach(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var events []outbox.Event
		for range rapid.IntRange(0, 60).Draw(t, "events") {
			events = append(events, text(rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "subject"), "x"))
		}
		var all []outbox.Event
		for _, wave := range broker.Waves(events) {
			for _, ids := range bySubject(wave) {
				if len(ids) > 1 {
					t.Fatal("a subject is twice in one wave")
				}
			}
			all = append(all, wave...)
		}
		want, got := bySubject(events), bySubject(all)
		for subject, ids := range want {
			if !slices.Equal(ids, got[subject]) || len(got) != len(want) {
				t.Fatalf("subject %q: %v, want %v", subject, got[subject], ids)
			}
		}
	})
}
