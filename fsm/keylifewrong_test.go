package fsm

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// The reader of the histories does see what is wrong: each of these is something
// that the rules would only do, or say, if they were broken.
func TestKeyReaderSeesWhatIsWrong(t *testing.T) {
	start := newKeyStart(t)
	const name = "n-00-0"
	for _, c := range []struct {
		what string
		want string // part of what the reader says
		do   func(h *keyHistory)
	}{
		{"nothing", "", func(h *keyHistory) {
			h.accept(name, h.ids[name], h.state.Epoch(), 0)
			h.accept(name, h.ids[name], h.state.Epoch(), 1)
		}},
		{"the key that a rekey ended", "is revoked", func(h *keyHistory) {
			old := h.ids[name]
			h.join(name, "node.rekey")
			h.accept(name, old, h.state.Epoch(), 0)
		}},
		{"the key of a node that was removed", "is revoked", func(h *keyHistory) {
			h.decide("node.remove", nodeArgs{Name: name})
			h.accept(name, h.ids[name], h.state.Epoch(), 0)
		}},
		{"a governor who was replaced", "is revoked", func(h *keyHistory) {
			old := h.ids["carol"]
			h.decide("council.change", councilArgs{Add: []ledger.Member{memberOf("carol@gamma#carol-1")}, Remove: []string{"carol"}})
			h.accept("carol", old, 0, 0)
		}},
		{"a replica that was re-keyed", "is revoked", func(h *keyHistory) {
			h.decide("replica.rekey", replicaArgs{Replica: replicaOf("r4@alpha#r4-1")})
			h.accept("r4", h.ids["r4"], h.state.Epoch(), 0)
		}},
		{"a replica that a recovery left behind", "is revoked", func(h *keyHistory) {
			for h.recover(); ; h.recover() {
				if _, ok := h.state.Replica("r4"); !ok {
					break
				}
			}
			h.accept("r4", h.ids["r4"], h.state.Epoch(), 0)
		}},
		{"a key beyond grace", "is out of range", func(h *keyHistory) {
			for range 6 { // one by one: epochs that are passed over lengthen it
				h.advance(1)
			}
			h.accept(name, h.ids[name], h.state.Epoch(), 0)
		}},
		{"a key before its epoch", "is out of range", func(h *keyHistory) {
			h.join(name, "node.rekey")
			h.accept(name, h.ids[name], h.state.Epoch()-1, 0)
		}},
		{"a key that nobody has", "is unknown", func(h *keyHistory) { h.accept(name, ledger.LeafHash([]byte("no key")), h.state.Epoch(), 0) }},
		{"another's key", "is unknown", func(h *keyHistory) { h.accept(name, h.ids["n-01-0"], h.state.Epoch(), 0) }},
		{"a seq twice", "already", func(h *keyHistory) {
			h.accept(name, h.ids[name], h.state.Epoch(), 7)
			h.accept(name, h.ids[name], h.state.Epoch(), 7)
		}},
		{"an epoch that is over", "speaks of epoch", func(h *keyHistory) {
			h.advance(2)
			h.accept(name, h.ids[name], h.state.Epoch()-2, 0)
		}},
		{"a wrong digest", "not that of those that are active", func(h *keyHistory) { h.beginEpoch(ledger.LeafHash([]byte("other keys"))) }},
		{"a good key refused as revoked", "revoked_key", func(h *keyHistory) { h.refuse(name, h.ids[name], "revoked_key") }},
		{"a good key refused as expired", "key_expired", func(h *keyHistory) { h.refuse(name, h.ids[name], "key_expired") }},
		{"a good key refused as unknown", "wrong_key", func(h *keyHistory) { h.refuse(name, h.ids[name], "wrong_key") }},
		{"a revoked key refused for another reason", "seq_used", func(h *keyHistory) {
			old := h.ids[name]
			h.join(name, "node.rekey")
			h.refuse(name, old, "seq_used")
		}},
	} {
		h := newKeyHistory(start, 1)
		c.do(h)
		switch {
		case c.want == "" && len(h.reader.Wrong) > 0:
			t.Errorf("%s: %s", c.what, h.reader.Wrong[0])
		case c.want != "" && len(h.reader.Wrong) == 0:
			t.Errorf("%s is not seen", c.what)
		case c.want != "" && !strings.Contains(h.reader.Wrong[0], c.want):
			t.Errorf("%s: the reader says %q", c.what, h.reader.Wrong[0])
		}
	}
}

// accept shows the reader an entry that the rules did not make.
func (h *keyHistory) accept(author string, key ledger.Hash, epoch, seq uint64) {
	h.forge(ledger.KindStatement, h.said(author, key, ledger.TypeRecord, ledger.Record{Text: "forged"}, epoch, seq))
}

func (h *keyHistory) forge(kind ledger.Kind, content []byte) {
	h.t.Helper()
	e := ledger.Entry{Seq: h.reader.Next(), Stamp: h.now, Kind: kind, Content: content}
	entry, err := e.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.reader.Read(entry); err != nil {
		h.t.Fatal(err)
	}
}

func (h *keyHistory) beginEpoch(digest ledger.Hash) {
	body := encode(&EpochEffect{Epoch: h.state.Epoch() + 1, Keys: digest, Start: h.now})
	h.forge(ledger.KindEffect, encode(&ledger.Effect{Body: body, Causes: []uint64{}, Type: EffectEpoch}))
}

func (h *keyHistory) refuse(author string, key ledger.Hash, code string) {
	h.t.Helper()
	st, err := ledger.ParseStatement(h.said(author, key, ledger.TypeRecord, ledger.Record{Text: "refused"}, h.state.Epoch(), 3))
	if err != nil {
		h.t.Fatal(err)
	}
	h.reader.Refused(st, code)
}

// A reader that goes on from a copy leaves the other as it was.
func TestKeyReadersPart(t *testing.T) {
	start := newKeyStart(t)
	h := newKeyHistory(start, 1)
	h.advance(1)
	h.join("n-00-0", "node.rekey")
	if start.reader.Epoch == h.reader.Epoch || start.reader.Nodes["n-00-0"] == h.reader.Nodes["n-00-0"] {
		t.Error("they are one")
	}
}
