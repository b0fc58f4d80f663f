package ledger

import (
	"bytes"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// The vectors of backup files (FORMAT.md section 19), and the place of those of package
// fsm, which are checked there.

type backupVectors struct {
	About   string         `json:"about"`
	Strings []string       `json:"strings"` // what the texts are shortened by
	Cases   []backupVector `json:"cases"`
}

type backupVector struct {
	Name      string   `json:"name"`
	File      string   `json:"file"`
	Holds     bool     `json:"holds"`
	Hash      hexBytes `json:"hash,omitempty"` // of the ciphertext, as the ledger has it
	Holder    string   `json:"holder,omitempty"`
	Key       hexBytes `json:"key,omitempty"`
	Threshold uint64   `json:"threshold,omitempty"`
	Shares    int      `json:"shares,omitempty"`
}

func makeBackups(t testing.TB) backupVectors {
	v := backupVectors{About: "Backup files (FORMAT.md section 19). file is one, or is refused for its form or because its ciphertext's header says otherwise; hash is that of the ciphertext. Nobody keeps what opens them."}
	var holders []keys.ShareHolder
	var recipients []string
	for _, name := range []string{"alice", "bob", "carol", "dora"} {
		_, recipient, err := keys.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		holders = append(holders, keys.ShareHolder{Name: name, Recipient: recipient})
		recipients = append(recipients, recipient)
	}
	made := func(threshold int, holders []keys.ShareHolder, also ...string) *keys.Backup {
		b, err := keys.NewBackup(&keys.File{Name: "edge-1", Role: "node", Key: testKey("edge-1")}, LeafHash([]byte("ledger of backups")), threshold, holders, also)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	add := func(name string, file []byte) {
		c := backupVector{Name: name, File: string(file)}
		if b, err := keys.ParseBackup(file); err == nil {
			hash := b.Hash()
			c.Holds, c.Hash, c.Holder, c.Key, c.Threshold, c.Shares = true, hash[:], b.Holder, b.Key[:], b.Threshold, len(b.Shares)
		}
		v.Cases = append(v.Cases, c)
	}
	file := func(b *keys.Backup) []byte {
		content, err := canon.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return append(content, '\n')
	}
	good := made(2, holders[:3])
	add("two of three", file(good))
	add("three of three, and one who opens it alone", file(made(3, holders[:3], recipients[3])))
	for _, c := range []struct {
		name   string
		change func(b *keys.Backup)
	}{
		{"it says another threshold than its header", func(b *keys.Backup) { b.Threshold = 3 }},
		{"it says another set than its header", func(b *keys.Backup) { b.Set[3] ^= 1 }},
		{"a share is missing", func(b *keys.Backup) { b.Shares = b.Shares[:2] }},
		{"one share opens it", func(b *keys.Backup) { b.Threshold = 1 }},
		{"the shares are not sorted", func(b *keys.Backup) { b.Shares[0], b.Shares[1] = b.Shares[1], b.Shares[0] }},
		{"one holder has two shares", func(b *keys.Backup) { b.Shares[1].Holder = b.Shares[0].Holder }},
		{"a share without a holder", func(b *keys.Backup) { b.Shares[2].Holder = "" }},
		{"a share is too large", func(b *keys.Backup) { b.Shares[2].Sealed = make([]byte, keys.MaxSealedShare+1) }},
		{"a further recipient that its header has not", func(b *keys.Backup) { b.Recipients = append(b.Recipients, LeafHash([]byte("nobody"))) }},
		{"a holder that is no name", func(b *keys.Backup) { b.Holder = "../edge-1" }},
		{"another type", func(b *keys.Backup) { b.Type = "quorate/backup.v2" }},
		{"its ciphertext is no age file", func(b *keys.Backup) { b.Ciphertext[0] ^= 1 }},
		{"its header has no end", func(b *keys.Backup) { b.Ciphertext = b.Ciphertext[:40] }},
		{"its header has no stanza of shares", func(b *keys.Backup) {
			b.Ciphertext = bytes.Replace(b.Ciphertext, []byte("quorate-shares"), []byte("quorate-sharing"), 1)
		}},
		{"its header splits by another version", func(b *keys.Backup) {
			b.Ciphertext = bytes.Replace(b.Ciphertext, []byte("quorate-shares 1 "), []byte("quorate-shares 2 "), 1)
		}},
	} {
		again, err := keys.ParseBackup(file(good))
		if err != nil {
			t.Fatal(err)
		}
		c.change(again)
		add(c.name, file(again))
	}
	add("without a line feed", bytes.TrimSuffix(file(good), []byte("\n")))
	add("with two line feeds", append(file(good), '\n'))
	add("with a field too many", bytes.Replace(file(good), []byte(`"type":`), []byte(`"typ":1,"type":`), 1))
	var texts []*string
	for i := range v.Cases {
		texts = append(texts, &v.Cases[i].File)
	}
	v.Strings = shorten(texts...)
	return v
}

func checkBackups(t *testing.T, v backupVectors) {
	hold := 0
	for _, c := range v.Cases {
		b, err := keys.ParseBackup(lengthen(t, c.File, v.Strings))
		if (err == nil) != c.Holds {
			t.Errorf("%s: %v", c.Name, err)
		}
		if err != nil {
			continue
		}
		hold++
		hash := b.Hash()
		if !bytes.Equal(hash[:], c.Hash) || b.Holder != c.Holder || !bytes.Equal(b.Key[:], c.Key) || b.Threshold != c.Threshold || len(b.Shares) != c.Shares {
			t.Errorf("%s: %s", c.Name, strings.Join([]string{b.Holder, b.Key.String()}, " "))
		}
	}
	wants(t, map[string]int{"a backup": hold, "none": len(v.Cases) - hold})
}

// keyAtVectors are checked by package fsm, whose rules they are of.
type keyAtVectors struct {
	About   string     `json:"about"`
	Entries []hexBytes `json:"entries"`
	Words   []struct {
		Name  string   `json:"name"`
		Key   hexBytes `json:"key"`
		Epoch *uint64  `json:"epoch,omitempty"`
		Word  string   `json:"word"`
	} `json:"words"`
}

func checkKeyAt(t *testing.T, v keyAtVectors) {
	wants(t, map[string]int{"entry": len(v.Entries), "word": len(v.Words)})
}
