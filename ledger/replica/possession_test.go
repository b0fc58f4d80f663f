package replica

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// counted has a verifier count the proofs that it verifies.
func counted(v *verifier) *atomic.Int64 {
	var n atomic.Int64
	v.possessions.verify = func(public, message, proof []byte) bool {
		n.Add(1)
		return possesses(public, message, proof)
	}
	return &n
}

// rotating is a ledger in whose present epoch r1 may rotate.
func rotating(t *testing.T) *fsm.State {
	t.Helper()
	s := founded(t, func(g *ledger.Genesis) {
		k := ledger.DefaultKeys()
		k.ReplicaKeyEpochs = 1
		g.Policy.Keys = &k
	})
	tick := &ledger.Command{Kind: ledger.CommandTick, Stamp: s.Stamp() + s.Policy().EpochMillis}
	s, _ = fsm.Apply(s, tick, fsm.NewDirectVerifier(1))
	if s.Epoch() != 1 {
		t.Fatalf("it is epoch %d", s.Epoch())
	}
	return s
}

// rotation is how r1 of founded announces a key, whose possession prover proves for a
// generation.
type rotation struct {
	prover     *keys.PrivateKey
	generation uint64
}

// rotationKey is what r1 rotates to.
func rotationKey() *keys.PrivateKey { return keys.FromSeed([32]byte{10}) }

func (r rotation) body(s *fsm.State) (body ledger.Rotate, message []byte) {
	next := rotationKey()
	body = ledger.Rotate{Public: next.Public().Bytes(), Cosigner: next.Cosigner44().Public(), TLSPin: ledger.Hash{2}}
	message = ledger.RotationMessage(ledger.Branch(s.Meta().Ledger, r.generation), ledger.Hash(keys.FromSeed([32]byte{9}).ID()), "r1", body)
	body.Proof = r.prover.Sign(message)
	return body, message
}

func (r rotation) command(t *testing.T, s *fsm.State) *ledger.Command {
	t.Helper()
	body, _ := r.body(s)
	epoch, seq := s.Epoch(), uint64(0)
	p := ledger.Payload{Author: "r1", Type: ledger.TypeRotate, Ledger: s.Meta().Ledger, Epoch: &epoch, Seq: &seq}
	envelope, err := ledger.Sign(keys.FromSeed([32]byte{9}), p, body)
	if err != nil {
		t.Fatal(err)
	}
	return &ledger.Command{Kind: ledger.CommandStatements, Stamp: s.Stamp() + 1, Statements: [][]byte{envelope}}
}

// ordered is a command as Raft hands it out: in memory of its own.
func ordered(t *testing.T, c *ledger.Command) (*ledger.Command, []byte) {
	t.Helper()
	data := c.Encode()
	c, err := ledger.ParseCommand(data)
	if err != nil {
		t.Fatal(err)
	}
	return c, data
}

// A proof that holds is verified once on each replica: before the batch, or, by the
// leader, at admission. Apply asks for it and verifies nothing.
func TestPossessionIsVerifiedOnce(t *testing.T) {
	state := rotating(t)
	for _, leads := range []bool{false, true} {
		t.Run(fmt.Sprintf("leads %v", leads), func(t *testing.T) {
			v := newVerifier(Limits{}.withDefaults())
			verified := counted(v)
			c, data := ordered(t, rotation{prover: rotationKey()}.command(t, state))
			if leads {
				admission := v.newChecked(1)
				if verdicts := fsm.Admit(state, c, admission); verdicts[0].Code != fsm.OK {
					t.Fatalf("admitted with %+v", verdicts[0])
				}
				v.admit(data, admission.list(c.Statements))
			}
			all := v.ahead(state, []*ledger.Command{c}, func(int) []byte { return data })
			if got := verified.Load(); got != 1 {
				t.Fatalf("%d verified before Apply, want 1", got)
			}
			next, result := fsm.Apply(state, c, all)
			if result.Verdicts[0].Code != fsm.OK {
				t.Fatalf("refused: %+v", result.Verdicts[0])
			}
			if r1, _ := next.Replica("r1"); r1.KeyID() != ledger.Hash(rotationKey().ID()) {
				t.Errorf("r1 has the key %s", r1.KeyID())
			}
			if got := verified.Load(); got != 1 {
				t.Errorf("verified %d times, want once", got)
			}
		})
	}
}

// A proof that does not hold is never taken for one that does, however often it is
// asked for, nor one for another generation.
func TestPossessionIsRefused(t *testing.T) {
	state := rotating(t)
	for name, r := range map[string]rotation{
		"another key's":        {prover: keys.FromSeed([32]byte{11})},
		"another generation's": {prover: rotationKey(), generation: 1},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifier(Limits{}.withDefaults())
			verified := counted(v)
			c, data := ordered(t, r.command(t, state))
			for range 2 { // the second time, what the first one remembered is there
				if verdicts := fsm.Admit(state, c, v.newChecked(1)); verdicts[0].Code != fsm.BadProof {
					t.Errorf("admitted with %+v", verdicts[0])
				}
				all := v.ahead(state, []*ledger.Command{c}, func(int) []byte { return data })
				if _, result := fsm.Apply(state, c, all); result.Verdicts[0].Code != fsm.BadProof {
					t.Errorf("applied with %+v", result.Verdicts[0])
				}
			}
			if got := verified.Load(); got != 6 {
				t.Errorf("verified %d times, want each of 6", got)
			}
			if len(v.possessions.held) != 0 {
				t.Error("a proof that does not hold is remembered")
			}
		})
	}
}

// A recovery between the check and Apply opens a generation, in which the proof of the
// former one is verified anew, and does not hold.
func TestPossessionOfAnotherGenerationIsVerifiedAnew(t *testing.T) {
	state := rotating(t)
	v := newVerifier(Limits{}.withDefaults())
	verified := counted(v)
	made := rotation{prover: rotationKey()}
	c, data := ordered(t, made.command(t, state))
	all := v.ahead(state, []*ledger.Command{c}, func(int) []byte { return data })
	body, message := made.body(state)
	if !all.Possesses(body.Public, message, body.Proof) || verified.Load() != 1 {
		t.Fatalf("verified %d times before the recovery, want once", verified.Load())
	}
	_, later := rotation{prover: rotationKey(), generation: 1}.body(state)
	if bytes.Equal(message, later) {
		t.Fatal("both generations want one message")
	}
	if all.Possesses(body.Public, later, body.Proof) {
		t.Error("the proof of generation 0 holds in generation 1")
	}
	if got := verified.Load(); got != 2 {
		t.Errorf("verified %d times, want again for the other generation", got)
	}
	other := keys.FromSeed([32]byte{12}).Public().Bytes()
	for _, wrong := range [][3][]byte{{other, message, body.Proof}, {body.Public, message, append(slices.Clone(body.Proof), 0)}, {append(slices.Clone(body.Public), message...), nil, body.Proof}, {nil, nil, nil}} {
		if all.Possesses(wrong[0], wrong[1], wrong[2]) {
			t.Errorf("a proof of %d, %d and %d bytes is taken", len(wrong[0]), len(wrong[1]), len(wrong[2]))
		}
	}
}

// What is told apart is told apart by where one part ends, too.
func TestPossessionIDKeepsPartsApart(t *testing.T) {
	seen := map[ledger.Hash]int{}
	for i, parts := range [][3]string{{"ab", "c", "d"}, {"a", "bc", "d"}, {"a", "b", "cd"}, {"abcd", "", ""}, {"", "abcd", ""}, {"", "", "abcd"}} {
		id := possessionID([]byte(parts[0]), []byte(parts[1]), []byte(parts[2]))
		if other, known := seen[id]; known {
			t.Errorf("%d is known as %d", i, other)
		}
		seen[id] = i
	}
}

// However many hold, so many are remembered: the newest. One that was forgotten is
// verified again.
func TestPossessionsAreBounded(t *testing.T) {
	p := newPossessions()
	var verified atomic.Int64
	p.verify = func(_, _, _ []byte) bool { verified.Add(1); return true }
	name := func(i int) []byte { return fmt.Append(nil, i) }
	const over = 100
	var wg sync.WaitGroup
	for part := range 4 { // for the race detector
		wg.Go(func() {
			for i := part; i < maxPossessions; i += 4 {
				p.check(name(i), nil, nil)
			}
		})
	}
	wg.Wait()
	for i := maxPossessions; i < maxPossessions+over; i++ {
		p.check(name(i), nil, nil)
	}
	if len(p.held) != maxPossessions || len(p.ring) != maxPossessions {
		t.Errorf("%d are remembered, in %d places", len(p.held), len(p.ring))
	}
	before := verified.Load()
	for i := maxPossessions; i < maxPossessions+over; i++ {
		p.check(name(i), nil, nil)
	}
	if got := verified.Load() - before; got != 0 {
		t.Errorf("%d of the newest were verified again", got)
	}
	before = verified.Load()
	for i := range maxPossessions {
		p.check(name(i), nil, nil)
	}
	if got := verified.Load() - before; got < over {
		t.Errorf("only %d of the oldest were verified again, want %d at least", got, over)
	}
}
