package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/test/secretscan"
)

// What must stand nowhere but in its own files: everything that a key file holds, its
// passphrase, the file key of every age file, the values of shares, and the log's seeds.

// secret takes note of something that may stand in some files only.
func (h *house) secret(name string, b []byte, own ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(name, b, own...)
}

// note is secret for who has the lock. What is known already may stand in more files.
func (h *house) note(name string, b []byte, own ...string) {
	i := slices.IndexFunc(h.secrets, func(s secretscan.Secret) bool { return bytes.Equal(s.Bytes, b) })
	if i < 0 {
		h.secrets = append(h.secrets, secretscan.Secret{Name: name, Bytes: bytes.Clone(b), Own: own})
		return
	}
	for _, path := range own {
		if !slices.Contains(h.secrets[i].Own, path) {
			h.secrets[i].Own = append(h.secrets[i].Own, path)
		}
	}
}

// secretsOf opens a key file, as its owner could, and takes note of what is in it
// and of what follows from it.
func (h *house) secretsOf(path string) error { return h.secretsIn(path+".key", path+".pass") }

// secretsIn is secretsOf, with the passphrase in another file.
func (h *house) secretsIn(path, passphrase string) error {
	file, err := h.openWith(path, passphrase)
	if err != nil {
		return err
	}
	seed := file.Key.Seed()
	h.secret("the seed in "+path, seed[:])
	if peer := file.Key.PeerKey(); peer != nil {
		h.secret("the peer key of "+path, peer.Seed())
	}
	if err := h.fileKeyOf(path, passphrase); err != nil {
		return err
	}
	if file.Identity != "" {
		if err := h.identity(path, file.Identity); err != nil {
			return err
		}
	}
	return h.tlsKeyOf(strings.TrimSuffix(path, ".key") + ".tls.key")
}

// identity takes note of an age identity, by which sealed shares can be opened, as it
// is written and as the bytes that it is.
func (h *house) identity(path, text string) error {
	raw, err := bech32(text)
	if err != nil {
		return fmt.Errorf("the age identity in %s: %w", path, err)
	}
	h.secret("the age identity in "+path, []byte(text[strings.LastIndex(text, "1")+1:]))
	h.secret("the seed of the age identity in "+path, raw)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.identities = append(h.identities, text)
	return nil
}

// tlsKeyOf takes note of a TLS key, if there is one. It protects a channel only, and is
// plain on the disk of its replica.
func (h *house) tlsKeyOf(path string) error {
	text, err := os.ReadFile(filepath.Join(h.Dir, path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s is no PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	scalar, err := scalarOf(key)
	if err == nil {
		h.secret("the TLS key in "+path, scalar, path)
	}
	return err
}

func scalarOf(key any) ([]byte, error) {
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return k.Seed(), nil
	case *ecdsa.PrivateKey:
		return k.Bytes()
	}
	return nil, fmt.Errorf("a %T has no secret that is known here", key)
}

// mayStand says that a known secret stands in one file more, as it is.
func (h *house) mayStand(b []byte, path string) { h.secret("a secret in "+path, b, path) }

// notesSecrets takes note of what the processes have made by themselves since.
func (h *house) notesSecrets() {
	h.rotated()
	if err := h.logSeeds(); err != nil {
		h.Fail("%v", err)
	}
}

// secretKinds are what secrets' names begin with.
var secretKinds = []string{"the passphrase", "the seed in", "the peer key", "the TLS key", "the age identity", "the seed of the age identity", "the file key", "the value of", "the log's"}

// kinds counts the secrets of each kind.
func (h *house) kinds() string {
	var list []string
	for _, kind := range secretKinds {
		n := 0
		for _, s := range h.secrets {
			if strings.HasPrefix(s.Name, kind) {
				n++
			}
		}
		list = append(list, fmt.Sprintf("%d: %s", n, strings.TrimSuffix(strings.TrimSuffix(kind, " in"), " of")))
	}
	return strings.Join(list, ", ")
}

// rotated takes note of the secrets of keys that agents have made by themselves.
func (h *house) rotated() {
	for _, a := range h.agents {
		for _, path := range h.keyFiles(a)[1:] {
			if slices.Contains(h.known, path) {
				continue
			}
			if err := h.secretsIn(path, filepath.Join(a.dir(), a.Name+".pass")); err != nil {
				continue // it was destroyed in the meantime
			}
			h.known = append(h.known, path)
		}
	}
}

// moved says that a file of secrets has another name now.
func (h *house) moved(from, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, s := range h.secrets {
		for j, own := range s.Own {
			if own == from {
				h.secrets[i].Own[j] = to
			}
		}
	}
}

// movesFolder gives a folder, whose files hold what they held, another name.
func (h *house) movesFolder(from, to string) error {
	h.mu.Lock()
	for i, s := range h.secrets {
		for j, own := range s.Own {
			if rest, ok := strings.CutPrefix(own, from+"/"); ok {
				h.secrets[i].Own[j] = to + "/" + rest
			}
		}
	}
	h.mu.Unlock()
	return os.Rename(filepath.Join(h.Dir, from), filepath.Join(h.Dir, to))
}
