package httpd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/ogen-go/ogen/ogenerrors"
	"github.com/ogen-go/ogen/validate"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// maxItems bounds the fields listed in one problem document: who sent 2,000 bad lines has one bug, not 2,000.
const maxItems = 20

func paramsFault(err *ogenerrors.DecodeParamsError) error {
	var p *ogenerrors.DecodeParamError
	if !errors.As(err, &p) {
		return errInvalid.Because(err)
	}
	sentence := complaint(p.Err)
	return errInvalid.Detailf("The %s parameter %s %s.", p.In, p.Name, sentence).
		With(fault.Item{Field: p.Name, Detail: upper(sentence) + "."})
}

func bodyFault(err *ogenerrors.DecodeRequestError) error {
	var (
		body    *ogenerrors.DecodeBodyError
		invalid *validate.Error
	)
	switch {
	case errors.As(err, &body):
		return decodeFault(body)
	case errors.As(err, &invalid):
		var items []fault.Item
		return invalidFields(collect(items, "", invalid))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errInvalid.Detailf("The body broke off before its announced length.")
	}
	return errInvalid.Because(err)
}

func invalidFields(items []fault.Item) error {
	if len(items) == 0 {
		return errInvalid
	}
	f := errInvalid.Detailf("%s: %s", items[0].Field, lower(items[0].Detail))
	if more := len(items) - 1; more > 0 {
		f = errInvalid.Detailf("%s: %s (%d more in items)", items[0].Field, strings.TrimSuffix(lower(items[0].Detail), "."), min(more, maxItems-1))
	}
	if len(items) > maxItems {
		f.Detail = fmt.Sprintf("%d fields are not valid; items has the first %d.", len(items), maxItems)
		items = items[:maxItems]
	}
	return f.With(items...)
}

// collect lists the fields of a tree of validation errors by path.
func collect(items []fault.Item, path string, err *validate.Error) []fault.Item {
	for _, f := range err.Fields {
		p := join(path, f.Name)
		var deeper *validate.Error
		if errors.As(f.Error, &deeper) {
			items = collect(items, p, deeper)
			continue
		}
		items = append(items, fault.Item{Field: p, Detail: upper(complaint(f.Error)) + "."})
	}
	return items
}

func join(path, name string) string {
	if path == "" || strings.HasPrefix(name, "[") {
		return path + name
	}
	return path + "." + name
}

// bound finds the limit in texts of the validators such as "value -1 less than 1". The value itself is not used.
var bound = regexp.MustCompile(`(less|greater) than (-?[0-9]+)$`)

// complaint says what is wrong with one value, to stand after its name. It never repeats the value.
func complaint(err error) string {
	var (
		long  *validate.MaxLengthError
		short *validate.MinLengthError
		regex *validate.NoRegexMatchError
		text  = err.Error()
		what  = "characters"
	)
	if strings.HasPrefix(text, "array") {
		what = "elements"
	}
	switch {
	case errors.Is(err, validate.ErrFieldRequired):
		return "is required"
	case errors.As(err, &short) && short.MinLength == 1:
		return "must not be empty"
	case errors.As(err, &short):
		return fmt.Sprintf("must have at least %d %s", short.MinLength, what)
	case errors.As(err, &long):
		return fmt.Sprintf("must have at most %d %s", long.MaxLength, what)
	case errors.As(err, &regex):
		return "does not have the form required"
	case strings.HasSuffix(text, "multiple values"):
		return "must be given once"
	case strings.Contains(text, "nil is invalid"):
		return "is required"
	case strings.Contains(text, "invalid value"):
		return "is not one of the values allowed"
	case strings.Contains(text, "UUID"):
		return "must be a UUID"
	case strings.Contains(text, "parsing time"):
		return "must be a time such as 2026-01-31T12:00:00Z"
	case strings.Contains(text, "value out of range"):
		return "is too large"
	case strings.Contains(text, "strconv.Parse"):
		return "must be a whole number"
	}
	if m := bound.FindStringSubmatch(text); m != nil {
		return map[string]string{"less": "must be at least ", "greater": "must be at most "}[m[1]] + m[2]
	}
	return "is not valid"
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// decodeFault says where a body does not decode. The decoder names fields but not the elements of arrays, so
// the body is read once more, to find the first place that fails as the decoder says.
func decodeFault(err *ogenerrors.DecodeBodyError) error {
	d := json.NewDecoder(bytes.NewReader(err.Body))
	d.UseNumber()
	var value any
	if syntax := d.Decode(&value); syntax != nil {
		return notJSON(syntax)
	}
	if _, extra := d.Token(); extra != io.EOF {
		return errInvalid.Detailf("Something follows the JSON value. Send one object and nothing after it.")
	}
	m := mistakeOf(err)
	if path, ok := m.find(value, m.fields, ""); ok {
		if path == "" {
			return errInvalid.Detailf("The body %s.", m.says)
		}
		return invalidFields([]fault.Item{{Field: path, Detail: upper(m.says) + "."}})
	}
	if len(m.fields) > 0 {
		return invalidFields([]fault.Item{{Field: strings.Join(m.fields, "."), Detail: "Is not valid."}})
	}
	return errInvalid.Detailf("The body is not what the contract describes; see /docs.")
}

func notJSON(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF):
		return errInvalid.Detailf("The request has no body. Send a JSON object.")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errInvalid.Detailf("The body is not valid JSON: it ends too early.")
	case errors.As(err, &syntax):
		return errInvalid.Detailf("The body is not valid JSON: it goes wrong at byte %d.", syntax.Offset)
	}
	return errInvalid.Detailf("The body is not valid JSON.")
}

// mistake is what the decoder stumbled over.
type mistake struct {
	fields []string       // the fields of the contract on the way to it
	key    string         // a key that is missing, or not known
	bad    func(any) bool // whether a value at the end of fields is the one
	says   string
}

var (
	fieldOnTheWay = regexp.MustCompile(`decode field "([^"\\]+)"`)
	unknownField  = regexp.MustCompile(`unexpected field "(.*)"$`)
	badByte       = regexp.MustCompile(`unexpected byte [0-9]+ '(\\?.)' at [0-9]+$`)
	plainName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z_-]{0,40}[0-9]{0,4}$`)
)

func mistakeOf(err *ogenerrors.DecodeBodyError) mistake {
	text := err.Err.Error()
	var m mistake
	for _, f := range fieldOnTheWay.FindAllStringSubmatch(text, -1) {
		m.fields = append(m.fields, f[1])
	}
	var missing *validate.Error
	switch {
	case errors.As(err.Err, &missing) && len(missing.Fields) > 0:
		m.key, m.says = missing.Fields[0].Name, "is required"
		m.bad = func(v any) bool { o, ok := v.(map[string]any); return ok && !has(o, m.key) }
	case unknownField.MatchString(text):
		m.key, m.says = unknownField.FindStringSubmatch(text)[1], "is not a field of the contract"
		m.bad = func(v any) bool { o, ok := v.(map[string]any); return ok && has(o, m.key) }
		if !plainName.MatchString(m.key) {
			// A key can be anything, a card number too.
			m.key, m.says = "", "has a field that is not in the contract"
			m.bad = func(v any) bool { _, ok := v.(map[string]any); return ok }
		}
	case strings.Contains(text, `"{" expected`):
		m.says = "must be an object"
		m.bad = func(v any) bool { return kind(v) != "an object" }
	case strings.Contains(text, `"[" expected`):
		m.says = "must be an array"
		m.bad = func(v any) bool { return kind(v) != "an array" }
	case strings.Contains(text, "floating point"):
		m.says = "must be a whole number, without a decimal point or an exponent"
		m.bad = func(v any) bool { n, ok := v.(json.Number); return ok && strings.ContainsAny(n.String(), ".eE") }
	case strings.Contains(text, "out of range"):
		m.says = "is too large"
		m.bad = func(v any) bool {
			n, ok := v.(json.Number)
			if !ok {
				return false
			}
			_, err := n.Int64()
			return err != nil
		}
	case badByte.MatchString(text):
		got := kindOfByte(badByte.FindStringSubmatch(text)[1])
		m.says = "must not be " + got
		m.bad = func(v any) bool { return kind(v) == got }
	default:
		m.bad = func(any) bool { return false }
	}
	return m
}

// find returns the path of the first value that is bad, following fields and looking into arrays.
func (m mistake) find(v any, fields []string, path string) (string, bool) {
	if a, ok := v.([]any); ok && !(len(fields) == 0 && m.says == "must be an array") {
		for i, e := range a {
			if p, ok := m.find(e, fields, fmt.Sprintf("%s[%d]", path, i)); ok {
				return p, true
			}
		}
	}
	if len(fields) > 0 {
		o, _ := v.(map[string]any)
		child, ok := o[fields[0]]
		if !ok {
			return "", false
		}
		return m.find(child, fields[1:], join(path, fields[0]))
	}
	if !m.bad(v) {
		return "", false
	}
	if m.key != "" {
		return join(path, m.key), true
	}
	return path, true
}

func has(o map[string]any, key string) bool { _, ok := o[key]; return ok }

func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	}
	return "an object"
}

func kindOfByte(c string) string {
	switch c[len(c)-1] {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '[':
		return "an array"
	case '{':
		return "an object"
	}
	return "a number"
}
