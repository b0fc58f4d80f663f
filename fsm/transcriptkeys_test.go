package fsm

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
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
	if name == "keys.backup_roles" {
		rules.BackupRoles = []string{}
		if value != "" {
			rules.BackupRoles = strings.Split(value, ",")
		}
	} else {
		r.setNumber(name, value, map[string]*uint64{
			"keys.late_epochs": &rules.LateEpochs, "keys.replica_key_epochs": &rules.ReplicaKeyEpochs, "keys.retention_epochs": &rules.RetentionEpochs,
			"keys.rotate_epochs": &rules.RotateEpochs, "keys.test_epochs": &rules.TestEpochs,
		})
	}
	p.Keys = &rules
}

// testRecipients are the public halves of age identities that nobody keeps, by name.
var testRecipients = sync.OnceValue(func() map[string]string {
	text, err := os.ReadFile("testdata/recipients.txt")
	if err != nil {
		panic(err)
	}
	recipients := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, recipient, _ := strings.Cut(strings.TrimSpace(line), " ")
		recipients[name] = recipient
	}
	return recipients
})

// recipientNamed is the recipient of whoever is seated under the key of that name, in
// stories whose council has recipients.
func recipientNamed(name string) string { return testRecipients()[name] }

// seated gives a governor its recipient, if the story's have one.
func (r *storyteller) seated(text string) ledger.Member {
	m := memberOf(text)
	if r.recipients {
		_, _, key := parseSeat(text)
		m.Recipient = recipientNamed(key)
	}
	return m
}

func (r *storyteller) named(label string) ledger.Hash {
	return ledger.LeafHash([]byte("file " + label))
}

// backupBody is "AUTHOR backs-up KEY FILE k=2 shares=bob,carol [recipient=NAME] [share=...]".
func (r *storyteller) backupBody(o options) ledger.Backup {
	if len(o.plain) != 2 {
		r.fatalf("backs-up KEY FILE, not %v", o.plain)
	}
	k, _ := o.take("k")
	shares, _ := o.take("shares")
	other, isOther := o.take("recipient")
	same, _ := o.take("same")
	body := ledger.Backup{
		Ciphertext: r.named(o.plain[1]), Key: ledger.Hash(keyNamed(o.plain[0]).ID()), Set: filler("set "+o.plain[1], 16),
		Shares: []ledger.BackupShare{}, Threshold: r.number(k),
	}
	for i, holder := range strings.Split(shares, ",") {
		recipient := recipientNamed(holder)
		if isOther && i == 0 {
			recipient = recipientNamed(other)
		}
		share := ledger.LeafHash([]byte("share " + o.plain[1] + holder))
		if same != "" {
			share = ledger.LeafHash([]byte("one share"))
		}
		body.Shares = append(body.Shares, ledger.BackupShare{Holder: holder, Recipient: keys.RecipientHash(recipient), Share: share})
	}
	return body
}

// testBody is "AUTHOR tests KEY FILE holders=bob,carol [outcome=failed] [purpose=restore]".
func (r *storyteller) testBody(o options) ledger.RestoreTest {
	body := ledger.RestoreTest{
		Ciphertext: r.named(o.plain[1]), Key: ledger.Hash(keyNamed(o.plain[0]).ID()), Holders: []string{},
		Outcome: ledger.RestoreOpened, Purpose: ledger.RestoreForTest,
	}
	if v, ok := o.take("holders"); ok {
		body.Holders = strings.Split(v, ",")
	}
	if v, ok := o.take("outcome"); ok {
		body.Outcome = v
	}
	if v, ok := o.take("purpose"); ok {
		body.Purpose = v
	}
	body.Reason, _ = o.take("reason")
	return body
}

// destroyBody is "AUTHOR destroys KEY [FILE]".
func (r *storyteller) destroyBody(o options) ledger.Destroy {
	body := ledger.Destroy{Key: ledger.Hash(keyNamed(o.plain[0]).ID())}
	if len(o.plain) > 1 {
		body.Ciphertext = r.named(o.plain[1])
	}
	body.Reason, _ = o.take("reason")
	return body
}

// showBackup is "show backup KEY".
func (r *storyteller) showBackup(name string) []string {
	id := ledger.Hash(keyNamed(name).ID())
	b, ok := r.world.state.Backup(id)
	if !ok {
		return []string{"no backup"}
	}
	line := fmt.Sprintf("of %s %s, %d of %s, recorded in entry %d, %s", b.Role, b.Holder, b.Threshold,
		list(b.Shares, func(s ledger.BackupShare) string { return s.Holder }), b.Seq, r.world.state.BackupStanding(id))
	if b.TestedSeq > 0 {
		line += fmt.Sprintf(", opened in epoch %d", b.Tested)
	}
	if b.Failed {
		line += ", failed"
	}
	return []string{line}
}

func (r *storyteller) showAlarms() []string {
	on := r.world.state.Alarms()
	lines := []string{}
	for _, kind := range AlarmKinds() {
		if a, ok := on[kind]; ok {
			lines = append(lines, fmt.Sprintf("%s, since epoch %d", alarmText(kind, a.Count, a.Names), a.Since))
		}
	}
	if len(lines) == 0 {
		return []string{"none"}
	}
	return lines
}

func alarmText(kind string, count uint64, names []string) string {
	if count == 0 {
		return kind + ": over"
	}
	text := fmt.Sprintf("%s: %d", kind, count)
	for i, name := range names {
		if len(name) == 64 {
			name = "..."
		}
		if i < 6 {
			text += " " + name
		}
	}
	return text
}
