package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

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
	unbacked string // a node whose agent makes no backup of its key
	// overlap is how long replicas go on signing heads under the log key before; 0: a day.
	overlap time.Duration
}

// replica is one replica's process. Its key is keys/NAME.key, or that of another
// folder since it was re-keyed.
type replica struct {
	stagehand.Replica
	keys string // folder
}

// agent is one node's agent, a process. Its files are nodes/NAME/NAME….
type agent struct {
	stagehand.Agent
	watches bool // it runs as an observer, which takes orders
	alone   bool // it makes no backup of its key
	orders  io.WriteCloser
}

func (a *agent) dir() string { return filepath.Join("nodes", a.Name) }

// found makes keys and genesis, starts the replicas, and admits and starts the
// nodes.
func found(ctx context.Context, r *stagehand.Report, bin, dir string, p plan) (*house, error) {
	l, err := stagehand.NewLedger(r, bin, dir)
	if err != nil {
		return nil, err
	}
	h := &house{Ledger: l, plan: p}
	l.Servers, l.Ran = h.servers, h.keepsJournal
	if err := os.Mkdir(filepath.Join(dir, "journal"), 0o700); err != nil {
		return nil, err
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
		if err := h.configures(filepath.Join("ledger", one.Name+".yaml"), lines); err != nil {
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
		r := &replica{stagehand.Replica{Name: fmt.Sprintf("r%d", i+1), Operator: governors[i].operator,
			Peer: fmt.Sprintf("127.0.0.1:%d", port+2*i), API: fmt.Sprintf("127.0.0.1:%d", port+2*i+1)}, "keys"}
		h.replicas = append(h.replicas, r)
		replicas = append(replicas, "{public: keys/"+r.Name+".pub}")
		made.Go(func() error {
			return h.keygen(making, "keys", "replica", r.Name, r.Operator, "--peer", r.Peer, "--api", r.URL())
		})
	}
	if err := made.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(&text, "origin: example.com/keyloss\noperators: [%s]\ncouncil: [%s]\nrecovery: {threshold: 2, holders: [%s]}\nreplicas: [%s]\npolicy: %s\n",
		strings.Join(operators, ", "), strings.Join(council, ", "), strings.Join(recovery, ", "), strings.Join(replicas, ", "), h.plan.policy)
	if err := h.Found(ctx, text.String()); err != nil {
		return err
	}
	for i := range h.plan.nodes {
		a := &agent{Agent: stagehand.Agent{Name: fmt.Sprintf("n%d", i+1), Operator: governors[i%len(governors)].operator,
			Listen: fmt.Sprintf("127.0.0.1:%d", port+2*replicasOfFleet+i)}, watches: i >= h.plan.nodes-h.plan.watchers}
		a.alone = a.Name == h.plan.unbacked
		a.Socket = filepath.Join(h.Dir, a.dir(), a.Name+".state", "agent.sock")
		h.agents = append(h.agents, a)
	}
	return nil
}

// start starts a replica; its log goes to NAME.log.
func (h *house) start(r *replica) (err error) {
	r.Process, err = h.Start(r.Name, "quorate", "server", "--config", filepath.Join("ledger", r.Name+".yaml"),
		"--passphrase-file", filepath.Join(r.keys, r.Name+".pass"))
	return err
}

// stop ends a replica's or an agent's process.
func (h *house) stop(name string, p **stagehand.Process, sig os.Signal) {
	if sig == syscall.SIGTERM {
		h.Ends(name, p, stopLimit)
	} else {
		h.Kills(p, stopLimit)
	}
}

// ready waits until replicas have caught up and a head is certified.
func (h *house) ready(ctx context.Context, list ...*replica) error {
	for _, r := range list {
		if err := h.Ready(ctx, foundLimit, &r.Replica); err != nil {
			return err
		}
	}
	return nil
}

// replica finds one by name.
func (h *house) replica(name string) *replica {
	for _, r := range h.replicas {
		if r.Name == name {
			return r
		}
	}
	panic("no replica " + name)
}

// agent finds one by name.
func (h *house) agent(name string) *agent {
	for _, a := range h.agents {
		if a.Name == name {
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
	path := filepath.Join(a.dir(), a.Name)
	if err := h.passphrase(path); err != nil {
		return err
	}
	args := []string{"agent", "init", a.Name, "--operator", a.Operator, "--out", a.dir(), "--passphrase-file", path + ".pass", "--listen", a.Listen,
		"--genesis", filepath.Join("ledger", "genesis"), "--work-factor", workFactor}
	for i := range h.replicas { // each asks another one first
		args = append(args, "--server", h.replicas[(i+len(a.Name)+int(a.Name[len(a.Name)-1]))%len(h.replicas)].URL())
	}
	for _, pin := range h.Pins {
		args = append(args, "--tls-pin", pin.String())
	}
	for _, other := range h.agents[:min(3, len(h.agents))] {
		if other != a {
			args = append(args, "--peer", other.Name+"@"+other.Listen)
		}
	}
	if err := h.Command(ctx, args...).Failed(); err != nil {
		return err
	}
	if a.alone {
		text, err := os.ReadFile(filepath.Join(h.Dir, path+".yaml"))
		changed := strings.Replace(string(text), "backup:\n  off: false", "backup:\n  off: true", 1)
		if err == nil && changed == string(text) {
			err = fmt.Errorf("%s.yaml has no backup that could be switched off", path)
		}
		if err == nil {
			err = h.Writes(path+".yaml", []byte(changed))
		}
		if err != nil {
			return err
		}
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
	return os.WriteFile(filepath.Join(h.Dir, "joins", a.Name+".cose"), join, 0o600)
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
	config := filepath.Join(a.dir(), a.Name+".yaml")
	if a.watches {
		a.Process, a.orders, err = h.Observer(a.Name, config, filepath.Join(a.dir(), "seen"))
		return err
	}
	a.Process, err = h.Start(a.Name, "quorate", "agent", "--config", config)
	return err
}

func (h *house) stopAgent(a *agent, sig os.Signal) { h.stop(a.Name, &a.Process, sig) }

// follows waits until an agent has a certified state in which it is active.
func (h *house) follows(ctx context.Context, a *agent) error { return a.Follows(ctx, patience) }

// alive fails when a process has ended by itself.
func (h *house) alive() {
	for _, a := range h.agents {
		h.Alive(a.Name, &a.Process)
	}
	for _, r := range h.replicas {
		h.Alive(r.Name, &r.Process)
	}
}

// close ends every process, and looks at what is left.
func (h *house) close() {
	h.alive()
	for _, a := range h.agents {
		h.Ends(a.Name, &a.Process, stopLimit)
	}
	for _, r := range h.replicas {
		h.Ends(r.Name, &r.Process, stopLimit)
	}
	h.Leftovers()
	h.HTTP.CloseIdleConnections()
}
