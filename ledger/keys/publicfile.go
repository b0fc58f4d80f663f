package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/quorate/quorate/ledger/canon"
)

// PublicFile is what a principal gives to others: readable JSON, with byte
// strings as unpadded base64url. Ids and words are redundant, so that a person
// can compare them, and are checked against the key.
type PublicFile struct {
	Address    string   `json:"address,omitempty"` // a replica's peer address, host:port
	API        string   `json:"api,omitempty"`     // a replica's API, a URL
	Cosigner44 []byte   `json:"cosigner44,omitempty"`
	Created    int64    `json:"created,omitempty"` // milliseconds since 1970 UTC
	KeyID      string   `json:"key_id"`            // 64 hex digits
	Name       string   `json:"name"`
	Operator   string   `json:"operator,omitempty"`
	Peer       []byte   `json:"peer,omitempty"` // a node's Ed25519 public key, 32 bytes
	PublicKey  []byte   `json:"public_key"`     // ML-DSA-65, 1,952 bytes
	Recipient  string   `json:"recipient,omitempty"`
	Role       string   `json:"role"`
	TLSPin     [32]byte `json:"tls_pin,omitempty"` // SHA-256 of the SubjectPublicKeyInfo
	Type       string   `json:"type"`
	Words      string   `json:"words"`
}

const publicFileType = "quorate/public-key.v1"

// Public gives the public file of a key file: its name, role, operator, key and
// recipient, and for the role "replica" its cosigning key. The rest is the
// caller's to fill in.
func (f *File) Public() (*PublicFile, error) {
	p := &PublicFile{
		Created:   f.Created,
		KeyID:     f.Key.ID().String(),
		Name:      f.Name,
		Operator:  f.Operator,
		PublicKey: f.Key.Public().Bytes(),
		Role:      f.Role,
		Type:      publicFileType,
		Words:     f.Key.ID().Words(),
	}
	if f.Identity != "" {
		recipient, err := RecipientOf(f.Identity)
		if err != nil {
			return nil, err
		}
		p.Recipient = recipient
	}
	if f.Role == "replica" {
		p.Cosigner44 = f.Key.Cosigner44().Public()
	}
	return p, nil
}

// Key gives the ML-DSA-65 public key.
func (p *PublicFile) Key() (*PublicKey, error) { return ParsePublicKey(p.PublicKey) }

// Check says what in the file contradicts its key or cannot be.
func (p *PublicFile) Check() error {
	if p.Type != publicFileType {
		return fmt.Errorf("its type is %.40q, not %q", p.Type, publicFileType)
	}
	key, err := p.Key()
	if err != nil {
		return err
	}
	if p.KeyID != key.ID().String() {
		return errors.New("key_id is not that of public_key: one of them was changed")
	}
	if p.Words != key.ID().Words() {
		return errors.New("words are not those of public_key: one of them was changed")
	}
	if p.Recipient != "" {
		if err := CheckRecipient(p.Recipient); err != nil {
			return err
		}
	}
	if p.Cosigner44 != nil && len(p.Cosigner44) != Cosigner44PublicKeySize {
		return errors.New("cosigner44 has not the 1312 bytes of an ML-DSA-44 public key")
	}
	if p.Peer != nil && len(p.Peer) != 32 {
		return errors.New("peer has not the 32 bytes of an Ed25519 public key")
	}
	return nil
}

// WritePublicFile writes p to a new file at path, mode 0644, with WriteFile's
// guarantees. An empty Type is filled in.
func WritePublicFile(path string, p *PublicFile) error {
	whole := *p
	if whole.Type == "" {
		whole.Type = publicFileType
	}
	if err := whole.Check(); err != nil {
		return fmt.Errorf("write public key file: %w", err)
	}
	content, err := canon.Marshal(&whole)
	if err != nil {
		return fmt.Errorf("write public key file: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, content, "", "  "); err != nil {
		return fmt.Errorf("write public key file: %w", err)
	}
	out.WriteByte('\n')
	return writeNew("public key file", path, out.Bytes(), 0o644)
}

// ReadPublicFile reads and checks what WritePublicFile wrote. It is strict but
// for white space. Whatever is wrong is a *FileError.
func ReadPublicFile(path string) (*PublicFile, error) {
	content, _, err := readBounded("public key file", path, maxPublicFile)
	if err != nil {
		return nil, err
	}
	p, err := ParsePublicFile(content)
	if err != nil {
		return nil, &FileError{What: "public key file", Path: path, Problem: err.Error(), Remedy: "ask its owner for it again", Err: err}
	}
	return p, nil
}

// ParsePublicFile is ReadPublicFile for bytes.
func ParsePublicFile(content []byte) (*PublicFile, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, content); err != nil {
		return nil, fmt.Errorf("it is no public key file: %w", err)
	}
	p := &PublicFile{}
	if err := canon.Unmarshal(compact.Bytes(), p); err != nil {
		return nil, fmt.Errorf("it is no public key file: %w", err)
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return p, nil
}
