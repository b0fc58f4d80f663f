package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// unit is a bundle: read in order, verified on any core, replayed in order.
type unit struct {
	n       uint64
	view    []byte // the bundle's lines of entries.jsonl
	zipped  []byte // memory for them as they stand in an archive
	bundle  verifiedBundle
	entries []checked
	signed  ledger.StatementMemory
	lines   lineComparer
	err     error // what is wrong after the last of entries
	viewErr error
}

// reset makes a unit that was replayed the one of bundle n. Its memory, some
// megabytes, is used again: fresh pages cost more than what is done with them.
func (u *unit) reset(n uint64) {
	clear(u.entries)
	*u = unit{n: n, view: u.view[:0], zipped: u.zipped, bundle: u.bundle, entries: u.entries[:0], signed: u.signed, lines: lineComparer{buf: u.lines.buf}}
}

// checked is an entry whose own form holds, with what was found out ahead of
// the replay.
type checked struct {
	raw       []byte
	leaf      ledger.Hash
	entry     *ledger.Entry
	effect    string // type of an effect
	statement *ledger.Statement
	public    []byte // the packed key that the signature was verified under; nil if none was known
	verified  bool   // whether it did verify
	possessed *possession
}

// entries runs steps 4 to 7 of DESIGN.md over the whole log.
func (v *verifier) entries(ctx context.Context) error {
	var lines *lineReader // nil: they come with their bundles
	if dir, ok := v.dir.(*Directory); ok {
		f, err := dir.open(viewName)
		if err != nil {
			return readError(StepView, viewName, err)
		}
		defer f.Close() // only read
		lines = newLineReader(f)
	}
	genesis, _, err := ledger.ParseGenesis(v.genesis)
	if err != nil {
		return badFile(StepFiles, "genesis.cbor", err)
	}
	known := newKnownKeys()
	known.learnGenesis(genesis)
	size := v.head.size()
	log := &replayLog{report: v.report, genesis: v.opts.Genesis, size: size, wanted: v.opts.wanted, direct: fsm.NewDirectVerifier(directKeysUnpacked)}
	var viewErr error
	viewBytes := int64(0)
	// As many are under way as keep every worker busy, so that what is read is
	// still in the processor's cache when it is replayed.
	ahead := min(2*v.opts.Workers, unitsAhead)
	done := make(chan *unit, ahead+v.opts.Workers)
	crew := newCrew(v.opts.Workers)
	err = inOrder(ctx, v.opts.Workers, ahead, v.units(lines, done),
		func(ctx context.Context, u *unit) { v.check(ctx, u, known, crew) }, crew.leave,
		func(u *unit) error {
			for i := range u.entries {
				if err := log.add(&u.entries[i]); err != nil {
					return err
				}
			}
			if u.err != nil {
				return u.err
			}
			if viewErr == nil {
				viewErr = u.viewErr
			}
			viewBytes += int64(len(u.view))
			if v.opts.Progress != nil {
				v.opts.Progress(v.report.Entries, size)
			}
			select {
			case done <- u:
			default:
			}
			return nil
		})
	if err != nil {
		return err
	}
	if err := log.finish(v.head.authority); err != nil {
		return err
	}
	v.known, v.state, v.found = known, log.replayer.State(), log.found
	if v.framed != nil && viewBytes != v.framed.lines {
		return errNotFramed
	}
	v.report.View = viewErr == nil
	return viewErr
}

// units cuts the log into bundles and gives each its lines. Those that are done
// are used again.
func (v *verifier) units(lines *lineReader, done <-chan *unit) iter.Seq[*unit] {
	size := v.head.size()
	return func(yield func(*unit) bool) {
		ended := false
		for n := uint64(0); n*archive.TileWidth < size; n++ {
			u := new(unit)
			select {
			case u = <-done:
			default:
			}
			u.reset(n)
			if lines == nil {
				if !yield(u) {
					return
				}
				continue
			}
			if !ended {
				var err error
				if u.view, err = lines.read(u.view, bundleWidth(n, size)); err != nil {
					ended = true
				}
				if err != nil && !errors.Is(err, io.EOF) {
					u.viewErr = badFile(StepView, viewName, err)
				}
			}
			if last := (n+1)*archive.TileWidth >= size; last && u.viewErr == nil && !ended && !lines.ended() {
				u.viewErr = badFile(StepView, viewName, fmt.Errorf("lines follow that of entry %d, the last", size-1))
			}
			if !yield(u) {
				return
			}
		}
	}
}

// check verifies everything of a unit that needs no state. Signatures are left
// for its end, and shared, once another worker waits.
func (v *verifier) check(ctx context.Context, u *unit, known *knownKeys, crew *crew) {
	if u.err = v.load(u); u.err != nil {
		return
	}
	var later []int // entries whose signatures are left
	for i, raw := range u.bundle.entries {
		if u.err = ctx.Err(); u.err != nil {
			break
		}
		c := checked{raw: raw, leaf: u.bundle.leaves[i]}
		seq := u.n*archive.TileWidth + uint64(i)
		if err := c.parse(seq, &u.signed); err != nil {
			u.err = badEntry(StepEntry, seq, v.head.size(), err)
			break
		}
		if c.statement != nil {
			known.learn(c.statement)
			if crew.waiting.Load() == 0 {
				c.verify(known)
			} else {
				later = append(later, i)
			}
		}
		u.lines.entry(&c)
		u.entries = append(u.entries, c)
	}
	crew.share(len(later), func(part int) { u.entries[later[part]].verify(known) })
	switch {
	case u.err != nil || u.viewErr != nil:
	case u.lines.bad != nil:
		u.viewErr = u.lines.bad
	case v.framed != nil && len(u.lines.rest) > 0:
		u.viewErr = errNotFramed
	}
}

// load brings a unit's bundle, and the lines that an archive has with it.
func (v *verifier) load(u *unit) (err error) {
	if err := v.tree.bundleInto(&u.bundle, u.n); err != nil {
		return err
	}
	if v.framed != nil {
		u.zipped, u.view, err = v.framed.view(u.n, u.zipped, u.view)
	}
	u.lines.rest = u.view
	u.signed.Reset(len(u.bundle.raw))
	return err
}

// parse reads the entry and whatever its kind has inside. A statement may be put
// into memory, if there is any.
func (c *checked) parse(seq uint64, memory *ledger.StatementMemory) (err error) {
	if c.entry, err = ledger.ParseEntry(c.raw); err != nil {
		return err
	}
	if c.entry.Seq != seq {
		return fmt.Errorf("it says that it is entry %d", c.entry.Seq)
	}
	switch c.entry.Kind {
	case ledger.KindStatement:
		c.statement, err = memory.Parse(c.entry.Content)
	case ledger.KindEffect:
		var effect *ledger.Effect
		if effect, err = c.entry.Effect(); err == nil {
			c.effect = effect.Type
		}
	case ledger.KindSeal:
		_, err = c.entry.Seal()
	}
	return err
}

// verify checks the signature under the key that the statement names, if the
// log has shown that key. Whether it is the author's, the replay decides.
func (c *checked) verify(known *knownKeys) {
	public, key := known.get(c.statement.KeyID)
	if key != nil {
		c.public, c.verified = public, c.statement.Verify(key)
	}
	c.possessed = possessionOf(c.statement)
}

// replayLog feeds entries to the FSM's replay and counts them.
type replayLog struct {
	report   *Report
	genesis  ledger.Hash
	size     uint64
	replayer *fsm.Replayer
	direct   fsm.Verifier
	current  *checked
	kind     ledger.Kind // of the last entry
	stamp    uint64
	prev     ledger.Hash
	wanted   ledger.Hash // id of a statement
	found    *uint64     // its seq
}

// add checks the chain and derives the entry. The replay would find a broken
// chain too, but here it gets its own name.
func (l *replayLog) add(c *checked) error {
	e := c.entry
	if e.Prev != l.prev {
		return badEntry(StepEntry, e.Seq, l.size, fmt.Errorf("prev is %s, the entry before has %s", e.Prev, l.prev))
	}
	if e.Stamp < l.stamp {
		return badEntry(StepEntry, e.Seq, l.size, fmt.Errorf("its stamp %d is before the last one's, %d", e.Stamp, l.stamp))
	}
	l.stamp, l.prev, l.kind, l.current = e.Stamp, c.leaf, e.Kind, c
	defer func() { l.current = nil }() // its memory is used again
	var err error
	if l.replayer == nil {
		// Cosignatures bind the origin, not the genesis hash: the same replicas
		// may have certified another ledger.
		if c.leaf != l.genesis {
			return badEntry(StepEntry, 0, l.size, fmt.Errorf("it is the genesis of ledger %s, not of %s", c.leaf, l.genesis))
		}
		l.replayer, err = fsm.NewReplayer(c.raw, l)
	} else {
		err = l.replayer.AddKnown(&fsm.Known{Raw: c.raw, Leaf: c.leaf, Entry: e})
	}
	if err != nil {
		return l.blame(e.Seq, err)
	}
	l.count(c)
	return nil
}

// blame names the entry that does not follow, and by which step.
func (l *replayLog) blame(seq uint64, err error) error {
	var replay *fsm.ReplayError
	if !errors.As(err, &replay) {
		return badEntry(StepReplay, seq, l.size, err)
	}
	step := StepReplay
	if replay.Verdict.Code == fsm.BadSignature {
		step = StepSignature
	}
	return badEntry(step, replay.Seq, l.size, errors.New(replay.Why))
}

func (l *replayLog) count(c *checked) {
	r := l.report
	r.Entries++
	r.Kinds[c.entry.Kind.String()]++
	switch c.entry.Kind {
	case ledger.KindStatement:
		r.Signatures++
		r.Statements[c.statement.Payload.Type]++
		if c.statement.ID == l.wanted {
			seq := c.entry.Seq
			l.found = &seq
		}
	case ledger.KindEffect:
		r.Effects[c.effect]++
	case ledger.KindSeal:
		r.Digests++
	}
}

// Parse implements fsm.Parser: what was parsed ahead is not parsed again.
func (l *replayLog) Parse(envelope []byte) (*ledger.Statement, error) {
	if c := l.current; c.statement != nil && bytes.Equal(envelope, c.statement.Envelope) {
		return c.statement, nil
	}
	return ledger.ParseStatement(envelope)
}

// Verify implements fsm.Verifier: what was verified ahead, under the very key
// that the state names, is not verified again.
func (l *replayLog) Verify(st *ledger.Statement, public []byte) bool {
	if c := l.current; st == c.statement && bytes.Equal(c.public, public) {
		return c.verified
	}
	return l.direct.Verify(st, public)
}

// Possesses implements fsm.Possessor in the same way.
func (l *replayLog) Possesses(public, message, proof []byte) bool {
	if p := l.current.possessed; p != nil && bytes.Equal(p.public, public) && bytes.Equal(p.message, message) && bytes.Equal(p.proof, proof) {
		return p.verified
	}
	return newPossession(public, message, proof).verified
}

// finish compares what the replay ends with to what the head says.
func (l *replayLog) finish(certified ledger.Authority) error {
	if l.report.Entries != l.size {
		return fmt.Errorf("replayed %d of %d entries", l.report.Entries, l.size)
	}
	if err := l.replayer.Finish(); err != nil {
		return badEntry(StepReplay, l.size-1, l.size, err)
	}
	if l.kind != ledger.KindSeal {
		return badEntry(StepReplay, l.size-1, l.size, fmt.Errorf("the certified head ends in a %s, not in a seal", l.kind))
	}
	derived := l.replayer.State().Authority()
	want, err := derived.Encode()
	if err != nil {
		return fmt.Errorf("encode the derived authority: %w", err)
	}
	have, err := certified.Encode()
	if err != nil {
		return fmt.Errorf("encode the certified authority: %w", err)
	}
	if !bytes.Equal(want, have) {
		return badFile(StepReplay, fmt.Sprintf("authority/%d.json", certified.Index),
			fmt.Errorf("the log derives authority %d, the chain ends with %d, and they differ", derived.Index, certified.Index))
	}
	return nil
}
