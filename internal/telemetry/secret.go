package telemetry

import (
	"fmt"
	"log/slog"
)

// redacted stands for what must not be told.
const redacted = "[redacted]"

// Secret is a text that is somebody's own: a provider's token, a customer's name. However it is printed, logged or marshalled, it is
// not there. string(s) is what it says, for the database and the wires that need it.
type Secret string

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// Format implements fmt.Formatter, so that no verb shows it.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, and with it JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
