package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// The verifying client against servers that serve well.

func newClient(t *testing.T, w *world, dir string, servers ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Servers: servers, Genesis: w.hash, TrustDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func short(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// givenUp asks for what a client tries again until its time is over, and gives
// the last error unless it is the one that is wanted. There is more time at each
// turn, since a busy machine may not get one answer through in the first.
func givenUp(ask func(context.Context) error, wanted func(error) bool) error {
	for limit := 300 * time.Millisecond; ; limit *= 4 {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		err := ask(ctx)
		cancel()
		if wanted(err) {
			return nil
		}
		if limit > 20*time.Second {
			return fmt.Errorf("after %s: %w", limit, err)
		}
	}
}

// TestClientVerifies is the main way: sync, submit, entries, records, over a
// handover, and again from the disk.
func TestClientVerifies(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	dir := t.TempDir()
	c := newClient(t, f.world, dir, ts.URL)
	ctx := short(t)

	head, err := c.Sync(ctx)
	if err != nil || head.Size != 2 || head.Signed == 0 {
		t.Fatalf("sync: %+v, %v", head, err)
	}
	a, b := f.world.record(t, "alice", "a <note> & more"), f.world.record(t, "bob", "b")
	answer, err := c.Submit(ctx, [][]byte{a, b}, client.WaitCertified)
	if err != nil || !answer.Verified || answer.Level != "certified" {
		t.Fatalf("submit: %+v, %v", answer, err)
	}
	if entry, err := c.Entry(ctx, answer.Statements[1].Seq); err != nil || entry.ID != idOf(t, b).String() || entry.Type != "record" {
		t.Errorf("entry: %+v, %v", entry, err)
	}
	// A duplicate in a bundle with something new: seqs that are far apart.
	mixed, err := c.Submit(ctx, [][]byte{a, f.world.record(t, "carol", "c")}, client.WaitCertified)
	if err != nil || !mixed.Verified || !mixed.Statements[0].Duplicate {
		t.Errorf("mixed: %+v, %v", mixed, err)
	}

	// A handover: the council gains a member.
	p := f.propose("alice", "council.change", map[string]any{"add": []ledger.Member{
		{Name: "dora", Operator: "acme", Public: seeded("dora").Public().Bytes()}}})
	proposed, err := c.Propose(ctx, [][]byte{p}, client.WaitCommitted)
	if err != nil || proposed.Proposal == nil || proposed.Proposal.Standing != "open" {
		t.Fatalf("propose: %+v, %v", proposed, err)
	}
	shown, head, err := c.VerifiedProposal(ctx, proposed.Proposal.ID)
	if err != nil || shown.Action != "council.change" || head.Size <= shown.Seq {
		t.Errorf("verified proposal: %+v, %v", shown, err)
	}
	voted, err := c.Vote(ctx, proposed.Proposal.ID, [][]byte{f.world.ballot(t, "bob", ledger.TypeApprove, p)}, client.WaitCertified)
	if err != nil || voted.Proposal == nil || voted.Proposal.Standing != "executed" {
		t.Fatalf("vote: %+v, %v", voted, err)
	}
	council, _, err := c.VerifiedCouncil(ctx)
	if err != nil || len(council) != 4 || council[3].Name != "dora" {
		t.Errorf("verified council: %+v, %v", council, err)
	}
	if len(c.Links()) != 2 {
		t.Errorf("%d links, want 2", len(c.Links()))
	}
	if policy, _, err := c.VerifiedPolicy(ctx); err != nil || policy.Quota == 0 {
		t.Errorf("verified policy: %+v, %v", policy, err)
	}
	if _, _, err := c.VerifiedNode(ctx, "nobody"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a node that is not: %v", err)
	}
	if entries, err := c.Entries(ctx, 1, 100); err != nil || entries[0].Seq != 1 || uint64(len(entries)) != c.Head().Size-1 {
		t.Errorf("entries: %d, %v", len(entries), err)
	}

	// Proof files stand alone.
	proof, err := c.ProveEntry(ctx, answer.Statements[0].Seq)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.Verify(f.world.hash); err != nil {
		t.Errorf("entry proof: %v", err)
	}
	state, err := c.ProveState(ctx, "council/dora")
	if err != nil {
		t.Fatal(err)
	}
	if report, err := state.Verify(f.world.hash); err != nil || report.Value == nil {
		t.Errorf("state proof: %+v, %v", report, err)
	}

	// From the disk: the head is there before any server is asked.
	again := newClient(t, f.world, dir, ts.URL)
	if head, err := again.Sync(ctx); err != nil || head.Size < c.Head().Size || len(again.Links()) != 2 {
		t.Errorf("again: %+v, %v", head, err)
	}
	// A newcomer walks the handovers from genesis.
	if head, err := newClient(t, f.world, t.TempDir(), ts.URL).Sync(ctx); err != nil || head.Authority.Index != 1 {
		t.Errorf("newcomer: %+v, %v", head, err)
	}
	// Another ledger's genesis finds nothing to trust here.
	if _, err := newClient(t, newWorld(t, func(g *ledger.Genesis) { g.Created++ }), "", ts.URL).Sync(ctx); err == nil {
		t.Error("a client of another ledger trusted this one")
	}
}

func TestTypedReads(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{Version: "v1.2.3"})
	c := newClient(t, f.world, "", ts.URL)
	ctx := short(t)
	council, err := c.Council(ctx, client.Read{})
	if err != nil || len(council.Governors) != 3 || council.Majority != 2 || !council.Certified || council.Size != 2 {
		t.Errorf("council: %+v, %v", council, err)
	}
	again, err := c.Council(ctx, client.Read{ETag: council.ETag})
	if err != nil || !again.NotModified || again.ETag != council.ETag {
		t.Errorf("council again: %+v, %v", again, err)
	}
	g := council.Governors[0]
	key, err := c.Key(ctx, g.Key, client.Read{})
	if err != nil || key.Holder != "alice" || key.Role != fsm.RoleGovernor || key.Words != g.Words {
		t.Errorf("key: %+v, %v", key, err)
	}
	if replicas, err := c.Replicas(ctx, client.Read{}); err != nil || replicas.Active != 4 || replicas.Faults != 1 || replicas.Cosign != 3 {
		t.Errorf("replicas: %+v, %v", replicas, err)
	}
	if cluster, err := c.Cluster(ctx, client.Read{}); err != nil || len(cluster.Members) != 4 || !cluster.Members[0].Leader {
		t.Errorf("cluster: %+v, %v", cluster, err)
	}
	if status, err := c.Status(ctx); err != nil || status.Version != "v1.2.3" || status.Ledger != f.world.hash.String() {
		t.Errorf("status: %+v, %v", status, err)
	}
	if base, err := c.Base(ctx, "ledger.unfreeze", nil, client.Read{}); err != nil || base.Ledger != f.world.hash.String() || len(base.Base) != 1 {
		t.Errorf("base: %+v, %v", base, err)
	}
	diff, err := c.Simulate(ctx, client.SimulateRequest{Action: "ledger.freeze", Args: json.RawMessage(`{"reason":"a <b> & c"}`), Author: "alice"})
	if err != nil || diff.Code != "ok" || len(diff.Changes) == 0 || !strings.Contains(string(diff.Changes[0].After), "a <b> & c") {
		t.Errorf("simulate: %+v, %v", diff, err)
	}
	if diff, err := c.Simulate(ctx, client.SimulateRequest{Action: "ledger.unfreeze"}); err != nil || diff.Code != "not_frozen" {
		t.Errorf("simulate what fails: %+v, %v", diff, err)
	}
	var problem *client.Problem
	if _, err := c.Node(ctx, "nobody", client.Read{}); !errors.As(err, &problem) || problem.Status != 404 {
		t.Errorf("a node that is not: %v", err)
	}
	if genesis, hash, err := c.Genesis(ctx); err != nil || hash != f.world.hash || genesis.Origin != testOrigin {
		t.Errorf("genesis: %v", err)
	}
	for path, want := range map[string]string{"log.vkey": testOrigin + "+", "policy": "log ", "log-mldsa44.vkey": testOrigin + "+"} {
		if b, err := c.Get(ctx, path); err != nil || !strings.HasPrefix(string(b), want) {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if _, err := c.Get(ctx, "tile/0/999"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a tile that is not: %v", err)
	}
}
