package api

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// rotatedTLS says whether every running replica shows another certificate than it did,
// each by itself and certified.
func rotatedTLS(t *testing.T, n *replicatest.Node, was ledger.Hash) ledger.Hash {
	t.Helper()
	var pin ledger.Hash
	n.Await("it shows another TLS key, which the ledger names", func(replica.Status) bool {
		view, err := n.Replica.View(t.Context(), replica.Certified)
		if err != nil {
			return false
		}
		record, _ := view.State.Replica(n.Record.Name)
		pin, err = replica.CertificatePin(*n.Replica.Certificate())
		return err == nil && record.TLSPin == pin && pin != was
	})
	return pin
}

// TestClientAwayWhileAllRotated: a trust folder that was not used while every replica
// rotated its TLS key, twice, is good for the next use: of real replicas, none of whose
// keys the client knows.
func TestClientAwayWhileAllRotated(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	cluster := replicatest.Start(t, 3, func(cfg *replica.Config) { cfg.Limits.PinLinger = time.Second }, func(g *ledger.Genesis) {
		k := ledger.DefaultKeys()
		k.ReplicaKeyEpochs = 2 // and epochs begin by decision alone
		g.Policy.Keys = &k
	})
	cluster.Submit(cluster.Leader(), replica.WaitCertified, cluster.Record(cluster.Council[0], "before"))
	var servers []string
	var genesis []ledger.Hash
	shown := map[string]ledger.Hash{}
	for _, n := range cluster.Nodes {
		s, err := New(FromReplica(n.Replica), Config{})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(s.Handler())
		server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{*n.Replica.Certificate()}, SessionTicketsDisabled: true}, nil
		}}
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // a refused handshake comes before each proof
		server.StartTLS()
		t.Cleanup(server.Close)
		servers, genesis = append(servers, server.URL), append(genesis, n.Record.TLSPin)
		shown[n.Record.Name] = n.Record.TLSPin
	}
	dir := t.TempDir()
	open := func(servers ...string) *client.Client {
		options := client.Options{Servers: servers, Genesis: cluster.Hash, TrustDir: dir, LearnPins: true}
		if !client.HasPins(dir, cluster.Hash) {
			options.Pins = genesis
		}
		c, err := client.New(options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	before, err := open(servers...).Sync(cluster.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		cluster.Decide(cluster.Leader(), "epoch.advance", struct{}{})
		for _, n := range cluster.Nodes {
			shown[n.Record.Name] = rotatedTLS(t, n, shown[n.Record.Name])
		}
	}
	back := open(servers...)
	answer, err := back.Submit(cluster.Context(), [][]byte{cluster.Record(cluster.Council[0], "back again")}, client.WaitCertified)
	if err != nil || !answer.Verified {
		t.Fatalf("away while all rotated: %+v, %v", answer, err)
	}
	if head := back.Head(); head.Authority.Index < before.Authority.Index+6 || head.Size <= before.Size {
		t.Errorf("from size %d, link %d to size %d, link %d", before.Size, before.Authority.Index, head.Size, head.Authority.Index)
	}
	for i, server := range servers { // each alone, by what was learned
		if _, err := open(server).Sync(cluster.Context()); err != nil {
			t.Errorf("%s: %v", cluster.Nodes[i].Record.Name, err)
		}
	}
	// Whoever starts from genesis today knows none of the keys either.
	dir = t.TempDir()
	if _, err := open(servers...).Sync(cluster.Context()); err != nil {
		t.Error(fmt.Errorf("from genesis: %w", err))
	}
}
