package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

const (
	// replayEntries is up to which size the effect of a proposal is derived
	// here by default: a second or two of work. --replay knows no limit.
	replayEntries = 4_096
	// maxHeadAge is the default of the policy's max_head_age_millis: heads are cosigned anew every 10 s.
	maxHeadAge = time.Minute
	// replayKeys is how many unpacked keys a replay keeps, of 40 kB each.
	replayKeys = 512
	// maxProvenChanges bounds how many records of an effect are proven one by one.
	maxProvenChanges = 32
)

// simulate gives the effect of an action now. A ledger that is not long is
// replayed here from its verified entries, so that nobody is believed; a long
// one is simulated by the server, and what each record holds before is proven.
func (l *link) simulate(ctx context.Context, body *ledger.Propose, author string, joins [][]byte) (*effect, error) {
	head, err := l.synced(ctx)
	if err != nil {
		return nil, err
	}
	var e *effect
	switch {
	case l.replay || head.Size <= replayEntries:
		e, err = l.simulateHere(ctx, head, body, author, joins)
	case len(joins) > 0:
		// The joins come with the proposal, so a server can't simulate it yet.
	default:
		e, err = l.simulateThere(ctx, body.Action, body.Args, author)
	}
	if e != nil {
		e.Stale = staleness(head, time.Now())
	}
	return e, err
}

// staleness is how old a head is that replicas which are up would have
// cosigned anew long ago, "" if it is not.
func staleness(head *client.Head, now time.Time) string {
	if age := now.Sub(time.Unix(int64(head.Signed), 0)); age > maxHeadAge {
		return age.Round(time.Second).String()
	}
	return ""
}

// synced is the newest head that verifies, stale or not.
func (l *link) synced(ctx context.Context) (*client.Head, error) {
	head, err := l.Sync(ctx)
	var stale *client.StaleError
	if err != nil && !errors.As(err, &stale) {
		return nil, err
	}
	return head, nil
}

// state derives the state at a verified head from every entry before it.
func (l *link) state(ctx context.Context, head *client.Head) (*fsm.State, error) {
	var replayer *fsm.Replayer
	for next := uint64(0); next < head.Size; {
		page, err := l.Entries(ctx, next, int(min(head.Size-next, client.MaxEntriesPage)))
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("replay: the server has no entry %d", next)
		}
		for _, e := range page {
			if replayer == nil {
				replayer, err = fsm.NewReplayer(e.Entry, fsm.NewDirectVerifier(replayKeys))
			} else {
				err = replayer.Add(e.Entry)
			}
			if err != nil {
				return nil, refused("keep the head and the export as evidence, and tell the other operators", "the certified ledger does not follow its own rules: %w", err)
			}
			next++
		}
	}
	return replayer.State(), nil
}

func (l *link) simulateHere(ctx context.Context, head *client.Head, body *ledger.Propose, author string, joins [][]byte) (*effect, error) {
	s, err := l.state(ctx, head)
	if err != nil {
		return nil, err
	}
	stamp := max(uint64(time.Now().UnixMilli()), s.Stamp())
	if len(joins) > 0 {
		command := &ledger.Command{Kind: ledger.CommandStatements, Stamp: stamp, Statements: joins}
		next, result := fsm.Apply(s, command, fsm.NewDirectVerifier(replayKeys))
		for _, v := range result.Verdicts {
			if v.Code != fsm.OK && v.Code != fsm.BundleRejected {
				return &effect{Code: v.Code.String(), Detail: "a join: " + v.Detail, Source: "simulated here"}, nil
			}
		}
		s = next
	}
	diff, verdict := fsm.Simulate(s, body.Action, body.Args, author, stamp)
	e := &effect{Code: verdict.Code.String(), Detail: verdict.Detail, Words: diff.Words,
		Source: fmt.Sprintf("simulated here, on the state that all %d certified entries give", head.Size)}
	for _, c := range diff.Changes {
		e.Changes = append(e.Changes, client.Change{Key: c.Key, Before: json.RawMessage(c.Before), After: json.RawMessage(c.After)})
	}
	return e, nil
}

// simulateThere asks a server for the effect, and proves what the changed
// records hold now, so that a server can't misstate what is being changed.
func (l *link) simulateThere(ctx context.Context, action string, args canon.Raw, author string) (*effect, error) {
	diff, err := l.Simulate(ctx, client.SimulateRequest{Action: action, Args: json.RawMessage(args), Author: author})
	if err != nil {
		return nil, err
	}
	e := effectOf(diff, "simulated by the server; --replay derives it here")
	proven := min(len(diff.Changes), maxProvenChanges)
	for _, change := range diff.Changes[:proven] {
		record, err := l.Record(ctx, change.Key)
		if err != nil {
			return nil, err
		}
		if (len(change.Before) > 0) != (record.Value != nil) || record.Value != nil && !sameJSON(change.Before, record.Value) {
			e.Source = fmt.Sprintf("simulated by the server; WARNING: %s is not what the certified head has, or it has just changed", change.Key)
			return e, nil
		}
	}
	if proven > 0 {
		e.Source += fmt.Sprintf("; the state before is proven for %d of %d records", proven, len(diff.Changes))
	}
	return e, nil
}
