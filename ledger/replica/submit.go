package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// Submit brings statements (all of them or none) onto the ledger, by this
// replica if it leads, else by the leader. It returns once they are committed,
// or with WaitCertified once a certified checkpoint covers them. After a lost
// leader it submits the same bytes again, which is safe: what was accepted
// gives its first result.
//
// Errors: *RejectedError, *BusyError, ErrNoLeader, ErrUnknownOutcome,
// ErrDiskFull, ErrStopped, ErrHalted, ErrCatchingUp, or ctx's when it ended
// before anything was sent.
func (r *Replica) Submit(ctx context.Context, envelopes [][]byte, wait Wait) (*Receipt, error) {
	return r.submit(ctx, submission{envelopes: envelopes}, wait)
}

// SubmitStatements is Submit for whoever has parsed the statements already. They
// are not to be changed any more.
func (r *Replica) SubmitStatements(ctx context.Context, statements []*ledger.Statement, wait Wait) (*Receipt, error) {
	s := submission{envelopes: make([][]byte, len(statements)), statements: statements}
	for i, st := range statements {
		s.envelopes[i] = st.Envelope
	}
	return r.submit(ctx, s, wait)
}

// submission is what is brought onto the ledger, all of it or none.
type submission struct {
	envelopes  [][]byte
	statements []*ledger.Statement // what they are, where that is known already; nil otherwise
}

// checked starts what is remembered of one try with what is known already.
func (s *submission) checked(v *verifier) *checked {
	c := v.newChecked(len(s.envelopes))
	for i, st := range s.statements {
		c.add(s.envelopes[i], &parsed{statement: st})
	}
	return c
}

func (r *Replica) submit(ctx context.Context, s submission, wait Wait) (*Receipt, error) {
	envelopes := s.envelopes
	if err := r.serving(); err != nil {
		return nil, err
	}
	size := int64(0)
	for _, e := range envelopes {
		size += int64(len(e))
	}
	if len(envelopes) == 0 || len(envelopes) > ledger.MaxBundle {
		return nil, tooMany(envelopes)
	}
	own := ledger.Hash{} // our own clients share one bound: all of it
	if !r.admission.enter(own, size) {
		r.metrics.busy.Inc()
		return nil, &BusyError{RetryAfter: r.limits.BusyRetry}
	}
	defer r.admission.leave(own, size)
	receipt, err := r.commit(ctx, s)
	if err != nil {
		return nil, err
	}
	if wait == WaitCertified {
		// The statement is committed whatever happens now.
		if err := r.WaitCertified(ctx, receipt.Last); err != nil {
			return receipt, fmt.Errorf("committed, not yet certified: %w", err)
		}
		if !r.holds(receipt, envelopes) {
			return nil, fmt.Errorf("%w: the leader's receipt names other entries", ErrUnknownOutcome)
		}
		receipt.Level, receipt.Checkpoint = LevelCertified, r.certifier.size()
	}
	return receipt, nil
}

func tooMany(envelopes [][]byte) error {
	verdicts := make([]fsm.Verdict, max(len(envelopes), 1))
	for i := range verdicts {
		verdicts[i] = fsm.Verdict{Code: fsm.BundleTooLarge, Detail: fmt.Sprintf("want 1 to %d statements", ledger.MaxBundle)}
	}
	return &RejectedError{Verdicts: verdicts}
}

// serving says why this replica answers nothing, if it does not.
func (r *Replica) serving() error {
	if err := r.halted(); err != nil {
		return err
	}
	if r.stopping.Load() || !r.running.Load() {
		return ErrStopped
	}
	return nil
}

// errNotSent says that a try certainly had no effect, so that another follows.
var errNotSent = errors.New("not sent")

// commit tries until there is an answer: here, or at the leader. Only after a
// try whose outcome is unknown, or once the submission is under watch, does it
// end in ErrUnknownOutcome.
func (r *Replica) commit(ctx context.Context, s submission) (*Receipt, error) {
	deadline := time.Now().Add(r.limits.LeaderHold)
	from, unknown := r.shell.now.Load().state.Next(), false
	var own *dryRun // made when it is needed: its signatures are verified once
	accepted := func() *Receipt {
		if own == nil {
			own = r.dryRun(s.envelopes)
		}
		return r.accepted(own)
	}
	for {
		receipt, err := r.tryOnce(ctx, s)
		if err == nil {
			return receipt, nil
		}
		unknown = unknown || errors.Is(err, ErrUnknownOutcome)
		// What is under watch is given to the leader again, whatever we answer.
		open := unknown || r.censors.holds(s.envelopes)
		var rejected *RejectedError
		var busy *BusyError
		switch {
		case errors.Is(err, ErrUnknownOutcome), errors.Is(err, errNotSent):
		case open && (errors.As(err, &busy) || errors.Is(err, ErrDiskFull)):
			// A full queue or disk says nothing of the earlier try.
		case open && errors.As(err, &rejected):
			// The earlier try may be why: the rules remember the last statement of
			// an author's seqs, not each.
			receipt, looked := r.lookUp(ctx, s.envelopes, from)
			if receipt != nil {
				return receipt, nil
			}
			if looked && r.censors.withdraw(s.envelopes) {
				// Its watch may have ended because it is on the ledger, whatever size the
				// leader named: so this comes after.
				if receipt := accepted(); receipt != nil {
					return receipt, nil
				}
				return nil, err
			}
			unknown = true // it is with the leader once more, or nobody knows
		default:
			return nil, err
		}
		if open {
			if receipt := accepted(); receipt != nil {
				return receipt, nil
			}
		}
		ended := ctx.Err() != nil || r.serving() != nil || time.Now().After(deadline)
		if ended || !pause(ctx, jitter(50*time.Millisecond)) {
			return nil, r.unanswered(ctx, s, unknown)
		}
	}
}

// unanswered says why a submission got no answer in time.
func (r *Replica) unanswered(ctx context.Context, s submission, unknown bool) error {
	// Without a leader nobody can be censoring it: the client's is the last try.
	if !unknown && r.censors.holds(s.envelopes) && (r.raftLeader() != "" || !r.censors.withdraw(s.envelopes)) {
		unknown = true
	}
	switch {
	case unknown:
		return ErrUnknownOutcome
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrNoLeader, context.Cause(ctx))
	case r.serving() != nil:
		return r.serving()
	case r.watchdog.stalled(diskLog) != nil:
		return fmt.Errorf("%w: %w", ErrDiskFull, r.watchdog.stalled(diskLog))
	}
	return ErrNoLeader
}

// lookUp finds statements among the entries from a seq on, up to all that is
// committed now, by the leader's word; nil unless every one is there. looked says
// whether it could look at all.
func (r *Replica) lookUp(ctx context.Context, envelopes [][]byte, from uint64) (receipt *Receipt, looked bool) {
	size, err := r.readSize(ctx)
	if err != nil || r.waitSize(ctx, size) != nil {
		return nil, false
	}
	verdicts := make([]fsm.Verdict, len(envelopes))
	places := make(map[string]int, len(envelopes))
	for i, envelope := range envelopes {
		places[string(envelope)] = i
	}
	found, stamp := 0, uint64(0)
	err = r.archive.Entries(from, size, func(seq uint64, raw []byte) error {
		entry, err := ledger.ParseEntry(raw)
		if err != nil {
			return err
		}
		i, ok := places[string(entry.Content)]
		if entry.Kind != ledger.KindStatement || !ok {
			return nil
		}
		st, err := ledger.ParseStatement(entry.Content)
		if err != nil {
			return err
		}
		verdicts[i] = fsm.Verdict{Code: fsm.OK, Seq: seq, ID: st.ID}
		stamp = entry.Stamp
		found++
		return nil
	})
	if err != nil || found != len(envelopes) {
		return nil, err == nil
	}
	return receiptOf(verdicts, stamp), true
}

func (r *Replica) tryOnce(ctx context.Context, s submission) (*Receipt, error) {
	node := r.node.Load()
	if node == nil {
		return nil, errNotSent
	}
	if node.State() == raft.Leader {
		return r.propose(ctx, node, s)
	}
	_, id := node.LeaderWithID()
	leader, err := ledger.ParseHash(string(id))
	if err != nil || leader == r.id {
		return nil, errNotSent
	}
	to := r.pins.now.Load().byID(leader)
	if to == nil {
		return nil, errNotSent
	}
	return r.forwardWatched(ctx, to, s.envelopes)
}

// propose is the leader's part: an early answer from the newest state, then a
// place in Raft's log.
func (r *Replica) propose(ctx context.Context, node *raft.Raft, s submission) (*Receipt, error) {
	if err := r.diskError(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	if r.watchdog.stalled(diskLog) != nil {
		return nil, errNotSent // others elect another
	}
	lead := r.leading.Load()
	if lead == nil || !lead.ready.Load() {
		return nil, errNotSent // it must first have applied what earlier leaders committed
	}
	state := r.shell.now.Load().state
	command := &ledger.Command{Kind: ledger.CommandStatements, Stamp: r.stamp(), Statements: s.envelopes}
	// What is under way is not accounted for: the FSM decides.
	checked := s.checked(r.shell.verifier)
	if verdicts := fsm.Admit(state, command, checked); refused(verdicts) {
		return r.refuse(verdicts)
	} else if duplicates(verdicts) {
		return receiptOf(verdicts, 0), nil // accepted before, and committed since it is in the state
	}
	statements := checked.list(s.envelopes)
	if verdicts, stray := strayJoin(statements); stray {
		return r.refuse(verdicts)
	}
	result, err := r.order(ctx, node, command, statements...)
	if err != nil {
		return nil, err
	}
	if refused(result.Verdicts) {
		return r.refuse(result.Verdicts)
	}
	if err := r.diskError(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	r.metrics.accepted.Add(float64(len(s.envelopes)))
	return receiptOf(result.Verdicts, result.stamp), nil
}

// refuse is the answer to a refused submission: its first result, if it was
// accepted before.
func (r *Replica) refuse(verdicts []fsm.Verdict) (*Receipt, error) {
	if receipt, ok := r.shell.recent.said(verdicts); ok {
		return receipt, nil
	}
	r.metrics.rejected.Inc()
	return nil, &RejectedError{Verdicts: verdicts}
}

// order brings a command into Raft's log and waits until it is applied here.
// What was checked of its statements is not checked again.
func (r *Replica) order(ctx context.Context, node *raft.Raft, c *ledger.Command, statements ...*parsed) (*applyResult, error) {
	ctx, cancel := r.watchdog.unstalled(ctx)
	defer cancel()
	forget := func() {}
	future, err := r.futures.await(ctx, func() raft.Future {
		data := r.stamped(c)
		if !r.cfg.Hooks.orders() { // a test may order something else
			forget = r.shell.verifier.admit(data, statements)
		}
		return node.ApplyLog(raft.Log{Data: data}, r.limits.Enqueue)
	})
	forget()
	switch {
	case err == nil:
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return nil, ErrUnknownOutcome
	case errors.Is(err, raft.ErrEnqueueTimeout): // there is a leader; its queue is full
		r.metrics.busy.Inc()
		return nil, &BusyError{RetryAfter: r.limits.BusyRetry}
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return nil, errNotSent
	case isDisk(err):
		return nil, fmt.Errorf("%w: %w", ErrDiskFull, err)
	default: // ErrLeadershipLost, ErrRaftShutdown, ErrAbortedByRestore
		return nil, ErrUnknownOutcome
	}
	applied, ok := future.(raft.ApplyFuture)
	if !ok {
		return nil, ErrUnknownOutcome
	}
	switch result := applied.Response().(type) {
	case *applyResult:
		return result, nil
	case error:
		return nil, result
	}
	return nil, ErrUnknownOutcome
}

// stamp is the time that the next command carries: our clock, never behind
// what was stamped before.
func (r *Replica) stamp() uint64 {
	r.admission.stampMu.Lock()
	defer r.admission.stampMu.Unlock()
	r.admission.stamp = max(r.now(), r.admission.stamp, r.shell.now.Load().state.Stamp())
	return r.admission.stamp
}

func (r *Replica) stamped(c *ledger.Command) []byte {
	c.Stamp = r.stamp()
	r.cfg.Hooks.order(c)
	return c.Encode()
}

func refused(verdicts []fsm.Verdict) bool {
	for _, v := range verdicts {
		if v.Code != fsm.OK {
			return true
		}
	}
	return false
}

func duplicates(verdicts []fsm.Verdict) bool {
	for _, v := range verdicts {
		if !v.Duplicate {
			return false
		}
	}
	return len(verdicts) > 0
}

func receiptOf(verdicts []fsm.Verdict, stamp uint64) *Receipt {
	receipt := &Receipt{Verdicts: verdicts, Stamp: stamp, Level: LevelCommitted}
	for i, v := range verdicts {
		if i == 0 || v.Seq < receipt.First {
			receipt.First = v.Seq
		}
		receipt.Last = max(receipt.Last, v.Seq)
	}
	return receipt
}

// The answers of the leader's /submit, by status:
// 200 receipt; 422 verdicts; 429 busy; 503 not the leader, certainly without
// effect; 504 unknown outcome; 507 disk full.
type submitAnswer struct {
	Receipt    *Receipt      `json:"receipt,omitempty"`
	Verdicts   []fsm.Verdict `json:"verdicts,omitempty"`
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	Detail     string        `json:"detail,omitempty"`
}

// forward submits at the leader.
func (r *Replica) forward(ctx context.Context, to *peer, envelopes [][]byte) (*Receipt, error) {
	select {
	case r.admission.forwards <- struct{}{}:
		defer func() { <-r.admission.forwards }()
	default:
		return nil, &BusyError{RetryAfter: r.limits.BusyRetry}
	}
	r.metrics.forwarded.Inc()
	return r.forwardBy(ctx, to, pathSubmit, envelopes)
}

func (r *Replica) forwardBy(ctx context.Context, to *peer, path string, envelopes [][]byte) (*Receipt, error) {
	body, err := r.peers.do(ctx, to, http.MethodPost, path, frame(envelopes), r.limits.PeerBody)
	var answer submitAnswer
	var failed *peerError
	switch {
	case err == nil:
		if err := json.Unmarshal(body, &answer); err != nil || answer.Receipt == nil {
			return nil, ErrUnknownOutcome
		}
		if !answers(answer.Receipt, envelopes) {
			return nil, ErrUnknownOutcome
		}
		return answer.Receipt, nil
	case errors.As(err, &failed):
		_ = json.Unmarshal(failed.Body, &answer)
		switch failed.Status {
		case http.StatusUnprocessableEntity:
			if len(answer.Verdicts) != len(envelopes) {
				return nil, errNotSent
			}
			return nil, &RejectedError{Verdicts: answer.Verdicts}
		case http.StatusTooManyRequests:
			return nil, &BusyError{RetryAfter: answer.RetryAfter}
		case http.StatusServiceUnavailable, http.StatusForbidden, http.StatusBadRequest:
			return nil, errNotSent
		case http.StatusInsufficientStorage:
			return nil, fmt.Errorf("%w: at the leader: %s", ErrDiskFull, answer.Detail)
		}
		return nil, ErrUnknownOutcome
	case isDialError(err):
		return nil, errNotSent
	}
	return nil, ErrUnknownOutcome
}

// answers says whether a receipt can be one for these envelopes.
func answers(receipt *Receipt, envelopes [][]byte) bool {
	if len(receipt.Verdicts) != len(envelopes) {
		return false
	}
	for i, v := range receipt.Verdicts {
		st, err := ledger.ParseStatement(envelopes[i])
		if err != nil || v.Code != fsm.OK || v.ID != st.ID || v.Seq == 0 || v.Seq > receipt.Last {
			return false
		}
	}
	return receipt.Level == LevelCommitted
}

// holds says whether this replica's history has the statements where a receipt
// puts them: the leader's word, compared with what is certified.
func (r *Replica) holds(receipt *Receipt, envelopes [][]byte) bool {
	for i, v := range receipt.Verdicts {
		raw, err := r.archive.Entry(v.Seq)
		if err != nil {
			return errors.Is(err, archive.ErrGap) // nothing here to compare with
		}
		entry, err := ledger.ParseEntry(raw)
		if err != nil {
			return false
		}
		st, err := ledger.ParseStatement(entry.Content)
		if err != nil || v.ID != st.ID || i >= len(envelopes) {
			return false
		}
	}
	return true
}

// serveSubmit answers a follower. It does not forward again.
func (r *Replica) serveSubmit(w http.ResponseWriter, q *http.Request, from *peer) error {
	// The place is taken before a byte is read, and for no longer than a request
	// may take.
	if q.ContentLength <= 0 || q.ContentLength > r.limits.PeerBody {
		return errors.New("want a body with its length")
	}
	enter, leave := r.admission.enter, r.admission.leave
	if q.URL.RawQuery == waitingQuery {
		enter, leave = r.admission.enterWaiting, r.admission.leaveWaiting
	}
	if !enter(from.id, q.ContentLength) {
		r.metrics.busy.Inc()
		return answerJSON(w, http.StatusTooManyRequests, submitAnswer{RetryAfter: r.limits.BusyRetry})
	}
	defer leave(from.id, q.ContentLength)
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(r.limits.PeerTimeout)); err != nil {
		return err
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return err
	}
	envelopes, err := parseFramed(body, ledger.MaxEnvelopeBytes, ledger.MaxBundle)
	if err != nil || len(envelopes) == 0 {
		return errors.Join(errors.New("want 1 to 512 envelopes"), err)
	}
	node := r.node.Load()
	if node == nil || node.State() != raft.Leader || r.serving() != nil {
		return answerJSON(w, http.StatusServiceUnavailable, submitAnswer{Detail: "not the leader"})
	}
	receipt, err := r.propose(q.Context(), node, submission{envelopes: envelopes})
	var rejected *RejectedError
	var busy *BusyError
	switch {
	case err == nil:
		return answerJSON(w, http.StatusOK, submitAnswer{Receipt: receipt})
	case errors.As(err, &busy):
		return answerJSON(w, http.StatusTooManyRequests, submitAnswer{RetryAfter: busy.RetryAfter})
	case errors.As(err, &rejected):
		return answerJSON(w, http.StatusUnprocessableEntity, submitAnswer{Verdicts: rejected.Verdicts})
	case errors.Is(err, errNotSent):
		return answerJSON(w, http.StatusServiceUnavailable, submitAnswer{Detail: err.Error()})
	case errors.Is(err, ErrDiskFull):
		return answerJSON(w, http.StatusInsufficientStorage, submitAnswer{Detail: err.Error()})
	}
	return answerJSON(w, http.StatusGatewayTimeout, submitAnswer{Detail: err.Error()})
}
