package replica

import (
	"bytes"
	"context"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// replayed derives a state from a history, every signature of which is verified
// again: a batch at a time on all cores, as after a restart. It is fsm.Verifier and
// fsm.Parser by what it found of the batch.
type replayed struct {
	*checked
	replayer *fsm.Replayer
	batch    []*fsm.Known
	bytes    int
}

// replay gives the state after the first size entries, and who certified before the
// last of them.
func (d *data) replay(ctx context.Context, size uint64, progress func(seq uint64)) (*fsm.State, ledger.Authority, fsm.Verifier, error) {
	p := &replayed{checked: newVerifier(Limits{PublicKeys: recoverKeys}).newChecked(0)}
	var old ledger.Authority
	var err error
	if p.replayer, err = fsm.NewReplayer(d.entry0, p); err != nil {
		return nil, old, nil, err
	}
	err = d.archive.Entries(1, size, func(seq uint64, raw []byte) error {
		if progress != nil && seq%recoverProgress == 0 {
			progress(seq)
		}
		if seq == size-1 {
			if err := p.flush(); err != nil {
				return err
			}
			old = p.replayer.State().Authority()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return p.take(seq, raw)
	})
	if err == nil {
		err = p.flush()
	}
	if err == nil {
		err = p.replayer.Finish()
	}
	if err != nil {
		return nil, old, nil, err
	}
	return p.replayer.State(), old, p, nil
}

func (p *replayed) take(seq uint64, raw []byte) error {
	raw = bytes.Clone(raw)
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		return &fsm.ReplayError{Seq: seq, Why: err.Error()}
	}
	p.batch, p.bytes = append(p.batch, &fsm.Known{Raw: raw, Leaf: ledger.LeafHash(raw), Entry: e}), p.bytes+len(raw)
	if len(p.batch) < recoverBatch && p.bytes < recoverBytes {
		return nil
	}
	return p.flush()
}

func (p *replayed) flush() error {
	commands := make([]*ledger.Command, len(p.batch))
	for i, k := range p.batch {
		if k.Entry.Kind == ledger.KindStatement {
			commands[i] = &ledger.Command{Kind: ledger.CommandStatements, Statements: [][]byte{k.Entry.Content}}
		}
	}
	p.checked = p.checked.verifier.ahead(p.replayer.State(), commands, func(i int) []byte { return p.batch[i].Raw })
	for _, k := range p.batch {
		if err := p.replayer.AddKnown(k); err != nil {
			return err
		}
	}
	p.batch, p.bytes = p.batch[:0], 0
	return nil
}
