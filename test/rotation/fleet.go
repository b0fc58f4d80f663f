package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/nodetest"
	"github.com/quorate/quorate/test/stagehand"
)

// fleet is the ledger of real processes.
type fleet struct {
	*stagehand.Scene
	genesis       ledger.Hash
	entry         []byte // entry 0
	pins          []ledger.Hash
	replicas      []*replica
	agents        []*agent
	replicaEpochs uint64
	epoch         time.Duration
	web           *http.Client // which looks at replicas, and trusts none

	mu       sync.Mutex // guards agents' standings, and absences
	absences []absence
	looked   atomic.Int64  // how often a person looked
	newest   atomic.Uint64 // epoch that an agent which is not disturbed knows
}

type replica struct {
	name, operator string
	peer, api      string
	process        *stagehand.Process
}

// agent is a node's agent, a process.
type agent struct {
	name, operator string
	listen, dir    string // dir: of its files, absolute
	node           *nodetest.Node
	process        *stagehand.Process
	orders         io.WriteCloser
	quiet          bool // it is given no orders now; guarded by fleet.mu
	folders        []string
}

// found founds the ledger, starts its replicas, and admits and starts the nodes.
func found(ctx context.Context, r *stagehand.Report, bin, dir string, o options) (*fleet, error) {
	scene, err := stagehand.NewScene(r, bin, dir)
	if err != nil {
		return nil, err
	}
	f := &fleet{Scene: scene, replicaEpochs: max(leastReplica, o.epochs*2/5), epoch: o.epoch}
	// Which replica leads is no matter of trust, and their TLS keys change.
	f.web = &http.Client{Timeout: statusLimit, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}}}
	for _, folder := range []string{"home", "keys", "nodes", "joins"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, foundLimit)
	defer cancel()
	port, err := freeport.Find(2*replicasOfFleet + nodesOfFleet)
	if err != nil {
		return f, err
	}
	if err := f.ceremony(ctx, port); err != nil {
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
	return f, f.admit(ctx, port+2*replicasOfFleet)
}

// ceremony makes the keys of governors and replicas, and the genesis.
func (f *fleet) ceremony(ctx context.Context, port int) error {
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
		r := &replica{name: fmt.Sprintf("r%d", i+1), operator: g.operator, peer: fmt.Sprintf("127.0.0.1:%d", port+2*i), api: fmt.Sprintf("127.0.0.1:%d", port+2*i+1)}
		if err := f.keygen(ctx, "replica", r.name, r.operator, "--peer", r.peer, "--api", "https://"+r.api); err != nil {
			return err
		}
		f.replicas, replicas = append(f.replicas, r), append(replicas, "{public: keys/"+r.name+".pub}")
	}
	policy := fmt.Sprintf("{epoch_millis: %d, tick_millis: %d, max_skew_millis: %d, key_epochs: %d, grace_epochs: %d, keys: {rotate_epochs: %d, late_epochs: %d, replica_key_epochs: %d}}",
		f.epoch.Milliseconds(), tickMillis, maxSkewMillis, keyEpochs, graceEpochs, rotateEpochs, lateEpochs, f.replicaEpochs)
	text := fmt.Sprintf("origin: example.com/rotation\noperators: [%s]\ncouncil: [%s]\nreplicas: [%s]\npolicy: %s\n",
		strings.Join(list, ", "), strings.Join(members, ", "), strings.Join(replicas, ", "), policy)
	if err := f.writes("ceremony.yaml", []byte(text)); err != nil {
		return err
	}
	if err := f.quorate(ctx, "init", "--ceremony", "ceremony.yaml", "--out", "ledger").failed(); err != nil {
		return err
	}
	var err error
	if f.entry, err = os.ReadFile(filepath.Join(f.Dir, "ledger", "genesis.cbor")); err != nil {
		return err
	}
	g, hash, err := ledger.ParseGenesis(f.entry)
	if err != nil {
		return err
	}
	f.genesis = hash
	for _, r := range g.Replicas {
		f.pins = append(f.pins, r.TLSPin)
	}
	return nil
}

func operatorOf(i int) string {
	if i < len(council) {
		return council[i].operator
	}
	return fmt.Sprintf("operator-%02d", i)
}

func (f *fleet) startReplica(r *replica) (err error) {
	r.process, err = f.Start(r.name, "quorate", "server", "--config", filepath.Join("ledger", r.name+".yaml"))
	return err
}

// replicaStatus is what is read of a replica's own word.
type replicaStatus struct {
	Role      string `json:"role"`
	Ready     bool   `json:"ready"`
	Applied   uint64 `json:"applied"`
	Certified uint64 `json:"certified"`
}

func (f *fleet) replicaStatus(ctx context.Context, r *replica) (s replicaStatus, err error) {
	b, err := stagehand.Get(ctx, f.web, "https://"+r.api+"/v1/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// ready waits until a replica has caught up.
func (f *fleet) ready(ctx context.Context, r *replica) error {
	var s replicaStatus
	var failed error
	err := stagehand.Await(ctx, patience, r.name+" is ready", func() bool {
		s, failed = f.replicaStatus(ctx, r)
		return failed == nil && s.Ready && s.Certified > 0 && (s.Role == "leader" || s.Role == "follower")
	})
	if err != nil {
		return fmt.Errorf("%w: %+v, %v", err, s, failed)
	}
	return nil
}

// leader gives the replica that leads now.
func (f *fleet) leader(ctx context.Context) (*replica, error) {
	var leader *replica
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
func (f *fleet) admit(ctx context.Context, port int) error {
	for i := range nodesOfFleet {
		a := &agent{name: fmt.Sprintf("n%02d", i+1), operator: operatorOf(i % operators), listen: fmt.Sprintf("127.0.0.1:%d", port+i)}
		f.agents = append(f.agents, a)
	}
	for i, a := range f.agents {
		join, err := f.makes(a, a.name)
		if err != nil {
			return err
		}
		if err := f.writes(filepath.Join("joins", f.agents[i].name+".cose"), join); err != nil {
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
	if a.node, err = nodetest.New(a.name, a.operator); err != nil {
		return nil, err
	}
	a.dir = filepath.Join(f.Dir, "nodes", folder)
	a.folders = append(a.folders, a.dir)
	files := nodetest.AgentFiles{Dir: a.dir, Genesis: f.genesis, Listen: a.listen, Pins: f.pins}
	number := len(a.name) + int(a.name[len(a.name)-1])
	for i := range f.replicas { // each asks another one first
		files.Servers = append(files.Servers, "https://"+f.replicas[(i+number)%len(f.replicas)].api)
	}
	for _, other := range f.agents {
		files.Peers = append(files.Peers, other.name+"@"+other.listen)
	}
	if _, err := files.Write(a.node); err != nil {
		return nil, err
	}
	return a.node.Join(f.genesis)
}

func (f *fleet) startAgent(a *agent) error {
	c := exec.Command(filepath.Join(f.Bin, "observer"), "--config", filepath.Join(a.dir, "agent.yaml"), "--out", filepath.Join(a.dir, "seen"))
	c.Dir, c.Env = f.Dir, f.Environment()
	orders, err := c.StdinPipe()
	if err != nil {
		return err
	}
	a.orders = orders
	a.process, err = stagehand.Start(a.name, c, filepath.Join(f.Dir, a.name+".log"))
	return err
}

// ends ends a process of the fleet in an orderly way; it is nobody's then.
func (f *fleet) ends(name string, p **stagehand.Process) {
	if err := (*p).End(syscall.SIGTERM, stopLimit); err != nil {
		f.Fail("%s: %v", name, err)
	}
	*p = nil
}

// agentStatus is what is read of GET /v1/status of an agent.
type agentStatus struct {
	Standing string            `json:"standing"`
	Size     uint64            `json:"size"`
	Epoch    uint64            `json:"epoch"`
	Alarm    bool              `json:"alarm"`
	Trouble  map[string]string `json:"trouble"`
	Stale    bool              `json:"stale"`
	Waiting  int               `json:"waiting"`
	Key      struct {
		ID      string `json:"id"`
		ValidTo uint64 `json:"valid_to"`
		Next    string `json:"next"`
	} `json:"key"`
}

func (f *fleet) ask(ctx context.Context, a *agent) (s agentStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	b, err := stagehand.Get(ctx, stagehand.Unix(filepath.Join(a.dir, "agent.sock"), statusLimit), "http://agent/v1/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// follows waits until an agent has the ledger of now.
func (f *fleet) follows(ctx context.Context, a *agent) error {
	var s agentStatus
	var failed error
	err := stagehand.Await(ctx, patience, a.name+" follows the ledger", func() bool {
		s, failed = f.ask(ctx, a)
		return failed == nil && s.Standing == "active" && !s.Stale && s.Epoch >= f.newest.Load()
	})
	if err != nil {
		return fmt.Errorf("%w: %+v, %v", err, s, failed)
	}
	return nil
}

// close ends every process that still runs.
func (f *fleet) close() {
	end := func(name string, p *stagehand.Process) {
		if p == nil {
			return
		}
		if err, gone := p.Gone(); gone {
			f.Fail("%s ended by itself: %v", name, err)
			return
		}
		_ = p.Signal(syscall.SIGCONT)
		if err := p.End(syscall.SIGTERM, stopLimit); errors.Is(err, stagehand.ErrLate) {
			f.Fail("%s: %v", name, err)
		}
	}
	for _, a := range f.agents {
		end(a.name, a.process)
		a.process = nil
	}
	for _, r := range f.replicas {
		end(r.name, r.process)
		r.process = nil
	}
	f.web.CloseIdleConnections()
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
		f.absences = append(f.absences, absence{name: a.name, from: from, to: time.Now(), abrupt: abrupt, long: long})
	}
}
