package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/stagehand"
)

// The people of the house: a governor of each operator, three of whom decide,
// and three recovery holders, of whom two do.
var governors = []struct{ name, operator string }{
	{"alice", "aurora"}, {"bob", "borealis"}, {"carol", "cirrus"}, {"dave", "delta"}, {"erin", "erebus"},
}

var holders = []string{"rita", "rosa", "ruth"}

// plan says what a story's ledger is to be.
type plan struct {
	nodes int
	// watchers are the last of them, which run the agent with its hook for tests.
	watchers int
	policy   string // of the ceremony, in YAML: what differs from the default
	// overlap is how long replicas go on signing heads under the log key before; 0: a day.
	overlap time.Duration
}

// replica is one replica's process. Its key is keys/NAME.key, or that of another
// folder since it was re-keyed.
type replica struct {
	name, operator string
	peer, api      string // addresses
	keys           string // folder
	process        *stagehand.Process
}

func (r *replica) url() string { return "https://" + r.api }

// agent is one node's agent, a process. Its files are nodes/NAME/NAME….
type agent struct {
	name, operator string
	listen         string
	watches        bool // it runs as an observer, which takes orders
	orders         io.WriteCloser
	process        *stagehand.Process
}

func (a *agent) dir() string { return filepath.Join("nodes", a.name) }

func scalarOf(key any) ([]byte, error) {
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return k.Seed(), nil
	case *ecdsa.PrivateKey:
		return k.Bytes()
	}
	return nil, fmt.Errorf("a %T has no secret that is known here", key)
}

// found makes keys and genesis, starts the replicas, and admits and starts the
// nodes.
func found(ctx context.Context, r *stagehand.Report, bin, dir string, p plan) (*house, error) {
	scene, err := stagehand.NewScene(r, bin, dir)
	if err != nil {
		return nil, err
	}
	h := &house{Scene: scene, plan: p}
	for _, folder := range []string{"journal", "home", "keys", "nodes", "joins"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, foundLimit)
	defer cancel()
	if err := h.ceremony(ctx); err != nil {
		return h, err
	}
	for _, one := range h.replicas {
		lines := "key_work_factor: " + workFactor
		if p.overlap > 0 {
			lines += "\nlog_overlap: " + p.overlap.String()
		}
		if err := h.configures(filepath.Join("ledger", one.name+".yaml"), lines); err != nil {
			return h, err
		}
		if err := h.start(one); err != nil {
			return h, err
		}
	}
	if err := h.ready(ctx, h.replicas...); err != nil {
		return h, err
	}
	return h, h.admitAll(ctx)
}

// ceremony makes everybody's keys and founds the ledger.
func (h *house) ceremony(ctx context.Context) error {
	port, err := freeport.Find(2*replicasOfFleet + h.plan.nodes)
	if err != nil {
		return err
	}
	var text strings.Builder
	var operators, council, recovery, replicas []string
	made, making := errgroup.WithContext(ctx)
	made.SetLimit(atOnce)
	for _, g := range governors {
		operators, council = append(operators, "{name: "+g.operator+"}"), append(council, "keys/"+g.name+".pub")
		made.Go(func() error { return h.keygen(making, "keys", "governor", g.name, g.operator) })
	}
	for _, name := range holders {
		recovery = append(recovery, "keys/"+name+".pub")
		made.Go(func() error { return h.keygen(making, "keys", "recovery", name, "") })
	}
	for i := range replicasOfFleet {
		r := &replica{name: fmt.Sprintf("r%d", i+1), operator: governors[i].operator, keys: "keys",
			peer: fmt.Sprintf("127.0.0.1:%d", port+2*i), api: fmt.Sprintf("127.0.0.1:%d", port+2*i+1)}
		h.replicas = append(h.replicas, r)
		replicas = append(replicas, "{public: keys/"+r.name+".pub}")
		made.Go(func() error {
			return h.keygen(making, "keys", "replica", r.name, r.operator, "--peer", r.peer, "--api", r.url())
		})
	}
	if err := made.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(&text, "origin: example.com/keyloss\noperators: [%s]\ncouncil: [%s]\nrecovery: {threshold: 2, holders: [%s]}\nreplicas: [%s]\npolicy: %s\n",
		strings.Join(operators, ", "), strings.Join(council, ", "), strings.Join(recovery, ", "), strings.Join(replicas, ", "), h.plan.policy)
	if err := os.WriteFile(filepath.Join(h.Dir, "ceremony.yaml"), []byte(text.String()), 0o600); err != nil {
		return err
	}
	if err := h.quorate(ctx, "init", "--ceremony", "ceremony.yaml", "--out", "ledger").failed(); err != nil {
		return err
	}
	if h.entry, err = os.ReadFile(filepath.Join(h.Dir, "ledger", "genesis.cbor")); err != nil {
		return err
	}
	g, hash, err := ledger.ParseGenesis(h.entry)
	if err != nil {
		return err
	}
	h.genesis = hash
	for _, r := range g.Replicas {
		h.pins = append(h.pins, r.TLSPin)
	}
	for i := range h.plan.nodes {
		h.agents = append(h.agents, &agent{name: fmt.Sprintf("n%d", i+1), operator: governors[i%len(governors)].operator,
			listen: fmt.Sprintf("127.0.0.1:%d", port+2*replicasOfFleet+i), watches: i >= h.plan.nodes-h.plan.watchers})
	}
	return nil
}

// start starts a replica; its log goes to NAME.log.
func (h *house) start(r *replica) (err error) {
	r.process, err = h.Start(r.name, "quorate", "server", "--config", filepath.Join("ledger", r.name+".yaml"),
		"--passphrase-file", filepath.Join(r.keys, r.name+".pass"))
	return err
}

// stop ends a replica.
func (h *house) stop(r *replica, sig os.Signal) {
	if r.process == nil {
		return
	}
	if err := r.process.End(sig, stopLimit); err != nil && sig == syscall.SIGTERM {
		h.Fail("%s: %v", r.name, err)
	}
	r.process = nil
}

// ready waits until replicas have caught up and a head is certified.
func (h *house) ready(ctx context.Context, list ...*replica) error {
	for _, r := range list {
		c, err := h.client("", r)
		if err != nil {
			return err
		}
		last, ended := "", error(nil)
		err = stagehand.Await(ctx, foundLimit, r.name+" is ready", func() bool {
			if err, gone := r.process.Gone(); gone {
				ended, r.process = fmt.Errorf("%s ended by itself: %w", r.name, err), nil
			}
			if ended != nil {
				return true
			}
			status, err := c.Status(ctx)
			if err != nil {
				last = err.Error()
				return false
			}
			last = fmt.Sprintf("it is %s, ready %v, certified %d", status.Role, status.Ready, status.Certified)
			return status.Ready && status.Certified > 0 && status.GapTo == 0
		})
		c.Close()
		if ended != nil {
			return ended
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, last)
		}
	}
	return nil
}

// replica finds one by name.
func (h *house) replica(name string) *replica {
	for _, r := range h.replicas {
		if r.name == name {
			return r
		}
	}
	panic("no replica " + name)
}

// agent finds one by name.
func (h *house) agent(name string) *agent {
	for _, a := range h.agents {
		if a.name == name {
			return a
		}
	}
	panic("no agent " + name)
}

// admitAll makes the nodes, has the council admit them, and starts their agents.
func (h *house) admitAll(ctx context.Context) error {
	if len(h.agents) == 0 {
		return nil
	}
	made, making := errgroup.WithContext(ctx)
	made.SetLimit(atOnce)
	for _, a := range h.agents {
		made.Go(func() error { return h.makeNode(making, a) })
	}
	if err := made.Wait(); err != nil {
		return err
	}
	// Nodes of every operator are named, so that every operator must consent.
	if err := h.decides(ctx, everybody, "node.admit", "--joins", "joins"); err != nil {
		return err
	}
	for _, a := range h.agents {
		if err := h.startAgent(a); err != nil {
			return err
		}
	}
	for _, a := range h.agents {
		if err := h.follows(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// makeNode makes a node's keys, join and configuration.
func (h *house) makeNode(ctx context.Context, a *agent) error {
	path := filepath.Join(a.dir(), a.name)
	if err := h.passphrase(path); err != nil {
		return err
	}
	args := []string{"agent", "init", a.name, "--operator", a.operator, "--out", a.dir(), "--passphrase-file", path + ".pass", "--listen", a.listen,
		"--genesis", filepath.Join("ledger", "genesis"), "--work-factor", workFactor}
	for i := range h.replicas { // each asks another one first
		args = append(args, "--server", h.replicas[(i+len(a.name)+int(a.name[len(a.name)-1]))%len(h.replicas)].url())
	}
	for _, pin := range h.pins {
		args = append(args, "--tls-pin", pin.String())
	}
	for _, other := range h.agents[:min(3, len(h.agents))] {
		if other != a {
			args = append(args, "--peer", other.name+"@"+other.listen)
		}
	}
	if err := h.quorate(ctx, args...).failed(); err != nil {
		return err
	}
	if err := h.configures(path+".yaml", "key_work_factor: "+workFactor); err != nil {
		return err
	}
	if err := h.secretsOf(path); err != nil {
		return err
	}
	join, err := os.ReadFile(filepath.Join(h.Dir, path+".join.cose"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.Dir, "joins", a.name+".cose"), join, 0o600)
}

// configures adds a line to a configuration.
func (h *house) configures(path, line string) error {
	file, err := os.OpenFile(filepath.Join(h.Dir, path), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, line)
	return errors.Join(err, file.Close())
}

func (h *house) startAgent(a *agent) (err error) {
	if a.watches {
		a.process, a.orders, err = h.observer(a.name, filepath.Join(a.dir(), a.name+".yaml"), filepath.Join(a.dir(), "seen"))
		return err
	}
	a.process, err = h.Start(a.name, "quorate", "agent", "--config", filepath.Join(a.dir(), a.name+".yaml"))
	return err
}

func (h *house) stopAgent(a *agent, sig os.Signal) {
	if a.process == nil {
		return
	}
	if err := a.process.End(sig, stopLimit); err != nil && sig == syscall.SIGTERM {
		h.Fail("the agent of %s: %v", a.name, err)
	}
	a.process = nil
}

// agentStatus is what the stories read of GET /v1/status of an agent.
type agentStatus struct {
	Standing string            `json:"standing"`
	Size     uint64            `json:"size"`
	Epoch    uint64            `json:"epoch"`
	Alarm    bool              `json:"alarm"`
	Trouble  map[string]string `json:"trouble"`
	Peers    int               `json:"peers"`
	Stale    bool              `json:"stale"`
}

// asks asks an agent on its local socket.
func (h *house) asks(ctx context.Context, a *agent, path string, out any) error {
	b, err := h.readsAgent(ctx, a, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

func (h *house) readsAgent(ctx context.Context, a *agent, path string) ([]byte, error) {
	return stagehand.Get(ctx, unix(filepath.Join(h.Dir, a.dir(), a.name+".state", "agent.sock")), "http://agent"+path)
}

// follows waits until an agent has a certified state in which it is active.
func (h *house) follows(ctx context.Context, a *agent) error {
	var s agentStatus
	err := stagehand.Await(ctx, patience, a.name+" follows the ledger", func() bool {
		s = agentStatus{}
		return h.asks(ctx, a, "/v1/status", &s) == nil && s.Standing == "active" && !s.Stale
	})
	if err != nil {
		return fmt.Errorf("%w: %+v", err, s)
	}
	return nil
}

// close ends every process, and looks at what is left.
func (h *house) close() {
	for _, a := range h.agents {
		if a.process != nil {
			if err, gone := a.process.Gone(); gone {
				h.Fail("the agent of %s ended by itself: %v", a.name, err)
				a.process = nil
			}
		}
		h.stopAgent(a, syscall.SIGTERM)
	}
	for _, r := range h.replicas {
		if r.process != nil {
			if err, gone := r.process.Gone(); gone {
				h.Fail("%s ended by itself: %v", r.name, err)
				r.process = nil
			}
		}
		h.stop(r, syscall.SIGTERM)
	}
	h.Leftovers()
	h.HTTP.CloseIdleConnections()
}
