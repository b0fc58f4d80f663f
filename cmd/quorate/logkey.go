package main

import (
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
)

const maxLogKeyBytes = 1 << 20

const logKeyType = "quorate/log-key.v1"

// logKeyFile is the content of log.key.age: the seeds of the log's own keys,
// which carry no authority (FORMAT.md section 9).
type logKeyFile struct {
	Ed25519 [32]byte `json:"ed25519"`
	MLDSA44 [32]byte `json:"mldsa44"`
	Type    string   `json:"type"`
}

// newLogKey makes the log's key and seals it to the recipients.
func newLogKey(origin string, recipients []string) ([]byte, ledger.LogKeys, error) {
	if len(recipients) == 0 || slices.Contains(recipients, "") {
		return nil, ledger.LogKeys{}, usage("make replica keys with quorate keygen replica NAME", "a replica's public key file has no age recipient, so the log key cannot be sealed to it")
	}
	file := logKeyFile{Type: logKeyType}
	// crypto/rand.Read never fails (Go 1.24 and later).
	_, _ = rand.Read(file.Ed25519[:])
	_, _ = rand.Read(file.MLDSA44[:])
	plain, err := canon.Marshal(file)
	if err != nil {
		return nil, ledger.LogKeys{}, fmt.Errorf("encode log key: %w", err)
	}
	sealed, err := keys.SealTo(recipients, plain)
	if err != nil {
		return nil, ledger.LogKeys{}, fmt.Errorf("seal log key: %w", err)
	}
	return sealed, replica.LogKey{Ed25519: file.Ed25519, MLDSA44: file.MLDSA44}.Public(origin), nil
}

// readLogKey opens a sealed log key with a replica's own key file.
func readLogKey(path string, holder *keys.File) (*replica.LogKey, error) {
	sealed, err := readBounded(path, maxLogKeyBytes)
	if err != nil {
		return nil, usage("check log_key_file, or leave it out: a replica fetches the log key from a peer", "read log key %s: %w", path, err)
	}
	plain, err := keys.OpenWith(holder.Identity, sealed)
	if err != nil {
		return nil, usage("it is sealed to the replicas of the ceremony; a later one leaves log_key_file out", "open log key %s: %w", path, err)
	}
	var file logKeyFile
	if err := canon.Unmarshal(plain, &file); err != nil || file.Type != logKeyType {
		return nil, usage("take it from the ceremony again", "open log key %s: not a log key", path)
	}
	return &replica.LogKey{Ed25519: file.Ed25519, MLDSA44: file.MLDSA44}, nil
}
