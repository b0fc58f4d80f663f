package replica

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

func sampleCosigned() cosigned {
	k := keys.FromSeed([32]byte{7})
	head := ledger.Head{Origin: "example.com/x", Size: 9, Root: ledger.Hash{4}}
	return cosigned{head, ledger.Cosign(ledger.Hash{7}, k, k.Cosigner44(), "r1", head, 1_700_000_000)}
}

func FuzzParseCosigned(f *testing.F) {
	s := sampleCosigned()
	b, err := canon.Marshal(s.message())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := parseCosigned("example.com/x", in)
		if err != nil {
			return
		}
		if again, err := canon.Marshal(s.message()); err != nil || !bytes.Equal(again, in) {
			t.Fatalf("encodes to other bytes: %v", err)
		}
	})
}

func FuzzParseCosignatures(f *testing.F) {
	b, err := canon.Marshal([]cosignMessage{sampleCosigned().message()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := parseCosignatures("example.com/x", in)
		if err == nil && len(list) > 2*ledger.MaxReplicas {
			t.Fatal("too many")
		}
	})
}

func FuzzParseFramed(f *testing.F) {
	f.Add(frame([][]byte{[]byte("a"), []byte("bc")}))
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := parseFramed(in, 1<<16, 64)
		if err == nil && !bytes.Equal(frame(list), in) {
			t.Fatal("frames to other bytes")
		}
	})
}

func FuzzCommandStamp(f *testing.F) {
	for _, c := range []ledger.Command{
		{Kind: ledger.CommandTick, Stamp: 5}, {Kind: ledger.CommandSeal, Stamp: 1 << 40},
		{Kind: ledger.CommandStatements, Stamp: 300, Statements: [][]byte{[]byte("x")}},
	} {
		f.Add(c.Encode())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := ledger.ParseCommand(in)
		if err != nil {
			return
		}
		if stamp, err := commandStamp(in); err != nil || stamp != c.Stamp {
			t.Fatalf("stamp %d, %v; the command's is %d", stamp, err, c.Stamp)
		}
	})
}

func FuzzParseChecked(f *testing.F) {
	d := files{dir: f.TempDir()}
	if err := d.replaceChecked(headFile, headRecord{Size: 3}); err != nil {
		f.Fatal(err)
	}
	b, err := d.read(headFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n00000000\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var head headRecord
		if parseChecked(headFile, in, &head) != nil {
			return
		}
		if again, err := canon.Marshal(head); err != nil || !bytes.HasPrefix(in, again) {
			t.Fatalf("encodes to other bytes: %v", err)
		}
	})
}

func FuzzParseSet(f *testing.F) {
	b, err := canon.Marshal(replicaSet{Checkpoint: "x", Links: [][]byte{}, Records: []*ledger.StateProof{}, Seal: []byte("s"), SealProof: []ledger.Hash{{1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		// Nothing proves itself against a genesis that does not exist.
		if found, _, err := parseSet([]byte("no genesis"), ledger.Hash{}, in); err == nil || found != nil {
			t.Fatal("an unproven set was taken")
		}
	})
}
