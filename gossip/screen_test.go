package gossip

import (
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// aWord is an observation that is well formed, with a counter that is its own.
func (w *world) aWord(t *testing.T, name string, epoch, seq uint64) []byte {
	t.Helper()
	return w.sign(t, name, ledger.TypeObserve, epoch, seq, ledger.Observe{Kind: ledger.NodeUp, Subject: w.names[1], Counter: seq + 1, From: 1, To: 1})
}

// What is of the next epoch is early, whoever signed it: its key may be one that the
// view does not know yet. Of this epoch, a key that nobody knows is nobody's.
func TestScreenAsksTheEpochBeforeTheAuthor(t *testing.T) {
	w := newWorld(2, 2)
	name := w.names[0]
	early := w.aWord(t, name, w.rules.Epoch+1, 0)
	now := w.aWord(t, name, w.rules.Epoch, 1)
	late := w.aWord(t, name, w.rules.Epoch-2, 2)
	delete(w.authors, ledger.Hash(w.key(name, RoleNode).ID()))
	for what, c := range map[string]struct {
		envelope []byte
		want     Reason
	}{"early": {early, EarlyEpoch}, "now": {now, UnknownAuthor}, "late": {late, LateEpoch}} {
		if _, reason := Screen(w, Statements, c.envelope); reason != c.want {
			t.Errorf("%s: %s, want %s", what, reason, c.want)
		}
	}
}

// A key is heard in its epochs, and, if none followed it, in the grace after them, as
// the ledger takes it.
func TestScreenKnowsTheGrace(t *testing.T) {
	w := newWorld(2, 2)
	name, epoch := w.names[0], w.rules.Epoch
	envelope := w.aWord(t, name, epoch, 0)
	for _, c := range []struct {
		from, to, grace uint64
		want            Reason
	}{
		{epoch, epoch, 0, Good},
		{epoch + 1, epoch + 9, 0, NotValid},
		{0, epoch - 1, 0, NotValid},
		{0, epoch - 1, 1, Good},
		{0, epoch - 2, 1, NotValid},
		{0, 1<<64 - 1, 1<<64 - 1, Good},
	} {
		w.change(name, func(a *Author) { a.ValidFrom, a.ValidTo, a.Grace = c.from, c.to, c.grace })
		if _, reason := Screen(w, Statements, envelope); reason != c.want {
			t.Errorf("valid from %d to %d with grace %d, in epoch %d: %s, want %s", c.from, c.to, c.grace, epoch, reason, c.want)
		}
	}
}

// What a node says of its keys is gossiped, in its one form and size, so that a node
// that reaches no replica rotates through others.
func TestScreenCarriesRotations(t *testing.T) {
	w := newWorld(2, 2)
	name, epoch := w.names[0], w.rules.Epoch
	w.key(name, RoleNode)
	good := ledger.Rotate{Peer: make([]byte, 32), PeerProof: make([]byte, 64), Proof: make([]byte, keys.SignatureSize), Public: make([]byte, keys.PublicKeySize)}
	short, replicas := good, good
	short.Proof = short.Proof[1:]
	replicas.Cosigner = make([]byte, keys.Cosigner44PublicKeySize)
	backup := ledger.Backup{Set: make([]byte, 16), Threshold: 2, Shares: []ledger.BackupShare{
		{Holder: "a", Share: ledger.Hash{1}}, {Holder: "b", Share: ledger.Hash{2}}, {Holder: "c", Share: ledger.Hash{3}},
	}}
	twice := backup
	twice.Shares = append(backup.Shares[:2:2], backup.Shares[0])
	test := ledger.RestoreTest{Holders: []string{"a"}, Outcome: ledger.RestoreOpened, Purpose: ledger.RestoreForTest}
	for what, c := range map[string]struct {
		typ  string
		body any
		want Reason
	}{
		"a rotation":           {ledger.TypeRotate, good, Good},
		"a short proof":        {ledger.TypeRotate, short, BadBody},
		"a replica's rotation": {ledger.TypeRotate, replicas, BadBody},
		"a backup":             {ledger.TypeBackup, backup, Good},
		"a holder twice":       {ledger.TypeBackup, twice, BadBody},
		"a test":               {ledger.TypeRestoreTest, test, Good},
		"a bad test":           {ledger.TypeRestoreTest, ledger.RestoreTest{Holders: []string{}}, BadBody},
		"an end":               {ledger.TypeDestroy, ledger.Destroy{}, Good},
	} {
		envelope := w.sign(t, name, c.typ, epoch, 0, c.body)
		if _, reason := Screen(w, Statements, envelope); reason != c.want {
			t.Errorf("%s: %s, want %s", what, reason, c.want)
		}
		if _, reason := Screen(w, Probes, envelope); reason != WrongChannel && reason != TooLarge {
			t.Errorf("%s as a probe: %s", what, reason)
		}
	}
	w.change(name, func(a *Author) { a.Standing = Quarantined })
	if _, reason := Screen(w, Statements, w.sign(t, name, ledger.TypeRotate, epoch, 0, good)); reason != AuthorHeld {
		t.Errorf("of a quarantined node: %s", reason)
	}
}

// Below format 3 nothing of keys is relayed: a program of before rejects it, and bans
// whoever brings it. It is not rejected either: whoever brings it may be ahead.
func TestScreenKeepsKeysFromOlderFormats(t *testing.T) {
	w := newWorld(2, 2)
	name, other, epoch := w.names[0], w.names[2], w.rules.Epoch
	w.key(name, RoleNode)
	w.key(other, RoleNode)
	rotation := ledger.Rotate{Peer: make([]byte, 32), PeerProof: make([]byte, 64), Proof: make([]byte, keys.SignatureSize), Public: make([]byte, keys.PublicKeySize)}
	exhibits := [][]byte{w.sign(t, name, ledger.TypeDestroy, epoch, 3, ledger.Destroy{}), w.aWord(t, name, epoch, 3)}
	former := w.names[3]
	w.change(former, func(a *Author) { a.Public, a.Revoked, a.Former, a.ValidTo = nil, true, true, epoch })
	words := [][]byte{w.aWord(t, former, epoch, 4), w.sign(t, former, ledger.TypeObserve, epoch, 4, ledger.Observe{Kind: ledger.NodeUp, Subject: w.names[1], Counter: 9, From: 1, To: 1})}
	for what, c := range map[string]struct {
		envelope []byte
		now      Reason
	}{
		"a rotation":                   {w.sign(t, name, ledger.TypeRotate, epoch, 0, rotation), Good},
		"an end":                       {w.sign(t, name, ledger.TypeDestroy, epoch, 1, ledger.Destroy{}), Good},
		"a statement of keys as proof": {w.sign(t, other, ledger.TypeEvidence, epoch, 0, ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: exhibits}), Good},
		"evidence with a key": {w.sign(t, other, ledger.TypeEvidence, epoch, 1,
			ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: words, Public: w.key(former, RoleNode).Public().Bytes()}), Good},
		"evidence with a key that the state has": {w.sign(t, other, ledger.TypeEvidence, epoch, 2,
			ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: exhibits, Public: w.key(name, RoleNode).Public().Bytes()}), RevokedKey},
	} {
		for format, want := range map[uint64]Reason{ledger.KeysFormat - 1: LaterFormat, ledger.KeysFormat: c.now} {
			w.rules.Format = format
			if _, reason := Screen(w, Statements, c.envelope); reason != want {
				t.Errorf("%s in format %d: %s, want %s", what, format, reason, want)
			}
		}
	}
	if LaterFormat.Verdict() != Ignore {
		t.Error("who is ahead is rejected")
	}
}
