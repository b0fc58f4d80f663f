package agent

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

var outboxKey = keys.FromSeed([keys.SeedSize]byte{5})

// said is a signed statement, one for each seq.
func said(t interface{ Fatal(...any) }, epoch, seq uint64) *ledger.Statement {
	envelope, err := ledger.Sign(outboxKey, ledger.Payload{Author: "node", Epoch: &epoch, Seq: &seq, Type: ledger.TypeObserve},
		ledger.Observe{Kind: ledger.NodeUp, Subject: "other", Counter: seq + 1})
	if err != nil {
		t.Fatal(err)
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func idsOf(kept []gossip.Waiting) []ledger.Hash {
	ids := make([]ledger.Hash, len(kept))
	for i, k := range kept {
		ids[i] = k.ID
	}
	return ids
}

// Wherever it crashes, an outbox has afterwards all that was added and not done
// with, and of what was under way it has or has not.
func TestOutboxSurvivesEveryCrash(t *testing.T) {
	var statements []*ledger.Statement
	for i := range uint64(24) {
		statements = append(statements, said(t, 3, i))
	}
	crashes := 0
	rapid.Check(t, func(t *rapid.T) {
		d := newCrashDisk(rapid.Uint64().Draw(t, "seed"))
		want := map[ledger.Hash]bool{}   // certainly there
		unsure := map[ledger.Hash]bool{} // under way when it crashed
		for range rapid.IntRange(1, 6).Draw(t, "lives") {
			d = d.again()
			o, err := openOutbox(d, "outbox")
			if err != nil {
				t.Fatal(err)
			}
			have := idsOf(o.Waiting())
			for id := range want {
				if !unsure[id] && !slices.Contains(have, id) {
					t.Fatalf("%s is lost", id)
				}
			}
			for _, id := range have {
				if !want[id] && !unsure[id] {
					t.Fatalf("%s is back", id)
				}
			}
			want, unsure = map[ledger.Hash]bool{}, map[ledger.Hash]bool{}
			for _, id := range have {
				want[id] = true
			}
			d.steps = rapid.IntRange(-1, 9).Draw(t, "crash after")
			for range rapid.IntRange(0, 12).Draw(t, "steps") {
				st := statements[rapid.IntRange(0, len(statements)-1).Draw(t, "statement")]
				if rapid.Bool().Draw(t, "done") {
					if err = o.Done(st.ID); err == nil {
						delete(want, st.ID)
						continue
					}
				} else if err = o.Add(st, gossip.UrgentUp); err == nil {
					want[st.ID] = true
					continue
				}
				if !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				unsure[st.ID] = true
				crashes++
				break
			}
		}
	})
	if crashes == 0 {
		t.Error("it never crashed")
	}
}

// What is damaged is dropped with what follows; what stands before stays.
func TestOutboxDropsDamage(t *testing.T) {
	whole := newCrashDisk(1)
	o, err := openOutbox(whole, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	var ends []int
	for i := range uint64(3) {
		if err := o.Add(said(t, 1, i), gossip.UrgentDown); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, len(whole.files["outbox"]))
	}
	for at := 0; at < ends[2]; at += 97 {
		d := newCrashDisk(1)
		d.files["outbox"] = slices.Clone(whole.files["outbox"])
		d.files["outbox"][at] ^= 0x20
		o, err := openOutbox(d, "outbox")
		if err != nil {
			t.Fatal(err)
		}
		before := 0
		for before < len(ends) && ends[before] <= at {
			before++
		}
		if got := len(o.Waiting()); got != before || o.Dropped() == 0 {
			t.Errorf("damaged at %d: %d of %d statements stay, %d bytes dropped", at, got, before, o.Dropped())
		}
		if err := o.Add(said(t, 1, 9), gossip.UrgentUp); err != nil {
			t.Fatal(err)
		}
		if o, err = openOutbox(d, "outbox"); err != nil || len(o.Waiting()) != before+1 {
			t.Errorf("damaged at %d: what is added then does not stay (%v)", at, err)
		}
	}
}

func TestOutboxIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o, err := OpenOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	o.disk = newCrashDisk(1) // a thousand syncs are slow
	for i := range uint64(gossip.MaxOutboxItems + 20) {
		if err := o.Add(said(t, i/100, i), gossip.UrgentRelay); err != nil && !errors.Is(err, gossip.ErrOutboxFull) {
			t.Fatal(err)
		}
	}
	if n := len(o.Waiting()); n > gossip.MaxOutboxItems || o.live() > 64*gossip.MaxOutboxItems+gossip.MaxOutboxBytes {
		t.Errorf("%d statements, %d bytes", n, o.live())
	}
	urgent := said(t, 9, 10_000)
	if err := o.Add(urgent, gossip.UrgentEvidence); err != nil {
		t.Fatal(err)
	}
	if first := o.Waiting()[0]; first.ID != urgent.ID {
		t.Error("what is urgent is not first")
	}
	for i := range uint64(2_000) { // the file does not grow for ever
		st := said(t, 9, 20_000+i%50)
		if err := errors.Join(o.Add(st, gossip.UrgentDown), o.Done(st.ID)); err != nil {
			t.Fatal(err)
		}
		if size := len(o.disk.(*crashDisk).files["outbox"]); size > 2*gossip.MaxOutboxBytes+2*outboxSlack {
			t.Fatalf("the file has %d bytes", size)
		}
		if i%400 != 0 {
			continue
		}
		again, err := openOutbox(o.disk, "outbox")
		if err != nil || !slices.Equal(idsOf(again.Waiting()), idsOf(o.Waiting())) {
			t.Fatalf("opened again it has %d, not %d (%v)", len(again.Waiting()), len(o.Waiting()), err)
		}
	}
	if err := o.Expire(100, func(ledger.Hash) bool { return false }); err != nil || len(o.Waiting()) != 0 {
		t.Errorf("%d statements outlive their epochs (%v)", len(o.Waiting()), err)
	}
}

// What could not be put in the place of another is not there, neither now nor after a
// restart of what is written later.
func TestOutboxRenewsWholeOrNotAtAll(t *testing.T) {
	d := newCrashDisk(1)
	o, err := openOutbox(d, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	old, next, other := said(t, 1, 0), said(t, 3, 0), said(t, 3, 1)
	if err := o.Add(old, gossip.UrgentUp); err != nil {
		t.Fatal(err)
	}
	d.steps = 1 // of which all may be there
	if err := o.Renew(old.ID, next, gossip.UrgentUp); err == nil {
		t.Fatal("a disk that is gone keeps it")
	}
	if got := idsOf(o.Waiting()); !slices.Equal(got, []ledger.Hash{old.ID}) {
		t.Errorf("after a failure it has %v", got)
	}
	d.steps = -1
	if err := errors.Join(o.Add(other, gossip.UrgentUp), o.Miss(old.ID)); err != nil {
		t.Fatal(err)
	}
	again, err := openOutbox(d, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Waiting(); len(got) != 2 || got[0].ID != old.ID || !got[0].Missed || got[1].ID != other.ID || got[1].Missed {
		t.Errorf("opened again it has %v", got)
	}
	if err := again.Renew(old.ID, next, gossip.UrgentUp); err != nil {
		t.Fatal(err)
	}
	if again, err = openOutbox(d, "outbox"); err != nil || !slices.Equal(idsOf(again.Waiting()), []ledger.Hash{other.ID, next.ID}) {
		t.Errorf("with room it has %v (%v)", idsOf(again.Waiting()), err)
	}
}

// A disk that is full for a while leaves no half record in the way of what comes
// after.
func TestOutboxAfterAFullDisk(t *testing.T) {
	d := newCrashDisk(3)
	o, err := openOutbox(d, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	d.full = true
	if err := o.Add(said(t, 1, 0), gossip.UrgentDown); err == nil {
		t.Fatal("a full disk keeps it")
	}
	d.files["outbox"] = []byte{0, 0, 1} // what it had room for
	d.full = false
	if err := o.Add(said(t, 1, 1), gossip.UrgentDown); err != nil {
		t.Fatal(err)
	}
	if o, err = openOutbox(d, "outbox"); err != nil || len(o.Waiting()) != 2 {
		t.Errorf("%d statements are there (%v)", len(o.Waiting()), err)
	}
}

func FuzzOutbox(f *testing.F) {
	d := newCrashDisk(1)
	o, _ := openOutbox(d, "outbox")
	st := said(f, 1, 1)
	_ = o.Add(st, gossip.UrgentDown)
	_ = o.Done(st.ID)
	f.Add(d.files["outbox"])
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newCrashDisk(1)
		d.files["outbox"] = b
		o, err := openOutbox(d, "outbox")
		if err != nil {
			t.Fatal(err)
		}
		again, err := openOutbox(d, "outbox")
		if err != nil || again.Dropped() != 0 || len(again.Waiting()) != len(o.Waiting()) {
			t.Fatalf("opened twice: %d and %d statements (%v)", len(o.Waiting()), len(again.Waiting()), err)
		}
	})
}

// Relays that nobody needs keep no evidence out.
func TestEvidenceIsRelayedThroughACrowd(t *testing.T) {
	s := &sender{wake: make(chan struct{}, 1)}
	plain := said(t, 3, 0)
	evidence := &ledger.Statement{Payload: ledger.Payload{Type: ledger.TypeEvidence}}
	mine := &outgoing{statement: plain, own: true}
	s.add(mine)
	relays := make([]*outgoing, relayQueue)
	for i := range relays {
		relays[i] = &outgoing{statement: plain}
		s.add(relays[i])
	}
	s.add(&outgoing{statement: plain})
	if !slices.Equal(s.queue, append([]*outgoing{mine}, relays...)) {
		t.Fatalf("%d wait, or not those that came first", len(s.queue))
	}
	plea := &outgoing{statement: evidence}
	s.add(plea)
	want := append([]*outgoing{mine}, relays[:relayQueue-1]...)
	if want = append(want, plea); !slices.Equal(s.queue, want) {
		t.Errorf("evidence did not take the place of the newest relay: %d wait", len(s.queue))
	}
	for range 2 * relayQueue {
		s.add(&outgoing{statement: evidence})
	}
	if len(s.queue) != 1+relayQueue || s.queue[0] != mine || s.queue[1] != plea {
		t.Errorf("%d wait", len(s.queue))
	}
}
