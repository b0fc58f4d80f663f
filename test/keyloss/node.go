package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
)

// nodeRekeyed: a node's key is gone and there is no backup. A new machine makes a
// new key, and the council puts it in the old one's place.
func nodeRekeyed(ctx context.Context, h *house) error {
	a := h.agent("n4")
	old, err := h.keyOf(filepath.Join(a.dir(), a.Name))
	if err != nil {
		return err
	}
	h.stopAgent(a, syscall.SIGKILL)
	// Somebody has a copy of what is gone.
	found := filepath.Join("found", a.Name)
	if err := h.movesFolder(a.dir(), "found"); err != nil {
		return err
	}
	if err := h.makeNode(ctx, a); err != nil { // quorate agent init: key, join, configuration
		return err
	}
	key, err := h.keyOf(filepath.Join(a.dir(), a.Name))
	if err != nil {
		return err
	}
	began := time.Now()
	join := filepath.Join(a.dir(), a.Name+".join.cose")
	id, err := h.decided(ctx, []string{"alice", "bob", "dave"}, "node.rekey", "join=@"+join)
	if err != nil {
		return err
	}
	h.Says("council", "alice proposes node.rekey, bob and dave approve: executed after %.1f s (%.12s…)", time.Since(began).Seconds(), id)
	if err := h.startAgent(a); err != nil {
		return err
	}
	if err := h.follows(ctx, a); err != nil {
		return err
	}
	if got := h.record(ctx, filepath.Join(a.dir(), a.Name), "n4 is back"); got != "ok" {
		h.Fail("a record of n4 under the new key: %s", got)
	}
	h.Says("the node", "%s follows the ledger and speaks with its new key %.12s… after %.1f s in all", a.Name, key, time.Since(began).Seconds())
	h.demandCode("a record of n4 under the old key", h.record(ctx, found, "I am n4"), "revoked_key")
	// The old key, should somebody find it, is worth nothing.
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	was, err := c.Key(ctx, old.String(), client.Read{Consistency: client.Certified})
	if err != nil {
		return err
	}
	h.Demand(was.Revoked && was.Holder == a.Name, "the old key's record says %+v", was)
	explained := h.Command(ctx, "explain", "node", a.Name)
	if err := explained.Failed(); err != nil {
		return err
	}
	h.Demand(strings.Contains(explained.Out, "given another key by decision"), "explain node does not tell of the new key: %s", explained.Out)
	h.Says("the old key", "%.12s…, which somebody has found, is refused: revoked_key; on the ledger it stays %s's for ever", old, was.Holder)
	return nil
}

// loses removes a folder of the house.
func (h *house) loses(folder string) error { return os.RemoveAll(filepath.Join(h.Dir, folder)) }
