package ledger

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/keys"
)

func testRotation() Rotate {
	return Rotate{Peer: bytes.Repeat([]byte{1}, 32), PeerProof: make([]byte, 64), Proof: make([]byte, keys.SignatureSize), Public: bytes.Repeat([]byte{2}, keys.PublicKeySize)}
}

// The message of a rotation binds all that it must not be lifted out of, and not the
// proofs themselves.
func TestRotationMessageBinds(t *testing.T) {
	branch, old, name := Hash{1}, Hash{2}, "edge-1"
	whole := RotationMessage(branch, old, name, testRotation())
	if !bytes.HasPrefix(whole, []byte("quorate/rotate/v1\n\x00")) {
		t.Errorf("it begins %q", whole[:20])
	}
	proven := testRotation()
	proven.Proof[0], proven.PeerProof[0] = 1, 1
	if !bytes.Equal(whole, RotationMessage(branch, old, name, proven)) {
		t.Error("the proofs are in what they sign")
	}
	change := func(f func(b *Rotate)) Rotate {
		b := testRotation()
		f(&b)
		return b
	}
	for what, other := range map[string][]byte{
		"branch":      RotationMessage(Hash{3}, old, name, testRotation()),
		"predecessor": RotationMessage(branch, Hash{3}, name, testRotation()),
		"name":        RotationMessage(branch, old, "edge-2", testRotation()),
		"public":      RotationMessage(branch, old, name, change(func(b *Rotate) { b.Public = bytes.Repeat([]byte{3}, keys.PublicKeySize) })),
		"peer":        RotationMessage(branch, old, name, change(func(b *Rotate) { b.Peer = bytes.Repeat([]byte{3}, 32) })),
		"tls_pin":     RotationMessage(branch, old, name, change(func(b *Rotate) { b.TLSPin = Hash{3} })),
		"cosigner":    RotationMessage(branch, old, name, change(func(b *Rotate) { b.Cosigner = []byte{3} })),
	} {
		if bytes.Equal(whole, other) {
			t.Errorf("another %s has the same message", what)
		}
	}
}

// A body of the wrong kind or size is refused, and the field named.
func TestRotateChecks(t *testing.T) {
	replica := func(f func(b *Rotate)) Rotate {
		b := testRotation()
		b.Peer, b.PeerProof = nil, nil
		b.Cosigner, b.TLSPin = make([]byte, keys.Cosigner44PublicKeySize), Hash{1}
		f(&b)
		return b
	}
	good, goodReplica := testRotation(), replica(func(*Rotate) {})
	if err := good.Check(false); err != nil {
		t.Error(err)
	}
	if err := goodReplica.Check(true); err != nil {
		t.Error(err)
	}
	for field, b := range map[string]Rotate{
		"body.cosigner": replica(func(b *Rotate) { b.Cosigner = b.Cosigner[1:] }),
		"body.peer":     replica(func(b *Rotate) { b.Peer = make([]byte, 32) }),
		"body.proof":    replica(func(b *Rotate) { b.Proof = nil }),
		"body.public":   replica(func(b *Rotate) { b.Public = b.Public[1:] }),
		"body.tls_pin":  replica(func(b *Rotate) { b.TLSPin = Hash{} }),
	} {
		if err := b.Check(true); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if goodReplica.Check(false) == nil || good.Check(true) == nil {
		t.Error("a node's body is a replica's")
	}
}

// What a policy leaves to this program is worked out, within its bounds.
func TestKeyRules(t *testing.T) {
	for _, c := range []struct {
		keyEpochs, rotate, late uint64
		wantRotate, wantLate    uint64
	}{
		{4_320, 0, 0, 1_080, 270},
		{8, 4, 1, 4, 1},
		{8, 0, 0, 2, 1},
		{1, 0, 0, 1, 1},
		{3, 3, 2, 3, 2},
	} {
		k := DefaultKeys()
		k.RotateEpochs, k.LateEpochs = c.rotate, c.late
		if err := k.validate(c.keyEpochs); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		p := Policy{KeyEpochs: c.keyEpochs, Keys: &k}
		if got := p.KeyRules(); got.RotateEpochs != c.wantRotate || got.LateEpochs != c.wantLate {
			t.Errorf("%+v: rotate %d, late %d", c, got.RotateEpochs, got.LateEpochs)
		}
	}
	for what, change := range map[string]func(*Keys){
		"keys.rotate_epochs":    func(k *Keys) { k.RotateEpochs = 9 },
		"keys.late_epochs":      func(k *Keys) { k.RotateEpochs, k.LateEpochs = 4, 4 },
		"keys.test_epochs":      func(k *Keys) { k.TestEpochs = 0 },
		"keys.retention_epochs": func(k *Keys) { k.RetentionEpochs = 0 },
		"keys.backup_roles":     func(k *Keys) { k.BackupRoles = []string{"replica"} },
	} {
		k := DefaultKeys()
		change(&k)
		if err := k.validate(8); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if all := ActionsOf(KeysFormat); !slices.IsSorted(all) || !slices.Contains(all, ActionRevoke) || slices.Contains(ActionsOf(2), ActionRevoke) {
		t.Errorf("the actions are %v", all)
	}
}
