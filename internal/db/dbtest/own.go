package dbtest

import (
	"io"
	"path/filepath"
	"testing"
)

// Server is a PostgreSQL server for one test alone, which may end it and start it again.
type Server struct{ s *server }

// OwnPostgres starts one. It ends with the test.
func OwnPostgres(t testing.TB) *Server {
	t.Helper()
	s := &Server{started(t, startServer)}
	t.Cleanup(func() {
		_ = s.s.stdin.Close()
		_, _ = io.Copy(io.Discard, s.s.out) // until the shell has cleaned up and ended
	})
	return s
}

// New returns the URL of a database with nothing in it that its role can see, as Postgres.New does.
func (s *Server) New(t testing.TB) string {
	t.Helper()
	return s.s.newSchema(t)
}

// Socket is the path of the Unix socket where the server listens.
func (s *Server) Socket() string { return filepath.Join(s.s.dir, ".s.PGSQL.5432") }

// Stop ends the server as a power cut does: without a checkpoint, whoever is connected.
func (s *Server) Stop(t testing.TB) { s.tell(t, "stop") }

// Start starts it on the data that it had, and lets it recover.
func (s *Server) Start(t testing.TB) { s.tell(t, "start") }

func (s *Server) tell(t testing.TB, what string) {
	t.Helper()
	_, err := io.WriteString(s.s.stdin, what+"\n")
	if err == nil {
		err = s.s.ready()
	}
	if err != nil {
		t.Fatal(err)
	}
}
