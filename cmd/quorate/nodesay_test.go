package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// What nodes say, for scripts in which no agent runs: signed by their key files
// and sent to the servers of QUORATE_SERVER.

// nodeSays signs statements of nodes in the ledger's epoch.
type nodeSays struct {
	ts     *testscript.TestScript
	client *client.Client
	hash   ledger.Hash
	epoch  uint64
	tick   uint64
}

func newNodeSays(ts *testscript.TestScript) *nodeSays {
	raw, err := os.ReadFile(ts.MkAbs(ts.Getenv("QUORATE_GENESIS")))
	ts.Check(err)
	s := &nodeSays{ts: ts}
	s.hash, err = ledger.ParseHash(strings.TrimSpace(string(raw)))
	ts.Check(err)
	s.client, err = client.New(client.Options{Servers: strings.Split(ts.Getenv("QUORATE_SERVER"), ",")})
	ts.Check(err)
	epoch, err := s.client.CurrentEpoch(context.Background(), client.Read{Consistency: client.Linearizable})
	ts.Check(err)
	policy, err := s.client.Policy(context.Background(), client.Read{})
	ts.Check(err)
	s.epoch, s.tick = epoch.Epoch, uint64(time.Now().UnixMilli())/policy.Policy.TickMillis
	return s
}

// sign makes a statement with the key file of that path.
func (s *nodeSays) sign(path, typ string, seq uint64, body any) []byte {
	file, err := keys.ReadFile(s.ts.MkAbs(path), nil)
	s.ts.Check(err)
	envelope, err := ledger.Sign(file.Key, ledger.Payload{Author: file.Name, Type: typ, Ledger: s.hash, Epoch: &s.epoch, Seq: &seq}, body)
	s.ts.Check(err)
	return envelope
}

// submit wants the ledger to take it, or, with refusal, to refuse it by that
// code.
func (s *nodeSays) submit(refusal string, envelope []byte) {
	_, err := s.client.Submit(context.Background(), [][]byte{envelope}, client.WaitCommitted)
	if (refusal == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), refusal) {
		s.ts.Fatalf("submit: %v, want %q", err, refusal)
	}
}

// nextSeq counts up over a whole script, in a file of its folder.
func (s *nodeSays) nextSeq() uint64 {
	path := filepath.Join(s.ts.Getenv("WORK"), ".seq")
	seq := uint64(1)
	if raw, err := os.ReadFile(path); err == nil {
		_, err := fmt.Sscan(string(raw), &seq)
		s.ts.Check(err)
	}
	s.ts.Check(os.WriteFile(path, fmt.Appendf(nil, "%d", seq+1), 0o600))
	return seq
}

// observes KEY KIND SUBJECT [CODE]: a node says what it saw of another, now,
// and is refused by the code if one is given.
func observes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: observes KEY KIND SUBJECT [CODE]")
	}
	s := newNodeSays(ts)
	defer s.client.Close()
	seq := s.nextSeq()
	body := ledger.Observe{Kind: args[1], Subject: args[2], Counter: seq, From: s.tick, To: s.tick}
	if body.Kind == ledger.NodeBad {
		body.Cause = ledger.CauseInvalid
	}
	s.submit(strings.Join(args[3:], ""), s.sign(args[0], ledger.TypeObserve, seq, body))
}

// convicts KEY OFFENDER.key: a node brings evidence that another signed two
// statements under one number.
func convicts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: convicts KEY OFFENDER.key")
	}
	s := newNodeSays(ts)
	defer s.client.Close()
	seq := s.nextSeq()
	s.submit("", s.sign(args[0], ledger.TypeEvidence, s.nextSeq(), ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{
		s.sign(args[1], ledger.TypeRecord, seq, ledger.Record{Text: "to some"}),
		s.sign(args[1], ledger.TypeRecord, seq, ledger.Record{Text: "to others"}),
	}}))
}
