package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/nodetest"

	"github.com/quorate/quorate/test/stagehand"
)

// agentProcess is the agent of an honest node, a process of its own.
type agentProcess struct {
	*node
	dir, address string
	pack         string // file of a join pack; "": none
	process      *stagehand.Process
}

// startAgents starts the agents of all nodes but some, and waits until each
// follows the ledger and has met the others.
func (f *fleet) startAgents(ctx context.Context, except ...*node) error {
	port, err := freeport.Find(len(f.nodes))
	if err != nil {
		return err
	}
	f.ports = map[string]string{}
	var peers []string
	for i, n := range f.nodes {
		f.ports[n.name] = fmt.Sprintf("127.0.0.1:%d", port+i)
		if !slices.Contains(except, n) {
			peers = append(peers, n.name+"@"+f.ports[n.name])
		}
	}
	for _, n := range f.nodes {
		if slices.Contains(except, n) {
			continue
		}
		a := &agentProcess{node: n, dir: filepath.Join(f.Dir, "agents", n.name), address: f.ports[n.name]}
		f.agents = append(f.agents, a)
		if err := f.configure(a, peers); err != nil {
			return err
		}
		if err := f.startAgent(a); err != nil {
			return err
		}
	}
	size := f.audit.now().Next()
	return f.Await(ctx, "the agents follow the ledger and have met", func() bool {
		for _, a := range f.agents {
			s, err := f.agentStatus(ctx, a)
			if err != nil || s.Size < size || s.Peers < min(len(f.agents)-1, enoughPeers) {
				return false
			}
		}
		return true
	})
}

// configure writes an agent's files.
func (f *fleet) configure(a *agentProcess, peers []string) error {
	_, err := f.files(a, peers).Write(a.held())
	return err
}

// writeConfig writes what an agent reads when it starts.
func (f *fleet) writeConfig(a *agentProcess, peers []string) error {
	_, err := f.files(a, peers).Configure(a.held())
	return err
}

func (f *fleet) files(a *agentProcess, peers []string) *nodetest.AgentFiles {
	return &nodetest.AgentFiles{Dir: a.dir, Genesis: f.genesis, Servers: f.serversOf(a), Listen: a.address, Peers: peers, HeadAge: f.headAge, JoinPack: a.pack}
}

func (n *node) held() *nodetest.Node {
	return &nodetest.Node{Name: n.name, Operator: n.operator, Key: n.key, Peer: n.peer}
}

// serversOf is where an agent finds replicas, the first one another for each.
func (f *fleet) serversOf(a *agentProcess) []string {
	if list, ok := f.servers[a.name]; ok {
		return list
	}
	var list []string
	at := len(f.agents)
	for i := range f.members {
		list = append(list, f.members[(at+i)%len(f.members)].url())
	}
	return list
}

func (f *fleet) startAgent(a *agentProcess) (err error) {
	a.process, err = f.Start(a.name, "observer", "--config", filepath.Join(a.dir, "agent.yaml"), "--out", filepath.Join(a.dir, "seen"))
	return err
}

// endAgent sends a signal to an agent and waits until it is gone.
func (f *fleet) endAgent(a *agentProcess, sig os.Signal) error {
	if a.process == nil {
		return nil
	}
	process := a.process
	a.process = nil
	err := process.End(sig, stopLimit)
	if err != nil && (sig == syscall.SIGTERM || errors.Is(err, stagehand.ErrLate)) {
		return fmt.Errorf("the agent of %s: %w", a.name, err)
	}
	return nil
}

// stopAgents ends them all; one that ended by itself is a fault.
func (f *fleet) stopAgents() {
	for _, a := range f.agents {
		if a.process != nil {
			if err, gone := a.process.Gone(); gone {
				f.Fail("the agent of %s ended by itself: %v", a.name, err)
				a.process = nil
			}
		}
		if err := f.endAgent(a, syscall.SIGTERM); err != nil {
			f.Fail("%v", err)
		}
	}
}

// agentStatus is GET /v1/status of an agent.
type agentStatus struct {
	Standing string            `json:"standing"`
	Size     uint64            `json:"size"`
	Signed   uint64            `json:"signed"`
	Stale    bool              `json:"stale"`
	Epoch    uint64            `json:"epoch"`
	Alarm    bool              `json:"alarm"`
	Trouble  map[string]string `json:"trouble"`
	Replicas bool              `json:"replicas"`
	Peers    int               `json:"peers"`
	Waiting  int               `json:"waiting"`
}

func (f *fleet) agentStatus(ctx context.Context, a *agentProcess) (*agentStatus, error) {
	var s agentStatus
	return &s, f.askAgent(ctx, a, "/v1/status", &s)
}

// askAgent asks an agent on its local socket.
func (f *fleet) askAgent(ctx context.Context, a *agentProcess, path string, out any) error {
	b, err := f.readAgent(ctx, a, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

func (f *fleet) readAgent(ctx context.Context, a *agentProcess, path string) ([]byte, error) {
	b, _, err := f.callAgent(ctx, a, path)
	return b, err
}

// callAgent gives the header of an answer too.
func (f *fleet) callAgent(ctx context.Context, a *agentProcess, path string) ([]byte, http.Header, error) {
	h := stagehand.Unix(filepath.Join(a.dir, "agent.sock"), 5*time.Second)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return nil, nil, err
	}
	answer, err := h.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	return b, answer.Header, err
}

const rulingsCounter = "quorate_agent_rulings_total{"

// ruled counts what the agents' rules said of statements, by reason.
func (f *fleet) ruled(ctx context.Context) map[string]int {
	return f.countedBy(ctx, rulingsCounter)
}

// unjudged counts the gossip that the agents dropped before any rule, by reason.
func (f *fleet) unjudged(ctx context.Context) map[string]int {
	return f.countedBy(ctx, "quorate_mesh_dropped_total{")
}

// countedBy sums a counter over all agents, by reason.
func (f *fleet) countedBy(ctx context.Context, counter string) map[string]int {
	sums := map[string]int{}
	for _, a := range f.agents {
		for reason, n := range f.countedOf(ctx, a, counter) {
			sums[reason] += n
		}
	}
	return sums
}

// denials counts the connections and streams that an agent refused, by reason.
func (f *fleet) denials(ctx context.Context, a *agentProcess) map[string]int {
	return f.countedOf(ctx, a, "quorate_mesh_denied_total{")
}

func (f *fleet) countedOf(ctx context.Context, a *agentProcess, counter string) map[string]int {
	sums := map[string]int{}
	b, err := f.readAgent(ctx, a, "/metrics")
	if err != nil {
		return sums
	}
	for labels, value := range linesOf(b, counter) {
		_, rest, _ := strings.Cut(labels, `reason="`)
		reason, _, _ := strings.Cut(rest, `"`)
		var n float64
		if _, err := fmt.Sscan(value, &n); err == nil {
			sums[reason] += int(n)
		}
	}
	return sums
}

// saw reads what an agent saw up to now.
func (a *agentProcess) saw() ([]nodetest.Seen, error) {
	file, err := os.Open(filepath.Join(a.dir, "seen"))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	defer file.Close()
	var list []nodetest.Seen
	for scan := bufio.NewScanner(file); scan.Scan(); {
		var s nodetest.Seen
		if err := json.Unmarshal(scan.Bytes(), &s); err != nil {
			break // the last line, as it is written
		}
		list = append(list, s)
	}
	return list, nil
}

// aftermath is what became of an offender at the agents.
type aftermath struct {
	dropped  []time.Duration // since the evidence, one of each agent
	accepted int             // frames that it made after an agent had dropped it, and that this agent let pass
	judged   int             // such frames that an agent looked at
}

// aftermath waits until every agent has dropped a node, and sums up.
func (f *fleet) aftermath(ctx context.Context, name string, since time.Time) (*aftermath, error) {
	var sum *aftermath
	err := f.Await(ctx, "every agent has dropped "+name, func() bool {
		sum = &aftermath{}
		for _, a := range f.agents {
			list, err := a.saw()
			if err != nil {
				return false
			}
			out := int64(0)
			for _, s := range list {
				switch {
				case s.Dropped == name && s.As != fsm.NodeActive && out == 0:
					out = s.At
				case s.Author == name && out > 0 && f.signedAfter(s.ID, out):
					sum.judged++
					if s.Verdict == "accept" {
						sum.accepted++
					}
				}
			}
			if out == 0 {
				return false
			}
			sum.dropped = append(sum.dropped, time.Unix(0, out).Sub(since))
		}
		return true
	})
	return sum, err
}

// signedAfter reports whether a statement was made after a moment: what an agent
// let pass just before it dropped its author is written down just after it.
func (f *fleet) signedAfter(id string, moment int64) bool {
	hash, err := ledger.ParseHash(id)
	if err != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.signed[hash]
	return !at.IsZero() && at.UnixNano() > moment
}

// rogueOf makes a host with a node's legitimate peer key that knows all agents.
func (f *fleet) rogueOf(ctx context.Context, n *node) (*rogue, map[*agentProcess]peer.ID, error) {
	r, err := newRogue(n.peer, f.genesis.String(), f.ports[n.name])
	if err != nil {
		return nil, nil, err
	}
	ids := map[*agentProcess]peer.ID{}
	for _, a := range f.agents {
		id, err := r.meet(ctx, a.public(), a.address)
		if err != nil {
			r.close()
			return nil, nil, fmt.Errorf("%s meets %s: %w", n.name, a.name, err)
		}
		ids[a] = id
	}
	return r, ids, nil
}

// public is a node's peer key.
func (n *node) public() ed25519.PublicKey { return n.peer.Public().(ed25519.PublicKey) }

// hexOf is a node's peer key as observers write it.
func hexOf(key ed25519.PrivateKey) string {
	return hex.EncodeToString(key.Public().(ed25519.PublicKey))
}

// agentMemory is the most that an agent has in memory, in MB.
func (f *fleet) agentMemory() int {
	most := 0
	for _, a := range f.agents {
		if a.process != nil {
			most = max(most, a.process.Memory())
		}
	}
	return most
}

// agentFiles is the most descriptors that an agent has open.
func (f *fleet) agentFiles() int {
	most := 0
	for _, a := range f.agents {
		if a.process != nil {
			most = max(most, a.process.OpenFiles())
		}
	}
	return most
}

// linesOf gives the labels and values of a counter's lines.
func linesOf(metrics []byte, name string) iter.Seq2[string, string] {
	return func(yield func(labels, value string) bool) {
		for line := range strings.Lines(string(metrics)) {
			labels, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
			if ok && strings.HasPrefix(labels, name) && !yield(labels, value) {
				return
			}
		}
	}
}
