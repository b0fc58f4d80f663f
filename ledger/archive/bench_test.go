package archive

import (
	"bytes"
	"fmt"
	"testing"
)

// BenchmarkAppend is what the FSM's goroutine pays for an entry of 3 KiB; the syncs are not counted.
func BenchmarkAppend(b *testing.B) {
	a, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	entry := bytes.Repeat([]byte{7}, 3<<10)
	b.SetBytes(int64(len(entry)))
	for seq := uint64(0); b.Loop(); seq++ {
		if err := a.Append(seq, entry); err != nil {
			b.Fatal(err)
		}
		if seq%256 == 255 {
			b.StopTimer()
			if _, err := a.Sync(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAppendSync makes entries of 3 KiB durable on the temporary folder's file system, by batches.
func BenchmarkAppendSync(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch-%d", batch), func(b *testing.B) {
			a, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			entry := bytes.Repeat([]byte{7}, 3<<10)
			seq := uint64(0)
			for b.Loop() {
				for range batch {
					if err := a.Append(seq, entry); err != nil {
						b.Fatal(err)
					}
					seq++
				}
				if _, err := a.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(seq)/b.Elapsed().Seconds(), "entries/s")
			if err := a.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkAt500000 reads from a history of 500,000 entries.
func BenchmarkAt500000(b *testing.B) {
	const size = 500_000
	dir := b.TempDir()
	a, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for seq := range uint64(size) {
		if err := a.Append(seq, fmt.Appendf(nil, "entry %d", seq)); err != nil {
			b.Fatal(err)
		}
		if seq%10_000 == 0 {
			if _, err := a.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			a, err := Open(dir, Options{})
			if err != nil {
				b.Fatal(err)
			}
			if err := a.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	if a, err = Open(dir, Options{}); err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	step := uint64(0)
	seq := func() uint64 {
		step += 104_729 // a prime, to walk all over the tree
		return step % size
	}
	b.Run("inclusion", func(b *testing.B) {
		for b.Loop() {
			if _, err := a.ProveInclusion(seq(), size); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("consistency", func(b *testing.B) {
		for b.Loop() {
			if _, err := a.ProveConsistency(1+seq()%(size-1), size); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("entry", func(b *testing.B) {
		for b.Loop() {
			if _, err := a.Entry(seq()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compare", func(b *testing.B) { // a replayed append
		for b.Loop() {
			s := seq()
			if err := a.Append(s, fmt.Appendf(nil, "entry %d", s)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
