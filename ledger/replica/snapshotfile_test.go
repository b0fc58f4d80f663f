package replica

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

func sampleSnapshot() *snapshotContent {
	var f archive.Frontier
	for i := range 5 {
		f.Append(tlog.Hash{byte(i)})
	}
	return &snapshotContent{
		genesis: ledger.Hash{1, 2}, links: [][]byte{[]byte("one"), []byte("two")}, checkpoint: []byte("note"),
		frontier: f, seal: []byte("seal"),
		records:  []snapshotRecord{{"a", []byte("1")}, {"b", bytes.Repeat([]byte("x"), recordChunkBytes)}, {"c", []byte{}}},
		commands: [][]byte{[]byte("c1"), []byte("c2")},
	}
}

func TestSnapshotRoundTrip(t *testing.T) {
	var b bytes.Buffer
	want := sampleSnapshot()
	if err := want.write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := readSnapshot(bytes.NewReader(b.Bytes()), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v", got)
	}
	if _, err := readSnapshot(bytes.NewReader(b.Bytes()), int64(b.Len()-1)); err == nil {
		t.Fatal("read beyond the limit")
	}
}

// Every flipped bit and every cut is found, and its place is told.
func TestSnapshotDamage(t *testing.T) {
	c := sampleSnapshot()
	c.records = c.records[:1]
	var b bytes.Buffer
	if err := c.write(&b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for i := range whole {
		broken := bytes.Clone(whole)
		broken[i] ^= 0x10
		var damage *SnapshotError
		if _, err := readSnapshot(bytes.NewReader(broken), 1<<30); !errors.As(err, &damage) {
			t.Fatalf("bit flipped at %d: %v", i, err)
		} else if damage.Offset > int64(i)+8 && damage.Reason == "checksum differs" {
			t.Fatalf("bit flipped at %d: damage placed at %d", i, damage.Offset)
		}
		if _, err := readSnapshot(bytes.NewReader(whole[:i]), 1<<30); !errors.As(err, &damage) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := readSnapshot(bytes.NewReader(append(bytes.Clone(whole), 0)), 1<<30); err == nil {
		t.Fatal("bytes after the end were taken")
	}
}

func FuzzReadSnapshot(f *testing.F) {
	c := sampleSnapshot()
	c.records = c.records[:1]
	var b bytes.Buffer
	if err := c.write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, in []byte) {
		content, err := readSnapshot(bytes.NewReader(in), 1<<20)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := content.write(&again); err != nil {
			t.Fatal(err)
		}
		back, err := readSnapshot(bytes.NewReader(again.Bytes()), 1<<20)
		if err != nil || !reflect.DeepEqual(back, content) {
			t.Fatalf("written again it reads differently: %v", err)
		}
	})
}
