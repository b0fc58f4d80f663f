package main

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// author is who signs: the owner of a key file, or whoever an external signer
// signs for.
type author struct {
	Name, Role, Operator string

	signer    keys.Signer
	unwrapper keys.Unwrapper // nil without an age identity
	external  bool
	close     func()
}

// authorOf is the author whose key file is open.
func authorOf(file *keys.File) (*author, error) {
	u := &author{Name: file.Name, Role: file.Role, Operator: file.Operator, signer: keys.LocalSigner(file.Key), close: file.Wipe}
	if file.Identity != "" {
		unwrapper, err := keys.LocalUnwrapper(file.Identity)
		if err != nil {
			return nil, err
		}
		u.unwrapper = unwrapper
	}
	return u, nil
}

// author opens the key that the flags name, or starts the signer. The caller
// closes it.
func (a *app) author(ctx context.Context, f *signFlags) (*author, error) {
	spec := orText(f.signer, a.getenv("QUORATE_SIGNER"))
	if f.key != "" && f.signer == "" {
		spec = "" // said on the command line, against the environment
	}
	if spec == "" {
		if len(f.signerArgs) > 0 {
			return nil, usage("say --signer exec:PROGRAM", "--signer-arg is there, and no signer")
		}
		file, err := a.readKey(f.key, f.passphraseFile)
		if err != nil {
			return nil, err
		}
		return authorOf(file)
	}
	if f.key != "" {
		return nil, usage("leave one of them out", "--key and --signer are both there")
	}
	s, err := a.startSigner(ctx, spec, f.signerArgs, f.signerWait)
	if err != nil {
		return nil, err
	}
	u := &author{Name: s.hello.Name, Role: s.hello.Role, Operator: s.hello.Operator, signer: s, external: true, close: func() {
		if err := s.Close(); err != nil {
			a.note("note: %v", err)
		}
	}}
	if s.hello.Recipient != "" {
		u.unwrapper = s
	}
	return u, nil
}

// governor is author for someone who governs.
func (a *app) governor(ctx context.Context, f *signFlags) (*author, error) {
	u, err := a.author(ctx, f)
	if err != nil {
		return nil, err
	}
	if u.Role != fsm.RoleGovernor && u.Role != fsm.RoleRecovery {
		u.close()
		return nil, wrongFile("sign with a governor's key file", "%s is the key of the %s %s, who does not govern", orText(f.key, "it"), u.Role, u.Name)
	}
	return u, nil
}

// keyID is the id of the author's key.
func (u *author) keyID() keys.ID { return u.signer.Public().ID() }

// sign signs a statement. show is what a signer's own display may show.
func (u *author) sign(ctx context.Context, p ledger.Payload, body any, show ...string) ([]byte, error) {
	show = append(show, "ledger "+p.Ledger.String())
	return ledger.SignWith(p, body, func(typ string, payload []byte) ([]byte, error) {
		return keys.SignEnvelopeWith(ctx, u.signer, keys.PurposeStatement, typ, payload, show)
	})
}

// draft is the statement that sign will sign, so that it can be shown before any
// signer is asked: its id is the same, its signature is no signature.
func (u *author) draft(p ledger.Payload, body any) (*ledger.Statement, error) {
	envelope, err := ledger.SignWith(p, body, func(typ string, payload []byte) ([]byte, error) {
		e := keys.Envelope{KeyID: u.keyID(), Type: typ, Payload: payload, Signature: make([]byte, keys.SignatureSize)}
		return e.Bytes(), nil
	})
	if err != nil {
		return nil, err
	}
	return ledger.ParseStatement(envelope)
}

// seated says, of an external signer, whether its key is the one that the ledger
// has for its name: a key file was made for one ledger, a card may serve many.
func (u *author) seated(ctx context.Context, l *link) error {
	if !u.external || u.Role != fsm.RoleGovernor {
		return nil
	}
	rules, err := l.rules(ctx)
	if err != nil {
		return err
	}
	return u.among(rules.council)
}

func (u *author) among(council []seat) error {
	for _, m := range council {
		if m.name == u.Name && m.key == u.keyID().String() {
			return nil
		}
	}
	return refused("take the signer of a governor who sits, or have the council seat this key (council.change)",
		"the signer signs for %s with key %s…, which is not that of a governor of this ledger", u.Name, u.keyID().String()[:16])
}

// withNonce adds the replay protection of proposals, records and joins.
func (a *app) withNonce(p ledger.Payload) ledger.Payload {
	p.Nonce = make([]byte, 16)
	// crypto/rand.Read never fails (Go 1.24 and later).
	_, _ = rand.Read(p.Nonce)
	p.Expires = uint64(a.now().Add(lifetime).UnixMilli())
	return p
}

// lifetime is how long a proposal, record or join may wait to be submitted.
// The ledger takes at most 30 days; the margin is for a clock that is ahead.
const lifetime = 29 * 24 * time.Hour
