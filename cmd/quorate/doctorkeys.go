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
	restored, err := l.LastRestoring(ctx, k.id, proven.Backup)
	if err != nil {
		f.fail("key", "ask another server", "whether the key was restored cannot be proven: %v", err)
		return
	}
	look := lookAt(proven, restored)
	judgeKey(f, look)
	if !look.rules.WantsBackup(proven.Role) {
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

// judgeKey says how a key stands, and what to do about it.
func judgeKey(f *findings, look keyLook) {
	k := look.key
	const another = "quorate agent rekey makes another on its machine, and quorate propose node.rekey gives it to the node"
	switch {
	case look.over():
		f.fail("key", another, "the key of %s is %s; it is epoch %d", k.Holder, look.long(), look.epoch)
	case look.late():
		f.warn("key", "see that the agent runs and reaches a replica: it rotates the key by itself", "the key of %s is %s; it is epoch %d", k.Holder, look.long(), look.epoch)
	case k.Standing == client.KeyNext:
		f.ok("key", "the next key of %s: in force from epoch %d on; it is epoch %d", k.Holder, *k.ValidFrom, look.epoch)
	case k.Standing == fsm.KeyRevoked:
		f.fail("key", "stop what uses it: quorate explain key "+k.ID[:16]+" names the decision; "+another, "the key of %s is %s: nothing under it is accepted", k.Holder, look.long())
	case k.Standing == fsm.KeyRotated && k.Next != "":
		f.fail("key", "use the one after it, "+k.Next[:16]+"…: the holder's own folder has it, or its backup", "the key of %s has %s", k.Holder, look.long())
	case k.Standing != client.KeyInForce:
		f.fail("key", "quorate explain key "+k.ID[:16]+" tells how", "the key of %s has %s", k.Holder, look.long())
	case k.ValidTo != nil:
		f.ok("key", "in force for %s until epoch %d; it is epoch %d", k.Holder, *k.ValidTo, look.epoch)
	default:
		f.ok("key", "in force for %s", k.Holder)
	}
	if look.restored != nil {
		text, advice := "the key of %s was restored %s", "what was lost may turn up: if others may have it, quorate propose key.revoke and quorate propose node.rekey"
		if k.Role != fsm.RoleNode {
			advice = "what was lost may turn up: if others may have it, take another: quorate propose council.change"
		} else {
			text += "; its agent keeps silent until two epochs after it started with it"
		}
		*f = append(*f, finding{What: "restored", Result: resultOK, Advice: advice, Detail: fmt.Sprintf(text, k.Holder, restoringWords(look.restored))})
	}
}
