package replica_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A stranger's join gets nowhere by itself, and everywhere beside a governor's
// proposal that names it.
func TestJoinNeedsAProposalBesideIt(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	leader := c.Leader()
	key := replicatest.Key(t)
	join, err := ledger.Sign(key, ledger.Payload{
		Author: "edge-1", Expires: uint64(time.Now().Add(time.Hour).UnixMilli()), Ledger: c.Hash,
		Nonce: make([]byte, 16), Type: ledger.TypeJoin,
	}, ledger.Join{Name: "edge-1", Operator: "op-a", Peer: make([]byte, 32), Public: key.Public().Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	st, err := ledger.ParseStatement(join)
	if err != nil {
		t.Fatal(err)
	}

	for _, beside := range [][]byte{nil, c.Record(c.Council[0], "a proposal this is not")} {
		bundle := slices.DeleteFunc([][]byte{join, beside}, func(e []byte) bool { return e == nil })
		_, err := leader.Replica.Submit(c.Context(), bundle, replica.WaitCommitted)
		var rejected *replica.RejectedError
		if !errors.As(err, &rejected) || rejected.Verdicts[0].Code != fsm.JoinAlone {
			t.Fatalf("a stray join in a bundle of %d gave %v", len(bundle), err)
		}
	}
	view, err := leader.Replica.View(c.Context(), replica.Stale)
	if err != nil {
		t.Fatal(err)
	}
	if _, waits := view.State.Join(st.ID); waits {
		t.Fatal("a stray join waits on the ledger")
	}

	args, err := canon.Marshal(map[string]any{"joins": []ledger.Hash{st.ID}})
	if err != nil {
		t.Fatal(err)
	}
	base, err := view.State.BaseFor("node.admit", args)
	if err != nil {
		t.Fatal(err)
	}
	propose := c.Sign(c.Council[0], ledger.TypePropose, ledger.Propose{Action: "node.admit", Args: args, Base: base})
	c.Submit(leader, replica.WaitCommitted, join, propose)
}

// A replica's own records, sent again after others of the same author, get
// their first result, not a refusal as a replay.
func TestEarlierStatementSentAgain(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	leader := c.Leader()
	record := func(seq uint64) []byte {
		epoch := uint64(0)
		envelope, err := ledger.Sign(leader.Key, ledger.Payload{
			Author: leader.Record.Name, Epoch: &epoch, Ledger: c.Hash, Seq: &seq, Type: ledger.TypeRecord,
		}, ledger.Record{Text: "again and again"})
		if err != nil {
			t.Fatal(err)
		}
		return envelope
	}
	first := record(40)
	receipt := c.Submit(leader, replica.WaitCommitted, first)
	for seq := uint64(41); seq < 44; seq++ {
		c.Submit(leader, replica.WaitCommitted, record(seq))
	}
	again := c.Submit(leader, replica.WaitCommitted, first)
	if !again.Verdicts[0].Duplicate || again.First != receipt.First {
		t.Errorf("sent again, the first record gave %+v, not entry %d", again.Verdicts[0], receipt.First)
	}
	spoilt := slices.Clone(first)
	spoilt[len(spoilt)-1] ^= 1
	_, err := leader.Replica.Submit(c.Context(), [][]byte{spoilt}, replica.WaitCommitted)
	var rejected *replica.RejectedError
	if !errors.As(err, &rejected) || rejected.Verdicts[0].Code != fsm.BadSignature {
		t.Errorf("a copy with another signature gave %v", err)
	}

	other, err := ledger.Sign(leader.Key, ledger.Payload{
		Author: leader.Record.Name, Epoch: new(uint64), Ledger: c.Hash, Seq: ptr(uint64(40)), Type: ledger.TypeRecord,
	}, ledger.Record{Text: "something else"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = leader.Replica.Submit(c.Context(), [][]byte{other}, replica.WaitCommitted)
	if !errors.As(err, &rejected) || rejected.Verdicts[0].Code != fsm.SeqUsed {
		t.Errorf("another statement under a used seq gave %v", err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestEntryReceipt(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	leader := c.Leader()
	envelope := c.Record(c.Council[0], "to be receipted")
	submitted := c.Submit(leader, replica.WaitCertified, envelope)
	raw, err := leader.Replica.EntryReceipt(submitted.First)
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := ledger.ParseReceipt(raw)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := leader.Replica.Archive().Entry(submitted.First)
	if err != nil {
		t.Fatal(err)
	}
	root, err := leader.Replica.Archive().TreeHash(receipt.Size)
	if err != nil {
		t.Fatal(err)
	}
	public, err := keys.ParsePublicKey(leader.Record.Public)
	if err != nil {
		t.Fatal(err)
	}
	if err := receipt.Verify(public, entry, ledger.Hash(root)); err != nil {
		t.Error(err)
	}
	if err := receipt.Verify(public, entry, sha256.Sum256(nil)); err == nil {
		t.Error("the receipt verifies under another root")
	}
	if _, err := leader.Replica.EntryReceipt(1 << 40); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("an entry that does not exist gave %v", err)
	}
}
