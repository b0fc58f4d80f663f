package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
)

// governorReseated: a governor has lost the key. The others put a new one in its
// place, under the same name.
func governorReseated(ctx context.Context, h *house) error {
	// Somebody else has a copy of what she lost.
	for _, end := range []string{".key", ".pass"} {
		if err := os.Rename(filepath.Join(h.Dir, "keys", "erin"+end), filepath.Join(h.Dir, "keys", "found"+end)); err != nil {
			return err
		}
	}
	h.moved("keys/erin.pass", "keys/found.pass")
	if err := os.Remove(filepath.Join(h.Dir, "keys", "erin.pub")); err != nil {
		return err
	}
	lost, err := h.keyOf("keys/found")
	if err != nil {
		return err
	}
	if err := h.keygen(ctx, "keys", "governor", "erin", "erebus"); err != nil {
		return err
	}
	key, err := h.keyOf("keys/erin")
	if err != nil {
		return err
	}
	began := time.Now()
	if err := h.handsOver(ctx, "council.change", "remove=erin", "add=@keys/erin.pub"); err != nil {
		return err
	}
	h.Says("council", "alice proposes council.change, bob and carol approve: handed over after %.1f s", time.Since(began).Seconds())
	h.demandCode("a record under the lost key", h.record(ctx, "keys/found", "still erin"), "revoked_key")
	if got := h.record(ctx, "keys/erin", "erin is back"); got != "ok" {
		h.Fail("a record under the new key: %s", got)
	}
	// Her vote counts: with two others it decides.
	if err := h.decides(ctx, []string{"dave", "carol", "erin"}, "operator.add", "name=fjord", "sponsor=erebus"); err != nil {
		return err
	}
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	was, err := c.Key(ctx, lost.String(), client.Read{Consistency: client.Certified})
	if err != nil {
		return err
	}
	h.Demand(was.Revoked, "the lost key's record says %+v", was)
	h.Says("erin", "votes with the new key %.12s… and decides with two others; the lost one, %.12s…, is refused: revoked_key", key, lost)
	return h.governorReplaced(ctx)
}

// governorReplaced: a governor's key was seen in foreign hands, and there is no new one
// yet. The others put the old one out at once; while they are four, one more loss would
// leave none to spare, and the ledger warns of that until there are five again.
func (h *house) governorReplaced(ctx context.Context) error {
	if err := h.quiet(ctx, fsm.AlarmCouncilThin); err != nil {
		return err
	}
	if err := h.handsOver(ctx, "council.change", "remove=dave"); err != nil {
		return err
	}
	if err := h.warns(ctx, fsm.AlarmCouncilThin, "council.change"); err != nil {
		return err
	}
	for _, end := range []string{".key", ".pass"} {
		if err := os.Rename(filepath.Join(h.Dir, "keys", "dave"+end), filepath.Join(h.Dir, "keys", "seen"+end)); err != nil {
			return err
		}
	}
	h.moved("keys/dave.pass", "keys/seen.pass")
	if err := os.Remove(filepath.Join(h.Dir, "keys", "dave.pub")); err != nil {
		return err
	}
	h.demandCode("a record under the key that was put out", h.record(ctx, "keys/seen", "still dave"), "revoked_key")
	if err := h.keygen(ctx, "keys", "governor", "dave", "delta"); err != nil {
		return err
	}
	if err := h.handsOver(ctx, "council.change", "add=@keys/dave.pub"); err != nil {
		return err
	}
	h.Says("dave", "is put out at once, and seated again under a new key")
	return h.calms(ctx, fsm.AlarmCouncilThin, "council.change")
}

// handsOver has three governors decide something that changes the authority.
func (h *house) handsOver(ctx context.Context, args ...string) error {
	authority, err := h.authority(ctx)
	if err == nil {
		err = h.decides(ctx, three, args...)
	}
	if err == nil {
		err = h.handedOver(ctx, authority)
	}
	return err
}

// authority is the index of the newest link.
func (h *house) authority(ctx context.Context) (uint64, error) {
	c, err := h.client("", h.up()...)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return 0, err
	}
	return status.Authority, nil
}

// handedOver waits until the authority has changed, as clients verify it.
func (h *house) handedOver(ctx context.Context, from uint64) error {
	return h.reads(ctx, "the handover is certified", func(ctx context.Context, c *client.Client) bool {
		status, err := c.Status(ctx)
		if err != nil || status.Authority <= from {
			return false
		}
		_, err = c.Sync(ctx)
		return err == nil && uint64(len(c.Links())) > from
	})
}
