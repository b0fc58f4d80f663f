package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// certifiedHead is the newest certified checkpoint that is durable here.
type certifiedHead struct {
	checkpoint *ledger.Checkpoint
	note       []byte
	authority  ledger.Authority
	signed     uint64 // milliseconds
}

// collectedKey is one replica's key on one head.
type collectedKey struct {
	replica string
	id      [4]byte
}

// collected is a cosignature that came in; it counts once it is verified.
type collected struct {
	ledger.Cosignature
	verified bool
}

// certifier collects cosignatures and turns them into certified checkpoints
// and authority links. Its loop alone extends the chain and publishes.
type certifier struct {
	r   *Replica
	now atomic.Pointer[certifiedHead]

	wake chan struct{} // something was collected; capacity 1

	mu        sync.Mutex
	collected map[ledger.Head]map[collectedKey]*collected
	arrivals  map[string][]ledger.Head // by replica, oldest first
	newest    map[ledger.Hash]cosigned // by key id: the newest verified one

	publishing sync.Mutex // the file certified and now, of which the newest counts

	chainMu sync.RWMutex
	chain   *ledger.Chain
	seats   *seats // of chain

	unpackedMu sync.Mutex
	unpacked   []unpacked // of the newest authorities that were asked for
}

// unpacked is an authority with its replicas' keys unpacked, which costs more
// than a verification with one of them.
type unpacked struct {
	authority ledger.Authority
	certifier *ledger.Certifier
}

// alike says whether the same cosignatures certify under both.
func alike(a, b ledger.Authority) bool {
	return a.Generation == b.Generation && a.Ledger == b.Ledger && a.Origin == b.Origin &&
		bytes.Equal(a.Log.Ed25519, b.Log.Ed25519) && bytes.Equal(a.Log.MLDSA44, b.Log.MLDSA44) &&
		slices.EqualFunc(a.Replicas, b.Replicas, func(a, b ledger.AuthorityReplica) bool {
			return a.Name == b.Name && a.Joining == b.Joining && bytes.Equal(a.Public, b.Public) && bytes.Equal(a.Cosigner, b.Cosigner)
		})
}

// cosigned is a cosignature together with what it is on.
type cosigned struct {
	head ledger.Head
	ledger.Cosignature
}

func newCertifier(r *Replica, chain *ledger.Chain) *certifier {
	return &certifier{r: r, chain: chain, seats: seatsOf(chain), wake: make(chan struct{}, 1),
		collected: map[ledger.Head]map[collectedKey]*collected{}, arrivals: map[string][]ledger.Head{},
		newest: map[ledger.Hash]cosigned{}}
}

func (c *certifier) size() uint64 {
	if now := c.now.Load(); now != nil {
		return now.checkpoint.Head.Size
	}
	return 0
}

// authorityIndex is the index of the newest link.
func (c *certifier) authorityIndex() uint64 {
	c.chainMu.RLock()
	defer c.chainMu.RUnlock()
	return c.chain.Len() - 1
}

// latest is the newest authority.
func (c *certifier) latest() ledger.Authority {
	c.chainMu.RLock()
	defer c.chainMu.RUnlock()
	return c.chain.Latest
}

// latestServers are the active replicas of the newest authority, by their servers.
func (c *certifier) latestServers() []raft.ServerID {
	c.chainMu.RLock()
	defer c.chainMu.RUnlock()
	var servers []raft.ServerID
	for _, one := range c.chain.Latest.Active() {
		servers = append(servers, c.seats.server(one))
	}
	return servers
}

func (c *certifier) authorityFor(size uint64) ledger.Authority {
	c.chainMu.RLock()
	defer c.chainMu.RUnlock()
	return c.chain.ForSize(size)
}

// under gives a's keys, unpacked.
func (c *certifier) under(a ledger.Authority) (*ledger.Certifier, error) {
	c.unpackedMu.Lock()
	defer c.unpackedMu.Unlock()
	for _, one := range c.unpacked {
		if alike(one.authority, a) {
			return one.certifier, nil
		}
	}
	made, err := ledger.NewCertifier(a)
	if err != nil {
		return nil, err
	}
	if len(c.unpacked) == keptAuthorities {
		c.unpacked = slices.Delete(c.unpacked, 0, 1)
	}
	c.unpacked = append(c.unpacked, unpacked{a, made})
	return made, nil
}

// verifies says whether one of a's active replicas made a cosignature.
func (c *certifier) verifies(a ledger.Authority, head ledger.Head, s ledger.Cosignature) bool {
	keys, err := c.under(a)
	return err == nil && keys.Verify(head, s) == nil
}

// hearsay takes a cosignature that came from somebody else than its replica: only
// if it verifies under an authority that is known here, since a liar could
// otherwise push out what the replica itself sent.
func (c *certifier) hearsay(s cosigned) {
	key := collectedKey{s.Replica, s.ID65}
	c.mu.Lock()
	have := c.collected[s.head][key]
	known := have != nil && have.verified && have.Time >= s.Time
	c.mu.Unlock()
	if known {
		return
	}
	authorities := []ledger.Authority{c.authorityFor(s.head.Size)}
	for _, sealed := range c.r.shell.pending(c.size()) {
		if sealed.handover() {
			authorities = append(authorities, sealed.old, sealed.authority)
		}
	}
	for _, a := range authorities {
		if c.verifies(a, s.head, s.Cosignature) {
			c.collect(s)
			return
		}
	}
	c.r.metrics.badCosignatures.Inc()
}

// collect takes a cosignature, perhaps on a head that this replica has not
// reached yet. What it keeps for one replica is bounded; older ones go first.
func (c *certifier) collect(s cosigned) {
	if s.head.Size < c.size() && c.r.rootAt(s.head.Size) == s.head.Root {
		return
	}
	c.mu.Lock()
	key := collectedKey{s.Replica, s.ID65}
	byKey := c.collected[s.head]
	if byKey == nil {
		byKey = map[collectedKey]*collected{}
		c.collected[s.head] = byKey
	}
	old := byKey[key]
	if old == nil || s.Time > old.Time {
		byKey[key] = &collected{Cosignature: s.Cosignature}
	}
	if old == nil {
		c.arrivals[s.Replica] = append(c.arrivals[s.Replica], s.head)
		c.trim(s.Replica)
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// trim requires mu.
func (c *certifier) trim(replica string) {
	list := c.arrivals[replica]
	for len(list) > c.r.limits.PendingHeads {
		c.forget(replica, list[0])
		list = list[1:]
	}
	c.arrivals[replica] = list
}

// forget requires mu.
func (c *certifier) forget(replica string, head ledger.Head) {
	byKey := c.collected[head]
	for key := range byKey {
		if key.replica == replica {
			delete(byKey, key)
		}
	}
	if len(byKey) == 0 {
		delete(c.collected, head)
	}
}

// clean drops what is below the certified size.
func (c *certifier) clean(below uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for replica, list := range c.arrivals {
		kept := list[:0]
		for _, head := range list {
			if head.Size >= below {
				kept = append(kept, head)
			} else {
				c.forget(replica, head)
			}
		}
		if c.arrivals[replica] = kept; len(kept) == 0 {
			delete(c.arrivals, replica)
		}
	}
}

// of lists the cosignatures on a head that verify under either authority.
func (c *certifier) of(head ledger.Head, authorities ...ledger.Authority) []ledger.Cosignature {
	c.mu.Lock()
	all := make([]*collected, 0, len(c.collected[head]))
	for _, one := range c.collected[head] {
		all = append(all, one)
	}
	c.mu.Unlock()
	var good []ledger.Cosignature
	for _, one := range all {
		c.mu.Lock()
		verified := one.verified
		c.mu.Unlock()
		if !verified && !c.verify(head, one, authorities) {
			continue
		}
		good = append(good, one.Cosignature)
	}
	return good
}

// verify marks a cosignature that verifies, and drops one that does not.
func (c *certifier) verify(head ledger.Head, one *collected, authorities []ledger.Authority) bool {
	for _, a := range authorities {
		if !c.verifies(a, head, one.Cosignature) {
			continue
		}
		for _, replica := range a.Active() {
			if replica.Name != one.Replica {
				continue
			}
			c.mu.Lock()
			one.verified = true
			id := replica.KeyID()
			if newest, ok := c.newest[id]; !ok || newest.head.Size < head.Size || newest.head.Size == head.Size && newest.Time < one.Time {
				c.newest[id] = cosigned{head, one.Cosignature}
			}
			c.mu.Unlock()
			return true
		}
	}
	c.mu.Lock()
	delete(c.collected[head], collectedKey{one.Replica, one.ID65})
	c.mu.Unlock()
	c.r.metrics.badCosignatures.Inc()
	return false
}

// newestOf is the newest head that carries a verified cosignature of a key.
func (c *certifier) newestOf(id ledger.Hash) (cosigned, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.newest[id]
	return s, ok
}

// loop certifies whatever can be, after each change.
func (c *certifier) loop(ctx context.Context) error {
	timer := time.NewTicker(c.r.limits.CertifyPull)
	defer timer.Stop()
	for {
		changed := c.r.Changed()
		if err := c.step(ctx); err != nil {
			c.r.log.Error("certify", "error", err)
			c.r.noteDisk(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// step certifies, in order: the newest seals up to the next handover, that
// handover, and so on; no head is certified before the handovers below it.
func (c *certifier) step(ctx context.Context) error {
	if c.r.halted() != nil || c.r.diskError() != nil {
		return nil
	}
	c.examine()
	for {
		pending := c.r.shell.pending(c.size())
		handover := len(pending)
		for i, s := range pending {
			if s.handover() && s.seal.Handover > c.authorityIndex() {
				handover = i
				break
			}
		}
		for i := handover - 1; i >= 0; i-- {
			if done, err := c.try(ctx, pending[i]); err != nil {
				return err
			} else if done {
				break
			}
		}
		if handover == len(pending) {
			return c.refresh()
		}
		if done, err := c.try(ctx, pending[handover]); !done || err != nil {
			return err
		}
	}
}

// try certifies a sealed state if enough replicas cosigned it.
func (c *certifier) try(ctx context.Context, s *sealedState) (bool, error) {
	checkpoint := c.assemble(s.head, s.authority, s.old, s.handover())
	if checkpoint == nil {
		return false, nil
	}
	return true, c.adopt(ctx, s, checkpoint)
}

// assemble gives the checkpoint of a head if its authority, and for a handover
// the one before it too, certifies it; nil otherwise.
func (c *certifier) assemble(head ledger.Head, authority, old ledger.Authority, handover bool) *ledger.Checkpoint {
	authorities := []ledger.Authority{authority}
	if handover && authority.Generation == old.Generation {
		authorities = append(authorities, old)
	}
	var certifiers []*ledger.Certifier
	for _, a := range authorities {
		keys, err := c.under(a)
		if err != nil {
			return nil
		}
		certifiers = append(certifiers, keys)
	}
	both := certifiers
	if len(both) == 1 {
		both = nil // of has verified them under it
	}
	checkpoint := &ledger.Checkpoint{Head: head}
	for _, s := range c.of(head, authorities...) {
		checkpoint.AddFitting(s, both...)
	}
	if len(checkpoint.Cosignatures) < ledger.CosignThreshold(len(authority.Active())) {
		return nil
	}
	for _, keys := range certifiers {
		if _, err := keys.Certifies(checkpoint); err != nil {
			return nil
		}
	}
	checkpoint.LogLines = c.r.logLines(authority.Log, head, max(checkpoint.Signed(authority), 1))
	return checkpoint
}

// adopt makes a certified checkpoint durable and publishes it. The history is
// durable up to it first, then the link of a handover, then the checkpoint, so
// that a crash between them leaves an older checkpoint and nothing that it
// does not cover.
func (c *certifier) adopt(ctx context.Context, s *sealedState, checkpoint *ledger.Checkpoint) error {
	// Our own cosigner has made it durable, as a rule, and entries have come since.
	if c.r.archive.Durable() < s.head.Size {
		if _, err := c.r.archive.Sync(); err != nil {
			return fmt.Errorf("certify size %d: %w", s.head.Size, err)
		}
	}
	if s.handover() && s.seal.Handover == c.authorityIndex()+1 {
		if err := c.link(ctx, s, checkpoint); err != nil {
			return fmt.Errorf("certify handover %d: %w", s.seal.Handover, err)
		}
	}
	return c.publish(checkpoint, s.authority)
}

func (c *certifier) publish(checkpoint *ledger.Checkpoint, authority ledger.Authority) error {
	c.publishing.Lock()
	defer c.publishing.Unlock()
	if checkpoint.Head.Size < c.size() {
		return nil // a snapshot brought a newer one
	}
	if s := c.r.shell.sealedAt(checkpoint.Head.Size); s != nil {
		if err := c.r.keepFounders(s); err != nil {
			return err
		}
	}
	note := checkpoint.Note()
	if err := c.r.files.replace(certifiedFile, note); err != nil {
		return err
	}
	if err := c.r.shell.certify(checkpoint.Head, note); err != nil {
		c.r.halt(err.Error())
		return nil
	}
	c.now.Store(&certifiedHead{checkpoint: checkpoint, note: note, authority: authority, signed: checkpoint.Signed(authority) * 1000})
	c.clean(checkpoint.Head.Size)
	c.r.metrics.certifiedSize.Set(float64(checkpoint.Head.Size))
	c.r.changed.fire()
	return nil
}

// refresh renews the certified checkpoint when its replicas have cosigned it
// again later.
func (c *certifier) refresh() error {
	now := c.now.Load()
	if now == nil {
		return nil
	}
	s := c.r.shell.sealedAt(now.checkpoint.Head.Size)
	if s == nil {
		return nil
	}
	if !c.fresher(now.checkpoint, s) {
		return nil
	}
	checkpoint := c.assemble(s.head, s.authority, s.old, s.handover())
	if checkpoint == nil {
		return nil
	}
	have, fresh := len(now.checkpoint.Cosignatures), checkpoint.Signed(s.authority)*1000
	if fresh < now.signed || fresh == now.signed && len(checkpoint.Cosignatures) <= have {
		return nil
	}
	return c.publish(checkpoint, s.authority)
}

// fresher says whether a cosignature was collected that a checkpoint of the head
// has not, or has older. It spares the certifier all signatures when, as after
// most changes, there is none.
func (c *certifier) fresher(have *ledger.Checkpoint, s *sealedState) bool {
	authorities := []ledger.Authority{s.authority}
	if s.handover() {
		authorities = append(authorities, s.old)
	}
	times := map[collectedKey]uint64{}
	for _, one := range have.Cosignatures {
		times[collectedKey{one.Replica, one.ID65}] = one.Time
	}
	for _, one := range c.of(s.head, authorities...) {
		if one.Time > times[collectedKey{one.Replica, one.ID65}] {
			return true
		}
	}
	return false
}

// examine looks for cosigned heads that are not ours: one liar is an alarm and
// evidence (forks.go), a certified one means that we are the ones who went astray.
func (c *certifier) examine() {
	defer c.accuse()
	size := c.r.shell.now.Load().frontier.Size
	c.mu.Lock()
	var reached []ledger.Head
	for head := range c.collected {
		if head.Size <= size {
			reached = append(reached, head)
		}
	}
	c.mu.Unlock()
	for _, head := range reached {
		ours := c.r.rootAt(head.Size)
		if ours.IsZero() || ours == head.Root {
			continue
		}
		authority := c.authorityFor(head.Size)
		good := c.of(head, authority)
		if len(good) == 0 {
			continue
		}
		checkpoint := &ledger.Checkpoint{Head: head}
		for _, s := range good {
			checkpoint.Add(s)
			if key, generation, ok := c.signer(cosigned{head, s}); ok {
				c.r.forks.note(key, generation, cosigned{head, s}, ours, c.r.now())
			}
		}
		if _, err := authority.Certifies(checkpoint); err == nil {
			c.accuse() // a replica that halts looks no more
			c.r.haltForGood(fmt.Sprintf("our root at size %d is %s, the certified one is %s; re-key it (replica.rekey)", head.Size, ours, head.Root))
			return
		}
	}
}

// offer takes a whole checkpoint of a peer apart; what it proves counts like
// any other cosignatures.
func (c *certifier) offer(note []byte) error {
	checkpoint, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return err
	}
	if checkpoint.Head.Origin != c.r.origin {
		return errors.New("checkpoint of another ledger")
	}
	if len(checkpoint.Cosignatures) > 2*ledger.MaxReplicas {
		return errors.New("checkpoint with too many cosignatures")
	}
	for _, s := range checkpoint.Cosignatures {
		c.hearsay(cosigned{checkpoint.Head, s})
	}
	return nil
}
