package audit

import (
	"bytes"
	"crypto/sha256"
	"sync"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// knownKeys holds every public key that the log has shown so far, packed, by
// its id. It only lets signatures be verified ahead of the replay: which key an
// author may use, the replay decides.
type knownKeys struct {
	mu       sync.RWMutex
	packed   map[ledger.Hash][]byte
	unpacked map[ledger.Hash]*keys.PublicKey // of packed, as many as are kept
}

func newKnownKeys() *knownKeys {
	return &knownKeys{packed: map[ledger.Hash][]byte{}, unpacked: map[ledger.Hash]*keys.PublicKey{}}
}

// get gives the key of an id, packed and ready to verify, or nil.
func (k *knownKeys) get(id ledger.Hash) (packed []byte, key *keys.PublicKey) {
	k.mu.RLock()
	packed, key = k.packed[id], k.unpacked[id]
	k.mu.RUnlock()
	if key != nil || packed == nil {
		return packed, key
	}
	// Without the lock: two that race for one key do the work twice, and nobody
	// waits for another key's.
	key, err := keys.ParsePublicKey(packed)
	if err != nil {
		return packed, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.unpacked) >= knownKeysUnpacked {
		clear(k.unpacked) // cheaper, statement by statement, than knowing which was used last
	}
	k.unpacked[id] = key
	return packed, key
}

func (k *knownKeys) add(public []byte) {
	if len(public) != keys.PublicKeySize {
		return // the replay says what is wrong with it
	}
	id := ledger.Hash(sha256.Sum256(public))
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.packed[id] == nil {
		k.packed[id] = bytes.Clone(public)
	}
}

// learn takes the keys that a statement brings.
func (k *knownKeys) learn(st *ledger.Statement) {
	switch st.Payload.Type {
	case ledger.TypeJoin:
		if join, err := ledger.DecodeBody[ledger.Join](st); err == nil {
			k.add(join.Public)
		}
	case ledger.TypeRotate:
		if rotate, err := ledger.DecodeBody[ledger.Rotate](st); err == nil {
			k.add(rotate.Public)
		}
	case ledger.TypePropose:
		if propose, err := ledger.DecodeBody[ledger.Propose](st); err == nil {
			k.learnArgs(propose)
		}
	}
}

func (k *knownKeys) learnArgs(p ledger.Propose) {
	members := struct {
		Add     []ledger.Member `json:"add,omitempty"`
		Council []ledger.Member `json:"council,omitempty"`
		Remove  []string        `json:"remove,omitempty"`
	}{}
	replica := struct {
		From    *uint64        `json:"from,omitempty"`
		Replica ledger.Replica `json:"replica"`
	}{}
	switch p.Action {
	case "council.change", "council.reseat":
		if canon.Unmarshal(p.Args, &members) == nil {
			for _, m := range append(members.Add, members.Council...) {
				k.add(m.Public)
			}
		}
	case "replica.add", "replica.rekey":
		if canon.Unmarshal(p.Args, &replica) == nil {
			k.add(replica.Replica.Public)
		}
	}
}

// learnGenesis takes the keys of genesis.
func (k *knownKeys) learnGenesis(g *ledger.Genesis) {
	for _, m := range g.Council {
		k.add(m.Public)
	}
	for _, r := range g.Replicas {
		k.add(r.Public)
	}
	if g.Recovery != nil {
		for _, h := range g.Recovery.Holders {
			k.add(h.Public)
		}
	}
}
