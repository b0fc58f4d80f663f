package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/memorytest"
)

// rotationResults is what an epoch costs a replica in which every node of a fleet
// rotates its key, by the rules, with statements of real size; and what keys add to
// the ledger when they rotate in their turn.
type rotationResults struct {
	Nodes         int     `json:"nodes"`
	Entries       int     `json:"entries"` // rotations and seals, with the beginning of the epoch in which they take effect
	Bytes         int     `json:"bytes"`
	RotationBytes float64 `json:"rotation_bytes"` // of an entry
	BackupBytes   float64 `json:"backup_bytes"`   // of an entry, of a backup among seven governors
	Apply         float64 `json:"apply_seconds"`  // of all rotations: the rules and one Ed25519 each, ML-DSA verified beforehand
	Verify        float64 `json:"verify_seconds"` // their ML-DSA, twice each, on one core
	Seals         float64 `json:"seal_seconds"`   // one a second
	Begin         float64 `json:"begin_seconds"`  // the beginning of the epoch in which they take effect, with its seal
	BeginIdle     float64 `json:"begin_idle_seconds"`

	Spread []spreadOfRotations `json:"spread"`
	Growth []growthOfRotations `json:"growth"`
}

// spreadOfRotations is how rotations of all nodes in one epoch lie in it, when each
// hears up to a second late that it began.
type spreadOfRotations struct {
	EpochSeconds float64 `json:"epoch_seconds"`
	Fullest      float64 `json:"fullest_second_percent"`
}

// growthOfRotations is what the rotations and backups of a fleet add, by how long a
// key lasts.
type growthOfRotations struct {
	KeyEpochs uint64  `json:"key_epochs"`
	Rotations float64 `json:"rotations_a_day"`
	Megabytes float64 `json:"mb_a_day"`
}

const (
	rotatingNodes    = 5_000
	rotatingKeys     = 8   // epochs that a key lasts in the measured ledger, so that it is soon due
	verifiedSample   = 300 // rotations whose signatures are verified
	backupHolders    = 7
	rotationEpoch    = 600 // seconds, of the default policy
	rotationsASecond = (rotatingNodes + rotationEpoch - 1) / rotationEpoch
)

// rotation measures an epoch in which everybody rotates.
func (b *bench) rotation(context.Context) error {
	nodes := rotatingNodes
	if b.quick {
		nodes /= 5
	}
	r, err := rotationOf(nodes)
	if err != nil {
		return err
	}
	b.results.Rotation = r
	b.note("%d rotations in one epoch: %.1f MB, %.2f s of the rules, %.2f s when they take effect", nodes, float64(r.Bytes)/1e6, r.Apply, r.Begin)
	return nil
}

func rotationOf(nodes int) (*rotationResults, error) {
	l, err := newMemoryLedger(nodes, min(growthOperators, nodes/2), func(g *ledger.Genesis) { g.Policy.KeyEpochs = rotatingKeys })
	if err != nil {
		return nil, err
	}
	r := &rotationResults{Nodes: nodes}
	policy := l.State.Policy()
	for l.State.Epoch()+policy.KeyRules().RotateEpochs <= rotatingKeys {
		if r.BeginIdle, err = beginEpoch(l); err != nil {
			return nil, err
		}
	}
	statements, err := rotations(l)
	if err != nil {
		return nil, err
	}
	l.Entries, l.Bytes = 0, 0
	if err := r.apply(l, statements); err != nil {
		return nil, err
	}
	if _, err := beginEpoch(l); err != nil { // they take effect in the one after
		return nil, err
	}
	if r.Begin, err = beginEpoch(l); err != nil {
		return nil, err
	}
	r.Entries, r.Bytes = l.Entries, l.Bytes
	for _, m := range l.Fleet {
		if n, _ := l.State.Node(m.Name); n.Key == ledger.Hash(l.IDs[m.Name]) {
			return nil, fmt.Errorf("%s did not rotate", m.Name)
		}
	}
	if r.Verify, err = verifyRotations(nodes); err != nil {
		return nil, err
	}
	if r.BackupBytes, err = backupBytes(l); err != nil {
		return nil, err
	}
	for _, seconds := range []float64{rotationEpoch, 120, 90} {
		r.Spread = append(r.Spread, spreadOfRotations{EpochSeconds: seconds, Fullest: fullestSecond(l, seconds)})
	}
	for _, epochs := range []uint64{432, 4_320} {
		r.Growth = append(r.Growth, r.growth(epochs))
	}
	return r, nil
}

// beginEpoch enters the next epoch and seals it, and gives the seconds that it took.
func beginEpoch(l *memorytest.Ledger) (float64, error) {
	policy := l.State.Policy()
	l.Now = l.State.Meta().EpochStart + policy.EpochMillis
	began := time.Now()
	if err := l.Apply(ledger.CommandTick); err != nil {
		return 0, err
	}
	err := l.Apply(ledger.CommandSeal)
	return time.Since(began).Seconds(), err
}

// rotations makes what every node says to rotate.
func rotations(l *memorytest.Ledger) ([][]byte, error) {
	statements := make([][]byte, 0, len(l.Fleet))
	for _, m := range l.Fleet {
		s, err := l.Say(m.Name, ledger.TypeRotate, l.Rotation(m.Name))
		if err != nil {
			return nil, err
		}
		statements = append(statements, s)
	}
	return statements, nil
}

// apply orders rotations one by one, as they come in over an epoch: so many a seal.
func (r *rotationResults) apply(l *memorytest.Ledger, statements [][]byte) error {
	var applied, sealed time.Duration
	bytes := 0
	for i, s := range statements {
		before, began := l.Bytes, time.Now()
		if err := l.Apply(ledger.CommandStatements, s); err != nil {
			return fmt.Errorf("rotation %d: %w", i, err)
		}
		applied += time.Since(began)
		bytes += l.Bytes - before
		if (i+1)%rotationsASecond > 0 && i+1 < len(statements) {
			continue
		}
		l.Now += 1_000
		began = time.Now()
		if err := l.Apply(ledger.CommandSeal); err != nil {
			return err
		}
		sealed += time.Since(began)
	}
	r.Apply, r.Seals, r.RotationBytes = applied.Seconds(), sealed.Seconds(), float64(bytes)/float64(len(statements))
	return nil
}

// verifyRotations gives the seconds that one core needs for the ML-DSA-65 of so many
// rotations: the statement's under a key that is parsed for it, and the proof.
func verifyRotations(nodes int) (float64, error) {
	message := make([]byte, 256)
	type signed struct{ public, signature []byte }
	var sample [2 * verifiedSample]signed
	for i := range sample {
		k := keys.FromSeed(sha256.Sum256(fmt.Append(nil, "rotation ", i)))
		sample[i] = signed{k.Public().Bytes(), k.Sign(message)}
	}
	began := time.Now()
	for _, s := range sample {
		k, err := keys.ParsePublicKey(s.public)
		if err != nil {
			return 0, err
		}
		if !k.Verify(message, s.signature) {
			return 0, fmt.Errorf("a signature does not verify")
		}
	}
	return time.Since(began).Seconds() / verifiedSample * float64(nodes), nil
}

// backupBytes is the size of the entry that records a backup.
func backupBytes(l *memorytest.Ledger) (float64, error) {
	body := ledger.Backup{Key: ledger.LeafHash([]byte("key")), Ciphertext: ledger.LeafHash([]byte("file")), Set: make([]byte, 16), Threshold: 4}
	for i := range backupHolders {
		name := fmt.Sprintf("governor-%d", i)
		body.Shares = append(body.Shares, ledger.BackupShare{Holder: name, Recipient: ledger.LeafHash([]byte(name)), Share: ledger.LeafHash([]byte(name + " share"))})
	}
	envelope, err := l.Say(l.Fleet[0].Name, ledger.TypeBackup, body)
	if err != nil {
		return 0, err
	}
	entry, err := (&ledger.Entry{Seq: l.State.Next(), Stamp: l.Now, Kind: ledger.KindStatement, Content: envelope}).Encode()
	return float64(len(entry)), err
}

// fullestSecond has all nodes rotate in one epoch of so many seconds at the times
// that are due, each of them up to a second late, and gives the share of the fullest
// second in percent.
func fullestSecond(l *memorytest.Ledger, seconds float64) float64 {
	chance, counts, fullest := rand.New(rand.NewPCG(1, 2)), map[int]int{}, 0
	for _, m := range l.Fleet {
		n, _ := l.State.Node(m.Name)
		due := gossip.RotationDue(l.State.Meta().Ledger, n.Name, n.Ordinal, n.ValidTo, 2, 1)
		at := int(float64(due.At)/10_000*seconds + chance.Float64())
		counts[at]++
		fullest = max(fullest, counts[at])
	}
	return 100 * float64(fullest) / float64(len(l.Fleet))
}

// growth reckons what a day adds: a key is rotated, in the mean, in the middle of
// the epochs that the rotations of one policy are spread over.
func (r *rotationResults) growth(keyEpochs uint64) growthOfRotations {
	policy := ledger.DefaultPolicy(1)
	policy.KeyEpochs = keyEpochs
	rules := policy.KeyRules()
	slots := rules.RotateEpochs - rules.LateEpochs
	lasts := float64(keyEpochs) + 3 - float64(rules.RotateEpochs) + float64(slots)/2 // epochs from one key to the next
	a := growthOfRotations{KeyEpochs: keyEpochs, Rotations: float64(dayMillis) / float64(policy.EpochMillis) / lasts * float64(r.Nodes)}
	a.Megabytes = a.Rotations * (r.RotationBytes + r.BackupBytes) / 1e6
	return a
}
