package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// claim is a peer's certified head that covers entries which we lack.
type claim struct {
	peer mesh.Member
	head *head
}

// neighbours are the members to whom this node is connected, as far as they are asked for
// the ledger: meshes.
type neighbours interface {
	Peers() []mesh.Member
	Ask(ctx context.Context, to ed25519.PublicKey, request []byte) ([]byte, error)
	Refresh() // the directory of members changed
}

// followPeers takes what the replicas do not give: from a peer whose head is
// ahead of ours for longer than a replica needs, and, while no replica answers,
// from any.
func (a *Agent) followPeers(ctx context.Context) error {
	ticker := time.NewTicker(peerEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-a.ahead:
			if !a.alone() && sleep(ctx, replicaPatience) != nil {
				return ctx.Err()
			}
			if err := a.reach(ctx, c); err != nil {
				return err
			}
		case now := <-ticker.C:
			a.cores.rest(now)
			if !a.alone() {
				continue
			}
			if peers := a.near.Peers(); len(peers) > 0 {
				a.askPeer(ctx, peers[rand.IntN(len(peers))].Peer)
			}
		}
	}
}

// reach asks whoever brought a head for what leads to it, and then others in turn:
// many have seen a head before they have its entries. It gives up after maxReach
// of them, since any agent tells its head again soon.
func (a *Agent) reach(ctx context.Context, c claim) error {
	asked := c.peer.Peer
	for range maxReach {
		if a.certified() >= c.head.Size {
			return nil
		}
		a.askPeer(ctx, asked)
		if a.certified() >= c.head.Size {
			return nil
		}
		if err := sleep(ctx, replicaPatience); err != nil {
			return err
		}
		if peers := a.near.Peers(); len(peers) > 0 {
			asked = peers[rand.IntN(len(peers))].Peer
		}
	}
	return nil
}

// alone reports whether no replica is configured or answers.
func (a *Agent) alone() bool { return a.client == nil || a.trouble.cutOff() }

// askPeer takes links, entries and the head from a peer until its head is reached.
func (a *Agent) askPeer(ctx context.Context, peer ed25519.PublicKey) {
	err := a.askSource(ctx, func(ctx context.Context, r *syncRequest) (*syncResponse, error) { return a.ask(ctx, peer, r) })
	if err != nil && ctx.Err() == nil {
		a.logger.Info("a peer did not bring the ledger forward", "peer", hexOf(peer), "error", err)
	}
}

// source answers as a peer does.
type source func(context.Context, *syncRequest) (*syncResponse, error)

// askSource is askPeer for whatever answers. Entries that its head does not cover in
// the end are forgotten: nobody could go on from them if they are a lie.
func (a *Agent) askSource(ctx context.Context, ask source) error {
	brief, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	given := uint64(0)
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.chronicle.abandon(given)
	}()
	again := true
	for range maxSyncRounds {
		next, _ := a.position()
		doubtful := next > a.certified()
		answer, more, err := a.askOnce(brief, ask, &given)
		var lie *lieError
		switch {
		case err == nil && answer.State != nil:
			return a.takeState(ctx, ask, answer)
		case errors.As(err, &lie) && doubtful && again:
			again = false // the lie may be what we had, which is forgotten
		case err != nil || !more:
			return err
		}
	}
	return nil
}

func (a *Agent) ask(ctx context.Context, peer ed25519.PublicKey, r *syncRequest) (*syncResponse, error) {
	request, err := canon.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, peerSyncTimeout)
	defer cancel()
	answer, err := a.near.Ask(ctx, peer, request)
	if err != nil {
		return nil, err
	}
	return parseSyncResponse(answer)
}

// askOnce reports whether asking again would bring more. given is set to the end of the
// entries that came. A state in the answer, which has a head, is left to the caller.
func (a *Agent) askOnce(ctx context.Context, ask source, given *uint64) (answer *syncResponse, more bool, err error) {
	a.mu.Lock()
	links, next := uint64(len(a.chronicle.links)), a.chronicle.next()
	a.mu.Unlock()
	if answer, err = ask(ctx, &syncRequest{From: next, Links: links}); err != nil {
		return nil, false, err
	}
	for _, raw := range answer.Links {
		if err := a.offerLink(raw); err != nil {
			return nil, false, err
		}
	}
	if len(answer.Head) == 0 {
		more, answer.State = len(answer.Links) > 0 && len(answer.Entries) == 0 && answer.State == nil, nil
		return answer, more, nil
	}
	if answer.State != nil {
		return answer, false, nil
	}
	if err := a.takeEntries(answer.Entries, given); err != nil {
		return nil, false, err
	}
	h, err := a.offerHead(answer.Head, false)
	if errors.Is(err, errGap) && h != nil {
		return answer, len(answer.Entries) > 0, nil
	}
	if errors.Is(err, errBehind) {
		return answer, false, nil
	}
	return answer, false, err
}

func (a *Agent) takeEntries(entries [][]byte, given *uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, raw := range entries {
		switch err := a.chronicle.add(raw); {
		case err == nil:
			*given = a.chronicle.next()
		case !errors.Is(err, errBehind):
			return err
		}
	}
	return nil
}

// takeState fetches a state page by page, if it is ahead of us, and begins from it.
func (a *Agent) takeState(ctx context.Context, ask source, first *syncResponse) error {
	ctx, cancel := context.WithTimeout(ctx, statePatience)
	defer cancel()
	a.mu.Lock()
	h, err := a.chronicle.verifyHead(first.Head)
	size := a.chronicle.size()
	a.mu.Unlock()
	if err != nil {
		return err
	}
	if h.Size <= size || first.State.Size != h.Size {
		return fmt.Errorf("take state of %d entries: %w", first.State.Size, errBehind)
	}
	proof := make([]ledger.Hash, len(first.State.Proof))
	for i, p := range first.State.Proof {
		if len(p) != len(proof[i]) {
			return errors.New("take state: a hash is no hash")
		}
		proof[i] = ledger.Hash(p)
	}
	seal, err := ledger.ParseEntry(first.State.Seal)
	if err != nil {
		return fmt.Errorf("take state: %w", err)
	}
	records, err := fetchRecords(ctx, ask, first.State)
	if err != nil {
		return fmt.Errorf("take state: %w", err)
	}
	state, err := fsm.Load(eachRecord(records), seal)
	if err != nil {
		return err
	}
	return a.beginAt(h, state, first.State.Seal, proof, false)
}

// fetchRecords fetches the pages after the first one. Each record counts with what it takes
// beside its key and value, and keys ascend, so that what a source can make us hold
// is bounded.
func fetchRecords(ctx context.Context, ask source, page *statePage) ([]stateEntry, error) {
	var records []stateEntry
	size, bytes, last := page.Size, 0, ""
	for {
		for _, r := range page.Records {
			if r.Key <= last {
				return nil, errors.New("the keys do not ascend")
			}
			last = r.Key
			if bytes += len(r.Key) + len(r.Value) + recordAround; bytes > maxStateBytes {
				return nil, fmt.Errorf("more than %d bytes", maxStateBytes)
			}
		}
		records = append(records, page.Records...)
		if !page.More || len(page.Records) == 0 {
			return records, nil
		}
		answer, err := ask(ctx, &syncRequest{State: size, After: last})
		if err != nil {
			return nil, err
		}
		if page = answer.State; page == nil || page.Size != size {
			return nil, errors.New("the peer no longer has it")
		}
	}
}

func eachRecord(records []stateEntry) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, r := range records {
			if !yield(r.Key, r.Value) {
				return
			}
		}
	}
}

// beginAt makes a loaded state the certified one. contains is as of load.
func (a *Agent) beginAt(h *head, state *fsm.State, seal []byte, proof []ledger.Hash, contains bool) error {
	a.mu.Lock()
	err := a.chronicle.load(h, state, seal, proof, contains)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	a.enforce(state, h, true)
	return nil
}

// pinned are the states that peers are fetching, so that one's next page is of
// the same state.
type pinned struct {
	pageBytes int

	mu   sync.Mutex
	list []pin
}

// pin is one peer's.
type pin struct {
	peer  string
	size  uint64
	state *fsm.State
	began time.Time
	asked time.Time // for its last page
}

func (p *pin) over(now time.Time) bool {
	return now.Sub(p.asked) > pinnedIdle || now.Sub(p.began) > pinnedFor
}

// keep holds a state for a peer, instead of the one that it had, and reports whether it
// could: not if states of enough other sizes are held.
func (p *pinned) keep(peer string, size uint64, state *fsm.State) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.list = slices.DeleteFunc(p.list, func(one pin) bool { return one.peer == peer || one.over(now) })
	others := map[uint64]bool{}
	for _, one := range p.list {
		if one.size != size {
			others[one.size] = true
		}
	}
	if len(others) >= pinnedStates || len(p.list) >= pinnedPeers {
		return false
	}
	p.list = append(p.list, pin{peer: peer, size: size, state: state, began: now, asked: now})
	return true
}

// get gives the state of that size that is held for a peer, or nil.
func (p *pinned) get(peer string, size uint64) *fsm.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i := range p.list {
		if one := &p.list[i]; one.peer == peer && one.size == size && !one.over(now) {
			one.asked = now
			return one.state
		}
	}
	return nil
}

// Sync implements mesh.Judge: it answers what a peer asks of the ledger.
func (j *judge) Sync(from mesh.Member, request []byte) ([]byte, error) {
	r, err := parseSyncRequest(request)
	if err != nil {
		return nil, err
	}
	a := j.agent
	answer := &syncResponse{Entries: [][]byte{}, Head: []byte{}, Links: [][]byte{}}
	if r.State != 0 {
		state := a.pins.get(from.Name, r.State)
		if state == nil {
			return nil, errors.New("that state is not held")
		}
		answer.State = pageOf(state, r.After, a.pins.pageBytes)
		return canon.Marshal(answer)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.chronicle
	if c.head == nil {
		return nil, errNoState
	}
	bytes := 0
	for i := r.Links; i < uint64(len(c.links)) && bytes < syncLinksBytes; i++ {
		answer.Links = append(answer.Links, c.links[i])
		bytes += len(c.links[i])
	}
	if r.Links+uint64(len(answer.Links)) < uint64(len(c.links)) {
		return canon.Marshal(answer) // first the rest of the links
	}
	if r.From > c.frontier.Size {
		return canon.Marshal(answer) // we are behind it
	}
	answer.Head = c.head.note
	if r.From < c.frontier.Size {
		answer.Entries = append(answer.Entries, c.stored.from(r.From, syncEntriesBytes)...)
	}
	if len(answer.Entries) > 0 || r.From == c.frontier.Size {
		return canon.Marshal(answer)
	}
	if c.head.Size != c.state.Next() || len(c.seal) == 0 {
		return nil, errors.New("there is neither entries nor state to give")
	}
	if !a.pins.keep(from.Name, c.state.Next(), c.state) {
		return nil, errors.New("other peers are fetching states")
	}
	page := pageOf(c.state, "", a.pins.pageBytes)
	page.Seal = c.seal
	for _, h := range c.sealProof() {
		page.Proof = append(page.Proof, append([]byte(nil), h[:]...))
	}
	answer.State = page
	return canon.Marshal(answer)
}

// pageOf is a page of a state's records, after a key, of about so many bytes at most.
func pageOf(state *fsm.State, after string, most int) *statePage {
	page := &statePage{Size: state.Next(), Proof: [][]byte{}, Records: []stateEntry{}, Seal: []byte{}}
	bytes := 0
	state.Walk("", func(key string, value []byte) bool {
		if key <= after {
			return true
		}
		if bytes += len(key) + len(value) + recordAround; bytes > most && len(page.Records) > 0 {
			page.More = true
			return false
		}
		page.Records = append(page.Records, stateEntry{Key: key, Value: value})
		return true
	})
	return page
}
