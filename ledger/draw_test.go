package ledger

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func fleet(operators, nodes int) []Stable {
	stables := make([]Stable, operators)
	for i := range stables {
		stables[i].Operator = fmt.Sprintf("op-%03d", i)
		for j := range nodes {
			stables[i].Nodes = append(stables[i].Nodes, fmt.Sprintf("n-%03d-%03d", i, j))
		}
	}
	return stables
}

// The order in which candidates are listed changes nothing; nobody watches its
// own operator's node; and no operator is drawn twice.
func TestDrawIsOfTheSetAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stables := fleet(rapid.IntRange(0, 40).Draw(t, "operators"), rapid.IntRange(1, 5).Draw(t, "nodes"))
		seed := Hash{rapid.Byte().Draw(t, "seed")}
		drawn := Draw(seed, "n-001-000", "op-001", stables, 32)
		shuffled := slices.Clone(stables)
		for i := range shuffled {
			shuffled[i].Nodes = rapid.Permutation(shuffled[i].Nodes).Draw(t, "nodes")
		}
		if again := Draw(seed, "n-001-000", "op-001", rapid.Permutation(shuffled).Draw(t, "order"), 32); !slices.Equal(drawn, again) {
			t.Fatalf("%v, in another order %v", drawn, again)
		}
		others := max(len(stables)-1, 0)
		if len(stables) < 2 {
			others = len(stables) // op-001 is not there
		}
		if len(drawn) != min(others, 32) {
			t.Fatalf("%d drawn of %d", len(drawn), others)
		}
		for i, m := range drawn {
			if m.Operator == "op-001" || i > 0 && m.Operator <= drawn[i-1].Operator || !slices.ContainsFunc(stables, func(s Stable) bool {
				return s.Operator == m.Operator && slices.Contains(s.Nodes, m.Node)
			}) {
				t.Fatalf("drawn %v", drawn)
			}
		}
	})
}

// Who leaves is replaced; the others stay: rendezvous hashing.
func TestDrawMovesLittle(t *testing.T) {
	stables := fleet(60, 3)
	before := Draw(Hash{1}, "subject", "none", stables, 32)
	gone := before[7].Operator
	rest := slices.DeleteFunc(slices.Clone(stables), func(s Stable) bool { return s.Operator == gone })
	after := Draw(Hash{1}, "subject", "none", rest, 32)
	stayed := 0
	for _, m := range after {
		if slices.Contains(before, m) {
			stayed++
		}
	}
	if stayed != 31 {
		t.Errorf("%d of 31 stayed", stayed)
	}
}

// Over many subjects each node watches about as many as any other, and each
// epoch draws anew.
func TestDrawIsFair(t *testing.T) {
	stables := fleet(50, 4)
	load := map[string]int{}
	same := 0
	for _, s := range stables {
		for _, n := range s.Nodes {
			first := Draw(Hash{1}, n, s.Operator, stables, 32)
			for _, m := range first {
				load[m.Node]++
			}
			for _, m := range Draw(Hash{2}, n, s.Operator, stables, 32) {
				if slices.Contains(first, m) {
					same++
				}
			}
		}
	}
	for n, watched := range load {
		if watched < 10 || watched > 64 { // 32 on average
			t.Errorf("%s watches %d", n, watched)
		}
	}
	if len(load) != 200 || same > 200*32/2 { // 16 % by chance
		t.Errorf("%d nodes watch; %d of %d drawn again", len(load), same, 200*32)
	}
}

func TestAttests(t *testing.T) {
	count := 0
	for i := range 10_000 {
		if Attests(Hash{3}, fmt.Sprintf("n-%d", i), 6, 32) {
			count++
		}
	}
	if count < 1_700 || count > 2_050 { // 1,875 on average
		t.Errorf("%d of 10,000 attest", count)
	}
	if !Attests(Hash{3}, "any", 3, 3) {
		t.Error("where as many are wanted as are drawn, each attests")
	}
}
