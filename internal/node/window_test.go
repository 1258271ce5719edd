package node_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is kept for looking back keeps nobody from serving.
func TestServesWhereRecentLogLinesCannotBeKept(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.WindowSize, cfg.WindowAge = 1<<20, time.Hour
	if err := os.WriteFile(filepath.Join(cfg.Data, "window"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := start(t, cfg, (&fake{name: "inventory", journal: &journal{}}).context())
	for _, path := range []string{"/readyz", "/metrics"} {
		if code, _, body := get(t, "http://"+n.addr+path); code != http.StatusOK {
			t.Errorf("GET %s = %d %s", path, code, body)
		}
	}
	if code, _, body := get(t, "http://"+n.addr+"/internal/window"); code >= http.StatusInternalServerError {
		t.Errorf("GET /internal/window = %d %s", code, body)
	}
	if log := n.log.String(); strings.Count(log, "recent log lines and spans are not kept") != 1 {
		t.Errorf("the log:\n%s", log)
	}
}
