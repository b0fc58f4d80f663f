package agent

import (
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// onlyOf verifies what bears one key, and trusts all else.
type onlyOf struct{ key *keys.PublicKey }

func (v onlyOf) Verify(st *ledger.Statement, public []byte) bool {
	if st.KeyID != ledger.Hash(v.key.ID()) {
		return true
	}
	key, err := keys.ParsePublicKey(public)
	return err == nil && st.Verify(key)
}

func (onlyOf) Possesses(_, _, _ []byte) bool { return true }

// formerKey is a ledger on which n0 rotates its key, and what that key said.
type formerKey struct {
	*lagging
	public []byte
}

// said is what n0 says under its first key, in an epoch and under a seq.
func (w *formerKey) said(epoch, seq uint64, of string) *ledger.Statement {
	w.t.Helper()
	return w.parsed(ledger.Sign(w.key, ledger.Payload{Author: "n0", Epoch: &epoch, Seq: &seq, Ledger: w.a.genesis, Type: ledger.TypeObserve},
		ledger.Observe{Counter: seq + 1, Kind: ledger.LinkUp, Subject: of}))
}

// check compares what gossip makes of an evidence, with a key or without, and what the
// ledger does.
func (w *formerKey) check(when string, exhibits []*ledger.Statement, public []byte, want gossip.Reason, code fsm.Code) {
	w.t.Helper()
	body, err := equivocation(w.t, exhibits...).With(public)
	if err != nil {
		w.t.Fatal(err)
	}
	envelope := w.parsed(w.ledger.Say("n1", ledger.TypeEvidence, body)).Envelope
	w.jump()
	verify := onlyOf{w.key.Public()}
	c, got := gossip.Screen(w.a.view.Load().certified, gossip.Statements, envelope)
	if got == gossip.Good {
		got = c.Verify(verify)
	}
	command := &ledger.Command{Kind: ledger.CommandStatements, Stamp: w.ledger.Now, Statements: [][]byte{envelope}}
	if by := fsm.Admit(w.ledger.State, command, verify)[0].Code; got != want || by != code {
		w.t.Errorf("%s: gossip says %s, the ledger %s; want %s and %s", when, got, by, want, code)
	}
}

// broughtBy checks that who proved something while the state had the key brings it with the
// key later.
func (w *formerKey) broughtBy(before *View, exhibits []*ledger.Statement) {
	w.t.Helper()
	proof, now := equivocation(w.t, exhibits...), w.a.view.Load()
	w.a.view.Store(before)
	w.a.docket.open(proof)
	w.a.view.Store(now)
	if e, err := w.a.docket.evidence(proof); err != nil || string(e.Public) != string(w.public) {
		w.t.Errorf("the docket brings a key of %d bytes (%v)", len(e.Public), err)
	}
}

// What evidence proves under a key that was rotated out, gossip and the ledger find alike,
// from the same bytes: with the key, once the state has it no longer.
func TestEvidenceUnderAFormerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &formerKey{lagging: newLaggingOf(t, shortLived)}
		w.public = w.key.Public().Bytes()
		w.pass(2)
		epoch := w.ledger.State.Epoch()
		in := []*ledger.Statement{w.said(epoch, 40, "n1"), w.said(epoch, 40, "n2")}
		beyond := []*ledger.Statement{w.said(epoch+2, 40, "n1"), w.said(epoch+2, 40, "n2")}
		w.check("in force, without it", in, nil, gossip.Good, fsm.OK)
		w.check("in force, with it", in, w.public, gossip.RevokedKey, fsm.ProvesNothing)

		w.accepted(w.ledger.Say("n0", ledger.TypeRotate, w.ledger.Rotation("n0")))
		w.pass(2)
		w.check("rotated out a moment ago, without it", in, nil, gossip.Good, fsm.OK)
		w.check("rotated out a moment ago, with it", in, w.public, gossip.RevokedKey, fsm.ProvesNothing)
		w.check("rotated out a moment ago, of a later epoch", beyond, nil, gossip.NotValid, fsm.ProvesNothing)
		before := w.a.view.Load()

		w.pass(3)
		if _, kept := w.ledger.State.OldKey(ledger.Hash(w.key.ID())); kept {
			t.Fatal("the state has the key still")
		}
		forged := *in[1]
		forged.Envelope = append([]byte(nil), in[1].Envelope...)
		forged.Envelope[len(forged.Envelope)-1] ^= 1
		w.check("gone, without it", in, nil, gossip.RevokedKey, fsm.ProvesNothing)
		w.check("gone, with it", in, w.public, gossip.Good, fsm.OK)
		w.check("gone, with another", in, keys.FromSeed([keys.SeedSize]byte{8}).Public().Bytes(), gossip.FalseProof, fsm.ProvesNothing)
		w.check("gone, of a later epoch", beyond, w.public, gossip.NotValid, fsm.ProvesNothing)
		w.check("gone, not signed by it", []*ledger.Statement{in[0], &forged}, w.public, gossip.FalseProof, fsm.ProvesNothing)
		if c, reason := gossip.Screen(w.a.view.Load().certified, gossip.Statements, in[0].Envelope); c != nil || reason == gossip.Good {
			t.Errorf("it speaks still: %s", reason)
		}
		w.broughtBy(before, in)

		if err := w.ledger.Decide("key.revoke", map[string]any{"key": ledger.Hash(w.key.ID()), "from": epoch, "reason": "stolen"}); err != nil {
			t.Fatal(err)
		}
		w.check("revoked, with it", in, w.public, gossip.RevokedKey, fsm.ProvesNothing)
		w.check("revoked, without it", in, nil, gossip.RevokedKey, fsm.ProvesNothing)
	})
}

// The longest evidence that brings a key fits one statement: of two rotations.
func TestTwoRotationsAndTheirKeyFit(t *testing.T) {
	key := keys.FromSeed([keys.SeedSize]byte{1})
	var exhibits []*ledger.Statement
	for i := range byte(2) {
		epoch, seq := uint64(1<<40), uint64(1<<40)
		public := make([]byte, keys.PublicKeySize)
		public[0] = i
		b, err := ledger.Sign(key, ledger.Payload{Author: "a-name-as-long-as-names-may-be-a-name-as-long-as-names-may-be-a", Epoch: &epoch, Seq: &seq, Type: ledger.TypeRotate},
			ledger.Rotate{Peer: make([]byte, 32), PeerProof: make([]byte, 64), Proof: make([]byte, keys.SignatureSize), Public: public})
		if err != nil {
			t.Fatal(err)
		}
		st, err := ledger.ParseStatement(b)
		if err != nil {
			t.Fatal(err)
		}
		exhibits = append(exhibits, st)
	}
	body, err := equivocation(t, exhibits...).With(key.Public().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	epoch, seq := uint64(1<<40), uint64(1<<40)
	envelope, err := ledger.Sign(key, ledger.Payload{Author: "n1", Epoch: &epoch, Seq: &seq, Type: ledger.TypeEvidence}, body)
	if err != nil || len(envelope) > gossip.MaxStatementBytes {
		t.Fatalf("%d bytes, %v", len(envelope), err)
	}
	t.Logf("%d bytes of %d", len(envelope), gossip.MaxStatementBytes)
}

// A node that is re-keyed with a join that names another's peer key does not take that over:
// it would take the other's connections with it when it is excluded.
func TestAPeerKeyStaysItsOwners(t *testing.T) {
	for _, name := range []string{"n1", "n7"} { // one that comes before the other, and one after it
		inVirtualTime(t, func(t *testing.T, w *lagging) {
			victim, ok := w.ledger.State.Node("n5")
			thief, found := w.ledger.State.Node(name)
			if !ok || !found || (thief.Ordinal < victim.Ordinal) != (name == "n1") {
				t.Fatalf("%+v, %+v", thief, victim)
			}
			w.rekeyed(name, keys.FromSeed([keys.SeedSize]byte{9}), victim.Peer)
			if n, _ := w.ledger.State.Node(name); string(n.Peer) != string(victim.Peer) {
				t.Fatal("the join is not in force")
			}
			if of := peersOf(w.ledger.State)[[32]byte(victim.Peer)]; of != "n5" {
				t.Errorf("the peer key of n5 is taken for that of %s", of)
			}
		})
	}
}
