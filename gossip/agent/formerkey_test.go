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

// What evidence proves under a key that was rotated out, gossip and the ledger find alike,
// from the same bytes: with the key, once the state has it no longer.
func TestEvidenceUnderAFormerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLaggingOf(t, shortLived)
		said := func(epoch, seq uint64, of string) *ledger.Statement {
			t.Helper()
			b, err := ledger.Sign(w.key, ledger.Payload{Author: "n0", Epoch: &epoch, Seq: &seq, Ledger: w.a.genesis, Type: ledger.TypeObserve},
				ledger.Observe{Counter: seq + 1, Kind: ledger.LinkUp, Subject: of})
			if err != nil {
				t.Fatal(err)
			}
			st, err := ledger.ParseStatement(b)
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		w.pass(2)
		epoch := w.ledger.State.Epoch()
		in := []*ledger.Statement{said(epoch, 40, "n1"), said(epoch, 40, "n2")}
		beyond := []*ledger.Statement{said(epoch+2, 40, "n1"), said(epoch+2, 40, "n2")}
		public, other := w.key.Public().Bytes(), keys.FromSeed([keys.SeedSize]byte{8}).Public().Bytes()

		// judge gives what gossip makes of an evidence and what the ledger does.
		judge := func(exhibits []*ledger.Statement, public []byte) (gossip.Reason, fsm.Code) {
			t.Helper()
			proof, err := gossip.Prove(ledger.EvidenceEquivocation, 0, exhibits...)
			if err != nil {
				t.Fatal(err)
			}
			body, err := proof.With(public)
			if err != nil {
				t.Fatal(err)
			}
			envelope, err := w.ledger.Say("n1", ledger.TypeEvidence, body)
			if err != nil {
				t.Fatal(err)
			}
			w.jump()
			verify := onlyOf{w.key.Public()}
			c, reason := gossip.Screen(w.a.view.Load().certified, gossip.Statements, envelope)
			if reason == gossip.Good {
				reason = c.Verify(verify)
			}
			command := &ledger.Command{Kind: ledger.CommandStatements, Stamp: w.ledger.Now, Statements: [][]byte{envelope}}
			return reason, fsm.Admit(w.ledger.State, command, verify)[0].Code
		}
		check := func(when string, exhibits []*ledger.Statement, public []byte, want gossip.Reason, code fsm.Code) {
			t.Helper()
			if got, by := judge(exhibits, public); got != want || by != code {
				t.Errorf("%s: gossip says %s, the ledger %s; want %s and %s", when, got, by, want, code)
			}
		}
		check("in force, without it", in, nil, gossip.Good, fsm.OK)
		check("in force, with it", in, public, gossip.RevokedKey, fsm.ProvesNothing)

		rotation, err := w.ledger.Say("n0", ledger.TypeRotate, w.ledger.Rotation("n0"))
		if err == nil {
			err = w.ledger.Apply(ledger.CommandStatements, rotation)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.pass(2)
		check("rotated out a moment ago, without it", in, nil, gossip.Good, fsm.OK)
		check("rotated out a moment ago, with it", in, public, gossip.RevokedKey, fsm.ProvesNothing)
		check("rotated out a moment ago, of a later epoch", beyond, nil, gossip.NotValid, fsm.ProvesNothing)
		before := w.a.view.Load()

		w.pass(3)
		if _, kept := w.ledger.State.OldKey(ledger.Hash(w.key.ID())); kept {
			t.Fatal("the state has the key still")
		}
		check("gone, without it", in, nil, gossip.RevokedKey, fsm.ProvesNothing)
		check("gone, with it", in, public, gossip.Good, fsm.OK)
		check("gone, with another", in, other, gossip.FalseProof, fsm.ProvesNothing)
		check("gone, of a later epoch", beyond, public, gossip.NotValid, fsm.ProvesNothing)
		forged := *in[1]
		forged.Envelope = append([]byte(nil), in[1].Envelope...)
		forged.Envelope[len(forged.Envelope)-1] ^= 1
		check("gone, not signed by it", []*ledger.Statement{in[0], &forged}, public, gossip.FalseProof, fsm.ProvesNothing)
		if c, reason := gossip.Screen(w.a.view.Load().certified, gossip.Statements, in[0].Envelope); c != nil || reason == gossip.Good {
			t.Errorf("it speaks still: %s", reason)
		}

		// Who proved it while the state had the key brings it with the key later.
		proof, err := gossip.Prove(ledger.EvidenceEquivocation, 0, in...)
		if err != nil {
			t.Fatal(err)
		}
		now := w.a.view.Load()
		w.a.view.Store(before)
		w.a.docket.open(proof)
		w.a.view.Store(now)
		if e, err := w.a.docket.evidence(proof); err != nil || string(e.Public) != string(public) {
			t.Errorf("the docket brings a key of %d bytes (%v)", len(e.Public), err)
		}

		if err := w.ledger.Decide("key.revoke", map[string]any{"key": ledger.Hash(w.key.ID()), "from": epoch, "reason": "stolen"}); err != nil {
			t.Fatal(err)
		}
		check("revoked, with it", in, public, gossip.RevokedKey, fsm.ProvesNothing)
		check("revoked, without it", in, nil, gossip.RevokedKey, fsm.ProvesNothing)
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
	proof, err := gossip.Prove(ledger.EvidenceEquivocation, 0, exhibits...)
	if err != nil {
		t.Fatal(err)
	}
	body, err := proof.With(key.Public().Bytes())
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
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
		victim, ok := w.ledger.State.Node("n5")
		thief, found := w.ledger.State.Node("n1")
		if !ok || !found || thief.Ordinal >= victim.Ordinal {
			t.Fatalf("%+v, %+v", thief, victim)
		}
		next := keys.FromSeed([keys.SeedSize]byte{9})
		w.ledger.IDs["n1"] = next.ID()
		join, err := w.ledger.Say("n1", ledger.TypeJoin, ledger.Join{Name: "n1", Operator: thief.Operator, Peer: victim.Peer, Public: next.Public().Bytes()})
		if err == nil {
			err = w.ledger.Apply(ledger.CommandStatements, join)
		}
		if err != nil {
			t.Fatal(err)
		}
		st, err := ledger.ParseStatement(join)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.ledger.Decide("node.rekey", map[string]any{"join": st.ID}); err != nil {
			t.Fatal(err)
		}
		if n, _ := w.ledger.State.Node("n1"); string(n.Peer) != string(victim.Peer) {
			t.Fatal("the join is not in force")
		}
		if name := peersOf(w.ledger.State)[[32]byte(victim.Peer)]; name != "n5" {
			t.Errorf("the peer key of n5 is taken for that of %s", name)
		}
	})
}
