package replica

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// signedRecord is a record of an author that no ledger here knows.
func signedRecord(t *testing.T, k *keys.PrivateKey, text string) []byte {
	t.Helper()
	epoch, seq := uint64(0), uint64(1)
	envelope, err := ledger.Sign(k, ledger.Payload{Author: "r1", Type: ledger.TypeRecord, Epoch: &epoch, Seq: &seq}, ledger.Record{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

// What is remembered must never make a signature good that is not: not of
// other bytes, not under another key.
func TestCheckedAnswersAsIfItRememberedNothing(t *testing.T) {
	v := newVerifier(Limits{}.withDefaults())
	mine, other := keys.FromSeed([32]byte{1}), keys.FromSeed([32]byte{2})
	good := signedRecord(t, mine, "good")
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	c := v.newChecked(2)
	for range 2 { // the second time from memory
		for _, one := range []struct {
			name     string
			envelope []byte
			key      *keys.PrivateKey
			want     bool
		}{
			{"good", good, mine, true}, {"good, under another key", good, other, false}, {"good again", good, mine, true},
			{"changed", bad, mine, false}, {"a copy of the good one", bytes.Clone(good), mine, true},
		} {
			st, err := c.Parse(one.envelope)
			if err != nil {
				t.Fatalf("%s: %v", one.name, err)
			}
			if !bytes.Equal(st.Envelope, one.envelope) {
				t.Errorf("%s: parsed as other bytes", one.name)
			}
			if got := c.Verify(st, one.key.Public().Bytes()); got != one.want {
				t.Errorf("%s: verifies %v, want %v", one.name, got, one.want)
			}
		}
	}
	for range 2 {
		if _, err := c.Parse([]byte("no statement")); err == nil {
			t.Error("what is no statement was parsed")
		}
		if _, err := c.Parse(nil); err == nil {
			t.Error("nothing was parsed")
		}
	}
}

// What the leader admitted counts for the very bytes that it ordered, once.
func TestAdmittedCountsOnce(t *testing.T) {
	v := newVerifier(Limits{}.withDefaults())
	key := keys.FromSeed([32]byte{1})
	command := &ledger.Command{Kind: ledger.CommandStatements, Statements: [][]byte{signedRecord(t, key, "one")}}
	c := v.newChecked(1)
	st, err := c.Parse(command.Statements[0])
	if err != nil || !c.Verify(st, key.Public().Bytes()) {
		t.Fatalf("sign: %v", err)
	}
	data := command.Encode()
	forget := v.admit(data, c.list(command.Statements))
	if got := v.take(bytes.Clone(data)); got != nil {
		t.Error("a copy of the command was taken for it")
	}
	got := v.take(data)
	if len(got) != 1 || got[0].statement != st {
		t.Fatalf("took %v, want the admitted statement", got)
	}
	if v.take(data) != nil {
		t.Error("it was taken twice")
	}
	forget()
	v.admit(data, c.list(command.Statements))()
	if v.take(data) != nil || len(v.admitted) != 0 {
		t.Error("it was not forgotten")
	}
	if c.list([][]byte{command.Statements[0], nil}) != nil {
		t.Error("a list with a statement that was not parsed")
	}
}

// A batch answers for each command its own statements, admitted or not.
func TestAheadKeepsCommandsApart(t *testing.T) {
	v := newVerifier(Limits{}.withDefaults())
	key := keys.FromSeed([32]byte{1})
	var commands []*ledger.Command
	var data [][]byte
	for _, texts := range [][]string{{"a", "b"}, nil, {"c"}, {"d", "e", "f"}} {
		if texts == nil {
			commands, data = append(commands, nil), append(data, nil)
			continue
		}
		c := &ledger.Command{Kind: ledger.CommandStatements}
		for _, text := range texts {
			c.Statements = append(c.Statements, signedRecord(t, key, text))
		}
		encoded := c.Encode()
		parsed, err := ledger.ParseCommand(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if texts[0] == "c" { // this one was admitted here
			admission := v.newChecked(1)
			if _, err := admission.Parse(c.Statements[0]); err != nil {
				t.Fatal(err)
			}
			v.admit(encoded, admission.list(c.Statements))
		}
		commands, data = append(commands, parsed), append(data, encoded)
	}
	all := v.ahead(founded(t), commands, func(i int) []byte { return data[i] })
	for _, c := range commands {
		if c == nil {
			continue
		}
		for _, envelope := range c.Statements {
			st, err := all.Parse(envelope)
			if err != nil || !bytes.Equal(st.Envelope, envelope) || !all.Verify(st, key.Public().Bytes()) {
				t.Errorf("%.80q is answered for another: %v", envelope, err)
			}
		}
	}
	if len(v.admitted) != 0 {
		t.Error("what was admitted is still kept")
	}
}

// founded is the state of some ledger, which refuses the records above, so that
// nothing is verified ahead.
func founded(t *testing.T, changes ...func(*ledger.Genesis)) *fsm.State {
	t.Helper()
	governor, replica := keys.FromSeed([32]byte{8}), keys.FromSeed([32]byte{9})
	log := LogKey{Ed25519: [32]byte{1}, MLDSA44: [32]byte{2}}
	g := &ledger.Genesis{
		Created: 1_700_000_000_000, Format: ledger.Format, Origin: "example.com/test", Log: log.Public("example.com/test"),
		Policy: ledger.DefaultPolicy(1), Operators: []ledger.Operator{{Name: "op"}},
		Council:  []ledger.Member{{Name: "alice", Operator: "op", Public: governor.Public().Bytes()}},
		Replicas: []ledger.Replica{{Name: "r1", Operator: "op", Peer: "127.0.0.1:1", Public: replica.Public().Bytes(), Cosigner: replica.Cosigner44().Public(), TLSPin: ledger.Hash{1}}},
	}
	for _, change := range changes {
		change(g)
	}
	entry, err := g.Entry()
	if err != nil {
		t.Fatal(err)
	}
	s, err := fsm.New(entry)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
