package replicatest

import (
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
)

// Survey reads the disk of a stopped node.
func (n *Node) Survey() *replica.Survivor {
	n.cluster.t.Helper()
	s, err := replica.Survey(n.Dir, n.cluster.Entry)
	if err != nil {
		n.cluster.t.Fatalf("survey %s: %v", n.Record.Name, err)
	}
	return s
}

// Recovery makes the statements with which two governors go on from a survivor's
// head with the replicas of keep and the new ones; change may alter the body.
func (c *Cluster) Recovery(s *replica.Survivor, keep []string, fresh []*Identity, change func(*ledger.Recover)) [][]byte {
	c.t.Helper()
	body := ledger.Recover{At: uint64(time.Now().UnixMilli()), Generation: s.Generation + 1, Head: s.Head, Keep: keep}
	body.Until = body.At + uint64(time.Hour.Milliseconds())
	for _, one := range fresh {
		body.New = append(body.New, one.Record)
	}
	if change != nil {
		change(&body)
	}
	sign := func(p Principal, typ string, body any) []byte {
		e, err := ledger.Sign(p.Key, ledger.Payload{Author: p.Name, Generation: s.Generation, Ledger: c.Hash, Type: typ}, body)
		if err != nil {
			c.t.Fatal(err)
		}
		return e
	}
	first := sign(c.Council[0], ledger.TypeRecover, body)
	st, err := ledger.ParseStatement(first)
	if err != nil {
		c.t.Fatal(err)
	}
	return [][]byte{first, sign(c.Council[1], ledger.TypeApprove, ledger.Ballot{Proposal: st.ID})}
}

// Recover makes a stopped node's disk a member of the generation that the
// statements open, with what another survivor knows. Each change may alter the rest.
func (n *Node) Recover(statements [][]byte, s *replica.Survivor, changes ...func(*replica.RecoverOptions)) (*replica.RecoverReport, error) {
	cfg := n.Config()
	o := replica.RecoverOptions{Dir: n.Dir, Name: n.Record.Name, Genesis: n.cluster.Entry, Key: n.Key.Public(), LogStore: cfg.LogStore, Statements: statements}
	if s != nil {
		o.Checkpoint, o.Links = s.Checkpoint, s.Links
	}
	for _, change := range changes {
		change(&o)
	}
	return replica.Recover(n.cluster.Context(), o)
}
