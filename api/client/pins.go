package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// Replicas rotate their TLS keys, so what a client expects of its servers has to
// follow the ledger: the records of the replicas, proven under a certified head,
// name the keys. Whoever connects needs no pin for such a proof, so that a client
// that was away while every replica rotated finds the keys by itself.

const pinsName = "pins"

// PinError says that a server's TLS key is not one of those that the client
// expects.
type PinError struct{ Pin ledger.Hash }

func (e *PinError) Error() string {
	return fmt.Sprintf("the server's key %s is not among the pinned ones", e.Pin)
}

// keptPins is what a trust folder's file pins holds, in canonical JSON.
type keptPins struct {
	Index uint64       `json:"index"` // of the authority record whose replicas these are
	Pins  []replicaPin `json:"pins"`  // by name; a replica's former one comes after
}

type replicaPin struct {
	Name  string      `json:"name"`
	Pin   ledger.Hash `json:"pin"`
	Until uint64      `json:"until,omitempty"` // Unix seconds: it was replaced, and is taken so long
}

// pins are the TLS keys that a client takes.
type pins struct {
	given   []ledger.Hash
	path    string                   // of keptPins; "": in memory only
	learned atomic.Pointer[keptPins] // nil before the first

	asking chan struct{}        // holds one while one is introduced
	asked  map[string]time.Time // by server: when it last was; whoever asks has it

	failing sync.Mutex
	failed  map[string]bool // servers that were of no use when they were last asked
}

func newPins(given []ledger.Hash) *pins {
	return &pins{given: given, asking: make(chan struct{}, 1), asked: map[string]time.Time{}, failed: map[string]bool{}}
}

// works notes whether a server answered as it should.
func (p *pins) works(server string, yes bool) {
	p.failing.Lock()
	defer p.failing.Unlock()
	p.failed[server] = !yes
}

// nobody reports whether none of the servers was of use when it was last asked.
func (p *pins) nobody(servers []string) bool {
	p.failing.Lock()
	defer p.failing.Unlock()
	return !slices.ContainsFunc(servers, func(s string) bool { return !p.failed[s] })
}

// HasPins says whether a client with this TrustDir has learned the TLS keys of a
// ledger's replicas before: then those of its beginning are out of date.
func HasPins(trustDir string, genesis ledger.Hash) bool {
	if trustDir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(trustDir, genesis.String(), pinsName))
	return err == nil
}

// loadPins reads what was learned before. Like the rest of the folder, a file that
// can't be used is never put aside silently.
func loadPins(o *Options) (*pins, error) {
	p := newPins(o.Pins)
	if !o.learns() || o.TrustDir == "" {
		return p, nil
	}
	dir := filepath.Join(o.TrustDir, o.Genesis.String())
	p.path = filepath.Join(dir, pinsName)
	data, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	kept := new(keptPins)
	if err == nil {
		err = canon.Unmarshal(data, kept)
	}
	if err == nil && len(kept.Pins) > maxPins {
		err = fmt.Errorf("%d pins, at most %d", len(kept.Pins), maxPins)
	}
	if err != nil {
		return nil, &TrustError{Dir: dir, Err: fmt.Errorf("%s: %w", pinsName, err)}
	}
	p.learned.Store(kept)
	return p, nil
}

// learns says whether the client follows the replicas' TLS keys.
func (o *Options) learns() bool {
	return o.LearnPins && !o.Genesis.IsZero() && o.HTTPClient == nil && o.TLS == nil &&
		slices.ContainsFunc(o.Servers, func(s string) bool { return strings.HasPrefix(strings.TrimSpace(s), "https:") })
}

// apply makes a TLS configuration demand a pin, if there is any.
func (p *pins) apply(config *tls.Config) {
	if len(p.given) == 0 && p.learned.Load() == nil {
		return
	}
	// The pin replaces the check of the chain and name, it does not drop it.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		pin := ledger.Hash(sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo))
		if !p.has(pin, time.Now()) {
			return &PinError{pin}
		}
		return nil
	}
}

func (p *pins) has(pin ledger.Hash, now time.Time) bool {
	if slices.Contains(p.given, pin) {
		return true
	}
	kept := p.learned.Load()
	return kept != nil && slices.ContainsFunc(kept.Pins, func(one replicaPin) bool {
		return one.Pin == pin && (one.Until == 0 || now.Unix() < int64(one.Until))
	})
}

// take keeps the pins of the replicas of an authority record. A replica goes on with
// its old TLS key until the handover is certified, and so does a client for a while
// after that.
func (p *pins) take(fresh *keptPins, now time.Time) error {
	if before := p.learned.Load(); before != nil {
		if before.Index > fresh.Index {
			return nil
		}
		fresh.addFormer(before.Pins, uint64(now.Unix()))
	}
	p.learned.Store(fresh)
	if p.path == "" {
		return nil
	}
	data, err := canon.Marshal(fresh)
	if err != nil {
		return err
	}
	return replaceFile(p.path, data)
}

// addFormer adds what replicas that stay had before. seconds is now.
func (k *keptPins) addFormer(before []replicaPin, seconds uint64) {
	for _, old := range before {
		if old.Until == 0 {
			old.Until = seconds + uint64(pinLinger/time.Second)
		}
		same := func(one replicaPin) bool { return one.Pin == old.Pin }
		stays := func(one replicaPin) bool { return one.Name == old.Name }
		if old.Until > seconds && len(k.Pins) < maxPins && !slices.ContainsFunc(k.Pins, same) && slices.ContainsFunc(k.Pins, stays) {
			k.Pins = append(k.Pins, old)
		}
	}
}

// learnPins reads the replicas' TLS keys anew if the authority has changed since they
// were read. What can't be read now is read with the next head; the error is of the
// disk.
func (c *Client) learnPins(ctx context.Context, head *Head) error {
	if !c.options.learns() {
		return nil
	}
	if kept := c.pins.learned.Load(); kept != nil && kept.Index >= head.Authority.Index {
		return nil
	}
	fresh, err := c.readPins(ctx, head)
	if err != nil {
		return nil
	}
	if err := c.pins.take(fresh, time.Now()); err != nil {
		return &UnkeptError{err}
	}
	return nil
}

// readPins reads the replicas' TLS keys from their proven records.
func (c *Client) readPins(ctx context.Context, head *Head) (*keptPins, error) {
	out := &keptPins{Index: head.Authority.Index, Pins: []replicaPin{}}
	for _, r := range head.Authority.Replicas {
		record, _, err := verified[fsm.ReplicaRecord](ctx, c, "replica/"+r.Name)
		if errors.Is(err, ErrNotFound) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out.Pins = append(out.Pins, replicaPin{Name: r.Name, Pin: record.TLSPin})
	}
	return out, nil
}

// introduce asks a server whose TLS key is unknown for the proof that it is a
// replica's, and says whether it is. The connection for it has no pin: nothing secret
// passes there, and each answer proves itself from the genesis hash. Whoever stands
// in between can withhold the newest head, never name a key of his own.
func (c *Client) introduce(ctx context.Context, server string, pin ledger.Hash) bool {
	if !c.options.learns() {
		return false
	}
	p := c.pins
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return false
	}
	if p.has(pin, time.Now()) {
		return true // another call was told meanwhile
	}
	if time.Since(p.asked[server]) < introducePause {
		return false
	}
	p.asked[server] = time.Now()
	ctx, cancel := context.WithTimeout(ctx, introduceTimeout)
	defer cancel()
	options := c.options
	options.Servers, options.LearnPins, options.Pins = []string{server}, false, nil
	options.TLS = &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	stranger, err := New(options)
	if err != nil {
		return false
	}
	defer stranger.Close()
	head, err := stranger.Sync(ctx)
	var unkept *UnkeptError
	if err != nil && !errors.As(err, &unkept) {
		return false
	}
	fresh, err := stranger.readPins(ctx, head)
	if err != nil {
		return false
	}
	_ = p.take(fresh, time.Now()) // they hold for this run, and the next Sync keeps them
	return p.has(pin, time.Now())
}

// reach makes a request, once more if the server's TLS key turned out to be a
// replica's. That is looked into only if no server is of use as it is: a stranger
// among them costs the others no time.
func (c *Client) reach(ctx context.Context, server string, newRequest func() (*http.Request, error)) (*http.Response, error) {
	request, err := newRequest()
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	var unknown *PinError
	if err == nil || !errors.As(err, &unknown) {
		return response, err
	}
	c.pins.works(server, false)
	if !c.pins.nobody(c.servers) || !c.introduce(ctx, server, unknown.Pin) {
		return response, err
	}
	if request, err = newRequest(); err != nil {
		return nil, err
	}
	return c.http.Do(request)
}
