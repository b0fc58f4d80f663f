package api

import (
	"errors"
	"testing"
	"time"

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

// What was true of a record an hour ago is not passed off as current.
func TestClientSaysThatARecordIsStale(t *testing.T) {
	f := newFake(t)
	f.mu.Lock()
	f.certify(time.Now().Add(-time.Hour))
	f.mu.Unlock()
	ts := newServer(t, f, Config{})
	c, err := client.New(client.Options{Servers: []string{ts.URL}, Genesis: f.world.hash, MaxHeadAge: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var stale *client.StaleError
	if r, err := c.Record(short(t), "policy"); !errors.As(err, &stale) {
		t.Errorf("a record of an hour ago: %+v, %v", r, err)
	}
	f.mu.Lock()
	f.certify(time.Now())
	f.mu.Unlock()
	if _, err := c.Record(short(t), "policy"); err != nil {
		t.Errorf("a record of now: %v", err)
	}
}
