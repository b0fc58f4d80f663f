package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/quorate/quorate/ledger/keys"
)

// A transparent statement in the manner of SCITT (RFC 9943): the COSE_Sign1
// statement of an entry, verbatim but for its unprotected header, which then
// holds one COSE Receipt (RFC 9942, label 394). The receipt is a replica's
// COSE_Sign1 with a detached payload, the tree's root, and the entry's RFC 9162
// inclusion proof (label 396, key -1). It shows what one replica states; the
// .tlog-proof of the same entry shows what a threshold certified.

const (
	labelReceipts = 394
	labelVDS      = 395
	labelVDP      = 396
	vdsRFC9162    = 1
)

// Receipt is a replica's signed statement that an entry is in the tree.
type Receipt struct {
	KeyID     Hash // of the replica's ML-DSA-65 key
	Size      uint64
	Seq       uint64
	Proof     []Hash // leaf to root
	Signature []byte // ML-DSA-65 over the Sig_structure whose payload is the root
}

// receiptProtected is the canonical map {1: -49, 4: kid, 395: 1}.
func receiptProtected(kid Hash) []byte {
	b := []byte{0xa3, 0x01, 0x38, 0x30, 0x04}
	b = appendBytes(b, kid[:])
	b = appendHead(b, 0, labelVDS)
	return appendHead(b, 0, vdsRFC9162)
}

// receiptMessage is the Sig_structure (RFC 9052 section 4.4).
func receiptMessage(kid, root Hash) []byte {
	b := append([]byte{0x84, 0x6a}, "Signature1"...)
	b = appendBytes(b, receiptProtected(kid))
	b = appendBytes(b, nil)
	return appendBytes(b, root[:])
}

// SignReceipt makes the receipt of entry seq in the tree of the given size and
// root. The caller signs only for certified heads.
func SignReceipt(k *keys.PrivateKey, seq, size uint64, root Hash, proof []Hash) Receipt {
	kid := Hash(k.ID())
	return Receipt{KeyID: kid, Size: size, Seq: seq, Proof: proof, Signature: k.Sign(receiptMessage(kid, root))}
}

// Encode returns the receipt as a COSE_Sign1 with a detached payload.
func (r Receipt) Encode() []byte {
	proof := appendHead([]byte{0x83}, 0, r.Size)
	proof = appendHead(proof, 0, r.Seq)
	proof = appendHead(proof, 4, uint64(len(r.Proof)))
	for _, h := range r.Proof {
		proof = appendBytes(proof, h[:])
	}
	b := appendBytes([]byte{0xd2, 0x84}, receiptProtected(r.KeyID))
	b = appendHead(append(b, 0xa1), 0, labelVDP) // {396: {-1: [proof]}}
	b = append(b, 0xa1, 0x20, 0x81)
	b = appendBytes(b, proof)
	return appendBytes(append(b, 0xf6), r.Signature)
}

// TransparentStatement joins a statement's envelope and a receipt of its entry.
func TransparentStatement(envelope []byte, r Receipt) ([]byte, error) {
	env, err := keys.ParseEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	head, tail, err := cutUnprotected(env)
	if err != nil {
		return nil, err
	}
	b := appendHead(append(bytes.Clone(head), 0xa1), 0, labelReceipts)
	b = appendBytes(append(b, 0x81), r.Encode())
	return append(b, tail...), nil
}

// cutUnprotected splits an envelope around its empty unprotected header.
func cutUnprotected(env *keys.Envelope) (head, tail []byte, err error) {
	raw := env.Bytes()
	d := cborReader{rest: raw[2:]}
	d.bytes()
	if d.err != nil || len(d.rest) == 0 || d.rest[0] != 0xa0 {
		return nil, nil, errors.New("cut statement: not a COSE_Sign1 with an empty unprotected header")
	}
	at := len(raw) - len(d.rest)
	return raw[:at], raw[at+1:], nil
}

// ParseTransparentStatement reads what TransparentStatement makes, and gives
// the statement's envelope and the receipt; nothing is verified yet.
func ParseTransparentStatement(b []byte) (envelope []byte, r Receipt, err error) {
	fail := func(what string) ([]byte, Receipt, error) {
		return nil, Receipt{}, fmt.Errorf("parse transparent statement: %s", what)
	}
	if len(b) > MaxEnvelopeBytes+8192 || len(b) < 2 || b[0] != 0xd2 || b[1] != 0x84 {
		return fail("not a tagged COSE_Sign1 of the allowed size")
	}
	d := cborReader{rest: b[2:]}
	d.bytes()
	at := len(b) - len(d.rest)
	if n := d.head(5); n != 1 && d.err == nil {
		return fail("want one unprotected header")
	}
	if label := d.head(0); label != labelReceipts && d.err == nil {
		return fail("want receipts, label 394")
	}
	if n := d.head(4); n != 1 && d.err == nil {
		return fail("want one receipt")
	}
	raw := d.bytes()
	if d.err != nil {
		return fail(d.err.Error())
	}
	envelope = append(append(bytes.Clone(b[:at]), 0xa0), d.rest...)
	if _, err := keys.ParseEnvelope(envelope); err != nil {
		return fail(err.Error())
	}
	if r, err = parseReceipt(raw); err != nil {
		return fail(err.Error())
	}
	return envelope, r, nil
}

// ParseReceipt reads what Receipt.Encode gives, and nothing else.
func ParseReceipt(b []byte) (Receipt, error) {
	r, err := parseReceipt(b)
	if err != nil {
		return Receipt{}, fmt.Errorf("parse receipt: %w", err)
	}
	return r, nil
}

func parseReceipt(b []byte) (Receipt, error) {
	var r Receipt
	d := cborReader{rest: b}
	d.exact(0xd2, 0x84)
	protected := d.bytes()
	d.exact(0xa1)
	if label := d.head(0); label != labelVDP && d.err == nil {
		return r, errors.New("the receipt has no proofs, label 396")
	}
	d.exact(0xa1, 0x20, 0x81)
	p := cborReader{rest: d.bytes()}
	d.exact(0xf6)
	r.Signature = d.bytes()
	if err := d.end(); err != nil {
		return r, err
	}
	p.exact(0x83)
	r.Size, r.Seq = p.head(0), p.head(0)
	n := p.head(4)
	if n > MaxInclusionHashes {
		return r, errors.New("the inclusion proof is too long")
	}
	for range n {
		h := p.bytes()
		if len(h) != len(Hash{}) {
			return r, errors.New("the inclusion proof has a hash that is not 32 bytes")
		}
		r.Proof = append(r.Proof, Hash(h))
	}
	if err := p.end(); err != nil {
		return r, err
	}
	if len(protected) < 7+len(r.KeyID) || len(r.Signature) != keys.SignatureSize {
		return r, errors.New("protected header or signature of another length")
	}
	copy(r.KeyID[:], protected[7:])
	if !bytes.Equal(protected, receiptProtected(r.KeyID)) {
		return r, errors.New("protected header is not {1: -49, 4: key id, 395: 1}")
	}
	return r, nil
}

// exact reads these very bytes.
func (d *cborReader) exact(want ...byte) {
	if d.err != nil {
		return
	}
	if !bytes.HasPrefix(d.rest, want) {
		d.err = errCBORType
		return
	}
	d.rest = d.rest[len(want):]
}

// Verify checks that the receipt is by the replica with this key and shows the
// entry to be in a tree of the given root. The signature binds the root, not the
// size (RFC 9942): some paths fit trees of several sizes, so Size is no more
// than a hint. The seq is the entry's own.
func (r Receipt) Verify(public *keys.PublicKey, entry []byte, root Hash) error {
	e, err := ParseEntry(entry)
	if err != nil {
		return fmt.Errorf("verify receipt: %w", err)
	}
	if e.Seq != r.Seq {
		return fmt.Errorf("verify receipt: it is of entry %d, this is %d", r.Seq, e.Seq)
	}
	if Hash(public.ID()) != r.KeyID {
		return fmt.Errorf("verify receipt: it is by key %s", r.KeyID)
	}
	if err := VerifyInclusion(r.Proof, r.Seq, r.Size, LeafHash(entry), root); err != nil {
		return fmt.Errorf("verify receipt: %w", err)
	}
	if !public.Verify(receiptMessage(r.KeyID, root), r.Signature) {
		return errors.New("verify receipt: the signature does not verify")
	}
	return nil
}
