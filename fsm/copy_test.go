package fsm

import (
	"testing"

	"github.com/quorate/quorate/ledger"
)

// A statement's id leaves the signature out: a copy whose signature does not
// verify is refused, not answered with the first result.
func TestCopyWithAnotherSignatureIsRefused(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	envelope := w.sign(saying{author: "alice", typ: ledger.TypeRecord, body: ledger.Record{Text: "once"}})
	w.submit(envelope)
	if v := w.apply(ledger.CommandStatements, envelope).Verdicts[0]; v.Code != OK || !v.Duplicate || v.Seq != 1 {
		t.Errorf("the copy gave %+v", v)
	}
	envelope[len(envelope)-1] ^= 1
	if v := w.apply(ledger.CommandStatements, envelope).Verdicts[0]; v.Code != BadSignature {
		t.Errorf("the copy with another signature gave %+v", v)
	}
}
