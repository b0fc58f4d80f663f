package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// examinedKey is a key that doctor found, to be compared with the ledger.
type examinedKey struct {
	id   ledger.Hash
	name string
	role string
}

// examineAgent looks at an agent's machine: its configuration, its ring of keys and
// their files, and the backups beside them.
func (a *app) examineAgent(f *findings, path string) *examinedKey {
	c, err := readAgentConfig(path)
	if err != nil {
		f.fail("agent", asFailure(err).next, "%v", err)
		return nil
	}
	f.ok("agent", "%s", path)
	ring, err := agent.LookAtRing(c)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		examineBackups(f, filepath.Dir(c.KeyFile), c.Dir)
		return a.examineKey(f, c.KeyFile, c.PassphraseFile)
	case err != nil:
		f.fail("ring", "see above; the agent does not start with it", "%v", err)
		return nil
	}
	examineRing(f, ring)
	if first := ring.Keys[0]; !first.Gone {
		if file := a.examineKey(f, c.KeyFile, c.PassphraseFile); file != nil && ring.Key(file.id) == nil {
			f.warn("key_file", "it takes effect when the agent starts again, if the ledger has that key: quorate propose node.rekey",
				"%s is another key than the ring's: it was put there since the agent ran last", c.KeyFile)
		}
	}
	examineBackups(f, filepath.Dir(c.KeyFile), c.Dir, filepath.Join(c.Dir, "keys"))
	return &examinedKey{id: ring.Active, name: c.Name, role: fsm.RoleNode}
}

// examineRing compares what a ring says with what is on the disk.
func examineRing(f *findings, ring *agent.RingLook) {
	kept := 0
	for _, k := range ring.Keys {
		if k.Gone {
			continue
		}
		kept++
		info, err := os.Stat(k.Path)
		switch {
		case err != nil && k.ID == ring.Active:
			f.fail("ring", "restore it from its backup: quorate key restore; without one: quorate agent rekey, and quorate propose node.rekey", "the key in use, %s…, is lost: %s: %v", k.ID.String()[:16], k.Path, causeOf(err))
		case err != nil:
			f.warn("ring", "nothing, if it was removed by hand", "the key %s… of the ring is lost: %s: %v", k.ID.String()[:16], k.Path, causeOf(err))
		case info.Mode().Perm()&0o077 != 0:
			f.warn("ring", "chmod 600 "+k.Path, "others may read %s (mode %04o)", k.Path, info.Mode().Perm())
		}
	}
	if ring.Waits != "" {
		f.ok("rekey", "%s waits to be put in force: quorate propose node.rekey with its join, which quorate join --key makes again", ring.Waits)
	}
	next := "no next one is announced"
	if ring.Next != nil {
		next = "the next one is " + ring.Next.String()[:16] + "…"
	}
	f.ok("ring", "%s on the disk, in use is %s…; %s", plural(kept, "key"), ring.Active.String()[:16], next)
}

// examineBackups looks for backups in the folders of what they back up.
func examineBackups(f *findings, dirs ...string) {
	seen := map[string]bool{}
	for _, dir := range dirs {
		for _, pattern := range []string{"*.backup", "backups/*.backup"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well formed
			for _, path := range found {
				if seen[path] {
					continue
				}
				seen[path] = true
				b, err := keys.ReadBackup(path)
				if err != nil {
					f.fail("backup", "make another: quorate key backup", "%v", err)
					continue
				}
				f.warn("backup", "copy it to another machine, and compare it there: quorate key verify-backup", "%s, of the key %s… of %s, lies beside the key: what takes the one takes the other",
					path, b.Key.String()[:16], b.Holder)
			}
		}
	}
}

// examineKeyOnLedger says how a key stands on the ledger, and its backup.
func examineKeyOnLedger(ctx context.Context, f *findings, l *link, k *examinedKey) {
	proven, err := l.VerifiedKey(ctx, k.id)
	switch {
	case errors.Is(err, client.ErrNotFound):
		f.warn("key", "quorate list keys shows those that have a role", "the ledger knows no key %s…: it has no role yet", k.id.String()[:16])
		return
	case err != nil:
		f.fail("key", "ask another server", "how the key stands cannot be proven: %v", err)
		return
	}
	rules := proven.Rules.KeyRules()
	switch left := keyEpochsLeft(proven); {
	case proven.Standing == client.KeyExpired:
		f.fail("key", "quorate agent rekey makes another on its machine, and quorate propose node.rekey gives it to the node", "the key of %s ended with epoch %d; it is epoch %d", proven.Holder, *proven.ValidTo, proven.Epoch)
	case proven.Standing == client.KeyNext:
		f.ok("key", "the next key of %s: in force from epoch %d on; it is epoch %d", proven.Holder, *proven.ValidFrom, proven.Epoch)
	case proven.Standing != client.KeyInForce:
		f.fail("key", "quorate explain key "+proven.ID[:16]+" tells how", "the key of %s has ended: %s", proven.Holder, proven.Standing)
	case left >= 0 && uint64(left) < rules.LateEpochs && proven.Next == "":
		f.warn("key", "see that the agent runs and reaches a replica: it rotates the key by itself", "the key of %s is late: it ends with epoch %d, it is epoch %d, and no other is announced", proven.Holder, *proven.ValidTo, proven.Epoch)
	case left >= 0:
		f.ok("key", "in force for %s until epoch %d; it is epoch %d", proven.Holder, *proven.ValidTo, proven.Epoch)
	default:
		f.ok("key", "in force for %s", proven.Holder)
	}
	if !rules.WantsBackup(proven.Role) {
		return
	}
	switch b := proven.Backup; {
	case b == nil:
		f.warn("backup", fmt.Sprintf("quorate key backup --key FILE, for the key of %s", proven.Holder), "no backup of the key is recorded")
	case b.Standing == client.BackupMissing:
		f.warn("backup", "make another: quorate key backup", "too few of its holders still sit with the recipients of then: %s", shareWords(b))
	case b.Standing == client.BackupUntested:
		f.warn("backup", "quorate key verify-backup with answers opens it", "opened %s: %s", openedWords(b), shareWords(b))
	default:
		f.ok("backup", "%s, opened %s", shareWords(b), openedWords(b))
	}
}

// keyEpochsLeft is for how many epochs after this one a node's key is valid; -1 for
// keys that have no end.
func keyEpochsLeft(k *client.ProvenKey) int64 {
	if k.ValidTo == nil {
		return -1
	}
	return int64(*k.ValidTo) - int64(min(k.Epoch, *k.ValidTo))
}
