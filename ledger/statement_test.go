package ledger

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// TestStatementIsNotMalleable changes every bit of a statement: what still
// parses is another statement, by its id, or the same with a signature that
// does not verify.
func TestStatementIsNotMalleable(t *testing.T) {
	w := newWorld(t, 1)
	seq, s := w.say("alice", TypeApprove, Ballot{Proposal: Hash{1}})
	e, err := ParseEntry(w.entries[seq])
	if err != nil {
		t.Fatal(err)
	}
	public := testKey("alice").Public()
	signature := len(e.Content) - keys.SignatureSize
	parsed := 0
	for at := range e.Content {
		for bit := range 8 {
			if at >= signature && (at+bit)%97 != 0 {
				continue // each costs a verification, and the library is tested elsewhere
			}
			changed := append([]byte{}, e.Content...)
			changed[at] ^= 1 << bit
			got, err := ParseStatement(changed)
			if err != nil {
				var typed *StatementError
				if !errors.As(err, &typed) || typed.Code == "" {
					t.Fatalf("byte %d, bit %d: %v", at, bit, err)
				}
				continue
			}
			parsed++
			if at < signature && got.ID == s.ID {
				t.Errorf("byte %d, bit %d: other bytes, the same id", at, bit)
			}
			if got.Verify(public) {
				t.Errorf("byte %d, bit %d: it verifies", at, bit)
			}
		}
	}
	if parsed == 0 {
		t.Error("no change parsed: the test tests nothing")
	}
}

func TestRefusedStatements(t *testing.T) {
	for _, c := range refusedStatements(t, newWorld(t, 1)) {
		s, err := ParseStatement(c.Envelope)
		if err == nil || s != nil {
			t.Errorf("%s: %v, %v", c.Name, s, err)
		}
	}
}

func TestSignRefusesWhatParseRefuses(t *testing.T) {
	k := testKey("alice")
	if _, err := Sign(k, Payload{Author: "alice", Type: TypePropose}, Propose{Args: canon.Raw(`{}`)}); err == nil {
		t.Error("a proposal without a nonce is signed")
	}
	if _, err := Sign(k, Payload{Author: "Alice", Type: TypeApprove}, Ballot{}); err == nil {
		t.Error("a bad name is signed")
	}
	if _, err := Sign(k, Payload{Author: "alice", Type: TypeApprove}, []string{}); err == nil {
		t.Error("a body that is no object is signed")
	}
	if _, err := Sign(k, Payload{Author: "alice", Type: TypeApprove}, Ballot{Memo: string(make([]byte, MaxPayloadBytes))}); err == nil {
		t.Error("a payload that is too large is signed")
	}
}

func TestBodyErrorsHavePaths(t *testing.T) {
	w := newWorld(t, 1)
	_, s := w.say("alice", TypeApprove, map[string]any{"proposal": "short"})
	_, err := DecodeBody[Ballot](s)
	var e *StatementError
	if !errors.As(err, &e) || e.Path != "body.proposal" || e.Code != canon.CodeBadBase64 {
		t.Errorf("got %v", err)
	}
	_, err = DecodeArgs[Replica](canon.Raw(`{"alien":1}`))
	if !errors.As(err, &e) || e.Path != "body.args.alien" || e.Code != canon.CodeUnknownField {
		t.Errorf("got %v", err)
	}
}
