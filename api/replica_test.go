package api

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// TestOverRealReplicas: the client over the API of three real replicas, while
// the leader changes and one stops.
func TestOverRealReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	cluster := replicatest.Start(t, 3, nil)
	cluster.Leader()
	var servers []string
	for _, n := range cluster.Nodes {
		n.Await("it is ready", func(s replica.Status) bool { return s.Ready })
		servers = append(servers, newServer(t, FromReplica(n.Replica), Config{}).URL)
	}
	c, err := client.New(client.Options{Servers: servers, Genesis: cluster.Hash, TrustDir: t.TempDir(), MaxHeadAge: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx := cluster.Context()
	if _, err := c.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	alice := cluster.Council[0]
	answer, err := c.Submit(ctx, [][]byte{cluster.Record(alice, "over HTTP")}, client.WaitCertified)
	if err != nil || !answer.Verified {
		t.Fatalf("submit: %+v, %v", answer, err)
	}

	// By a follower, which forwards; read back linearizably at each replica.
	base, err := c.Base(ctx, "ledger.freeze", json.RawMessage(`{"reason":"drill"}`), client.Read{Consistency: client.Linearizable})
	if err != nil {
		t.Fatal(err)
	}
	proposal := cluster.Sign(alice, ledger.TypePropose, ledger.Propose{Action: "ledger.freeze", Args: []byte(`{"reason":"drill"}`), Base: base.Base})
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		t.Fatal(err)
	}
	for i, server := range servers {
		one, err := client.New(client.Options{Servers: []string{server}, Genesis: cluster.Hash})
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		if i == 0 {
			if _, err := one.Propose(ctx, [][]byte{proposal}, client.WaitCommitted); err != nil {
				t.Fatalf("propose at %s: %v", server, err)
			}
		}
		p, err := one.Proposal(ctx, st.ID.String(), client.Read{Consistency: client.Linearizable})
		if err != nil || p.Standing != "open" || p.Rule.Threshold != 2 || p.Diff == nil || p.Diff.Code != "ok" {
			t.Errorf("proposal at %s: %+v, %v", server, p, err)
		}
		status, err := one.Status(ctx)
		if err != nil || status.Replicas != 3 || status.Quorum != 2 || status.Ledger != cluster.Hash.String() || status.Leader == "" {
			t.Errorf("status at %s: %+v, %v", server, status, err)
		}
	}

	// The leader stops in the middle of a stream: everything acknowledged stays.
	acknowledged := map[uint64]string{}
	for i := range 10 {
		if i == 5 {
			if err := cluster.Leader().Kill(); err != nil {
				t.Logf("kill: %v", err)
			}
		}
		envelope := cluster.Record(alice, fmt.Sprint("stream ", i))
		got, err := c.Submit(ctx, [][]byte{envelope}, client.WaitCertified)
		if err != nil {
			t.Fatalf("submit %d: %v", i, err)
		}
		acknowledged[got.Statements[0].Seq] = got.Statements[0].ID
	}
	for seq, id := range acknowledged {
		entry, err := c.Entry(ctx, seq)
		if err != nil || entry.ID != id {
			t.Errorf("entry %d: %+v, %v", seq, entry, err)
		}
	}
	_, _, err = c.VerifiedPolicy(ctx)
	if err != nil {
		t.Error(err)
	}
	watched := 0
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_ = c.Watch(ctx, client.WatchOptions{Kinds: []string{"statement"}}, func(e *client.Entry) error {
		if watched++; watched == len(acknowledged)+2 {
			cancel()
		}
		return nil
	})
	if watched != len(acknowledged)+2 {
		t.Errorf("%d statements watched, want %d", watched, len(acknowledged)+2)
	}
}
