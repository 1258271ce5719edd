package httpd

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-faster/jx"
	"github.com/orderkeep/orderkeep/internal/fault"
)

const (
	// maxDepth is how deep the values of a body may be nested. The contracts need four levels; the rest is room for a mistake
	// to be found by its own name.
	maxDepth = 32
	// maxMembers is where the search for a name that occurs twice in an object ends: no object of a contract has as many, so
	// that the decoder refuses a larger one by its first unknown name.
	maxMembers = 64
)

var (
	errNotUTF8   = errInvalid.Detailf("The body is not UTF-8.")
	errTooDeep   = errInvalid.Detailf("The body is nested more than %d levels deep. Send what the contract describes; see /docs.", maxDepth)
	errDuplicate = errInvalid.Detailf("An object of the body has the same field twice. Send each field once.")
)

// isJSON reports whether a body of this Content-Type is decoded as JSON; media types know no case.
func isJSON(contentType string) bool {
	const json = "application/json"
	return len(contentType) >= len(json) && strings.EqualFold(contentType[:len(json)], json)
}

// jsonBody is a body that must be what all readers of JSON understand in the same way (RFC 8259, 4 and 8.1; RFC 7493): UTF-8,
// and no object with the same name twice. The decoders below take the last of two, and what is not UTF-8 would be stored in one
// place and refused in another. Bodies that are no JSON at all pass: the decoder says where they go wrong.
type jsonBody struct {
	io.ReadCloser
	length int64 // announced, or below 0
	read   *bytes.Reader
	err    error
}

func (b *jsonBody) Read(p []byte) (int, error) {
	if b.read == nil {
		b.load()
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.read.Read(p)
}

// load reads the whole body, which the limits of the server bound.
func (b *jsonBody) load() {
	var all []byte
	if b.length > 0 && b.length <= mostAtOnce {
		all = make([]byte, b.length)
		_, b.err = io.ReadFull(b.ReadCloser, all)
	} else {
		all, b.err = io.ReadAll(b.ReadCloser)
	}
	b.read = bytes.NewReader(all)
	switch {
	case b.err != nil:
	case !utf8.Valid(all):
		b.err = errNotUTF8
	default:
		if f := checkMembers(all); f != nil {
			b.err = f
		}
	}
}

// mostAtOnce is how much memory a body gets because of what it has announced.
const mostAtOnce = 1 << 20

// checkMembers looks for a name that occurs twice in an object, and for values nested too deep.
func checkMembers(body []byte) *fault.Error {
	d := jx.GetDecoder()
	defer jx.PutDecoder(d)
	d.ResetBytes(body)
	m := members{}
	_ = m.value(d, 1) // what is no JSON is the decoder's to explain
	return m.fault
}

type members struct{ fault *fault.Error }

func (m *members) value(d *jx.Decoder, depth int) error {
	if depth > maxDepth {
		m.fault = errTooDeep
		return errTooDeep
	}
	switch d.Next() {
	case jx.Object:
		return m.object(d, depth)
	case jx.Array:
		return d.Arr(func(d *jx.Decoder) error { return m.value(d, depth+1) })
	}
	return d.Skip()
}

func (m *members) object(d *jx.Decoder, depth int) error {
	var few [8][]byte // as many as most objects have, without an allocation
	seen := few[:0]
	return d.ObjBytes(func(d *jx.Decoder, name []byte) error {
		if slices.ContainsFunc(seen, func(s []byte) bool { return bytes.Equal(s, name) }) {
			m.fault = duplicate(string(name))
			return m.fault
		}
		if len(seen) < maxMembers {
			seen = append(seen, name)
		}
		return m.value(d, depth+1)
	})
}

// duplicate names the field if its name can be repeated: a name can be anything, a card number too.
func duplicate(name string) *fault.Error {
	if !plainName.MatchString(name) {
		return errDuplicate
	}
	return errInvalid.Detailf("The field %s occurs twice in the same object. Send each field once.", name).
		With(fault.Item{Field: name, Detail: "Occurs twice in the same object."})
}
