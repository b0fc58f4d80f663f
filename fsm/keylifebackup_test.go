package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// The drawing of backups, of their tests, and of keys that are destroyed.

// ofBackups has somebody say something about a key's backup, mostly what the rules take.
func (h *keyHistory) ofBackups() {
	switch h.r.IntN(3) {
	case 0:
		k := h.pool[h.r.IntN(len(h.pool))]
		if n, ok := h.state.Node(h.anyNode()); ok && h.r.IntN(4) > 0 {
			k = heldKey{n.Name, n.Key}
			if record, _ := h.state.Key(n.Key); record.Previous != nil && h.r.IntN(2) == 0 {
				k.id = *record.Previous
			}
		}
		h.aboutKey(k, ledger.TypeBackup, h.backupOf(k))
	case 1:
		k := h.pool[h.r.IntN(len(h.pool))]
		if recorded := h.state.Backups(ledger.Hash{}, 8); len(recorded) > 0 && h.r.IntN(8) > 0 {
			b := recorded[h.r.IntN(len(recorded))]
			k = heldKey{b.Holder, b.Key}
		}
		backup, _ := h.state.Backup(k.id)
		body := ledger.RestoreTest{Ciphertext: h.anyFile(backup.Ciphertext), Holders: []string{}, Key: k.id,
			Outcome: h.any(ledger.RestoreOpened, ledger.RestoreFailed), Purpose: h.any(ledger.RestoreForTest, ledger.RestoreForRestore)}
		for _, s := range backup.Shares[:h.r.IntN(len(backup.Shares)+1)] {
			body.Holders = append(body.Holders, s.Holder)
		}
		if h.r.IntN(8) == 0 {
			body.Holders = append(body.Holders, "zoe")
		}
		h.aboutKey(k, ledger.TypeRestoreTest, body)
	default:
		k := h.keyThatEnded()
		body := ledger.Destroy{Key: k.id}
		if backup, there := h.state.Backup(k.id); there && h.r.IntN(2) == 0 || h.r.IntN(8) == 0 {
			body.Ciphertext = h.anyFile(backup.Ciphertext)
		}
		h.aboutKey(k, ledger.TypeDestroy, body)
	}
}

// keyThatEnded is a key that is over, mostly.
func (h *keyHistory) keyThatEnded() (k heldKey) {
	for range 6 {
		k = h.pool[h.r.IntN(len(h.pool))]
		if record, ok := h.state.Key(k.id); ok && record.Ended != "" {
			break
		}
	}
	return k
}

// backupOf is a backup by the governors of now, in which something may be wrong.
func (h *keyHistory) backupOf(k heldKey) ledger.Backup {
	h.seat++
	body := ledger.Backup{Ciphertext: h.file(), Key: k.id, Set: filler("set", 16), Shares: []ledger.BackupShare{}, Threshold: uint64(2 + h.r.IntN(8)/7)}
	holders := []string{}
	for _, g := range h.state.Council() {
		if g.Name != k.holder || h.r.IntN(8) == 0 {
			holders = append(holders, g.Name)
		}
	}
	if h.r.IntN(16) == 0 {
		holders = append(holders, h.any("r1", "n-00-0", "zoe"))
	}
	slices.Sort(holders)
	for _, holder := range slices.Compact(holders) {
		recipient := recipientNamed(h.any(holder, holder, holder, holder, holder, holder, holder, "dave"))
		body.Shares = append(body.Shares, ledger.BackupShare{Holder: holder, Recipient: keys.RecipientHash(recipient),
			Share: ledger.LeafHash([]byte(fmt.Sprint("share ", holder, h.seat)))})
	}
	return body
}

func (h *keyHistory) file() ledger.Hash { return ledger.LeafHash([]byte(fmt.Sprint("file ", h.seat))) }

// anyFile is a file, mostly the one that is recorded.
func (h *keyHistory) anyFile(recorded ledger.Hash) ledger.Hash {
	if h.r.IntN(6) == 0 {
		return h.file()
	}
	return recorded
}

// aboutKey has the holder of a key, a governor, or anybody speak of it.
func (h *keyHistory) aboutKey(k heldKey, typ string, body any) {
	author := h.any(k.holder, k.holder, k.holder, k.holder, "alice", "alice", "alice", "bob", "carol", h.any("r1", "rita", h.anyNode()))
	key := h.ids[author]
	if n, ok := h.state.Node(author); ok {
		key = n.Key
	}
	if r, ok := h.state.Replica(author); ok {
		key = r.KeyID()
	}
	h.seqs[author]++
	code := h.do(ledger.CommandStatements, h.said(author, key, typ, body, h.state.Epoch(), h.seqs[author]))
	h.decided[typ+" "+code.String()]++
}

// compareBackups looks at the records of backups: there are those that the reader has.
func (h *keyHistory) compareBackups(t *testing.T, seed uint64) {
	backups := h.state.Backups(ledger.Hash{}, 1_000)
	if len(backups) != len(h.reader.Backups) {
		t.Fatalf("seed %d: %d backups, the reader has %d", seed, len(backups), len(h.reader.Backups))
	}
	for _, b := range backups {
		if read := h.reader.Backups[b.Key]; read.Ciphertext != b.Ciphertext || read.Threshold != b.Threshold || len(read.Shares) != len(b.Shares) {
			t.Fatalf("seed %d: the backup of %s is %+v, the reader has %+v", seed, b.Key, b, read)
		}
	}
}

// The reader does see what is wrong with what the rules say of backups.
func TestKeyReaderSeesWrongBackups(t *testing.T) {
	start := newKeyStart(t)
	const name = "n-00-0"
	for _, c := range []struct {
		what, typ string
		want      string // the code for which it is to be refused; none: it is a good one
		body      func(h *keyHistory) any
	}{
		{"a backup", ledger.TypeBackup, "", func(h *keyHistory) any { return h.goodBackup(name) }},
		{"the backup of a stranger's key", ledger.TypeBackup, "unknown_key", func(h *keyHistory) any { return h.goodBackup("nobody") }},
		{"the backup of a replica's key", ledger.TypeBackup, "wrong_role", func(h *keyHistory) any { return h.goodBackup("r1") }},
		{"the backup of another node's key", ledger.TypeBackup, "wrong_role", func(h *keyHistory) any { return h.goodBackup("n-01-0") }},
		{"a backup for who is no governor", ledger.TypeBackup, "unknown_governor", func(h *keyHistory) any {
			b := h.goodBackup(name)
			b.Shares[1].Holder = "r1"
			return b
		}},
		{"a backup for another recipient", ledger.TypeBackup, "wrong_recipient", func(h *keyHistory) any {
			b := h.goodBackup(name)
			b.Shares[1].Recipient[0] ^= 1
			return b
		}},
		{"a test of no backup", ledger.TypeRestoreTest, "unknown_backup", func(h *keyHistory) any {
			return ledger.RestoreTest{Ciphertext: h.file(), Holders: []string{}, Key: h.ids[name], Outcome: ledger.RestoreOpened, Purpose: ledger.RestoreForTest}
		}},
		{"a key in force, destroyed", ledger.TypeDestroy, "key_in_force", func(h *keyHistory) any { return ledger.Destroy{Key: h.ids[name]} }},
	} {
		h := newKeyHistory(start, 1)
		envelope := h.said(name, h.ids[name], c.typ, c.body(h), h.state.Epoch(), 0)
		st, err := ledger.ParseStatement(envelope)
		if err != nil {
			t.Fatal(err)
		}
		wrong := c.want
		if wrong == "" {
			wrong = "unfit_shares" // for which nothing is to be refused here
		}
		if h.reader.Refused(st, wrong, "body"); (len(h.reader.Wrong) > 0) != (c.want == "") {
			t.Errorf("%s, refused as %s: %v", c.what, wrong, h.reader.Wrong)
		}
		h.reader.Wrong = nil
		h.forge(ledger.KindStatement, envelope)
		if (len(h.reader.Wrong) > 0) != (c.want != "") || c.want != "" && !strings.Contains(h.reader.Wrong[0], c.want) {
			t.Errorf("%s, accepted: %v", c.what, h.reader.Wrong)
		}
	}
	h := newKeyHistory(start, 1)
	if code := h.do(ledger.CommandStatements, h.said(name, h.ids[name], ledger.TypeBackup, h.goodBackup(name), h.state.Epoch(), 0)); code != OK || len(h.reader.Wrong) > 0 {
		t.Errorf("a good backup: %s, %v", code, h.reader.Wrong)
	}
}

// goodBackup is a backup of a node's key in which nothing is wrong.
func (h *keyHistory) goodBackup(name string) ledger.Backup {
	body := ledger.Backup{Ciphertext: h.file(), Key: h.ids[name], Set: filler("set", 16), Threshold: 2}
	for _, holder := range []string{"alice", "bob"} {
		body.Shares = append(body.Shares, ledger.BackupShare{Holder: holder, Recipient: keys.RecipientHash(recipientNamed(holder)), Share: ledger.LeafHash([]byte(holder))})
	}
	return body
}
