package ledger

import (
	"errors"
	"fmt"
	"slices"
)

// Keys is the part of a policy that says how keys live (fsm/DESIGN.md, format 3).
// Times are in epochs.
type Keys struct {
	BackupRoles      []string `json:"backup_roles"`       // who is to have a tested backup: governor, node, recovery; sorted
	LateEpochs       uint64   `json:"late_epochs"`        // a node's key with fewer left and no next one is late; 0: a quarter of rotate_epochs
	ReplicaKeyEpochs uint64   `json:"replica_key_epochs"` // after which a replica's key is due; 0: never
	RetentionEpochs  uint64   `json:"retention_epochs"`   // private keys that ended are kept so long
	RotateEpochs     uint64   `json:"rotate_epochs"`      // before a node's key ends, in which it is rotated; 0: a quarter of key_epochs
	TestEpochs       uint64   `json:"test_epochs"`        // a restore test counts so long
}

// keyRoles are the roles of whom a backup may be wanted.
var keyRoles = []string{"governor", "node", "recovery"}

// DefaultKeys is what holds in a ledger of format 3 whose policy names none.
func DefaultKeys() Keys {
	return Keys{
		BackupRoles:      []string{"governor"},
		ReplicaKeyEpochs: 4_320,
		RetentionEpochs:  4_320,
		TestEpochs:       12_960,
	}
}

// KeyRules returns the rules of keys in force under the policy: what it leaves to
// this program (0) is worked out.
func (p *Policy) KeyRules() Keys {
	k := DefaultKeys()
	if p.Keys != nil {
		k = *p.Keys
	}
	if k.RotateEpochs == 0 {
		k.RotateEpochs = max(2, p.KeyEpochs/4)
	}
	k.RotateEpochs = min(k.RotateEpochs, p.KeyEpochs)
	if k.LateEpochs == 0 {
		k.LateEpochs = max(1, k.RotateEpochs/4)
	}
	return k
}

// WantsBackup reports whether a principal of that role is to have a backup.
func (k *Keys) WantsBackup(role string) bool { return slices.Contains(k.BackupRoles, role) }

// validate checks the keys of a policy whose node keys are valid for keyEpochs.
func (k *Keys) validate(keyEpochs uint64) error {
	if !slices.IsSorted(k.BackupRoles) || len(slices.Compact(slices.Clone(k.BackupRoles))) != len(k.BackupRoles) {
		return errors.New("keys.backup_roles: must be sorted, none twice")
	}
	for _, role := range k.BackupRoles {
		if !slices.Contains(keyRoles, role) {
			return fmt.Errorf("keys.backup_roles: %q is not among %v", role, keyRoles)
		}
	}
	rules := (&Policy{KeyEpochs: keyEpochs, Keys: k}).KeyRules()
	for _, b := range []struct {
		name          string
		value, lo, hi uint64
	}{
		{"late_epochs", k.LateEpochs, 0, max(rules.RotateEpochs, 1) - 1},
		{"replica_key_epochs", k.ReplicaKeyEpochs, 0, 1 << 32},
		{"retention_epochs", k.RetentionEpochs, 1, 1 << 32},
		{"rotate_epochs", k.RotateEpochs, 0, keyEpochs},
		{"test_epochs", k.TestEpochs, 1, 1 << 32},
	} {
		if b.value < b.lo || b.value > b.hi {
			return fmt.Errorf("keys.%s: %d is outside %d to %d", b.name, b.value, b.lo, b.hi)
		}
	}
	return nil
}
