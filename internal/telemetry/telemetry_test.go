package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/orderkeep/orderkeep/internal/telemetry"
)

func TestCorrelationIsInEveryLogLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, true, slog.LevelInfo)
	ctx := telemetry.WithCorrelation(t.Context(), "req-7")
	log.With("order", "o-1").InfoContext(ctx, "confirmed")
	log.DebugContext(ctx, "hidden")
	log.InfoContext(context.Background(), "nobody's")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2:\n%s", len(lines), out.String())
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
		t.Fatal(err)
	}
	if line["correlationId"] != "req-7" || line["order"] != "o-1" || line["msg"] != "confirmed" {
		t.Errorf("logged %v", line)
	}
	if strings.Contains(lines[1], "correlationId") {
		t.Errorf("a line without a request has a correlation id: %s", lines[1])
	}
}

func TestTextLinesHaveTheCorrelationToo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.NewLogger(&out, false, slog.LevelInfo).InfoContext(telemetry.WithCorrelation(t.Context(), "req-7"), "confirmed")
	if !strings.Contains(out.String(), "correlationId=req-7") {
		t.Errorf("logged %s", out.String())
	}
}

func TestLoggerRidesOnTheContext(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	if telemetry.Logger(telemetry.WithLogger(t.Context(), log)) != log {
		t.Error("the context's logger is another")
	}
	if telemetry.Logger(t.Context()) == nil {
		t.Error("a context without a logger has none to fall back to")
	}
}

func TestCorrelationFromOutsideIsKeptOnlyIfItIsHarmless(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"": false, "req-7": true, "!~": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false,
		"two words": false, "line\nfeed": false, "\x7f": false, "müller": false,
	} {
		if got := telemetry.ValidCorrelation(id); got != want {
			t.Errorf("%q is valid: %t, want %t", id, got, want)
		}
	}
	if a, b := telemetry.NewCorrelation(), telemetry.NewCorrelation(); a == b || !telemetry.ValidCorrelation(a) {
		t.Errorf("made %q and %q", a, b)
	}
	if telemetry.Correlation(t.Context()) != "" {
		t.Error("a context without a correlation id has one")
	}
}
