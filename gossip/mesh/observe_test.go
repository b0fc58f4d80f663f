package mesh

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger/keys"
)

// recorder keeps what stations sent and took in.
type recorder struct {
	mu     sync.Mutex
	frames []Frame
}

func (r *recorder) observe(f Frame) {
	f.Data = slices.Clone(f.Data)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, f)
}

// unsigned lists the frames that carry neither a valid statement nor belong to
// the closed list, and counts the rest by channel.
func (r *recorder) unsigned(authors map[keys.ID]*keys.PublicKey) (found []string, counts map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts = map[string]int{}
	for _, f := range r.frames {
		counts[string(f.Direction)+" "+f.Channel]++
		switch {
		case f.Opened && (slices.Contains(InternalChannels(), f.Channel) || CarriesStatements(f.Channel)):
		case f.Internal && slices.Contains(InternalChannels(), f.Channel):
		case f.Direction == Received && f.Verdict != Accept: // not accepted
		default:
			e, err := keys.ViewEnvelope(f.Data)
			if err != nil || authors[e.KeyID] == nil || !e.Verify(authors[e.KeyID]) {
				found = append(found, fmt.Sprintf("%s %s %.20q", f.Direction, f.Channel, f.Data))
			}
		}
	}
	return found, counts
}

// witness judges as court does and answers probes with signed acks.
type witness struct {
	*court
	of *station
}

func (w *witness) Probe(Member, []byte) ([]byte, error) { return w.of.statement(0), nil }

// Every frame that goes over a mesh shows itself to the hook, and is a signed
// statement or on the closed list.
func TestEveryFrameIsObserved(t *testing.T) {
	f := newFleet(t, 5, 5)
	record := &recorder{}
	for i, s := range f.stations {
		f.start(t, i, func(c *Config) {
			c.Observe = record.observe
			c.Judge = &witness{c.Judge.(*court), s}
		})
	}
	f.settle(t, f.stations...)
	for n, s := range f.stations {
		envelope := s.statement(n)
		publish(t, s, Statements, envelope)
		for m, other := range f.stations {
			if other == s {
				continue
			}
			eventually(t, 5*time.Second, other.name+" hears it", func() bool { _, ok := other.court.has(envelope); return ok })
			if _, err := s.Probe(t.Context(), other.peer(), s.statement(100+m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	found, counts := record.unsigned(f.authors)
	for _, f := range found {
		t.Errorf("unsigned: %s", f)
	}
	t.Logf("%v", counts)
	for channel, want := range map[string]int{
		"sent " + ProtocolShared: 60, "received " + ProtocolShared: 60, // 20 probes: an opening, a request, an answer
		"sent " + string(Statements): 20, "received " + string(Statements): 20,
		"received " + string(gossipProtocol): 20, "received /ipfs/id/1.0.0": 20,
	} {
		if counts[channel] < want {
			t.Errorf("%s: %d frames were observed, want at least %d", channel, counts[channel], want)
		}
	}
	// A path without a signature is seen.
	publish(t, f.stations[0], Statements, []byte("an unsigned statement"))
	eventually(t, 5*time.Second, "an unsigned frame is seen", func() bool {
		found, _ := record.unsigned(f.authors)
		return len(found) > 0
	})
}
