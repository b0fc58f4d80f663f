package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger/keys"
)

// nodeRekeyed: a node's key is gone and there is no backup. A new machine makes a
// new key, and the council puts it in the old one's place.
func nodeRekeyed(ctx context.Context, h *house) error {
	a := h.agent("n4")
	if err := h.warns(ctx, fsm.AlarmBackupMissing, a.Name); err != nil {
		return err
	}
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
	a.alone = false                            // wiser now
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
	if got := h.recordBeside(ctx, a, "n4 is back"); got != "ok" {
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
	if err := h.calms(ctx, fsm.AlarmBackupMissing, a.Name); err != nil {
		return err
	}
	return h.testsBackup(ctx, a)
}

// testsBackup waits until the ledger warns that nobody has opened a node's backup, and has
// three governors open it and forget what is in it.
func (h *house) testsBackup(ctx context.Context, a *agent) error {
	if err := h.warns(ctx, fsm.AlarmBackupUntested, a.Name); err != nil {
		return err
	}
	pass, by := filepath.Join(a.dir(), a.Name+".pass"), governorOf(a.Operator) // whose word on it counts
	for i := range thefts {
		key, err := h.backsUp(ctx, a)
		if err != nil {
			return err
		}
		dir := fmt.Sprintf("test-%d", i)
		failed := h.asks(ctx, keys.TestPurpose, by, a.backup(), dir, pass).Failed()
		var list []string
		for _, who := range three {
			if failed == nil {
				list = append(list, filepath.Join(dir, who+".share.age"))
				failed = h.answers(ctx, who, dir, list[len(list)-1])
			}
		}
		if failed == nil {
			failed = h.Command(ctx, "key", "verify-backup", a.backup(), "--requests", dir, "--answers", strings.Join(list, ","), "--restore-passphrase-file", pass,
				"--sign", "keys/"+by+".key", "--sign-passphrase-file", "keys/"+by+".pass", "--wait", "certified").Failed()
		}
		if _, now, err := h.activeKey(ctx, a); failed != nil && (err != nil || now == key) {
			return errors.Join(failed, err)
		}
		if failed == nil {
			h.Says("governors", "alice, bob and carol answer, and %s opens the backup in memory and forgets it: restore.test on the ledger", by)
			return h.calms(ctx, fsm.AlarmBackupUntested, a.Name)
		}
		// It was rotated out in the meantime.
	}
	return fmt.Errorf("%s rotated its key each time that its backup was to be tested", a.Name)
}

// loses removes a folder of the house.
func (h *house) loses(folder string) error { return os.RemoveAll(filepath.Join(h.Dir, folder)) }
