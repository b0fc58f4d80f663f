package fsm

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// The commands of stories about keys, of format 3.

func peerNamed(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("peer " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// rotation is "AUTHOR rotates KEY [proof=broken|other] [peer=broken]": the body by which
// the key that speaks announces KEY.
func (r *storyteller) rotation(author, signer string, o options) ledger.Rotate {
	if len(o.plain) != 1 {
		r.fatalf("rotates KEY, not %v", o.plain)
	}
	name := o.plain[0]
	_, replica := r.world.state.Replica(author)
	proof, _ := o.take("proof")
	peer, _ := o.take("peer")
	pin, ok := o.take("pin")
	if !ok {
		pin = name
	}
	body := rotationOf(r.world, author, signer, name, replica)
	if replica {
		body.TLSPin = sha256.Sum256([]byte("pin " + pin))
		signRotation(r.world, &body, author, signer, name)
	}
	switch proof {
	case "broken":
		body.Proof[7] ^= 1
	case "short":
		body.Proof = body.Proof[1:]
	case "":
	default: // that of another holder
		other := body
		signRotation(r.world, &other, proof, signer, name)
		body.Proof = other.Proof
	}
	if peer == "broken" {
		body.PeerProof[7] ^= 1
	}
	return body
}

// rotationOf makes the body by which author, who speaks with one key, announces another.
func rotationOf(w *world, author, signer, next string, replica bool) ledger.Rotate {
	body := ledger.Rotate{Public: publicOf(next)}
	if replica {
		body.Cosigner, body.TLSPin = keyNamed(next).Cosigner44().Public(), sha256.Sum256([]byte("pin "+next))
	} else {
		body.Peer = peerNamed(next).Public().(ed25519.PublicKey)
	}
	signRotation(w, &body, author, signer, next)
	return body
}

func signRotation(w *world, body *ledger.Rotate, author, signer, next string) {
	meta := w.state.Meta()
	message := ledger.RotationMessage(ledger.Branch(meta.Ledger, meta.Generation), ledger.Hash(keyNamed(signer).ID()), author, *body)
	body.Proof = keyNamed(next).Sign(message)
	if len(body.Peer) > 0 {
		body.PeerProof = ed25519.Sign(peerNamed(next), message)
	}
}

// showKey is "show key KEY".
func (r *storyteller) showKey(name string) []string {
	id := ledger.Hash(keyNamed(name).ID())
	k, ok := r.world.state.Key(id)
	if !ok {
		return []string{"no such key"}
	}
	parts := []string{fmt.Sprintf("of %s %s", k.Role, k.Holder)}
	add := func(format string, values ...any) { parts = append(parts, fmt.Sprintf(format, values...)) }
	if k.How != "" {
		add("%s in entry %d", k.How, k.Since)
	}
	if k.Previous != nil {
		add("after %s", r.keyName(*k.Previous))
	}
	if k.Said > 0 {
		add("said in epoch %d", k.Said)
	}
	if k.Role == RoleNode && k.ValidFrom > 0 {
		add("from epoch %d", k.ValidFrom)
	}
	if k.Ended != "" {
		add("%s, to epoch %d", k.Ended, *k.ValidTo)
	}
	if k.RevokedFrom != nil {
		add("revoked from epoch %d", *k.RevokedFrom)
	} else if k.Revoked {
		add("revoked")
	}
	if k.Next != nil {
		add("before %s", r.keyName(*k.Next))
	}
	if k.Last > 0 {
		add("spoke last in entry %d", k.Last)
	}
	if k.Destroyed > 0 {
		add("destroyed in entry %d", k.Destroyed)
	}
	if _, kept := r.world.state.OldKey(id); kept {
		add("heard still")
	}
	return []string{strings.Join(parts, "; ")}
}

// keyName is the name of a test key.
func (r *storyteller) keyName(id ledger.Hash) string {
	for name, k := range keyring {
		if ledger.Hash(k.ID()) == id {
			return name
		}
	}
	return "?"
}

// changeKeys changes the policy's rules of keys.
func (r *storyteller) changeKeys(p *ledger.Policy, name, value string) {
	rules := ledger.DefaultKeys()
	if p.Keys != nil {
		rules = *p.Keys
	}
	switch name {
	case "keys.backup_roles":
		rules.BackupRoles = []string{}
		if value != "" {
			rules.BackupRoles = strings.Split(value, ",")
		}
	case "keys.late_epochs":
		rules.LateEpochs = r.number(value)
	case "keys.replica_key_epochs":
		rules.ReplicaKeyEpochs = r.number(value)
	case "keys.retention_epochs":
		rules.RetentionEpochs = r.number(value)
	case "keys.rotate_epochs":
		rules.RotateEpochs = r.number(value)
	case "keys.test_epochs":
		rules.TestEpochs = r.number(value)
	}
	p.Keys = &rules
}
