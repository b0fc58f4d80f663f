package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/freeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testLedger = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// directory is one certified view that all meshes of a test share.
type directory struct {
	mu      sync.RWMutex
	members map[string]Member
}

func (d *directory) Peer(key ed25519.PublicKey) (Member, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m, ok := d.members[string(key)]
	return m, ok
}

func (d *directory) Members(yield func(Member) bool) {
	d.mu.RLock()
	members := make([]Member, 0, len(d.members))
	for _, m := range d.members {
		members = append(members, m)
	}
	d.mu.RUnlock()
	for _, m := range members {
		if !yield(m) {
			return
		}
	}
}

func (d *directory) set(m Member) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.members[string(m.Peer)] = m
}

func (d *directory) stand(key ed25519.PublicKey, standing string) {
	m, _ := d.Peer(key)
	m.Standing = standing
	d.set(m)
}

// court is a judge that verifies envelopes of the keys that it knows, and notes
// what it accepted.
type court struct {
	authors map[keys.ID]*keys.PublicKey

	mu       sync.Mutex
	seen     map[[32]byte]time.Time // statements accepted, by envelope
	from     map[string]int         // messages judged, by hop
	rejected int
	onSync   func(request []byte) ([]byte, error)
}

func (c *court) Statement(from Member, envelope []byte) Verdict {
	verdict := Reject
	if e, err := keys.ViewEnvelope(envelope); err == nil {
		if public := c.authors[e.KeyID]; public != nil && e.Verify(public) {
			verdict = Accept
		}
	}
	c.note(from, envelope, verdict)
	return verdict
}

func (c *court) note(from Member, data []byte, verdict Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.from[from.Name]++
	if verdict == Accept {
		c.seen[sha256.Sum256(data)] = time.Now()
	} else {
		c.rejected++
	}
}

func (c *court) Head(from Member, note []byte) Verdict {
	c.note(from, note, Accept)
	return Accept
}

func (c *court) Entries(from Member, frame []byte) Verdict {
	c.note(from, frame, Accept)
	return Accept
}

func (c *court) Probe(from Member, envelope []byte) ([]byte, error) {
	return append([]byte("ack of "+from.Name+": "), envelope...), nil
}

func (c *court) Sync(_ Member, request []byte) ([]byte, error) {
	if c.onSync != nil {
		return c.onSync(request)
	}
	return bytes.Repeat(request, 2), nil
}

func (c *court) has(data []byte) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.seen[sha256.Sum256(data)]
	return at, ok
}

func (c *court) judgedFrom(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from[name]
}

// station is one node of a fleet.
type station struct {
	*Mesh
	name    string
	peerKey ed25519.PrivateKey
	signer  *keys.PrivateKey
	court   *court
	address string
	stop    func()
}

func (s *station) peer() ed25519.PublicKey { return s.peerKey.Public().(ed25519.PublicKey) }

// statement is a good envelope of s, about 3.6 kB as an observation is.
func (s *station) statement(n int) []byte {
	return keys.SignEnvelope(s.signer, "quorate/observe.v1", fmt.Appendf(nil, `{"author":%q,"n":%d}`, s.name, n))
}

type fleet struct {
	directory *directory
	authors   map[keys.ID]*keys.PublicKey
	stations  []*station
}

// newFleet makes n members of ops operators; none runs yet. Each knows the
// addresses of the first three.
func newFleet(t testing.TB, n, ops int) *fleet {
	t.Helper()
	f := &fleet{directory: &directory{members: map[string]Member{}}, authors: map[keys.ID]*keys.PublicKey{}}
	first := freeport.Take(t, n)
	for i := range n {
		name := fmt.Sprintf("node-%02d", i)
		seed := sha256.Sum256([]byte(name))
		s := &station{
			name: name, peerKey: ed25519.NewKeyFromSeed(seed[:]), signer: keys.FromSeed(seed),
			address: net.JoinHostPort("127.0.0.1", strconv.Itoa(first+i)),
		}
		f.authors[s.signer.Public().ID()] = s.signer.Public()
		m := Member{Name: name, Operator: fmt.Sprintf("op-%d", i%ops), Standing: Active, Peer: s.peer(), Reputation: 6_000}
		if i < 3 {
			m.Addresses = []string{s.address}
		}
		f.directory.set(m)
		f.stations = append(f.stations, s)
	}
	return f
}

// start runs station i until the test ends or its stop is called.
func (f *fleet) start(t testing.TB, i int, change ...func(*Config)) *station {
	t.Helper()
	s := f.stations[i]
	s.court = &court{authors: f.authors, seen: map[[32]byte]time.Time{}, from: map[string]int{}}
	config := Config{
		Ledger: testLedger, Identity: s.peerKey, Listen: []string{s.address},
		Directory: f.directory, Judge: s.court,
	}
	for _, c := range change {
		c(&config)
	}
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	s.Mesh = m
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	})
	t.Cleanup(s.stop)
	select {
	case <-m.Ready():
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not listen", s.name)
	}
	return s
}

// run starts all and waits until each is connected to all others.
func (f *fleet) run(t testing.TB, change ...func(*Config)) {
	t.Helper()
	for i := range f.stations {
		f.start(t, i, change...)
	}
	f.settle(t, f.stations...)
}

// settle waits until the stations are connected with each other, gossip included.
func (f *fleet) settle(t testing.TB, stations ...*station) {
	t.Helper()
	for _, s := range stations {
		eventually(t, 30*time.Second, s.name+" gossips with all others", func() bool {
			peers := s.channels[0].handle.ListPeers()
			for _, other := range stations {
				if other != s && !slices.Contains(peers, other.id) {
					return false
				}
			}
			return true
		})
	}
}

func (s *station) linkedTo(other *station) bool {
	return slices.ContainsFunc(s.Peers(), func(m Member) bool { return m.Name == other.name })
}

// eventually waits for a condition; it fails the test if it does not come.
func eventually(t testing.TB, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(began)
}

func publish(t testing.TB, s *station, topic Topic, data []byte) {
	t.Helper()
	if err := s.Publish(t.Context(), topic, data); err != nil {
		t.Fatal(err)
	}
}
