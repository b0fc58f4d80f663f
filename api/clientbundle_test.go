package api

import (
	"testing"

	"github.com/quorate/quorate/api/client"
)

// A server that drops a statement of a bundle can't hide it behind another one:
// each statement is looked for at its own seq.
func TestClientMissesADroppedStatement(t *testing.T) {
	f := newFake(t)
	l, url := newLying(t, f)
	dropped, kept := f.world.record(t, "alice", "dropped"), f.world.record(t, "bob", "kept")
	seq := f.submit(kept).Verdicts[0].Seq
	l.lie("/v1/statements", func([]byte) []byte {
		return edit(t, func(a *client.SubmitAnswer) {
			a.Level = "certified"
			a.Statements = []client.StatementResult{{Seq: seq, Verdict: "ok"}, {Seq: seq, Verdict: "ok"}}
		})([]byte("{}"))
	})
	c := newClient(t, f.world, t.TempDir(), url)
	answer, err := c.Submit(short(t), [][]byte{dropped, kept}, client.WaitCertified)
	if err == nil || answer.Verified {
		t.Errorf("a dropped statement passed as certified: %+v, %v", answer, err)
	}
}
