package main

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// maxYAMLBytes bounds every file that people write.
const maxYAMLBytes = 4 << 20

// yamlError names the file, the line and the key that is wrong.
type yamlError struct {
	File    string
	Line    int
	Key     string
	Problem string
}

func (e *yamlError) Error() string {
	place := e.File
	if e.Line > 0 {
		place += ":" + strconv.Itoa(e.Line)
	}
	if e.Key == "" {
		return place + ": " + e.Problem
	}
	return place + ": " + e.Key + ": " + e.Problem
}

// readYAML fills into, a pointer to a struct with yaml tags, from a file of
// YAML or JSON. It refuses unknown and repeated keys, wrong types, aliases and
// a second document; every such error exits with 2.
func readYAML(path string, into any) error {
	data, err := readBounded(path, maxYAMLBytes)
	if err != nil {
		return usage("check the path", "read %s: %w", path, err)
	}
	if err := parseYAML(path, data, into); err != nil {
		return usage("correct that line; an unknown key is never ignored", "%w", err)
	}
	return nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, causeOf(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, causeOf(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return data, nil
}

// causeOf leaves out the operation and path that an os error repeats.
func causeOf(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

func parseYAML(file string, data []byte, into any) error {
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return &yamlError{File: file, Problem: "it is empty"}
		}
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ := strconv.Atoi(m[1])
			return &yamlError{File: file, Line: line, Problem: m[2]}
		}
		return &yamlError{File: file, Problem: err.Error()}
	}
	if decoder.Decode(new(yaml.Node)) != io.EOF {
		return &yamlError{File: file, Problem: "it holds a second document"}
	}
	f := yamlFiller{file: file}
	return f.fill(doc.Content[0], reflect.ValueOf(into).Elem(), "")
}

type yamlFiller struct{ file string }

func (f yamlFiller) wrong(n *yaml.Node, key, format string, args ...any) error {
	return &yamlError{File: f.file, Line: n.Line, Key: key, Problem: fmt.Sprintf(format, args...)}
}

var durationType = reflect.TypeOf(time.Duration(0))

// fill sets v from n; key is the path so far.
func (f yamlFiller) fill(n *yaml.Node, v reflect.Value, key string) error {
	if n.Kind == yaml.AliasNode {
		return f.wrong(n, key, "aliases are not used in this file")
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return f.fill(n, v.Elem(), key)
	case reflect.Struct:
		return f.fillStruct(n, v, key)
	case reflect.Map:
		return f.fillMap(n, v, key)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return f.wrong(n, key, "want a list")
		}
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			if err := f.fill(item, list.Index(i), fmt.Sprintf("%s[%d]", key, i)); err != nil {
				return err
			}
		}
		v.Set(list)
		return nil
	case reflect.Interface:
		return f.fillAny(n, v, key)
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return f.wrong(n, key, "want %s", kindInWords(v.Type()))
	}
	if err := setScalar(v, n.Value); err != nil {
		return f.wrong(n, key, "%v", err)
	}
	return nil
}

func (f yamlFiller) pairs(n *yaml.Node, key string) error {
	if n.Kind != yaml.MappingNode {
		return f.wrong(n, key, "want keys and values")
	}
	var seen []string
	for i := 0; i < len(n.Content); i += 2 {
		name := n.Content[i]
		if name.Kind != yaml.ScalarNode {
			return f.wrong(name, key, "want a plain key")
		}
		if slices.Contains(seen, name.Value) {
			return f.wrong(name, join(key, name.Value), "the key stands twice")
		}
		seen = append(seen, name.Value)
	}
	return nil
}

func (f yamlFiller) fillStruct(n *yaml.Node, v reflect.Value, key string) error {
	if err := f.pairs(n, key); err != nil {
		return err
	}
	fields := yamlFields(v.Type())
	for i := 0; i < len(n.Content); i += 2 {
		name := n.Content[i]
		index, known := fields[name.Value]
		if !known {
			return f.wrong(name, join(key, name.Value), "unknown key (known here: %s)", strings.Join(sortedKeys(fields), ", "))
		}
		if err := f.fill(n.Content[i+1], v.Field(index), join(key, name.Value)); err != nil {
			return err
		}
	}
	return nil
}

func (f yamlFiller) fillMap(n *yaml.Node, v reflect.Value, key string) error {
	if err := f.pairs(n, key); err != nil {
		return err
	}
	m := reflect.MakeMap(v.Type())
	for i := 0; i < len(n.Content); i += 2 {
		item := reflect.New(v.Type().Elem()).Elem()
		if err := f.fill(n.Content[i+1], item, join(key, n.Content[i].Value)); err != nil {
			return err
		}
		m.SetMapIndex(reflect.ValueOf(n.Content[i].Value), item)
	}
	v.Set(m)
	return nil
}

// fillAny reads a value of any shape: map[string]any, []any, string, bool or
// uint64, the values of canonical JSON.
func (f yamlFiller) fillAny(n *yaml.Node, v reflect.Value, key string) error {
	switch n.Kind {
	case yaml.MappingNode:
		m := reflect.New(reflect.TypeOf(map[string]any(nil))).Elem()
		if err := f.fillMap(n, m, key); err != nil {
			return err
		}
		v.Set(m)
		return nil
	case yaml.SequenceNode:
		list := reflect.New(reflect.TypeOf([]any(nil))).Elem()
		if err := f.fill(n, list, key); err != nil {
			return err
		}
		v.Set(list)
		return nil
	}
	switch n.Tag {
	case "!!int":
		number, err := strconv.ParseUint(n.Value, 10, 53)
		if err != nil {
			return f.wrong(n, key, "want a whole number from 0 to 2^53-1")
		}
		v.Set(reflect.ValueOf(number))
	case "!!bool":
		v.Set(reflect.ValueOf(n.Value == "true"))
	case "!!str", "!!timestamp":
		v.Set(reflect.ValueOf(n.Value))
	default:
		return f.wrong(n, key, "want a text, a whole number, true or false")
	}
	return nil
}

// yamlFields maps the yaml tags of a struct to its fields.
func yamlFields(t reflect.Type) map[string]int {
	fields := make(map[string]int)
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "" {
			fields[tag] = i
		}
	}
	return fields
}

// setScalar sets v from text as people write it.
func setScalar(v reflect.Value, text string) error {
	if own, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return own.UnmarshalText([]byte(text))
	}
	want := fmt.Errorf("want %s, got %q", kindInWords(v.Type()), text)
	if v.Type() == durationType {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return want
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch text {
		case "true", "false":
			v.SetBool(text == "true")
		default:
			return want
		}
	case reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, 53)
		if err != nil {
			return want
		}
		v.SetUint(n)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return want
		}
		v.SetInt(n)
	default:
		return fmt.Errorf("a %s cannot be set from a text", v.Kind())
	}
	return nil
}

func kindInWords(t reflect.Type) string {
	if t == durationType {
		return "a duration such as 500ms or 10s"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Uint64, reflect.Int:
		return "a whole number"
	}
	return "a text"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func sortedKeys[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
