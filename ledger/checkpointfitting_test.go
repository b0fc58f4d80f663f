package ledger

import (
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger/keys"
)

// A replica that lies chooses its keys, and key ids have four bytes: whatever of its lines
// would make the note unreadable, or fail under one of two authorities, is left out.
func TestCheckpointTakesOnlyWhatFits(t *testing.T) {
	head := Head{Origin: "ledger.example/fit", Size: 9, Root: Hash{1}}
	branch := Hash{7}
	seat := func(key *keys.PrivateKey, c *keys.Cosigner44) AuthorityReplica {
		return AuthorityReplica{Name: "r1", Operator: "a", Public: key.Public().Bytes(), Cosigner: c.Public()}
	}
	certifier := func(r AuthorityReplica) *Certifier {
		v, err := newReplicaVerifier(branch, head.Origin, r)
		if err != nil {
			t.Fatal(err)
		}
		return &Certifier{origin: head.Origin, threshold: 1, replicas: []replicaVerifier{v}}
	}
	old, next := keys.FromSeed([keys.SeedSize]byte{1}), keys.FromSeed([keys.SeedSize]byte{2})
	first := Cosign(branch, old, old.Cosigner44(), "r1", head, 5)
	own := Cosign(branch, next, next.Cosigner44(), "r1", head, 5)
	kept := Cosign(branch, next, old.Cosigner44(), "r1", head, 5)
	twin := own
	twin.ID65 = first.ID65
	one := own
	one.ID65 = one.ID44
	crossed := own
	crossed.ID65 = first.ID44
	under := []*Certifier{certifier(seat(old, old.Cosigner44())), certifier(seat(next, next.Cosigner44()))}
	for _, c := range []struct {
		what string
		s    Cosignature
		want int
	}{
		{"another key with another cosigner", own, 2},
		{"another key with the same cosigner", kept, 1},
		{"another key under the first one's id", twin, 1},
		{"one id for both lines", one, 1},
		{"the id of the other kind of line", crossed, 1},
	} {
		checkpoint := &Checkpoint{Head: head}
		checkpoint.AddFitting(first, under...)
		checkpoint.AddFitting(c.s, under...)
		if got := len(checkpoint.Cosignatures); got != c.want {
			t.Errorf("%s: %d cosignatures, want %d", c.what, got, c.want)
		}
		if _, err := ParseCheckpoint(checkpoint.Note()); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if _, err := under[0].Certifies(checkpoint); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// Lines of the log's own keys whose ids are the same are not put into one note.
func TestDistinctLines(t *testing.T) {
	first := noteLine("ledger.example/fit", [4]byte{1}, []byte("first"))
	same := noteLine("ledger.example/fit", [4]byte{1}, []byte("second"))
	other := noteLine("ledger.example/fit", [4]byte{2}, []byte("third"))
	if got := DistinctLines([]string{first, same, other}); !slices.Equal(got, []string{first, other}) {
		t.Errorf("%v", got)
	}
}
