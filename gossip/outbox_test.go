package gossip

import (
	"cmp"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
)

// However it is filled and emptied, an outbox gives the most urgent first and the
// oldest first of equal urgency, keeps within its bounds, and lets nothing give
// way but the newest of what is less urgent: it does as a naive list does.
func TestOutboxIsAnOrderedList(t *testing.T) {
	envelope := make([]byte, 36_000)
	rapid.Check(t, func(t *rapid.T) {
		type item struct {
			Waiting
			age int
		}
		var o Outbox
		var twin []item
		age := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				if len(twin) == 0 {
					continue
				}
				at := rapid.IntRange(0, len(twin)-1).Draw(t, "which")
				id := twin[at].ID
				twin = slices.Delete(twin, at, at+1)
				if !o.Drop(id) || o.Drop(id) {
					t.Fatal("it does not know what it has")
				}
				continue
			}
			for range rapid.SampledFrom([]int{1, 5, 100}).Draw(t, "burst") {
				age++
				w := Waiting{ID: ledger.Hash{byte(age), byte(age >> 8)}, Urgency: Urgency(rapid.IntRange(0, 4).Draw(t, "urgency")),
					Envelope: envelope[:rapid.SampledFrom([]int{4_000, 36_000}).Draw(t, "bytes")]}
				var gone []ledger.Hash
				want := append(slices.Clone(twin), item{w, age})
				for len(want) > MaxOutboxItems || size(want, func(i item) int { return len(i.Envelope) }) > MaxOutboxBytes {
					worst := slices.MaxFunc(want, func(a, b item) int { return cmp.Or(cmp.Compare(a.Urgency, b.Urgency), cmp.Compare(a.age, b.age)) })
					if worst.age == age {
						want = nil
						break
					}
					gone = append(gone, worst.ID)
					want = slices.DeleteFunc(want, func(i item) bool { return i.age == worst.age })
				}
				got, err := o.Put(w)
				if want == nil {
					if !errors.Is(err, ErrOutboxFull) {
						t.Fatalf("a statement of urgency %d found room: %v", w.Urgency, err)
					}
					continue
				}
				twin = want
				if err != nil || !slices.Equal(got, gone) {
					t.Fatalf("%d gave way, not %d: %v", len(got), len(gone), err)
				}
			}
		}
		slices.SortFunc(twin, func(a, b item) int { return cmp.Or(cmp.Compare(a.Urgency, b.Urgency), cmp.Compare(a.age, b.age)) })
		same := slices.EqualFunc(o.Items(), twin, func(a Waiting, b item) bool { return a.ID == b.ID })
		if !same || o.Len() != len(twin) || o.Bytes() != size(twin, func(i item) int { return len(i.Envelope) }) {
			t.Fatalf("%d statements of %d bytes, not %d", o.Len(), o.Bytes(), len(twin))
		}
	})
}

func size[T any](list []T, of func(T) int) (n int) {
	for _, i := range list {
		n += of(i)
	}
	return n
}

func TestOutboxKnowsWhatIsLate(t *testing.T) {
	var o Outbox
	for epoch := range uint64(5) {
		if _, err := o.Put(Waiting{ID: ledger.Hash{byte(epoch)}, Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.Put(Waiting{ID: ledger.Hash{3}, Epoch: 3}); err != nil || o.Len() != 5 {
		t.Errorf("one statement stands twice: %v", err)
	}
	if late := o.Late(4); !slices.Equal(late, []ledger.Hash{{0}, {1}, {2}}) {
		t.Errorf("in epoch 4 are late: %v", late)
	}
}

// Evidence is brought before accusations, those before what takes them back, our
// own words before those of others.
func TestUrgency(t *testing.T) {
	w := newWorld(4, 4)
	of := func(typ string, body any) *ledger.Statement {
		return parse(t, w.sign(t, "n-000-000", typ, 100, 7, body))
	}
	down := ledger.Observe{Counter: 1, Kind: ledger.NodeDown, Subject: "n-001-000", From: 1, To: 1}
	up := down
	up.Kind = ledger.NodeUp
	for want, st := range map[Urgency]*ledger.Statement{
		UrgentEvidence: of(ledger.TypeEvidence, ledger.Evidence{Kind: ledger.EvidenceFlood, Exhibits: [][]byte{{1}}}),
		UrgentDown:     of(ledger.TypeObserve, down),
		UrgentUp:       of(ledger.TypeObserve, up),
		UrgentAttest:   of(ledger.TypeAttest, ledger.Attest{Epochs: []ledger.AttestedEpoch{}}),
	} {
		if got := UrgencyOf(st, true); got != want {
			t.Errorf("our own %s has urgency %d, want %d", st.Payload.Type, got, want)
		}
		other := UrgentRelay
		if want == UrgentEvidence {
			other = UrgentEvidence
		}
		if got := UrgencyOf(st, false); got != other {
			t.Errorf("another's %s has urgency %d, want %d", st.Payload.Type, got, other)
		}
	}
}
