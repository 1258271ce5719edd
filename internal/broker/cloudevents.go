package broker

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/orderkeep/orderkeep/internal/outbox"
)

// contentType is that of the body, and CloudEvents' datacontenttype.
const contentType = "application/protobuf"

// attributes yields an event's CloudEvents attributes (https://github.com/cloudevents/spec, 1.0) by name, but for those
// that are empty and the content type, which each protocol has a place of its own for.
func attributes(e outbox.Event) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for _, a := range [...][2]string{
			{"specversion", "1.0"}, {"id", e.ID}, {"source", e.Source}, {"type", e.Type}, {"subject", e.Subject},
			{"time", e.Time.UTC().Format(time.RFC3339Nano)},
			{"correlationid", e.CorrelationID}, {"causationid", e.CausationID}, {"traceparent", e.TraceParent},
		} {
			if a[1] != "" && !yield(a[0], a[1]) {
				return
			}
		}
	}
}

// event reads an event from its attributes. Its error says that the message is none that any database here could take.
func event(attribute func(name string) string, data []byte) (outbox.Event, error) {
	e := outbox.Event{
		ID: attribute("id"), Source: attribute("source"), Type: attribute("type"), Subject: attribute("subject"),
		CorrelationID: attribute("correlationid"), CausationID: attribute("causationid"), TraceParent: attribute("traceparent"),
		Data: data,
	}
	if v := attribute("specversion"); v != "1.0" {
		return e, fmt.Errorf("not a CloudEvent 1.0: specversion %q", v)
	}
	if e.ID == "" || e.Source == "" || e.Type == "" {
		return e, errors.New("a CloudEvent without id, source or type")
	}
	for name, v := range attributes(e) {
		if !utf8.ValidString(v) || strings.Contains(v, "\x00") {
			return e, fmt.Errorf("the attribute %s is not text", name)
		}
	}
	var err error
	if e.Time, err = time.Parse(time.RFC3339Nano, attribute("time")); err != nil {
		return e, errors.New("a CloudEvent whose time is not RFC 3339")
	}
	e.Time = e.Time.UTC()
	if y := e.Time.Year(); y < 1 || y > 9999 { // an offset may lead out of what can be written again
		return e, errors.New("a CloudEvent from outside the years 1 to 9999")
	}
	if e.Data == nil {
		e.Data = []byte{} // a message whose fields are all zero is not one without data
	}
	return e, nil
}
