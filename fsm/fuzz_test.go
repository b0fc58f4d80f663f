package fsm

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// FuzzApply gives Apply arbitrary commands, whose signatures all count as
// good, so that the fuzzer gets behind them: it never panics, never changes
// the state that it is given, and a command that appends nothing leaves the
// state as it is. What it appends can be replayed.
func FuzzApply(f *testing.F) {
	w := newWorld(f, shortGenesis())
	w.verify = trusting{}
	p := w.propose("alice", "operator.add", operatorArgs{Name: "delta"})
	join := w.sign(saying{author: "edge-1", typ: ledger.TypeJoin, body: ledger.Join{Name: "edge-1", Operator: "alpha", Peer: filler("peer", 32), Public: publicOf("edge-1")}})
	w.submit(p, join)
	w.apply(ledger.CommandSeal)
	start := w.state
	seeds := [][][]byte{
		{w.ballot("bob", ledger.TypeApprove, p)},
		{w.ballot("carol", ledger.TypeReject, p)},
		{w.ballot("carol", ledger.TypeVeto, p), w.ballot("alice", ledger.TypeWithdraw, p)},
		{w.propose("alice", "node.admit", admitArgs{Joins: []ledger.Hash{idOf(join)}})},
		{w.propose("bob", "policy.change", policyArgs{Policy: w.state.Policy()})},
		{w.propose("bob", "council.change", councilArgs{Remove: []string{"carol"}})},
		{w.propose("bob", "replica.add", replicaArgs{Replica: replicaOf("r5@beta")})},
		{w.propose("rita", "council.reseat", reseatArgs{Council: []ledger.Member{memberOf("dave@alpha"), memberOf("erin@beta")}})},
		{w.sign(saying{author: "r1", typ: ledger.TypeRecord, body: ledger.Record{Text: "hello"}})},
		{join},
	}
	for _, seed := range seeds {
		f.Add((&ledger.Command{Kind: ledger.CommandStatements, Stamp: w.now, Statements: seed}).Encode())
	}
	f.Add((&ledger.Command{Kind: ledger.CommandTick, Stamp: w.now + 100_000}).Encode())
	f.Add((&ledger.Command{Kind: ledger.CommandSeal, Stamp: 1 << 53}).Encode())
	fuzzCommands(f, start)
}

// FuzzApplyFleet does so in a ledger of format 2, with the statements of nodes.
func FuzzApplyFleet(f *testing.F) {
	w := fuzzFleet(f)
	start := w.state
	tick := w.tick()
	seq := uint64(900)
	paper := func(text string) []byte {
		return w.sign(saying{author: "n-01-0", typ: ledger.TypeRecord, body: ledger.Record{Text: text}, change: func(p *ledger.Payload) { p.Seq = &seq }})
	}
	a, b := paper("to some"), paper("to others")
	say := func(author, typ string, body any) []byte { return w.sign(saying{author: author, typ: typ, body: body}) }
	for _, seed := range [][][]byte{
		{say("n-01-0", ledger.TypeObserve, ledger.Observe{Counter: 1, From: tick, Kind: ledger.NodeDown, Subject: "n-00-0", To: tick})},
		{say("n-01-0", ledger.TypeObserve, ledger.Observe{Cause: ledger.CauseMute, Counter: 2, From: tick, Kind: ledger.NodeBad, Subject: "n-00-0", To: tick})},
		{say("n-01-0", ledger.TypeObserve, ledger.Observe{Counter: 3, From: tick, Kind: ledger.LinkDown, Subject: "n-00-0", To: tick})},
		{say("n-01-0", ledger.TypeObserve, ledger.Observe{Counter: 4, From: tick, Kind: ledger.NodeUp, Subject: "n-02-0", To: tick})},
		{say("n-02-0", ledger.TypeEvidence, ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{a, b}})},
		{say("alice", ledger.TypeEvidence, ledger.Evidence{Kind: ledger.EvidenceFlood, Exhibits: [][]byte{a}})},
		{say("n-01-0", ledger.TypeAttest, ledger.Attest{Epochs: []ledger.AttestedEpoch{{Clean: []byte{0, 0, 1}, Epoch: 0}}})},
		{w.propose("alice", "node.remove", nodeArgs{Name: "n-00-0"})},
	} {
		f.Add((&ledger.Command{Kind: ledger.CommandStatements, Stamp: w.now, Statements: seed}).Encode())
	}
	f.Add((&ledger.Command{Kind: ledger.CommandTick, Stamp: w.now + 100_000_000}).Encode())
	fuzzCommands(f, start)
}

// FuzzApplyKeys does so with the statements and decisions of keys, after a node and a
// replica have rotated.
func FuzzApplyKeys(f *testing.F) {
	h := newKeyStart(f)
	old := h.turn("n-00-0")
	h.rotateReplica("r2")
	h.do(ledger.CommandSeal)
	key, epoch, seq := h.node("n-00-0").Key, h.state.Epoch(), uint64(900)
	seal := filler("sealed", 32)
	shares := []ledger.BackupShare{{Holder: "alice", Recipient: ledger.LeafHash(seal), Share: ledger.LeafHash([]byte("1"))}, {Holder: "bob", Recipient: ledger.LeafHash(seal), Share: ledger.LeafHash([]byte("2"))}}
	backup := ledger.Backup{Ciphertext: ledger.LeafHash([]byte("file")), Key: key, Set: seal[:16], Shares: shares, Threshold: 2}
	paper := func(text string) []byte {
		return h.said("n-00-0", old, ledger.TypeRecord, ledger.Record{Text: text}, epoch-1, seq)
	}
	propose := func(action string, args any) []byte {
		raw := encode(args)
		base, err := h.state.BaseFor(action, raw)
		if err != nil {
			f.Fatal(err)
		}
		return h.said("alice", h.ids["alice"], ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base}, 0, 0)
	}
	for _, seed := range [][][]byte{
		{h.said("n-00-0", key, ledger.TypeRotate, h.nextKey("n-00-0", key), epoch, seq)},
		{h.said("n-00-0", old, ledger.TypeRotate, h.nextKey("n-00-0", old), epoch-1, seq)},
		{h.said("n-02-0", h.node("n-02-0").Key, ledger.TypeRotate, h.nextKey("n-02-0", h.node("n-02-0").Key), epoch, seq)},
		{paper("of the epoch before"), h.said("n-00-0", key, ledger.TypeRecord, ledger.Record{Text: "of now"}, epoch, seq)},
		{h.said("n-00-0", key, ledger.TypeBackup, backup, epoch, seq)},
		{h.said("n-00-0", key, ledger.TypeRestoreTest, ledger.RestoreTest{
			Ciphertext: backup.Ciphertext, Holders: []string{"alice", "bob"}, Key: key, Outcome: ledger.RestoreOpened, Purpose: ledger.RestoreForTest,
		}, epoch, seq)},
		{h.said("n-00-0", key, ledger.TypeDestroy, ledger.Destroy{Key: old}, epoch, seq)},
		{h.said("r1", h.ids["r1"], ledger.TypeEvidence, ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{paper("to some"), paper("to others")}}, epoch, seq)},
		{propose(ledger.ActionRevoke, revokeArgs{From: 1, Key: old, Reason: "stolen"})},
		{propose("node.remove", nodeArgs{From: &epoch, Name: "n-01-0"})},
		{propose("policy.change", policyArgs{Policy: h.longKeys()})},
	} {
		f.Add((&ledger.Command{Kind: ledger.CommandStatements, Stamp: h.now, Statements: seed}).Encode())
	}
	f.Add((&ledger.Command{Kind: ledger.CommandTick, Stamp: h.now + 100_000_000}).Encode())
	fuzzCommands(f, h.state)
}

// fuzzFleet is a fleet of which something was said: one node is down by verdict,
// another quarantined, links are down, one window is attested.
func fuzzFleet(f failer) *fleet {
	w := newFleet(f, 5, 2, func(g *ledger.Genesis) {
		p := ledger.DefaultProtection()
		p.Attestors, p.BadPoints = 5, 2_500
		g.Policy.Protection = &p
	})
	w.epochs(8)
	w.attestAll()
	for _, m := range w.monitors("n-02-0")[:3] {
		w.observes(m.Node, ledger.NodeDown, "n-02-0")
	}
	for _, m := range w.monitors("n-03-0")[:3] {
		w.observes(m.Node, ledger.NodeBad, "n-03-0")
	}
	w.observes("n-00-0", ledger.LinkDown, "n-00-1")
	w.observes("n-00-1", ledger.LinkDown, "n-00-0")
	w.observes(w.monitors("n-00-0")[0].Node, ledger.NodeDown, "n-00-0")
	w.verify = trusting{}
	w.apply(ledger.CommandSeal)
	return w
}

// fuzzCommands gives Apply commands after a seal.
func fuzzCommands(f *testing.F, start *State) {
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ledger.ParseCommand(b)
		if err != nil {
			return
		}
		digest := start.Digest()
		next, result := Apply(start, c, trusting{})
		if start.Digest() != digest {
			t.Fatal("Apply changed the state that it was given")
		}
		if len(result.Entries) == 0 {
			if next != start {
				t.Fatal("a command that appended nothing made another state")
			}
			return
		}
		again, err := Replay(start, func(yield func([]byte, error) bool) {
			for _, entry := range result.Entries {
				if !yield(entry, nil) {
					return
				}
			}
		}, trusting{})
		if err != nil {
			t.Fatal(err)
		}
		sameState(t, next, again)
	})
}

// FuzzRecord reads records as Load does: whatever it accepts is written again
// as the same bytes.
func FuzzRecord(f *testing.F) {
	w := newWorld(f, defaultGenesis())
	p := w.propose("alice", "operator.add", operatorArgs{Name: "delta"})
	w.submit(p, w.ballot("bob", ledger.TypeApprove, p), w.sign(saying{author: "r1", typ: ledger.TypeRecord, body: ledger.Record{Text: "x"}}))
	add := func(key string, value []byte) bool {
		f.Add(key, value)
		return true
	}
	w.state.Walk("", add)
	for _, table := range []string{keyProtection, tableAttest, tableLink, tableOrdinal, tableReputation, tableTally} {
		fuzzFleet(f).state.Walk(table, add)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		record, err := decodeRecord(key, value)
		if err != nil {
			return
		}
		if !bytes.Equal(encode(record), value) {
			t.Fatalf("record %q: %s is written again as %s", key, value, encode(record))
		}
	})
}

// FuzzReplayer gives the replayer arbitrary entries: it refuses them and never
// panics.
func FuzzReplayer(f *testing.F) {
	w := newWorld(f, defaultGenesis())
	p := w.propose("alice", "operator.add", operatorArgs{Name: "delta"})
	w.submit(p, w.ballot("bob", ledger.TypeApprove, p))
	w.apply(ledger.CommandSeal)
	for _, entry := range w.entries {
		f.Add(entry)
	}
	start, err := New(w.entry0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		r := ResumeReplayer(start, trusting{})
		if err := r.Add(entry); err == nil && !bytes.Equal(entry, w.entries[0]) {
			if e, err := ledger.ParseEntry(entry); err != nil || e.Seq != 1 {
				t.Fatalf("accepted %x", entry)
			}
		}
	})
}
