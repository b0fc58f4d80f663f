package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/quorate/quorate/fsm"
)

// restored gives an honest node the disk of some time ago, after a crash: what it
// has signed since is forgotten, and must not be contradicted.
func restored(ctx context.Context, f *fleet) error {
	_, h, quiet, err := f.cast(ctx)
	if err != nil {
		return err
	}
	defer quiet()
	clear(f.guilty) // nobody attacks; who is dropped, was wronged
	a := f.agents[0]
	h.except = []*agentProcess{a}
	if err := pause(ctx, earlyLife); err != nil {
		return err
	}
	image := filepath.Join(f.Dir, "image")
	if err := f.endAgent(a, syscall.SIGKILL); err != nil {
		return err
	}
	if err := os.CopyFS(image, os.DirFS(filepath.Join(a.dir, "state"))); err != nil {
		return err
	}
	if err := f.startAgent(a); err != nil {
		return err
	}
	h.enter("during")
	if err := pause(ctx, laterLife); err != nil {
		return err
	}
	signed, err := f.signedBy(ctx, a)
	if err != nil {
		return err
	}
	if err := f.endAgent(a, syscall.SIGKILL); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(a.dir, "state")); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(a.dir, "state"), os.DirFS(image)); err != nil {
		return err
	}
	if err := f.startAgent(a); err != nil {
		return err
	}
	if err := pause(ctx, afterLife); err != nil {
		return err
	}
	if err := f.advance(ctx, 3); err != nil { // what it doubted is over
		return err
	}
	if err := pause(ctx, afterLife); err != nil {
		return err
	}
	status, err := f.agentStatus(ctx, a)
	if err != nil {
		return err
	}
	again, err := f.signedBy(ctx, a)
	if err != nil {
		return err
	}
	quiet()
	f.Says("the node", "%s is killed and gets the disk of %s before, since when it had signed %.0f statements; after that it signs %.0f more in three epochs (trouble: %v)", a.name, laterLife, signed, again, status.Trouble)
	f.Demand(signed > 0, "it had signed nothing since the image was taken: nothing is shown")
	f.Demand(again > 0, "it never spoke again")
	for _, other := range f.agents {
		list, err := other.saw()
		if err != nil {
			return err
		}
		for _, s := range list {
			f.Demand(s.Dropped != a.name || s.As == fsm.NodeActive, "%s dropped it", other.name)
		}
	}
	f.Demand(len(f.audit.about(fsm.EffectOffence, a.name)) == 0, "it was convicted of an offence")
	f.Says("detected", "nothing: %d offences, it is %s", len(f.audit.about(fsm.EffectOffence, "")), f.audit.standing(a.name))
	h.line(ctx)
	return nil
}

// signedBy counts what an agent has signed since its start.
func (f *fleet) signedBy(ctx context.Context, a *agentProcess) (float64, error) {
	b, err := f.readAgent(ctx, a, "/metrics")
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, line := range linesOf(b, "quorate_agent_signed_total{") {
		var n float64
		if _, err := fmt.Sscan(line, &n); err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// pause lets time pass, which is what is staged.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
