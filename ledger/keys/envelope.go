package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
)

// Envelope is a statement as it travels: a COSE_Sign1 (RFC 9052, section 4.2)
// of exactly one shape,
//
//	d2 84 || bstr(protected) || a0 || bstr(payload) || 59 0ced || signature
//
// with shortest lengths, where protected is the map
// {1: -49, 4: key id, 16: type} in this order.
type Envelope struct {
	KeyID     ID
	Type      string // the protected "typ", such as "quorate/propose.v1"
	Payload   []byte // canonical JSON, which this room does not look into
	Signature []byte // 3,309 bytes
}

// FormatError says why bytes are no envelope.
type FormatError struct {
	Code    string
	Message string
}

func (e *FormatError) Error() string {
	return "COSE envelope: " + e.Message + " (" + e.Code + ")"
}

// The codes of FormatError: a closed set that is only ever appended to.
const (
	CodeNotCOSE           = "not_cose"           // no COSE_Sign1 with tag, key id, payload and signature
	CodeWrongAlg          = "wrong_alg"          // alg is not -49, ML-DSA-65
	CodeWrongTyp          = "wrong_typ"          // typ is not quorate/<type>.v<n>
	CodeUnprotectedHeader = "unprotected_header" // the unprotected header is not empty
	CodeTrailingBytes     = "trailing_bytes"     // bytes follow the envelope
	CodeTooLarge          = "too_large"          // payload above 32 KiB, or too many envelopes
	CodeNotCanonical      = "not_canonical"      // the same content in other bytes, or further protected labels
)

// SigStructure gives what is signed (RFC 9052, section 4.4):
// an array of "Signature1", the protected header, an empty byte string and the
// payload.
func SigStructure(kid ID, typ string, payload []byte) []byte {
	return AppendSigStructure(make([]byte, 0, SigStructureAround+len(payload)), kid, typ, payload)
}

// SigStructureAround is the most that a SigStructure has beside the payload.
const SigStructureAround = 32 + maxProtected

// AppendSigStructure appends SigStructure to b.
func AppendSigStructure(b []byte, kid ID, typ string, payload []byte) []byte {
	b = append(b, 0x84, 0x6a)
	b = append(b, "Signature1"...)
	b = appendProtected(b, kid, typ)
	b = append(b, 0x40)
	b = appendHead(b, majorBytes, len(payload))
	return append(b, payload...)
}

// StatementID names a statement: SHA-256 of its SigStructure. The signature is
// no part of it, because ML-DSA may be randomised.
func StatementID(kid ID, typ string, payload []byte) [32]byte {
	return sha256.Sum256(SigStructure(kid, typ, payload))
}

// SignEnvelope signs payload as a statement of type typ and gives the
// envelope's bytes. Both must be what ParseEnvelope takes: typ of the form
// "quorate/<type>.v<n>", the payload from 1 to MaxPayload bytes.
func SignEnvelope(k *PrivateKey, typ string, payload []byte) []byte {
	invariant(isType(typ), "typ is of the form quorate/<type>.v<n>")
	invariant(len(payload) > 0 && len(payload) <= MaxPayload, "the payload has 1 to 32768 bytes")
	e := Envelope{KeyID: k.ID(), Type: typ, Payload: payload}
	e.Signature = k.Sign(SigStructure(e.KeyID, typ, payload))
	return e.Bytes()
}

// SignEnvelopeWith is SignEnvelope by a signer that may be elsewhere. What it
// signed is verified: an error says so if the signature is not one of its key.
func SignEnvelopeWith(ctx context.Context, s Signer, purpose, typ string, payload []byte, show []string) ([]byte, error) {
	invariant(isType(typ), "typ is of the form quorate/<type>.v<n>")
	invariant(len(payload) > 0 && len(payload) <= MaxPayload, "the payload has 1 to 32768 bytes")
	public := s.Public()
	e := Envelope{KeyID: public.ID(), Type: typ, Payload: payload}
	var err error
	if e.Signature, err = s.Sign(ctx, purpose, SigStructure(e.KeyID, typ, payload), show); err != nil {
		return nil, err
	}
	if !e.Verify(public) {
		return nil, ErrWrongSignature
	}
	return e.Bytes(), nil
}

// ErrWrongSignature says that a signer gave what is no signature of its key.
var ErrWrongSignature = errors.New("the signer's signature does not verify under its key")

// ParseSigStructure reads what SigStructure gives, and nothing else: which key is
// to sign what type of payload. The payload is part of b.
func ParseSigStructure(b []byte) (kid ID, typ string, payload []byte, err error) {
	bad := errors.New("the message is no Sig_structure of a statement")
	head := append([]byte{0x84, 0x6a}, "Signature1"...)
	rest, ok := bytes.CutPrefix(b, head)
	if !ok {
		return kid, "", nil, bad
	}
	r := reader{data: rest}
	protected, problem := r.bytes(majorBytes, MaxEnvelope, "protected header")
	if problem != nil {
		return kid, "", nil, bad
	}
	var e Envelope
	if e.parseProtected(protected) != nil {
		return kid, "", nil, bad
	}
	if external, problem := r.bytes(majorBytes, 0, "external data"); problem != nil || len(external) != 0 {
		return kid, "", nil, bad
	}
	if payload, problem = r.bytes(majorBytes, MaxPayload, "payload"); problem != nil || len(payload) == 0 {
		return kid, "", nil, bad
	}
	if !bytes.Equal(SigStructure(e.KeyID, e.Type, payload), b) {
		return kid, "", nil, bad
	}
	return e.KeyID, e.Type, payload, nil
}

// Bytes gives the envelope as it travels.
func (e *Envelope) Bytes() []byte {
	b := appendPrefix(make([]byte, 0, MaxEnvelope-MaxPayload+len(e.Payload)), e.KeyID, e.Type, len(e.Payload))
	b = append(b, e.Payload...)
	b = appendHead(b, majorBytes, len(e.Signature))
	return append(b, e.Signature...)
}

// ID gives the statement's id.
func (e *Envelope) ID() [32]byte { return StatementID(e.KeyID, e.Type, e.Payload) }

// Verify says whether p is the key that the envelope names, and signed it.
func (e *Envelope) Verify(p *PublicKey) bool {
	return p.id == e.KeyID && p.Verify(SigStructure(e.KeyID, e.Type, e.Payload), e.Signature)
}

// ParseEnvelope reads one envelope and nothing after it. Whatever it takes has
// exactly the bytes that Bytes gives. It does not verify the signature. Its
// errors are of type *FormatError. Nothing in the envelope aliases b.
func ParseEnvelope(b []byte) (*Envelope, error) {
	e, err := ViewEnvelope(b)
	if err != nil {
		return nil, err
	}
	e.Payload = bytes.Clone(e.Payload)
	e.Signature = bytes.Clone(e.Signature)
	return e, nil
}

// ViewEnvelope is ParseEnvelope without copying: payload and signature are
// parts of b, which must not change while they are used.
func ViewEnvelope(b []byte) (*Envelope, error) {
	e, size, problem := parseEnvelope(b)
	if problem != nil {
		return nil, problem
	}
	if size < len(b) {
		return nil, formatError(CodeTrailingBytes, "bytes follow the envelope")
	}
	return e, nil
}

// SplitSequence gives the bytes of each envelope of a CBOR sequence (RFC 8742)
// of 1 to limit envelopes, each as strict as ParseEnvelope. They alias b.
func SplitSequence(b []byte, limit int) ([][]byte, error) {
	var envelopes [][]byte
	for {
		_, size, problem := parseEnvelope(b)
		if problem != nil {
			return nil, problem
		}
		if len(envelopes) == limit {
			return nil, formatError(CodeTooLarge, "the sequence has too many envelopes")
		}
		envelopes = append(envelopes, b[:size:size])
		if b = b[size:]; len(b) == 0 {
			return envelopes, nil
		}
	}
}

func formatError(code, message string) *FormatError {
	return &FormatError{Code: code, Message: message}
}

// appendPrefix writes all that comes before the payload.
func appendPrefix(b []byte, kid ID, typ string, payloadLength int) []byte {
	b = append(b, tagSign1, arrayOf4)
	b = appendProtected(b, kid, typ)
	b = append(b, emptyMap)
	return appendHead(b, majorBytes, payloadLength)
}

// appendProtected writes the protected header, wrapped in a byte string.
func appendProtected(b []byte, kid ID, typ string) []byte {
	size := 1 + 3 + 3 + len(kid) + 1 + headSize(len(typ)) + len(typ)
	b = appendHead(b, majorBytes, size)
	b = append(b, 0xa3)             // a map of 3
	b = append(b, 0x01, 0x38, 0x30) // alg: -49, ML-DSA-65 (RFC 9964)
	b = append(b, 0x04)             // kid
	b = appendHead(b, majorBytes, len(kid))
	b = append(b, kid[:]...)
	b = append(b, 0x10) // typ (RFC 9596)
	b = appendHead(b, majorText, len(typ))
	return append(b, typ...)
}

// isType says whether typ is quorate/[a-z.]+\.v[0-9]+ of at most MaxType bytes.
func isType(typ string) bool {
	const lead = "quorate/"
	if len(typ) > MaxType || len(typ) < len(lead) || typ[:len(lead)] != lead {
		return false
	}
	end := len(typ)
	for end > len(lead) && '0' <= typ[end-1] && typ[end-1] <= '9' {
		end--
	}
	name := typ[len(lead):end]
	if end == len(typ) || len(name) < 3 || name[len(name)-2:] != ".v" {
		return false
	}
	for _, c := range []byte(name) {
		if c != '.' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
