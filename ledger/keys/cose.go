package keys

import "bytes"

// The little of CBOR (RFC 8949) that an envelope needs.
const (
	majorUint  = 0
	majorNeg   = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6

	tagSign1 = 0xd2 // tag 18
	arrayOf4 = 0x84
	emptyMap = 0xa0

	labelAlg = 1
	labelKid = 4
	labelTyp = 16
	algMLDSA = 48 // -49 is written as -1 - 48
)

// parseEnvelope reads the envelope that b begins with and gives its length. It
// reads loosely, so that it can say what is wrong, then builds the one right
// form of what it read and compares the bytes: that comparison decides.
func parseEnvelope(b []byte) (*Envelope, int, *FormatError) {
	e := &Envelope{}
	r := reader{data: b}
	if problem := r.expect(majorTag, 18, "it has not the tag of COSE_Sign1"); problem != nil {
		return nil, 0, problem
	}
	if problem := r.expect(majorArray, 4, "it is no array of 4"); problem != nil {
		return nil, 0, problem
	}
	protected, problem := r.bytes(majorBytes, MaxEnvelope, "protected header")
	if problem != nil {
		return nil, 0, problem
	}
	if problem := e.parseProtected(protected); problem != nil {
		return nil, 0, problem
	}
	major, length, problem := r.head()
	switch {
	case problem != nil:
		return nil, 0, problem
	case major != majorMap:
		return nil, 0, formatError(CodeNotCOSE, "the unprotected header is no map")
	case length != 0:
		return nil, 0, formatError(CodeUnprotectedHeader, "the unprotected header is not empty")
	}
	if e.Payload, problem = r.bytes(majorBytes, MaxPayload, "payload"); problem != nil {
		return nil, 0, problem
	}
	if len(e.Payload) == 0 {
		return nil, 0, formatError(CodeNotCOSE, "the payload is empty")
	}
	if e.Signature, problem = r.bytes(majorBytes, MaxEnvelope, "signature"); problem != nil {
		return nil, 0, problem
	}
	if len(e.Signature) != SignatureSize {
		return nil, 0, formatError(CodeNotCOSE, "the signature has not the 3309 bytes of ML-DSA-65")
	}
	if !e.isWhole(b[:r.pos]) {
		return nil, 0, formatError(CodeNotCanonical, "the envelope is not in its one canonical form")
	}
	return e, r.pos, nil
}

// isWhole compares b with Bytes, without copying payload and signature, which
// are parts of b: all else is built again, and the lengths must add up.
func (e *Envelope) isWhole(b []byte) bool {
	var buffer [MaxEnvelope - MaxPayload - SignatureSize]byte
	prefix := appendPrefix(buffer[:0], e.KeyID, e.Type, len(e.Payload))
	rest, ok := bytes.CutPrefix(b, prefix)
	if !ok || len(rest) != len(e.Payload)+3+SignatureSize {
		return false
	}
	return bytes.Equal(rest[:len(e.Payload)], e.Payload) &&
		bytes.Equal(rest[len(e.Payload):len(e.Payload)+3], []byte{0x59, SignatureSize >> 8, SignatureSize & 0xff}) &&
		bytes.Equal(rest[len(e.Payload)+3:], e.Signature)
}

func (e *Envelope) parseProtected(protected []byte) *FormatError {
	r := reader{data: protected}
	major, pairs, problem := r.head()
	if problem != nil {
		return problem
	}
	if major != majorMap {
		return formatError(CodeNotCOSE, "the protected header is no map")
	}
	hasAlg, hasKid := false, false
	for i := 0; uint64(i) < pairs; i++ {
		major, label, problem := r.head()
		if problem != nil {
			return problem
		}
		switch {
		case major == majorUint && label == labelAlg && !hasAlg:
			hasAlg = true
			problem = r.algorithm()
		case major == majorUint && label == labelKid && !hasKid:
			hasKid = true
			problem = e.parseKid(&r)
		case major == majorUint && label == labelTyp && e.Type == "":
			problem = e.parseType(&r)
		default:
			return formatError(CodeNotCanonical, "the protected header has other labels than one each of alg, kid and typ")
		}
		if problem != nil {
			return problem
		}
	}
	switch {
	case !hasAlg:
		return formatError(CodeWrongAlg, "the protected header has no alg")
	case !hasKid:
		return formatError(CodeNotCOSE, "the protected header has no kid")
	case e.Type == "":
		return formatError(CodeWrongTyp, "the protected header has no typ")
	case r.pos != len(protected):
		return formatError(CodeNotCOSE, "bytes follow the protected header's map")
	}
	return nil
}

func (r *reader) algorithm() *FormatError {
	if major, value, problem := r.head(); problem != nil {
		return problem
	} else if major != majorNeg || value != algMLDSA {
		return formatError(CodeWrongAlg, "alg is not -49, ML-DSA-65")
	}
	return nil
}

func (e *Envelope) parseKid(r *reader) *FormatError {
	kid, problem := r.bytes(majorBytes, MaxEnvelope, "kid")
	if problem != nil {
		return problem
	}
	if len(kid) != len(e.KeyID) {
		return formatError(CodeNotCOSE, "kid is not a key id of 32 bytes")
	}
	e.KeyID = ID(kid)
	return nil
}

func (e *Envelope) parseType(r *reader) *FormatError {
	if r.pos < len(r.data) && r.data[r.pos]>>5 != majorText {
		return formatError(CodeWrongTyp, "typ is no text")
	}
	typ, problem := r.bytes(majorText, MaxEnvelope, "typ")
	if problem != nil {
		return problem
	}
	if !isType(string(typ)) {
		return formatError(CodeWrongTyp, "typ is not of the form quorate/<type>.v<n>")
	}
	e.Type = string(typ)
	return nil
}

// A reader reads heads and strings of CBOR, in any definite-length form.
type reader struct {
	data []byte
	pos  int
}

// head reads a data item's major type and argument.
func (r *reader) head() (major byte, argument uint64, problem *FormatError) {
	if r.pos >= len(r.data) {
		return 0, 0, cutShort()
	}
	first := r.data[r.pos]
	r.pos++
	major, small := first>>5, first&31
	switch {
	case small < 24:
		return major, uint64(small), nil
	case small == 31 && majorBytes <= major && major <= majorMap:
		return 0, 0, formatError(CodeNotCanonical, "a length is indefinite")
	case small > 27:
		return 0, 0, formatError(CodeNotCOSE, "it is not well-formed CBOR")
	}
	size := 1 << (small - 24)
	if len(r.data)-r.pos < size {
		return 0, 0, cutShort()
	}
	for _, c := range r.data[r.pos : r.pos+size] {
		argument = argument<<8 | uint64(c)
	}
	r.pos += size
	return major, argument, nil
}

func (r *reader) expect(wantMajor byte, want uint64, otherwise string) *FormatError {
	major, argument, problem := r.head()
	if problem == nil && (major != wantMajor || argument != want) {
		return formatError(CodeNotCOSE, otherwise)
	}
	return problem
}

// bytes reads a byte or text string of at most limit bytes, aliasing the data.
func (r *reader) bytes(wantMajor byte, limit uint64, what string) ([]byte, *FormatError) {
	major, length, problem := r.head()
	switch {
	case problem != nil:
		return nil, problem
	case major != wantMajor:
		return nil, formatError(CodeNotCOSE, "the "+what+" has the wrong CBOR type")
	case length > limit:
		return nil, formatError(CodeTooLarge, "the "+what+" is too large")
	case length > uint64(len(r.data)-r.pos):
		return nil, cutShort()
	}
	start := r.pos
	r.pos += int(length)
	return r.data[start:r.pos:r.pos], nil
}

func cutShort() *FormatError {
	return formatError(CodeNotCOSE, "the bytes end too early")
}

// appendHead writes a head with the shortest argument. Lengths here stay below
// 65536.
func appendHead(b []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, major<<5|byte(n))
	case n < 1<<8:
		return append(b, major<<5|24, byte(n))
	case n < 1<<16:
		return append(b, major<<5|25, byte(n>>8), byte(n))
	}
	return append(b, major<<5|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func headSize(n int) int {
	switch {
	case n < 24:
		return 1
	case n < 1<<8:
		return 2
	case n < 1<<16:
		return 3
	}
	return 5
}
