package main

import (
	"slices"

	"github.com/quorate/quorate/ledger"
)

// ceremonyKeys overrides the default rules of keys, field by field: those of
// ledger.Keys.
type ceremonyKeys struct {
	BackupRoles      *[]string `yaml:"backup_roles"`
	LateEpochs       *uint64   `yaml:"late_epochs"`
	ReplicaKeyEpochs *uint64   `yaml:"replica_key_epochs"`
	RetentionEpochs  *uint64   `yaml:"retention_epochs"`
	RotateEpochs     *uint64   `yaml:"rotate_epochs"`
	TestEpochs       *uint64   `yaml:"test_epochs"`
}

// over gives the rules with what the ceremony changes.
func (c *ceremonyKeys) over(k ledger.Keys) ledger.Keys {
	for _, f := range []struct {
		field *uint64
		value *uint64
	}{
		{&k.LateEpochs, c.LateEpochs}, {&k.ReplicaKeyEpochs, c.ReplicaKeyEpochs}, {&k.RetentionEpochs, c.RetentionEpochs},
		{&k.RotateEpochs, c.RotateEpochs}, {&k.TestEpochs, c.TestEpochs},
	} {
		if f.value != nil {
			*f.field = *f.value
		}
	}
	if c.BackupRoles != nil {
		k.BackupRoles = slices.Sorted(slices.Values(*c.BackupRoles))
	}
	return k
}
