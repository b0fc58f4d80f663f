package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// equivocated has three nodes contradict themselves, each in a way that proves
// itself.
func equivocated(ctx context.Context, f *fleet) error {
	two, counter, contradicts, honest := f.node(nodeName(0, 0)), f.node(nodeName(1, 0)), f.node(nodeName(2, 0)), f.node(nodeName(3, 0))
	f.attackers(two, counter, contradicts)
	t, quiet := f.speak(ctx, f.except(two.operator, counter.operator, contradicts.operator))
	defer quiet()
	t.enter("during")

	// One seq, two statements, each for half of the replicas.
	_, seq := two.next(ledger.TypeRecord, f.audit.epoch())
	halves := [][]byte{f.states(two, ledger.TypeRecord, text("for some"), atSeq(seq)), f.states(two, ledger.TypeRecord, text("for others"), atSeq(seq))}
	codes := map[string]int{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for i, m := range f.members {
		wait.Go(func() {
			code, _ := f.submitsAt(ctx, m, halves[i%2])
			mu.Lock()
			codes[code]++
			mu.Unlock()
		})
	}
	wait.Wait()
	f.Demand(codes["ok"] >= 1 && codes["seq_used"] >= 1 && codes["ok"]+codes["seq_used"] == replicas, "the halves got %v", codes)
	f.Counts("seq_used", codes["seq_used"])
	f.Says("attacker", "%s signs two statements under seq %d, and gives each to two replicas", two.name, seq)
	if err := f.convicts(ctx, honest, two, ledger.EvidenceEquivocation, halves...); err != nil {
		return err
	}

	// One counter, two meanings.
	body := f.observation(counter, ledger.LinkDown, honest.name)
	up := body
	up.Kind = ledger.LinkUp
	f.Says("attacker", "%s says under one counter that its link to %s is down and that it is up", counter.name, honest.name)
	if err := f.convicts(ctx, honest, counter, ledger.EvidenceObservation, f.states(counter, ledger.TypeObserve, body), f.states(counter, ledger.TypeObserve, up)); err != nil {
		return err
	}

	// An accusation against one whose probe it acknowledged.
	body = f.observation(contradicts, ledger.NodeDown, honest.name)
	probe := f.states(honest, ledger.TypeProbe, ledger.Probe{Nonce: nonce(), Subject: contradicts.name, Tick: body.To})
	ack := f.states(contradicts, ledger.TypeAck, ledger.Ack{Challenge: statementID(probe), Prober: honest.name, Tick: body.To})
	accusation := f.states(contradicts, ledger.TypeObserve, body)
	before := f.audit.reputation(contradicts.name)
	if err := f.submits(ctx, f.brings(honest, ledger.EvidenceContradiction, accusation, ack)); err != nil {
		return err
	}
	offence, err := f.audit.awaitEffect(ctx, fsm.EffectOffence, contradicts.name)
	if err != nil {
		return err
	}
	f.Says("attacker", "%s acknowledges a probe of %s and says that %s was down in that tick", contradicts.name, honest.name, honest.name)
	f.Says("detected", "contradiction, entry %d: reputation %d, it was %d", offence.seq, f.audit.reputation(contradicts.name), before)
	f.Demand(f.audit.reputation(contradicts.name) < before, "a contradiction cost nothing")
	quiet()
	t.line(f)
	return nil
}

// convicts brings evidence that excludes, and demands that it does so for good.
func (f *fleet) convicts(ctx context.Context, by, offender *node, kind string, exhibits ...[]byte) error {
	evidence := f.brings(by, kind, exhibits...)
	begin := time.Now()
	if code, _ := f.submitsAt(ctx, f.members[1], evidence); code != "ok" {
		return fmt.Errorf("evidence of %s is refused: %s", kind, code)
	}
	out, err := f.dropped(ctx, offender.name, fsm.NodeExcluded, begin)
	if err != nil {
		return err
	}
	excluded, err := f.audit.awaitEffect(ctx, fsm.EffectExcluded, offender.name)
	if err != nil {
		return err
	}
	f.Says("detected", "%s, by evidence of %s: excluded, entry %d, caused by %v; at every replica, certified, after %s", kind, by.name, excluded.seq, excluded.causes, out.Round(time.Millisecond))
	f.demandsCode(ctx, "a record of the excluded", f.states(offender, ledger.TypeRecord, text("let me")), "excluded")
	again := f.brings(f.node(nodeName(4, 0)), kind, exhibits[1], exhibits[0])
	f.demandsCode(ctx, "the same evidence in another order", again, "offence_known", "excluded")
	return nil
}

func nonce() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return b
}

// flooded has a node say a hundred times what it may, from an address of its
// own, as a machine of its own would have.
func floodedByNode(ctx context.Context, f *fleet) error {
	n, honest := f.node(nodeName(0, 0)), f.node(nodeName(1, 0))
	f.attackers(n)
	t, quiet := f.speak(ctx, f.except(n.operator))
	defer quiet()
	for wave := 1; f.audit.standing(n.name) == fsm.NodeActive; wave++ {
		if wave > floodWaves {
			return fmt.Errorf("after %d waves it is still active, with reputation %d", floodWaves, f.audit.reputation(n.name))
		}
		if wave > 1 {
			if err := f.advance(ctx, 1); err != nil {
				return err
			}
		}
		t.enter("signing") // the stage itself takes the machine
		statements := f.manyOf(n)
		t.enter("during")
		counts, took := f.flood(ctx, statements)
		f.Says("attacker", "wave %d: %s sends %d statements, the quota is %d, in %.1f s: %v", wave, n.name, len(statements), fleetQuota, took.Seconds(), counts)
		f.Counts("quota_exceeded", counts["quota_exceeded"])
		begin := time.Now()
		before := f.audit.reputation(n.name)
		if code, _ := f.submitsAt(ctx, f.members[1], f.brings(honest, ledger.EvidenceFlood, statements[len(statements)-1])); code != "ok" {
			return fmt.Errorf("evidence of a flood is refused: %s", code)
		}
		f.demandsCode(ctx, "the flood of this epoch a second time", f.brings(honest, ledger.EvidenceFlood, statements[len(statements)-2]), "offence_known")
		if err := f.audit.await(ctx, "the flood is punished", func(*fsm.State) bool { return f.audit.reputation(n.name) < before }); err != nil {
			return err
		}
		f.Says("detected", "flood, by evidence of %s: reputation %d, it was %d; %s; certified after %s", honest.name, f.audit.reputation(n.name), before,
			f.audit.standing(n.name), time.Since(begin).Round(time.Millisecond))
	}
	quiet()
	said := f.audit.by(n.name)
	for epoch, count := range said {
		f.Demand(count <= fleetQuota, "%d statements of epoch %d are on the ledger, the quota is %d", count, epoch, fleetQuota)
	}
	t.line(f)
	return nil
}

// manyOf signs a hundred quotas of one epoch.
func (f *fleet) manyOf(n *node) [][]byte {
	out := make([][]byte, 100*fleetQuota)
	var wait sync.WaitGroup
	var at atomic.Int64
	for range 2 {
		wait.Go(func() {
			for i := at.Add(1) - 1; i < int64(len(out)); i = at.Add(1) - 1 {
				out[i] = f.states(n, ledger.TypeRecord, text("more"), atSeq(uint64(i)))
			}
		})
	}
	wait.Wait()
	return out
}

// flood sends statements in bundles at every replica at once, and counts what
// becomes of them by the code or the status.
func (f *fleet) flood(ctx context.Context, statements [][]byte) (map[string]int, time.Duration) {
	begin := time.Now()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}}
	h := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: floodAtOnce}}
	defer h.CloseIdleConnections()
	var mu sync.Mutex
	counts := map[string]int{}
	var wait sync.WaitGroup
	var at atomic.Int64
	for w := range floodAtOnce {
		wait.Go(func() {
			for {
				from := int(at.Add(floodBundle)) - floodBundle
				if from >= len(statements) || ctx.Err() != nil {
					return
				}
				chunk := statements[from:min(from+floodBundle, len(statements))]
				code := post(ctx, h, f.members[w%replicas].url(), chunk)
				mu.Lock()
				counts[code] += len(chunk)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return counts, time.Since(begin)
}

// post submits without any of a client's patience.
func post(ctx context.Context, h *http.Client, url string, envelopes [][]byte) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/statements", bytes.NewReader(bytes.Join(envelopes, nil)))
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Content-Type", "application/cose")
	answer, err := h.Do(request)
	if err != nil {
		return "no answer"
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	for _, code := range []string{"quota_exceeded", "seq_used", "quarantined", "rate_limited", "too_many"} {
		if bytes.Contains(body, []byte(code)) {
			return code
		}
	}
	return answer.Status
}
