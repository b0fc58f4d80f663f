package agent

import (
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
)

// Status is how an agent stands: GET /v1/status.
type Status struct {
	Name        string            `json:"name"`
	Ledger      string            `json:"ledger"` // genesis hash, hex
	Standing    string            `json:"standing,omitempty"`
	Size        uint64            `json:"size"`   // certified entries that are enforced
	Root        string            `json:"root"`   // hex
	Signed      uint64            `json:"signed"` // milliseconds: the newest head's signatures
	Stale       bool              `json:"stale"`  // the newest head is older than max_head_age
	Epoch       uint64            `json:"epoch"`
	Alarm       bool              `json:"alarm"` // certified heads conflict, or entries diverge
	Trouble     map[string]string `json:"trouble,omitempty"`
	Replicas    bool              `json:"replicas"` // one answered lately
	Peers       int               `json:"peers"`    // connected
	Waiting     int               `json:"waiting"`  // statements for the ledger
	Renewed     uint64            `json:"renewed"`  // of this node's, signed anew for a later epoch, since the start
	GivenUp     uint64            `json:"given_up"` // of this node's, that the ledger has not and takes no more
	Quarantined int               `json:"quarantined"`
	Key         *KeyStatus        `json:"key,omitempty"` // this node's, once the ledger has it
}

// KeyStatus is how this node's key stands. Times are epochs.
type KeyStatus struct {
	ID       string `json:"id"`             // in force, as certified
	ValidTo  uint64 `json:"valid_to"`       // the last epoch in which it speaks
	Next     string `json:"next,omitempty"` // its successor, once the ledger has it
	From     uint64 `json:"from,omitempty"` // of Next
	DueEpoch uint64 `json:"due_epoch"`      // in which it is to be rotated, as far as it has no successor
	Held     bool   `json:"held"`           // its file is here, so that this node can sign
}

// Status says how the agent stands.
func (a *Agent) Status() Status {
	v := a.view.Load()
	trouble := a.trouble.list()
	s := Status{
		Name: a.config.Name, Ledger: a.genesis.String(), Standing: v.Standing(a.config.Name),
		Size: v.Size, Root: v.Root.String(), Stale: a.stale(time.Now()), Trouble: trouble,
		Alarm:    trouble[troubleConflict] != "" || trouble[troubleDivergence] != "",
		Replicas: a.client != nil && !a.trouble.cutOff(),
		Peers:    len(a.mesh.Peers()), Waiting: a.out.waiting(),
		Renewed: a.out.renewed.Load(), GivenUp: a.out.given.Load(), Quarantined: len(quarantineOf(v)),
	}
	if !v.Signed.IsZero() {
		s.Signed = uint64(v.Signed.UnixMilli())
	}
	if v.State != nil {
		s.Epoch = v.State.Epoch()
		s.Key = a.keyStatus(v)
	}
	return s
}

func (a *Agent) keyStatus(v *View) *KeyStatus {
	me, ok := v.State.Node(a.config.Name)
	if !ok {
		return nil
	}
	policy := v.State.Policy()
	rules := policy.KeyRules()
	k := &KeyStatus{ID: me.Key.String(), ValidTo: me.ValidTo, Held: a.identity.Load().key(me.Key) != nil}
	k.DueEpoch = gossip.RotationDue(a.genesis, me.Name, me.Ordinal, me.ValidTo, rules.RotateEpochs, rules.LateEpochs).Epoch
	if me.Next != nil {
		k.Next, k.From = me.Next.Key.String(), me.Next.From
	}
	return k
}

// Dropped is a node of which nothing is accepted.
type Dropped struct {
	Name     string `json:"name"`
	Operator string `json:"operator"`
	Peer     string `json:"peer"` // hex of the Ed25519 peer key
	Standing string `json:"standing"`
	Reason   string `json:"reason,omitempty"`
	// Source is the ledger; evidence, which this agent verified itself and the
	// ledger has not decided on; or conflict, a quarantine that is held because
	// certified heads contradict each other.
	Source string `json:"source"`
}

// quarantineOf lists the nodes that are dropped, by name.
func quarantineOf(v *View) []Dropped {
	list := []Dropped{}
	if v.State == nil {
		return list
	}
	eachNode(v.State, func(n *fsm.NodeRecord) bool {
		standing := v.Standing(n.Name)
		if standing == fsm.NodeActive {
			return true
		}
		d := Dropped{Name: n.Name, Operator: n.Operator, Peer: hexOf(n.Peer), Standing: standing, Reason: n.Reason, Source: "ledger"}
		if standing != n.Standing {
			d.Source = "conflict"
			if ban, ok := v.Banned[n.Name]; ok && ban.Standing == standing {
				d.Source, d.Reason = "evidence", ban.Offence.Kind
			}
		}
		list = append(list, d)
		return true
	})
	return list
}

// Epoch is GET /v1/epoch.
type Epoch struct {
	Epoch  uint64 `json:"epoch"`
	Start  uint64 `json:"start"`  // milliseconds
	Millis uint64 `json:"millis"` // its length
	Size   uint64 `json:"size"`
}

func epochOf(v *View) Epoch {
	if v.State == nil {
		return Epoch{}
	}
	meta := v.State.Meta()
	return Epoch{Epoch: meta.Epoch, Start: meta.EpochStart, Millis: v.State.Policy().EpochMillis, Size: v.Size}
}

// ActiveKey is a key that speaks for a node now.
type ActiveKey struct {
	Name      string `json:"name"`
	Operator  string `json:"operator"`
	Key       string `json:"key"`    // id, hex
	Public    []byte `json:"public"` // ML-DSA-65, base64
	Peer      string `json:"peer"`   // hex
	ValidFrom uint64 `json:"valid_from"`
	ValidTo   uint64 `json:"valid_to"`
	// Next is the key that follows, once it is announced: what it signs is of epoch From or
	// later, and from that epoch on the other signs nothing.
	Next *FollowingKey `json:"next,omitempty"`
}

// FollowingKey is a key that is announced.
type FollowingKey struct {
	Key    string `json:"key"`    // id, hex
	Public []byte `json:"public"` // ML-DSA-65, base64
	Peer   string `json:"peer"`   // hex
	From   uint64 `json:"from"`   // epoch
}

// following is the id of the key that is announced, or "".
func (k *ActiveKey) following() string {
	if k.Next == nil {
		return ""
	}
	return k.Next.Key
}

// keysOf lists the valid keys of the nodes that are active, by name.
func keysOf(v *View) []ActiveKey {
	list := []ActiveKey{}
	if v.State == nil {
		return list
	}
	epoch := v.State.Epoch()
	eachNode(v.State, func(n *fsm.NodeRecord) bool {
		if v.Standing(n.Name) == fsm.NodeActive && !n.Revoked && n.ValidFrom <= epoch && epoch <= n.ValidTo {
			k := ActiveKey{
				Name: n.Name, Operator: n.Operator, Key: n.Key.String(), Public: n.Public, Peer: hexOf(n.Peer),
				ValidFrom: n.ValidFrom, ValidTo: n.ValidTo,
			}
			if next := n.Next; next != nil {
				k.Next = &FollowingKey{Key: next.Key.String(), Public: next.Public, Peer: hexOf(next.Peer), From: next.From}
			}
			list = append(list, k)
		}
		return true
	})
	return list
}

// NodeStanding is GET /v1/nodes/NAME.
type NodeStanding struct {
	Name       string `json:"name"`
	Operator   string `json:"operator"`
	Standing   string `json:"standing"` // as it is treated
	Ledger     string `json:"ledger"`   // as the ledger has it
	Reason     string `json:"reason,omitempty"`
	Reputation uint64 `json:"reputation,omitempty"` // basis points
	Strikes    uint64 `json:"strikes,omitempty"`
	Down       bool   `json:"down,omitempty"`
	Evidence   string `json:"evidence,omitempty"` // kind, while the ledger has not decided
	Key        string `json:"key"`
	Peer       string `json:"peer"`
	Size       uint64 `json:"size"`
}

func nodeOf(v *View, name string) (*NodeStanding, bool) {
	if v.State == nil {
		return nil, false
	}
	n, ok := v.State.Node(name)
	if !ok {
		return nil, false
	}
	out := &NodeStanding{
		Name: n.Name, Operator: n.Operator, Standing: v.Standing(name), Ledger: n.Standing, Reason: n.Reason,
		Key: n.Key.String(), Peer: hexOf(n.Peer), Size: v.Size,
	}
	if r, ok := v.State.Reputation(name); ok {
		out.Reputation, out.Strikes, out.Down = r.Reputation, r.Strikes, r.Down
	}
	if ban, ok := v.Banned[name]; ok {
		out.Evidence = ban.Offence.Kind
	}
	return out, true
}

// Published is the JSON file, and what the hook finds on its standard input.
type Published struct {
	Genesis    string      `json:"ledger"`
	Size       uint64      `json:"size"`
	Signed     uint64      `json:"signed"` // milliseconds
	Stale      bool        `json:"stale"`
	Alarm      bool        `json:"alarm"`
	Epoch      Epoch       `json:"epoch"`
	Keys       []ActiveKey `json:"keys"`
	Quarantine []Dropped   `json:"quarantine"`
}

// published gives what other programs enforce. Signed and Stale alone are no
// change.
func (a *Agent) published() *Published {
	v, s := a.view.Load(), a.Status()
	return &Published{
		Genesis: s.Ledger, Size: s.Size, Signed: s.Signed, Stale: s.Stale, Alarm: s.Alarm,
		Epoch: epochOf(v), Keys: keysOf(v), Quarantine: quarantineOf(v),
	}
}

// sameAs reports whether two would have a program act alike.
func (p *Published) sameAs(o *Published) bool {
	if o == nil || p.Stale != o.Stale || p.Alarm != o.Alarm || p.Epoch.Epoch != o.Epoch.Epoch {
		return false
	}
	return slices.EqualFunc(p.Keys, o.Keys, func(x, y ActiveKey) bool { return x.Name == y.Name && x.Key == y.Key && x.following() == y.following() }) &&
		slices.Equal(p.Quarantine, o.Quarantine)
}
