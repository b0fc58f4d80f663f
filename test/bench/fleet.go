package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/memorytest"
	"github.com/quorate/quorate/test/nodetest"
)

// The fleets that are measured.
const (
	fleetAgents    = 20
	fleetOperators = 10
	fleetReplicas  = 4
	fleetLimit     = 90 * time.Second // until everybody has met
)

// place is where a node lives.
type place struct {
	space   string // its network namespace; "" for this program's own
	address string // host:port of its gossip
}

// loopback gives n places on loopback.
func loopback(n int) ([]place, error) {
	port, err := freeport.Find(n)
	if err != nil {
		return nil, err
	}
	var places []place
	for i := range n {
		places = append(places, place{address: fmt.Sprintf("127.0.0.1:%d", port+i)})
	}
	return places, nil
}

// fleet is a ledger, and nodes that it admitted: the first ones run agents, each
// a process of its own; the keys of the others speak as the sections need it.
type fleet struct {
	*cluster
	nodes   []*nodetest.Node
	agents  []*talker
	silent  int    // nodes without an agent, the last ones
	servers string // host under which the agents find the replicas; "" for loopback
	said    map[string]uint64
}

// fleetFounding has the operators of the nodes sponsored by the one that alice
// speaks for. policy is a line of the ceremony.
func fleetFounding(policy string) founding {
	var list []string
	for _, c := range council {
		list = append(list, "{name: "+c.operator+"}")
	}
	for i := range fleetOperators {
		list = append(list, fmt.Sprintf("{name: %s, sponsor: %s}", memorytest.OperatorName(i), council[0].operator))
	}
	return founding{operators: "operators: [" + strings.Join(list, ", ") + "]\n", policy: policy}
}

// foundFleet founds the ledger, starts its replicas and admits the nodes.
func (b *bench) foundFleet(ctx context.Context, name, policy string, silent int) (*fleet, error) {
	c, err := found(b.program, filepath.Join(b.dir, name), fleetReplicas, fleetFounding(policy))
	if err != nil {
		return nil, err
	}
	f := &fleet{cluster: c, silent: silent, said: map[string]uint64{}}
	if err := c.start(ctx); err != nil {
		return f, err
	}
	for i := range fleetAgents + silent {
		n, err := nodetest.New(fmt.Sprintf("n-%02d", i), memorytest.OperatorName(i%fleetOperators))
		if err != nil {
			return f, err
		}
		f.nodes = append(f.nodes, n)
	}
	return f, f.admit(ctx)
}

// admit has the council admit all nodes by one decision.
func (f *fleet) admit(ctx context.Context) error {
	joins := make([][]byte, len(f.nodes))
	for i, n := range f.nodes {
		var err error
		if joins[i], err = n.Join(f.genesis); err != nil {
			return err
		}
	}
	return f.admitJoins(ctx, joins)
}

// admitJoins has the council admit who asks, by one decision.
func (c *cluster) admitJoins(ctx context.Context, joins [][]byte) error {
	var args struct {
		Joins []ledger.Hash `json:"joins"`
	}
	for _, join := range joins {
		st, err := ledger.ParseStatement(join)
		if err != nil {
			return err
		}
		args.Joins = append(args.Joins, st.ID)
	}
	raw, err := canon.Marshal(args)
	if err != nil {
		return err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return err
	}
	decision, err := c.decide(ctx, leader, "node.admit", raw)
	if err != nil {
		return err
	}
	return c.submit(leader, append(bytes.Join(joins, nil), decision...), "?wait=certified")
}

// submit submits statements at a replica, which must accept them.
func (c *cluster) submit(m *member, bundle []byte, query string) error {
	to, err := dial(m.api)
	if err != nil {
		return err
	}
	defer to.c.Close()
	a, err := to.submit(bundle, query)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("submit: status %d: %.300s", a.status, a.body)
	}
	return err
}

// startAgents starts the agents at their places and waits until each follows the
// ledger and is connected with all others. program is the agent with its
// arguments, before --config.
func (f *fleet) startAgents(ctx context.Context, places []place, program string, arguments ...string) error {
	peers := make([]string, 0, len(places))
	for i, at := range places {
		peers = append(peers, f.nodes[i].Name+"@"+at.address)
	}
	for i, at := range places {
		files := nodetest.AgentFiles{Dir: f.agentDir(i), Genesis: f.genesis, Listen: at.address, Peers: peers}
		for j := range f.members {
			files.Servers = append(files.Servers, f.urlOf((i+j)%len(f.members))) // spread over the replicas
		}
		config, err := files.Write(f.nodes[i])
		if err != nil {
			return err
		}
		t, err := startTalker("agent "+f.nodes[i].Name, at.address, at.space, program, append(arguments, "--config", config)...)
		if err != nil {
			return err
		}
		f.agents = append(f.agents, t)
	}
	return await(ctx, fleetLimit, func() error {
		for i, t := range f.agents {
			if err := t.ended(); err != nil {
				return fatal(err)
			}
			var s struct{ Size, Peers uint64 }
			if err := f.ask(ctx, i, "/v1/status", &s); err != nil {
				return err
			}
			if s.Size == 0 || s.Peers < uint64(len(f.agents)-1) {
				return fmt.Errorf("%s has %d entries and %d peers", t.name, s.Size, s.Peers)
			}
		}
		return nil
	})
}

func (f *fleet) agentDir(i int) string { return filepath.Join(f.dir, "agents", f.nodes[i].Name) }

// urlOf is where agents find a replica.
func (f *fleet) urlOf(i int) string {
	if f.servers != "" {
		_, port, _ := net.SplitHostPort(f.members[i].api)
		return "http://" + net.JoinHostPort(f.servers, port)
	}
	return "http://" + f.members[i].api
}

// ask asks an agent on its own socket; out is a *string for text, or takes JSON.
func (f *fleet) ask(ctx context.Context, i int, path string, out any) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(f.agentDir(i), "agent.sock"))
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Timeout: 5 * time.Second, Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s of %s: status %d: %w", path, f.agents[i].name, response.StatusCode, err)
	}
	if text, ok := out.(*string); ok {
		*text = string(body)
		return nil
	}
	return json.Unmarshal(body, out)
}

// stop ends agents and replicas.
func (f *fleet) stop() error {
	if f == nil {
		return nil
	}
	return errors.Join(stopTalkers(f.agents), f.cluster.stop())
}

// stopping is for a defer: it keeps the first error.
func (f *fleet) stopping(err *error) {
	if stopped := f.stop(); *err == nil {
		*err = stopped
	}
}

// observes is what a node says of another: that their link is up. Each has a new
// seq and counter.
func (f *fleet) observes(n *nodetest.Node, subject string, at ...uint64) ([]byte, string, error) {
	seq := f.said[n.Name]
	if len(at) > 0 {
		seq = at[0]
	} else {
		f.said[n.Name]++
	}
	epoch, tick := uint64(0), uint64(time.Now().UnixMilli())/fleetTickMillis
	envelope, err := ledger.Sign(n.Key, ledger.Payload{Author: n.Name, Epoch: &epoch, Seq: &seq, Ledger: f.genesis, Type: ledger.TypeObserve},
		ledger.Observe{Counter: seq + 1, Kind: ledger.LinkUp, Subject: subject, From: tick, To: tick})
	if err != nil {
		return nil, "", err
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return nil, "", err
	}
	return envelope, st.ID.String(), nil
}
