package replicatest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/replica"
)

// Patience is how long anything in a cluster may take.
const Patience = 60 * time.Second

// Cluster is running replicas of one ledger.
type Cluster struct {
	*Ceremony
	Nodes      []*Node
	Generation uint64 // of the statements that it signs
	Lies       bool   // a replica of it lies, so that others may refuse what it sends
	t          testing.TB
	dir        string
	change     func(*replica.Config)
}

// Node is one replica: its process, as it were, and its disk.
type Node struct {
	*Identity
	Dir     string
	Replica *replica.Replica       // of the last start
	Prepare func(*replica.Replica) // what a test does between opening and running
	cluster *Cluster
	cancel  context.CancelCauseFunc
	done    chan error
}

// Start founds a ledger of n replicas and starts them. change may alter each
// configuration; nil leaves the tests' own. Everything stops with the test.
func Start(t testing.TB, n int, change func(*replica.Config), genesis ...func(*ledger.Genesis)) *Cluster {
	t.Helper()
	c := &Cluster{Ceremony: NewCeremony(t, n, genesis...), t: t, dir: t.TempDir(), change: change}
	t.Cleanup(c.Close)
	for _, identity := range c.Replicas {
		c.Add(identity).Start()
	}
	return c
}

// Add makes a node of an identity, with an empty disk; it does not start it.
func (c *Cluster) Add(identity *Identity) *Node {
	n := &Node{Identity: identity, Dir: filepath.Join(c.dir, fmt.Sprintf("%s-%d", identity.Record.Name, len(c.Nodes))), cluster: c}
	c.Nodes = append(c.Nodes, n)
	return n
}

// Close stops every replica.
func (c *Cluster) Close() {
	for _, n := range c.Nodes {
		n.refusedNobody()
	}
	for _, n := range c.Nodes {
		if n.cancel != nil {
			n.cancel(replica.ErrAbrupt)
		}
	}
	for _, n := range c.Nodes {
		n.wait()
	}
}

// Config is the node's configuration: short timeouts, real disk.
func (n *Node) Config() replica.Config {
	cfg := replica.Config{
		Dir: n.Dir, Name: n.Record.Name, Genesis: n.cluster.Entry, Key: n.Key, Certificate: n.Certificate,
		Listen: n.Record.Peer,
		Raft:   replica.RaftTuning{Heartbeat: 500 * time.Millisecond, Election: time.Second, LeaderLease: 400 * time.Millisecond, WALSegmentBytes: 1 << 20},
		Limits: replica.Limits{LeaderHold: 20 * time.Second, Recosign: 2 * time.Second, Membership: 300 * time.Millisecond},
	}
	for _, one := range n.cluster.Replicas {
		if one == n.Identity {
			cfg.LogKey = n.cluster.LogKey
		}
	}
	if os.Getenv("QUORATE_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	if n.cluster.change != nil {
		n.cluster.change(&cfg)
	}
	return cfg
}

// Start opens and runs the replica on its disk.
func (n *Node) Start() {
	n.cluster.t.Helper()
	if err := n.TryStart(); err != nil {
		n.cluster.t.Fatalf("open %s: %v", n.Record.Name, err)
	}
}

// TryStart is Start that gives Open's error.
func (n *Node) TryStart() error {
	r, err := replica.Open(n.Config())
	if err != nil {
		return err
	}
	if n.Prepare != nil {
		n.Prepare(r)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	n.Replica, n.cancel, n.done = r, cancel, make(chan error, 1)
	go func(done chan error) { done <- r.Run(ctx) }(n.done)
	return nil
}

// Stop ends the replica gracefully.
func (n *Node) Stop() error { return n.end(context.Canceled) }

// Kill ends it without handing leadership over. What it appended to its
// history and Raft's log stays, as after kill -9; a power cut is the archive's
// and the log's own tests'.
func (n *Node) Kill() error { return n.end(replica.ErrAbrupt) }

// Wipe loses the disk of a stopped replica.
func (n *Node) Wipe() {
	if err := os.RemoveAll(n.Dir); err != nil {
		n.cluster.t.Fatalf("wipe %s: %v", n.Record.Name, err)
	}
}

// Running says whether the node was started and not stopped.
func (n *Node) Running() bool { return n.cancel != nil }

func (n *Node) end(cause error) error {
	if n.cancel == nil {
		return nil
	}
	n.refusedNobody()
	n.cancel(cause)
	return n.wait()
}

// refusedNobody fails the test of honest replicas in which one refused another
// as a liar.
func (n *Node) refusedNobody() {
	if n.cancel == nil || n.cluster.Lies {
		return
	}
	for _, one := range n.Replica.Status().Refusals {
		// On a busy machine elections overtake each other: who voted has gone on to
		// the next term, or does not answer in time, and nobody vouches for this one.
		overtaken := one.Rule == "election" && strings.Contains(one.Reason, "vouch for its election")
		// A connection is cut a moment after its pin is dropped; what comes on it in
		// between has no sender.
		unpinned := one.Rule == "sender" && one.Peer == "" && one.Count <= 8
		if one.Rule != "halted" && one.Rule != "stamp_ahead" && one.Rule != "disk_stalled" && !overtaken && !unpinned { // broken disks, a broken clock
			n.cluster.t.Errorf("%s refused honest %s by %s %d times: %s", n.Record.Name, one.Peer, one.Rule, one.Count, one.Reason)
		}
	}
}

func (n *Node) wait() error {
	if n.cancel == nil {
		return nil
	}
	n.cancel = nil
	select {
	case err := <-n.done:
		return err
	case <-time.After(Patience):
		n.cluster.t.Errorf("%s does not stop", n.Record.Name)
		return errors.New("does not stop")
	}
}

// Context ends after Patience, or with the test.
func (c *Cluster) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	c.t.Cleanup(cancel)
	return ctx
}

// Await waits until holds is true, looking after each change of the replica.
func (n *Node) Await(what string, holds func(replica.Status) bool) replica.Status {
	n.cluster.t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	poll := time.NewTicker(50 * time.Millisecond) // for what no change tells
	defer poll.Stop()
	for {
		changed := n.Replica.Changed()
		s := n.Replica.Status()
		if holds(s) {
			return s
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-timer.C:
			n.cluster.t.Fatalf("%s: waited in vain until %s; status %+v", n.Record.Name, what, s)
		}
	}
}

// Leader waits for a replica that leads and answers, among those that run.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	end := time.Now().Add(Patience)
	for time.Now().Before(end) {
		for _, n := range c.Nodes {
			if !n.Running() {
				continue
			}
			if s := n.Replica.Status(); s.Role == replica.RoleLeader && s.Ready {
				return n
			}
		}
		select {
		case <-c.anyChange():
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, n := range c.Nodes {
		if n.Running() {
			c.t.Logf("%+v", n.Replica.Status())
		}
	}
	c.t.Fatalf("no leader")
	return nil
}

func (c *Cluster) anyChange() <-chan struct{} {
	for _, n := range c.Nodes {
		if n.Running() {
			return n.Replica.Changed()
		}
	}
	return nil
}

// Follower is a running replica that does not lead.
func (c *Cluster) Follower() *Node {
	c.t.Helper()
	leader := c.Leader()
	for _, n := range c.Nodes {
		if n != leader && n.Running() {
			n.Await("it is ready", func(s replica.Status) bool { return s.Ready })
			return n
		}
	}
	c.t.Fatalf("no follower")
	return nil
}

// Record is a governor's record statement.
func (c *Cluster) Record(p Principal, text string) []byte {
	c.t.Helper()
	return c.Sign(p, ledger.TypeRecord, ledger.Record{Text: text})
}

// Sign makes a statement with a fresh nonce, or for a ballot none.
func (c *Cluster) Sign(p Principal, typ string, body any) []byte {
	c.t.Helper()
	payload := ledger.Payload{Author: p.Name, Generation: c.Generation, Ledger: c.Hash, Type: typ}
	if form, _ := ledger.ReplayForm(typ); form != ledger.ReplayNone {
		payload.Nonce = make([]byte, 16)
		if _, err := rand.Read(payload.Nonce); err != nil {
			c.t.Fatal(err)
		}
		payload.Expires = uint64(time.Now().Add(time.Hour).UnixMilli())
	}
	envelope, err := ledger.Sign(p.Key, payload, body)
	if err != nil {
		c.t.Fatalf("sign %s: %v", typ, err)
	}
	return envelope
}

// Submit submits statements at a node, waiting for the level.
func (c *Cluster) Submit(n *Node, wait replica.Wait, envelopes ...[]byte) *replica.Receipt {
	c.t.Helper()
	receipt, err := n.Replica.Submit(c.Context(), envelopes, wait)
	if err != nil {
		c.t.Fatalf("submit at %s: %v", n.Record.Name, err)
	}
	return receipt
}

// Decide proposes an action as alice with bob's approval in one bundle, and
// waits until it is certified.
func (c *Cluster) Decide(n *Node, action string, args any) *replica.Receipt {
	c.t.Helper()
	raw, err := canon.Marshal(args)
	if err != nil {
		c.t.Fatalf("encode args: %v", err)
	}
	view, err := n.Replica.View(c.Context(), replica.Linearizable)
	if err != nil {
		c.t.Fatalf("view: %v", err)
	}
	base, err := view.State.BaseFor(action, raw)
	if err != nil {
		c.t.Fatalf("base of %s: %v", action, err)
	}
	proposal := c.Sign(c.Council[0], ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base})
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		c.t.Fatal(err)
	}
	approval := c.Sign(c.Council[1], ledger.TypeApprove, ledger.Ballot{Proposal: st.ID})
	receipt := c.Submit(n, replica.WaitCertified, proposal, approval)
	view, err = n.Replica.View(c.Context(), replica.Certified)
	if err != nil {
		c.t.Fatalf("view: %v", err)
	}
	if p, ok := view.State.Proposal(st.ID); !ok || p.Standing != fsm.ProposalExecuted {
		c.t.Fatalf("%s: %s", action, describe(p))
	}
	return receipt
}

func describe(p *fsm.Proposal) string {
	if p == nil {
		return "no such proposal"
	}
	return fmt.Sprintf("%s %s", p.Standing, p.Reason)
}
