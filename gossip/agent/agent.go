package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// Options are what an agent is given besides its configuration.
type Options struct {
	// Key is this node's, in place of its key_file, for tests. nil: what key_file holds,
	// or, once the keys rotated, what followed it.
	Key *keys.PrivateKey
	// Passphrase gives that of key_file, which those that follow it get too; it is called
	// once, if the file is encrypted.
	Passphrase func() ([]byte, error)
	Logger     *slog.Logger // nil: nothing is logged
	Registry   *prometheus.Registry
	// Alone says that the process is this agent and nothing else, which may set how many
	// processors it uses.
	Alone bool
	// Observe sees every frame of the mesh that is sent or taken in. For tests.
	Observe func(mesh.Frame)
}

// Agent is one node's agent. New makes it, Run runs it, the other methods may
// be called at any time.
type Agent struct {
	config  *Config
	genesis ledger.Hash
	pack    begin
	logger  *slog.Logger
	metrics *metrics
	client  *client.Client // nil: no replica is configured
	mesh    *meshes
	near    neighbours // mesh
	verify  *fsm.DirectVerifier

	mu        sync.Mutex // guards chronicle
	chronicle *chronicle

	identity atomic.Pointer[identity] // the keys with which this node may sign
	keyring  *keyring                 // where they are; the rotator's, once Run runs
	rotator  *rotator

	view    atomic.Pointer[View]
	viewing sync.Mutex // held by whoever replaces view
	changed *broadcast // after each change of view

	trouble troubles
	out     *sender
	docket  *docket
	early   *early
	cores   *cores
	judge   *judge
	watch   *watcher
	store   *vault

	addresses map[string][]string // of configured peers, by name
	pins      pinned

	lock     *os.File // of the folder; nil where it can't be locked
	lag      lag
	wantHead chan struct{} // entries came that a head should cover
	ahead    chan claim    // a peer's certified head is ahead of ours
}

// New opens an agent's state and checks its configuration; it starts nothing. Until Run
// ended, or the process did, no other agent opens it: ErrRuns.
func New(config *Config, o Options) (_ *Agent, err error) {
	if err := config.Check(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
	a := &Agent{
		config: config, logger: o.Logger,
		verify:   fsm.NewDirectVerifier(unpackedKeys),
		changed:  newBroadcast(),
		wantHead: make(chan struct{}, 1),
		ahead:    make(chan claim, keptClaims),
		pins:     pinned{pageBytes: syncEntriesBytes},
	}
	if a.logger == nil {
		a.logger = slog.New(slog.DiscardHandler)
	}
	a.metrics = newMetrics(a, o.Registry)
	a.view.Store(&View{})
	if a.genesis, err = ledger.ParseHash(config.Genesis); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	a.lock, err = lockFolder(config.Dir)
	switch {
	case errors.Is(err, ErrRuns):
		return nil, fmt.Errorf("open %s: %w", config.Dir, err)
	case err != nil:
		a.logger.Warn("the folder can't be locked; see to it that one agent runs on it", "error", err)
	}
	defer func() {
		if err != nil && a.lock != nil {
			_ = a.lock.Close() // nothing was written
		}
	}()
	a.store = newVault(config.Dir)
	if err := a.openPack(time.Now()); err != nil {
		return nil, err
	}
	if a.chronicle, err = a.newChronicle(); err != nil {
		return nil, err
	}
	a.restore()
	if err := a.openKeys(&o); err != nil {
		return nil, err
	}
	if err := a.openClient(); err != nil {
		return nil, err
	}
	if a.addresses, err = addressesOf(config.Gossip.Peers); err != nil {
		return nil, err
	}
	if a.out, err = newSender(a); err != nil {
		return nil, err
	}
	a.chronicle.waits = a.out
	a.docket, a.early, a.cores = newDocket(a), newEarly(), newCores(nil)
	if o.Alone {
		a.cores = newCores(setProcessors)
	}
	a.rotator = newRotator(a)
	a.judge = newJudge(a)
	a.watch = newWatcher(a)
	var registerer prometheus.Registerer // not a nil pointer in an interface
	if o.Registry != nil {
		registerer = o.Registry
	}
	a.mesh, err = newMeshes(a, mesh.Config{
		Ledger: a.genesis.String(), Listen: []string{config.Gossip.Listen},
		Directory: directory{a}, Judge: a.judge, Logger: a.logger, Metrics: registerer, Observe: o.Observe,
	})
	if err != nil {
		return nil, fmt.Errorf("open mesh: %w", err)
	}
	a.near = a.mesh
	return a, nil
}

// newChronicle begins before the first link, or with those of the join pack.
func (a *Agent) newChronicle() (*chronicle, error) {
	c := newChronicle(a.genesis, a.verify)
	c.least = a.pack.head
	for _, raw := range a.pack.links {
		if err := c.addLink(raw); err != nil {
			return nil, fmt.Errorf("begin with the join pack's authority chain: %w", err)
		}
	}
	return c, nil
}

func (a *Agent) openClient() error {
	if len(a.config.API.Servers) == 0 {
		return nil
	}
	options := client.Options{
		Servers: a.config.API.Servers, Genesis: a.genesis, Links: a.pack.links, TrustDir: a.store.trustDir(), MaxHeadAge: a.doubtAge(),
	}
	if !a.chronicle.reached {
		options.MinHead = a.pack.note
	}
	if a.config.API.CAFile != "" {
		text, err := os.ReadFile(a.config.API.CAFile)
		if err != nil {
			return fmt.Errorf("read api.ca_file: %w", err)
		}
		options.RootCAs = x509.NewCertPool()
		if !options.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("read api.ca_file: %s holds no certificate", a.config.API.CAFile)
		}
	}
	for _, text := range a.config.API.Pins {
		pin, err := ledger.ParseHash(text)
		if err != nil {
			return fmt.Errorf("read api.pins: %w", err)
		}
		options.Pins = append(options.Pins, pin)
	}
	options.LearnPins = len(options.Pins) > 0 // replicas rotate their TLS keys
	c, err := client.New(options)
	if err != nil {
		return err
	}
	a.client = c
	return nil
}

// Run serves and follows until ctx ends, and waits for whatever it started. It
// fails if it cannot listen.
func (a *Agent) Run(ctx context.Context) error {
	if a.lock != nil {
		defer a.lock.Close() //nolint:errcheck // nothing was written
	}
	local, err := a.listenLocal()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { close(a.early.over) })()
	loop := func(run func(context.Context) error) {
		group.Go(func() error {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		})
	}
	loop(a.mesh.run)
	loop(func(ctx context.Context) error { return a.serveLocal(ctx, local) })
	if a.client != nil {
		loop(a.followEntries)
		loop(a.followHeads)
	}
	loop(a.followPeers)
	loop(a.gossipHeads)
	loop(a.out.run)
	loop(a.docket.run)
	loop(a.rotator.run)
	loop(a.watch.run)
	loop(a.publish)
	loop(a.save)
	err = group.Wait()
	if a.client != nil {
		a.client.Close()
	}
	a.saveNow()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// View is what the agent enforces now. It is never nil.
func (a *Agent) View() *View { return a.view.Load() }

// Changed is closed at the next change of View.
func (a *Agent) Changed() <-chan struct{} { return a.changed.wait() }

// Mesh is the agent's mesh, for its addresses; another once its peer key changed.
func (a *Agent) Mesh() *mesh.Mesh { return a.mesh.current() }

// Judge is what the mesh asks of each frame that arrives. For measurements.
func (a *Agent) Judge() mesh.Judge { return a.judge }

// LinkUp has this node say that its link to another one is up, as it says what it saw
// itself: under the key in force, gossiped, and brought to the ledger. It gives what it
// signed. For tests, which want nodes to speak all the time.
func (a *Agent) LinkUp(subject string) (*ledger.Statement, error) {
	view := a.view.Load().certified
	if view == nil {
		return nil, errNoState
	}
	tick := uint64(time.Now().UnixMilli()) / view.Rules().TickMillis
	return a.out.sayOf(nil, ledger.TypeObserve, func(seq uint64) any {
		return ledger.Observe{Counter: seq + 1, Kind: ledger.LinkUp, Subject: subject, From: tick, To: tick}
	})
}

// change replaces the view by what fn makes of a copy, and tells whoever waits.
func (a *Agent) change(fn func(*View)) {
	a.viewing.Lock()
	v := a.view.Load().next()
	fn(v)
	v.settleBans()
	if v.State != nil {
		v.certified = newCertified(v)
	}
	a.view.Store(v)
	a.viewing.Unlock()
	a.near.Refresh()
	a.changed.tell()
}

// broadcast tells any number of waiters that something changed.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func newBroadcast() *broadcast { return &broadcast{ch: make(chan struct{})} }

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Logger makes the logger that a configuration asks for.
func (l *LogConfig) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
