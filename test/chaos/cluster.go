package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/spacetest"
)

const (
	startMembers = 4
	peerPort     = 7100
	apiPort      = 8100

	// Machines that run this are busy with other things too: nothing here is
	// decided by speed, and patience ends only what hangs.
	patience  = 90 * time.Second
	pollEvery = 100 * time.Millisecond
)

// governors sign what clients submit; each client has one for itself. Two
// operators decide.
var governors = []struct{ name, operator string }{
	{"alice", "aurora"}, {"bob", "borealis"}, {"carol", "cirrus"},
	{"anna", "aurora"}, {"boris", "borealis"}, {"clara", "cirrus"},
}

// clusterPlan says what a cluster is made of.
type clusterPlan struct {
	members int
	bug     string // planted into every replica; "" for the real program
	founder string // the program that makes keys and genesis; "" for the real one
}

// cluster is a ledger whose replicas are processes.
type cluster struct {
	o       *options
	number  int // in this run, from 1
	dir     string
	plan    clusterPlan
	genesis ledger.Hash
	keys    []*keys.File // of the governors
	members []*member
	watch   *client.Client // for statuses; of all members
	known   known
	base    usage // at rest, after the start
	newest  int   // number of the newest member
	seats   int   // given to governors later
	flips   flipDeck
	noDisks error // why replicas have no disks of their own

	mu      sync.Mutex
	leaders map[uint64]string // by term, as far as seen
	twice   error             // two leaders in one term
}

// member is one replica's process and its place in the network.
type member struct {
	number  int
	name    string
	address string
	space   string
	dir     string // data
	config  string
	program []string // and its first arguments
	deafTo  []string
	worse   bool // its line
	mounted bool // its disk
	pin     ledger.Hash

	mu      sync.Mutex
	cmd     *exec.Cmd
	control io.WriteCloser // of a chaos replica
	answers chan string
	ended   chan struct{}
	exit    error
	stopped bool // by SIGSTOP
}

func (m *member) url() string {
	return fmt.Sprintf("https://%s:%d", m.address, apiPort)
}

// foundCluster makes the keys and the genesis of a ledger with the program's own
// ceremony, starts its replicas, and waits until each of them is ready.
func foundCluster(ctx context.Context, o *options, dir string, plan clusterPlan) (*cluster, error) {
	o.founded++
	c := &cluster{o: o, number: o.founded, dir: dir, plan: plan, leaders: map[uint64]string{}, flips: flipDeck{}}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
		return nil, err
	}
	if err := c.ceremony(); err != nil {
		return nil, err
	}
	for i := 1; i <= plan.members; i++ {
		m, err := c.newMember(i)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.members, c.newest = append(c.members, m), i
	}
	if err := c.rewatch(); err != nil {
		return nil, err
	}
	for _, m := range c.members {
		if err := c.start(m); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	if err := c.settle(ctx); err != nil {
		c.keepLogs(o.seed)
		return nil, errors.Join(err, c.close())
	}
	c.base = c.measure()
	return c, nil
}

func (c *cluster) quorate(args ...string) (string, error) { return c.run(c.o.program, args...) }

// found runs a command of the ceremony.
func (c *cluster) found(args ...string) (string, error) {
	if c.plan.founder != "" {
		return c.run(c.plan.founder, args...)
	}
	return c.quorate(args...)
}

func (c *cluster) run(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "QUORATE_TRUST_DIR="+filepath.Join(c.dir, "trust"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("quorate %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

func (c *cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// replicaKey makes the keys of a replica.
func (c *cluster) replicaKey(number int, folder string) error {
	_, err := c.found("keygen", "replica", fmt.Sprintf("r%d", number), "--operator", governors[(number-1)%3].operator,
		"--peer", fmt.Sprintf("%s:%d", c.address(number), peerPort), "--api", fmt.Sprintf("https://%s:%d", c.address(number), apiPort),
		"--out", c.path(folder), "--insecure-plain")
	return err
}

func (c *cluster) ceremony() error {
	args := []string{"init", "--origin", "chaos.example/ledger", "--out", c.path("ledger")}
	var council, replicas []string
	for _, g := range governors {
		if _, err := c.found("keygen", "governor", g.name, "--operator", g.operator, "--out", c.path("keys"), "--insecure-plain"); err != nil {
			return err
		}
		council = append(council, c.path("keys", g.name+".pub"))
		file, err := keys.ReadFile(c.path("keys", g.name+".key"), nil)
		if err != nil {
			return err
		}
		c.keys = append(c.keys, file)
	}
	for i := 1; i <= c.plan.members; i++ {
		if err := c.replicaKey(i, "keys"); err != nil {
			return err
		}
		replicas = append(replicas, c.path("keys", fmt.Sprintf("r%d.pub", i)))
	}
	if _, err := c.found(append(args, "--council", strings.Join(council, ","), "--replicas", strings.Join(replicas, ","))...); err != nil {
		return err
	}
	text, err := os.ReadFile(c.path("ledger", "genesis"))
	if err != nil {
		return err
	}
	c.genesis, err = ledger.ParseHash(strings.TrimSpace(string(text)))
	return err
}

// newMember gives a replica its place; its key and configuration are there.
func (c *cluster) newMember(number int) (*member, error) {
	name := fmt.Sprintf("r%d", number)
	m := &member{number: number, name: name, address: c.address(number), space: fmt.Sprintf("c%dr%d", c.number, number), dir: c.path("ledger", name), config: c.path("ledger", name+".yaml")}
	m.program = c.program()
	public, err := keys.ReadPublicFile(c.path("keys", name+".pub"))
	if err != nil {
		return nil, err
	}
	m.pin = ledger.Hash(public.TLSPin)
	if err := spacetest.Plug(m.space, m.address); err != nil {
		return nil, err
	}
	if err := c.makeDisk(m); err != nil {
		return nil, errors.Join(err, spacetest.Unplug(m.space))
	}
	return m, nil
}

// program is what a replica of this cluster runs when it is well.
func (c *cluster) program() []string {
	if c.plan.bug != "" {
		return []string{c.o.replica, "--bug", c.plan.bug}
	}
	return []string{c.o.program, "server"}
}

func (m *member) socket() string { return filepath.Join(m.dir, "operator.sock") }

// clientOf makes a client that asks these members in turn.
func (c *cluster) clientOf(members ...*member) (*client.Client, error) {
	o := client.Options{Genesis: c.genesis}
	for _, m := range members {
		o.Servers = append(o.Servers, m.url())
		o.Pins = append(o.Pins, m.pin)
	}
	return client.New(o)
}

func (c *cluster) rewatch() (err error) {
	c.watch, err = c.clientOf(c.members...)
	return err
}

// start starts a member's process.
func (c *cluster) start(m *member) error {
	log, err := os.OpenFile(c.path("logs", m.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"netns", "exec", m.space}, m.program...)
	cmd := exec.Command("ip", append(args, "--config", m.config)...)
	cmd.Stderr = log
	m.mu.Lock()
	defer m.mu.Unlock()
	m.control, m.answers = nil, nil
	if m.program[0] == c.o.replica {
		if m.control, err = cmd.StdinPipe(); err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		m.answers = readLines(out)
	} else {
		cmd.Stdout = log
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	ended := make(chan struct{})
	m.cmd, m.ended, m.stopped = cmd, ended, false
	go func() {
		err := cmd.Wait()
		m.mu.Lock()
		m.exit = err
		m.mu.Unlock()
		close(ended)
	}()
	return nil
}

// running says whether the member's process lives.
func (m *member) running() bool {
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	if ended == nil {
		return false
	}
	select {
	case <-ended:
		return false
	default:
		return true
	}
}

func (m *member) pid() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cmd.Process.Pid
}

// signal sends a signal to the member's process.
func (m *member) signal(s syscall.Signal) error {
	if !m.running() {
		return fmt.Errorf("%s does not run", m.name)
	}
	m.mu.Lock()
	m.stopped = s == syscall.SIGSTOP
	m.mu.Unlock()
	return m.cmd.Process.Signal(s)
}

// kill ends it as a crash does.
func (m *member) kill() error {
	if !m.running() {
		return nil
	}
	if err := m.signal(syscall.SIGKILL); err != nil && m.running() {
		return err
	}
	return m.gone()
}

// stop ends it as an operator does.
func (m *member) stop() error {
	if !m.running() {
		return nil
	}
	if err := m.signal(syscall.SIGTERM); err != nil && m.running() {
		return err
	}
	if err := m.gone(); err != nil {
		return errors.Join(err, m.kill())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exit != nil {
		return fmt.Errorf("%s ended with %w", m.name, m.exit)
	}
	return nil
}

func (m *member) gone() error {
	select {
	case <-m.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s did not end within %s", m.name, patience)
	}
}

// close ends everything of this cluster. The namespaces of the run see to what
// it misses.
func (c *cluster) close() error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.kill(), m.unmount(), spacetest.Unplug(m.space))
	}
	if c.watch != nil {
		c.watch.Close()
	}
	return errors.Join(errs...)
}

// await waits until a condition holds; it gives the last reason why it did not.
func await(ctx context.Context, what string, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %w", patience, what, err)
		case <-time.After(pollEvery):
		}
	}
}

// statusOf asks one member how it sees itself.
func (c *cluster) statusOf(ctx context.Context, m *member) (*client.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := c.watch.StatusOf(ctx, m.url())
	if err == nil && s.Role == "leader" {
		c.sawLeader(s.Term, s.Name)
	}
	return s, err
}

// sawLeader notes who led in a term. There is at most one.
func (c *cluster) sawLeader(term uint64, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, ok := c.leaders[term]; ok && before != name && c.twice == nil {
		c.twice = fmt.Errorf("both %s and %s led in term %d", before, name, term)
	}
	c.leaders[term] = name
}

// leader waits for a member that leads, by its own word, in the newest term.
func (c *cluster) leader(ctx context.Context) (*member, *client.Status, error) {
	var found *member
	var status *client.Status
	err := await(ctx, "a leader", func(ctx context.Context) error {
		found, status = nil, nil
		for _, m := range c.members {
			if !m.running() || m.stopped {
				continue
			}
			if s, err := c.statusOf(ctx, m); err == nil && s.Role == "leader" && (status == nil || s.Term > status.Term) {
				found, status = m, s
			}
		}
		if found == nil {
			return errors.New("nobody leads")
		}
		return nil
	})
	return found, status, err
}

// settle waits until every member is ready and without alarms, and then until
// each has certified what any of them had applied.
func (c *cluster) settle(ctx context.Context) error {
	want := uint64(0)
	err := await(ctx, "all replicas to be well", func(ctx context.Context) error {
		for _, m := range c.members {
			if !m.running() {
				return fmt.Errorf("%s does not run", m.name)
			}
			s, err := c.statusOf(ctx, m)
			switch {
			case err != nil:
				return err
			case !s.Ready || s.GapTo > 0:
				return fmt.Errorf("%s is not ready (%s, applied %d, gap %d to %d)", m.name, s.Role, s.Applied, s.GapFrom, s.GapTo)
			case len(s.Alarms) > 0:
				return fmt.Errorf("%s has alarms: %s", m.name, strings.Join(s.Alarms, "; "))
			}
			want = max(want, s.Applied)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return await(ctx, "certification", func(ctx context.Context) error {
		for _, m := range c.members {
			if s, err := c.statusOf(ctx, m); err != nil {
				return err
			} else if s.Certified < want {
				return fmt.Errorf("%s has certified %d of %d", m.name, s.Certified, want)
			}
		}
		return nil
	})
}

// keepLogs copies the logs out of the run's file system, which ends with it.
func (c *cluster) keepLogs(seed uint64) {
	to := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-%d%s", spacetest.FolderPattern, seed, time.Now().Unix(), spacetest.KeptSuffix))
	if err := os.CopyFS(to, os.DirFS(c.path("logs"))); err != nil {
		fmt.Printf("chaos: keep logs: %v\n", err)
		return
	}
	fmt.Printf("chaos: the replicas' logs are in %s\n", to)
}
