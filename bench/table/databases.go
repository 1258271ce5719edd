package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/bench/programs"
	_ "modernc.org/sqlite" // the engine of the one process, to see what it alone allows
)

// server is a PostgreSQL of this benchmark's own, with its settings as they come and fsync on.
type server struct {
	bin, dir string
	as       []string // it refuses to run as root
}

// postgresServer makes one that listens on a socket in its directory. It is stopped at the end of the part.
func (b *bench) postgresServer() (*server, error) {
	s := &server{dir: b.bin("pg")}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is right
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = append(found, path)
		}
	}
	found = slices.DeleteFunc(found, func(path string) bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(path), "pgbench"))
		return err != nil
	})
	if len(found) == 0 {
		return nil, errors.New("there is no PostgreSQL with pgbench here")
	}
	s.bin = filepath.Dir(found[len(found)-1])
	if err := errors.Join(os.RemoveAll(s.dir), os.Mkdir(s.dir, 0o700)); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
		}
		s.as = []string{"runuser", "-u", "postgres", "--"}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := errors.Join(os.Chown(s.dir, uid, gid), os.Chmod(b.dir, 0o755)); err != nil {
			return nil, err
		}
	}
	if _, err := s.run(b.ctx, "initdb", "-D", s.dir+"/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"); err != nil {
		return nil, err
	}
	if _, err := s.run(b.ctx, "pg_ctl", "-D", s.dir+"/data", "-w", "-l", s.dir+"/log", "-o", "-c listen_addresses= -c unix_socket_directories='"+s.dir+"'", "start"); err != nil {
		return nil, err
	}
	b.later(func() { _, _ = s.run(context.Background(), "pg_ctl", "-D", s.dir+"/data", "-m", "immediate", "stop") })
	return s, nil
}

// run runs a program of PostgreSQL.
func (s *server) run(ctx context.Context, name string, args ...string) (string, error) {
	line := slices.Concat(s.as, []string{filepath.Join(s.bin, name)}, args)
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.Dir = s.dir
	// The server inherits what pg_ctl has: with a pipe of ours its end would never come.
	out, err := os.CreateTemp("", "okbench")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	err = c.Run()
	text, _ := os.ReadFile(out.Name()) // what it says only explains the error
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return string(text), err
}

func (s *server) sql(ctx context.Context, statements ...string) error {
	args := []string{"-h", s.dir, "-U", "postgres", "-qv", "ON_ERROR_STOP=1"}
	for _, x := range statements {
		args = append(args, "-c", x)
	}
	_, err := s.run(ctx, "psql", args...)
	return err
}

// database makes a database with a user of its own, and returns the setting that names it.
func (s *server) database(ctx context.Context, context string) (setting string, err error) {
	err = s.sql(ctx, "CREATE ROLE "+context+" LOGIN", "CREATE DATABASE "+context+" OWNER "+context, "REVOKE CONNECT ON DATABASE "+context+" FROM PUBLIC")
	return fmt.Sprintf("%s_DB=postgres://%s@/%[2]s?host=%[3]s", strings.ToUpper(context), context, s.dir), err
}

// hot is the smallest durable write of PostgreSQL: one row, one UPDATE a transaction.
func (s *server) hot(b *bench, clients int) (float64, error) {
	out, err := s.run(b.ctx, "pgbench", "-h", s.dir, "-U", "postgres", "-n", "-f", s.dir+"/hot.sql", "-c", strconv.Itoa(clients), "-j", "2",
		"-T", strconv.Itoa(max(1, int(b.time.Seconds()))), "postgres")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "tps = "); ok {
			number, _, _ := strings.Cut(rest, " ")
			return strconv.ParseFloat(number, 64)
		}
	}
	return 0, fmt.Errorf("pgbench does not say its rate: %s", out)
}

// postgres measures one process on PostgreSQL beside pgbench on the same server.
func (b *bench) postgres() error {
	s, err := b.postgresServer()
	if err != nil {
		return err
	}
	if err := s.sql(b.ctx, "CREATE TABLE hot (id int PRIMARY KEY, n bigint NOT NULL)", "INSERT INTO hot VALUES (1, 0)"); err != nil {
		return err
	}
	if err := os.WriteFile(s.dir+"/hot.sql", []byte("UPDATE hot SET n = n + 1 WHERE id = 1;\n"), 0o644); err != nil {
		return err
	}
	best, with := 0.0, 0
	for _, clients := range []int{1, 8, 32} {
		tps, err := s.hot(b, clients)
		if err != nil {
			return err
		}
		if tps > best {
			best, with = tps, clients
		}
	}
	var settings []string
	for _, context := range []string{"orders", "inventory", "payments", "simulated_provider"} {
		setting, err := s.database(b.ctx, context)
		if err != nil {
			return err
		}
		settings = append(settings, setting)
	}
	p, err := b.serve("postgres", settings...)
	if err != nil {
		return err
	}
	if err := stocked(p.URL); err != nil {
		return err
	}
	all := []named{{pg1, orders(p.URL, 1, 1, false)}, {pg1000, orders(p.URL, 1000, 1, false)}}
	for _, x := range all {
		if _, err := b.shoot(x.name, x.shots, true); err != nil {
			return err
		}
	}
	for range b.rounds {
		tps, err := s.hot(b, with)
		if err != nil {
			return err
		}
		b.note(hotRow, "/s", tps)
		for _, x := range all {
			if _, err := b.shoot(x.name, x.shots, false); err != nil {
				return err
			}
		}
	}
	return b.proven("PostgreSQL", "postgres", settings, p)
}

// topologies measures the services apart beside the one process, each form alone and in turn with the others: none idles beside the one that is
// measured.
func (b *bench) topologies() error {
	broker, err := b.start(nil, "orderkeep", "broker", "--data", b.at("broker"), "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	forms := []form{
		{name: alone, data: "alone"},
		{name: threeGRPC, data: "grpc", scheme: "grpc", replicas: 1},
		{name: threeREST, data: "rest", scheme: "http", replicas: 1},
	}
	if s, err := b.postgresServer(); err != nil {
		b.missing[replicas] = err.Error()
	} else {
		setting, err := s.database(b.ctx, "inventory")
		if err != nil {
			return err
		}
		forms = append(forms, form{name: replicas, data: "replicas", scheme: "grpc", replicas: 2, settings: []string{setting}})
	}
	for round := range b.rounds {
		for _, f := range forms {
			door, shelf, all, err := b.form(f, broker.URL)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if round == 0 {
				if err := stocked(shelf); err != nil {
					return err
				}
			}
			s := orders(door, 1000, 1, false)
			s.by = all
			if _, err := b.shoot(f.name, s, true); err != nil {
				return err
			}
			if _, err := b.shoot(f.name, s, false); err != nil {
				return err
			}
			if f.replicas == 2 {
				if _, err := b.shoot(replicas1, orders(door, 1, 1, false), false); err != nil {
					return err
				}
			}
			memory := int64(0)
			for _, p := range all {
				memory += p.Resident()
			}
			if memory > 0 {
				b.note("memory of all programs: "+f.name, "MB", float64(memory)/(1<<20))
			}
			if caller := all["Orders"]; caller != nil {
				_ = caller.Stop() // first, and again below, where it says how
			}
			for who, p := range all {
				if err := p.Stop(); err != nil {
					return fmt.Errorf("%s: %s does not end well: %w", f.name, who, err)
				}
			}
		}
	}
	for _, f := range forms {
		if err := b.proven(f.name, f.data, f.settings); err != nil {
			return err
		}
	}
	return nil
}

// form is one way to run Orderkeep.
type form struct {
	name, data, scheme string // scheme "": one process
	replicas           int    // of Inventory
	settings           []string
}

// form starts one, and returns where orders and stock are, and its programs by name.
func (b *bench) form(f form, broker string) (door, shelf string, all map[string]*programs.Program, err error) {
	if f.scheme == "" {
		p, err := b.serve(f.data, f.settings...)
		if err != nil {
			return "", "", nil, err
		}
		return p.URL, p.URL, map[string]*programs.Program{"the process": p}, nil
	}
	settings := append([]string{"BROKER_URL=" + broker}, f.settings...)
	all = map[string]*programs.Program{}
	service := func(program, name string, more ...string) (address string, err error) {
		args := append([]string{"--data", b.at(f.data), "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"}, more...)
		p, err := b.start(settings, program, args...)
		if err != nil {
			return "", err
		}
		all[name] = p
		if f.scheme == "http" {
			return host(p.URL), nil
		}
		return p.GRPC, nil
	}
	var shelves []string
	for i := range f.replicas {
		at, err := service("inventory", fmt.Sprintf("Inventory %d", i+1))
		if err != nil {
			return "", "", nil, err
		}
		shelves = append(shelves, at)
	}
	payments, err := service("payments", "Payments")
	if err != nil {
		return "", "", nil, err
	}
	if _, err := service("orders", "Orders", "--inventory-url", f.scheme+"://"+strings.Join(shelves, ","), "--payments-url", f.scheme+"://"+payments); err != nil {
		return "", "", nil, err
	}
	return all["Orders"].URL, all["Inventory 1"].URL, all, nil
}

// groups measures what SQLite alone allows: an order's three rows in a transaction with others, synced to disk.
func (b *bench) groups() error {
	if err := os.MkdirAll(b.at("sqlite"), 0o700); err != nil {
		return err
	}
	d, err := sql.Open("sqlite", "file:"+filepath.Join(b.at("sqlite"), "floor.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=wal_autocheckpoint(4000)&_txlock=immediate")
	if err != nil {
		return err
	}
	defer d.Close()
	d.SetMaxOpenConns(1)
	if _, err := d.ExecContext(b.ctx, `CREATE TABLE a (id TEXT PRIMARY KEY, x TEXT) WITHOUT ROWID; CREATE TABLE b (id TEXT PRIMARY KEY, x TEXT) WITHOUT ROWID;
		CREATE TABLE c (n INTEGER PRIMARY KEY, x TEXT)`); err != nil {
		return err
	}
	for range b.rounds {
		for _, g := range []struct {
			name string
			size int
		}{{group1, 1}, {group64, 64}} {
			rate, err := b.group(d, g.size)
			if err != nil {
				return err
			}
			b.note(g.name, "/s", rate)
		}
	}
	return nil
}

func (b *bench) group(d *sql.DB, size int) (float64, error) {
	marks := strings.Repeat(",(?,?)", size)[1:]
	n := 0
	began := time.Now()
	for time.Since(began) < b.time {
		tx, err := d.BeginTx(b.ctx, nil)
		if err != nil {
			return 0, err
		}
		var keyed, plain []any
		for range size {
			id, err := uuid.NewV7()
			if err != nil {
				return 0, err
			}
			keyed, plain = append(keyed, id.String(), "text of a row"), append(plain, nil, "text of a row")
		}
		_, err1 := tx.ExecContext(b.ctx, "INSERT INTO a VALUES "+marks, keyed...)
		_, err2 := tx.ExecContext(b.ctx, "INSERT INTO b VALUES "+marks, keyed...)
		_, err3 := tx.ExecContext(b.ctx, "INSERT INTO c VALUES "+marks, plain...)
		if err := errors.Join(err1, err2, err3, tx.Commit()); err != nil {
			return 0, err
		}
		n += size
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
