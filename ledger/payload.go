package ledger

import (
	"bytes"
	"encoding/base64"
	"strconv"

	"github.com/quorate/quorate/ledger/canon"
)

// Most payloads are read here, by hand: statements come by the ten thousand a
// second, and the general codec costs several times as much. What is read is
// written again but for the body, whose form canon has checked, and compared:
// that comparison decides, as it does in canon. So nothing is taken that canon
// refuses, and whatever is not taken goes to canon, which says what is wrong.

// payloadText is the base64 of payloads, strict as canon's is.
var payloadText = base64.RawURLEncoding.Strict()

const (
	nonceBytes     = 16
	payloadAround  = 512 // bytes of a payload beside its body, at most, where it is read by hand
	maxPlainNumber = 16  // digits of 2^53-1
)

// readPlain reads a payload of usual form. False says nothing but that canon
// has to read it, and leaves p undefined. The body is a part of data; numbers
// is memory for epoch and seq.
func (p *Payload) readPlain(data []byte, numbers *[2]uint64) bool {
	r := plainReader{rest: data}
	author := r.text(`{"author":"`)
	body := r.value(`,"body":`)
	if r.has(`,"epoch":`) {
		p.Epoch, numbers[0] = &numbers[0], r.number()
	}
	if r.has(`,"expires":`) {
		p.Expires = r.number()
	}
	r.want(`,"generation":`)
	p.Generation = r.number()
	ledger := r.text(`,"ledger":"`)
	var nonce []byte
	if r.has(`,"nonce":`) {
		nonce = r.text(`"`)
	}
	if r.has(`,"seq":`) {
		p.Seq, numbers[1] = &numbers[1], r.number()
	}
	p.Type = knownType(r.text(`,"type":"`))
	r.want(`}`)
	if r.bad || len(r.rest) > 0 || p.Type == "" || len(author) > maxNameBytes ||
		len(ledger) != payloadText.EncodedLen(len(p.Ledger)) || len(nonce) > payloadText.EncodedLen(nonceBytes) {
		return false
	}
	if _, err := payloadText.Decode(p.Ledger[:], ledger); err != nil {
		return false
	}
	if len(nonce) > 0 {
		p.Nonce = make([]byte, payloadText.DecodedLen(len(nonce)))
		if _, err := payloadText.Decode(p.Nonce, nonce); err != nil {
			return false
		}
	}
	p.Author, p.Body = string(author), body
	return p.encodesTo(data)
}

// encodesTo says whether data is the payload, whose body is a canonical value
// and whose texts need no escape.
func (p *Payload) encodesTo(data []byte) bool {
	var around [payloadAround]byte
	out := append(around[:0], `{"author":"`...)
	out = append(out, p.Author...)
	out = append(out, `","body":`...)
	rest, ok := bytes.CutPrefix(data, out)
	if !ok || len(rest) < len(p.Body) || !bytes.Equal(rest[:len(p.Body)], p.Body) {
		return false
	}
	rest = rest[len(p.Body):]
	out = around[:0]
	if p.Epoch != nil {
		out = appendMember(out, `,"epoch":`, *p.Epoch)
	}
	if p.Expires != 0 {
		out = appendMember(out, `,"expires":`, p.Expires)
	}
	out = appendMember(out, `,"generation":`, p.Generation)
	out = append(out, `,"ledger":"`...)
	out = payloadText.AppendEncode(out, p.Ledger[:])
	if len(p.Nonce) > 0 {
		out = append(out, `","nonce":"`...)
		out = payloadText.AppendEncode(out, p.Nonce)
	}
	out = append(out, '"')
	if p.Seq != nil {
		out = appendMember(out, `,"seq":`, *p.Seq)
	}
	out = append(out, `,"type":"`...)
	out = append(out, p.Type...)
	out = append(out, `"}`...)
	return bytes.Equal(rest, out)
}

func appendMember(out []byte, key string, n uint64) []byte {
	return strconv.AppendUint(append(out, key...), n, 10)
}

// knownType gives the type that text names, without copying it, or "".
func knownType(text []byte) string {
	switch string(text) {
	case TypePropose:
		return TypePropose
	case TypeApprove:
		return TypeApprove
	case TypeReject:
		return TypeReject
	case TypeWithdraw:
		return TypeWithdraw
	case TypeVeto:
		return TypeVeto
	case TypeRecord:
		return TypeRecord
	case TypeJoin:
		return TypeJoin
	case TypeReady:
		return TypeReady
	case TypeRecover:
		return TypeRecover
	}
	return ""
}

// isTypOf says whether typ is the protected header's form of a payload's type.
func isTypOf(typ, payloadType string) bool {
	const lead, end = "quorate/", ".v1"
	return len(typ) == len(lead)+len(payloadType)+len(end) &&
		typ[:len(lead)] == lead && typ[len(lead):len(typ)-len(end)] == payloadType && typ[len(typ)-len(end):] == end
}

// A plainReader reads what it is told to expect, and is bad from the first
// thing on that is another.
type plainReader struct {
	rest []byte
	bad  bool
}

// has reads the word if it stands here.
func (r *plainReader) has(word string) bool {
	if len(r.rest) < len(word) || string(r.rest[:len(word)]) != word {
		return false
	}
	r.rest = r.rest[len(word):]
	return true
}

func (r *plainReader) want(word string) {
	if !r.has(word) {
		r.bad = true
	}
}

// text reads the word, which ends in a quote, and the text up to the next one:
// letters, digits and what names and base64url have besides.
func (r *plainReader) text(word string) []byte {
	r.want(word)
	end := 0
	for end < len(r.rest) && plainText[r.rest[end]] {
		end++
	}
	text := r.rest[:end]
	r.rest = r.rest[end:]
	r.want(`"`)
	return text
}

var plainText = func() (table [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") {
		table[c] = true
	}
	return table
}()

// number reads an integer, of any form: the comparison refuses wrong ones.
func (r *plainReader) number() uint64 {
	n, digits := uint64(0), 0
	for digits < len(r.rest) && digits < maxPlainNumber && r.rest[digits]-'0' <= 9 {
		n = n*10 + uint64(r.rest[digits]-'0')
		digits++
	}
	if digits == 0 || n > canon.MaxInt {
		r.bad = true
	}
	r.rest = r.rest[digits:]
	return n
}

// value reads the word and the canonical value after it, which stands in one
// object.
func (r *plainReader) value(word string) []byte {
	r.want(word)
	if r.bad {
		return nil
	}
	length, err := canon.Prefix(r.rest, 1)
	if err != nil {
		r.bad = true
		return nil
	}
	value := r.rest[:length:length]
	r.rest = r.rest[length:]
	return value
}
