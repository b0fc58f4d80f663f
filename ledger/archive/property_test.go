package archive

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// machine drives an archive and a naive model of it side by side.
type machine struct {
	w    *twin
	disk *faultFS
	a    *Archive

	whole   uint64 // entries [0, whole) are vouched for
	staged  uint64 // what Whole() says
	island  uint64 // 0 without a gap
	end     uint64
	durable uint64
}

const machineEntries = 4000

var machineTwin = testTwin(machineEntries)

func (m *machine) append(t *rapid.T) {
	n := rapid.Uint64Range(1, 400).Draw(t, "entries")
	back := rapid.Uint64Range(0, 5).Draw(t, "offered again")
	for seq := m.end - min(back, m.end-m.island); seq < min(m.end+n, machineEntries); seq++ {
		if err := m.a.Append(seq, m.w.entries[seq]); err != nil {
			t.Fatalf("append %d: %v", seq, err)
		}
	}
	m.grow(min(m.end+n, machineEntries))
}

func (m *machine) grow(end uint64) {
	m.end = end
	if m.island == 0 {
		m.whole, m.staged = end, end
	}
}

func (m *machine) sync(t *rapid.T) {
	size, err := m.a.Sync()
	if err != nil || size != m.end {
		t.Fatalf("sync: %d of %d, %v", size, m.end, err)
	}
	m.durable = m.end
}

func (m *machine) startIsland(t *rapid.T) {
	at := rapid.Uint64Range(m.end-min(m.end, 3), min(m.end+900, machineEntries)).Draw(t, "island")
	if err := m.a.StartIsland(m.w.frontier(at)); err != nil {
		t.Fatalf("island: %v", err)
	}
	if at > m.end {
		m.island, m.end, m.durable = at, at, at
	}
}

func (m *machine) backfill(t *rapid.T) {
	if m.island == 0 {
		if err := m.a.Backfill(m.end, nil); !errors.Is(err, errNoGap) {
			t.Fatalf("backfill without a gap: %v", err)
		}
		return
	}
	n := rapid.Uint64Range(0, 700).Draw(t, "backfilled")
	entries := m.w.entries[m.staged:min(m.staged+n, machineEntries)]
	if err := m.a.Backfill(m.staged, entries); err != nil {
		t.Fatalf("backfill: %v", err)
	}
	if m.staged = min(m.staged+n, m.island); m.staged == m.island {
		m.island, m.whole, m.staged = 0, m.end, m.end
		m.durable = m.end
	}
}

// lie backfills one wrong entry and then the truth: in the end it is found out.
func (m *machine) lie(t *rapid.T) {
	if m.island == 0 {
		return
	}
	entries := make([][]byte, m.island-m.staged)
	copy(entries, m.w.entries[m.staged:])
	entries[rapid.IntRange(0, len(entries)-1).Draw(t, "lie")] = []byte("a lie")
	var conflict *ConflictError
	if err := m.a.Backfill(m.staged, entries); !errors.As(err, &conflict) {
		t.Fatalf("the lie: %v", err)
	}
	m.staged = m.whole
}

func (m *machine) reopen(t *rapid.T) {
	if err := m.a.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	m.open(t)
	m.durable = m.end
}

func (m *machine) open(t *rapid.T) {
	a, err := Open("log", Options{FS: m.disk, CacheTiles: 3})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	m.a = a
}

// crash loses some of what was not durable.
func (m *machine) crash(t *rapid.T) {
	after := rapid.SampledFrom(aftermaths).Draw(t, "aftermath")
	m.disk = m.disk.reboot(after, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "chance"), 0)))
	m.open(t)
	size := m.a.Size()
	if size < m.durable || size > m.end {
		t.Fatalf("%d entries after a crash, %d were durable of %d", size, m.durable, m.end)
	}
	m.grow(size)
	m.durable = size
}

func (m *machine) check(t *rapid.T) {
	from, to, gap := m.a.Gap()
	if gap != (m.island != 0) || (gap && (from != m.staged || to != m.island)) {
		t.Fatalf("gap from %d to %d, %v; not %+v", from, to, gap, m)
	}
	if m.a.Size() != m.end || m.a.Whole() != m.staged || m.a.Durable() < m.durable {
		t.Fatalf("size %d, whole %d, durable %d", m.a.Size(), m.a.Whole(), m.a.Durable())
	}
	root, err := m.a.TreeHash(m.end)
	if err != nil || root != m.w.root(m.end) {
		t.Fatalf("root of %d: %v", m.end, err)
	}
	if m.end == 0 {
		return
	}
	seq := rapid.Uint64Range(0, m.end-1).Draw(t, "seq")
	here := seq < m.whole || (m.island != 0 && seq >= m.island)
	entry, err := m.a.Entry(seq)
	if here && (err != nil || !bytes.Equal(entry, m.w.entries[seq])) || !here && !errors.Is(err, ErrGap) {
		t.Fatalf("entry %d, here %v: %v", seq, here, err)
	}
	size := rapid.Uint64Range(seq+1, m.end).Draw(t, "size")
	known := size <= m.whole || (m.island != 0 && size >= m.island)
	root, err = m.a.TreeHash(size)
	if known && (err != nil || root != m.w.root(size)) || !known && !errors.Is(err, ErrGap) {
		t.Fatalf("root of %d, known %v: %v", size, known, err)
	}
	if m.island == 0 || seq >= m.island {
		checkTree(t, m.a, m.w, size, []uint64{seq}, []uint64{max(m.island, seq)})
	}
}

// TestAgainstTwin runs drawn histories of appends, islands, backfills, lies, restarts and crashes.
func TestAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{w: machineTwin, disk: newFaultFS()}
		m.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"append":      m.append,
			"sync":        m.sync,
			"startIsland": m.startIsland,
			"backfill":    m.backfill,
			"lie":         m.lie,
			"reopen":      m.reopen,
			"crash":       m.crash,
			"":            m.check,
		})
		if err := m.a.Verify(nil); err != nil {
			t.Fatalf("verify: %v", err)
		}
	})
}
