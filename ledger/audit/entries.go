package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
)

// unit is a run of bundles: read in order, verified on any core, replayed in
// order.
type unit struct {
	first   uint64   // bundle
	lines   [][]byte // of entries.jsonl, one an entry; short if the file ends
	done    chan struct{}
	entries []checked
	err     error
	viewErr error
}

// checked is an entry whose own form holds and whose signature, if it has one
// and its key was known, was verified.
type checked struct {
	raw       []byte
	entry     *ledger.Entry
	statement *ledger.Statement
	verified  bool // the signature, under the key whose id is statement.KeyID
}

// entries runs steps 3 to 7 of DESIGN.md over the whole log.
func (v *verifier) entries(ctx context.Context) error {
	f, err := os.Open(filepath.Join(v.root, "entries.jsonl"))
	if err != nil {
		return badFile("view", "entries.jsonl", err)
	}
	defer f.Close()
	known := newKnownKeys()
	genesis, _, err := ledger.ParseGenesis(v.genesis)
	if err != nil {
		return badFile("files", "genesis.cbor", err)
	}
	known.learnGenesis(genesis)
	order, work := make(chan *unit, chunksAhead), make(chan *unit, chunksAhead)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(work)
		defer close(order)
		return v.feed(ctx, newLineReader(f), order, work)
	})
	for range v.opts.Workers {
		group.Go(func() error {
			for u := range work {
				v.check(u, known)
				close(u.done)
			}
			return nil
		})
	}
	group.Go(func() error { return v.replay(ctx, order) })
	return group.Wait()
}

// feed cuts the log into units and gives each its lines.
func (v *verifier) feed(ctx context.Context, lines *lineReader, order, work chan<- *unit) error {
	size := v.head.checkpoint.Head.Size
	for first := uint64(0); first*archive.TileWidth < size; first += chunkBundles {
		u := &unit{first: first, done: make(chan struct{})}
		count := min(size-first*archive.TileWidth, chunkBundles*archive.TileWidth)
		for range count {
			line, err := lines.next()
			if err != nil {
				u.viewErr = badFile("view", "entries.jsonl", fmt.Errorf("line %d: %w", lines.line, err))
				break
			}
			u.lines = append(u.lines, bytes.Clone(line))
		}
		if (first+chunkBundles)*archive.TileWidth >= size && u.viewErr == nil {
			if _, err := lines.next(); err == nil {
				u.viewErr = badFile("view", "entries.jsonl", fmt.Errorf("has lines after entry %d", size-1))
			}
		}
		for _, ch := range []chan<- *unit{work, order} {
			select {
			case ch <- u:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// check verifies everything of a unit that needs no state.
func (v *verifier) check(u *unit, known *knownKeys) {
	size := v.head.checkpoint.Head.Size
	for n := u.first; n < u.first+chunkBundles && n*archive.TileWidth < size; n++ {
		width := int(min(size-n*archive.TileWidth, archive.TileWidth))
		_, entries, err := v.tree.bundle(n, width)
		if err != nil {
			u.err = err
			return
		}
		for i, raw := range entries {
			c, err := checkEntry(raw, n*archive.TileWidth+uint64(i), known)
			if err != nil {
				u.err = err
				return
			}
			u.entries = append(u.entries, c)
			if u.viewErr == nil {
				u.viewErr = compareLine(u, len(u.entries)-1)
			}
		}
	}
}

func checkEntry(raw []byte, seq uint64, known *knownKeys) (checked, error) {
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		return checked{}, badEntry("entry", seq, err)
	}
	if e.Seq != seq {
		return checked{}, badEntry("entry", seq, fmt.Errorf("says that it is entry %d", e.Seq))
	}
	c := checked{raw: raw, entry: e}
	if e.Kind != ledger.KindStatement {
		return c, nil
	}
	if c.statement, err = ledger.ParseStatement(e.Content); err != nil {
		return checked{}, badEntry("entry", seq, err)
	}
	known.learn(c.statement)
	if public := known.get(c.statement.KeyID); public != nil {
		if !c.statement.Verify(public) {
			return checked{}, badEntry("signature", seq, fmt.Errorf("the signature of %s's %s does not verify under key %s", c.statement.Payload.Author, c.statement.Payload.Type, c.statement.KeyID))
		}
		c.verified = true
	}
	return c, nil
}

func compareLine(u *unit, i int) error {
	if i >= len(u.lines) {
		return nil // feed has said so
	}
	c := &u.entries[i]
	want, err := appendView(make([]byte, 0, len(u.lines[i])+1), c.raw, c.entry)
	if err == nil && !bytes.Equal(want[:len(want)-1], u.lines[i]) {
		err = errors.New("line " + strconv.FormatUint(c.entry.Seq+1, 10) + " is not what the tiles hold")
	}
	if err != nil {
		return &BadError{Step: "view", File: "entries.jsonl", Seq: c.entry.Seq, HasSeq: true, Reason: err}
	}
	return nil
}

// replay applies the log, unit by unit, and compares everything derived.
func (v *verifier) replay(ctx context.Context, order <-chan *unit) error {
	log := &replayLog{report: v.report}
	var viewErr error
	size := v.head.checkpoint.Head.Size
	for {
		var u *unit
		select {
		case u = <-order:
		case <-ctx.Done():
			return ctx.Err()
		}
		if u == nil {
			break
		}
		select {
		case <-u.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		for i := range u.entries {
			if err := log.next(&u.entries[i]); err != nil {
				return err
			}
		}
		if u.err != nil {
			return u.err
		}
		if viewErr == nil {
			viewErr = u.viewErr
		}
		if v.opts.Progress != nil {
			v.opts.Progress(v.report.Entries, size)
		}
	}
	if err := log.finish(size, v.head.authority); err != nil {
		return err
	}
	v.report.View = viewErr == nil
	return viewErr
}

// replayLog feeds entries to the FSM's replay and counts them.
type replayLog struct {
	report   *Report
	replayer *fsm.Replayer
	direct   fsm.Verifier
	current  *checked
	stamp    uint64
	prev     ledger.Hash
}

func (l *replayLog) next(c *checked) error {
	e := c.entry
	if e.Stamp < l.stamp {
		return badEntry("entry", e.Seq, fmt.Errorf("its stamp %d is before the last one's %d", e.Stamp, l.stamp))
	}
	if e.Prev != l.prev {
		return badEntry("entry", e.Seq, fmt.Errorf("prev is %s, the entry before has %s", e.Prev, l.prev))
	}
	l.stamp, l.prev, l.current = e.Stamp, ledger.LeafHash(c.raw), c
	var err error
	if l.replayer == nil {
		l.direct = fsm.NewDirectVerifier()
		l.replayer, err = fsm.NewReplayer(c.raw, l)
	} else {
		err = l.replayer.Next(c.raw)
	}
	if err != nil {
		return badEntry("replay", e.Seq, err)
	}
	return l.count(c)
}

func (l *replayLog) count(c *checked) error {
	r := l.report
	r.Entries++
	r.Kinds[c.entry.Kind.String()]++
	switch c.entry.Kind {
	case ledger.KindStatement:
		r.Signatures++
		r.Statements[c.statement.Payload.Type]++
	case ledger.KindEffect:
		effect, err := c.entry.Effect()
		if err != nil {
			return badEntry("entry", c.entry.Seq, err)
		}
		r.Effects[effect.Type]++
	case ledger.KindSeal:
		r.Digests++
	}
	return nil
}

// Verify implements fsm.Verifier: what was verified ahead, under the very key
// that the state names, is not verified again.
func (l *replayLog) Verify(st *ledger.Statement, public []byte) bool {
	c := l.current
	if c.verified && sha256.Sum256(public) == [32]byte(c.statement.KeyID) && bytes.Equal(st.Envelope, c.statement.Envelope) {
		return true
	}
	return l.direct.Verify(st, public)
}

// finish compares what the replay ends with to what the head says.
func (l *replayLog) finish(size uint64, certified ledger.Authority) error {
	if l.report.Entries != size {
		return badFile("replay", "checkpoint", fmt.Errorf("replayed %d of %d entries", l.report.Entries, size))
	}
	if err := l.replayer.Finish(); err != nil {
		return badEntry("replay", size-1, err)
	}
	derived := l.replayer.State().Authority()
	if derived.Index != certified.Index || !bytes.Equal(encodeAuthority(derived), encodeAuthority(certified)) {
		return badFile("replay", fmt.Sprintf("authority/%d.json", certified.Index), fmt.Errorf("the log derives authority %d with other content", derived.Index))
	}
	return nil
}

func encodeAuthority(a ledger.Authority) []byte {
	raw, err := canon.Marshal(a)
	if err != nil {
		return nil // both sides were canonical when they were read or made
	}
	return raw
}
