package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/ledger"

	"github.com/quorate/quorate/test/stagehand"
)

// nodeStage is one attack by holders of nodes' keys, on a ledger of its own.
type nodeStage struct {
	name   string
	attack string // in a sentence
	short  bool   // among those of make test
	run    func(ctx context.Context, f *fleet) error
	agents bool   // on a fleet whose honest nodes run agents
	quota  uint64 // of the ledger; 0: so large that nobody reaches it by chance
	crowd  int    // nodes of each of the first three operators, which collude and run no agent; 0: as many as of the others
	liar   bool   // r4 lies
	watch  bool   // epochs are so short that the probe quota lets every node watch all others
}

// attackByNodes stages attacks one after the other, and says whether all got
// what they should.
func attackByNodes(ctx context.Context, w io.Writer, o options, chosen []nodeStage) bool {
	began, harmed := time.Now(), 0
	failed := []string{}
	for _, one := range chosen {
		if ctx.Err() != nil {
			break
		}
		r, hurt := performByNodes(ctx, o, one)
		harmed += hurt
		if !r.Print(w, one.name, "the attack", one.attack) {
			failed = append(failed, one.name)
		}
	}
	fmt.Fprintf(w, "honest nodes that were quarantined or excluded, in any staged attack: %d\n", harmed)
	fmt.Fprintf(w, "%d attacks by nodes staged in %.0f s, %d failed%s\n", len(chosen), time.Since(began).Seconds(), len(failed), listed(failed))
	return ctx.Err() == nil && len(failed) == 0 && len(chosen) > 0
}

// performByNodes stages one attack, and counts the honest nodes that it hurt.
func performByNodes(ctx context.Context, o options, one nodeStage) (*stagehand.Report, int) {
	r := stagehand.NewReport()
	ctx, cancel := context.WithTimeout(ctx, nodeStageLimit)
	defer cancel()
	operators, nodes := fleetOperators, fleetNodes
	if one.agents {
		operators, nodes = agentOperators, max(o.nodes, 1)
	} else {
		one.quota = fleetQuota
	}
	if one.quota == 0 {
		one.quota = agentQuota
	}
	epoch := fleetEpoch
	if one.watch {
		epoch = watchedEpoch
	}
	founding := ofNodes(operators, one.quota, epoch)
	if one.liar {
		founding.fourth = ofReplicas.fourth
	}
	s, end := begin(ctx, r, o, founding)
	defer end()
	if s == nil {
		return r, 0
	}
	hurt := 0
	err := s.startAll(ctx)
	if err == nil {
		hurt, err = s.attacked(ctx, one, operators, nodes)
	}
	if err != nil {
		r.Fail("%v", err)
	}
	s.stopAll()
	if len(r.Faults) > 0 && !o.quiet {
		s.logs()
	}
	return r, hurt
}

// attacked founds the fleet, runs the attack under an auditor's eyes, and looks
// at what it did to others.
func (s *scene) attacked(ctx context.Context, one nodeStage, operators, nodes int) (int, error) {
	f := &fleet{scene: s, audit: newAudit(s), guilty: map[string]bool{}, signed: map[ledger.Hash]time.Time{}, quota: one.quota}
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); f.audit.run(watching) }()
	defer func() { stop(); <-done }()
	if err := f.found(ctx, operators, nodes, one.crowd); err != nil {
		return 0, err
	}
	err := one.run(ctx, f)
	f.stopAgents()
	if len(s.Refused) > 0 {
		var list []string
		for _, code := range slices.Sorted(maps.Keys(s.Refused)) {
			list = append(list, fmt.Sprintf("%s (%d×)", code, s.Refused[code]))
		}
		s.Says("refused", "%s", strings.Join(list, ", "))
	}
	// What the last seal of the attack says must be derived too.
	if e := f.mark(ctx); err == nil {
		err = e
	}
	count, strange := f.audit.strangers(f)
	s.Says("auditor", "derived %d entries anew; %d statements of nodes, %d that their authors never signed", f.audit.now().Next(), count, strange)
	s.Demand(strange == 0, "statements are on the ledger that their authors never signed")
	harmed := f.audit.harmed(f.guilty)
	for _, h := range harmed {
		s.Fail("an honest node was harmed: %s", h)
	}
	return len(harmed), err
}
