package mesh

import "crypto/ed25519"

// The standings that a member may have; those of the ledger's node records.
const (
	Active      = "active"      // gossips, probes and is probed
	Quarantined = "quarantined" // may only send and answer probes
	Excluded    = "excluded"    // is not connected
)

// Member is a node of the ledger, as it was last certified.
type Member struct {
	Name     string
	Operator string
	Standing string            // Active, Quarantined or Excluded; anything else counts as Excluded
	Peer     ed25519.PublicKey // 32 bytes; the peer key that the ledger binds to the node
	// Also are the other peer keys by which the node may be met while it changes its own:
	// the one that is to follow, or the one before.
	Also []ed25519.PublicKey
	// Reputation is in basis points, 0 to 10,000.
	Reputation uint64
	// Addresses, host:port, are where configuration says it listens; the mesh
	// learns others by itself. At most maxConfiguredAddresses are used.
	Addresses []string
}

// Directory is what the ledger certified of the fleet. It is asked at every
// connection and message, by many goroutines: answers come from memory, at once.
// Whoever is not in it is not connected. After a change of it, call Mesh.Refresh.
type Directory interface {
	// Peer finds a member by any of its peer keys, 32 bytes.
	Peer(key ed25519.PublicKey) (Member, bool)
	// Members yields every member once, until yield says false.
	Members(yield func(Member) bool)
}

// Verdict is what becomes of a message that arrived by gossip.
type Verdict int

// The verdicts. The zero Verdict is Ignore: nothing is accepted by mistake.
const (
	Ignore Verdict = iota // dropped; the relay is not to blame
	Accept                // relayed on
	Reject                // dropped, and counted against the relay, who could have known
	Known                 // dropped: this node has it, from elsewhere than gossip
)

// String names v for logs and metrics.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	case Known:
		return "known"
	}
	return "ignore"
}

// Judge decides about what arrives and answers requests. It is called by many
// goroutines, at most as many as limits.go says, and must answer quickly: what
// comes meanwhile waits for a place, and without one is dropped.
// from is the member that the frame came from over its authenticated channel,
// for gossip the last relay and not the author. Slices are not to be kept
// without a copy, nor changed.
//
// A message is judged once: one that was ignored is not shown again within
// seenTTL, whoever sends it.
type Judge interface {
	// Statement judges a COSE envelope of at most MaxStatementBytes. Accept means
	// that its author's signature is good.
	Statement(from Member, envelope []byte) Verdict
	// Head judges a certified head of at most MaxHeadBytes.
	Head(from Member, note []byte) Verdict
	// Entries judges entries with their proof, at most MaxEntriesBytes.
	Entries(from Member, frame []byte) Verdict
	// Probe answers a probe of at most MaxProbeBytes by an ack of at most as many.
	Probe(from Member, envelope []byte) (ack []byte, err error)
	// Sync answers a request of at most MaxSyncRequestBytes by at most
	// MaxSyncResponseBytes.
	Sync(from Member, request []byte) (response []byte, err error)
}
