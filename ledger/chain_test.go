package ledger

import (
	"testing"
)

// grow makes the chain that most tests start from: a fourth replica is added,
// gets ready, and a governor is replaced.
func grow(w *world) []*Link {
	links := []*Link{GenesisLink(w.entries[0])}
	fourth := testReplica("r04", "dune", "r04")
	causes := w.decide("replica.add", map[string]any{"replica": fourth}, "alice", "bob")
	links = append(links, w.handover(causes, func(a *Authority) {
		a.Replicas = append(a.Replicas, authorityReplica(fourth, true))
	}, "r01", "r02", "r03"))

	seq, _ := w.say("r04", TypeReady, Ready{Format: 1, Root: w.head().Root, Size: w.size()})
	links = append(links, w.handover([]uint64{seq}, func(a *Authority) {
		a.Replicas[3].Joining = false
	}, "r01", "r02", "r03", "r04"))

	dave := testMember("dave", "dune")
	causes = w.decide("council.change", map[string]any{"add": []Member{dave}, "remove": []string{"carol"}}, "bob", "alice")
	links = append(links, w.handover(causes, func(a *Authority) {
		a.Council[2] = authorityCouncil([]Member{dave})[0]
	}, "r01", "r02", "r04"))
	return links
}

func TestChain(t *testing.T) {
	w := newWorld(t, 3)
	links := grow(w)
	chain, err := WalkChain(w.hash, links)
	if err != nil {
		t.Fatal(err)
	}
	if chain.Len() != 4 || chain.Latest.Index != 3 || chain.Latest.CosignThreshold != 3 {
		t.Fatalf("walked to link %d with threshold %d", chain.Latest.Index, chain.Latest.CosignThreshold)
	}
	if field := chain.Latest.differs(w.now); field != "" {
		t.Errorf("the chain ends in another authority: %s differs", field)
	}
}
