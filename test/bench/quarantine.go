package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/nodetest"
)

// quarantineResults is how long the proof of an offence takes from one agent to
// all: from when the courier gives one agent the second of two statements under
// one seq, which all others never see, until each agent drops their author.
type quarantineResults struct {
	Nodes     int     `json:"nodes"`
	Offenders int     `json:"offenders"`
	Each      *spread `json:"each"` // every agent, every offender
	Last      *spread `json:"last"` // the last agent, every offender
	// Later statements of the offenders, given to every agent by a third node after
	// all had dropped them.
	Judged   int `json:"judged_after"`
	Accepted int `json:"accepted_after"` // 0, or the section fails
	// Bare is what a bare GossipSub takes for as many bytes as the evidence has: the
	// floor. It drops nobody.
	Bytes int             `json:"evidence_bytes"`
	Bare  *broadcastTimes `json:"bare_gossipsub"`
}

const laterStatements = 3 // of each offender, to each agent

// quarantines measures on loopback.
func (b *bench) quarantines(ctx context.Context) error {
	s, err := b.speaking(ctx)
	if err != nil {
		return err
	}
	if err := s.hire(ctx); err != nil {
		return err
	}
	rounds := offenders
	if b.quick {
		rounds = 4
	}
	out := &quarantineResults{Nodes: len(s.agents), Offenders: rounds}
	var each, last []time.Duration
	var bare []broadcast
	for i := range rounds {
		times, err := s.quarantine(ctx, i, out)
		if err != nil {
			return err
		}
		longest := time.Duration(0)
		for _, t := range times {
			each, longest = append(each, t), max(longest, t)
		}
		last = append(last, longest)
		b.note("offender %d: dropped by all %d agents after %.0f ms", i+1, len(times), millis(longest))
		data := make([]byte, out.Bytes)
		_, _ = rand.Read(data)
		from := s.bare[i%len(s.bare)]
		if err := from.order(&nodetest.Order{Publish: data}); err != nil {
			return err
		}
		bare = append(bare, broadcast{bareID(data), from})
		pause(ctx, broadcastPace)
	}
	out.Each, out.Last, out.Bare = spreadOf(each), spreadOf(last), timesOf(ctx, s.bare, bare)
	b.results.Quarantine = out
	if out.Accepted > 0 {
		return fmt.Errorf("%d frames of offenders were accepted after they were dropped", out.Accepted)
	}
	return nil
}

// quarantine has the i-th offender convicted, and says how long each agent took.
func (s *speakers) quarantine(ctx context.Context, i int, out *quarantineResults) ([]time.Duration, error) {
	bad := s.offender(i)
	first, id, err := s.observes(bad, s.nodes[0].Name, 0)
	if err != nil {
		return nil, err
	}
	second, _, err := s.observes(bad, s.nodes[1].Name, 0)
	if err != nil {
		return nil, err
	}
	// The first one is known to all, and on the ledger.
	from := s.agents[i%len(s.agents)]
	if err := errors.Join(from.order(&nodetest.Order{Publish: first}), s.submitAnywhere(ctx, first)); err != nil {
		return nil, err
	}
	if err := await(ctx, broadcastLimit, func() error { return arrived(s.agents, from, id) }); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := s.courier.give((i+7)%len(s.agents), second); err != nil {
		return nil, err
	}
	var times []time.Duration
	if err := await(ctx, broadcastLimit, func() error {
		times = nil
		for _, t := range s.agents {
			at := t.when(t.dropped, bad.Name)
			if at == 0 {
				return fmt.Errorf("%s has not dropped %s", t.name, bad.Name)
			}
			times = append(times, time.Unix(0, at).Sub(began))
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if out.Bytes, err = evidenceBytes(bad, first, second); err != nil {
		return nil, err
	}
	return times, s.speakAfter(ctx, bad, out)
}

// evidenceBytes is how large the evidence of two statements is, whoever signs it.
func evidenceBytes(n *nodetest.Node, exhibits ...[]byte) (int, error) {
	epoch, seq := uint64(0), uint64(0)
	e, err := ledger.Sign(n.Key, ledger.Payload{Author: n.Name, Epoch: &epoch, Seq: &seq, Type: ledger.TypeEvidence},
		ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: exhibits})
	return len(e), err
}

// speakAfter gives every agent more statements of an offender that all have
// dropped, and counts what became of them.
func (s *speakers) speakAfter(ctx context.Context, bad *nodetest.Node, out *quarantineResults) error {
	later := map[string]bool{}
	for i, t := range s.agents {
		var messages [][]byte
		for j := range laterStatements {
			envelope, id, err := s.observes(bad, s.nodes[i].Name, uint64(1+i*laterStatements+j))
			if err != nil {
				return err
			}
			messages, later[id] = append(messages, envelope), true
		}
		if err := s.courier.give(i, messages...); err != nil {
			return fmt.Errorf("give frames to %s: %w", t.name, err)
		}
	}
	count := func() (judged, accepted int) {
		for _, t := range s.agents {
			t.mu.Lock()
			for _, h := range t.heard[bad.Name] {
				if later[h.ID] {
					judged++
					if h.Verdict == "accept" {
						accepted++
					}
				}
			}
			t.mu.Unlock()
		}
		return judged, accepted
	}
	err := await(ctx, broadcastLimit, func() error {
		if judged, _ := count(); judged < len(later) {
			return fmt.Errorf("%d of %d frames were looked at", judged, len(later))
		}
		return nil
	})
	judged, accepted := count()
	out.Judged, out.Accepted = out.Judged+judged, out.Accepted+accepted
	return err
}
