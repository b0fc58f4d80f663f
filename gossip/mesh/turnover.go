package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
)

// A peer key is a host's for its life, so a node that changes its own has two meshes
// for some seconds: one that comes, and one that goes once nobody needs it. What
// follows is what both sides of that need.

// StopListening gives the node's addresses back, so that another mesh of this process
// can have them. Connections stay.
func (m *Mesh) StopListening() error {
	r := m.live.Load()
	if r == nil {
		return ErrNotRunning
	}
	r.host.swarm.ListenClose(r.host.swarm.ListenAddresses()...)
	m.live.CompareAndSwap(r, &running{ctx: r.ctx, host: r.host})
	return nil
}

// Listen begins to listen, host:port with a numeric host, while Run runs, and tells
// those who are connected where. After an error it listens nowhere.
func (m *Mesh) Listen(addresses []string) error {
	r := m.live.Load()
	if r == nil {
		return ErrNotRunning
	}
	at, err := r.host.listen(addresses)
	if err != nil {
		r.host.swarm.ListenClose(r.host.swarm.ListenAddresses()...)
		return err
	}
	if !m.live.CompareAndSwap(r, &running{ctx: r.ctx, host: r.host, listening: at}) {
		return ErrNotRunning // it ended meanwhile, and its addresses with it
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.links {
		if !m.ended {
			m.background.Go(func() { m.exchange(r.ctx, r.host, id) })
		}
	}
	return nil
}

// listen gives where the host listens then, ip:port.
func (h *host) listen(addresses []string) (at []string, err error) {
	var list []multiaddr.Multiaddr
	for _, address := range addresses {
		a, err := listenMultiaddr(address)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	for _, a := range list {
		if err := h.swarm.Listen(a); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", a, err)
		}
	}
	for _, a := range h.swarm.ListenAddresses() {
		if address := hostPort(a); address != "" {
			at = append(at, address)
		}
	}
	return at, nil
}

// keys are the peer keys by which a member may be met, the one in force first.
func (m *Member) keys() []ed25519.PublicKey { return append([]ed25519.PublicKey{m.Peer}, m.Also...) }

// isSelf reports whether a member is this node, by whatever key.
func (m *Mesh) isSelf(member *Member) bool {
	return slices.ContainsFunc(member.keys(), func(key ed25519.PublicKey) bool { return bytes.Equal(key, m.self) })
}

// linkedAs is the peer id under which a member is connected.
func (m *Mesh) linkedAs(member *Member) (peer.ID, bool) {
	for _, key := range member.keys() {
		if id, err := idOf(key); err == nil && m.isLinked(id) {
			return id, true
		}
	}
	return "", false
}

// dialMember connects to a member by its key in force, or else by another of its keys,
// and gives the peer id that it has there.
func (m *Mesh) dialMember(ctx context.Context, h *host, member Member) (peer.ID, error) {
	var failed error
	for _, key := range member.keys() {
		id, err := idOf(key)
		if err == nil {
			if err = m.dial(ctx, h, id, member); err == nil {
				return id, nil
			}
		}
		failed = errors.Join(failed, err)
	}
	return "", failed
}

// inherit has the key in force known where the member was under its other keys.
func (b *book) inherit(m *Member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range m.Also {
		old := b.contacts[string(key)]
		if old == nil || len(old.own)+len(old.heard) == 0 && old.proven == "" {
			continue
		}
		if c := b.of(m.Peer); c != nil && len(c.own)+len(c.heard) == 0 && c.proven == "" {
			c.own, c.heard, c.proven = slices.Clone(old.own), slices.Clone(old.heard), old.proven
			c.failed, c.nextTry = 0, time.Time{}
		}
	}
}

// register has a collector registered once, though several meshes of a process follow
// each other, and gives the one that counts.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	var there prometheus.AlreadyRegisteredError
	err := r.Register(c)
	if errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(C); ok {
			return old
		}
	}
	if err != nil {
		panic(err) // our own names and labels
	}
	return c
}
