package ledger

import (
	"bytes"
	"testing"
)

// growth is the chain that most tests start from: growth[i] makes link i+1. A
// fourth replica is added and gets ready, a governor is replaced, one operator
// gets a second governor, and the fourth replica goes.
var growth = []func(w *world) *Link{
	func(w *world) *Link { return addFourth(w, 4) },
	func(w *world) *Link {
		return w.handover(w.ready("r04"), func(a *Authority) { a.Replicas[3].Joining = false }, "r01", "r02", "r03", "r04")
	},
	func(w *world) *Link {
		dave := testMember("dave", "dune")
		causes := w.decide("council.change", map[string]any{"add": []Member{dave}, "remove": []string{"carol"}}, "bob", "alice")
		return w.handover(causes, func(a *Authority) { a.Council[2] = authorityCouncil([]Member{dave})[0] }, "r01", "r02", "r04")
	},
	func(w *world) *Link {
		anna := testMember("anna", "acme")
		causes := w.decide("council.change", map[string]any{"add": []Member{anna}}, "dave", "alice")
		return w.handover(causes, func(a *Authority) {
			a.Council = append(a.Council[:1], append(authorityCouncil([]Member{anna}), a.Council[1:]...)...)
		}, "r02", "r03", "r04")
	},
	func(w *world) *Link {
		causes := w.decide("replica.remove", map[string]any{"name": "r04"}, "alice", "bob")
		return w.handover(causes, func(a *Authority) { a.Replicas = a.Replicas[:3] }, "r01", "r02", "r03")
	},
}

// addFourth decides that replica r04 comes, and hands over some entries later.
func addFourth(w *world, later int) *Link {
	fourth := testReplica("r04", "dune", "r04")
	causes := w.decide("replica.add", map[string]any{"replica": fourth}, "alice", "bob")
	for range later {
		w.say("carol", TypeRecord, Record{Text: "meanwhile"})
	}
	return w.handover(causes, func(a *Authority) {
		a.Replicas = append(a.Replicas, authorityReplica(fourth, true))
	}, "r01", "r02", "r03")
}

// grow makes the links 0 to n.
func grow(w *world, n int) []*Link {
	links := []*Link{GenesisLink(w.entries[0])}
	for _, step := range growth[:n] {
		links = append(links, step(w))
	}
	return links
}

func (w *world) ready(replica string) (causes []uint64) {
	seq, _ := w.say(replica, TypeReady, Ready{Format: 1, Root: w.head().Root, Size: w.size()})
	return []uint64{seq}
}

func TestChain(t *testing.T) {
	w := newWorld(t, 3)
	links := grow(w, len(growth))
	chain, err := WalkChain(w.hash, links)
	if err != nil {
		t.Fatal(err)
	}
	if chain.Len() != 6 || chain.Latest.Index != 5 || chain.Latest.CosignThreshold != 2 {
		t.Fatalf("walked to link %d with threshold %d", chain.Latest.Index, chain.Latest.CosignThreshold)
	}
	if field := chain.Latest.differs(w.now); field != "" {
		t.Errorf("the chain ends in another authority: %s differs", field)
	}
	for i, l := range links[1:] {
		head, ok := chain.HandoverHead(uint64(i + 1))
		if !ok || chain.ForSize(head.Size).Index != uint64(i+1) || chain.ForSize(head.Size-1).Index != uint64(i) {
			t.Errorf("link %d: head %+v belongs to authority %d", i+1, head, chain.ForSize(head.Size).Index)
		}
		prev, _ := chain.At(uint64(i))
		next, err := Follow(w.hash, prev, l)
		if err != nil || next.Index != uint64(i+1) {
			t.Errorf("follow to link %d: %v", i+1, err)
		}
	}
	if _, ok := chain.At(6); ok || chain.ForSize(1<<52).Index != 5 {
		t.Error("there is an authority beyond the last")
	}
}

// TestEveryActionHandsOver makes each change that an authority can undergo.
func TestEveryActionHandsOver(t *testing.T) {
	all := []string{"r01", "r02", "r03", "r04"}
	for _, c := range []struct {
		name   string
		causes func(w *world) []uint64
		change func(a *Authority)
	}{
		{"council.change re-keys a governor", func(w *world) []uint64 {
			return w.decide("council.change", map[string]any{"add": []Member{{Name: "bob", Operator: "bolt", Public: testKey("bob:new").Public().Bytes()}}, "remove": []string{"bob"}}, "alice", "dave")
		}, func(a *Authority) { a.Council[2].Public = testKey("bob:new").Public().Bytes() }},
		{"council.reseat", func(w *world) []uint64 {
			return w.decide("council.reseat", map[string]any{"council": []Member{testMember("erin", "core")}}, "rosa", "rhea")
		}, func(a *Authority) { a.Council = authorityCouncil([]Member{testMember("erin", "core")}) }},
		{"policy.change", func(w *world) []uint64 {
			p := DefaultPolicy(3)
			p.Rules["node.admit"] = Rule{Threshold: 1}
			p.Rules["policy.change"] = Rule{Threshold: 3}
			return w.decide("policy.change", map[string]any{"policy": p}, "alice", "bob", "dave")
		}, func(a *Authority) { a.Thresholds["node.admit"], a.Thresholds["policy.change"] = 1, 3 }},
		{"replica.remove", func(w *world) []uint64 {
			return w.decide("replica.remove", map[string]any{"cause": true, "name": "r02"}, "alice", "bob")
		}, func(a *Authority) { a.Replicas = append(a.Replicas[:1], a.Replicas[2:]...) }},
		{"replica.rekey", func(w *world) []uint64 {
			return w.decide("replica.rekey", map[string]any{"replica": testReplica("r02", "bolt", "r02:new")}, "alice", "bob")
		}, func(a *Authority) { a.Replicas[1] = authorityReplica(testReplica("r02", "bolt", "r02:new"), true) }},
		{"format.upgrade", func(w *world) []uint64 {
			return w.decide("format.upgrade", map[string]any{"format": uint64(Format + 1)}, "alice", "bob")
		}, func(a *Authority) { a.Format = Format + 1 }},
		{"log.rekey", func(w *world) []uint64 {
			return w.decide("log.rekey", NewLogSigner(worldOrigin, testSeed("a"), testSeed("b")).Keys(), "alice", "bob")
		}, func(a *Authority) { a.Log = NewLogSigner(worldOrigin, testSeed("a"), testSeed("b")).Keys() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3)
			links := grow(w, 4)
			links = append(links, w.handover(c.causes(w), c.change, all...))
			chain, err := WalkChain(w.hash, links)
			if err != nil {
				t.Fatal(err)
			}
			if field := chain.Latest.differs(w.now); field != "" {
				t.Errorf("%s differs", field)
			}
		})
	}
}

// TestLinkEncodes checks that links read back as they were.
func TestLinkEncodes(t *testing.T) {
	for i, l := range grow(newWorld(t, 3), 2) {
		b, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseLink(b)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := again.Encode(); err != nil || !bytes.Equal(b, c) {
			t.Errorf("link %d encodes again to other bytes: %v", i, err)
		}
	}
}
