package replica

import (
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// A leader's receipt that can't be one for what was sent is no acknowledgement.
func TestReceiptThatAnswersSomethingElse(t *testing.T) {
	key, err := keys.Generate()
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 16)
	envelope, err := ledger.Sign(key, ledger.Payload{Author: "a", Ledger: ledger.Hash{1}, Type: ledger.TypeRecord, Nonce: nonce, Expires: 1}, ledger.Record{Text: "x"})
	if err != nil {
		t.Fatal(err)
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		t.Fatal(err)
	}
	good := fsm.Verdict{ID: st.ID, Seq: 5}
	if !answers(receiptOf([]fsm.Verdict{good}, 0), [][]byte{envelope}) {
		t.Error("an honest receipt is refused")
	}
	for name, verdicts := range map[string][]fsm.Verdict{
		"none": {}, "too many": {good, good}, "another statement": {{ID: ledger.Hash{2}, Seq: 5}},
		"genesis": {{ID: st.ID}}, "a refusal": {{ID: st.ID, Seq: 5, Code: fsm.BadSignature}},
	} {
		if answers(receiptOf(verdicts, 0), [][]byte{envelope}) {
			t.Errorf("%s: taken", name)
		}
	}
	if early := (&Receipt{Verdicts: []fsm.Verdict{good}, Level: LevelCommitted}); answers(early, [][]byte{envelope}) {
		t.Error("a receipt that ends before its entries was taken")
	}
}
