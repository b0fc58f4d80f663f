package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/test/stagehand"
)

// council is the governors, all of whom must agree to what concerns a node of each
// operator.
var council = []struct{ name, operator string }{{"alice", "aurora"}, {"bob", "borealis"}, {"carol", "cirrus"}}

// looks has a person look at the ledger once an epoch, until ctx ends: whoever never does
// while all replicas change their TLS keys needs their pins anew.
func (f *fleet) looks(ctx context.Context) {
	for ctx.Err() == nil {
		if a := f.Command(ctx, "status"); a.Code == 0 {
			f.looked.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(f.epoch):
		}
	}
}

// keygen makes a plain key in keys/.
func (f *fleet) keygen(ctx context.Context, role, name, operator string, more ...string) error {
	return f.Command(ctx, append([]string{"keygen", role, name, "--out", "keys", "--operator", operator, "--insecure-plain"}, more...)...).Failed()
}

// decides has alice propose, and the others approve as long as it takes, until the
// ledger has executed it.
func (f *fleet) decides(ctx context.Context, args ...string) error {
	key := func(i int) []string { return []string{"--key", filepath.Join("keys", council[i].name+".key")} }
	id, err := f.Proposes(ctx, append(args, key(0)...)...)
	if err != nil {
		return err
	}
	for i := range council[1:] {
		// A replica that lags may not know it yet.
		standing, failure := "", error(nil)
		if err := stagehand.Await(ctx, patience, "a replica knows the proposal", func() bool {
			standing, failure = f.standing(ctx, id)
			return failure == nil
		}); err != nil {
			return fmt.Errorf("%w: %w", err, failure)
		}
		if standing == fsm.ProposalExecuted {
			break
		}
		a := f.Command(ctx, append([]string{"approve", id, "--yes"}, key(i+1)...)...)
		if err := a.Failed(); err != nil && !strings.Contains(a.All(), "it is executed") { // one was enough
			return err
		}
	}
	last, failure := "", error(nil)
	err = stagehand.Await(ctx, patience, "the council's decision is executed", func() bool {
		last, failure = f.standing(ctx, id)
		return last == fsm.ProposalExecuted
	})
	if err != nil {
		return fmt.Errorf("%w: %s %s, %v", err, args[0], last, failure)
	}
	return nil
}

// standing is how a proposal stands, by any replica.
func (f *fleet) standing(ctx context.Context, id string) (string, error) {
	failed := errors.New("no replica runs")
	for _, r := range f.replicas {
		if r.Process == nil {
			continue
		}
		var got struct {
			Standing string `json:"standing"`
		}
		if failed = f.Look(ctx, r, "/v1/proposals/"+id, &got); failed == nil {
			return got.Standing, nil
		}
	}
	return "", failed
}
