package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger/keys"
)

// maxShownFields bounds how many fields of one record are shown.
const maxShownFields = 40

// changeText writes what happens to one record, field by field.
func changeText(w io.Writer, c client.Change) {
	before, after := fieldsOf(c.Before), fieldsOf(c.After)
	switch {
	case len(c.Before) == 0:
		fmt.Fprintf(w, "  + %s\n", clean(c.Key))
	case len(c.After) == 0:
		fmt.Fprintf(w, "  - %s\n", clean(c.Key))
		return
	default:
		fmt.Fprintf(w, "  ~ %s\n", clean(c.Key))
	}
	shown := 0
	for _, field := range sortedKeys(union(before, after)) {
		old, had := before[field]
		now, has := after[field]
		if had == has && old == now {
			continue
		}
		if shown++; shown > maxShownFields {
			fmt.Fprintf(w, "      … and more\n")
			return
		}
		switch {
		case !had && len(c.Before) == 0:
			fmt.Fprintf(w, "      %s = %s\n", clean(field), shorten(now))
		case !had:
			fmt.Fprintf(w, "      %s: (none) -> %s\n", clean(field), shorten(now))
		case !has:
			fmt.Fprintf(w, "      %s: %s -> (none)\n", clean(field), shorten(old))
		default:
			fmt.Fprintf(w, "      %s: %s -> %s\n", clean(field), shorten(old), shorten(now))
		}
	}
}

func union(x, y map[string]string) map[string]bool {
	all := map[string]bool{}
	for k := range x {
		all[k] = true
	}
	for k := range y {
		all[k] = true
	}
	return all
}

// fieldsOf flattens a record: path to text.
func fieldsOf(raw json.RawMessage) map[string]string {
	fields := map[string]string{}
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return fields
	}
	flatten(v, "", fields)
	return fields
}

func flatten(v any, path string, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			flatten(item, join(path, k), into)
		}
	case []any:
		for i, item := range v {
			flatten(item, path+"["+strconv.Itoa(i)+"]", into)
		}
	case string:
		into[path] = v
	case float64:
		into[path] = strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		into[path] = strconv.FormatBool(v)
	}
}

// shorten keeps keys and ciphertexts from filling the screen.
func shorten(text string) string {
	if len(text) > 64 {
		return clean(text[:20]) + fmt.Sprintf("… (%d characters)", len(text))
	}
	return clean(text)
}

// keyIDOf is the id of a packed public key, in hex.
func keyIDOf(public []byte) string {
	p, err := keys.ParsePublicKey(public)
	if err != nil {
		return "?"
	}
	return p.ID().String()
}
