package main

import (
	"errors"
	"strings"
	"testing"
)

// Each history is one that a faulty ledger could give; the checker must say so,
// and must not object to what a sound one may do.
func TestCheck(t *testing.T) {
	submit := func(id string, call, end int64, seq uint64) op {
		return op{kind: opSubmit, id: id, call: call, end: end, seq: seq}
	}
	open := func(id string, call, end int64) op {
		return op{kind: opSubmit, id: id, call: call, end: end, open: errors.New("timeout")}
	}
	size := func(call, end int64, n uint64) op { return op{kind: opSize, call: call, end: end, seq: n} }
	look := func(id string, call, end int64, seq uint64) op {
		return op{kind: opLookUp, id: id, call: call, end: end, seq: seq}
	}
	for _, c := range []struct {
		name  string
		ops   []op
		final map[string][]uint64
		want  string // part of the complaint; "" for none
	}{
		{"in order", []op{submit("a", 1, 2, 5), size(3, 4, 6), look("a", 5, 6, 5)}, map[string][]uint64{"a": {5}}, ""},
		{"concurrent in either order", []op{submit("a", 1, 9, 8), submit("b", 2, 8, 5), size(3, 7, 6)}, map[string][]uint64{"a": {8}, "b": {5}}, ""},
		{"open and never there", []op{open("a", 1, 2), size(3, 4, 9), look("a", 5, 6, 0)}, nil, ""},
		{"open and there much later", []op{open("a", 1, 2), look("a", 3, 4, 0), look("a", 5, 6, 7)}, map[string][]uint64{"a": {7}}, ""},
		{"open and there in the end", []op{open("a", 1, 2), look("a", 3, 4, 0)}, map[string][]uint64{"a": {7}}, ""},
		{"lost", []op{submit("a", 1, 2, 5)}, nil, "statements"},
		{"twice", []op{submit("a", 1, 2, 5)}, map[string][]uint64{"a": {5, 8}}, "statements"},
		{"open and twice", []op{open("a", 1, 2)}, map[string][]uint64{"a": {5, 8}}, "statements"},
		{"elsewhere", []op{submit("a", 1, 2, 5)}, map[string][]uint64{"a": {6}}, "statements"},
		{"stale size", []op{submit("a", 1, 2, 5), size(3, 4, 5)}, map[string][]uint64{"a": {5}}, "later client 0 reads size 5"},
		{"sizes that shrink", []op{size(1, 2, 9), size(3, 4, 8)}, nil, "sizes"},
		{"stale absence", []op{submit("a", 1, 2, 5), look("a", 3, 4, 0)}, map[string][]uint64{"a": {5}}, "statements"},
		{"there and gone", []op{open("a", 1, 2), look("a", 3, 4, 7), look("a", 5, 6, 0)}, map[string][]uint64{"a": {7}}, "statements"},
		{"below what was read", []op{size(1, 2, 9), submit("a", 3, 4, 5)}, map[string][]uint64{"a": {5}}, "sizes"},
	} {
		if c.final == nil {
			c.final = map[string][]uint64{} // none is there
		}
		err := check(c.ops, c.final)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// A minute of many clients must be checked in far less than a minute.
func TestCheckOfAManyClients(t *testing.T) {
	var ops []op
	final := map[string][]uint64{}
	for i := range 6_000 {
		id, at := string(rune('a'+i%26))+strings.Repeat("x", i/26), int64(i)
		switch {
		case i%50 == 0:
			ops = append(ops, op{kind: opSubmit, id: id, call: at, end: at + 5, open: errors.New("timeout")})
		case i%2 == 0:
			ops = append(ops, op{kind: opSubmit, id: id, call: at, end: at + 12, seq: uint64(i)})
			final[id] = []uint64{uint64(i)}
		default:
			ops = append(ops, op{kind: opSize, call: at, end: at + 9, seq: uint64(i)})
		}
	}
	if err := check(ops, final); err != nil {
		t.Error(err)
	}
}
