package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/quorate/quorate/test/nodetest"
)

// judgingResults is how many statements an agent judges in a second on all cores:
// read, checked against the certified state, signature verified, compared with
// what was seen, queued for the ledger. The channel they come by is not in it.
type judgingResults struct {
	Statements int     `json:"statements"`
	PerSecond  float64 `json:"statements_per_second"`
	CPU        float64 `json:"cpu_us"` // of one statement
	Bare       float64 `json:"bare_signatures_per_second"`
	Ratio      float64 `json:"ratio"` // to bare ML-DSA-65 on the same cores, median of the rounds
}

// judging has one agent of the fleet judge statements of four authors, in turn
// with the bare verification of as many.
func (b *bench) judging(ctx context.Context) error {
	s, err := b.speaking(ctx)
	if err != nil {
		return err
	}
	rounds, each := 3, 2_000
	if b.quick {
		rounds, each = 1, 500
	}
	var rates, cpu, bares, ratios []float64
	for range rounds {
		judged, bare, err := s.judgeRound(ctx, each)
		if err != nil {
			return err
		}
		rate := float64(each) / (float64(judged.Nanos) / 1e9)
		rates, cpu = append(rates, rate), append(cpu, float64(judged.CPUNanos)/1000/float64(each))
		bares, ratios = append(bares, bare), append(ratios, rate/bare)
	}
	b.results.Judging = &judgingResults{Statements: rounds * each, PerSecond: median(rates), CPU: median(cpu), Bare: median(bares), Ratio: median(ratios)}
	b.note("an agent judges %.0f statements/s on %d cores, %.2f of bare ML-DSA-65", median(rates), runtime.NumCPU(), median(ratios))
	return nil
}

// judgeRound signs statements, has them judged, and verifies them.
func (s *speakers) judgeRound(ctx context.Context, each int) (*nodetest.Judged, float64, error) {
	envelopes := make([][]byte, each)
	var signers []*signer
	for i := range heralds {
		signers = append(signers, &signer{key: s.herald(i).Key, author: s.herald(i).Name})
	}
	for i := range envelopes {
		var err error
		if envelopes[i], _, err = s.observes(s.herald(i), s.nodes[i%fleetAgents].Name); err != nil {
			return nil, 0, err
		}
	}
	text, err := json.Marshal(envelopes)
	if err != nil {
		return nil, 0, err
	}
	path := filepath.Join(s.dir, "judge.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, 0, err
	}
	bare, err := bareRate(signers, envelopes)
	if err != nil {
		return nil, 0, err
	}
	agent := s.agents[0]
	agent.mu.Lock()
	agent.judged = nil
	agent.mu.Unlock()
	if err := agent.order(&nodetest.Order{Judge: path}); err != nil {
		return nil, 0, err
	}
	var judged *nodetest.Judged
	err = await(ctx, startLimit, func() error {
		agent.mu.Lock()
		defer agent.mu.Unlock()
		if judged = agent.judged; judged == nil {
			return errors.New("the agent still judges")
		}
		return nil
	})
	if err == nil && judged.Accepted != each {
		err = fmt.Errorf("the agent accepted %d of %d good statements", judged.Accepted, each)
	}
	return judged, bare, err
}
