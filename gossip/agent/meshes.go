package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// meshes is this node's mesh, and, while its peer key changes, a second one: the new
// one connects to others before it takes the addresses of the old one, which goes on
// for some seconds. What is published goes through both, and both bring what others
// publish to one judge, which sees each message once.
type meshes struct {
	agent  *Agent
	config mesh.Config

	mu    sync.Mutex
	now   *mesh.Mesh  // whose peers and addresses are ours
	other *mesh.Mesh  // that comes or goes; nil: none
	key   ledger.Hash // whose peer key now has
	again time.Time   // when a change that failed may be tried again

	// run's alone.
	addresses []string // where this node listens, or should
	deaf      bool     // the mesh could not take them back
}

func newMeshes(a *Agent, config mesh.Config) (*meshes, error) {
	id := a.identity.Load()
	config.Identity = id.any().PeerKey()
	m, err := mesh.New(config)
	if err != nil {
		return nil, err
	}
	return &meshes{agent: a, config: config, now: m, key: ledger.Hash(id.any().ID())}, nil
}

// current is the mesh of requests.
func (s *meshes) current() *mesh.Mesh {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *meshes) set(now, other *mesh.Mesh) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.other = now, other
}

func (s *meshes) both() (now, other *mesh.Mesh) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.other
}

// Publish gossips by every mesh that there is.
func (s *meshes) Publish(ctx context.Context, topic mesh.Topic, data []byte) error {
	now, other := s.both()
	if other != nil {
		_ = other.Publish(ctx, topic, data) // it is coming or going
	}
	return now.Publish(ctx, topic, data)
}

// Refresh tells the meshes that the directory changed.
func (s *meshes) Refresh() {
	now, other := s.both()
	now.Refresh()
	if other != nil {
		other.Refresh()
	}
}

func (s *meshes) Peers() []mesh.Member { return s.current().Peers() }

func (s *meshes) Probe(ctx context.Context, to ed25519.PublicKey, envelope []byte) ([]byte, error) {
	return s.current().Probe(ctx, to, envelope)
}

// SharesProbes reports whether a member answers a probe that asks others beside it.
func (s *meshes) SharesProbes(to ed25519.PublicKey) bool { return s.current().SharesProbes(to) }

func (s *meshes) Ask(ctx context.Context, to ed25519.PublicKey, request []byte) ([]byte, error) {
	return s.current().Ask(ctx, to, request)
}

// runningMesh is a mesh whose Run runs.
type runningMesh struct {
	*mesh.Mesh
	stop func()
	done chan struct{}
	err  error // once done
}

func start(ctx context.Context, m *mesh.Mesh) *runningMesh {
	ctx, cancel := context.WithCancel(ctx)
	r := &runningMesh{Mesh: m, done: make(chan struct{})}
	r.stop = func() { cancel(); <-r.done }
	go func() {
		defer close(r.done)
		r.err = m.Run(ctx)
	}()
	return r
}

// run runs the mesh until ctx ends, and changes its peer key when that is due.
func (s *meshes) run(ctx context.Context) error {
	live := start(ctx, s.current())
	defer func() { live.stop() }()
	for {
		changed := s.agent.changed.wait()
		s.listenAgain(live)
		next, wait := s.due(time.Now())
		if s.deaf {
			next, wait = nil, listenAgain
		}
		if next != nil {
			var err error
			live, err = s.change(ctx, live, next)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				s.failed(err)
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-live.done:
			timer.Stop()
			return live.err
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due is the key whose peer key the mesh is to have and has not, once it is time, or
// when to look again.
func (s *meshes) due(now time.Time) (*keys.PrivateKey, time.Duration) {
	view := s.agent.view.Load().certified
	if view == nil {
		return nil, keysEvery
	}
	me, ok := view.State.Node(s.agent.config.Name)
	identity := s.agent.identity.Load()
	next := identity.key(me.Key)
	if !ok || me.Key == s.key || next == nil {
		return nil, keysEvery
	}
	if now.Before(s.again) {
		return nil, s.again.Sub(now)
	}
	if identity.ours(s.key) { // others know the key before as ours for this epoch
		if at := s.time(view, &me); now.Before(at) {
			return nil, at.Sub(now)
		}
	}
	return next, 0
}

// time is when to change the peer key in the epoch in which the node's key took effect;
// later, it is past.
func (s *meshes) time(view *certified, me *fsm.NodeRecord) time.Time {
	meta, policy := view.State.Meta(), view.State.Policy()
	if meta.Epoch != me.ValidFrom {
		return time.Time{}
	}
	rules := policy.KeyRules()
	due := gossip.RotationDue(s.agent.genesis, me.Name, me.Ordinal, me.ValidTo, rules.RotateEpochs, rules.LateEpochs)
	return time.UnixMilli(int64(meta.EpochStart + policy.EpochMillis*due.Change/10_000))
}

func (s *meshes) failed(err error) {
	s.again = time.Now().Add(changeAgain)
	s.agent.metrics.changes.WithLabelValues("failed").Inc()
	s.agent.logger.Warn("the peer key was not changed", "error", err)
	s.agent.trouble.set(troublePeerKey, fmt.Errorf("the peer key was not changed and is tried again: %w", err))
}

// change has a mesh with another peer key take the place of old, and gives the one
// that is in use then.
func (s *meshes) change(ctx context.Context, old *runningMesh, key *keys.PrivateKey) (*runningMesh, error) {
	config := s.config
	config.Identity, config.Listen = key.PeerKey(), nil
	m, err := mesh.New(config)
	if err != nil {
		return old, err
	}
	next := start(ctx, m)
	s.set(old.Mesh, next.Mesh)
	if err := s.gather(ctx, next, old); err != nil {
		s.set(old.Mesh, nil)
		next.stop()
		return old, errors.Join(err, next.err)
	}
	if err := s.move(ctx, old, next); err != nil {
		s.set(old.Mesh, nil)
		next.stop()
		return old, err
	}
	s.set(next.Mesh, old.Mesh)
	s.key = ledger.Hash(key.ID())
	s.agent.metrics.changes.WithLabelValues("done").Inc()
	s.agent.trouble.set(troublePeerKey, nil)
	s.agent.logger.Info("the peer key changed", "peer", hexOf(key.PeerKey().Public().(ed25519.PublicKey)))
	_ = sleep(ctx, changeLinger)
	s.set(next.Mesh, nil)
	old.stop()
	return next, nil
}

// gather waits until the new mesh has half of the peers of the old one, or a while.
func (s *meshes) gather(ctx context.Context, next, old *runningMesh) error {
	select {
	case <-next.Ready():
	case <-next.done:
		return errors.New("the new mesh ended")
	case <-ctx.Done():
		return ctx.Err()
	}
	next.Refresh()
	for deadline := time.Now().Add(changePatience); time.Now().Before(deadline); {
		if 2*len(next.Peers()) >= len(old.Peers()) {
			return nil
		}
		if err := sleep(ctx, changeLook); err != nil {
			return err
		}
	}
	return nil
}

// listener is a mesh as far as it listens.
type listener interface {
	Listening() []string
	StopListening() error
	Listen(addresses []string) error
}

// move gives the addresses of one mesh to the other, or back.
func (s *meshes) move(ctx context.Context, from, to listener) error {
	if at := from.Listening(); len(at) > 0 {
		s.addresses = at
	}
	if err := from.StopListening(); err != nil {
		return err
	}
	failed := s.listen(ctx, to, s.addresses)
	if failed == nil {
		return nil
	}
	back := s.listen(ctx, from, s.addresses)
	s.deaf = back != nil
	return errors.Join(failed, back)
}

// listenAgain takes the addresses back that a change of the peer key lost: until then
// nobody reaches this node, and nothing else is tried.
func (s *meshes) listenAgain(live listener) {
	if s.deaf {
		s.deaf = live.Listen(s.addresses) != nil
	}
}

// listen tries for a while: the kernel may take a moment to give an address back.
func (s *meshes) listen(ctx context.Context, m listener, addresses []string) error {
	deadline := time.Now().Add(listenPatience)
	for {
		err := m.Listen(addresses)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if ctx.Err() != nil || sleep(ctx, listenPause) != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}
