package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// keysWorld is a ledger on which keys change in every way, with the statements that
// tests speak of.
type keysWorld struct {
	*world
	said    map[string][]byte // by what they are
	changed []keyChange
}

// A keyChange is one of the statements by which a key changes.
type keyChange struct {
	way string // one of everyWay
	seq uint64
}

// everyWay are the ways in which a ledger says that keys change, are backed up, or
// end.
var everyWay = []string{
	"key.rotate of a node", "key.rotate of a replica", "join", "node.rekey", "replica.rekey", "council.change", "council.reseat", "log.rekey",
	"key.revoke", "backup", "restore.test", "key.destroy of a node", "key.destroy of a replica",
}

// of gives the seqs of the statements of a way.
func (w *keysWorld) of(way string) []uint64 {
	var seqs []uint64
	for _, c := range w.changed {
		if c.way == way {
			seqs = append(seqs, c.seq)
		}
	}
	return seqs
}

func (w *keysWorld) nextEpoch() {
	w.t.Helper()
	w.now += w.state.Policy().EpochMillis
	w.apply(ledger.CommandTick)
}

func (w *keysWorld) untilEpoch(epoch uint64) {
	w.t.Helper()
	for w.state.Epoch() < epoch {
		w.nextEpoch()
	}
}

// say submits a statement and remembers it.
func (w *keysWorld) say(what, author string) {
	w.t.Helper()
	w.said[what] = w.sign(author, ledger.TypeRecord, ledger.Record{Text: what})
	w.submit(w.said[what])
}

// change submits a statement that changes a key.
func (w *keysWorld) change(way string, envelope []byte) {
	w.t.Helper()
	w.changed = append(w.changed, keyChange{way, w.state.Next()})
	w.submit(envelope)
}

// decideKey is decide with its statements noted.
func (w *keysWorld) decideKey(action string, args any, authors ...string) {
	w.t.Helper()
	at := w.state.Next()
	w.decide(action, args, authors...)
	for i := range authors {
		w.changed = append(w.changed, keyChange{action, at + uint64(i)})
	}
}

// rotation is the key.rotate by which name announces the key of another name.
func (w *keysWorld) rotation(name, to string) []byte {
	w.t.Helper()
	return w.sign(name, ledger.TypeRotate, w.rotateBody(name, to))
}

func (w *keysWorld) rotateBody(name, to string) ledger.Rotate {
	w.t.Helper()
	body := ledger.Rotate{Public: keyOf(to).Public().Bytes()}
	if _, isNode := w.state.Node(name); isNode {
		body.Peer = peerOf(to).Public().(ed25519.PublicKey)
	} else {
		body.Cosigner, body.TLSPin = keyOf(to).Cosigner44().Public(), sha256.Sum256([]byte("pin of "+to))
	}
	return proven(w.state.Authority().Branch(), ledger.Hash(w.keyOf(name).ID()), name, to, body)
}

func peerOf(name string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name[:1]), 32))
}

// proven is a rotation with its proofs.
func proven(branch, old ledger.Hash, name, to string, body ledger.Rotate) ledger.Rotate {
	message := ledger.RotationMessage(branch, old, name, body)
	body.Proof = keyOf(to).Sign(message)
	if body.Peer != nil {
		body.PeerProof = ed25519.Sign(peerOf(to), message)
	}
	return body
}

func newKeysWorld(t testing.TB) *keysWorld {
	t.Helper()
	rules := ledger.DefaultKeys()
	rules.RotateEpochs, rules.ReplicaKeyEpochs, rules.LateEpochs = 4, 2, 1
	w := &keysWorld{world: newWorld(t, func(g *ledger.Genesis) {
		g.Policy.KeyEpochs, g.Policy.Keys = 8, &rules
		for i := range g.Council {
			g.Council[i].Recipient = "age1pq1 of " + g.Council[i].Name
		}
		g.Recovery = &ledger.Recovery{Threshold: 2, Holders: []ledger.Holder{
			{Name: "rita", Public: keyOf("rita").Public().Bytes()}, {Name: "rosa", Public: keyOf("rosa").Public().Bytes()}}}
	}), said: map[string][]byte{}}
	w.admit("edge-1", "edge-2", "edge-3")
	w.rotateKeys()
	w.backUp()
	w.endKeys()
	w.reseat()
	for _, way := range everyWay {
		if len(w.of(way)) == 0 {
			t.Fatalf("no key changes by %s", way)
		}
	}
	if i := slices.IndexFunc(w.changed, func(c keyChange) bool { return !slices.Contains(everyWay, c.way) }); i >= 0 {
		t.Fatalf("a key changes by %s", w.changed[i].way)
	}
	return w
}

// rotateKeys: nodes and a replica rotate, and speak under both keys.
func (w *keysWorld) rotateKeys() {
	w.untilEpoch(5)
	for _, name := range []string{"edge-1", "edge-2"} {
		w.change("key.rotate of a node", w.rotation(name, name+" second"))
	}
	w.say("the last word of the first key", "edge-1")
	w.change("key.rotate of a replica", w.rotation("r1", "r1 second"))
	w.speaks["r1"] = "r1 second"
	w.untilEpoch(7)
	w.speaks["edge-1"], w.speaks["edge-2"] = "edge-1 second", "edge-2 second"
	w.say("edge-2 in epoch 7", "edge-2")
	w.say("edge-1 in epoch 7", "edge-1")
	w.say("r4 in epoch 7", "r4")
	w.untilEpoch(8)
	w.say("edge-2 in epoch 8", "edge-2")
	w.say("edge-2 again in epoch 8", "edge-2")
	w.say("r4 in epoch 8", "r4")
}

// backUp: edge-1's second key is backed up and its backup opened; first keys are
// destroyed.
func (w *keysWorld) backUp() {
	backup := ledger.Backup{Ciphertext: sha256.Sum256([]byte("ciphertext")), Key: ledger.Hash(keyOf("edge-1 second").ID()), Set: make([]byte, 16), Threshold: 2}
	for _, name := range []string{"alice", "bob", "carol"} {
		backup.Shares = append(backup.Shares, ledger.BackupShare{
			Holder: name, Recipient: keys.RecipientHash("age1pq1 of " + name), Share: sha256.Sum256([]byte("share of " + name))})
	}
	w.change("backup", w.sign("edge-1", ledger.TypeBackup, backup))
	w.change("restore.test", w.sign("edge-1", ledger.TypeRestoreTest, ledger.RestoreTest{
		Ciphertext: backup.Ciphertext, Holders: []string{"alice", "carol"}, Key: backup.Key, Outcome: ledger.RestoreOpened, Purpose: ledger.RestoreForTest}))
	w.change("key.destroy of a node", w.sign("edge-1", ledger.TypeDestroy, ledger.Destroy{Key: ledger.Hash(keyOf("edge-1").ID()), Reason: "rotated out"}))
	w.change("key.destroy of a replica", w.sign("r1", ledger.TypeDestroy, ledger.Destroy{Key: ledger.Hash(keyOf("r1").ID()), Reason: "rotated out"}))
}

// endKeys: keys end by decision. edge-2's second one was stolen in epoch 8, as was
// r4's; edge-3 lost its own, carol changes hers, and the log's are replaced.
func (w *keysWorld) endKeys() {
	stolen := ledger.Hash(keyOf("edge-2 second").ID())
	w.decideKey(ledger.ActionRevoke, map[string]any{"from": 8, "key": stolen, "reason": "stolen"}, "alice", "bob")
	w.speaks["edge-3"] = "edge-3 another"
	peer := sha256.Sum256([]byte("another peer of edge-3"))
	join := w.sign("edge-3", ledger.TypeJoin, ledger.Join{Name: "edge-3", Operator: "dune", Peer: peer[:], Public: keyOf("edge-3 another").Public().Bytes()})
	w.change("join", join)
	w.decideKey("node.rekey", map[string]any{"join": idOf(w.t, join)}, "alice", "bob")
	delete(w.seqs, "edge-3")
	w.say("edge-3 under another key", "edge-3")

	other := replica("r4", "acme")
	other.Public, other.Cosigner = keyOf("r4 another").Public().Bytes(), keyOf("r4 another").Cosigner44().Public()
	other.TLSPin = sha256.Sum256([]byte("another pin of r4"))
	w.decideKey("replica.rekey", map[string]any{"from": 8, "replica": other}, "alice", "carol")
	w.speaks["r4"] = "r4 another"
	delete(w.seqs, "r4")
	root := sha256.Sum256([]byte("some root"))
	w.submit(w.sign("r4", ledger.TypeReady, ledger.Ready{Format: ledger.Format, Root: root, Size: w.state.Next()}))
	again := member("carol", "core")
	again.Public = keyOf("carol another").Public().Bytes()
	w.decideKey("council.change", map[string]any{"add": []ledger.Member{again}, "remove": []string{"carol"}}, "alice", "bob")
	w.speaks["carol"] = "carol another"
	w.record("carol", "seated again")
	w.seal()

	log := ledger.NewLogSigner(worldOrigin, seedOf("log ed25519 second"), seedOf("log mldsa44 second"))
	w.logs = append(w.logs, log)
	w.decideKey("log.rekey", log.Keys(), "alice", "carol")
}

// reseat: the recovery holders replace the council.
func (w *keysWorld) reseat() {
	w.decideKey("council.reseat", map[string]any{"council": []ledger.Member{member("xia", "core"), member("yann", "bolt"), member("zoe", "acme")}}, "rita", "rosa")
	w.now += w.state.Policy().Rules["council.reseat"].DelayMillis + 1
	w.apply(ledger.CommandTick)
	w.seal()
	w.record("zoe", "in the new council")
	w.seal()
}
