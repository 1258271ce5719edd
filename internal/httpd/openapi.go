package httpd

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v4"
)

// reference is an OpenAPI document as the page shows it.
type reference struct {
	Title, Version, Description string
	Groups                      []group
	CSS                         template.CSS
}

type group struct {
	Name, Description string
	Operations        []operation
}

type operation struct {
	ID, Method, Path, Summary, Description string
	Parameters                             []field
	Bodies                                 []content
	Answers                                []reply
	Curl                                   string
}

type reply struct {
	Status, Description string
	Headers             []field
	Bodies              []content
}

type content struct {
	MediaType string
	Fields    []field
}

type field struct {
	Name, Type, Rules, Description string
	Required                       bool
}

// document finds its way in an OpenAPI document.
type document struct{ root *yaml.Node }

func readContract(contract []byte) (*reference, error) {
	var file yaml.Node
	if err := yaml.Unmarshal(contract, &file); err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	if len(file.Content) != 1 {
		return nil, fmt.Errorf("the contract is empty")
	}
	d := document{file.Content[0]}
	info := value(d.root, "info")
	p := &reference{Title: text(value(info, "title")), Version: text(value(info, "version")), Description: text(value(info, "description"))}
	if tags := value(d.root, "tags"); tags != nil {
		for _, t := range tags.Content {
			p.Groups = append(p.Groups, group{Name: text(value(t, "name")), Description: text(value(t, "description"))})
		}
	}
	each(value(d.root, "paths"), func(path string, item *yaml.Node) {
		each(item, func(method string, op *yaml.Node) {
			if isMethod(method) {
				p.add(op, d.operation(strings.ToUpper(method), path, item, op))
			}
		})
	})
	return p, nil
}

func isMethod(key string) bool {
	switch key {
	case "get", "post", "put", "patch", "delete":
		return true
	}
	return false
}

// add puts an operation under its first tag.
func (p *reference) add(node *yaml.Node, op operation) {
	tag := "other"
	if tags := value(node, "tags"); tags != nil && len(tags.Content) > 0 {
		tag = tags.Content[0].Value
	}
	for i := range p.Groups {
		if p.Groups[i].Name == tag {
			p.Groups[i].Operations = append(p.Groups[i].Operations, op)
			return
		}
	}
	p.Groups = append(p.Groups, group{Name: tag, Operations: []operation{op}})
}

func (d document) operation(method, path string, item, node *yaml.Node) operation {
	op := operation{
		ID: text(value(node, "operationId")), Method: method, Path: path,
		Summary: text(value(node, "summary")), Description: text(value(node, "description")),
	}
	address := path
	for _, list := range []*yaml.Node{value(item, "parameters"), value(node, "parameters")} {
		if list == nil {
			continue
		}
		for _, n := range list.Content {
			n = d.resolve(n)
			f := d.field(text(value(n, "name")), value(n, "schema"), text(value(n, "required")) == "true")
			f.Description = strings.TrimSpace(text(value(n, "description")) + " " + f.Description)
			f.Type = text(value(n, "in")) + ", " + f.Type
			op.Parameters = append(op.Parameters, f)
			address = strings.ReplaceAll(address, "{"+f.Name+"}", fmt.Sprint(d.sample(value(n, "schema"), f.Name)))
		}
	}
	op.Bodies = d.contents(value(d.resolve(value(node, "requestBody")), "content"))
	each(value(node, "responses"), func(status string, n *yaml.Node) {
		n = d.resolve(n)
		r := reply{Status: status, Description: text(value(n, "description")), Bodies: d.contents(value(n, "content"))}
		if status == "default" {
			r.Status = "else"
		}
		each(value(n, "headers"), func(name string, h *yaml.Node) {
			h = d.resolve(h)
			f := d.field(name, value(h, "schema"), false)
			f.Description = text(value(h, "description"))
			r.Headers = append(r.Headers, f)
		})
		op.Answers = append(op.Answers, r)
	})
	op.Curl = d.curl(method, address, d.resolve(value(node, "requestBody")))
	return op
}

func (d document) contents(n *yaml.Node) []content {
	var all []content
	each(n, func(mediaType string, m *yaml.Node) {
		schema := d.resolve(value(m, "schema"))
		c := content{MediaType: mediaType}
		if value(schema, "properties") == nil {
			c.Fields = []field{d.field("(whole)", schema, false)}
		} else {
			c.Fields = d.fields("", schema, 0)
		}
		all = append(all, c)
	})
	return all
}

// deepest bounds how far the tables follow a schema: one that contains itself would never end.
const deepest = 6

// fields lists an object's properties, those of nested objects and elements by path.
func (d document) fields(prefix string, schema *yaml.Node, depth int) []field {
	required := map[string]bool{}
	if r := value(schema, "required"); r != nil {
		for _, n := range r.Content {
			required[n.Value] = true
		}
	}
	var all []field
	each(value(schema, "properties"), func(name string, n *yaml.Node) {
		path := prefix + name
		all = append(all, d.field(path, n, required[name]))
		inner := d.resolve(n)
		if text(value(inner, "type")) == "array" {
			path += "[]"
			inner = d.resolve(value(inner, "items"))
		}
		if value(inner, "properties") != nil && depth < deepest {
			all = append(all, d.fields(path+".", inner, depth+1)...)
		}
	})
	return all
}

func (d document) field(name string, schema *yaml.Node, required bool) field {
	schema = d.resolve(schema)
	f := field{Name: name, Required: required, Description: text(value(schema, "description")), Type: text(value(schema, "type"))}
	if format := text(value(schema, "format")); format != "" {
		f.Type += " (" + format + ")"
	}
	if f.Type == "array" {
		f.Type = "array of " + text(value(d.resolve(value(schema, "items")), "type"))
	}
	var rules []string
	for _, r := range []struct{ key, says string }{
		{"minimum", "at least %s"}, {"maximum", "at most %s"}, {"minLength", "at least %s characters"}, {"maxLength", "at most %s characters"},
		{"minItems", "at least %s elements"}, {"maxItems", "at most %s elements"}, {"pattern", "matches %s"}, {"default", "default %s"},
	} {
		switch v := value(schema, r.key); {
		case v == nil:
		case v.Value == "1" && strings.HasPrefix(r.key, "min") && r.key != "minimum":
			rules = append(rules, "not empty")
		default:
			rules = append(rules, fmt.Sprintf(r.says, v.Value))
		}
	}
	if e := value(schema, "enum"); e != nil {
		var names []string
		for _, n := range e.Content {
			names = append(names, n.Value)
		}
		rules = append(rules, "one of "+strings.Join(names, ", "))
	}
	f.Rules = strings.Join(rules, ", ")
	return f
}

// resolve follows a $ref within the document; what cannot be followed is shown as nothing.
func (d document) resolve(n *yaml.Node) *yaml.Node {
	for range deepest {
		ref := value(n, "$ref")
		if ref == nil {
			break
		}
		n = d.root
		for part := range strings.SplitSeq(strings.TrimPrefix(ref.Value, "#/"), "/") {
			n = value(n, part)
		}
	}
	return n
}

// curl shows a request to try, with the required fields.
func (d document) curl(method, address string, body *yaml.Node) string {
	line := "curl"
	if method != "GET" {
		line += " -X " + method
	}
	line += " http://127.0.0.1:3000" + address
	if body == nil || text(value(body, "required")) != "true" {
		return line
	}
	each(value(body, "content"), func(mediaType string, m *yaml.Node) {
		line += " \\\n  -H 'Content-Type: " + mediaType + "'"
		if mediaType != "application/json" {
			line += " \\\n  --data-binary @file"
			return
		}
		sample, err := json.Marshal(d.sample(value(m, "schema"), "body"))
		if err == nil {
			line += " \\\n  -d '" + strings.ReplaceAll(string(sample), "'", `'\''`) + "'"
		}
	})
	return line
}

// sample makes a value that a schema allows, of its required parts.
func (d document) sample(schema *yaml.Node, name string) any {
	schema = d.resolve(schema)
	if e := value(schema, "example"); e != nil {
		return e.Value
	}
	if e := value(schema, "enum"); e != nil && len(e.Content) > 0 {
		return e.Content[0].Value
	}
	switch text(value(schema, "type")) {
	case "object":
		o := map[string]any{}
		properties := value(schema, "properties")
		if r := value(schema, "required"); r != nil {
			for _, n := range r.Content {
				o[n.Value] = d.sample(value(properties, n.Value), n.Value)
			}
		}
		return o
	case "array":
		return []any{d.sample(value(schema, "items"), name)}
	case "integer", "number":
		return 1
	case "boolean":
		return true
	}
	if text(value(schema, "format")) == "uuid" {
		return "01900000-0000-7000-8000-000000000000"
	}
	return url.PathEscape(strings.ToUpper(name) + "-1")
}

// each calls f for a mapping's entries in their order.
func each(m *yaml.Node, f func(key string, v *yaml.Node)) {
	if m == nil || m.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		f(m.Content[i].Value, m.Content[i+1])
	}
}
