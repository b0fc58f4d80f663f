package agent

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
	"github.com/quorate/quorate/test/freeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute

// fleet is replicas with their API, and agents of four operators, over real
// TCP on loopback.
type fleet struct {
	t        *testing.T
	cluster  *replicatest.Cluster
	servers  []*httptest.Server
	agents   []*member
	registry *prometheus.Registry // of the next agent that starts; nil: none
	observe  func(mesh.Frame)     // of those that start from now on
}

type member struct {
	*Agent
	name, operator string
	key            *keys.PrivateKey
	config         *Config
	stop           func()
}

// newFleet founds a ledger, admits n nodes n1 to nN, of op-a to op-d in turn,
// before the first epoch, and starts the agents of all but those in without.
func newFleet(t *testing.T, replicas, n int, change func(*ledger.Genesis), configure func(i int, c *Config)) *fleet {
	t.Helper()
	return newRecordedFleet(t, nil, replicas, n, change, configure)
}

// newRecordedFleet is newFleet whose replicas r watches, unless it is nil.
func newRecordedFleet(t *testing.T, r *recorder, replicas, n int, change func(*ledger.Genesis), configure func(i int, c *Config)) *fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	f := &fleet{t: t}
	var changes []func(*ledger.Genesis)
	if change != nil {
		changes = append(changes, change)
	}
	var watch func(*replica.Config)
	if r != nil {
		watch = r.replicas
	}
	f.cluster = replicatest.Start(t, replicas, watch, changes...)
	f.cluster.Leader()
	var urls []string
	for _, node := range f.cluster.Nodes {
		node.Await("it is ready", func(s replica.Status) bool { return s.Ready })
		s, err := api.New(api.FromReplica(node.Replica), api.Config{})
		if err != nil {
			t.Fatal(err)
		}
		handler := s.Handler()
		if r != nil {
			handler = r.service(handler)
		}
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		f.servers = append(f.servers, server)
		urls = append(urls, server.URL)
	}
	var joins [][]byte
	var ids []ledger.Hash
	var peers []string
	for i := range n {
		m := &member{name: fmt.Sprintf("n%d", i+1), operator: replicatest.Operators[i%4], key: replicatest.Key(t)}
		join := f.cluster.Sign(replicatest.Principal{Name: m.name, Key: m.key}, ledger.TypeJoin, ledger.Join{
			Name: m.name, Operator: m.operator, Peer: m.key.PeerKey().Public().(ed25519.PublicKey), Public: m.key.Public().Bytes(),
		})
		st, err := ledger.ParseStatement(join)
		if err != nil {
			t.Fatal(err)
		}
		joins, ids = append(joins, join), append(ids, st.ID)
		dir, memory := t.TempDir(), t.TempDir()
		if err := Prepare(dir, memory, m.key); err != nil {
			t.Fatal(err)
		}
		m.config = &Config{
			Name: m.name, Dir: dir, MemoryDir: memory, KeyFile: "unused", Genesis: f.cluster.Hash.String(), API: APIConfig{Servers: urls},
			Gossip: GossipConfig{Listen: freeport.Address(t)},
			Local:  LocalConfig{Socket: filepath.Join(dir, "agent.sock")}, Log: LogConfig{Level: "info", Format: "text"},
		}
		peers = append(peers, m.name+"@"+m.config.Gossip.Listen)
		f.agents = append(f.agents, m)
	}
	f.decide("node.admit", map[string]any{"joins": ids}, joins...)
	for i, m := range f.agents {
		m.config.Gossip.Peers = peers
		if configure != nil {
			configure(i, m.config)
		}
	}
	return f
}

// decide has an action decided by all three governors.
func (f *fleet) decide(action string, args any, with ...[]byte) {
	f.t.Helper()
	raw, err := canon.Marshal(args)
	if err != nil {
		f.t.Fatal(err)
	}
	leader := f.cluster.Leader()
	view, err := leader.Replica.View(f.cluster.Context(), replica.Linearizable)
	if err != nil {
		f.t.Fatal(err)
	}
	base, err := view.State.BaseFor(action, raw)
	if err != nil {
		f.t.Fatal(err)
	}
	f.decideOn(base, action, raw, with...)
}

// decideOn is decide with the tables that the action rests on.
func (f *fleet) decideOn(base map[string]uint64, action string, raw canon.Raw, with ...[]byte) {
	f.t.Helper()
	leader, council := f.cluster.Leader(), f.cluster.Council
	proposal := f.cluster.Sign(council[0], ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base})
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		f.t.Fatal(err)
	}
	f.cluster.Submit(leader, replica.WaitCertified, slices.Concat(with, [][]byte{proposal})...)
	for _, p := range council[1:] {
		if p, ok := f.proposal(st.ID); ok && p.Standing == fsm.ProposalExecuted {
			return
		}
		f.cluster.Submit(leader, replica.WaitCertified, f.cluster.Sign(p, ledger.TypeApprove, ledger.Ballot{Proposal: st.ID}))
	}
	if p, ok := f.proposal(st.ID); !ok || p.Standing != fsm.ProposalExecuted {
		f.t.Fatalf("%s was not executed: %+v", action, p)
	}
}

func (f *fleet) proposal(id ledger.Hash) (*fsm.Proposal, bool) {
	view, err := f.cluster.Leader().Replica.View(f.cluster.Context(), replica.Linearizable)
	if err != nil {
		f.t.Fatal(err)
	}
	return view.State.Proposal(id)
}

// start runs a member's agent, anew on its disk.
func (f *fleet) start(m *member) {
	f.t.Helper()
	o := Options{Key: m.key, Registry: f.registry, Observe: f.observe}
	f.registry = nil
	if os.Getenv("QUORATE_TEST_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", m.name)
	}
	a, err := New(m.config, o)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	m.Agent = a
	m.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				f.t.Errorf("run %s: %v", m.name, err)
			}
		case <-time.After(patience):
			f.t.Errorf("%s does not stop", m.name)
		}
	}
	f.t.Cleanup(m.stop)
}

// await waits until holds is true of every one of the members.
func (f *fleet) await(what string, members []*member, holds func(m *member) bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for _, m := range members {
		for {
			changed := m.Changed()
			if holds(m) {
				break
			}
			select {
			case <-changed:
			case <-time.After(20 * time.Millisecond): // for what no change tells
			}
			if time.Now().After(deadline) {
				f.t.Fatalf("%s: waited in vain until %s; status %+v", m.name, what, m.Status())
			}
		}
	}
}

// connected waits until everybody has the state and n peers.
func (f *fleet) connected(members []*member, n int) {
	f.t.Helper()
	f.await("it follows and is connected", members, func(m *member) bool {
		return m.View().Standing(m.name) != "" && len(m.Mesh().Peers()) >= n
	})
}
