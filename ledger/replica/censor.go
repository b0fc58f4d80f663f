package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// censorship watches statements that the leader was given and that stay
// uncommitted although our own dry run accepts them. Beyond the limit the leader
// is refused, so that a majority of such replicas replaces it. DESIGN.md says
// what it must not be mistaken for.
type censorship struct {
	limit time.Duration
	ban   time.Duration // how long whoever was refused gets no vote

	mu      sync.Mutex
	watched map[ledger.Hash]*watched
	busy    map[ledger.Hash]time.Time  // when the leader was first too busy for these bytes
	tried   map[ledger.Hash]*allowance // statements in dry runs for a peer; the zero one is our own clients
	refused censor                     // the newest
	budget  float64
	filled  time.Time
}

// censor is a leader that is refused.
type censor struct {
	id     raft.ServerID
	name   string
	term   uint64
	since  time.Time
	reason string
}

func newCensorship(limit, ban time.Duration) *censorship {
	return &censorship{limit: limit, ban: ban, watched: map[ledger.Hash]*watched{}, busy: map[ledger.Hash]time.Time{}, tried: map[ledger.Hash]*allowance{}, budget: censorBurst, filled: time.Now()}
}

// refuse refuses a leader from now on, unless that was done too often.
func (c *censorship) refuse(of censor) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused.id == of.id && c.refused.term == of.term {
		return false
	}
	now := time.Now()
	c.budget = min(censorBurst, c.budget+float64(now.Sub(c.filled))/float64(censorEvery))
	c.filled = now
	if c.budget < 1 {
		return false
	}
	c.budget--
	c.refused = of
	return true
}

// refuseCensor is the guard's rule: a leader under whom a statement was
// suppressed is not followed in that term, and for a while not voted for. It
// ends by itself, so that a replica which is alone with its finding comes back.
// In a newer term it is followed within that while only if we voted for it.
func refuseCensor(c *censorship, votedFor func(term uint64) raft.ServerID) guardRule {
	return guardRule{"censor", func(q *request) error {
		c.mu.Lock()
		of := c.refused
		c.mu.Unlock()
		if of.id == "" || q.sender.serverID() != of.id {
			return nil
		}
		term, leads := claimed(q.Command)
		wait := c.ban
		switch {
		case leads && term <= of.term:
			wait = max(c.ban, censorHold)
		case leads && votedFor(term) == of.id:
			return nil
		}
		if time.Since(of.since) > wait {
			return nil
		}
		return errors.New(of.reason)
	}}
}

// forwardWatched is forward, for a client of ours: what takes long is watched,
// and given up once another leads.
func (r *Replica) forwardWatched(ctx context.Context, to *peer, envelopes [][]byte) (*Receipt, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // nothing is put under watch any more once this has returned
	ended := false
	var timer *time.Timer
	slow := func() {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return
		}
		r.censors.watch(envelopes, ledger.Hash{})
		if leader := r.raftLeader(); leader != "" && leader != to.serverID() {
			cancel()
			return
		}
		timer.Reset(r.censors.limit / 4)
	}
	mu.Lock()
	timer = time.AfterFunc(r.censors.limit/4, slow)
	mu.Unlock()
	receipt, err := r.forward(ctx, to, envelopes)
	mu.Lock()
	defer mu.Unlock()
	ended = true
	timer.Stop()
	return receipt, r.watchForwarded(envelopes, err)
}

// watchForwarded puts a submission under watch whose answer from the leader is
// no proof that it is on the ledger, and gives the answer as it now stands. A
// refusal that our own dry run shares is none of the leader's doing, and one that
// it does not share says nothing: we may lag behind, or it may lie. Overload and a
// full disk are excuses, until they have lasted for as long as the limit for one
// who asks again and again.
func (r *Replica) watchForwarded(envelopes [][]byte, answer error) error {
	var rejected *RejectedError
	var busy *BusyError
	if (errors.As(answer, &busy) || errors.Is(answer, ErrDiskFull)) && !r.censors.busyAgain(envelopes) {
		return answer
	}
	refusal := errors.As(answer, &rejected)
	// What is under watch was tried here, and is looked at until the rules refuse it:
	// a leader that rejects it again and again must not use up what may be tried.
	if refusal && !r.censors.holds(envelopes) &&
		!(r.censors.mayTry(ledger.Hash{}, len(envelopes)) && r.wouldAccept(r.dryRun(envelopes), 0)) {
		return answer
	}
	if r.censors.watch(envelopes, ledger.Hash{}) && refusal {
		return fmt.Errorf("%w: the leader rejects what the rules accept here", ErrUnknownOutcome)
	}
	return answer
}

// dryRun is what our own rules say of one submission. What was verified of it
// once is remembered.
type dryRun struct {
	mu        sync.Mutex
	envelopes [][]byte
	checked   *checked
	asked     *applied // the newest state that accepted looked at
}

func (r *Replica) dryRun(envelopes [][]byte) *dryRun {
	return &dryRun{envelopes: envelopes, checked: r.shell.verifier.newChecked(len(envelopes))}
}

// tryHere makes a dry run on the newest state here, at a time from now.
func (r *Replica) tryHere(d *dryRun, ahead time.Duration) []fsm.Verdict {
	state := r.shell.now.Load().state
	command := &ledger.Command{Kind: ledger.CommandStatements, Stamp: max(r.now(), state.Stamp()) + uint64(ahead.Milliseconds()), Statements: d.envelopes}
	d.mu.Lock()
	defer d.mu.Unlock()
	return fsm.Admit(state, command, d.checked)
}

// wouldAccept says whether the rules accept a submission by our own dry run, and
// it is not on the ledger already.
func (r *Replica) wouldAccept(d *dryRun, ahead time.Duration) bool {
	if verdicts := r.tryHere(d, ahead); refused(verdicts) || duplicates(verdicts) {
		return false
	}
	_, stray := strayJoin(d.checked.list(d.envelopes))
	return !stray
}

// accepted is the first result of a submission that is on the ledger by now, as
// far as it is applied here; nil otherwise. It looks once at each state: whoever
// waits asks again and again. For one goroutine.
func (r *Replica) accepted(d *dryRun) *Receipt {
	now := r.shell.now.Load()
	if d.asked == now {
		return nil
	}
	d.asked = now
	verdicts := r.tryHere(d, 0)
	if !refused(verdicts) && duplicates(verdicts) {
		return receiptOf(verdicts, 0)
	}
	receipt, _ := r.shell.recent.said(verdicts)
	return receipt
}

// censorLoop looks at what is under watch.
func (r *Replica) censorLoop(ctx context.Context) error {
	timer := time.NewTicker(max(r.censors.limit/20, 20*time.Millisecond))
	defer timer.Stop()
	var sends sync.WaitGroup
	defer sends.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		for key, one := range r.censors.list() {
			if !r.wouldAccept(one.rules(r), 0) { // it is on the ledger, or will never be
				r.censors.drop(key)
				continue
			}
			r.look(ctx, &sends, key, one)
		}
	}
}

// look goes one step with a submission, if it is under watch still.
func (r *Replica) look(ctx context.Context, sends *sync.WaitGroup, key ledger.Hash, w *watched) {
	c := r.censors
	node := r.node.Load()
	if node == nil || r.halted() != nil {
		return
	}
	leader, term := r.raftLeader(), node.CurrentTerm()
	index := r.shell.now.Load().index
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watched[key] != w {
		return // withdrawn since it was listed: its client was told that nobody has it
	}
	now := time.Now()
	fresh := w.leader != leader || w.term != term
	if fresh || leader == "" || !r.caughtUp.Load() || r.diskError() != nil {
		// A new leader, or we are in no position to judge: the time begins anew.
		if fresh && w.term == 0 && w.from.IsZero() {
			w.sent = now // it has it just now from our client
		} else if fresh {
			w.sent = time.Time{}
		}
		w.leader, w.term, w.since, w.index = leader, term, now, index
		w.answered, w.ordered, w.shared, w.excused = false, false, false, false
	}
	age := now.Sub(w.since)
	if age >= c.limit/2 && index > w.index {
		w.ordered = true
	}
	if age < c.limit/2 {
		w.index = index
	}
	if leader != "" && !w.sending && now.Sub(w.sent) >= c.limit/4 {
		w.sending, w.sent, w.again = true, now, true
		sends.Go(func() { r.sendAgain(ctx, w) })
	}
	if age >= c.limit/2 && !w.shared && w.from.IsZero() {
		w.shared, w.again = true, true
		sends.Go(func() { r.shareWatched(ctx, w.envelopes, leader) })
	}
	if w.accusing || leader == "" || leader == raft.ServerID(r.id.String()) || age < c.limit || !w.answered ||
		!w.ordered && age < idleLimits*c.limit || w.excused && age < excusedLimits*c.limit {
		return
	}
	w.accusing = true
	sends.Go(func() {
		if lagging := !r.upToDate(ctx, node); !lagging {
			r.accuse(w.rules(r), leader, term, age)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		w.accusing, w.since = false, time.Now()
	})
}

// upToDate waits until this replica has what more than f others have committed
// by now, and says whether it came to that: one that lags behind, its disk being
// slow, say, can't know what is committed.
func (r *Replica) upToDate(ctx context.Context, node *raft.Raft) bool {
	var commits []uint64
	var mu sync.Mutex
	r.positions(ctx, 0, func(said positionMessage) bool {
		mu.Lock()
		defer mu.Unlock()
		commits = append(commits, said.Commit)
		return true
	})
	slices.Sort(commits)
	faults := ledger.Faults(len(r.pins.voters(r.id)) + 1)
	if len(commits) <= faults {
		return true // nobody to compare with
	}
	target := commits[len(commits)-1-faults]
	for end := time.Now().Add(r.censors.limit / 2); node.AppliedIndex() < target; {
		if time.Now().After(end) || !pause(ctx, r.censors.limit/20) {
			return false
		}
	}
	return pause(ctx, r.censors.limit/20) // what is handed to the FSM, it applies at once
}

// accuse refuses the leader of a term, unless the statements are accepted by
// now, or are about to become what the rules refuse: its clock may be ahead.
func (r *Replica) accuse(d *dryRun, leader raft.ServerID, term uint64, age time.Duration) {
	skew := time.Duration(r.shell.now.Load().state.Policy().MaxSkewMillis) * time.Millisecond
	if !r.wouldAccept(d, 0) || !r.wouldAccept(d, 2*skew) {
		return
	}
	name := ""
	if p := r.pins.now.Load().byServer(leader); p != nil {
		name = p.Name
	}
	reason := fmt.Errorf("%s was given a statement that the rules accept, and has not committed it in %s", name, age.Round(time.Millisecond))
	if st, err := ledger.ParseStatement(d.envelopes[0]); err == nil {
		reason = fmt.Errorf("%w: of %s, %.16s", reason, st.Payload.Author, st.ID.String())
	}
	if r.censors.refuse(censor{id: leader, name: name, term: term, since: time.Now(), reason: reason.Error()}) {
		r.refused("censor", name, reason)
	}
}

// sendAgain gives the leader a submission once more, and notes whether it could
// hear us. As leader it is our own to order.
func (r *Replica) sendAgain(ctx context.Context, w *watched) {
	c := r.censors
	c.mu.Lock()
	leader, term, envelopes := w.leader, w.term, w.envelopes
	c.mu.Unlock()
	heard, excused := false, false
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		w.sending = false
		if w.leader != leader || w.term != term {
			return
		}
		w.answered = w.answered || heard
		w.excused = w.excused || excused
	}()
	ctx, cancel := context.WithTimeout(ctx, c.limit/2)
	defer cancel()
	if leader == raft.ServerID(r.id.String()) {
		if node := r.node.Load(); node != nil && r.admission.enter(r.id, 0) {
			_, _ = r.propose(ctx, node, submission{envelopes: envelopes})
			r.admission.leave(r.id, 0)
		}
		return
	}
	to := r.pins.now.Load().byServer(leader)
	if to == nil {
		return
	}
	_, err := r.forwardBy(ctx, to, pathSubmit+"?"+waitingQuery, envelopes)
	// Neither is so in this lane, or with a leader that hands on; but not at once.
	var busy *BusyError
	excused = errors.As(err, &busy) || errors.Is(err, ErrDiskFull)
	// Whoever answers this hears the other as well.
	asked, done := context.WithTimeout(context.WithoutCancel(ctx), c.limit/4)
	defer done()
	_, err = r.peers.get(asked, to, pathPosition+"?index=0", maxPeerNotes)
	heard = err == nil
}

// shareWatched gives the other replicas what the leader suppresses, as it
// seems, so that they see for themselves.
func (r *Replica) shareWatched(ctx context.Context, envelopes [][]byte, leader raft.ServerID) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.PeerTimeout)
	defer cancel()
	body := frame(envelopes)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, one := range r.peers.others() {
		if one.serverID() != leader && r.pins.mayVote(one.id) {
			wg.Go(func() { _, _ = r.peers.do(ctx, one, http.MethodPost, pathPending, body, maxPeerNotes) })
		}
	}
}

// servePending takes a submission that a peer saw suppressed. It counts only
// once the leader has had it from us too, and time.
func (r *Replica) servePending(_ http.ResponseWriter, q *http.Request, from *peer) error {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxPendingBytes+1))
	if err != nil {
		return err
	}
	envelopes, err := parseFramed(body, ledger.MaxEnvelopeBytes, ledger.MaxBundle)
	if err != nil || len(envelopes) == 0 || len(body) > maxPendingBytes {
		return errors.Join(errors.New("want 1 to 512 envelopes in at most 4 MiB"), err)
	}
	known, room := r.censors.place(envelopes, from.id)
	switch {
	case known:
		return nil
	case !room:
		return errors.New("too many are under watch")
	case !r.censors.mayTry(from.id, len(envelopes)):
		return errors.New("too many to look at")
	case !r.wouldAccept(r.dryRun(envelopes), 0):
		return errors.New("it is on the ledger, or the rules refuse it")
	case !r.censors.watch(envelopes, from.id):
		return errors.New("too many are under watch")
	}
	return nil
}
