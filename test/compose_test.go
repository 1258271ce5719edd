package test

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/orderkeep/orderkeep/internal/db/dbtest"
	"github.com/orderkeep/orderkeep/internal/porttest"
	"github.com/orderkeep/orderkeep/test/stage"
)

// TestComposeSells starts what compose.yaml describes without a container engine: the same programs with the environment of image
// and service, on the same servers with the same files and commands. Only addresses differ, and what listens for others.
func TestComposeSells(t *testing.T) {
	t.Parallel()
	d, env := newDeployment(t), passwords(t)
	project, err := d.project(env)
	if err != nil {
		t.Fatal(err)
	}
	images := d.images()
	at := map[string]string{ // address in compose.yaml -> address here
		"nats:4222":  startNATS(t, env["NATS_PASSWORD"]),
		"redis:6379": startRedis(t, project.Services["redis"]),
	}
	socket := initPostgres(t, project.Services["postgres"])
	environment := func(name string) map[string]string {
		all := maps.Clone(images[project.Services[name].Build.Target].env)
		for key, value := range project.Services[name].Environment {
			all[key] = *value
			for from, to := range at {
				all[key] = strings.Replace(all[key], from, to, 1)
			}
			all[key] = strings.Replace(all[key], "@postgres:5432/", "@/", 1)
			if strings.HasPrefix(all[key], "postgres://") {
				all[key] += "&host=" + url.QueryEscape(socket)
			}
		}
		for _, key := range []string{"ORDERKEEP_LISTEN", "ORDERKEEP_GRPC_LISTEN"} {
			if all[key] != "" {
				all[key] = "127.0.0.1:0"
			}
		}
		all["ORDERKEEP_DATA"] = t.TempDir()
		return all
	}

	s := newShop(t)
	for _, name := range []string{"inventory", "payments", "orders"} { // Orders last, because the others' ports are not known before
		x := images[name]
		e := environment(name)
		p := stage.Start(t, stage.Launch{Path: built(name), Args: x.entry[1:], Env: pairs(e)})
		at[fmt.Sprintf("%s:310%d", name, strings.Index("oip", name[:1]))] = p.GRPC
		s.of[name] = []*service{{process: p}}
		s.services = append(s.of[name], s.services...)
		stage.Eventually(t, name+" is well by the image's health check", func() bool {
			_, _, code := stage.Launch{Path: built(name), Args: x.health[1:], Env: []string{"ORDERKEEP_LISTEN=" + strings.TrimPrefix(p.URL, "http://")}}.Run(t, "")
			return code == 0
		})
		left, err := os.ReadDir(e["ORDERKEEP_DATA"])
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range left {
			if path := images[name].env["ORDERKEEP_DATA"] + "/" + entry.Name(); !slices.ContainsFunc(project.Services[name].Tmpfs, func(s string) bool { return strings.HasPrefix(s, path+":") }) {
				t.Errorf("%s writes %s into its read-only container", name, path)
			}
		}
	}

	s.stock(t, 5)
	a := s.place(t, "k", paid(visa, one))
	want(t, a, http.StatusCreated, "")
	if a.header.Get("RateLimit") == "" {
		t.Errorf("no limit is in force: %v", a.header)
	}
	want(t, s.do(t, http.MethodPost, "/v1/orders/"+a.OrderID+"/fulfil", nil), http.StatusOK, "")
	stage.Eventually(t, "Inventory and Payments hear of it, by NATS", func() bool {
		return s.get(t, "/v1/orders/"+a.OrderID).Settlement == "done"
	})
	tools := project.Services["orderkeep"]
	if out, log, code := (stage.Launch{Path: built("orderkeep"), Args: tools.Command, Env: pairs(environment("orderkeep"))}).Run(t, ""); code != 0 || !strings.Contains(out, "every promise is kept") {
		t.Errorf("%v exits with %d:\n%s%s", tools.Command, code, out, log)
	}
	s.close(t)

	// What one context was given does not open what another keeps.
	own := map[string]string{"orders": "ORDERS_DB", "inventory": "INVENTORY_DB", "payments": "PAYMENTS_DB", "simulated_provider": "SIMULATED_PROVIDER_DB"}
	databases := environment("orderkeep")
	for who, setting := range own {
		for whose := range own {
			u, err := url.Parse(databases[setting])
			if err != nil {
				t.Fatal(err)
			}
			u.Path = "/" + whose
			conn, err := pgx.Connect(context.Background(), u.String())
			if err == nil {
				conn.Close(context.Background())
			}
			if (err == nil) != (who == whose) {
				t.Errorf("%s at the database %s: %v", who, whose, err)
			}
		}
	}
}

// startNATS runs a server with the file of deploy/, but for its addresses and its directory, and returns where it answers.
func startNATS(t *testing.T, password string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	// The server looks for a variable in the file before the environment, of which this process has one only.
	if err := os.WriteFile(file, []byte(fmt.Sprintf("NATS_PASSWORD: %q\n", password)+readFile(t, "../deploy/nats.conf")), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !o.JetStream || !o.SyncAlways || o.StoreDir != "/data" || o.Port != 4222 || o.HTTPHost != "127.0.0.1" || o.HTTPPort != 8222 {
		t.Errorf("it is not a JetStream that syncs always into /data, on 4222, with its health at 127.0.0.1:8222")
	}
	o.StoreDir, o.Host, o.Port, o.HTTPPort, o.NoLog, o.NoSigs = t.TempDir(), "127.0.0.1", server.RANDOM_PORT, server.RANDOM_PORT, true, true
	n, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go n.Start()
	t.Cleanup(func() {
		n.Shutdown()
		n.WaitForShutdown()
	})
	if !n.ReadyForConnections(stage.Patience) {
		t.Fatal("NATS does not answer")
	}
	res, err := http.Get("http://" + n.MonitorAddr().String() + "/healthz?js-enabled-only=true") //nolint:noctx // a server in this process
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the health check of compose.yaml gets %s", res.Status)
	}
	return n.Addr().String()
}

// startRedis runs the service's command, on another port, and returns where it answers.
func startRedis(t *testing.T, s types.ServiceConfig) string {
	t.Helper()
	stage.Need(t, "redis-server")
	port := strconv.Itoa(porttest.Port(t))
	command := []string(s.Command)
	script := strings.Replace(command[2], "save \"\"\n", "save \"\"\nbind 127.0.0.1\nport "+port+"\n", 1)
	if script == command[2] {
		t.Fatalf("there is no place for a port in: %s", script)
	}
	cmd := exec.Command(command[0], command[1], script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+*s.Environment["REDISCLI_AUTH"])
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		for said.Scan() { // until its end
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("redis-server does not end well: %v", err)
		}
	})
	for said.Scan() {
		if strings.Contains(said.Text(), "eady to accept connections") {
			return net.JoinHostPort("127.0.0.1", port)
		}
	}
	t.Fatalf("redis-server ended before it answered")
	return ""
}

// initPostgres runs the file that the service mounts for its first start on a real server, and returns where that has its socket.
func initPostgres(t *testing.T, s types.ServiceConfig) string {
	t.Helper()
	psql := stage.Need(t, "psql")
	admin := dbtest.Admin(t, "postgres")
	var file string
	for _, v := range s.Volumes {
		if strings.HasPrefix(v.Target, "/docker-entrypoint-initdb.d/") {
			file = v.Source
		}
	}
	run := func(env ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, psql, "--no-psqlrc", "--file", file, admin)
		cmd.Env = append(os.Environ(), env...)
		return cmd.CombinedOutput()
	}
	if out, err := run(); err == nil {
		t.Errorf("it makes users without passwords:\n%s", out)
	}
	var env []string
	for key, value := range s.Environment {
		env = append(env, key+"="+*value)
	}
	if out, err := run(env...); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("host")
}
