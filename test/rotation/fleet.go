package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorate/quorate/test/nodetest"
	"github.com/quorate/quorate/test/stagehand"
)

// fleet is the ledger of real processes.
type fleet struct {
	*stagehand.Ledger
	places
	replicas      []*stagehand.Replica
	agents        []*agent
	replicaEpochs uint64
	epoch         time.Duration

	mu       sync.Mutex // guards agents' standings, and absences
	absences []absence
	looked   atomic.Int64  // how often a person looked
	newest   atomic.Uint64 // epoch that an agent which is not disturbed knows
}

// agent is a node's agent, a process.
type agent struct {
	stagehand.Agent
	dir     string // of its files, absolute
	node    *nodetest.Node
	orders  io.WriteCloser
	quiet   bool // it is given no orders now; guarded by fleet.mu
	folders []string
}

// found founds the ledger, starts its replicas, and admits and starts the nodes.
func found(ctx context.Context, r *stagehand.Report, bin, dir string, o options, at places) (*fleet, error) {
	l, err := stagehand.NewLedger(r, bin, dir)
	if err != nil {
		return nil, err
	}
	l.Spaces = at.lines != nil
	f := &fleet{Ledger: l, places: at, replicaEpochs: max(leastReplica, o.epochs*2/5), epoch: o.epoch}
	f.Servers = f.servers
	ctx, cancel := context.WithTimeout(ctx, foundLimit)
	defer cancel()
	if err := f.ceremony(ctx); err != nil {
		return f, err
	}
	for _, one := range f.replicas {
		if err := f.startReplica(one); err != nil {
			return f, err
		}
	}
	for _, one := range f.replicas {
		if err := f.ready(ctx, one); err != nil {
			return f, err
		}
	}
	return f, f.admit(ctx)
}

// servers are all, also one that does not run: people ask another then.
func (f *fleet) servers() (list []string) {
	for _, r := range f.replicas {
		list = append(list, r.URL())
	}
	return list
}

// ceremony makes the keys of governors and replicas, and the genesis.
func (f *fleet) ceremony(ctx context.Context) error {
	var list, members, replicas []string
	for i := range operators {
		operator := "{name: " + operatorOf(i) + "}"
		if i >= len(council) {
			operator = fmt.Sprintf("{name: %s, sponsor: %s}", operatorOf(i), council[i%len(council)].operator)
		}
		list = append(list, operator)
	}
	for i, g := range council {
		if err := f.keygen(ctx, "governor", g.name, g.operator); err != nil {
			return err
		}
		members = append(members, "keys/"+g.name+".pub")
		r := f.replica(i, g.operator)
		if err := f.keygen(ctx, "replica", r.Name, r.Operator, "--peer", r.Peer, "--api", r.URL()); err != nil {
			return err
		}
		f.replicas, replicas = append(f.replicas, r), append(replicas, "{public: keys/"+r.Name+".pub}")
	}
	policy := fmt.Sprintf("{epoch_millis: %d, tick_millis: %d, max_skew_millis: %d, key_epochs: %d, grace_epochs: %d, keys: {rotate_epochs: %d, late_epochs: %d, replica_key_epochs: %d}, protection: {window_ticks: %d}}",
		f.epoch.Milliseconds(), tickMillis, maxSkewMillis, keyEpochs, graceEpochs, rotateEpochs, lateEpochs, f.replicaEpochs, windowTicks)
	return f.Found(ctx, fmt.Sprintf("origin: example.com/rotation\noperators: [%s]\ncouncil: [%s]\nreplicas: [%s]\npolicy: %s\n",
		strings.Join(list, ", "), strings.Join(members, ", "), strings.Join(replicas, ", "), policy))
}

func operatorOf(i int) string {
	if i < len(council) {
		return council[i].operator
	}
	return fmt.Sprintf("operator-%02d", i)
}

func (f *fleet) startReplica(r *stagehand.Replica) (err error) {
	r.Process, err = f.Start(r.Name, "quorate", "server", "--config", filepath.Join("ledger", r.Name+".yaml"))
	return err
}

func (f *fleet) replicaStatus(ctx context.Context, r *stagehand.Replica) (s stagehand.ReplicaStatus, err error) {
	return s, f.Look(ctx, r, "/v1/status", &s)
}

// ready waits until a replica has caught up.
func (f *fleet) ready(ctx context.Context, r *stagehand.Replica) error {
	return f.Ready(ctx, patience, r)
}

// leader gives the replica that leads now.
func (f *fleet) leader(ctx context.Context) (*stagehand.Replica, error) {
	var leader *stagehand.Replica
	err := stagehand.Await(ctx, patience, "a replica leads", func() bool {
		for _, r := range f.replicas {
			if s, err := f.replicaStatus(ctx, r); err == nil && s.Role == "leader" {
				leader = r
				return true
			}
		}
		return false
	})
	return leader, err
}

// admit makes the nodes, has the council admit them, and starts their agents.
func (f *fleet) admit(ctx context.Context) error {
	for i := range nodesOfFleet {
		f.agents = append(f.agents, &agent{Agent: stagehand.Agent{Name: nodeName(i), Operator: operatorOf(i % operators), Listen: f.listen(i)}})
	}
	for _, a := range f.agents {
		join, err := f.makes(a, a.Name)
		if err != nil {
			return err
		}
		if err := f.Writes(filepath.Join("joins", a.Name+".cose"), join); err != nil {
			return err
		}
	}
	if err := f.decides(ctx, "node.admit", "--joins", "joins"); err != nil {
		return err
	}
	for _, a := range f.agents {
		if err := f.startAgent(a); err != nil {
			return err
		}
	}
	for _, a := range f.agents {
		if err := f.follows(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// makes makes a node's key and files in a new folder, and gives its join.
func (f *fleet) makes(a *agent, folder string) ([]byte, error) {
	var err error
	if a.node, err = nodetest.New(a.Name, a.Operator); err != nil {
		return nil, err
	}
	a.dir = filepath.Join(f.Dir, "nodes", folder)
	a.Socket, a.folders = filepath.Join(a.dir, "agent.sock"), append(a.folders, a.dir)
	files := nodetest.AgentFiles{Dir: a.dir, Genesis: f.Genesis, Listen: a.Listen, Pins: f.Pins}
	number := len(a.Name) + int(a.Name[len(a.Name)-1])
	for i := range f.replicas { // each asks another one first
		files.Servers = append(files.Servers, f.replicas[(i+number)%len(f.replicas)].URL())
	}
	for _, other := range f.agents {
		files.Peers = append(files.Peers, other.Name+"@"+other.Listen)
	}
	if _, err := files.Write(a.node); err != nil {
		return nil, err
	}
	return a.node.Join(f.Genesis)
}

func (f *fleet) startAgent(a *agent) (err error) {
	a.Process, a.orders, err = f.Observer(a.Name, filepath.Join(a.dir, "agent.yaml"), filepath.Join(a.dir, "seen"))
	return err
}

// follows waits until an agent has the ledger of now.
func (f *fleet) follows(ctx context.Context, a *agent) error {
	return a.Awaits(ctx, patience, "follows the ledger", func(s *stagehand.AgentStatus) bool {
		return s.Standing == "active" && !s.Stale && s.Epoch >= f.newest.Load()
	})
}

// close ends every process that still runs.
func (f *fleet) close() {
	end := func(name string, p **stagehand.Process) {
		if f.Alive(name, p); *p == nil {
			return
		}
		_ = (*p).Signal(syscall.SIGCONT)
		if err := (*p).End(syscall.SIGTERM, stopLimit); errors.Is(err, stagehand.ErrLate) {
			f.Fail("%s: %v", name, err)
		}
		*p = nil
	}
	for _, a := range f.agents {
		end(a.Name, &a.Process)
	}
	for _, r := range f.replicas {
		end(r.Name, &r.Process)
	}
	f.HTTP.CloseIdleConnections()
}

// away notes that an agent is given no orders from now on, and hears back from the
// function when it is.
func (f *fleet) away(a *agent, abrupt, long bool) (back func()) {
	f.mu.Lock()
	a.quiet = true
	from := time.Now()
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		a.quiet = false
		f.absences = append(f.absences, absence{name: a.Name, from: from, to: time.Now(), abrupt: abrupt, long: long})
	}
}

// hindersAllBut notes that all agents but those few may follow a replica which says nothing
// from now on, until the function is called: to give it up takes ten seconds, which are
// two of the epochs here.
func (f *fleet) hindersAllBut(few []*agent) (back func()) {
	var list []func()
	for _, a := range f.agents {
		if !slices.Contains(few, a) {
			list = append(list, f.hinders(a))
		}
	}
	return func() {
		for _, back := range list {
			back()
		}
	}
}

// hinders notes that an agent speaks on but may not reach everybody, until the function
// is called: its rotation may be late.
func (f *fleet) hinders(a *agent) (back func()) {
	from := time.Now()
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.absences = append(f.absences, absence{name: a.Name, from: from, to: time.Now(), long: true})
	}
}
