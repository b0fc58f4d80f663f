package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
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
		case <-ticker.C:
			if !a.alone() {
				continue
			}
			if peers := a.mesh.Peers(); len(peers) > 0 {
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
		if next, _ := a.position(); next >= c.head.Size {
			return nil
		}
		a.askPeer(ctx, asked)
		if next, _ := a.position(); next >= c.head.Size {
			return nil
		}
		if err := sleep(ctx, replicaPatience); err != nil {
			return err
		}
		if peers := a.mesh.Peers(); len(peers) > 0 {
			asked = peers[rand.IntN(len(peers))].Peer
		}
	}
	return nil
}

// alone reports whether no replica is configured or answers.
func (a *Agent) alone() bool { return a.client == nil || a.trouble.cutOff(2*syncEvery) }

// askPeer takes links, entries and the head from a peer until its head is reached.
func (a *Agent) askPeer(ctx context.Context, peer ed25519.PublicKey) {
	for range maxSyncRounds {
		more, err := a.askOnce(ctx, peer)
		if err != nil && ctx.Err() == nil {
			a.logger.Info("a peer did not bring the ledger forward", "peer", hexOf(peer), "error", err)
		}
		if err != nil || !more {
			return
		}
	}
}

func (a *Agent) ask(ctx context.Context, peer ed25519.PublicKey, r *syncRequest) (*syncResponse, error) {
	request, err := canon.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, peerSyncTimeout)
	defer cancel()
	answer, err := a.mesh.Ask(ctx, peer, request)
	if err != nil {
		return nil, err
	}
	return parseSyncResponse(answer)
}

// askOnce reports whether asking again would bring more.
func (a *Agent) askOnce(ctx context.Context, peer ed25519.PublicKey) (more bool, err error) {
	a.mu.Lock()
	links, next := uint64(len(a.chronicle.links)), a.chronicle.next()
	a.mu.Unlock()
	answer, err := a.ask(ctx, peer, &syncRequest{From: next, Links: links})
	if err != nil {
		return false, err
	}
	for _, raw := range answer.Links {
		if err := a.offerLink(raw); err != nil {
			return false, err
		}
	}
	if len(answer.Links) > 0 && len(answer.Entries) == 0 && answer.State == nil && len(answer.Head) == 0 {
		return true, nil
	}
	if len(answer.Head) == 0 {
		return false, nil
	}
	if answer.State != nil {
		return false, a.takeState(ctx, peer, answer)
	}
	if err := a.takeEntries(answer.Entries); err != nil {
		return false, err
	}
	h, err := a.offerHead(answer.Head, false)
	if errors.Is(err, errGap) && h != nil {
		return len(answer.Entries) > 0, nil
	}
	if errors.Is(err, errBehind) {
		return false, nil
	}
	return false, err
}

func (a *Agent) takeEntries(entries [][]byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, raw := range entries {
		if err := a.chronicle.add(raw); err != nil && !errors.Is(err, errBehind) {
			return err
		}
	}
	return nil
}

// takeState fetches a state page by page and begins from it.
func (a *Agent) takeState(ctx context.Context, peer ed25519.PublicKey, first *syncResponse) error {
	a.mu.Lock()
	h, err := a.chronicle.verifyHead(first.Head)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	size, proof := first.State.Size, make([]ledger.Hash, len(first.State.Proof))
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
	var records []stateEntry
	bytes := 0
	for page := first; ; {
		for _, r := range page.State.Records {
			bytes += len(r.Key) + len(r.Value)
		}
		if bytes > maxStateBytes {
			return fmt.Errorf("take state: more than %d bytes", maxStateBytes)
		}
		records = append(records, page.State.Records...)
		if !page.State.More || len(page.State.Records) == 0 {
			break
		}
		if page, err = a.ask(ctx, peer, &syncRequest{State: size, After: records[len(records)-1].Key}); err != nil {
			return err
		}
		if page.State == nil || page.State.Size != size {
			return errors.New("take state: the peer no longer has it")
		}
	}
	state, err := fsm.Load(eachRecord(records), seal)
	if err != nil {
		return err
	}
	return a.beginAt(h, state, first.State.Seal, proof, false)
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

type pin struct {
	size  uint64
	state *fsm.State
	until time.Time
}

// keep holds a state for a while, unless enough others are held.
func (p *pinned) keep(state *fsm.State) *fsm.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i := range p.list {
		if p.list[i].until.Before(now) {
			p.list[i] = pin{state.Next(), state, now.Add(pinnedFor)}
			return state
		}
		if p.list[i].size == state.Next() {
			return state
		}
	}
	if len(p.list) >= pinnedStates {
		return nil
	}
	p.list = append(p.list, pin{state.Next(), state, now.Add(pinnedFor)})
	return state
}

func (p *pinned) get(size uint64) *fsm.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.list {
		if one.size == size {
			return one.state
		}
	}
	return nil
}

// Sync implements mesh.Judge: it answers what a peer asks of the ledger.
func (j *judge) Sync(_ mesh.Member, request []byte) ([]byte, error) {
	r, err := parseSyncRequest(request)
	if err != nil {
		return nil, err
	}
	a := j.agent
	answer := &syncResponse{Entries: [][]byte{}, Head: []byte{}, Links: [][]byte{}}
	if r.State != 0 {
		state := a.pins.get(r.State)
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
	state := a.pins.keep(c.state)
	if state == nil {
		return nil, errors.New("other peers are fetching states")
	}
	page := pageOf(state, "", a.pins.pageBytes)
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
