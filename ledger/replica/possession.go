package replica

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

var _ fsm.Possessor = (*checked)(nil)

// possessions remembers the proofs of possession that held, so that one is verified
// once: by the leader at admission, or on all cores before a batch, and not inside
// Apply again. A proof is known by its key, message and bytes together, and the
// message binds ledger, generation, predecessor and holder; what is not known, or did
// not hold, is verified whenever it is asked for. It is safe for concurrent use.
type possessions struct {
	verify func(public, message, proof []byte) bool // possesses, but in tests

	mu   sync.Mutex
	held map[ledger.Hash]struct{}
	ring []ledger.Hash // those in held, the oldest at next once it is full
	next int
}

func newPossessions() *possessions {
	return &possessions{verify: possesses, held: map[ledger.Hash]struct{}{}}
}

// possesses verifies a proof. The unpacked key is not kept: a node's speaks in a later
// epoch, and thousands may come at once.
func possesses(public, message, proof []byte) bool {
	key, err := keys.ParsePublicKey(public)
	return err == nil && key.Verify(message, proof)
}

// check answers as verify does.
func (p *possessions) check(public, message, proof []byte) bool {
	id := possessionID(public, message, proof)
	if p.knows(id) {
		return true
	}
	if !p.verify(public, message, proof) {
		return false
	}
	p.add(id)
	return true
}

func (p *possessions) knows(id ledger.Hash) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.held[id]
	return known
}

func (p *possessions) add(id ledger.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.held[id]; known { // by another goroutine meanwhile
		return
	}
	p.held[id] = struct{}{}
	if len(p.ring) < maxPossessions {
		p.ring = append(p.ring, id)
		return
	}
	delete(p.held, p.ring[p.next])
	p.ring[p.next] = id
	p.next = (p.next + 1) % maxPossessions
}

// possessionID is what a proof is known by. Lengths keep the three apart.
func possessionID(public, message, proof []byte) (id ledger.Hash) {
	h := sha256.New()
	for _, part := range [][]byte{public, message, proof} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	h.Sum(id[:0])
	return id
}

// ahead verifies the proof of a key.rotate that is to be applied, for the generation
// that the statement names: whether it is the one that the rules want, they say.
func (p *possessions) ahead(st *ledger.Statement) {
	if st.Payload.Type != ledger.TypeRotate {
		return
	}
	body, err := ledger.DecodeBody[ledger.Rotate](st)
	if err != nil {
		return // the rules say what is wrong with it
	}
	branch := ledger.Branch(st.Payload.Ledger, st.Payload.Generation)
	p.check(body.Public, ledger.RotationMessage(branch, st.KeyID, st.Payload.Author, body), body.Proof)
}

// Possesses is fsm.Possessor.
func (c *checked) Possesses(public, message, proof []byte) bool {
	return c.verifier.possessions.check(public, message, proof)
}
