package fsm

import (
	"bytes"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// parsing is a verifier that has parsed the envelopes already, as a shell has.
type parsing struct {
	trusting
	parsed *int
}

func (p parsing) Parse(envelope []byte) (*ledger.Statement, error) {
	*p.parsed++
	return ledger.ParseStatement(envelope)
}

// What a shell asks before Apply is what Apply finds.
func TestPublicKeyAndSaid(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	parse := func(envelope []byte) *ledger.Statement {
		st, err := ledger.ParseStatement(envelope)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	record := w.sign(saying{author: "alice", typ: ledger.TypeRecord, body: ledger.Record{Text: "hello"}, change: func(*ledger.Payload) {}})
	join := w.sign(saying{author: "edge-1", typ: ledger.TypeJoin, body: ledger.Join{Name: "edge-1", Operator: "alpha", Peer: filler("p", 32), Public: publicOf("edge-1")}})
	for _, c := range []struct {
		name     string
		envelope []byte
		public   []byte
		code     Code
	}{
		{"a governor", record, publicOf("alice"), OK},
		{"a replica", w.sign(saying{author: "r1", typ: ledger.TypeRecord, body: ledger.Record{Text: "x"}}), publicOf("r1"), OK},
		{"a node that joins", join, publicOf("edge-1"), OK},
		{"a stranger", w.sign(saying{author: "mallory", typ: ledger.TypeApprove, body: ledger.Ballot{}}), nil, UnknownAuthor},
		{"another ledger", w.sign(saying{author: "alice", typ: ledger.TypeApprove, body: ledger.Ballot{}, change: func(p *ledger.Payload) { p.Ledger[0]++ }}), nil, WrongLedger},
	} {
		public, v := w.state.PublicKey(parse(c.envelope))
		if v.Code != c.code || !bytes.Equal(public, c.public) {
			t.Errorf("%s: got %s and %d bytes of key", c.name, v.Code, len(public))
		}
	}
	if _, said := w.state.Said(parse(record)); said {
		t.Error("said before it was said")
	}
	parsed := 0
	w.verify = parsing{parsed: &parsed}
	w.submit(record, join)
	if parsed != 2 {
		t.Errorf("the shell's parser was asked %d times, want 2", parsed)
	}
	for i, envelope := range [][]byte{record, join} {
		if got, said := w.state.Said(parse(envelope)); !said || got != uint64(i+1) {
			t.Errorf("entry %d: said %v as entry %d", i+1, said, got)
		}
	}
	if j, ok := w.state.Join(idOf(join)); !ok || j.Join.Name != "edge-1" || len(w.state.Joins(ledger.Hash{}, 10)) != 1 || len(w.state.Joins(j.ID, 10)) != 0 {
		t.Error("the join is not listed once")
	}
}

// The getters agree with the records.
func TestGetters(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	s := w.state
	if s.Len() == 0 || s.Sealed() || s.Next() != 1 || s.Prev() != ledger.LeafHash(w.entry0) || s.Stamp() != created {
		t.Error("the state after genesis is not that of entry 0")
	}
	if w.apply(ledger.CommandSeal); !w.state.Sealed() {
		t.Error("not sealed by a seal")
	}
	if !bytes.Equal(s.Log().Ed25519, w.genesis.Log.Ed25519) {
		t.Error("the log's keys are not those of genesis")
	}
	if _, err := s.BaseFor("fleet.conquer", canon.Raw("{}")); err == nil {
		t.Error("a base for an action that is none")
	}
	if _, err := s.BaseFor("node.remove", canon.Raw(`{"name":"edge-1"}`)); err == nil || !strings.Contains(err.Error(), "unknown_node") {
		t.Errorf("a base for a node that is not there: %v", err)
	}
	if k, ok := s.Key(ledger.Hash(keyNamed("r1").ID())); !ok || k.Holder != "r1" || k.Role != RoleReplica {
		t.Errorf("key of r1: %+v", k)
	}
}

// A command of a kind that does not exist does nothing.
func TestUnknownCommand(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	if next, r := Apply(w.state, &ledger.Command{Kind: 9, Stamp: created + 60_000_000}, w.verify); next != w.state || len(r.Entries) > 0 {
		t.Error("an unknown command did something")
	}
}
