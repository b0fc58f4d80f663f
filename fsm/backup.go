package fsm

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// Backups of private keys, their tests, and the destruction of what is no longer
// needed. They are signed claims: the rules see hashes, never a file.

// keyStatement checks what the statements about somebody's key have in common but the
// key itself: who speaks, in which form, and that it is not said twice.
func keyStatement[B any](t *transition, st *ledger.Statement, a author) (B, *problem) {
	body, err := ledger.DecodeBody[B](st)
	if err != nil {
		return body, fromStatementError(err)
	}
	byNonce := st.Payload.Nonce != nil
	switch {
	case a.role == RoleRecovery, a.role == RoleReplica && st.Payload.Type != ledger.TypeDestroy:
		return body, refuse(WrongRole, "author", fmt.Sprintf("%s is not for a %s", st.Payload.Type, a.role))
	case (a.role == RoleGovernor) != byNonce:
		return body, refuse(BadField, "nonce", "a governor's has a nonce and expires, that of a node or replica epoch and seq")
	case t.meta.Frozen != "" && st.Payload.Type != ledger.TypeDestroy:
		return body, refuse(Frozen, "", t.meta.Frozen)
	case a.node != nil:
		if p := t.checkNode(st, a); p != nil {
			return body, p
		}
	}
	return body, t.checkReplay(st, a)
}

// accepted appends a statement that was checked, and uses up its nonce or seq.
func (t *transition) accepted(st *ledger.Statement, a author) uint64 {
	seq := t.append(ledger.KindStatement, st.Envelope)
	if st.Payload.Nonce != nil {
		t.useNonce(st, a.name, seq)
	} else {
		t.useSeq(st, seq)
	}
	return seq
}

// speaksFor checks that an author may speak of a key: its holder, or a governor of the
// holder's operator or of that one's sponsor; of a recovery holder's key any governor.
func (v *view) speaksFor(a author, key *KeyRecord) *problem {
	if a.name == key.Holder && a.role == key.Role {
		return nil
	}
	if a.role != RoleGovernor {
		return refuse(WrongRole, "author", fmt.Sprintf("the key is that of the %s %s", key.Role, key.Holder))
	}
	operator, there := v.operatorOf(key)
	if !there || operator == a.operator {
		return nil
	}
	if o, ok := lookup[OperatorRecord](v, tableOperator+operator); ok && o.Sponsor == a.operator {
		return nil
	}
	return refuse(WrongOperator, "author", fmt.Sprintf("%s belongs to %s", key.Holder, operator))
}

// operatorOf gives the operator of a key's holder; none of a recovery holder, or of one
// that is gone: then any governor speaks for it.
func (v *view) operatorOf(key *KeyRecord) (operator string, there bool) {
	switch key.Role {
	case RoleGovernor:
		g, ok := lookup[Governor](v, tableCouncil+key.Holder)
		if ok {
			return g.Operator, true
		}
	case RoleReplica:
		r, ok := lookup[ReplicaRecord](v, tableReplica+key.Holder)
		if ok {
			return r.Operator, true
		}
	case RoleNode:
		n, ok := lookup[NodeRecord](v, tableNode+key.Holder)
		if ok {
			return n.Operator, true
		}
	}
	return "", false
}

// backup is the statement backup: a file holds a key, and so many of the shares that
// it names open it.
func (t *transition) backup(st *ledger.Statement, a author) *problem {
	body, p := keyStatement[ledger.Backup](t, st, a)
	if p != nil {
		return p
	}
	key, ok := lookup[KeyRecord](&t.view, keyOf(body.Key))
	switch {
	case !ok:
		return refuse(UnknownKey, "body.key", fmt.Sprintf("there is no key %s", body.Key))
	case key.Role == RoleReplica:
		return refuse(WrongRole, "body.key", "replicas are re-keyed, not restored: a copy may have signed beyond what its disk knows")
	case key.Revoked:
		return refuse(RevokedKey, "body.key", fmt.Sprintf("this key of %s is revoked", key.Holder))
	case key.Ended != "":
		return refuse(UnknownKey, "body.key", fmt.Sprintf("this key of %s has ended", key.Holder))
	}
	if p := t.speaksFor(a, key); p != nil {
		return p
	}
	if err := body.Check(); err != nil {
		return fromStatementError(err)
	}
	if p := t.checkShares(&body, key); p != nil {
		return p
	}
	seq := t.accepted(st, a)
	t.put(backupOf(body.Key), &BackupRecord{Backup: body, Epoch: t.meta.Epoch, Holder: key.Holder, Role: key.Role, Seq: seq})
	return nil
}

// checkShares checks who holds the shares of a backup: governors, each with the recipient
// that it is seated with, no two of one operator, and not whose key it is. Fewer than
// decide a change of the council must not be able to vote in a governor's name.
func (t *transition) checkShares(b *ledger.Backup, key *KeyRecord) *problem {
	operators := map[string]bool{}
	for i, s := range b.Shares {
		path := fmt.Sprintf("body.shares[%d]", i)
		g, ok := lookup[Governor](&t.view, tableCouncil+s.Holder)
		switch {
		case !ok:
			return refuse(UnknownGovernor, path+".holder", fmt.Sprintf("there is no governor %q", s.Holder))
		case g.Recipient == "" || keys.RecipientHash(g.Recipient) != s.Recipient:
			return refuse(WrongRecipient, path+".recipient", fmt.Sprintf("%s has no recipient, or another one", s.Holder))
		case operators[g.Operator]:
			return refuse(UnfitShares, path+".holder", fmt.Sprintf("a governor of %s holds a share already", g.Operator))
		case g.Name == key.Holder:
			return refuse(UnfitShares, path+".holder", "it is that of the key itself")
		}
		operators[g.Operator] = true
	}
	if least := t.rule("council.change", nil).Threshold; key.Role != RoleNode && b.Threshold < least {
		return refuse(UnfitShares, "body.threshold", fmt.Sprintf("at least %d, which decide a change of the council", least))
	}
	return nil
}

// restoreTest is the statement restore.test: a backup was opened, or was not.
func (t *transition) restoreTest(st *ledger.Statement, a author) *problem {
	body, p := keyStatement[ledger.RestoreTest](t, st, a)
	if p != nil {
		return p
	}
	if err := body.Check(); err != nil {
		return fromStatementError(err)
	}
	old, ok := lookup[BackupRecord](&t.view, backupOf(body.Key))
	if !ok || old.Ciphertext != body.Ciphertext {
		return refuse(UnknownBackup, "body.ciphertext", "no backup of this key with this ciphertext is recorded")
	}
	key, _ := t.Key(body.Key)
	if p := t.speaksFor(a, &key); p != nil {
		return p
	}
	for i, name := range body.Holders {
		if !slices.ContainsFunc(old.Shares, func(s ledger.BackupShare) bool { return s.Holder == name }) {
			return refuse(BadField, fmt.Sprintf("body.holders[%d]", i), fmt.Sprintf("%s holds no share of it", name))
		}
	}
	seq := t.accepted(st, a)
	next := *old
	if next.Failed = body.Outcome == ledger.RestoreFailed; !next.Failed {
		next.Tested, next.TestedSeq = t.meta.Epoch, seq
	}
	t.put(backupOf(body.Key), &next)
	return nil
}

// destroy is the statement key.destroy: a private key that has ended is destroyed, and
// its backup if it names it. A freeze leaves it open.
func (t *transition) destroy(st *ledger.Statement, a author) *problem {
	body, p := keyStatement[ledger.Destroy](t, st, a)
	if p != nil {
		return p
	}
	if err := body.Check(); err != nil {
		return fromStatementError(err)
	}
	key, ok := lookup[KeyRecord](&t.view, keyOf(body.Key))
	if !ok {
		return refuse(UnknownKey, "body.key", fmt.Sprintf("there is no key %s", body.Key))
	}
	if p := t.speaksFor(a, key); p != nil {
		return p
	}
	old, backed := lookup[BackupRecord](&t.view, backupOf(body.Key))
	named := !body.Ciphertext.IsZero()
	switch {
	case !t.hasEnded(body.Key, key):
		return refuse(KeyInForce, "body.key", fmt.Sprintf("this key of %s is in force, or may still be heard", key.Holder))
	case named && (!backed || old.Ciphertext != body.Ciphertext):
		return refuse(UnknownBackup, "body.ciphertext", "no backup of this key with this ciphertext is recorded")
	case key.Destroyed != 0 && !named:
		return refuse(NothingChanges, "body.key", fmt.Sprintf("entry %d says so", key.Destroyed))
	}
	seq := t.accepted(st, a)
	t.changeKey(body.Key, func(k *KeyRecord) { k.Destroyed = seq })
	if named {
		t.remove(backupOf(body.Key))
	}
	return nil
}

// hasEnded reports whether nothing is said under a key any more.
func (v *view) hasEnded(id ledger.Hash, key *KeyRecord) bool {
	if _, heard := v.OldKey(id); heard {
		return false
	}
	if n, ok := lookup[NodeRecord](v, tableNode+key.Holder); ok && key.Role == RoleNode && n.Key == id && v.meta.Epoch > n.ValidTo+v.policy.GraceEpochs {
		return true
	}
	return key.Revoked || key.Ended != ""
}

// The standings of a principal's backup.
const (
	BackupTested   = "tested"
	BackupUntested = "untested" // it covers, and was not opened lately, or could not be
	BackupMissing  = "missing"
)

// backers is what the standings of backups rest on, made once for many of them.
type backers struct {
	view       *view
	recipients map[string]ledger.Hash // of governors, by name
	tested     map[string]bool        // groups of sharers that opened a backup lately
	lately     uint64                 // since this epoch
}

func (v *view) backers() *backers {
	rules := v.policy.KeyRules()
	b := &backers{view: v, recipients: map[string]ledger.Hash{}, tested: map[string]bool{}, lately: v.meta.Epoch - min(v.meta.Epoch, rules.TestEpochs)}
	each(v, tableCouncil, func(name string, g *Governor) bool {
		if g.Recipient != "" {
			b.recipients[name] = keys.RecipientHash(g.Recipient)
		}
		return true
	})
	each(v, tableBackup, func(_ string, r *BackupRecord) bool {
		if b.opened(r) {
			b.tested[sharers(r)] = true
		}
		return true
	})
	return b
}

func (b *backers) opened(r *BackupRecord) bool {
	return r.TestedSeq > 0 && !r.Failed && r.Tested >= b.lately
}

// covers reports whether a backup can be opened by those whom it names: enough of them
// sit in the council still, with the same recipient.
func (b *backers) covers(r *BackupRecord) bool {
	seated := uint64(0)
	for _, s := range r.Shares {
		if recipient, ok := b.recipients[s.Holder]; ok && recipient == s.Recipient {
			seated++
		}
	}
	return seated >= r.Threshold
}

// standing says how a key is backed up. A backup counts as tested too if another one of
// the same holder was opened lately by the same recipients: so rotations do not call
// governors together each time.
func (b *backers) standing(id ledger.Hash) string {
	r, ok := lookup[BackupRecord](b.view, backupOf(id))
	switch {
	case !ok || !b.covers(r):
		return BackupMissing
	case b.opened(r), !r.Failed && b.tested[sharers(r)]:
		return BackupTested
	}
	return BackupUntested
}

// sharers names a holder and those who open its backup.
func sharers(r *BackupRecord) string {
	name := append([]byte(r.Holder), 0, byte(r.Threshold))
	for _, s := range r.Shares {
		name = append(append(append(name, s.Holder...), 0), s.Recipient[:]...)
	}
	return string(name)
}

// BackupStanding says how a key is backed up: tested, untested or missing. It walks over
// all backups.
func (v *view) BackupStanding(id ledger.Hash) string { return v.backers().standing(id) }
