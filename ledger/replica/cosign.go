package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// cosignMessage is a cosignature as it travels between replicas, and as the
// file handover/N keeps this replica's own: canonical JSON.
type cosignMessage struct {
	ID44    []byte      `json:"id44"`
	ID65    []byte      `json:"id65"`
	MLDSA44 []byte      `json:"mldsa44"`
	MLDSA65 []byte      `json:"mldsa65"`
	Replica string      `json:"replica"`
	Root    ledger.Hash `json:"root"`
	Size    uint64      `json:"size"`
	Time    uint64      `json:"time"` // seconds
}

func (s cosigned) message() cosignMessage {
	return cosignMessage{ID44: s.ID44[:], ID65: s.ID65[:], MLDSA44: s.MLDSA44, MLDSA65: s.MLDSA65,
		Replica: s.Replica, Root: s.head.Root, Size: s.head.Size, Time: s.Time}
}

// cosigned checks the shape; the signatures are not verified.
func (m cosignMessage) cosigned(origin string) (cosigned, error) {
	if len(m.ID44) != 4 || len(m.ID65) != 4 || len(m.MLDSA44) != keys.Cosigner44SignatureSize || len(m.MLDSA65) != keys.SignatureSize {
		return cosigned{}, errors.New("parse cosignature: a field of another length")
	}
	if err := ledger.ValidName(m.Replica); err != nil {
		return cosigned{}, fmt.Errorf("parse cosignature: %w", err)
	}
	if bytes.Equal(m.ID44, m.ID65) {
		return cosigned{}, errors.New("parse cosignature: both lines are of one key id") // no note can have them
	}
	if m.Size == 0 || m.Time == 0 {
		return cosigned{}, errors.New("parse cosignature: size or time is zero")
	}
	return cosigned{
		head: ledger.Head{Origin: origin, Size: m.Size, Root: m.Root},
		Cosignature: ledger.Cosignature{Replica: m.Replica, Time: m.Time, ID44: [4]byte(m.ID44), ID65: [4]byte(m.ID65),
			MLDSA44: m.MLDSA44, MLDSA65: m.MLDSA65},
	}, nil
}

// parseCosigned reads one message.
func parseCosigned(origin string, b []byte) (cosigned, error) {
	var m cosignMessage
	if err := canon.Unmarshal(b, &m); err != nil {
		return cosigned{}, fmt.Errorf("parse cosignature: %w", err)
	}
	return m.cosigned(origin)
}

// cosigner signs heads. Its loop alone uses it.
type cosigner struct {
	r        *Replica
	head     headRecord // durable: nothing below it is signed, nothing else at it
	kept     uint64     // newest handover whose cosignature of ours is durable
	lastSign time.Time
}

func newCosigner(r *Replica) (*cosigner, error) {
	c := &cosigner{r: r}
	if _, err := r.files.readChecked(headFile, &c.head); err != nil {
		return nil, err
	}
	r.headSize.Store(c.head.Size)
	return c, nil
}

// loop signs each new head, and the current one again every Recosign.
func (c *cosigner) loop(ctx context.Context) error {
	timer := time.NewTicker(min(c.r.limits.Recosign, time.Second))
	defer timer.Stop()
	for {
		changed := c.r.Changed()
		if err := c.step(); err != nil {
			c.r.log.Error("cosign", "error", err)
			c.r.noteDisk(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
		}
	}
}

func (c *cosigner) step() error {
	if c.r.halted() != nil || c.r.diskError() != nil {
		return nil
	}
	if _, _, gap := c.r.archive.Gap(); gap {
		return nil // a replica signs only what it holds whole
	}
	newest := c.r.shell.newest()
	if newest == nil || newest.head.Size < c.head.Size {
		return nil // still replaying
	}
	if !c.vouched(newest) {
		return nil // the leader seals anew when this stays so
	}
	for _, s := range c.r.shell.pending(max(c.head.Size, 1) - 1) {
		if c.owes(s) && s != newest {
			if err := c.sign(s); err != nil {
				return err
			}
		}
	}
	if newest.head.Size == c.head.Size && time.Since(c.lastSign) < c.r.limits.Recosign {
		return nil
	}
	return c.sign(newest)
}

// owes says whether a sealed state is a handover that waits for our cosignature.
// The one at the persisted head is among them when a crash, or a failed write,
// came between the head and the cosignature: nothing can be certified past it.
func (c *cosigner) owes(s *sealedState) bool {
	return s.handover() && s.seal.Handover > max(c.r.certifier.authorityIndex(), c.kept)
}

// sign cosigns a head if this replica may, and sends it to its peers.
func (c *cosigner) sign(s *sealedState) error {
	signers := c.signers(s)
	if len(signers) == 0 {
		return nil
	}
	if s.head.Size == c.head.Size && s.head.Root != c.head.Root {
		c.r.haltForGood(fmt.Sprintf("our root at size %d is %s, but we signed %s; re-key it (replica.rekey)", s.head.Size, s.head.Root, c.head.Root))
		return nil
	}
	if s.head.Size > c.head.Size {
		if c.r.archive.Durable() < s.head.Size {
			if size, err := c.r.archive.Sync(); err != nil {
				return err
			} else if size < s.head.Size {
				return fmt.Errorf("cosign size %d: the history is durable to %d only", s.head.Size, size)
			}
		}
		head := headRecord{Root: s.head.Root, Size: s.head.Size}
		if err := c.r.files.replaceChecked(headFile, head); err != nil {
			return err
		}
		// Crash here: nothing signed yet, and nothing else can be at this size.
		c.head = head
		c.r.headSize.Store(head.Size)
	}
	now := c.r.now() / 1000
	var signed []cosigned
	for _, by := range signers {
		signed = append(signed, cosigned{s.head, ledger.Cosign(s.authority.Branch(), by.key, by.c44, c.r.cfg.Name, s.head, now)})
	}
	if s.handover() {
		// Kept, because once a newer head is signed this one can't be signed again.
		if err := c.r.files.replaceChecked(handoverName(s.seal.Handover), handoverOf(signed)); err != nil {
			return err
		}
		c.kept = max(c.kept, s.seal.Handover)
	}
	c.lastSign = time.Now()
	for _, one := range signed {
		c.r.certifier.collect(one)
		c.r.peers.spread(one, s.handover())
	}
	c.r.metrics.cosigned.Inc()
	c.r.cfg.Hooks.signed(s.head)
	return nil
}

// signers are our keys that a head's certification counts: of the handover of our
// own rotation the old one and the new one.
func (c *cosigner) signers(s *sealedState) []*identity {
	g := c.r.ring.Load()
	var list []*identity
	if one := g.in(s.authority); one != nil {
		list = append(list, one)
	}
	if s.handover() && !s.opens() {
		if one := g.in(s.old); one != nil && !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return list
}

// handoverMessage is the file handover/N: our cosignature of it, and of our own
// rotation's both.
type handoverMessage struct {
	cosignMessage
	Also *cosignMessage `json:"also,omitempty"`
}

func handoverOf(signed []cosigned) handoverMessage {
	m := handoverMessage{cosignMessage: signed[0].message()}
	if len(signed) > 1 {
		also := signed[1].message()
		m.Also = &also
	}
	return m
}

func (m handoverMessage) messages() []cosignMessage {
	if m.Also == nil {
		return []cosignMessage{m.cosignMessage}
	}
	return []cosignMessage{m.cosignMessage, *m.Also}
}

// vouched says whether the time of the newest head, and so of all before it,
// can be vouched for: its seal is within max_skew of our clock, or we signed it
// when it was, or a certified checkpoint says that enough others did.
func (c *cosigner) vouched(s *sealedState) bool {
	if s.head.Size <= max(c.head.Size, c.r.certifier.size()) {
		return true
	}
	now, skew := c.r.now(), s.state.Policy().MaxSkewMillis
	return s.stamp <= now+skew && s.stamp+skew >= now
}

func isActive(a ledger.Authority, id ledger.Hash) bool {
	for _, r := range a.Active() {
		if r.KeyID() == id {
			return true
		}
	}
	return false
}

// loadHandovers takes our own kept cosignatures of handovers back, so that
// peers that miss them can still ask.
func (r *Replica) loadHandovers() error {
	names, err := readDirNames(r.files.path(handoverDir))
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := strconv.ParseUint(name, 10, 64)
		if err != nil || n <= r.certifier.authorityIndex() {
			continue
		}
		r.cosigner.kept = max(r.cosigner.kept, n)
		var m handoverMessage
		if _, err := r.files.readChecked(handoverName(n), &m); err != nil {
			return err
		}
		for _, one := range m.messages() {
			signed, err := one.cosigned(r.origin)
			if err != nil {
				return &FileError{File: handoverName(n), Reason: err.Error()}
			}
			r.certifier.collect(signed)
		}
	}
	return nil
}
