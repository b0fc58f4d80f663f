package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// The life of keys (FORMAT.md section 19), from format 3 on: a node or replica
// rotates its own key, backups of keys and their tests are on the ledger, and so
// is the destruction of what is no longer needed.

// KeysFormat is the format from which keys rotate and backups are recorded.
const KeysFormat = 3

// The statements of keys.
const (
	TypeRotate      = "key.rotate"
	TypeBackup      = "backup"
	TypeRestoreTest = "restore.test"
	TypeDestroy     = "key.destroy"
)

// IsOfKeys reports whether a statement type is one of keys: format 3.
func IsOfKeys(typ string) bool {
	switch typ {
	case TypeRotate, TypeBackup, TypeRestoreTest, TypeDestroy:
		return true
	}
	return false
}

// ActionRevoke is the action that revokes a node's key. A policy may have a rule
// for it from format 3 on; without one, that of node.remove holds.
const ActionRevoke = "key.revoke"

// ActionsOf are the governed actions of a ledger of that format, sorted.
func ActionsOf(format uint64) []string {
	actions := Actions()
	if format < KeysFormat {
		return actions
	}
	at, _ := slices.BinarySearch(actions, ActionRevoke)
	return slices.Insert(actions, at, ActionRevoke)
}

// Rotate is the body of key.rotate, which the key before it signs. A node gives
// its next peer key, a replica its next cosigning key and TLS pin; proofs are
// signatures, under the new keys, of what RotationMessage gives.
type Rotate struct {
	Cosigner  []byte `json:"cosigner,omitempty"`   // of a replica: ML-DSA-44, 1,312 bytes
	Peer      []byte `json:"peer,omitempty"`       // of a node: Ed25519, 32 bytes
	PeerProof []byte `json:"peer_proof,omitempty"` // of a node: under Peer, 64 bytes
	Proof     []byte `json:"proof,omitempty"`      // under Public, 3,309 bytes
	Public    []byte `json:"public"`               // ML-DSA-65, 1,952 bytes
	TLSPin    Hash   `json:"tls_pin,omitempty"`    // of a replica
}

// KeyID is the id of the new key.
func (b *Rotate) KeyID() Hash { return sha256.Sum256(b.Public) }

// Check checks what needs no state: the sizes, for a replica or a node. The error
// is a *StatementError.
func (b *Rotate) Check(replica bool) error {
	peer, peerProof, cosigner := ed25519.PublicKeySize, ed25519.SignatureSize, 0
	if replica {
		peer, peerProof, cosigner = 0, 0, keys.Cosigner44PublicKeySize
	}
	for _, f := range []struct {
		name      string
		got, want int
	}{
		{"cosigner", len(b.Cosigner), cosigner},
		{"peer", len(b.Peer), peer},
		{"peer_proof", len(b.PeerProof), peerProof},
		{"proof", len(b.Proof), keys.SignatureSize},
		{"public", len(b.Public), keys.PublicKeySize},
	} {
		if f.got != f.want {
			return badKeys(f.name, "want %d bytes, not %d", f.want, f.got)
		}
	}
	if replica == b.TLSPin.IsZero() {
		return badKeys("tls_pin", "a replica's rotation has one, a node's none")
	}
	return nil
}

// RotationMessage is what the proofs of a rotation sign: it binds the branch
// (FORMAT.md section 9), the key before, the holder and the rest of the body, so
// that a proof fits no other rotation.
func RotationMessage(branch, old Hash, name string, b Rotate) []byte {
	b.Proof, b.PeerProof = nil, nil
	body, err := canon.Marshal(&b)
	invariant(err == nil, "a rotation has a canonical form")
	sum := sha256.Sum256(body)
	m := append([]byte("quorate/rotate/v1\n\x00"), branch[:]...)
	m = append(m, old[:]...)
	m = append(m, byte(len(name)))
	m = append(m, name...)
	return append(m, sum[:]...)
}

// BackupShare names one share of a backup, without any of its secret.
type BackupShare struct {
	Holder    string `json:"holder"`    // a governor
	Recipient Hash   `json:"recipient"` // SHA-256 of the age recipient that it is sealed to
	Share     Hash   `json:"share"`     // ShareHash
}

// Backup is the body of backup: the file whose hash is Ciphertext holds Key, and
// Threshold of the shares open it.
type Backup struct {
	Ciphertext Hash          `json:"ciphertext"`
	Key        Hash          `json:"key"`
	Recipients []Hash        `json:"recipients,omitempty"` // SHA-256 of each further age recipient, sorted
	Set        []byte        `json:"set"`                  // 16 bytes
	Shares     []BackupShare `json:"shares"`               // by holder
	Threshold  uint64        `json:"threshold"`
}

// Check checks what needs no state. The error is a *StatementError.
func (b *Backup) Check() error {
	switch n := uint64(len(b.Shares)); {
	case len(b.Set) != shareSetBytes:
		return badKeys("set", "want %d bytes", shareSetBytes)
	case n > MaxShares:
		return badKeys("shares", "at most %d", MaxShares)
	case b.Threshold < 2 || b.Threshold > n:
		return badKeys("threshold", "want 2 to the %d shares, not %d", n, b.Threshold)
	case len(b.Recipients) > MaxShares:
		return badKeys("recipients", "at most %d", MaxShares)
	}
	for i := range b.Recipients {
		if i > 0 && slices.Compare(b.Recipients[i-1][:], b.Recipients[i][:]) >= 0 {
			return badKeys("recipients", "must be sorted, none twice")
		}
	}
	seen := map[Hash]bool{}
	for i, s := range b.Shares {
		if err := ValidName(s.Holder); err != nil {
			return badKeys(fmt.Sprintf("shares[%d].holder", i), "%s", err)
		}
		if i > 0 && b.Shares[i-1].Holder >= s.Holder {
			return badKeys("shares", "must be sorted by holder, none twice")
		}
		if seen[s.Share] {
			return badKeys(fmt.Sprintf("shares[%d].share", i), "it appears twice")
		}
		seen[s.Share] = true
	}
	return nil
}

// ShareHash is how a share is named on the ledger.
func ShareHash(set [shareSetBytes]byte, index byte, value [32]byte) Hash {
	m := append([]byte("quorate/share/v1\n\x00"), set[:]...)
	m = append(m, index)
	return sha256.Sum256(append(m, value[:]...))
}

// The outcomes and purposes of a restore test.
const (
	RestoreOpened     = "opened"
	RestoreFailed     = "failed"
	RestoreForTest    = "test"
	RestoreForRestore = "restore"
)

// RestoreTest is the body of restore.test: whether the backup of Key was opened
// by the shares of Holders.
type RestoreTest struct {
	Ciphertext Hash     `json:"ciphertext"`
	Holders    []string `json:"holders"` // sorted
	Key        Hash     `json:"key"`
	Outcome    string   `json:"outcome"`
	Purpose    string   `json:"purpose"`
	Reason     string   `json:"reason,omitempty"`
}

// Check checks what needs no state. The error is a *StatementError.
func (b *RestoreTest) Check() error {
	switch {
	case b.Outcome != RestoreOpened && b.Outcome != RestoreFailed:
		return badKeys("outcome", "want %s or %s", RestoreOpened, RestoreFailed)
	case b.Purpose != RestoreForTest && b.Purpose != RestoreForRestore:
		return badKeys("purpose", "want %s or %s", RestoreForTest, RestoreForRestore)
	case len(b.Holders) > MaxShares || !slices.IsSorted(b.Holders) || len(slices.Compact(slices.Clone(b.Holders))) != len(b.Holders):
		return badKeys("holders", "at most %d, sorted, none twice", MaxShares)
	}
	return checkKeysReason(b.Reason)
}

// Destroy is the body of key.destroy: the private key, and its backup if it had
// one, are destroyed.
type Destroy struct {
	Ciphertext Hash   `json:"ciphertext,omitempty"` // of the backup
	Key        Hash   `json:"key"`
	Reason     string `json:"reason,omitempty"`
}

// Check checks what needs no state. The error is a *StatementError.
func (b *Destroy) Check() error { return checkKeysReason(b.Reason) }

func checkKeysReason(reason string) error {
	if len(reason) > maxKeysReason {
		return badKeys("reason", "at most %d bytes", maxKeysReason)
	}
	return nil
}

func badKeys(field, format string, args ...any) error {
	return &StatementError{Code: "bad_field", Path: "body." + field, Message: fmt.Sprintf(format, args...)}
}
