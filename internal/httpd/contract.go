package httpd

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// pages makes what describes the contract when it is first asked for, and keeps it: an idle process does without.
type pages struct {
	contracts [][]byte

	mergeOnce sync.Once
	merged    []byte
	mergeErr  error

	docsOnce sync.Once
	html     []byte
	htmlErr  error
}

func (p *pages) contract() ([]byte, error) {
	p.mergeOnce.Do(func() { p.merged, p.mergeErr = Merge(p.contracts) })
	return p.merged, p.mergeErr
}

func (p *pages) docs() ([]byte, error) {
	p.docsOnce.Do(func() {
		doc, err := p.contract()
		if err == nil {
			p.html, err = renderDocs(doc)
		}
		p.htmlErr = err
	})
	return p.html, p.htmlErr
}

// Merge makes one OpenAPI document of several: their tags, paths and components in the order given. One document comes
// back byte for byte. A component that several have in the same words is there once; one that says something else under a
// name that is taken gets its contract's name before its own, such as PaymentsNewPayment. No two may have the same path.
func Merge(contracts [][]byte) ([]byte, error) {
	switch len(contracts) {
	case 0:
		return nil, errors.New("there is no contract to show")
	case 1:
		return contracts[0], nil
	}
	var all *yaml.Node
	for i, c := range contracts {
		var doc yaml.Node
		if err := yaml.Unmarshal(c, &doc); err != nil {
			return nil, fmt.Errorf("read contract %d: %w", i+1, err)
		}
		if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
			return nil, fmt.Errorf("contract %d is no OpenAPI document", i+1)
		}
		if all == nil {
			all = doc.Content[0]
			if info := value(all, "info"); info != nil {
				setText(info, "title", "Orderkeep")
				setText(info, "description", mergedDescription)
			}
			continue
		}
		if err := mergeInto(all, doc.Content[0]); err != nil {
			return nil, fmt.Errorf("contract %d: %w", i+1, err)
		}
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(all); err != nil {
		return nil, fmt.Errorf("write the merged contract: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("write the merged contract: %w", err)
	}
	return out.Bytes(), nil
}

const mergedDescription = `Everything that this process answers.

Money is an integer of minor units plus an ISO 4217 code. Times are UTC, RFC 3339. Errors are RFC 9457 problem
documents with a stable ` + "`error`" + ` code. Every answer carries ` + "`X-Correlation-ID`" + `.
`

func mergeInto(all, doc *yaml.Node) error {
	if a, b := value(all, "openapi"), value(doc, "openapi"); a == nil || b == nil || a.Value != b.Value {
		return errors.New("another version of OpenAPI than the first")
	}
	if err := mergeTags(all, doc); err != nil {
		return err
	}
	if components := value(doc, "components"); components != nil {
		into := section(all, "components")
		qualify(into, components, doc)
		for i := 0; i+1 < len(components.Content); i += 2 {
			kind := components.Content[i].Value
			if err := mergeMap(section(into, kind), components.Content[i+1], kind, true); err != nil {
				return err
			}
		}
	}
	return mergeMap(section(all, "paths"), value(doc, "paths"), "path", false)
}

// qualify renames doc's components that differ from those of the same name already taken, and what refers to them. A
// renaming makes what refers to it differ too, so it goes on until nothing does.
func qualify(taken, components, doc *yaml.Node) {
	words := strings.Fields(text(value(value(doc, "info"), "title")))
	if len(words) == 0 {
		return // mergeMap reports the difference
	}
	prefix := words[len(words)-1]
	for again := true; again; {
		again = false
		each(components, func(kind string, entries *yaml.Node) {
			for i := 0; i+1 < len(entries.Content); i += 2 {
				name := entries.Content[i].Value
				have := value(value(taken, kind), name)
				if have == nil || same(have, entries.Content[i+1]) || strings.HasPrefix(name, prefix) {
					continue
				}
				entries.Content[i].Value = prefix + name
				redirect(doc, "#/components/"+kind+"/"+name, "#/components/"+kind+"/"+prefix+name)
				again = true
			}
		})
	}
}

// redirect changes every reference within a document.
func redirect(n *yaml.Node, from, to string) {
	if n.Kind == yaml.MappingNode {
		if ref := value(n, "$ref"); ref != nil && ref.Value == from {
			ref.Value = to
		}
	}
	for _, c := range n.Content {
		redirect(c, from, to)
	}
}

func mergeTags(all, doc *yaml.Node) error {
	tags := value(doc, "tags")
	if tags == nil {
		return nil
	}
	into := value(all, "tags")
	if into == nil {
		all.Content = append(all.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "tags"}, tags)
		return nil
	}
next:
	for _, t := range tags.Content {
		for i, have := range into.Content {
			if text(value(have, "name")) != text(value(t, "name")) {
				continue
			}
			// Each context has its feed under the tag events; the descriptions stand side by side.
			if !same(have, t) {
				setText(into.Content[i], "description", text(value(have, "description"))+" "+text(value(t, "description")))
			}
			continue next
		}
		into.Content = append(into.Content, t)
	}
	return nil
}

// mergeMap adds the entries of one mapping to another. With shared, an entry that both have must be the same.
func mergeMap(into, from *yaml.Node, what string, shared bool) error {
	if from == nil {
		return nil
	}
	for i := 0; i+1 < len(from.Content); i += 2 {
		name := from.Content[i].Value
		have := value(into, name)
		switch {
		case have == nil:
			into.Content = append(into.Content, from.Content[i], from.Content[i+1])
		case !shared:
			return fmt.Errorf("%s %s is in two contracts", what, name)
		case !same(have, from.Content[i+1]):
			return fmt.Errorf("%s %s differs from the one of the same name in another contract", what, name)
		}
	}
	return nil
}

// value returns a mapping's value of a key, or nil.
func value(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// section returns a mapping's mapping of a key, made if it is not there.
func section(m *yaml.Node, key string) *yaml.Node {
	if v := value(m, key); v != nil {
		return v
	}
	v := &yaml.Node{Kind: yaml.MappingNode}
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, v)
	return v
}

func text(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	return n.Value
}

func setText(m *yaml.Node, key, s string) {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if old := value(m, key); old != nil {
		*old = *n
		return
	}
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, n)
}

// same reports whether two nodes say the same; the order of keys, the style and comments do not count.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) {
		return false
	}
	switch a.Kind {
	case yaml.ScalarNode:
		return a.Value == b.Value && a.ShortTag() == b.ShortTag()
	case yaml.MappingNode:
		for i := 0; i+1 < len(a.Content); i += 2 {
			v := value(b, a.Content[i].Value)
			if v == nil || !same(a.Content[i+1], v) {
				return false
			}
		}
		return true
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}
