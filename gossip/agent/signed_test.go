package agent

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// recorder looks at every frame that agents send or take in.
type recorder struct {
	public    map[ledger.Hash]*keys.PublicKey // of nodes, by key id
	authority ledger.Authority

	mu       sync.Mutex
	counts   map[string]int // by direction, channel and what it was
	unsigned []string
	checked  map[string]bool // envelopes that verified
}

// allowed are the channels on which a frame without a statement may go.
func (r *recorder) allowed(f mesh.Frame) bool {
	if slices.Contains(mesh.InternalChannels(), f.Channel) {
		return f.Internal || f.Opened
	}
	return f.Opened && (f.Channel == mesh.ProtocolProbe || f.Channel == mesh.ProtocolSync)
}

// look classes one frame: a statement of a node that verifies, what the ledger
// certified, a frame of the channel's own, or none of these.
func (r *recorder) look(f mesh.Frame) {
	what, err := "", error(nil)
	switch {
	case r.allowed(f):
		what = "internal"
	case f.Channel == string(mesh.Statements), f.Channel == mesh.ProtocolProbe:
		what, err = r.statement(f.Data)
	case f.Channel == string(mesh.Heads):
		what, err = "head", r.head(f.Data)
	case f.Channel == string(mesh.Entries), f.Channel == mesh.ProtocolSync:
		// Carried without a statement of its own, and believed only under a
		// certified head: chronicle_test.go shows what becomes of anything else.
		what = "certified content"
		if f.Internal {
			err = fmt.Errorf("it calls itself internal")
		}
	default:
		err = fmt.Errorf("the channel is on no list")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.unsigned = append(r.unsigned, fmt.Sprintf("%s on %s: %v", f.Direction, f.Channel, err))
		return
	}
	r.counts[strings.Join([]string{string(f.Direction), f.Channel, what}, " ")]++
}

func (r *recorder) statement(envelope []byte) (string, error) {
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return "", err
	}
	key := r.public[st.KeyID]
	if key == nil {
		return "", fmt.Errorf("signed by a key that is no node's")
	}
	r.mu.Lock()
	known := r.checked[string(envelope)]
	r.mu.Unlock()
	if known {
		return st.Payload.Type, nil
	}
	if !st.Verify(key) {
		return "", fmt.Errorf("the signature of a %s does not verify", st.Payload.Type)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checked[string(envelope)] = true
	return st.Payload.Type, nil
}

func (r *recorder) head(note []byte) error {
	c, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return err
	}
	_, err = r.authority.Certifies(c)
	return err
}

func (r *recorder) count(of string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for name, times := range r.counts {
		if strings.Contains(name, of) {
			n += times
		}
	}
	return n
}

func (r *recorder) violations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.unsigned)
}

// Every control message that an agent of twenty sends or takes in bears a
// statement's signature that verifies, or is on the closed list of what does not;
// and a path without one is seen.
func TestEveryControlMessageIsSigned(t *testing.T) {
	f := newFleet(t, 3, 20, func(g *ledger.Genesis) { g.Policy.TickMillis = 1_000 }, nil)
	r := &recorder{public: map[ledger.Hash]*keys.PublicKey{}, counts: map[string]int{}, checked: map[string]bool{}}
	view, err := f.cluster.Leader().Replica.View(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r.authority = view.State.Authority()
	for _, m := range f.agents {
		r.public[ledger.Hash(m.key.Public().ID())] = m.key.Public()
	}
	f.observe = r.look
	for _, m := range f.agents {
		f.start(m)
	}
	f.connected(f.agents, 8)

	// One of them goes, so that others say so; one lies, so that there is evidence.
	f.agents[18].stop()
	liar := f.agents[19]
	seq, epoch := uint64(9_000), uint64(0)
	for deadline := time.Now().Add(2 * patience); ; seq++ {
		for _, text := range []string{"n1", "n2"} {
			b, err := ledger.Sign(liar.key, ledger.Payload{
				Author: liar.name, Epoch: &epoch, Seq: &seq, Ledger: f.cluster.Hash, Type: ledger.TypeObserve,
			}, ledger.Observe{Counter: seq, Kind: ledger.NodeUp, Subject: text})
			if err != nil {
				t.Fatal(err)
			}
			if err := liar.mesh.Publish(t.Context(), mesh.Statements, b); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second) // what is published before the others subscribe is lost
		gone := f.agents[0].View().Standing(liar.name) == fsm.NodeExcluded
		if gone && r.count("received "+mesh.ProtocolProbe+" ack") > 40 && r.count("received statements observe") > 0 && r.count("received heads") > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not all was said: liar excluded %v; %v", gone, r.counts)
		}
	}
	if bad := r.violations(); len(bad) > 0 {
		t.Fatalf("%d frames without a signature, such as %q", len(bad), bad[:min(len(bad), 5)])
	}
	r.mu.Lock()
	signed := 0
	for name, n := range r.counts {
		t.Logf("%6d %s", n, name)
		if strings.Contains(name, "statements") || strings.HasSuffix(name, "probe") || strings.HasSuffix(name, "ack") {
			signed += n
		}
	}
	r.mu.Unlock()
	t.Logf("%d control messages, each with a signature that verifies: %d distinct", signed, len(r.checked))

	// The planted path: bytes that nobody signed.
	if err := f.agents[0].mesh.Publish(t.Context(), mesh.Statements, []byte("quarantine n5")); err != nil {
		t.Fatal(err)
	}
	f.await("the unsigned message is seen", f.agents[:1], func(*member) bool { return len(r.violations()) > 0 })
	if _, err := r.statement([]byte("quarantine n5")); err == nil {
		t.Error("the recorder takes anything")
	}
}
