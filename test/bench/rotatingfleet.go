package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/memorytest"
	"github.com/quorate/quorate/test/nodetest"
)

// rotatingFleet is a ledger of real replicas, and the keys of a fleet that runs no
// agents: this program speaks for all of them.
type rotatingFleet struct {
	*cluster
	epoch time.Duration
	nodes []*rotor
}

// rotor is a node by the seeds of its keys: an unpacked key has some 40 kB.
type rotor struct {
	name, operator string
	now, next      [keys.SeedSize]byte
	id             ledger.Hash // of the key in force
}

func (n *rotor) key(seed [keys.SeedSize]byte) *keys.PrivateKey { return keys.FromSeed(seed) }

const rotorsAtOnce = 256 // rotations on their way at one time

// makeNodes gives nodes the seeds of two keys each.
func (f *rotatingFleet) makeNodes(n int) error {
	for i := range n {
		r := &rotor{name: fmt.Sprintf("n-%05d", i), operator: memorytest.OperatorName(i % fleetOperators)}
		for _, seed := range []*[keys.SeedSize]byte{&r.now, &r.next} {
			if _, err := rand.Read(seed[:]); err != nil {
				return err
			}
		}
		f.nodes = append(f.nodes, r)
	}
	return nil
}

// inParallel does something with every element on all cores.
func inParallel[T any](list []T, do func(i int, one T) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, one := range list {
		group.Go(func() error { return do(i, one) })
	}
	return group.Wait()
}

// admitAll has governors admit the nodes, so many by a decision.
func (f *rotatingFleet) admitAll(ctx context.Context) error {
	for some := range slices.Chunk(f.nodes, ledger.MaxJoins) {
		joins := make([][]byte, len(some))
		err := inParallel(some, func(i int, n *rotor) (err error) {
			k := n.key(n.now)
			n.id = ledger.Hash(k.ID())
			node := nodetest.Node{Name: n.name, Operator: n.operator, Key: k, Peer: k.PeerKey()}
			joins[i], err = node.Join(f.genesis)
			return err
		})
		if err != nil {
			return err
		}
		if err := f.admitJoins(ctx, joins); err != nil {
			return err
		}
	}
	return nil
}

// schedule is what each node says and when: by the agents' own code.
type schedule struct {
	epoch  uint64
	start  uint64 // of the epoch, in milliseconds
	length time.Duration
	said   []due
	due    map[string]time.Duration // of a node, after the beginning of the epoch
}

type due struct {
	at       time.Duration
	envelope []byte
}

// schedule asks the ledger for the ordinals of its nodes and signs every rotation,
// with its two proofs, for the epoch after this one.
func (f *rotatingFleet) schedule(ctx context.Context) (*schedule, error) {
	leader, err := f.leader(ctx)
	if err != nil {
		return nil, err
	}
	ordinals, err := leader.nodes(ctx)
	if err != nil {
		return nil, err
	}
	status, err := leader.status(ctx)
	if err != nil {
		return nil, err
	}
	s := &schedule{epoch: status.Epoch + 1, length: f.epoch, said: make([]due, len(f.nodes)), due: map[string]time.Duration{}}
	branch := ledger.Branch(f.genesis, status.Generation)
	for i, n := range f.nodes {
		on, ok := ordinals[n.name]
		if !ok {
			return nil, fmt.Errorf("%s is not on the ledger", n.name)
		}
		when := gossip.RotationDue(f.genesis, n.name, on.Ordinal, on.ValidTo, clusterRotate, clusterLate)
		if when.Epoch != s.epoch {
			return nil, fmt.Errorf("%s rotates in epoch %d, not %d: the fleet was not admitted within one epoch", n.name, when.Epoch, s.epoch)
		}
		s.said[i].at = f.epoch * time.Duration(when.At) / 10_000
		s.due[n.name] = s.said[i].at
	}
	err = inParallel(f.nodes, func(i int, n *rotor) (err error) {
		s.said[i].envelope, err = n.rotation(f.genesis, branch, s.epoch)
		return err
	})
	slices.SortFunc(s.said, func(a, b due) int { return cmp.Compare(a.at, b.at) })
	return s, err
}

// rotation is what a node says to rotate, as its agent would.
func (n *rotor) rotation(genesis, branch ledger.Hash, epoch uint64) ([]byte, error) {
	next := n.key(n.next)
	peer := next.PeerKey()
	body := ledger.Rotate{Peer: peer.Public().(ed25519.PublicKey), Public: next.Public().Bytes()}
	message := ledger.RotationMessage(branch, n.id, n.name, body)
	body.Proof, body.PeerProof = next.Sign(message), ed25519.Sign(peer, message)
	seq := uint64(0)
	return ledger.Sign(n.key(n.now), ledger.Payload{Author: n.name, Ledger: genesis, Type: ledger.TypeRotate, Epoch: &epoch, Seq: &seq}, body)
}

// begin takes the beginning of the epoch from the ledger.
func (s *schedule) begin(ctx context.Context, at *member) error {
	var now struct{ Epoch, Start uint64 }
	if err := at.get(ctx, "/v1/epochs/current", &now); err != nil {
		return err
	}
	if s.start = now.Start; now.Epoch != s.epoch {
		return fmt.Errorf("it is epoch %d, not %d", now.Epoch, s.epoch)
	}
	return nil
}

// sent is what became of the rotations.
type sent struct {
	mu      sync.Mutex
	times   []time.Duration // until each was certified
	again   int             // that it was sent again, as an agent does
	refused []error
}

// send submits each rotation when it is due, those of a node always to the same
// replica, as its agent does.
func (f *rotatingFleet) send(ctx context.Context, s *schedule) (*sent, error) {
	start, out := time.UnixMilli(int64(s.start)), &sent{}
	pools := make([]connPool, len(f.members))
	for i, m := range f.members {
		pools[i].address = m.api
		defer pools[i].close()
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, rotorsAtOnce)
	for i, one := range s.said {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Until(start.Add(one.at))):
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case places <- struct{}{}:
		}
		wg.Go(func() {
			defer func() { <-places }()
			out.bring(ctx, pools, i, one.envelope)
		})
	}
	wg.Wait()
	return out, ctx.Err()
}

// The pauses of an agent whose rotation was not answered: gossip/agent/limits.go.
const (
	againFirst = 250 * time.Millisecond
	againMost  = 15 * time.Second
	againTimes = 12
)

// bring submits one rotation, and the same bytes again, to the next replica, if it is
// not known what became of it.
func (o *sent) bring(ctx context.Context, pools []connPool, first int, envelope []byte) {
	began, again, pause := time.Now(), 0, againFirst
	for ; ; again, pause = again+1, min(2*pause, againMost) {
		status, err := pools[(first+again)%len(pools)].submit(envelope)
		unknown := status == 0 || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
		if err == nil || !unknown || again == againTimes || ctx.Err() != nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.times, o.again = append(o.times, time.Since(began)), o.again+again
			if err != nil {
				o.refused = append(o.refused, err)
			}
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + mathrand.N(pause)):
		}
	}
}

// connPool is kept connections to one replica.
type connPool struct {
	address string
	mu      sync.Mutex
	idle    []*conn
}

// submit submits one statement and waits until it is certified; the status is 0 if
// there is no answer.
func (p *connPool) submit(envelope []byte) (status int, err error) {
	c, err := p.take()
	if err != nil {
		return 0, err
	}
	a, err := c.submit(envelope, "?wait=certified")
	if err != nil {
		c.c.Close()
		return 0, err
	}
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	if a.status != http.StatusOK {
		err = fmt.Errorf("status %d: %.300s", a.status, a.body)
	}
	return a.status, err
}

func (p *connPool) take() (*conn, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	return dial(p.address)
}

func (p *connPool) close() {
	for _, c := range p.idle {
		c.c.Close()
	}
}

// nodes lists all nodes of the ledger, by name.
func (m *member) nodes(ctx context.Context) (map[string]client.Node, error) {
	all := map[string]client.Node{}
	for cursor := ""; ; {
		raw, err := m.raw(ctx, "/v1/nodes?limit=500&cursor="+url.QueryEscape(cursor))
		if err != nil {
			return nil, err
		}
		var page client.Nodes
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, err
		}
		for _, n := range page.Nodes {
			all[n.Name] = n
		}
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// spent is what one rotation took of a replica.
type spent struct {
	CPU      float64 `json:"cpu_ms"`
	Sent     float64 `json:"sent_bytes"` // payload of TCP, to clients and replicas
	Received float64 `json:"received_bytes"`
	Written  float64 `json:"written_bytes"` // to files
}

func (s *spent) add(one spent, of float64) {
	s.CPU, s.Sent, s.Received, s.Written = s.CPU+one.CPU/of, s.Sent+one.Sent/of, s.Received+one.Received/of, s.Written+one.Written/of
}

// spentBy is what a replica used from one moment to another, less what it takes in as
// long a time at rest, for each of n.
func spentBy(before, after, resting, rested meter, n int) spent {
	busy, idle := after.usedSince(before), rested.usedSince(resting)
	length := after.at.Sub(before.at).Seconds() / rested.at.Sub(resting.at).Seconds()
	each := func(busy, idle float64) float64 { return (busy - idle*length) / float64(n) }
	return spent{each(busy.CPU, idle.CPU), each(busy.Sent, idle.Sent), each(busy.Received, idle.Received), each(busy.Written, idle.Written)}
}

func (m meter) usedSince(before meter) spent {
	s := spent{CPU: millis(m.cpu - before.cpu)}
	s.Sent, s.Received = m.carriedSince(before)
	s.Written = float64(m.written-before.written) - s.Sent
	return s
}

// raw reads what the API gives as bytes.
func (m *member) raw(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.api+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := bulkClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, bulkBytes))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %.100s: status %d: %.300s", path, response.StatusCode, body)
	}
	return body, err
}

const bulkBytes = 32 << 20

var bulkClient = &http.Client{Timeout: 30 * time.Second}

// entries gives the first size entries of the ledger.
func (m *member) entries(ctx context.Context, size uint64) ([][]byte, error) {
	var all [][]byte
	for uint64(len(all)) < size {
		width := min(size-uint64(len(all)), archive.TileWidth)
		bundle, err := m.raw(ctx, "/"+archive.BundlePath(uint64(len(all))/archive.TileWidth, int(width)))
		if err != nil {
			return nil, err
		}
		entries, err := archive.ParseBundle(bundle)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}
