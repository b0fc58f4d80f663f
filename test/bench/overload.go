package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// overloadResults is what a leader does when ten times as many clients want a
// place as it has.
type overloadResults struct {
	Clients     int     `json:"clients"`
	Seconds     float64 `json:"seconds"`
	Accepted    *cell   `json:"accepted"`
	Baseline    *cell   `json:"baseline"` // the same statements at the number of places
	P99Ratio    float64 `json:"accepted_p99_to_baseline"`
	Refused     *spread `json:"refused"` // how soon 429 came
	RefusedRate float64 `json:"refused_per_second"`
	TooOld      int     `json:"too_old"` // seqs that 2,560 clients on few authors held up beyond the rules' window: 409, not sent again
	RSSBefore   uint64  `json:"leader_rss_before_bytes"`
	RSSPeak     uint64  `json:"leader_rss_peak_bytes"`
	Lost        int     `json:"lost"` // acknowledged and not on the ledger: 0, or the run fails
}

const (
	places      = 256 // api.Limits.Writes: submissions that the API serves at once
	overload    = 10 * places
	perHost     = 512                    // connections of one source address; the API takes 1,024
	refusedWait = 250 * time.Millisecond // a refused client asks again sooner than it is told
)

// queue holds what is to be sent. What was refused longest ago goes first, so
// that no seq stays behind the window of the rules.
type queue struct {
	mu   sync.Mutex
	rest [][]byte
	next [][]byte // in order; taken when rest is empty
}

func (s *queue) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rest) > 0 {
		one := s.rest[0]
		s.rest = s.rest[1:]
		return one
	}
	if len(s.next) == 0 {
		return nil
	}
	one := s.next[0]
	s.next = s.next[1:]
	return one
}

func (s *queue) back(one []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, one)
}

// flood runs the overload for so long.
func (b *bench) flood(ctx context.Context, t *target, seconds time.Duration) (*overloadResults, error) {
	const text = 64 // small, so that a minute's statements fit into memory
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	warm, err := presign(t.signers, 40_000, text)
	if err != nil {
		return nil, err
	}
	out := &overloadResults{Clients: overload, Seconds: seconds.Seconds()}
	if out.Baseline, err = drive(ctx, leader.api, places, warm, b.warm, 3*time.Second); err != nil {
		return nil, err
	}
	statements, err := presign(t.signers, int(out.Baseline.PerSecond*1.3*seconds.Seconds())+overload, text)
	if err != nil {
		return nil, err
	}
	if out.RSSBefore, err = leader.child.residentBytes(); err != nil {
		return nil, err
	}
	before, err := leader.status(ctx)
	if err != nil {
		return nil, err
	}
	f := &floodRun{statements: &queue{next: statements}, end: time.Now().Add(seconds)}
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { out.RSSPeak = leader.child.peak(watching) })
	err = f.run(ctx, leader.api)
	stop()
	watcher.Wait()
	if err != nil {
		return nil, err
	}
	after, err := t.size(ctx)
	if err != nil {
		return nil, err
	}
	if out.Accepted, err = newCell(f.accepted, seconds, 0); err != nil {
		return nil, err
	}
	if grown := after - before.Applied; grown < uint64(out.Accepted.Operations) {
		return nil, fmt.Errorf("%d acknowledged in the overload, and the ledger grew by %d", out.Accepted.Operations, grown)
	}
	var refused []time.Duration
	for _, list := range f.refused {
		refused = append(refused, list...)
	}
	for _, n := range f.tooOld {
		out.TooOld += n
	}
	out.Refused, out.RefusedRate = spreadOf(refused), float64(len(refused))/seconds.Seconds()
	out.P99Ratio = out.Accepted.P99 / out.Baseline.P99
	return out, nil
}

// floodRun is one overload: what every client saw.
type floodRun struct {
	statements *queue
	end        time.Time
	accepted   [][]time.Duration
	refused    [][]time.Duration
	tooOld     []int
	errs       []error
}

func (f *floodRun) run(ctx context.Context, address string) error {
	f.accepted, f.refused, f.errs = make([][]time.Duration, overload), make([][]time.Duration, overload), make([]error, overload)
	f.tooOld = make([]int, overload)
	var wg sync.WaitGroup
	for i := range overload {
		wg.Go(func() { f.errs[i] = f.client(ctx, address, i) })
	}
	wg.Wait()
	failed := 0
	var first error
	for _, err := range f.errs {
		if err != nil {
			failed++
			first = err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d clients got neither an acknowledgement nor 429: %w", failed, overload, first)
	}
	return nil
}

// client asks until the end, from a loopback address of its group.
func (f *floodRun) client(ctx context.Context, address string, i int) error {
	d := net.Dialer{Timeout: requestTimeout, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/perHost))}}
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer raw.Close()
	c := newConn(address, raw)
	for ctx.Err() == nil && time.Now().Before(f.end) {
		statement := f.statements.take()
		if statement == nil {
			return nil
		}
		sent := time.Now()
		a, err := c.submit(statement, "")
		took := time.Since(sent)
		switch {
		case err != nil:
			return err
		case a.status == http.StatusOK:
			f.accepted[i] = append(f.accepted[i], took)
		case a.status == http.StatusTooManyRequests:
			f.refused[i] = append(f.refused[i], took)
			f.statements.back(statement)
			pause(ctx, refusedWait)
		case a.status == http.StatusConflict && bytes.Contains(a.body, []byte("seq_too_old")):
			f.tooOld[i]++
		default:
			return fmt.Errorf("status %d: %.300s", a.status, a.body)
		}
	}
	return nil
}

// peak is the most memory that the child had in RAM until ctx ends.
func (p *process) peak(ctx context.Context) uint64 {
	most := uint64(0)
	for ctx.Err() == nil {
		if now, err := p.residentBytes(); err == nil {
			most = max(most, now)
		}
		pause(ctx, 100*time.Millisecond)
	}
	return most
}
