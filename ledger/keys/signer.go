package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"filippo.io/age"
)

// What a Signer signs, and for what. A signer refuses a message that is not of
// the purpose that it is told: see CheckPurpose.
const (
	PurposeStatement   = "statement"     // the Sig_structure of a ledger statement
	PurposeRequest     = "share.request" // the Sig_structure of a request for a share
	PurposeEndorsement = "endorsement"   // begins with PurposePrefix("endorsement")
)

// Signer signs with a key that may be elsewhere: in a file, a card, another
// machine.
type Signer interface {
	// Public gives the public half of the key.
	Public() *PublicKey
	// Sign gives the 3,309-byte signature of message, which is of the purpose
	// given. show is for a display that a person looks at; nothing binds it to
	// the message. The signature may be a randomised one.
	Sign(ctx context.Context, purpose string, message []byte, show []string) ([]byte, error)
}

// Stanza is one recipient's part of an age file's header.
type Stanza struct {
	Args []string `json:"args"`
	Body []byte   `json:"body"`
	Type string   `json:"type"`
}

// An Unwrapper finds the file key of an age file that is sealed to it. It is
// the half of a Signer that governors need for the shares that they hold.
type Unwrapper interface {
	// Unwrap gives the 16-byte file key, or an error that wraps ErrNotForUs if
	// no stanza is for this identity.
	Unwrap(ctx context.Context, stanzas []Stanza) ([]byte, error)
}

type localSigner struct{ key *PrivateKey }

// LocalSigner signs with a key in memory.
func LocalSigner(key *PrivateKey) Signer { return localSigner{key} }

func (l localSigner) Public() *PublicKey { return l.key.Public() }

func (l localSigner) Sign(ctx context.Context, purpose string, message []byte, _ []string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckPurpose(l.key.ID(), purpose, message); err != nil {
		return nil, err
	}
	return l.key.Sign(message), nil
}

type localUnwrapper struct{ identity *age.HybridIdentity }

// LocalUnwrapper unwraps with an age identity in memory, of the form that
// NewIdentity gives.
func LocalUnwrapper(identity string) (Unwrapper, error) {
	pair, err := age.ParseHybridIdentity(identity)
	if err != nil {
		return nil, errors.New("parse age identity: it is no AGE-SECRET-KEY-PQ-1…")
	}
	return localUnwrapper{pair}, nil
}

func (l localUnwrapper) Unwrap(ctx context.Context, stanzas []Stanza) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	list := make([]*age.Stanza, len(stanzas))
	for i, s := range stanzas {
		list[i] = &age.Stanza{Type: s.Type, Args: s.Args, Body: s.Body}
	}
	fileKey, err := l.identity.Unwrap(list)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, fmt.Errorf("unwrap: %w", ErrNotForUs)
	}
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", err)
	}
	return fileKey, nil
}

// asIdentity is an Unwrapper as age asks for it. What it failed with is kept:
// age shows only some of it.
type asIdentity struct {
	ctx    context.Context
	under  Unwrapper
	failed error
	given  []byte // the file key that age has
}

func (a *asIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	list := make([]Stanza, len(stanzas))
	for i, s := range stanzas {
		list[i] = Stanza{Type: s.Type, Args: s.Args, Body: s.Body}
	}
	fileKey, err := a.under.Unwrap(a.ctx, list)
	if errors.Is(err, ErrNotForUs) {
		return nil, age.ErrIncorrectIdentity
	}
	if err == nil && len(fileKey) != fileKeySize {
		err = fmt.Errorf("unwrap: a file key of %d bytes, want %d", len(fileKey), fileKeySize)
	}
	a.failed, a.given = err, fileKey
	return fileKey, err
}

// OpenBy decrypts what SealTo made, by an Unwrapper. If it was not made for it,
// the error wraps ErrNotForUs.
func OpenBy(ctx context.Context, by Unwrapper, ciphertext []byte) ([]byte, error) {
	identity := &asIdentity{ctx: ctx, under: by}
	plain, err := openAge(ciphertext, identity)
	WipeBytes(identity.given)
	if identity.failed != nil {
		return nil, identity.failed
	}
	return plain, err
}

// CheckPurpose says whether a message may be signed under a key for a purpose.
// No message is of two purposes.
func CheckPurpose(id ID, purpose string, message []byte) error {
	if purpose == PurposeEndorsement {
		if prefix := PurposePrefix(PurposeEndorsement); !bytes.HasPrefix(message, prefix) || len(message) == len(prefix) {
			return errors.New("the message is no endorsement: it does not begin with quorate/endorsement/v1")
		}
		return nil
	}
	if purpose != PurposeStatement && purpose != PurposeRequest {
		return fmt.Errorf("nothing is signed for the purpose %.40q", purpose)
	}
	kid, typ, _, err := ParseSigStructure(message)
	if err != nil {
		return err
	}
	if kid != id {
		return fmt.Errorf("the message is to be signed by key %s, not by %s", kid, id)
	}
	if (typ == ShareRequestTyp) != (purpose == PurposeRequest) {
		return fmt.Errorf("a message of type %s is not signed for the purpose %q", typ, purpose)
	}
	return nil
}
