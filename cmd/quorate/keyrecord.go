package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// backupRecord is what the ledger records of a backup, proven.
type backupRecord struct {
	*fsm.BackupRecord
	ledger     ledger.Hash
	generation uint64
	source     string // what vouches for it
	by         string // who signed the statement, where that is known
}

// entry names the entry that recorded it.
func (r *backupRecord) entry() string { return fmt.Sprintf("entry %d", r.Seq) }

// newRestore is the next step where no restoring can help.
const newRestore = "give it a new key by decision: node.rekey, council.change or council.reseat (deploy/playbooks)"

// maxSuccessors bounds how many rotations are followed from an old key to the one
// in force.
const maxSuccessors = 64

// recordOf reads and compares the record of a backup, and refuses what is not to be
// restored: a stale copy, an altered file, a revoked key. With ended it takes keys
// that ended, and nothing else.
func (l *link) recordOf(ctx context.Context, b *keys.Backup, ended bool) (*backupRecord, error) {
	if l.genesis != ledger.Hash(b.Ledger) {
		return nil, refused("name the ledger that it is a backup of", "the backup is of ledger %s, not %s", ledger.Hash(b.Ledger), l.genesis)
	}
	key, err := l.VerifiedKey(ctx, ledger.Hash(b.Key))
	if errors.Is(err, client.ErrNotFound) {
		return nil, refused("take a backup of a key that is on the ledger", "the ledger knows no key %s", b.Key)
	}
	if err != nil {
		return nil, err
	}
	if err := l.restorable(ctx, b, key, ended); err != nil {
		return nil, err
	}
	record, err := provenRecord[fsm.BackupRecord](ctx, l, "backup/"+b.Key.String())
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, refused("compare it with what its maker has", "the ledger records no backup of key %s… of %s", b.Key.String()[:8], b.Holder)
	}
	status, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	r := &backupRecord{BackupRecord: record, ledger: l.genesis, generation: status.Generation, source: "proven under a certified head"}
	if head := l.Head(); head != nil {
		r.source = fmt.Sprintf("proven under the certified head of size %d", head.Size)
	}
	if r.Ciphertext != ledger.Hash(b.Hash()) {
		if r.by, err = l.authorOf(ctx, r.Seq); err != nil {
			return nil, err
		}
	}
	return r, r.compare(b)
}

// authorOf is who signed the statement in an entry.
func (l *link) authorOf(ctx context.Context, seq uint64) (string, error) {
	entry, err := l.Entry(ctx, seq)
	if err != nil {
		return "", err
	}
	e, err := ledger.ParseEntry(entry.Entry)
	if err != nil {
		return "", err
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		return "", err
	}
	return st.Payload.Author, nil
}

// restorable says whether a key in this standing may be restored.
func (l *link) restorable(ctx context.Context, b *keys.Backup, key *client.ProvenKey, ended bool) error {
	what := fmt.Sprintf("key %s… of %s", b.Key.String()[:8], b.Holder)
	if key.Holder != b.Holder || key.Role != b.Role {
		return refused("take a backup that says what the ledger says", "the backup file was altered: it says that %s is a %s's, the ledger says the %s %s's", what, b.Role, key.Role, clean(key.Holder))
	}
	if key.Role == fsm.RoleReplica {
		return refused("propose replica.rekey", "replicas are re-keyed, not restored: a copy may have signed beyond what its disk knows")
	}
	inForce := key.Standing == client.KeyInForce || key.Standing == client.KeyNext
	switch {
	case key.Standing == fsm.KeyRevoked:
		from := ""
		if key.RevokedFrom != nil {
			from = fmt.Sprintf(" from epoch %d on", *key.RevokedFrom)
		}
		return refused(newRestore, "%s is revoked%s: whoever it was revoked for may have it, and its backup is void", what, from)
	case inForce && ended:
		return refused("leave --ended out", "%s is in force", what)
	case inForce || ended:
		return nil
	}
	text := fmt.Sprintf("%s is no longer in force: it is %s", what, key.Standing)
	if key.Standing == fsm.KeyRotated && key.ValidTo != nil {
		text = fmt.Sprintf("%s was rotated out in epoch %d", what, *key.ValidTo+1)
	}
	newest, err := l.newestBackup(ctx, &key.Key)
	if err != nil {
		return err
	}
	if newest == nil {
		return refused(newRestore, "%s, and the ledger records no backup of a key in force", text)
	}
	return refused("use that one; --ended restores an old key, for what was sealed to it", "%s; the newest backup is of key %s…, recorded in entry %d", text, newest.Key[:8], newest.Seq)
}

// newestBackup follows the successors of a key to one that has a backup and is in
// force; nil if there is none.
func (l *link) newestBackup(ctx context.Context, key *client.Key) (*client.Backup, error) {
	for range maxSuccessors {
		if key.Next == "" {
			break
		}
		id, err := ledger.ParseHash(key.Next)
		if err != nil {
			return nil, err
		}
		next, err := l.VerifiedKey(ctx, id)
		if err != nil {
			return nil, err
		}
		key = &next.Key
	}
	if key.Standing == client.KeyInForce || key.Standing == client.KeyNext {
		return key.Backup, nil
	}
	return nil, nil
}

// recordIn reads the record from a state proof, where no server is at hand.
func (a *app) recordIn(path string, genesis *pinned, b *keys.Backup) (*backupRecord, error) {
	if ledger.Hash(b.Ledger) != genesis.hash {
		return nil, refused("name the ledger that it is a backup of", "the backup is of ledger %s, not %s", ledger.Hash(b.Ledger), genesis.hash)
	}
	report, chain, err := readStateProof(path, genesis.hash)
	if err != nil {
		return nil, err
	}
	want := "backup/" + b.Key.String()
	if report.Key != want {
		return nil, refused("quorate prove record "+want+" --out FILE", "%s is a proof of the record %s, not of %s", path, clean(report.Key), want)
	}
	if report.Value == nil {
		return nil, refused("compare the backup with what its maker has", "%s proves that at size %d there was no backup of key %s…", path, report.Head.Size, b.Key.String()[:8])
	}
	record := &fsm.BackupRecord{}
	if err := canon.Unmarshal(report.Value, record); err != nil {
		return nil, refused("update this program", "read the record in %s: %w", path, err)
	}
	age := a.now().Sub(time.Unix(int64(report.Signed), 0)).Round(time.Minute)
	a.note("note: %s proves what was recorded %s ago, at size %d: whether the key was rotated or revoked since, it does not say", path, age, report.Head.Size)
	r := &backupRecord{BackupRecord: record, ledger: genesis.hash, generation: chain.Latest.Generation,
		source: fmt.Sprintf("proven under the certified head of size %d, %s ago", report.Head.Size, age)}
	return r, r.compare(b)
}

// readStateProof reads and verifies a state proof, and gives the authority chain in
// it.
func readStateProof(path string, genesis ledger.Hash) (*ledger.ProofReport, *ledger.Chain, error) {
	bad := func(err error) (*ledger.ProofReport, *ledger.Chain, error) {
		return nil, nil, refused("quorate prove record KEY --out FILE writes one, where a server is reachable", "%s is no proof of a record of this ledger: %w", path, err)
	}
	data, err := readBounded(path, ledger.MaxProofFileBytes)
	if err != nil {
		return bad(err)
	}
	file, err := ledger.ParseStateProofFile(data)
	if err != nil {
		return bad(err)
	}
	report, err := file.Verify(genesis)
	if err != nil {
		return bad(err)
	}
	chain, err := ledger.WalkChain(genesis, file.Authority)
	if err != nil {
		return bad(err)
	}
	return report, chain, nil
}

// compare says whether a backup's file is what the record says.
func (r *backupRecord) compare(b *keys.Backup) error {
	altered := func(format string, args ...any) error {
		return refused("take another copy of it; if all say the same, it is not the backup that was recorded last", "the backup file was altered: "+format, args...)
	}
	if hash := b.Hash(); ledger.Hash(hash) != r.Ciphertext {
		by, whom := "", "whoever signed that entry"
		if r.by != "" {
			by, whom = ", signed by "+clean(r.by)+",", clean(r.by)
		}
		return refused("take the file of the later backup, or another copy of this one; if there is no later one, ask "+whom+" why it is recorded. "+
			"A proof kept from before (quorate prove record backup/KEY) still stands for this file: --offline --record PROOF",
			"the backup file was altered, or its record was replaced by a later backup: its hash is %x…, %s%s records %s…", hash[:4], r.entry(), by, r.Ciphertext.String()[:8])
	}
	if b.Holder != r.Holder || b.Role != r.Role || b.Threshold != r.Threshold || !bytes.Equal(b.Set[:], r.Set) {
		return altered("%s records another holder, threshold or set of shares", r.entry())
	}
	if len(b.Shares) != len(r.Shares) {
		return altered("it has %d shares, %s records %d", len(b.Shares), r.entry(), len(r.Shares))
	}
	for i, s := range b.Shares {
		if want := r.Shares[i]; s.Holder != want.Holder || ledger.Hash(s.Share) != want.Share || ledger.Hash(s.Recipient) != want.Recipient {
			return altered("the share of %s is not the one that %s records", clean(s.Holder), r.entry())
		}
	}
	return nil
}

// backupFlags say which record a command compares a backup with.
type backupFlags struct {
	server  serverFlags
	offline bool
	record  string
	ended   bool
}

// open reads a backup's file.
func openBackup(path string) (*keys.Backup, error) {
	b, err := keys.ReadBackup(path)
	return b, err
}

// withRecord gives a command the record that its backup is compared with; l is nil
// where none is asked.
func (a *app) withRecord(ctx context.Context, f *backupFlags, b *keys.Backup, run func(ctx context.Context, l *link, r *backupRecord) error) error {
	if !f.offline && f.record == "" {
		return a.withServerContext(ctx, &f.server, func(ctx context.Context, l *link) error {
			r, err := l.recordOf(ctx, b, f.ended)
			if err != nil {
				return err
			}
			return run(ctx, l, r)
		})
	}
	if !f.offline || f.record == "" {
		return usage("say --offline --record PROOF; quorate prove record backup/KEY --out PROOF writes it", "without a server the record comes from a proof, and --offline says that this is meant")
	}
	genesis, err := a.requireGenesis(f.server.genesis)
	if err != nil {
		return err
	}
	r, err := a.recordIn(f.record, genesis, b)
	if err != nil {
		return err
	}
	return run(ctx, nil, r)
}

// left are the holders that no longer sit with the recipient that their share is
// sealed to.
func (l *link) left(ctx context.Context, b *keys.Backup) ([]string, error) {
	var gone []string
	for _, s := range b.Shares {
		g, err := provenRecord[fsm.Governor](ctx, l, "council/"+s.Holder)
		if err != nil {
			return nil, err
		}
		if g == nil || keys.RecipientHash(g.Recipient) != s.Recipient {
			gone = append(gone, s.Holder)
		}
	}
	slices.Sort(gone)
	return gone, nil
}
