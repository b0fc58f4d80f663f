package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// backups keeps a backup of each key that may have to be restored: sealed to governors
// of the certified council, one of an operator, recorded on the ledger, and made anew
// when the council is another. It is the rotator's.
type backups struct {
	agent *Agent
	from  time.Time // before which none is made: a whole fleet would at one time
	of    ledger.Hash
	said  map[ledger.Hash]uint64 // by key: the epoch in which it was said last
	first map[ledger.Hash]uint64 // by key whose backup is not recorded: the epoch in which it was said first
	tidy  map[ledger.Hash]bool   // by backup that is recorded: the ones before it are gone
}

func newBackups(a *Agent) *backups {
	return &backups{agent: a, said: map[ledger.Hash]uint64{}, first: map[ledger.Hash]uint64{}, tidy: map[ledger.Hash]bool{}}
}

// sharers are who is to hold a share each, and their names' and recipients' hash.
func sharers(s *fsm.State, threshold int) ([]keys.ShareHolder, ledger.Hash) {
	var list []keys.ShareHolder
	operators := map[string]bool{}
	text := fmt.Appendf(nil, "%d\n", threshold)
	for _, g := range s.Council() { // by name
		if operators[g.Operator] || len(list) == ledger.MaxShares || keys.CheckRecipient(g.Recipient) != nil {
			continue
		}
		operators[g.Operator] = true
		list = append(list, keys.ShareHolder{Name: g.Name, Recipient: g.Recipient})
		text = fmt.Appendf(text, "%s %s\n", g.Name, g.Recipient)
	}
	return list, sha256.Sum256(text)
}

// threshold is how many shares open a backup: the configuration's, or more than half.
func (b *backups) threshold(holders int) int {
	if k := b.agent.config.Backup.Threshold; k > 0 {
		return k
	}
	return max(holders/2+1, minBackupShares)
}

// next does what is next about backups, if anything, and reports whether it did. What is
// wrong is trouble only if the policy wants backups of nodes.
func (b *backups) next(s *fsm.State, me *fsm.NodeRecord, now time.Time) (did bool, err error) {
	a := b.agent
	policy := s.Policy()
	rules := policy.KeyRules()
	if did, err := b.ends(s, &rules); did || err != nil {
		return did, err
	}
	if a.config.Backup.Off {
		return false, nil
	}
	holders, of := sharers(s, a.config.Backup.Threshold)
	k := b.threshold(len(holders))
	if len(holders) < max(k, minBackupShares) {
		if rules.WantsBackup(fsm.RoleNode) {
			err = fmt.Errorf("%d operators have a governor with a recipient, and a backup takes %d", len(holders), max(k, minBackupShares))
		}
		a.trouble.set(troubleBackup, err)
		return false, nil
	}
	if b.of != of {
		b.of, b.from = of, now.Add(rand.N(min(backupDelay, max(time.Duration(policy.EpochMillis)*time.Millisecond/2, 1))))
	}
	for _, id := range []*ledger.Hash{&me.Key, nextOf(me), a.keyring.ring.Next} {
		if id == nil {
			continue
		}
		of := a.keyring.ring.find(*id)
		if of == nil || of.Gone || a.keyring.held[*id] == nil {
			continue
		}
		if of.Holders != b.of {
			if now.Before(b.from) {
				continue
			}
			return true, b.make(a.keyring.held[*id], holders, k)
		}
		if did, err := b.say(s, of); did || err != nil {
			return did, err
		}
	}
	a.trouble.set(troubleBackup, b.refused(s))
	return false, nil
}

// refused is what is wrong if a backup was said, its time is over, and the ledger has not
// recorded it.
func (b *backups) refused(s *fsm.State) error {
	for id, since := range b.first {
		if of := b.agent.keyring.ring.find(id); of == nil || of.Backup == nil || of.Ended != nil {
			delete(b.first, id)
		} else if s.Epoch() >= since+sayAgain {
			return fmt.Errorf("the backup of the key %s was said in epoch %d, and the ledger has not recorded it", id, since)
		}
	}
	return nil
}

func nextOf(me *fsm.NodeRecord) *ledger.Hash {
	if me.Next == nil {
		return nil
	}
	return &me.Next.Key
}

// make writes a backup of a key, reads it back and has the ring name it. keys.NewBackup
// opened it with the shares before they were wiped.
func (b *backups) make(f *keys.File, holders []keys.ShareHolder, k int) error {
	a := b.agent
	made, err := keys.NewBackup(f, a.genesis, k, holders, nil)
	if err != nil {
		return err
	}
	content, err := made.Bytes()
	if err != nil {
		return err
	}
	id, hash := ledger.Hash(f.Key.ID()), ledger.Hash(made.Hash())
	name := backupName(made.Holder, id, hash)
	for i, dir := range b.folders() {
		if err := writeBackup(dir, name, content, made); err != nil {
			for _, dir := range b.folders()[:i+1] {
				err = errors.Join(err, destroyFile(filepath.Join(dir, name)))
			}
			return fmt.Errorf("write backup: %w", err)
		}
	}
	// Crash here: a backup that no ring names, which goes once another is recorded.
	if err := a.keyring.write(a.keyring.ring.backed(id, name, hash, b.of)); err != nil {
		return err
	}
	delete(b.said, id)
	delete(b.first, id)
	a.logger.Info("a backup of the node's key was written", "key", id.String(), "file", name, "shares", len(holders), "threshold", k)
	return nil
}

// backupName is NAME-KEY-CIPHERTEXT.backup, 8 hex digits each: a new one takes no other's
// place, since the one that is recorded must be there until the new one is.
func backupName(holder string, id, ciphertext ledger.Hash) string {
	return backupStem(holder, id) + ciphertext.String()[:backupDigits] + backupSuffix
}

func backupStem(holder string, id ledger.Hash) string {
	return holder + "-" + id.String()[:backupDigits] + "-"
}

const (
	backupDigits = 8
	hexDigits    = "0123456789abcdef"
	backupSuffix = ".backup"
)

// writeBackup writes a backup to a folder, durably, and reads it back.
func writeBackup(dir, name string, content []byte, made *keys.Backup) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := folder(dir).replace(name, func(w io.Writer) error { _, err := w.Write(content); return err }); err != nil {
		return err
	}
	again, err := keys.ReadBackup(filepath.Join(dir, name))
	if err == nil && again.Hash() != made.Hash() {
		err = fmt.Errorf("%s reads back as another", filepath.Join(dir, name))
	}
	return err
}

// clear destroys the backups of a key but one: those that were recorded before it, or
// never. keep may be "".
func (b *backups) clear(id ledger.Hash, keep string) error {
	for _, dir := range b.folders() {
		list, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list backups: %w", err)
		}
		stem := backupStem(b.agent.config.Name, id)
		for _, e := range list {
			name := e.Name()
			of, ours := strings.CutPrefix(name, stem)
			of, whole := strings.CutSuffix(of, backupSuffix)
			if name == keep || !ours || !whole || len(of) != backupDigits || strings.Trim(of, hexDigits) != "" {
				continue // another's, or what people put there
			}
			if err := destroyFile(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// folders are where backups are kept.
func (b *backups) folders() []string {
	list := []string{filepath.Join(b.agent.config.Dir, "backups")}
	if b.agent.config.Backup.Copy != "" {
		list = append(list, b.agent.config.Backup.Copy)
	}
	return list
}

// say has a backup recorded, once the ledger knows its key, and again if that came to
// nothing.
func (b *backups) say(s *fsm.State, of *ringKey) (did bool, err error) {
	if recorded, ok := s.Backup(of.ID); ok && recorded.Ciphertext == *of.Backup {
		delete(b.first, of.ID)
		if b.tidy[*of.Backup] {
			return false, nil
		}
		if err := b.clear(of.ID, of.BackupFile); err != nil {
			return false, err
		}
		b.tidy[*of.Backup] = true
		return false, nil
	}
	if _, known := s.Key(of.ID); !known || !b.turn(s, of.ID) {
		return false, nil
	}
	file, err := keys.ReadBackup(filepath.Join(b.folders()[0], of.BackupFile))
	if err != nil || ledger.Hash(file.Hash()) != *of.Backup {
		// It was altered or removed: another is made.
		return true, errors.Join(err, b.agent.keyring.write(b.agent.keyring.ring.backed(of.ID, "", ledger.Hash{}, ledger.Hash{})))
	}
	body := ledger.Backup{Ciphertext: file.Hash(), Key: of.ID, Set: file.Set[:], Threshold: file.Threshold}
	for _, share := range file.Shares {
		body.Shares = append(body.Shares, ledger.BackupShare{Holder: share.Holder, Recipient: share.Recipient, Share: share.Share})
	}
	if _, before := b.first[of.ID]; !before {
		b.first[of.ID] = s.Epoch()
	}
	return true, b.agent.out.say(ledger.TypeBackup, func(uint64) any { return body })
}

// turn reports whether something about a key may be said: at most each third epoch, so
// that what was said has its time.
func (b *backups) turn(s *fsm.State, id ledger.Hash) bool {
	if last, said := b.said[id]; said && s.Epoch() < last+sayAgain {
		return false
	}
	b.said[id] = s.Epoch()
	return true
}

// ends destroys the backups of keys that are kept no longer, says so, and forgets the
// keys once the ledger has that.
func (b *backups) ends(s *fsm.State, rules *ledger.Keys) (did bool, err error) {
	a := b.agent
	for _, of := range a.keyring.ring.Keys {
		record, known := s.Key(of.ID)
		if !of.Gone || !known || record.ValidTo == nil || record.Destroyed > 0 {
			continue
		}
		if record.RevokedFrom == nil && s.Epoch() <= *record.ValidTo+rules.RetentionEpochs || !b.turn(s, of.ID) {
			continue
		}
		for _, dir := range b.folders() {
			if of.BackupFile == "" {
				continue
			}
			if err := destroyFile(filepath.Join(dir, of.BackupFile)); err != nil {
				return false, err
			}
		}
		if err := b.clear(of.ID, ""); err != nil {
			return false, err
		}
		if of.Replaced {
			continue // its file may be anywhere, and nobody says that it is destroyed
		}
		body := ledger.Destroy{Key: of.ID}
		if recorded, ok := s.Backup(of.ID); ok {
			body.Ciphertext = recorded.Ciphertext
		}
		a.logger.Info("a key that ended is kept no longer", "key", of.ID.String())
		return true, a.out.say(ledger.TypeDestroy, func(uint64) any { return body })
	}
	return false, nil
}

// destroyFile overwrites a file and removes it, durably. None there is no error.
func destroyFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// 0400 is what people give keys; the directory decides who may remove it.
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o200 == 0 {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return fmt.Errorf("destroy file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("destroy file: %w", err)
	}
	_, err = f.Write(make([]byte, min(info.Size(), maxDestroyBytes)))
	if err == nil {
		err = f.Sync()
	}
	// Crash here: a file that nobody can open, which is destroyed again.
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Remove(path)
	}
	if err == nil {
		err = folder(filepath.Dir(path)).sync()
	}
	if err != nil {
		return fmt.Errorf("destroy file: %w", err)
	}
	return nil
}
