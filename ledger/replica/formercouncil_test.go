package replica_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// Two governors are replaced. Later they open a generation from a head of their time,
// with a copy of a replica's disk and its key, and show it to the others: these say
// so and go on.
func TestFormerCouncilStopsNobody(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "of their time"))
	stolen := c.Follower()
	if err := stolen.Kill(); err != nil {
		t.Fatal(err)
	}
	former := [2]replicatest.Principal{c.Council[0], c.Council[1]}
	dave := replicatest.Principal{Name: "dave", Operator: former[0].Operator, Key: replicatest.Key(t)}
	erin := replicatest.Principal{Name: "erin", Operator: former[1].Operator, Key: replicatest.Key(t)}
	member := func(p replicatest.Principal) ledger.Member {
		return ledger.Member{Name: p.Name, Operator: p.Operator, Public: p.Key.Public().Bytes()}
	}
	c.Decide(c.Leader(), "council.change", map[string]any{"add": []ledger.Member{member(dave), member(erin)}, "remove": []string{former[0].Name, former[1].Name}})
	honest := []*replicatest.Node{}
	for _, n := range c.Nodes {
		if n != stolen {
			honest = append(honest, n)
			n.Await("the handover is certified", func(s replica.Status) bool { return s.Authority == 1 })
		}
	}
	// Council[0] and [1] sign it: those who left.
	plan := stolen.Survey()
	if _, err := stolen.Recover(c.Recovery(plan, []string{stolen.Record.Name}, nil, nil), nil); err != nil {
		t.Fatal(err)
	}
	stolen.Start()
	stolen.Await("their generation is certified by itself", func(s replica.Status) bool { return s.Generation == 1 && s.Authority == 1 })

	for _, n := range honest {
		s := n.Replica.Status()
		for ctx := c.Context(); ctx.Err() == nil && halted(s) == "" && !alarmed(s, "former_council"); s = n.Replica.Status() {
			if found := n.Replica.AskSeeds(ctx); found == 0 {
				t.Errorf("%s learned of no set, though others prove one", n.Record.Name)
			}
		}
		if reason := halted(s); reason != "" {
			t.Fatalf("%s halts: %s", n.Record.Name, reason)
		}
		var detail string
		for _, a := range s.Alarms {
			if a.Code == "former_council" {
				detail = a.Detail
			}
		}
		for _, want := range []string{"opens generation 1 from size", plan.Head.Root.String(), former[0].Name + ", " + former[1].Name, "0 operators approve, 2 decide"} {
			if !strings.Contains(detail, want) {
				t.Errorf("%s: its alarm lacks %q: %s", n.Record.Name, want, detail)
			}
		}
		kept, err := os.ReadFile(filepath.Join(n.Dir, "former"))
		if err != nil {
			t.Fatal(err)
		}
		if link, err := ledger.ParseLink(kept); err != nil || link.Fork == nil {
			t.Errorf("%s keeps no link that opens a generation: %v", n.Record.Name, err)
		}
	}
	c.Council[0], c.Council[1] = dave, erin
	c.Submit(honest[0], replica.WaitCertified, c.Record(dave, "of the present"))
}
