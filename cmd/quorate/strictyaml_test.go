package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

type yamlSample struct {
	Name  string            `yaml:"name"`
	Count uint64            `yaml:"count"`
	Wait  time.Duration     `yaml:"wait"`
	On    *bool             `yaml:"on"`
	Inner yamlInner         `yaml:"inner"`
	List  []yamlInner       `yaml:"list"`
	Map   map[string]uint64 `yaml:"map"`
	Free  any               `yaml:"free"`
}

type yamlInner struct {
	Key string `yaml:"key"`
}

func TestParseYAML(t *testing.T) {
	yes := true
	for _, test := range []struct {
		name, text string
		want       yamlSample
	}{
		{"block", "name: a\ncount: 3\nwait: 1m30s\non: true\ninner:\n  key: k\nlist:\n  - key: x\n  - key: y\nmap: {a.b: 1}\n",
			yamlSample{Name: "a", Count: 3, Wait: 90 * time.Second, On: &yes, Inner: yamlInner{"k"}, List: []yamlInner{{"x"}, {"y"}}, Map: map[string]uint64{"a.b": 1}}},
		{"JSON", `{"name": "a", "free": {"n": 1, "s": "x", "b": false, "l": ["y"]}}`,
			yamlSample{Name: "a", Free: map[string]any{"n": uint64(1), "s": "x", "b": false, "l": []any{"y"}}}},
		{"a number as text", "name: 12", yamlSample{Name: "12"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got yamlSample
			if err := parseYAML("f.yaml", []byte(test.text), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestParseYAMLNamesLineAndKey(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "f.yaml: it is empty"},
		{"syntax", "a: 1\n b: 2", "f.yaml:2: "},
		{"unknown", "name: a\nnane: b", "f.yaml:2: nane: unknown key (known here: count, free, inner, list, map, name, on, wait)"},
		{"unknown inside", "inner:\n  kee: x", "f.yaml:2: inner.kee: unknown key"},
		{"unknown in a list", "list:\n  - key: x\n  - kee: x", "f.yaml:3: list[1].kee: unknown key"},
		{"twice", "name: a\nname: b", "f.yaml:2: name: the key stands twice"},
		{"wrong kind", "name: [a]", "f.yaml:1: name: want a text"},
		{"null", "name: null", "f.yaml:1: name: want a text"},
		{"no number", "count: many", `f.yaml:1: count: want a whole number, got "many"`},
		{"negative", "count: -1", `f.yaml:1: count: want a whole number, got "-1"`},
		{"no duration", "wait: 3", `f.yaml:1: wait: want a duration such as 500ms or 10s, got "3"`},
		{"yes is not true", "on: yes", `f.yaml:1: on: want true or false, got "yes"`},
		{"scalar for keys", "inner: x", "f.yaml:1: inner: want keys and values"},
		{"scalar for list", "list: x", "f.yaml:1: list: want a list"},
		{"alias", "inner: &a {key: x}\nlist: [*a]", "f.yaml:2: list[0]: aliases are not used"},
		{"second document", "name: a\n---\nname: b", "f.yaml: it holds a second document"},
		{"float", "free: 1.5", "f.yaml:1: free: want a text, a whole number, true or false"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := parseYAML("f.yaml", []byte(test.text), new(yamlSample))
			var y *yamlError
			if !errors.As(err, &y) || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// FuzzParseYAML: whatever stands in a file, the answer is a value or an error
// that names the file.
func FuzzParseYAML(f *testing.F) {
	f.Add([]byte("name: r1\napi: {listen: \"127.0.0.1:1\"}\nseeds: [a, b]\n"))
	f.Add([]byte("origin: x\ncouncil: [a.pub]\npolicy: {rules: {node.admit: {threshold: 2}}}\n"))
	f.Add([]byte("action: node.admit\nargs: {joins: [\"@a.cose\"]}\n"))
	f.Add([]byte("&a [*a]"))
	f.Add([]byte("? {a: b}\n: c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []any{new(serverConfig), new(ceremonyFile), new(proposalFile)} {
			if err := parseYAML("f.yaml", data, into); err != nil && !strings.HasPrefix(err.Error(), "f.yaml") {
				t.Errorf("the error does not name the file: %v", err)
			}
		}
	})
}
