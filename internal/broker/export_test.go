package broker

import (
	"log/slog"
	"time"
)

// NewImpatient is New for tests that crash a consumer: the broker takes it for dead after a second or so.
func NewImpatient(url string, consumers []string, log *slog.Logger) (*Bus, error) {
	return newBus(url, log, options{consumers: consumers, ackWait: 2 * time.Second, sessionTimeout: 2 * time.Second})
}

// Waves is waves.
var Waves = waves
