package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// View is what the agent enforces: the certified state, and whom it drops
// besides. It is immutable, and replaced as a whole.
type View struct {
	State  *fsm.State  // as certified; nil before the first
	Size   uint64      // entries that State reflects
	Root   ledger.Hash // over them
	Signed time.Time   // when the newest head was signed by its threshold

	// Held are nodes whose quarantine outlives the state's: two certified heads
	// contradict each other, so no release is believed.
	Held map[string]string // standing by name
	// Banned are the authors of self-proving evidence that the ledger has not
	// decided on yet.
	Banned map[string]Ban

	certified *certified                             // nil as long as State is
	peers     map[[ed25519.PublicKeySize]byte]string // node names
}

// Ban is why a node is dropped before the ledger says so.
type Ban struct {
	Offence  ledger.Offence
	Standing string // as which it is treated until then
	Since    time.Time
}

// Standing is how a node is treated: as the ledger says, or worse. "" for who is
// no node.
func (v *View) Standing(name string) string {
	if v.State == nil {
		return ""
	}
	n, ok := v.State.Node(name)
	if !ok {
		return ""
	}
	standing := n.Standing
	if held, ok := v.Held[name]; ok {
		standing = gossip.Worse(standing, held)
	}
	if ban, ok := v.Banned[name]; ok {
		standing = gossip.Worse(standing, ban.Standing)
	}
	return standing
}

// eachNode calls fn for every node, by name, until it says no.
func eachNode(s *fsm.State, fn func(*fsm.NodeRecord) bool) {
	after := ""
	for {
		page := s.Nodes(after, nodesPage)
		for i := range page {
			if !fn(&page[i]) {
				return
			}
		}
		if len(page) < nodesPage {
			return
		}
		after = page[len(page)-1].Name
	}
}

const nodesPage = 256

// peersOf maps the peer keys of all nodes to their names: those in force, those that are
// announced, and those that were rotated out a moment ago. Of two nodes that claim
// one key, the one whose claim is older has it: a join proves no peer key, and a node that
// is re-keyed may name anybody's. A node whose key is revoked has none: who stole it may
// have the peer key too.
func peersOf(s *fsm.State) map[[ed25519.PublicKeySize]byte]string {
	peers := map[[ed25519.PublicKeySize]byte]string{}
	claims := map[[ed25519.PublicKeySize]byte]peerClaim{}
	eachNode(s, func(n *fsm.NodeRecord) bool {
		for _, c := range peerClaimsOf(s, n) {
			key := [ed25519.PublicKeySize]byte(c.peer)
			other, taken := claims[key]
			if taken && (other.seq < c.seq || other.seq == c.seq && other.ordinal <= c.ordinal) {
				continue
			}
			peers[key], claims[key] = n.Name, c
		}
		return true
	})
	return peers
}

// peerClaim is a peer key that a node has by an entry.
type peerClaim struct {
	peer    ed25519.PublicKey
	seq     uint64
	ordinal uint64 // of the node
}

// peerKeysOf are the peer keys by which a node may be met, the one in force first.
func peerKeysOf(s *fsm.State, n *fsm.NodeRecord) []ed25519.PublicKey {
	var list []ed25519.PublicKey
	for _, c := range peerClaimsOf(s, n) {
		list = append(list, c.peer)
	}
	return list
}

// peerClaimsOf are the peer keys by which a node may be met: the one in force, then its
// successor or its predecessor, as long as the node may still be using that.
func peerClaimsOf(s *fsm.State, n *fsm.NodeRecord) []peerClaim {
	if n.Revoked || len(n.Peer) != ed25519.PublicKeySize {
		return nil
	}
	key, known := s.Key(n.Key)
	list := []peerClaim{{n.Peer, key.Since, n.Ordinal}}
	add := func(peer []byte, seq uint64) {
		if len(peer) == ed25519.PublicKeySize && !bytes.Equal(peer, n.Peer) {
			list = append(list, peerClaim{peer, seq, n.Ordinal})
		}
	}
	if n.Next != nil {
		add(n.Next.Peer, n.Next.Seq)
	}
	if known && key.Previous != nil && n.ValidFrom > 0 && s.Epoch() <= n.ValidFrom+1 {
		if old, ok := s.OldKey(*key.Previous); ok {
			before, _ := s.Key(*key.Previous)
			add(old.Peer, before.Since)
		}
	}
	return list
}

// next is a copy of v to change before it is published.
func (v *View) next() *View {
	w := *v
	w.Held, w.Banned = maps.Clone(v.Held), maps.Clone(v.Banned)
	return &w
}

// settleBans drops bans that the ledger has decided on, or never will. Who was
// excluded stays so by its standing.
func (v *View) settleBans() {
	if v.State == nil {
		return
	}
	for name, ban := range v.Banned {
		n, ok := v.State.Node(name)
		decided := !ok || n.Standing == fsm.NodeExcluded || convicted(v.State, &ban.Offence)
		if decided || ban.Offence.Epoch+banEpochs < v.State.Epoch() {
			delete(v.Banned, name)
		}
	}
}

// hold keeps every quarantine of the state over whatever comes after it.
func (v *View) hold() {
	dropped := map[string]string{}
	if v.State != nil {
		eachNode(v.State, func(n *fsm.NodeRecord) bool {
			if n.Standing != fsm.NodeActive {
				dropped[n.Name] = n.Standing
			}
			return true
		})
	}
	v.Held = gossip.Unite(v.Held, dropped)
}

// convicted reports whether an offence is on the ledger already.
func convicted(s *fsm.State, o *ledger.Offence) bool {
	sum := sha256.Sum256([]byte(o.Key()))
	_, known := s.Record("offence/" + hex.EncodeToString(sum[:]))
	return known
}
