package replica

import (
	"context"
	"crypto/sha256"
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
	busy    map[ledger.Hash]time.Time // when the leader was first too busy for these bytes
	refused censor                    // the newest
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

// watched is one submission under watch.
type watched struct {
	envelopes [][]byte
	from      ledger.Hash // the peer that passed it on; zero: a client of ours
	leader    raft.ServerID
	term      uint64
	since     time.Time // of the watch, under this leader
	sent      time.Time // to it, the last time
	sending   bool
	answered  bool // it answered since then: it can hear us
	index     uint64
	ordered   bool // and others were committed in the second half of the limit
	excused   bool // it said that it is busy, or that its disk is full
	shared    bool
	accusing  bool
}

func newCensorship(limit, ban time.Duration) *censorship {
	return &censorship{limit: limit, ban: ban, watched: map[ledger.Hash]*watched{}, busy: map[ledger.Hash]time.Time{}, budget: censorBurst, filled: time.Now()}
}

// watch takes a submission, if there is a place.
func (c *censorship) watch(envelopes [][]byte, from ledger.Hash) bool {
	key := ledger.Hash(sha256.Sum256(frame(envelopes)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watched[key] != nil {
		return true
	}
	same := 0
	for _, one := range c.watched {
		if one.from == from {
			same++
		}
	}
	if len(c.watched) >= maxWatched || !from.IsZero() && same >= maxWatchedOfPeer {
		return false
	}
	c.watched[key] = &watched{envelopes: envelopes, from: from}
	return true
}

// busyAgain says whether the leader has been too busy for the same bytes for
// longer than the limit: whoever goes on asking is then given the lane that
// overload does not fill.
func (c *censorship) busyAgain(envelopes [][]byte) bool {
	key := ledger.Hash(sha256.Sum256(frame(envelopes)))
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	first, known := c.busy[key]
	if known && now.Sub(first) < 2*idleLimits*c.limit {
		return now.Sub(first) >= c.limit
	}
	if len(c.busy) >= maxBusy {
		for key, first := range c.busy {
			if now.Sub(first) >= c.limit { // it did not come again, or is under watch
				delete(c.busy, key)
			}
		}
	}
	if len(c.busy) < maxBusy {
		c.busy[key] = now
	}
	return false
}

// list gives what is under watch.
func (c *censorship) list() map[ledger.Hash]*watched {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make(map[ledger.Hash]*watched, len(c.watched))
	for key, one := range c.watched {
		list[key] = one
	}
	return list
}

func (c *censorship) drop(key ledger.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watched, key)
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
	var slow func()
	slow = func() {
		if ctx.Err() != nil {
			return
		}
		r.censors.watch(envelopes, ledger.Hash{})
		if leader := r.raftLeader(); leader != "" && leader != to.serverID() {
			cancel()
			return
		}
		time.AfterFunc(r.censors.limit/4, slow)
	}
	time.AfterFunc(r.censors.limit/4, slow)
	receipt, err := r.forward(ctx, to, envelopes)
	r.watchForwarded(envelopes, err)
	return receipt, err
}

// watchForwarded puts a submission under watch whose answer from the leader is
// no proof that it is on the ledger. A refusal that our own dry run shares is
// none of the leader's doing; nor are overload and a full disk, until they have
// lasted for as long as the limit for one who asks again and again.
func (r *Replica) watchForwarded(envelopes [][]byte, answer error) {
	var rejected *RejectedError
	var busy *BusyError
	if (errors.As(answer, &busy) || errors.Is(answer, ErrDiskFull)) && !r.censors.busyAgain(envelopes) {
		return
	}
	if errors.As(answer, &rejected) && !r.wouldAccept(envelopes, 0) {
		return
	}
	r.censors.watch(envelopes, ledger.Hash{})
}

// wouldAccept is our own dry run: whether the rules accept a submission on the
// newest state here, at a time from now, and it is not there already.
func (r *Replica) wouldAccept(envelopes [][]byte, ahead time.Duration) bool {
	state := r.shell.now.Load().state
	command := &ledger.Command{Kind: ledger.CommandStatements, Stamp: max(r.now(), state.Stamp()) + uint64(ahead.Milliseconds()), Statements: envelopes}
	checked := r.shell.verifier.newChecked(len(envelopes))
	if verdicts := fsm.Admit(state, command, checked); refused(verdicts) || duplicates(verdicts) {
		return false
	}
	_, stray := strayJoin(checked.list(envelopes))
	return !stray
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
			if !r.wouldAccept(one.envelopes, 0) { // it is on the ledger, or will never be
				r.censors.drop(key)
				continue
			}
			r.look(ctx, &sends, one)
		}
	}
}

// look goes one step with a submission under watch.
func (r *Replica) look(ctx context.Context, sends *sync.WaitGroup, w *watched) {
	c := r.censors
	node := r.node.Load()
	if node == nil || r.halted() != nil {
		return
	}
	leader, term := r.raftLeader(), node.CurrentTerm()
	index := r.shell.now.Load().index
	c.mu.Lock()
	defer c.mu.Unlock()
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
		w.sending, w.sent = true, now
		sends.Go(func() { r.sendAgain(ctx, w) })
	}
	if age >= c.limit/2 && !w.shared && w.from.IsZero() {
		w.shared = true
		sends.Go(func() { r.shareWatched(ctx, w.envelopes, leader) })
	}
	if w.accusing || leader == "" || leader == raft.ServerID(r.id.String()) || age < c.limit || !w.answered ||
		!w.ordered && age < idleLimits*c.limit || w.excused && age < excusedLimits*c.limit {
		return
	}
	w.accusing = true
	sends.Go(func() {
		if lagging := !r.upToDate(ctx, node); !lagging {
			r.accuse(w.envelopes, leader, term, age)
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
func (r *Replica) accuse(envelopes [][]byte, leader raft.ServerID, term uint64, age time.Duration) {
	skew := time.Duration(r.shell.now.Load().state.Policy().MaxSkewMillis) * time.Millisecond
	if !r.wouldAccept(envelopes, 0) || !r.wouldAccept(envelopes, 2*skew) {
		return
	}
	name := ""
	if p := r.pins.now.Load().byServer(leader); p != nil {
		name = p.Name
	}
	reason := fmt.Errorf("%s was given a statement that the rules accept, and has not committed it in %s", name, age.Round(time.Millisecond))
	if st, err := ledger.ParseStatement(envelopes[0]); err == nil {
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
	if !r.wouldAccept(envelopes, 0) {
		return errors.New("it is on the ledger, or the rules refuse it")
	}
	if !r.censors.watch(envelopes, from.id) {
		return errors.New("too many are under watch")
	}
	return nil
}
