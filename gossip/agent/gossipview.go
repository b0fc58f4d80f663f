package agent

import (
	"crypto/ed25519"
	"iter"
	"math"
	"slices"
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// certified is a View as package gossip wants it. What takes a walk over all
// nodes is made once, when it is first asked for.
type certified struct {
	*View
	electorate func() fsm.Electorate

	mu      sync.RWMutex
	members map[[ed25519.PublicKeySize]byte]mesh.Member // as far as the mesh asked
}

func newCertified(v *View) *certified {
	c := &certified{View: v, members: map[[ed25519.PublicKeySize]byte]mesh.Member{}}
	c.electorate = sync.OnceValue(v.State.Electorate)
	return c
}

// Rules implements gossip.View.
func (c *certified) Rules() gossip.Rules {
	meta, policy := c.State.Meta(), c.State.Policy()
	return gossip.Rules{
		Ledger: meta.Ledger, Generation: meta.Generation, Format: meta.Format, Epoch: meta.Epoch, Quota: policy.Quota,
		EpochMillis: policy.EpochMillis, TickMillis: policy.TickMillis, Protection: policy.Protects(),
	}
}

// Author implements gossip.View.
func (c *certified) Author(key ledger.Hash) (gossip.Author, bool) {
	record, ok := c.State.Key(key)
	if !ok {
		return gossip.Author{}, false
	}
	a := gossip.Author{Name: record.Holder, Role: record.Role, Revoked: record.Revoked}
	switch record.Role {
	case fsm.RoleNode:
		c.nodeAuthor(&a, &record, key)
	case fsm.RoleReplica:
		r, ok := c.State.Replica(record.Holder)
		if !ok || r.KeyID() != key {
			a.Revoked = true
			if ok {
				c.former(&a, &record, key, r.KeyID())
			}
			return a, true
		}
		a.Operator, a.Public = r.Operator, r.Public
	case fsm.RoleGovernor:
		g, ok := c.State.Governor(record.Holder)
		if !ok || g.KeyID() != key {
			a.Revoked = true
			return a, true
		}
		a.Operator, a.Public = g.Operator, g.Public
	}
	return a, true
}

// nodeAuthor fills in a key of a node: the one in force, its successor, or one that was
// rotated out while its epochs are still heard.
func (c *certified) nodeAuthor(a *gossip.Author, record *fsm.KeyRecord, key ledger.Hash) {
	n, ok := c.State.Node(a.Name)
	if !ok {
		a.Revoked = true
		return
	}
	a.Operator, a.Standing = n.Operator, c.heldStanding(&n)
	old, rotated := c.State.OldKey(key)
	switch {
	case n.Key == key && !n.Revoked:
		a.Revoked = false
		a.Public, a.ValidFrom, a.ValidTo, a.Grace = n.Public, n.ValidFrom, n.ValidTo, c.State.Policy().GraceEpochs
		if n.Next != nil {
			a.ValidTo, a.Grace = n.Next.From-1, 0
		}
	case n.Next != nil && n.Next.Key == key:
		a.Revoked = false
		a.Public, a.ValidFrom, a.ValidTo = n.Next.Public, n.Next.From, math.MaxUint64
	case rotated && old.Role == fsm.RoleNode && old.Holder == n.Name:
		a.Revoked = false
		a.Public, a.ValidFrom, a.ValidTo = old.Public, old.From, old.To
		a.Former = c.leads(record, n.Key)
	default:
		a.Revoked = true
		c.former(a, record, key, n.Key)
	}
}

// former fills in a key that was rotated out and speaks no more, if its rotations lead to
// the holder's key in force: it convicts still, and evidence brings it once the state has
// it no longer.
func (c *certified) former(a *gossip.Author, record *fsm.KeyRecord, key, current ledger.Hash) {
	if record.ValidTo == nil || !c.leads(record, current) {
		return
	}
	a.Former, a.ValidFrom, a.ValidTo = true, record.ValidFrom, *record.ValidTo
	if old, kept := c.State.OldKey(key); kept {
		a.Public = old.Public
	}
}

// leads reports whether rotations lead from a key to another.
func (c *certified) leads(from *fsm.KeyRecord, current ledger.Hash) bool {
	for range maxRingKeys {
		if from.Revoked || from.Ended != fsm.KeyRotated || from.Next == nil {
			return false
		}
		if *from.Next == current {
			return true
		}
		next, ok := c.State.Key(*from.Next)
		if !ok {
			return false
		}
		from = &next
	}
	return false
}

func (c *certified) heldStanding(n *fsm.NodeRecord) string {
	if held, ok := c.Held[n.Name]; ok {
		return gossip.Worse(n.Standing, held)
	}
	return n.Standing
}

func (c *certified) node(n *fsm.NodeRecord) gossip.Node {
	out := gossip.Node{Name: n.Name, Operator: n.Operator, Standing: c.heldStanding(n), Ordinal: n.Ordinal}
	if r, ok := c.State.Reputation(n.Name); ok {
		out.Down = r.Down
	}
	return out
}

// Node implements gossip.View.
func (c *certified) Node(name string) (gossip.Node, bool) {
	n, ok := c.State.Node(name)
	if !ok {
		return gossip.Node{}, false
	}
	return c.node(&n), true
}

// Nodes implements gossip.View.
func (c *certified) Nodes() iter.Seq[gossip.Node] {
	return func(yield func(gossip.Node) bool) {
		eachNode(c.State, func(n *fsm.NodeRecord) bool { return yield(c.node(n)) })
	}
}

// LinkDown implements gossip.View.
func (c *certified) LinkDown(a, b string) bool {
	raw, ok := c.State.Record("link/" + min(a, b) + "/" + max(a, b))
	if !ok {
		return false
	}
	var link fsm.LinkRecord
	return canon.Unmarshal(raw, &link) == nil && link.Down
}

// Seed implements gossip.View.
func (c *certified) Seed(epoch uint64) (ledger.Hash, bool) {
	if c.State.Meta().Format < 2 {
		return ledger.Hash{}, false
	}
	return c.State.Seed(epoch)
}

// Electorate implements gossip.View.
func (c *certified) Electorate() ([]ledger.Stable, bool) {
	e := c.electorate()
	return e.Stables, e.Bootstrap
}

// AttestWindow implements gossip.View.
func (c *certified) AttestWindow(name string) (first uint64, drawn bool) {
	n, ok := c.State.Node(name)
	if !ok || c.State.Meta().Format < 2 {
		return 0, false
	}
	return c.State.AttestWindow(&n)
}

// directory is the agent's view as the mesh wants it.
type directory struct{ agent *Agent }

// Peer implements mesh.Directory. It is asked for every frame, and by GossipSub's
// scores for every peer and topic in every heartbeat: a member is read from the
// records of a view once.
func (d directory) Peer(key ed25519.PublicKey) (mesh.Member, bool) {
	v := d.agent.view.Load()
	if v.State == nil || len(key) != ed25519.PublicKeySize {
		return mesh.Member{}, false
	}
	at := [ed25519.PublicKeySize]byte(key)
	c := v.certified
	c.mu.RLock()
	m, ok := c.members[at]
	c.mu.RUnlock()
	if ok {
		return m, true
	}
	name, ok := v.peers[at]
	if !ok {
		return mesh.Member{}, false
	}
	n, ok := v.State.Node(name)
	if !ok {
		return mesh.Member{}, false
	}
	m = d.member(v, &n)
	c.mu.Lock()
	c.members[at] = m
	c.mu.Unlock()
	return m, true
}

// Members implements mesh.Directory.
func (d directory) Members(yield func(mesh.Member) bool) {
	v := d.agent.view.Load()
	if v.State != nil {
		eachNode(v.State, func(n *fsm.NodeRecord) bool { return yield(d.member(v, n)) })
	}
}

func (d directory) member(v *View, n *fsm.NodeRecord) mesh.Member {
	m := mesh.Member{
		Name: n.Name, Operator: n.Operator, Standing: v.Standing(n.Name), Peer: n.Peer,
		Addresses: d.agent.addresses[n.Name],
	}
	if keys := peerKeysOf(v.State, n); len(keys) > 0 {
		m.Also = keys[1:]
	} else {
		m.Standing = fsm.NodeExcluded // its key is revoked: nobody is to be met by it
	}
	if r, ok := v.State.Reputation(n.Name); ok {
		m.Reputation = r.Reputation
	}
	return m
}

// addressesOf groups the configured peers by name.
func addressesOf(peers []string) (map[string][]string, error) {
	addresses := map[string][]string{}
	for _, text := range peers {
		p, err := ParsePeer(text)
		if err != nil {
			return nil, err
		}
		if list := addresses[p.Name]; len(list) < memberAddresses && !slices.Contains(list, p.Address) {
			addresses[p.Name] = append(list, p.Address)
		}
	}
	return addresses, nil
}
