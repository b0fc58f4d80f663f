package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/quorate/quorate/ledger/keys"
)

// What is sealed is opened here as whoever has all identities could, so that the values
// of shares and the file keys, which the program never shows, can be looked for.

// recorder is an age identity that keeps the file key which it unwraps.
type recorder struct {
	age.Identity
	fileKey []byte
}

func (r *recorder) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := r.Identity.Unwrap(stanzas)
	if err == nil {
		r.fileKey = bytes.Clone(fileKey)
	}
	return fileKey, err
}

// unseals opens an age file, and gives its content and its file key.
func unseals(sealed io.Reader, with age.Identity) (content, fileKey []byte, err error) {
	r := &recorder{Identity: with}
	plain, err := age.Decrypt(sealed, r)
	if err != nil {
		return nil, nil, err
	}
	content, err = io.ReadAll(io.LimitReader(plain, maxAnswer))
	return content, r.fileKey, err
}

// fileKeyOf takes note of the file key of a key file that a passphrase opens.
func (h *house) fileKeyOf(path, passphrase string) error {
	content, err := os.ReadFile(filepath.Join(h.Dir, path))
	if err != nil {
		return err
	}
	word, err := os.ReadFile(filepath.Join(h.Dir, passphrase))
	if err != nil {
		return err
	}
	with, err := age.NewScryptIdentity(string(bytes.TrimSpace(word)))
	if err != nil {
		return err
	}
	_, fileKey, err := unseals(armor.NewReader(bytes.NewReader(content)), with)
	if err == nil {
		h.secret("the file key of "+path, fileKey)
	}
	return err
}

// shareText is what is sealed to a holder, as far as it matters here.
type shareText struct {
	Index uint64 `json:"index"`
	Set   string `json:"set"`
	Value string `json:"value"`
}

// shareOf opens a sealed share with whichever identity does, and takes note of its value
// and of its file key.
func (h *house) shareOf(what string, sealed []byte) (keys.Share, error) {
	for _, text := range h.identities {
		with, err := age.ParseHybridIdentity(text)
		if err != nil {
			return keys.Share{}, err
		}
		content, fileKey, err := unseals(bytes.NewReader(sealed), with)
		if err != nil {
			continue // it is another's
		}
		var body shareText
		if err := json.Unmarshal(content, &body); err != nil {
			return keys.Share{}, err
		}
		share := keys.Share{Index: byte(body.Index)}
		for _, one := range []struct {
			into []byte
			text string
		}{{share.Set[:], body.Set}, {share.Value[:], body.Value}} {
			b, err := base64.RawURLEncoding.DecodeString(one.text)
			if err != nil || len(b) != len(one.into) {
				return keys.Share{}, fmt.Errorf("%s has another form than is known here: %d bytes, %w", what, len(b), err)
			}
			copy(one.into, b)
		}
		h.secret("the value of "+what, share.Value[:])
		h.secret("the file key of "+what, fileKey)
		return share, nil
	}
	return keys.Share{}, fmt.Errorf("nobody's identity opens %s", what)
}

// backupOf takes note of what is in a backup: the values of its shares, their file keys,
// and its own file key, which any threshold of them give.
func (h *house) backupOf(path string) error {
	b, err := keys.ReadBackup(filepath.Join(h.Dir, path))
	if err != nil {
		return err
	}
	var shares []keys.Share
	for i := range b.Shares {
		share, err := h.shareOf(fmt.Sprintf("the share of %s in %s", b.Shares[i].Holder, path), b.Shares[i].Sealed)
		if err != nil {
			return err
		}
		if share.Hash() != b.Shares[i].Share {
			return fmt.Errorf("the share of %s in %s is not the one that is recorded", b.Shares[i].Holder, path)
		}
		shares = append(shares, share)
	}
	fileKey, err := keys.Combine(int(b.Threshold), shares)
	if err == nil {
		h.secret("the file key of "+path, fileKey[:])
	}
	return err
}

// sealedIn takes note of what every backup and every answer below the house's folder
// holds, and counts both. Those that somebody changed on purpose are left out.
func (h *house) sealedIn() (backups, answers int, err error) {
	err = filepath.WalkDir(h.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(h.Dir, path)
		if err != nil || slices.Contains(h.changed, name) {
			return err
		}
		switch {
		case strings.HasSuffix(name, ".backup"):
			backups++
			return h.backupOf(name)
		case strings.HasSuffix(name, ".share.age"):
			answers++
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			_, err = h.shareOf("the answer "+name, content)
			return err
		}
		return nil
	})
	return backups, answers, err
}

// logSeedsOf takes note of the log's own seeds, which a replica keeps plain in its folder:
// whoever has them can sign nothing that counts (ledger/replica).
func (h *house) logSeedsOf(path string) error {
	content, err := os.ReadFile(filepath.Join(h.Dir, path))
	if err != nil {
		return err
	}
	found := 0
	for _, field := range []string{"ed25519", "mldsa44"} {
		_, rest, ok := bytes.Cut(content, []byte(`"`+field+`":"`))
		if !ok {
			continue
		}
		text, _, _ := bytes.Cut(rest, []byte(`"`))
		seed, err := base64.RawURLEncoding.DecodeString(string(text))
		if err != nil || len(seed) != seedBytes {
			return fmt.Errorf("%s has another form than is known here: %d bytes of %s, %w", path, len(seed), field, err)
		}
		h.secret("the log's "+field+" seed in "+path, seed, path)
		found++
	}
	if found != 2 {
		return fmt.Errorf("%s has %d of the log's two seeds", path, found)
	}
	return nil
}

// logSeeds takes note of those of every replica, in use, pending and before.
func (h *house) logSeeds() error {
	list, err := filepath.Glob(filepath.Join(h.Dir, "ledger", "*", "logkey*"))
	for _, path := range list {
		name, err := filepath.Rel(h.Dir, path)
		if err == nil {
			err = h.logSeedsOf(name)
		}
		if err != nil {
			return err
		}
	}
	return err
}

const bech32Letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// bech32 gives the bytes that a text in that form holds, without a look at its sum: the
// text comes from a key file, which has its own.
func bech32(text string) ([]byte, error) {
	text = strings.ToLower(text)
	data := text[strings.LastIndex(text, "1")+1:]
	if len(data) <= bech32Sum {
		return nil, fmt.Errorf("it is too short")
	}
	var out []byte
	bits, have := 0, 0
	for _, letter := range data[:len(data)-bech32Sum] {
		value := strings.IndexRune(bech32Letters, letter)
		if value < 0 {
			return nil, fmt.Errorf("it has letters that are none of its form")
		}
		if bits, have = bits<<5|value, have+5; have >= 8 {
			have -= 8
			out = append(out, byte(bits>>have))
			bits &= 1<<have - 1
		}
	}
	return out, nil
}
