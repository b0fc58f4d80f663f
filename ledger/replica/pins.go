package replica

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// peer is another replica as the pins know it.
type peer struct {
	ledger.Replica
	id       ledger.Hash // its server (seats.go)
	standing string
}

func (p *peer) serverID() raft.ServerID        { return raft.ServerID(p.id.String()) }
func (p *peer) serverAddr() raft.ServerAddress { return raft.ServerAddress(p.Peer) }

// pinSet is one immutable version of who may talk to us.
type pinSet struct {
	peers    []*peer              // by name, each replica once
	also     []*peer              // the same ones with pins or addresses that they had, or have by now
	outcasts map[ledger.Hash]bool // pins of those that a recovery left out
}

// pins holds the replica set that connections are checked against: that of
// the newest applied state; on a replica that has not caught up, together with
// genesis's and the one that it fetched from its seeds and verified.
type pins struct {
	now atomic.Pointer[pinSet]

	mu        sync.Mutex
	applied   []*peer
	size      uint64  // of the state that applied is of; an older one does not replace it
	founding  []*peer // of genesis; forgotten once caught up
	learned   []*peer // from a seed; forgotten once caught up
	settled   bool    // caught up: the applied state alone counts
	leaving   []leaver
	outcasts  map[ledger.Hash]bool // by TLS pin; never changed in place
	linger    time.Duration
	pinLinger time.Duration // of the former pin of one that rotated
}

// leaver was removed or re-keyed a moment ago. It lingers, so that it still
// hears that its own removal is certified.
type leaver struct {
	*peer
	until time.Time
	last  bool // the certified set has it no more: it goes at that time
}

func newPins(founding *ledger.Genesis, linger time.Duration) *pins {
	p := &pins{linger: linger, pinLinger: linger}
	for _, r := range founding.Replicas {
		p.founding = append(p.founding, &peer{Replica: r, id: r.KeyID(), standing: fsm.ReplicaActive})
	}
	p.publish()
	return p
}

func (p *pins) apply(size uint64, records []fsm.ReplicaRecord) {
	peers := make([]*peer, len(records))
	for i, r := range records {
		peers[i] = &peer{Replica: r.Replica, id: r.Server(), standing: r.Standing}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if size < p.size {
		return
	}
	p.size = size
	for _, old := range p.applied {
		at := slices.IndexFunc(peers, func(one *peer) bool { return one.id == old.id })
		switch {
		case at < 0 && p.linger > 0:
			p.leaving = append(p.leaving, leaver{peer: old, until: time.Now().Add(p.linger)})
		case at >= 0 && peers[at].TLSPin != old.TLSPin && p.pinLinger > 0:
			p.leaving = append(p.leaving, leaver{peer: old, until: time.Now().Add(p.pinLinger)})
		}
	}
	p.applied = peers
	p.publish()
}

// expire drops the leavers whose time is over, and says when the next one's
// is; zero when there is none. Who is needed stays.
func (p *pins) expire(needed func(*peer) bool) (next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.leaving) == 0 {
		return time.Time{}
	}
	now := time.Now()
	for i, l := range p.leaving {
		rotated := slices.ContainsFunc(p.applied, func(one *peer) bool { return one.id == l.id })
		switch {
		case l.until.After(now) || l.last:
		case needed(l.peer) && !rotated:
			p.leaving[i].until = now.Add(p.linger)
		case rotated: // it shows the other one for a while after it is certified
			p.leaving[i].until, p.leaving[i].last = now.Add(p.pinLinger), !needed(l.peer)
		}
	}
	p.leaving = slices.DeleteFunc(p.leaving, func(l leaver) bool { return !l.until.After(now) })
	p.publish()
	for _, l := range p.leaving {
		if next.IsZero() || l.until.Before(next) {
			next = l.until
		}
	}
	return next
}

// learn takes what a seed proved. A replica that has caught up meanwhile takes
// it only if it is out of touch since.
func (p *pins) learn(peers []*peer, outOfTouch bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled && !outOfTouch {
		return
	}
	p.learned = peers
	p.publish()
}

// settle forgets genesis and seeds: the applied state is the ledger's now.
func (p *pins) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.founding, p.learned, p.settled = nil, nil, true
	p.publish()
}

// publish requires mu, but for the first time.
func (p *pins) publish() {
	set := &pinSet{outcasts: p.outcasts}
	seen := map[ledger.Hash]bool{}
	leaving := make([]*peer, len(p.leaving))
	for i, l := range p.leaving {
		leaving[i] = l.peer
	}
	for _, list := range [][]*peer{p.applied, p.learned, p.founding, leaving} {
		for _, one := range list {
			if !seen[one.id] {
				seen[one.id] = true
				set.peers = append(set.peers, one)
			} else if !slices.ContainsFunc(set.pinned(one.TLSPin), func(p *peer) bool { return p.id == one.id }) {
				set.also = append(set.also, one)
			}
		}
	}
	slices.SortStableFunc(set.peers, func(a, b *peer) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	p.now.Store(set)
}

// pinned lists the replicas that a pin is taken of.
func (s *pinSet) pinned(pin ledger.Hash) []*peer {
	var found []*peer
	for _, list := range [][]*peer{s.peers, s.also} {
		for _, p := range list {
			if p.TLSPin == pin {
				found = append(found, p)
			}
		}
	}
	return found
}

func (s *pinSet) byPin(pin ledger.Hash) *peer {
	if found := s.pinned(pin); len(found) > 0 {
		return found[0]
	}
	return nil
}

func (s *pinSet) byID(id ledger.Hash) *peer {
	for _, p := range s.peers {
		if p.id == id {
			return p
		}
	}
	return nil
}

func (s *pinSet) byName(name string) *peer {
	for _, p := range s.peers {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// atAddress lists the replicas that the ledger places at an address: two while
// a re-keyed one takes the other's place, or one shows a new pin.
func (s *pinSet) atAddress(address string) []*peer {
	var found []*peer
	for _, list := range [][]*peer{s.peers, s.also} {
		for _, p := range list {
			if p.Peer == address {
				found = append(found, p)
			}
		}
	}
	return found
}

// PinOf is the pin of a certificate: SHA-256 of its SubjectPublicKeyInfo.
func PinOf(certificate *x509.Certificate) ledger.Hash {
	return sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
}

// CertificatePin is PinOf for the leaf of a tls.Certificate.
func CertificatePin(c tls.Certificate) (ledger.Hash, error) {
	if len(c.Certificate) == 0 {
		return ledger.Hash{}, errors.New("certificate is empty")
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return ledger.Hash{}, fmt.Errorf("parse certificate: %w", err)
	}
	return PinOf(leaf), nil
}

// errUnpinned is all that a stranger's handshake gives.
var errUnpinned = errors.New("the certificate is not pinned by the ledger")

func peerPin(state tls.ConnectionState) (ledger.Hash, error) {
	if len(state.PeerCertificates) == 0 {
		return ledger.Hash{}, errUnpinned
	}
	return PinOf(state.PeerCertificates[0]), nil
}

func (s *pinSet) byServer(id raft.ServerID) *peer {
	for _, p := range s.peers {
		if p.serverID() == id {
			return p
		}
	}
	return nil
}

// hasApplied says whether an applied state has spoken yet.
func (p *pins) hasApplied() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied != nil
}

// voters lists the active replicas but self, as the best source known has
// them: applied state, else a seed's proof, else genesis.
func (p *pins) voters(self ledger.Hash) []*peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	source := p.applied
	if source == nil {
		source = p.learned
	}
	if source == nil {
		source = p.founding
	}
	var list []*peer
	for _, one := range source {
		if one.id != self && one.standing == fsm.ReplicaActive {
			list = append(list, one)
		}
	}
	return list
}
