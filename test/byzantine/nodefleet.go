package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// The fleet of a stage: every operator has as many nodes.
const (
	fleetOperators = 12
	fleetNodes     = 2  // of each operator
	agentOperators = 10 // where agents run; one node of each, or more by -nodes
	fleetQuota     = 128
	fleetTick      = 1000 // milliseconds
	colluders      = 3    // operators of agentOperators, a third
)

// founders are the operators that govern; each sponsors as many of the others.
var founders = []string{"aurora", "borealis", "cirrus"}

// fleet is a ledger of four honest replicas and the nodes of many operators,
// whose keys the stage holds.
type fleet struct {
	*scene
	nodes  []*node // by name
	audit  *audit
	quota  uint64
	guilty map[string]bool // nodes that attack

	agents  []*agentProcess
	ports   map[string]string   // where nodes listen, by name
	servers map[string][]string // of agents that are not given all replicas
	headAge time.Duration       // max_head_age of agents; 0: as the policy has it

	mu     sync.Mutex
	signed map[ledger.Hash]time.Time // when nodes made statements with their own keys
}

// node is the holder of a node's legitimate keys.
type node struct {
	name, operator string
	key            *keys.PrivateKey
	peer           ed25519.PrivateKey

	mu    sync.Mutex
	epoch uint64
	seqs  [2]uint64 // used in epoch, by space
	said  uint64    // counters used
}

func operatorName(i int) string { return fmt.Sprintf("op-%02d", i) }

func nodeName(operator, i int) string { return fmt.Sprintf("n-%02d-%d", operator, i) }

// ofNodes is the founding of a fleet's ledger: epochs pass by decision alone, unless
// a stage takes longer than one.
func ofNodes(operatorCount int, quota uint64, epoch time.Duration) founding {
	var operators []string
	for _, name := range founders {
		operators = append(operators, fmt.Sprintf("{name: %s}", name))
	}
	operators = append(operators, "{name: delta, sponsor: aurora}")
	for i := range operatorCount {
		operators = append(operators, fmt.Sprintf("{name: %s, sponsor: %s}", operatorName(i), founders[i%len(founders)]))
	}
	return founding{
		fourth:    quorateProgram,
		operators: "[" + strings.Join(operators, ", ") + "]",
		policy:    fmt.Sprintf("{max_skew_millis: 3000, tick_millis: %d, epoch_millis: %d, quota: %d}", fleetTick, epoch.Milliseconds(), quota),
	}
}

// found admits the nodes, in the epoch before the first one: so many of each
// operator, or, of those that collude, a crowd.
func (f *fleet) found(ctx context.Context, operators, nodes, crowd int) error {
	joins := [][]byte{}
	args := struct {
		Joins []ledger.Hash `json:"joins"`
	}{}
	for i := range operators {
		count := nodes
		if i < colluders && crowd > 0 {
			count = crowd
		}
		for j := range count {
			n, err := newNode(nodeName(i, j), operatorName(i))
			if err != nil {
				return err
			}
			f.nodes = append(f.nodes, n)
			envelope := f.sign(n.key, f.withNonce(n.name, ledger.TypeJoin), ledger.Join{
				Name: n.name, Operator: n.operator, Peer: n.peer.Public().(ed25519.PublicKey), Public: n.key.Public().Bytes()})
			joins, args.Joins = append(joins, envelope), append(args.Joins, statementID(envelope))
		}
	}
	if err := f.decide(ctx, "node.admit", args, joins...); err != nil {
		return err
	}
	return f.audit.await(ctx, "the nodes are admitted", func(state *fsm.State) bool {
		return len(state.Nodes("", 1<<16)) == len(f.nodes)
	})
}

func newNode(name, operator string) (*node, error) {
	key, err := keys.Generate()
	if err != nil {
		return nil, err
	}
	return &node{name: name, operator: operator, key: key, peer: key.PeerKey()}, nil
}

func (f *fleet) node(name string) *node {
	i := slices.IndexFunc(f.nodes, func(n *node) bool { return n.name == name })
	if i < 0 {
		panic("no node " + name)
	}
	return f.nodes[i]
}

// attackers takes note of who attacks.
func (f *fleet) attackers(nodes ...*node) {
	for _, n := range nodes {
		f.guilty[n.name] = true
	}
}

// mark has a statement certified, and waits until the auditor has derived it.
func (f *fleet) mark(ctx context.Context) error {
	c, err := f.client("", f.members...)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := c.Submit(ctx, [][]byte{f.record("carol", "so far")}, client.WaitCertified)
	if err != nil {
		return err
	}
	return f.audit.await(ctx, "the auditor has derived all of it", func(s *fsm.State) bool { return s.Next() > answer.Last })
}

// except lists the nodes of other operators.
func (f *fleet) except(operators ...string) []*node {
	var rest []*node
	for _, n := range f.nodes {
		if !slices.Contains(operators, n.operator) {
			rest = append(rest, n)
		}
	}
	return rest
}

// of lists the nodes of some operators.
func (f *fleet) of(operators ...string) []*node {
	var list []*node
	for _, n := range f.nodes {
		if slices.Contains(operators, n.operator) {
			list = append(list, n)
		}
	}
	return list
}

// sign is a statement in our own shape.
func (f *fleet) sign(k *keys.PrivateKey, p ledger.Payload, body any) []byte {
	envelope, err := ledger.Sign(k, p, body)
	if err != nil {
		panic(err) // our own shape
	}
	return envelope
}

func (f *fleet) payload(author, typ string) ledger.Payload {
	return ledger.Payload{Author: author, Ledger: f.genesis, Type: typ}
}

func (f *fleet) withNonce(author, typ string) ledger.Payload {
	p := f.payload(author, typ)
	p.Nonce = make([]byte, 16)
	_, _ = rand.Read(p.Nonce)
	p.Expires = uint64(time.Now().Add(time.Hour).UnixMilli())
	return p
}

func statementID(envelope []byte) ledger.Hash {
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		panic(err) // our own
	}
	return st.ID
}

// submits submits statements as one bundle at the replicas, and fails when it
// is refused.
func (f *fleet) submits(ctx context.Context, envelopes ...[]byte) error {
	c, err := f.client("", f.members...)
	if err != nil {
		return err
	}
	defer c.Close()
	for chunk := range slices.Chunk(envelopes, 256) {
		if _, err := c.Submit(ctx, chunk, client.WaitCommitted); err != nil {
			return err
		}
	}
	return nil
}

// decide has the council decide and the ledger execute an action; joins that it
// names go with it.
func (f *fleet) decide(ctx context.Context, action string, args any, joins ...[]byte) error {
	raw, err := canon.Marshal(args)
	if err != nil {
		return err
	}
	c, err := f.client("", f.members...)
	if err != nil {
		return err
	}
	defer c.Close()
	base, err := c.Base(ctx, action, json.RawMessage(raw), client.Read{})
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	propose := f.sign(f.people["alice"].Key, f.withNonce("alice", ledger.TypePropose), ledger.Propose{Action: action, Args: raw, Base: base.Base})
	votes := [][]byte{propose}
	for _, name := range []string{"bob", "carol"} {
		votes = append(votes, f.sign(f.people[name].Key, f.payload(name, ledger.TypeApprove), ledger.Ballot{Proposal: statementID(propose)}))
	}
	// The second approval decides it; the third consents for an operator that
	// the first two do not speak for, and is one too many otherwise.
	if action != "node.admit" {
		votes = votes[:2]
	}
	answer, err := c.Propose(ctx, append(joins, votes...), client.WaitCommitted)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if answer.Proposal != nil && answer.Proposal.Standing != fsm.ProposalExecuted {
		return fmt.Errorf("%s: it is %s", action, answer.Proposal.Standing)
	}
	return nil
}

// advance has n epochs pass, one after the other.
func (f *fleet) advance(ctx context.Context, n int) error {
	for range n {
		was := f.audit.epoch()
		if err := f.decide(ctx, "epoch.advance", struct{}{}); err != nil {
			return err
		}
		if err := f.audit.await(ctx, "the next epoch has come", func(s *fsm.State) bool { return s.Epoch() > was }); err != nil {
			return err
		}
	}
	return nil
}

// monitors are the nodes that watch a subject now.
func (f *fleet) monitors(subject string) []*node {
	state := f.audit.now()
	record, ok := state.Node(subject)
	if !ok {
		return nil
	}
	var list []*node
	for _, m := range state.Monitors(&record, state.Epoch(), state.Electorate()) {
		list = append(list, f.node(m.Node))
	}
	return list
}

// dropped says how long from a moment until every replica answers with a
// certified state in which a node has a standing.
func (f *fleet) dropped(ctx context.Context, name, standing string, since time.Time) (time.Duration, error) {
	for _, m := range f.members {
		c, err := f.client("", m)
		if err != nil {
			return 0, err
		}
		err = f.Await(ctx, fmt.Sprintf("%s says that %s is %s", m.name, name, standing), func() bool {
			n, err := c.Node(ctx, name, client.Read{Consistency: client.Certified})
			return err == nil && n.Standing == standing
		})
		c.Close()
		if err != nil {
			return 0, err
		}
	}
	return time.Since(since), nil
}

// codeOf is the code of a refusal, or "ok".
func codeOf(err error) string {
	var problem *client.Problem
	switch {
	case err == nil:
		return "ok"
	case !errors.As(err, &problem):
		return "error: " + err.Error()
	}
	for _, st := range problem.Statements {
		if st.Verdict != "ok" && st.Verdict != "bundle_rejected" {
			return st.Verdict
		}
	}
	return problem.Code
}
