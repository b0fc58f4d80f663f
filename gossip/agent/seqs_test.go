package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
)

var testKey = ledger.Hash{7}

// created is a disk with the record of a new key.
func created(t interface{ Fatal(...any) }, d *crashDisk, machine string) *Seqs {
	s := newSeqs(d, "seqs", testKey, machine)
	if err := s.write(s.record); err != nil {
		t.Fatal(err)
	}
	return s
}

type given struct {
	epoch uint64
	space ledger.SeqSpace
	seq   uint64
}

// In any history of crashes, boots, restored copies, lost and damaged records, and
// full disks, no seq is given twice, as long as the head that tells the epoch is
// fresh, and a copy is restored together with another boot.
func TestNoSeqIsGivenTwice(t *testing.T) {
	lives, silences := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		d := newCrashDisk(rapid.Uint64().Draw(t, "seed"))
		created(t, d, "boot-0")
		used := map[given]bool{}
		epoch, boot, copied := uint64(5), 0, map[string][]byte(nil)
		for range rapid.IntRange(1, 12).Draw(t, "lives") {
			lives++
			switch rapid.SampledFrom([]string{"restart", "restart", "boot", "copy", "restore", "lose", "damage"}).Draw(t, "between") {
			case "boot":
				boot++
			case "copy":
				copied = map[string][]byte{"seqs": slices.Clone(d.files["seqs"])}
			case "restore":
				if copied != nil {
					boot++
					d.files = map[string][]byte{"seqs": slices.Clone(copied["seqs"])}
				}
			case "lose":
				delete(d.files, "seqs")
			case "damage":
				if b := d.files["seqs"]; len(b) > 0 {
					b = slices.Clone(b)
					b[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 1
					d.files["seqs"] = b
				}
			}
			d = d.again()
			s, err := openSeqs(d, "seqs", testKey, "boot-"+string(rune('0'+boot)))
			if err != nil {
				t.Fatal(err)
			}
			d.steps = rapid.IntRange(-1, 6).Draw(t, "crash after")
			d.full = rapid.IntRange(0, 9).Draw(t, "full") == 0
			for range rapid.IntRange(0, 8).Draw(t, "epochs and bursts") {
				_ = s.Fresh(epoch)
				space := ledger.SeqSpace(rapid.IntRange(0, 1).Draw(t, "space"))
				for range rapid.IntRange(1, 40).Draw(t, "seqs") {
					seq, err := s.Next(epoch, space, 100)
					var silent *SilentError
					if errors.As(err, &silent) {
						silences++
						if silent.Until > epoch+2 {
							t.Fatalf("in epoch %d: %s", epoch, err)
						}
					}
					if err != nil {
						break
					}
					if seq >= 100 {
						t.Fatalf("seq %d of a quota of 100", seq)
					}
					g := given{epoch, space, seq}
					if used[g] {
						t.Fatalf("given twice: %+v", g)
					}
					used[g] = true
				}
				if rapid.Bool().Draw(t, "next epoch") {
					epoch++
				}
			}
		}
	})
	if lives == 0 || silences == 0 {
		t.Errorf("%d lives, %d times silent: nothing was tried", lives, silences)
	}
}

// Whatever an ack or an accusation is of, the record covers it after a crash.
func TestTicksOutliveACrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newCrashDisk(rapid.Uint64().Draw(t, "seed"))
		s := created(t, d, "boot")
		d.steps = rapid.IntRange(1, 8).Draw(t, "crash after")
		var acked, accused, tick uint64
		for range 40 {
			tick += rapid.Uint64Range(0, 5).Draw(t, "ticks")
			if s.Vow(ledger.Ack{Tick: tick}, 10_000) == nil {
				acked = max(acked, tick)
			}
			if rapid.IntRange(0, 4).Draw(t, "accuse") == 0 && s.Vow(ledger.Observe{Kind: ledger.NodeDown, To: tick}, 10_000) == nil {
				accused = max(accused, tick)
			}
		}
		s, err := openSeqs(d.again(), "seqs", testKey, "boot")
		if err != nil {
			t.Fatal(err)
		}
		if a, b := s.Ticks(20_000); a != 0 || b != 0 {
			t.Fatalf("%d and %d in ticks of another length", a, b)
		}
		if a, b := s.Ticks(10_000); a < acked || b < accused {
			t.Fatalf("the record has %d and %d, signed was %d and %d", a, b, acked, accused)
		}
	})
}

func TestDoubtIsSilence(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(d *crashDisk)
		boot  string
		until uint64 // first epoch in which something is signed, when 9 is in force
	}{
		"whole":     {func(*crashDisk) {}, "boot", 9},
		"booted":    {func(*crashDisk) {}, "another", 10},
		"no boot":   {func(*crashDisk) {}, "", 10},
		"lost":      {func(d *crashDisk) { delete(d.files, "seqs") }, "boot", 11},
		"empty":     {func(d *crashDisk) { d.files["seqs"] = nil }, "boot", 11},
		"damaged":   {func(d *crashDisk) { d.files["seqs"][3] ^= 4 }, "boot", 11},
		"other key": {func(d *crashDisk) { s := newSeqs(d, "seqs", ledger.Hash{8}, "boot"); _ = s.write(s.record) }, "boot", 11},
	} {
		t.Run(name, func(t *testing.T) {
			d := newCrashDisk(1)
			s := created(t, d, "boot")
			if _, err := s.Next(9, ledger.SpaceMain, 100); err != nil {
				t.Fatal(err)
			}
			c.spoil(d)
			s, err := openSeqs(d, "seqs", testKey, c.boot)
			if err != nil {
				t.Fatal(err)
			}
			var silent *SilentError
			if _, err := s.Next(9, ledger.SpaceMain, 100); c.until > 9 && (!errors.As(err, &silent) || silent.Until != 0) {
				t.Fatalf("before a head is fresh: %v", err)
			}
			if err := s.Fresh(9); err != nil {
				t.Fatal(err)
			}
			// The silence outlives further restarts.
			if s, err = openSeqs(d, "seqs", testKey, c.boot); err != nil {
				t.Fatal(err)
			}
			if err := s.Fresh(9); err != nil {
				t.Fatal(err)
			}
			for epoch := uint64(9); epoch < 12; epoch++ {
				_, err := s.Next(epoch, ledger.SpaceMain, 100)
				if epoch < c.until && !errors.As(err, &silent) || epoch >= c.until && err != nil {
					t.Errorf("in epoch %d: %v", epoch, err)
				}
			}
		})
	}
}

// A copy that is restored without a boot is found out by what others have seen.
func TestSeenIsSilence(t *testing.T) {
	d := newCrashDisk(1)
	s := created(t, d, "boot")
	if _, err := s.Next(9, ledger.SpaceMain, 100); err != nil {
		t.Fatal(err)
	}
	if err := s.Seen(9, ledger.SpaceMain, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Seen(8, ledger.SpaceMain, 70); err != nil {
		t.Fatal(err)
	}
	if err := s.Trouble(9); err != nil {
		t.Fatalf("its own statements silence it: %v", err)
	}
	if err := s.Seen(9, ledger.SpaceMain, seqBlockMain); err != nil {
		t.Fatal(err)
	}
	_ = s.Fresh(9)
	for epoch := uint64(9); epoch < 13; epoch++ {
		if err := s.Trouble(epoch); (err == nil) != (epoch >= 11) {
			t.Errorf("in epoch %d: %v", epoch, err)
		}
	}
}

func TestSeqsOnADisk(t *testing.T) {
	path, memory := filepath.Join(t.TempDir(), "seqs"), t.TempDir()
	machine := Machine()
	if machine == "" {
		machine = "unknown"
	}
	if err := CreateSeqs(path, memory, testKey, machine); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSeqs(path, memory, testKey, machine)
	if err != nil {
		t.Fatal(err)
	}
	for want := range uint64(40) {
		if seq, err := s.Next(1, ledger.SpaceMain, 41); err != nil || seq != want {
			t.Fatalf("seq %d, %v; want %d", seq, err, want)
		}
	}
	if left := s.Left(1, ledger.SpaceMain, 41); left != 1 {
		t.Errorf("%d left", left)
	}
	if _, err := s.Next(1, ledger.SpaceMain, 40); !errors.Is(err, ErrQuota) {
		t.Errorf("beyond the quota: %v", err)
	}
	if err := CreateSeqs(path, memory, testKey, machine); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenSeqs(path, memory, testKey, machine); err != nil {
		t.Fatal(err)
	}
	if seq, err := s.Next(1, ledger.SpaceMain, 100); err != nil || seq < 40 {
		t.Errorf("after a restart: seq %d, %v", seq, err)
	}
	if err := os.WriteFile(path, []byte("not a record"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenSeqs(path, memory, testKey, machine); err != nil {
		t.Fatal(err)
	}
	if err := s.Trouble(1); err == nil {
		t.Error("a damaged record is believed")
	}
}

// An image of the disk that is put back without a boot is found by what the
// running system remembers, and so is a copy of which it remembers nothing.
func TestSeqsOfAnImage(t *testing.T) {
	for name, c := range map[string]struct {
		image  bool // the record of before is put back
		forget bool // what the system remembers is gone
		moved  bool // the record is opened elsewhere
		silent bool
	}{
		"a restart":           {},
		"an image":            {image: true, silent: true},
		"nothing remembered":  {forget: true, silent: true},
		"a copy elsewhere":    {moved: true, silent: true},
		"an image and a boot": {image: true, forget: true, silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			path, memory := filepath.Join(t.TempDir(), "seqs"), t.TempDir()
			if err := CreateSeqs(path, memory, testKey, "boot"); err != nil {
				t.Fatal(err)
			}
			open := func(path string) *Seqs {
				s, err := OpenSeqs(path, memory, testKey, "boot")
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := open(path)
			if _, err := s.Next(5, ledger.SpaceProbe, 4_096); err != nil {
				t.Fatal(err)
			}
			image, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			last := uint64(0)
			for range 3 * seqBlockProbe {
				if last, err = s.Next(5, ledger.SpaceProbe, 4_096); err != nil {
					t.Fatal(err)
				}
			}
			if c.image {
				if err := os.WriteFile(path, image, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.forget {
				if err := os.RemoveAll(memory); err != nil {
					t.Fatal(err)
				}
			}
			if c.moved {
				if err := os.Rename(path, path+"-copy"); err != nil {
					t.Fatal(err)
				}
				path += "-copy"
			}
			s = open(path)
			if err := s.Fresh(5); err != nil {
				t.Fatal(err)
			}
			seq, err := s.Next(5, ledger.SpaceProbe, 4_096)
			var silent *SilentError
			if c.silent != errors.As(err, &silent) {
				t.Fatalf("seq %d, %v", seq, err)
			}
			if !c.silent && seq <= last {
				t.Errorf("seq %d after %d", seq, last)
			}
			if seq, err := s.Next(7, ledger.SpaceProbe, 4_096); err != nil || seq != 0 {
				t.Errorf("two epochs later: seq %d, %v", seq, err)
			}
		})
	}
}

// A doubt holds though the disk can't be written, and is not forgotten when it can
// be again.
func TestDoubtOnAFullDisk(t *testing.T) {
	full := newCrashDisk(1)
	full.full = true
	s, err := openSeqs(full, "seqs", testKey, "boot")
	if s == nil || err == nil {
		t.Fatalf("no record, on a full disk: %v", err)
	}
	if err := s.Trouble(1); err == nil {
		t.Error("it would sign")
	}
	for name, find := range map[string]func(s *Seqs, m memory) error{
		"a statement is shown that the record lacks": func(s *Seqs, _ memory) error { return s.Seen(5, ledger.SpaceMain, 900) },
		"the system remembers more": func(s *Seqs, m memory) error {
			return errors.Join(m.write(1_000), s.recall(m))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newCrashDisk(1)
			s, err := openSeqs(d, "seqs", testKey, "boot") // silent for two epochs: there was none
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Fresh(1); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Next(5, ledger.SpaceMain, 4_096); err != nil {
				t.Fatal(err)
			}
			d.full = true
			if err := find(s, memory(filepath.Join(t.TempDir(), "memory"))); err == nil {
				t.Fatal("a full disk keeps it")
			}
			var silent *SilentError
			if _, err := s.Next(5, ledger.SpaceMain, 4_096); !errors.As(err, &silent) {
				t.Errorf("on the full disk: %v", err)
			}
			d.full = false
			if _, err := s.Next(5, ledger.SpaceMain, 4_096); !errors.As(err, &silent) {
				t.Errorf("when there is room again: %v", err)
			}
			if err := s.Fresh(5); err != nil {
				t.Fatal(err)
			}
			for epoch := uint64(5); epoch < 8; epoch++ {
				if _, err := s.Next(epoch, ledger.SpaceMain, 4_096); (err == nil) != (epoch == 7) {
					t.Errorf("in epoch %d: %v", epoch, err)
				}
			}
		})
	}
}
