// Package readertest reads the entries of a ledger, and nothing else, as naively
// as it can be written, and knows from them who held which key, from which epoch
// to which, and whether it was revoked. With that it judges every statement that
// the ledger accepted, and every refusal for a key's sake. It shares no code with
// the rules (package fsm), so that a mistake in them is not made twice.
package readertest

import (
	"fmt"
	"maps"
	"math"

	"github.com/quorate/quorate/ledger"
)

// The roles of a key.
const (
	governor = "governor"
	recovery = "recovery"
	replica  = "replica"
	node     = "node"
)

// The standings of a node, as far as a key's part in an epoch depends on them.
const (
	active      = "active"
	quarantined = "quarantined"
	excluded    = "excluded"
)

// Key is what the reader knows of a key.
type Key struct {
	Holder, Role string
	Seat         int         // keys of one holder that follow each other by rotation share it
	From, To     uint64      // the first and the last epoch in which it is its holder's key
	Succeeded    bool        // another took its place by rotation
	Gone         bool        // and its holder left, or got one by decision, since
	Revoked      bool        // nothing under it is accepted any more
	RevokedFrom  uint64      // the epoch from which what it said is disputed
	Said         uint64      // the epoch in which the rotation to it was accepted
	Next         ledger.Hash // that its holder rotated to; zero for none
}

// Seated is a node of the ledger.
type Seated struct {
	Key      ledger.Hash
	Standing string
	Next     ledger.Hash // that it has announced; zero for none
}

// Reader is what somebody knows who has read the entries so far.
type Reader struct {
	Epoch, Format uint64
	Keys          map[ledger.Hash]Key
	Nodes         map[string]Seated
	Backups       map[ledger.Hash]ledger.Backup // by key
	Destroyed     map[ledger.Hash]bool          // keys
	Wrong         []string                      // what must not be, in the order in which it was found
	Judged        map[string]int                // statements judged, by what was judged

	next             uint64 // seq of the next entry
	keyEpochs, grace uint64
	rotateEpochs     uint64 // before a key's end, in which it may be rotated
	late, lateOld    uint64 // epochs before its end in which a node's key is late, and after which a replica's is
	joining          map[string]bool
	alarms           map[string]string // names by kind
	begun            bool              // an epoch, whose alarms are being told
	seats            int
	people           map[string]person // by name, of all who ever were
	sponsors         map[string]string // of operators
	frozen           bool
	councilRule      uint64                            // the policy's threshold of council.change
	names            map[string]map[string]ledger.Hash // governors, recovery holders and replicas by role: name to key
	joins            map[ledger.Hash]ledger.Join
	proposals        map[ledger.Hash]proposal
	said             map[saying]uint64      // entry by author, seat, epoch and seq
	spoke            map[spoken]ledger.Hash // the one key of a node in an epoch
}

type proposal struct {
	action string
	args   []byte
}

type saying struct {
	author     string
	seat       int
	epoch, seq uint64
}

type spoken struct {
	author string
	seat   int
	epoch  uint64
}

// forever is the end of a key that has none by itself.
const forever = math.MaxUint64 >> 1

// New begins with entry 0.
func New(genesisEntry []byte) (*Reader, error) {
	g, _, err := ledger.ParseGenesis(genesisEntry)
	if err != nil {
		return nil, fmt.Errorf("read genesis: %w", err)
	}
	r := &Reader{
		Format: g.Format, Keys: map[ledger.Hash]Key{}, Nodes: map[string]Seated{}, Judged: map[string]int{},
		next: 1, names: map[string]map[string]ledger.Hash{governor: {}, recovery: {}, replica: {}},
		Backups: map[ledger.Hash]ledger.Backup{}, Destroyed: map[ledger.Hash]bool{}, people: map[string]person{}, sponsors: map[string]string{},
		joining: map[string]bool{}, alarms: map[string]string{}, joins: map[ledger.Hash]ledger.Join{}, proposals: map[ledger.Hash]proposal{}, said: map[saying]uint64{}, spoke: map[spoken]ledger.Hash{},
	}
	r.takePolicy(&g.Policy)
	for _, o := range g.Operators {
		r.sponsors[o.Name] = o.Sponsor
	}
	for _, m := range g.Council {
		r.seatMember(m)
	}
	for _, one := range g.Replicas {
		r.seatReplica(one)
	}
	if g.Recovery != nil {
		for _, h := range g.Recovery.Holders {
			r.seat(recovery, h.Name, h.KeyID())
		}
	}
	return r, nil
}

// Clone copies the reader, so that two histories may go on from one beginning.
func (r *Reader) Clone() *Reader {
	c := *r
	c.Keys, c.Nodes, c.Judged = maps.Clone(r.Keys), maps.Clone(r.Nodes), maps.Clone(r.Judged)
	c.names = map[string]map[string]ledger.Hash{}
	for role, names := range r.names {
		c.names[role] = maps.Clone(names)
	}
	c.joining, c.alarms = maps.Clone(r.joining), maps.Clone(r.alarms)
	c.Backups, c.Destroyed, c.people, c.sponsors = maps.Clone(r.Backups), maps.Clone(r.Destroyed), maps.Clone(r.people), maps.Clone(r.sponsors)
	c.joins, c.proposals, c.said, c.spoke = maps.Clone(r.joins), maps.Clone(r.proposals), maps.Clone(r.said), maps.Clone(r.spoke)
	c.Wrong = append([]string(nil), r.Wrong...)
	return &c
}

func (r *Reader) takePolicy(p *ledger.Policy) {
	r.councilRule = p.Rules["council.change"].Threshold
	r.keyEpochs, r.grace, r.rotateEpochs, r.late, r.lateOld = p.KeyEpochs, p.GraceEpochs, 0, 0, 4_320*9/8
	if p.Keys != nil {
		r.rotateEpochs, r.late, r.lateOld = p.Keys.RotateEpochs, p.Keys.LateEpochs, p.Keys.ReplicaKeyEpochs*9/8
	}
	if r.rotateEpochs == 0 {
		r.rotateEpochs = max(2, p.KeyEpochs/4)
	}
	r.rotateEpochs = min(r.rotateEpochs, p.KeyEpochs)
	if r.late == 0 {
		r.late = max(1, r.rotateEpochs/4)
	}
}

// seat gives a key to whoever is no node: it has no range.
func (r *Reader) seat(role, name string, id ledger.Hash) {
	r.names[role][name] = id
	if _, known := r.Keys[id]; known {
		return // a governor who is seated again under the same key
	}
	r.seats++
	r.Keys[id] = Key{Holder: name, Role: role, Seat: r.seats, From: r.Epoch, To: forever}
}

func (r *Reader) seatMember(m ledger.Member) {
	r.people[m.Name] = person{m.Operator, m.Recipient}
	r.seat(governor, m.Name, m.KeyID())
}

func (r *Reader) seatReplica(one ledger.Replica) {
	r.people[one.Name] = person{operator: one.Operator}
	r.seat(replica, one.Name, one.KeyID())
}

// keyFormat is the format from which keys rotate.
const keyFormat = 3

// unseat ends the key of one who is no node. If the decision names an epoch, the
// keys that were rotated out in it or later end with it.
func (r *Reader) unseat(role, name string, from *uint64) {
	id := r.names[role][name]
	r.revoke(id, max(r.since(from), r.Keys[id].From))
	seat := r.Keys[id].Seat
	for id, k := range r.Keys {
		if from != nil && k.Seat == seat && k.Succeeded && r.Keys[k.Next].Said >= *from {
			r.revoke(id, max(*from, k.From))
			r.Judged["predecessor revoked"]++
		}
	}
	r.leave(seat)
	delete(r.names[role], name)
}

func (r *Reader) revoke(id ledger.Hash, from uint64) {
	k, ok := r.Keys[id]
	if !ok {
		r.complain("a key that is revoked was never seated: %s", id)
		return
	}
	if !k.Revoked || from < k.RevokedFrom {
		k.RevokedFrom = from
	}
	if !k.Revoked && !k.Succeeded {
		k.To = min(k.To, r.Epoch)
	}
	k.Revoked = true
	r.Keys[id] = k
}

// leave is said of the keys that were rotated out before a seat ended: what was said
// under them is not kept any more, so nothing more is taken.
func (r *Reader) leave(seat int) {
	for id, k := range r.Keys {
		if k.Seat == seat && k.Succeeded {
			k.Gone = true
			r.Keys[id] = k
		}
	}
}

func (r *Reader) complain(format string, values ...any) {
	r.Wrong = append(r.Wrong, fmt.Sprintf("entry %d: ", r.next)+fmt.Sprintf(format, values...))
}

// Read reads the next entry. Its error is that of an entry which is none; what
// the rules should not have done is in Wrong.
func (r *Reader) Read(entry []byte) error {
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		return fmt.Errorf("read entry %d: %w", r.next, err)
	}
	if e.Seq != r.next {
		return fmt.Errorf("read entry %d: it says that it is %d", r.next, e.Seq)
	}
	if e.Kind != ledger.KindEffect {
		r.checkAlarms()
	}
	switch e.Kind {
	case ledger.KindStatement:
		st, err := ledger.ParseStatement(e.Content)
		if err != nil {
			return fmt.Errorf("read entry %d: %w", r.next, err)
		}
		r.accepted(st)
	case ledger.KindEffect:
		effect, err := e.Effect()
		if err != nil {
			return fmt.Errorf("read entry %d: %w", r.next, err)
		}
		if err := r.happened(effect); err != nil {
			return fmt.Errorf("read entry %d: %s: %w", r.next, effect.Type, err)
		}
	}
	r.next++
	return nil
}

// Next is the seq of the next entry to read.
func (r *Reader) Next() uint64 { return r.next }
