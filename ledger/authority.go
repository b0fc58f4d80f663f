package ledger

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// AuthorityKey is the key of the state record that holds the Authority.
const AuthorityKey = "authority"

// AuthorityMember is a governor as the authority record has it.
type AuthorityMember struct {
	Name     string `json:"name"`
	Operator string `json:"operator"`
	Public   []byte `json:"public"` // ML-DSA-65
}

// KeyID is the id of the member's key.
func (m AuthorityMember) KeyID() Hash { return sha256.Sum256(m.Public) }

// AuthorityReplica is a replica as the authority record has it. A joining one
// is not counted and does not cosign.
type AuthorityReplica struct {
	Cosigner []byte `json:"cosigner"` // ML-DSA-44
	Joining  bool   `json:"joining,omitempty"`
	Name     string `json:"name"`
	Operator string `json:"operator"`
	Public   []byte `json:"public"` // ML-DSA-65
}

// KeyID is the id of the replica's key.
func (r AuthorityReplica) KeyID() Hash { return sha256.Sum256(r.Public) }

// Authority is who decides and who certifies, between two handovers (FORMAT.md
// section 10): all that a light client keeps.
type Authority struct {
	Causes          []uint64           `json:"causes"` // seqs of the statements that made this change
	CosignThreshold uint64             `json:"cosign_threshold"`
	Council         []AuthorityMember  `json:"council"` // by name
	Format          uint64             `json:"format"`
	Generation      uint64             `json:"generation"`
	Index           uint64             `json:"index"`
	Ledger          Hash               `json:"ledger"` // genesis hash
	Log             LogKeys            `json:"log"`
	Origin          string             `json:"origin"`
	Recovery        *Recovery          `json:"recovery,omitempty"`
	Replicas        []AuthorityReplica `json:"replicas"`   // by name
	Thresholds      map[string]uint64  `json:"thresholds"` // of each action
}

// Encode gives the record's canonical JSON, which is the value of AuthorityKey.
func (a Authority) Encode() ([]byte, error) { return canon.Marshal(a) }

// Active gives the replicas that count, by name.
func (a Authority) Active() []AuthorityReplica {
	active := make([]AuthorityReplica, 0, len(a.Replicas))
	for _, r := range a.Replicas {
		if !r.Joining {
			active = append(active, r)
		}
	}
	return active
}

// Clone gives a copy that shares no list or map with a. Keys are shared: they
// are never written to.
func (a Authority) Clone() Authority {
	a.Causes = append([]uint64{}, a.Causes...)
	a.Council = append([]AuthorityMember{}, a.Council...)
	a.Replicas = append([]AuthorityReplica{}, a.Replicas...)
	a.Thresholds = maps.Clone(a.Thresholds)
	return a
}

// GenesisAuthority is the authority of index 0, which follows from genesis and
// its hash.
func GenesisAuthority(g *Genesis, genesis Hash) Authority {
	a := Authority{
		Causes:     []uint64{},
		Council:    authorityCouncil(g.Council),
		Format:     g.Format,
		Ledger:     genesis,
		Log:        g.Log,
		Origin:     g.Origin,
		Recovery:   g.Recovery,
		Replicas:   []AuthorityReplica{},
		Thresholds: authorityThresholds(g.Policy),
	}
	for _, r := range g.Replicas {
		a.Replicas = append(a.Replicas, authorityReplica(r, false))
	}
	a.CosignThreshold = uint64(CosignThreshold(len(a.Replicas)))
	return a
}

func authorityCouncil(members []Member) []AuthorityMember {
	council := make([]AuthorityMember, 0, len(members))
	for _, m := range members {
		council = append(council, AuthorityMember{Name: m.Name, Operator: m.Operator, Public: m.Public})
	}
	return council
}

func authorityReplica(r Replica, joining bool) AuthorityReplica {
	return AuthorityReplica{Cosigner: r.Cosigner, Joining: joining, Name: r.Name, Operator: r.Operator, Public: r.Public}
}

func authorityThresholds(p Policy) map[string]uint64 {
	thresholds := make(map[string]uint64, len(p.Rules))
	for action, rule := range p.Rules {
		thresholds[action] = rule.Threshold
	}
	return thresholds
}

// validate checks what the record alone can show to be wrong: a record is
// certified, but by whom it names itself.
func (a Authority) validate() error {
	if len(a.Council) < 1 || len(a.Council) > MaxCouncil {
		return fmt.Errorf("council: want 1 to %d governors", MaxCouncil)
	}
	if len(a.Replicas) > MaxReplicas || len(a.Active()) < 1 {
		return fmt.Errorf("replicas: want 1 to %d, one of them active", MaxReplicas)
	}
	if err := strictlySorted("council", a.Council, func(m AuthorityMember) string { return m.Name }); err != nil {
		return err
	}
	if err := strictlySorted("replicas", a.Replicas, func(r AuthorityReplica) string { return r.Name }); err != nil {
		return err
	}
	ids := map[Hash]bool{}
	for _, m := range a.Council {
		if err := validSeat(ids, m.Name, m.Operator, m.Public); err != nil {
			return fmt.Errorf("council: %s: %w", m.Name, err)
		}
	}
	for _, r := range a.Replicas {
		if err := validSeat(ids, r.Name, r.Operator, r.Public); err != nil {
			return fmt.Errorf("replicas: %s: %w", r.Name, err)
		}
		if len(r.Cosigner) != keys.Cosigner44PublicKeySize {
			return fmt.Errorf("replicas: %s: cosigner: want %d bytes", r.Name, keys.Cosigner44PublicKeySize)
		}
	}
	if want := uint64(CosignThreshold(len(a.Active()))); a.CosignThreshold != want {
		return fmt.Errorf("cosign_threshold: %d, want %d for %d active replicas", a.CosignThreshold, want, len(a.Active()))
	}
	if len(a.Log.Ed25519) != 32 || len(a.Log.MLDSA44) != keys.Cosigner44PublicKeySize {
		return errors.New("log: want a 32-byte Ed25519 and a 1,312-byte ML-DSA-44 public key")
	}
	return nil
}

func validSeat(ids map[Hash]bool, name, operator string, public []byte) error {
	if err := ValidName(name); err != nil {
		return err
	}
	if err := ValidName(operator); err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	if len(public) != keys.PublicKeySize {
		return fmt.Errorf("public: want %d bytes", keys.PublicKeySize)
	}
	id := Hash(sha256.Sum256(public))
	if ids[id] {
		return errors.New("its key appears twice")
	}
	ids[id] = true
	return nil
}

// differs names the first field in which a and b differ, or "".
func (a Authority) differs(b Authority) string {
	fields := func(a Authority) []struct {
		name  string
		value any
	} {
		return []struct {
			name  string
			value any
		}{
			{"causes", a.Causes}, {"cosign_threshold", a.CosignThreshold}, {"council", a.Council},
			{"format", a.Format}, {"generation", a.Generation}, {"index", a.Index}, {"ledger", a.Ledger}, {"log", a.Log},
			{"origin", a.Origin}, {"replicas", a.Replicas}, {"thresholds", a.Thresholds}, {"recovery", recoveryList(a.Recovery)},
		}
	}
	theirs := fields(b)
	for i, mine := range fields(a) {
		x, errX := canon.Marshal(mine.value)
		y, errY := canon.Marshal(theirs[i].value)
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			return mine.name
		}
	}
	return ""
}

func recoveryList(r *Recovery) []Recovery {
	if r == nil {
		return nil
	}
	return []Recovery{*r}
}
