package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// The statement types of FORMAT.md section 3.
const (
	TypePropose  = "propose"
	TypeApprove  = "approve"
	TypeReject   = "reject"
	TypeWithdraw = "withdraw"
	TypeVeto     = "veto"
	TypeRecord   = "record"
	TypeJoin     = "join"
	TypeReady    = "ready"
)

// Payload is what a statement's author signs.
type Payload struct {
	Author     string    `json:"author"`
	Body       canon.Raw `json:"body"`
	Epoch      *uint64   `json:"epoch,omitempty"`
	Expires    uint64    `json:"expires,omitempty"` // milliseconds
	Generation uint64    `json:"generation"`
	Ledger     Hash      `json:"ledger"` // genesis hash
	Nonce      []byte    `json:"nonce,omitempty"`
	Seq        *uint64   `json:"seq,omitempty"`
	Type       string    `json:"type"`
}

// Propose is the body of a propose statement. Base names the version of each
// table that the action touches, as the proposer saw it.
type Propose struct {
	Action string            `json:"action"`
	Args   canon.Raw         `json:"args"`
	Base   map[string]uint64 `json:"base"`
	Memo   string            `json:"memo,omitempty"`
}

// Ballot is the body of approve, reject, withdraw and veto.
type Ballot struct {
	Memo     string `json:"memo,omitempty"`
	Proposal Hash   `json:"proposal"`
}

// Record is the body of a record statement: a note, or a document's digest.
type Record struct {
	Digest []byte `json:"digest,omitempty"` // SHA-256, 32 bytes
	Media  string `json:"media,omitempty"`
	Name   string `json:"name,omitempty"`
	Text   string `json:"text,omitempty"`
}

// Join is the body of a join statement, signed by the key that it holds.
type Join struct {
	Name     string `json:"name"`
	Operator string `json:"operator"`
	Peer     []byte `json:"peer"`   // Ed25519 public key, 32 bytes
	Public   []byte `json:"public"` // ML-DSA-65
}

// Ready is the body of a replica's ready statement: its history is whole to
// Size, with this root, and it runs Format.
type Ready struct {
	Format uint64 `json:"format"`
	Root   Hash   `json:"root"`
	Size   uint64 `json:"size"`
}

// Replay is which replay protection a statement type carries.
type Replay int

// The replay forms of FORMAT.md section 3.
const (
	ReplayNone     Replay = iota // unique by (proposal, author); of a recover by its head and generation
	ReplayNonce                  // nonce + expires
	ReplayEpochSeq               // epoch + seq
	ReplayEither                 // record, evidence, backups: nonce for governors, epoch + seq for nodes and replicas
)

// ReplayForm returns the form that a statement type must have, and whether
// the type is known.
func ReplayForm(typ string) (Replay, bool) {
	switch typ {
	case TypePropose, TypeJoin:
		return ReplayNonce, true
	case TypeApprove, TypeReject, TypeWithdraw, TypeVeto, TypeRecover:
		return ReplayNone, true
	case TypeReady, TypeProbe, TypeAck, TypeObserve, TypeAttest, TypeRotate:
		return ReplayEpochSeq, true
	case TypeRecord, TypeEvidence, TypeBackup, TypeRestoreTest, TypeDestroy:
		return ReplayEither, true
	}
	return 0, false
}

// Statement is a parsed COSE_Sign1 statement. Its signature is not verified
// yet: that needs the author's key.
type Statement struct {
	ID       Hash // SHA-256 of the Sig_structure
	KeyID    Hash
	Payload  Payload
	Envelope []byte // verbatim; not to be changed

	keyID     keys.ID
	signed    []byte    // the Sig_structure, which ends in the payload
	payload   int       // where in signed the payload begins
	signature []byte    // part of Envelope
	numbers   [2]uint64 // where Payload's Epoch and Seq may point
}

// StatementError says why bytes are not a statement. Code is a code of
// fsm/DESIGN.md's table, Path the field that is wrong, if one is.
type StatementError struct {
	Code, Path, Message string
}

func (e *StatementError) Error() string {
	if e.Path == "" {
		return e.Code + ": " + e.Message
	}
	return e.Code + ": " + e.Path + ": " + e.Message
}

// ParseStatement reads a statement and checks everything that needs no state:
// the envelope's form, the payload's canonical form, the type and its replay
// form. The error is a *StatementError.
func ParseStatement(envelope []byte) (*Statement, error) { return parseStatement(envelope, nil) }

func parseStatement(envelope []byte, memory *StatementMemory) (*Statement, error) {
	env, err := keys.ViewEnvelope(envelope)
	if err != nil {
		var f *keys.FormatError
		if errors.As(err, &f) {
			return nil, &StatementError{Code: f.Code, Message: f.Message}
		}
		return nil, &StatementError{Code: "not_cose", Message: err.Error()}
	}
	signed := keys.AppendSigStructure(memory.take(env), env.KeyID, env.Type, env.Payload)
	s := &Statement{
		ID: sha256.Sum256(signed), KeyID: Hash(env.KeyID), Envelope: envelope,
		keyID: env.KeyID, signed: signed, payload: len(signed) - len(env.Payload), signature: env.Signature,
	}
	p := &s.Payload
	if !p.readPlain(s.PayloadBytes(), &s.numbers) {
		if err := canon.UnmarshalShared(s.PayloadBytes(), p); err != nil {
			return nil, statementError("", err)
		}
	}
	if !isTypOf(env.Type, p.Type) {
		return nil, &StatementError{Code: "wrong_typ", Path: "type", Message: fmt.Sprintf("typ is %q, the payload's type wants %q", env.Type, "quorate/"+p.Type+".v1")}
	}
	if err := ValidName(p.Author); err != nil {
		return nil, &StatementError{Code: "bad_field", Path: "author", Message: err.Error()}
	}
	if len(p.Body) == 0 || p.Body[0] != '{' {
		return nil, &StatementError{Code: "wrong_type", Path: "body", Message: "want an object"}
	}
	if err := p.checkReplayForm(); err != nil {
		return nil, err
	}
	return s, nil
}

// StatementMemory is memory for whoever parses many statements and is soon done
// with them. It takes what the authors of records signed, which are most: the
// rules keep something of other types.
type StatementMemory struct{ buf []byte }

// Reset takes back the memory of whatever was parsed, and makes room for what
// statements of that many bytes need.
func (m *StatementMemory) Reset(size int) {
	if cap(m.buf) < size {
		m.buf = make([]byte, 0, size)
	}
	m.buf = m.buf[:0]
}

// Parse is ParseStatement. The statement is good until the next Reset.
func (m *StatementMemory) Parse(envelope []byte) (*Statement, error) {
	return parseStatement(envelope, m)
}

// take gives memory, empty, for what an envelope's author signed.
func (m *StatementMemory) take(env *keys.Envelope) []byte {
	need := keys.SigStructureAround + len(env.Payload)
	if m == nil || env.Type != "quorate/"+TypeRecord+".v1" || cap(m.buf)-len(m.buf) < need {
		return make([]byte, 0, need)
	}
	begin := len(m.buf)
	m.buf = m.buf[:begin+need]
	return m.buf[begin : begin : begin+need]
}

func (p *Payload) checkReplayForm() error {
	form, known := ReplayForm(p.Type)
	if !known {
		return &StatementError{Code: "wrong_typ", Path: "type", Message: fmt.Sprintf("unknown statement type %q", p.Type)}
	}
	nonce := p.Nonce != nil || p.Expires != 0
	seq := p.Epoch != nil || p.Seq != nil
	if nonce && (len(p.Nonce) != 16 || p.Expires == 0) {
		return &StatementError{Code: "bad_field", Path: "nonce", Message: "want a nonce of 16 bytes together with expires"}
	}
	if seq && (p.Epoch == nil || p.Seq == nil) {
		return &StatementError{Code: "bad_field", Path: "seq", Message: "want epoch and seq together"}
	}
	ok := false
	switch form {
	case ReplayNone:
		ok = !nonce && !seq
	case ReplayNonce:
		ok = nonce && !seq
	case ReplayEpochSeq:
		ok = seq && !nonce
	case ReplayEither:
		ok = nonce != seq
	}
	if !ok {
		return &StatementError{Code: "bad_field", Path: "nonce", Message: fmt.Sprintf("a %s statement has another replay form (FORMAT.md section 3)", p.Type)}
	}
	return nil
}

func statementError(prefix string, err error) *StatementError {
	var c *canon.Error
	if !errors.As(err, &c) {
		return &StatementError{Code: "not_canonical", Path: prefix, Message: err.Error()}
	}
	path := c.Path
	if prefix != "" {
		path = strings.TrimSuffix(prefix+"."+c.Path, ".")
	}
	return &StatementError{Code: c.Code, Path: path, Message: c.Message}
}

// Verify checks the signature under the author's key.
func (s *Statement) Verify(public *keys.PublicKey) bool {
	return public.ID() == s.keyID && public.Verify(s.signed, s.signature)
}

// PayloadBytes gives the payload as it was signed. It is not the caller's to
// change.
func (s *Statement) PayloadBytes() []byte { return s.signed[s.payload:] }

// DecodeBody decodes the statement's body; the error's path starts with body.
func DecodeBody[T any](s *Statement) (T, error) {
	var body T
	if err := canon.Unmarshal(s.Payload.Body, &body); err != nil {
		return body, statementError("body", err)
	}
	return body, nil
}

// DecodeArgs decodes a proposal's args; the error's path starts with body.args.
func DecodeArgs[T any](raw canon.Raw) (T, error) {
	var args T
	if err := canon.Unmarshal(raw, &args); err != nil {
		return args, statementError("body.args", err)
	}
	return args, nil
}

// Sign makes the statement with payload p and body, signed by k. It returns
// the envelope.
func Sign(k *keys.PrivateKey, p Payload, body any) ([]byte, error) {
	return SignWith(p, body, func(typ string, payload []byte) ([]byte, error) {
		return keys.SignEnvelope(k, typ, payload), nil
	})
}

// SignWith is Sign by a key that may be elsewhere: sign makes the envelope of a
// payload of the given "typ".
func SignWith(p Payload, body any, sign func(typ string, payload []byte) ([]byte, error)) ([]byte, error) {
	raw, err := canon.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode body: %w", err)
	}
	p.Body = raw
	payload, err := canon.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode payload: %w", err)
	}
	if len(payload) > MaxPayloadBytes {
		return nil, fmt.Errorf("encode payload: %d bytes, at most %d", len(payload), MaxPayloadBytes)
	}
	envelope, err := sign("quorate/"+p.Type+".v1", payload)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	if _, err := ParseStatement(envelope); err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return envelope, nil
}
