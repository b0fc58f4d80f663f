package replica

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// peers is the client side of the peer service: requests to each replica over
// its pinned channel, and an outbox of cosignatures for each.
type peers struct {
	r      *Replica
	client *http.Client
	dials  *dials

	mu       sync.Mutex
	outboxes map[ledger.Hash]*outbox
	contacts map[ledger.Hash]contact
}

// contact is how the last requests to a peer went.
type contact struct {
	last      uint64 // milliseconds, of the last answer
	reachable bool
}

// outbox holds what a peer has yet to be sent: the newest cosignature, and
// those of handovers, of which none is left out while they fit.
type outbox struct {
	wake      chan struct{}
	mu        sync.Mutex
	newest    *cosigned
	handovers []cosigned
}

func newPeers(r *Replica) *peers {
	p := &peers{r: r, dials: newDials(), outboxes: map[ledger.Hash]*outbox{}, contacts: map[ledger.Hash]contact{}}
	p.client = &http.Client{Transport: r.cfg.Hooks.requests(&http.Transport{
		DialTLSContext:        p.dial,
		MaxIdleConnsPerHost:   4,
		MaxConnsPerHost:       64,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: 0, // the request's context bounds it
		DisableCompression:    true,
	})}
	return p
}

// dial connects to the replica whose key id is the host of the URL.
func (p *peers) dial(ctx context.Context, _, hostport string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	id, err := ledger.ParseHash(host)
	if err != nil {
		return nil, err
	}
	set := p.r.pins.now.Load()
	to := set.byID(id)
	if to == nil {
		return nil, fmt.Errorf("replica %s: %w", host, errUnpinned)
	}
	return p.dials.make(ctx, func(ctx context.Context) (net.Conn, error) {
		return p.r.wire.dial(ctx, to.Peer, protocolHTTP, to.TLSPin, func(pin ledger.Hash) bool {
			return slices.ContainsFunc(set.pinned(pin), func(one *peer) bool { return one.id == id })
		})
	})
}

// close ends what still dials or idles, once nothing asks a peer any more.
func (p *peers) close() {
	p.dials.close()
	p.client.CloseIdleConnections()
}

// others lists the pinned replicas but this one.
func (p *peers) others() []*peer {
	var list []*peer
	for _, one := range p.r.pins.now.Load().peers {
		if one.id != p.r.id {
			list = append(list, one)
		}
	}
	return list
}

// peerError is an answer of the peer service that is no success.
type peerError struct {
	Status int
	Body   []byte
}

func (e *peerError) Error() string {
	return fmt.Sprintf("peer answered %d: %.200s", e.Status, e.Body)
}

// do makes one request, and reads at most limit bytes of the answer.
func (p *peers) do(ctx context.Context, to *peer, method, path string, body []byte, limit int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "https://"+to.id.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := p.client.Do(request)
	if !errors.Is(ctx.Err(), context.Canceled) { // we left off: that says nothing of it
		p.note(to.id, err == nil)
	}
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(answer)) > limit {
		return nil, fmt.Errorf("%s %s: answer above %d bytes", method, path, limit)
	}
	if response.StatusCode == http.StatusGone {
		p.r.doubtPins() // it says that the ledger went on without us: ask for the proof
	}
	if response.StatusCode != http.StatusOK {
		return nil, &peerError{response.StatusCode, answer}
	}
	return answer, nil
}

// get is do with the room's own time limit.
func (p *peers) get(ctx context.Context, to *peer, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.r.limits.PeerTimeout)
	defer cancel()
	return p.do(ctx, to, http.MethodGet, path, nil, limit)
}

func (p *peers) note(id ledger.Hash, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.contacts[id]
	if c.reachable = ok; ok {
		c.last = p.r.now()
	}
	p.contacts[id] = c
}

func (p *peers) contact(id ledger.Hash) contact {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.contacts[id]
}

// spread puts a cosignature of ours in every outbox; the newest wins.
func (p *peers) spread(s cosigned, handover bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.outboxes {
		o.put(s, handover, p.r.limits.Cosigners)
	}
}

func (o *outbox) put(s cosigned, handover bool, limit int) {
	o.mu.Lock()
	if handover && len(o.handovers) < limit { // beyond, peers ask for what they miss
		o.handovers = append(o.handovers, s)
	} else if !handover {
		o.newest = &s
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) take() (cosigned, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.handovers) > 0 {
		s := o.handovers[0]
		o.handovers = o.handovers[1:]
		return s, true
	}
	if o.newest == nil {
		return cosigned{}, false
	}
	s := *o.newest
	o.newest = nil
	return s, true
}

// loop keeps one sender for each peer of the pins.
func (p *peers) loop(ctx context.Context) error {
	running := map[ledger.Hash]context.CancelFunc{}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	for {
		changed := p.r.pinsChanged.wait()
		var leavers <-chan time.Time
		if next := p.r.pins.expire(p.r.certifiedPin); !next.IsZero() {
			leavers = time.After(time.Until(next))
		}
		wanted := map[ledger.Hash]*peer{}
		for _, one := range p.others() {
			wanted[one.id] = one
		}
		for id, stop := range running {
			if wanted[id] == nil {
				stop()
				delete(running, id)
				p.mu.Lock()
				delete(p.outboxes, id)
				delete(p.contacts, id)
				p.mu.Unlock()
			}
		}
		for id := range wanted {
			if running[id] != nil {
				continue
			}
			o := &outbox{wake: make(chan struct{}, 1)}
			p.mu.Lock()
			p.outboxes[id] = o
			p.mu.Unlock()
			own, stop := context.WithCancel(ctx)
			running[id] = stop
			wg.Go(func() { p.send(own, id, o) })
		}
		p.r.wire.prune()
		select {
		case <-changed:
		case <-leavers:
		case <-ctx.Done():
			return nil
		}
	}
}

// send empties an outbox until ctx ends.
func (p *peers) send(ctx context.Context, id ledger.Hash, o *outbox) {
	backoff := time.Duration(0)
	for {
		s, ok := o.take()
		if !ok {
			select {
			case <-o.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := p.push(ctx, id, s)
		if err == nil {
			backoff = 0
			continue
		}
		// Lost: the peer asks for it, or gets the next.
		backoff = min(max(2*backoff, 100*time.Millisecond), 2*time.Second)
		if !pause(ctx, jitter(backoff)) {
			return
		}
	}
}

func (p *peers) push(ctx context.Context, id ledger.Hash, s cosigned) error {
	to := p.r.pins.now.Load().byID(id)
	if to == nil {
		return errUnpinned
	}
	body, err := canon.Marshal(s.message())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.r.limits.PeerTimeout)
	defer cancel()
	_, err = p.do(ctx, to, http.MethodPost, pathCosignature, body, maxPeerNotes)
	return err
}

// jitter spreads retries: between half and all of d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// pullMissing asks peers for what this replica should have by now: the
// checkpoint of a head that stays uncertified, and cosignatures of a handover.
func (r *Replica) pullMissing(ctx context.Context, wg *sync.WaitGroup, busy *pulls) {
	pending := r.shell.pending(r.certifier.size())
	// The oldest tells what is late: under steady writes the newest never is, and
	// a replica that is told nothing, such as a joining one, would ask nobody.
	if len(pending) == 0 || r.halted() != nil || pending[0].stamp+uint64(r.limits.CertifyPull.Milliseconds()) > r.now() {
		return
	}
	var handover *sealedState
	for _, s := range pending {
		if s.handover() && s.seal.Handover > r.certifier.authorityIndex() {
			handover = s
			break
		}
	}
	for _, to := range r.peers.others() {
		if busy.enter(to.id) {
			wg.Go(func() { defer busy.leave(to.id); r.pullFrom(ctx, to, handover) })
		}
	}
}

// pullLoop pulls apart from the certifier, and from each peer apart from the
// others: one that does not answer must not hold up what the rest would give. A
// newcomer that walks the chain asks for the next handover as soon as it has one.
func (r *Replica) pullLoop(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	busy := &pulls{of: map[ledger.Hash]bool{}}
	timer := time.NewTicker(r.limits.CertifyPull)
	defer timer.Stop()
	walked := r.certifier.authorityIndex()
	for {
		changed := r.Changed()
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-changed:
			if r.certifier.authorityIndex() == walked {
				continue
			}
		}
		walked = r.certifier.authorityIndex()
		r.pullMissing(ctx, &wg, busy)
	}
}

// pulls are the peers that are being asked: each is asked once at a time.
type pulls struct {
	mu sync.Mutex
	of map[ledger.Hash]bool // by id
}

func (p *pulls) enter(id ledger.Hash) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[id] {
		return false
	}
	p.of[id] = true
	return true
}

func (p *pulls) leave(id ledger.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, id)
}

func (r *Replica) pullFrom(ctx context.Context, to *peer, handover *sealedState) {
	if handover != nil {
		b, err := r.peers.get(ctx, to, fmt.Sprintf("%s?size=%d", pathCosignatures, handover.head.Size), maxPeerNotes*4)
		if err == nil {
			_ = r.takeCosignatures(b)
		}
		b, err = r.peers.get(ctx, to, fmt.Sprintf("%s?index=%d", pathAuthority, handover.seal.Handover), ledger.MaxLinkBytes)
		if err == nil {
			if link, err := ledger.ParseLink(b); err == nil && link.Checkpoint != "" {
				_ = r.certifier.offer([]byte(link.Checkpoint))
			}
		}
	}
	if note, err := r.peers.get(ctx, to, pathCheckpoint, ledger.MaxCheckpointBytes); err == nil && len(note) > 0 {
		_ = r.certifier.offer(note)
	}
}

// takeCosignatures reads a list of cosignature messages, at most one a key.
func (r *Replica) takeCosignatures(b []byte) error {
	list, err := parseCosignatures(r.origin, b)
	for _, s := range list {
		r.certifier.hearsay(s)
	}
	return err
}

func parseCosignatures(origin string, b []byte) ([]cosigned, error) {
	var messages []cosignMessage
	if err := canon.Unmarshal(b, &messages); err != nil {
		return nil, fmt.Errorf("parse cosignatures: %w", err)
	}
	if len(messages) > 2*ledger.MaxReplicas {
		return nil, errors.New("parse cosignatures: too many")
	}
	var list []cosigned
	for _, m := range messages {
		s, err := m.cosigned(origin)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// fetchLink asks all peers for authority link n at once, so that one that does
// not answer holds nothing up, until take, which checks it, takes one.
func (r *Replica) fetchLink(ctx context.Context, n uint64, take func(*ledger.Link) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.limits.PeerTimeout)
	defer cancel()
	err := errors.New("no peer has it")
	r.peers.askAll(ctx, fmt.Sprintf("%s?index=%d", pathAuthority, n), ledger.MaxLinkBytes, func(_ *peer, answer []byte) {
		if err == nil {
			return
		}
		link, failed := ledger.ParseLink(answer)
		if failed == nil && link.Index != n {
			failed = fmt.Errorf("link %d came for %d", link.Index, n)
		}
		if failed == nil {
			failed = take(link)
		}
		if err = failed; err == nil {
			cancel()
		}
	})
	if err != nil {
		return fmt.Errorf("fetch authority link %d: %w", n, err)
	}
	return nil
}

// askAll asks every other replica at once and gives each answer to take, one
// at a time.
func (p *peers) askAll(ctx context.Context, path string, limit int64, take func(from *peer, answer []byte)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, to := range p.others() {
		wg.Go(func() {
			answer, err := p.get(ctx, to, path, limit)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			take(to, answer)
		})
	}
	wg.Wait()
}

// getOverConn makes one GET over a connection, and closes it.
func getOverConn(ctx context.Context, conn net.Conn, path string, limit int64) ([]byte, error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://seed"+path, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK || int64(len(body)) > limit {
		return nil, &peerError{response.StatusCode, body[:min(len(body), 200)]}
	}
	return body, nil
}
