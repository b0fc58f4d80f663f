package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/quorate/quorate/test/stagehand"
)

// story is one loss, and the way back.
type story struct {
	letter, name string
	loss         string // in a sentence
	own          *plan  // of a ledger of its own; nil: on the one that the others share
	run          func(ctx context.Context, h *house) error
}

type options struct {
	bin  string
	keep bool
}

// common is the ledger on which most stories play, one after the other.
//
// A node's key lives for 40 epochs and may be rotated from its second one on, so
// that each agent rotates every 20 epochs or so, in the middle of whatever happens.
var common = plan{nodes: nodesOfFleet, watchers: 2, unbacked: "n4",
	policy: `{epoch_millis: 4000, tick_millis: 1000, max_skew_millis: 3000, key_epochs: 40, keys: {rotate_epochs: 40, late_epochs: 2, backup_roles: [node]}}`}

var stories = []story{
	{letter: "a", name: "a node's key is restored by three of five governors", loss: "n3's machine is gone, with its key and its state; there is a backup", run: nodeRestored},
	{letter: "b", name: "a node that has no backup is re-keyed by decision", loss: "n4's machine is gone, with its key and its state", run: nodeRekeyed},
	{letter: "c", name: "a node's stolen key is revoked from an epoch on, with the key that the thief rotated to", loss: "a thief has n5's machine, and speaks with its key", run: nodeKeyStolen},
	{letter: "d", name: "a governor's lost key: the council re-seats its holder", loss: "erin's key file is gone", run: governorReseated},
	{letter: "f", name: "a replica loses its disk and keys: removed, and another admitted and backfilled", loss: "r3 is killed; its disk, its key and its TLS key are gone", run: replicaReplaced},
	{letter: "g", name: "a replica's stolen key signs heads that never count, and is revoked", loss: "a thief has r4's key and TLS key, and speaks in its name", run: replicaKeyStolen},
	{letter: "i", name: "copies that must not be restored are refused, and nothing is written", loss: "somebody restores from what is at hand", run: staleCopies},
	{letter: "h", name: "the log's keys are changed, and a replica rotates its own: third parties go on", loss: "nothing is lost: keys that age are changed in time", own: &logRotated, run: logKeyChanged},
	{letter: "e", name: "the council falls below its threshold: the recovery set re-seats it, and can do nothing else",
		loss: "three of five governors lose their keys", own: &councilLost, run: councilReseated},
}

// rehearse plays stories one after the other, and says whether all ended as they
// should.
func rehearse(ctx context.Context, w io.Writer, o options, chosen []story) bool {
	began := time.Now()
	t := &total{}
	var shared []story
	for _, s := range chosen {
		if s.own == nil {
			shared = append(shared, s)
		}
	}
	if len(shared) > 0 {
		t.play(ctx, w, o, common, shared)
	}
	for _, s := range chosen {
		if s.own != nil && ctx.Err() == nil {
			t.play(ctx, w, o, *s.own, []story{s})
		}
	}
	fmt.Fprintf(w, "%d stories in %.0f s, %d failed; %d commands; secrets scanned for: %d, in %d files (%d MB); found outside their files: %d\n",
		t.stories, time.Since(began).Seconds(), t.failed, t.commands, t.secrets, t.files, t.bytes>>20, t.found)
	return ctx.Err() == nil && t.good() && t.stories == len(chosen) && len(chosen) > 0
}

// total is what was seen in all.
type total struct {
	stories, failed, commands int
	ledgers, unsound          int // ledgers, and those whose end was not as it should be
	secrets, files, found     int
	bytes                     int64
}

func (t *total) good() bool { return t.failed == 0 && t.unsound == 0 && t.found == 0 && t.secrets > 0 }

// play founds a ledger, plays stories on it, and looks at what is left.
func (t *total) play(ctx context.Context, w io.Writer, o options, p plan, chosen []story) {
	founding := stagehand.NewReport()
	var h *house
	end, ok := founding.Begin(o.bin, "keyloss-", o.keep, func(bin, dir string) (err error) {
		h, err = found(ctx, founding, bin, dir, p)
		return err
	})
	defer end()
	t.ledgers++
	if h != nil {
		founding.Says("keys", "%d secrets in files, each key encrypted with a passphrase of its own", len(h.secrets))
		founding.Says("processes", "%d replicas with TLS, %d agents", len(h.replicas), len(h.agents))
	}
	if !ok {
		if h != nil {
			h.tails()
			h.close()
		}
		t.unsound++
		founding.Print(w, "a ledger is founded", "people", "five governors, three recovery holders")
		return
	}
	founding.Print(w, "a ledger is founded", "people", "five governors, three recovery holders")
	for _, s := range chosen {
		if ctx.Err() == nil {
			t.tell(ctx, w, h, s)
		}
	}
	if ctx.Err() == nil && !t.ending(ctx, w, h) {
		t.unsound++
	}
	t.commands += int(h.commands.Load())
}

// tell plays one story.
func (t *total) tell(ctx context.Context, w io.Writer, h *house, s story) {
	h.Report = stagehand.NewReport()
	ctx, cancel := context.WithTimeout(ctx, storyLimit)
	defer cancel()
	if err := s.run(ctx, h); err != nil {
		h.Fail("%v", err)
	}
	h.alive()
	h.notesSecrets()
	if len(h.Faults) > 0 {
		h.tails()
	}
	t.stories++
	if !h.Print(w, s.name, "the loss", s.loss) {
		t.failed++
	}
}

// tails shows the ends of the logs.
func (h *house) tails() {
	for _, r := range h.replicas {
		h.Tail(r.Name, logLines)
	}
	for _, a := range h.agents {
		h.Tail(a.Name, 3)
	}
}
