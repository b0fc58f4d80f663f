package fsm

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/readertest"
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
		{"a key that was revoked, in an epoch before", "is revoked", func(h *keyHistory) {
			h.decide(ledger.ActionRevoke, revokeArgs{From: h.state.Epoch(), Key: h.ids[name], Reason: "stolen"})
			h.accept(name, h.ids[name], h.state.Epoch()-1, 0)
		}},
		{"the key that a thief rotated to", "is revoked", func(h *keyHistory) {
			old := h.turn(name)
			h.decide(ledger.ActionRevoke, revokeArgs{From: 1, Key: old, Reason: "stolen"})
			h.accept(name, h.node(name).Key, h.state.Epoch(), 0)
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
		{"a key after its rotation", "is out of range", func(h *keyHistory) {
			old := h.turn(name)
			h.accept(name, old, h.state.Epoch(), 0)
		}},
		{"a key before its rotation is in force", "is out of range", func(h *keyHistory) {
			h.turn(name)
			h.accept(name, h.node(name).Key, h.state.Epoch()-1, 0)
		}},
		{"a key that was announced and is not in force", "is out of range", func(h *keyHistory) {
			h.announceNext(name)
			h.accept(name, h.node(name).Next.Key, h.state.Epoch(), 0)
		}},
		{"a key long after its rotation", "is out of range", func(h *keyHistory) {
			old := h.turn(name)
			h.advance(1)
			h.accept(name, old, h.state.Epoch()-2, 0)
		}},
		{"a key from before a re-keying", "is out of range", func(h *keyHistory) {
			old := h.turn(name)
			h.join(name, "node.rekey")
			h.accept(name, old, h.state.Epoch()-1, 0)
		}},
		{"two keys in one epoch", "under two keys", func(h *keyHistory) {
			old := h.turn(name)
			h.reader.Keys[old] = h.reader.Keys[h.node(name).Key] // as if it were still
			h.accept(name, old, h.state.Epoch(), 0)
			h.accept(name, h.node(name).Key, h.state.Epoch(), 1)
		}},
		{"a rotation ahead of time", "rotates in epoch", func(h *keyHistory) {
			h.decide("policy.change", policyArgs{Policy: h.longKeys()})
			h.join(name, "node.rekey")
			h.forgeRotation(name)
		}},
		{"a rotation after the key's end", "is out of range", func(h *keyHistory) {
			h.advance(1)
			for h.state.Epoch() <= h.node(name).ValidTo {
				h.advance(1)
			}
			h.forgeRotation(name)
		}},
		{"a rotation while one waits", "while a rotation waits", func(h *keyHistory) {
			h.announceNext(name)
			h.forgeRotation(name)
		}},
		{"a rotation of who is excluded", "and is excluded", func(h *keyHistory) {
			h.awaitWindow(name)
			h.reader.Nodes[name] = readertest.Seated{Key: h.node(name).Key, Standing: NodeExcluded}
			h.forgeRotation(name)
		}},
		{"a rotation of a governor", "a governor rotates", func(h *keyHistory) { h.forgeRotation("carol") }},
		{"counts that are wrong", "as they are read", func(h *keyHistory) { h.spoilCount() }},
		{"a late key without an alarm", "the alarm rotation_late", func(h *keyHistory) { h.hushAlarms(name) }},
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
	_, count := h.state.activeKeys()
	body := encode(&EpochEffect{Count: count, Epoch: h.state.Epoch() + 1, Keys: digest, Start: h.now})
	h.forge(ledger.KindEffect, encode(&ledger.Effect{Body: body, Causes: []uint64{}, Type: EffectEpoch}))
}

// awaitWindow lets epochs pass until a node's key may be rotated.
func (h *keyHistory) awaitWindow(name string) {
	policy := h.state.Policy()
	for h.state.Epoch()+policy.KeyRules().RotateEpochs <= h.node(name).ValidTo {
		h.advance(1)
	}
}

// announceNext has a node rotate as soon as it may.
func (h *keyHistory) announceNext(name string) (old ledger.Hash) {
	h.t.Helper()
	h.awaitWindow(name)
	old = h.node(name).Key
	h.announce(name, old, h.nextKey(name, old), h.state.Epoch())
	if h.node(name).Next == nil {
		h.t.Fatalf("%s does not rotate", name)
	}
	return old
}

// turn has a node rotate, and waits until the next key is in force.
func (h *keyHistory) turn(name string) (old ledger.Hash) {
	h.t.Helper()
	for old = h.announceNext(name); h.node(name).Key == old; {
		h.advance(1)
	}
	return old
}

func (h *keyHistory) forgeRotation(name string) {
	key := h.ids[name]
	if n, ok := h.state.Node(name); ok {
		key = n.Key
	}
	h.forge(ledger.KindStatement, h.said(name, key, ledger.TypeRotate, h.nextKey(name, key), h.state.Epoch(), 99))
}

func (h *keyHistory) longKeys() ledger.Policy {
	p := h.state.Policy()
	p.KeyEpochs = 20
	return p
}

// hushAlarms shows the reader the epoch in which a node's key is late, without what
// the rules say of that.
func (h *keyHistory) hushAlarms(name string) {
	for h.state.Epoch()+1 < h.node(name).ValidTo {
		h.advance(1)
	}
	policy := h.state.Policy()
	h.now = h.state.Meta().EpochStart + policy.EpochMillis
	_, result := Apply(h.state, &ledger.Command{Kind: ledger.CommandTick, Stamp: h.now}, trusting{})
	for _, entry := range result.Entries {
		e, err := ledger.ParseEntry(entry)
		if err != nil {
			h.t.Fatal(err)
		}
		if effect, err := e.Effect(); err != nil || effect.Type != EffectAlarm {
			h.forge(e.Kind, e.Content)
		}
	}
	h.forge(ledger.KindSeal, []byte("{}"))
}

// spoilCount shows the reader the next epoch's effect with another count.
func (h *keyHistory) spoilCount() {
	policy := h.state.Policy()
	h.now = h.state.Meta().EpochStart + policy.EpochMillis
	_, result := Apply(h.state, &ledger.Command{Kind: ledger.CommandTick, Stamp: h.now}, trusting{})
	e, err := ledger.ParseEntry(result.Entries[0])
	if err != nil {
		h.t.Fatal(err)
	}
	effect, err := e.Effect()
	if err != nil {
		h.t.Fatal(err)
	}
	var body EpochEffect
	decodeInto(h.t, effect, &body)
	body.Count++
	effect.Body = encode(&body)
	h.forge(ledger.KindEffect, encode(effect))
}

func (h *keyHistory) refuse(author string, key ledger.Hash, code string) {
	h.t.Helper()
	st, err := ledger.ParseStatement(h.said(author, key, ledger.TypeRecord, ledger.Record{Text: "refused"}, h.state.Epoch(), 3))
	if err != nil {
		h.t.Fatal(err)
	}
	h.reader.Refused(st, code, "")
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
