package canon

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// A scanner reads canonical JSON strictly: it refuses whatever is not
// canonical at the place where it stands. pos never passes len(data).
type scanner struct {
	data  []byte
	pos   int
	share bool // Raw values are parts of data
}

// peek gives the next byte, or 0 at the end: no token begins with 0.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// end refuses anything after the value.
func (s *scanner) end() *Error {
	if s.pos < len(s.data) {
		return fail(CodeTrailingBytes, "bytes follow the value")
	}
	return nil
}

// skip reads a value of any shape and keeps nothing of it.
func (s *scanner) skip(depth int) *Error {
	switch c := s.peek(); {
	case c == '"':
		_, _, problem := s.text()
		return problem
	case c == '{':
		return s.skipObject(depth)
	case c == '[':
		return s.skipList(depth)
	case c == 't' || c == 'f':
		_, problem := s.boolean()
		return problem
	case '0' <= c && c <= '9':
		_, problem := s.integer()
		return problem
	default:
		return s.unexpected("a value")
	}
}

func (s *scanner) skipObject(depth int) *Error {
	object, problem := s.open('{', depth)
	if problem != nil {
		return problem
	}
	var key []byte
	for count := 0; ; count++ {
		more, problem := s.more('}', count)
		if problem != nil || !more {
			return problem
		}
		if key, problem = s.key(object, count, key); problem != nil {
			return problem
		}
		if problem := s.skip(depth + 1); problem != nil {
			return problem.inKey(string(key))
		}
	}
}

func (s *scanner) skipList(depth int) *Error {
	if _, problem := s.open('[', depth); problem != nil {
		return problem
	}
	for count := 0; ; count++ {
		more, problem := s.more(']', count)
		if problem != nil || !more {
			return problem
		}
		if problem := s.skip(depth + 1); problem != nil {
			return problem.inIndex(count)
		}
	}
}

// open reads the bracket that begins an array or object, inside depth others,
// and gives the position behind it.
func (s *scanner) open(bracket byte, depth int) (int, *Error) {
	if s.peek() != bracket {
		if bracket == '{' {
			return 0, s.unexpected("an object")
		}
		return 0, s.unexpected("an array")
	}
	if depth >= MaxDepth {
		return 0, tooDeep()
	}
	s.pos++
	return s.pos, nil
}

// more says whether another member or element follows the count that were
// read, and reads the comma before it, or else the closing bracket.
func (s *scanner) more(bracket byte, count int) (bool, *Error) {
	c := s.peek()
	if c == bracket {
		s.pos++
		return false, nil
	}
	if count == 0 {
		return true, nil
	}
	if c == ',' {
		s.pos++
		return true, nil
	}
	if isSpace(c) {
		return false, whiteSpace()
	}
	return false, fail(CodeNotJSON, "a comma or closing bracket is missing")
}

// key reads a member's key and colon. object is where the object's members
// begin, count how many were read before, previous the last one's key. The key
// that it gives aliases the data.
func (s *scanner) key(object, count int, previous []byte) ([]byte, *Error) {
	if s.peek() != '"' {
		c := s.peek()
		if isSpace(c) {
			return nil, whiteSpace()
		}
		return nil, fail(CodeNotJSON, "a key is missing")
	}
	start := s.pos
	key, escaped, problem := s.text()
	if problem != nil {
		return nil, problem
	}
	if escaped {
		return nil, fail(CodeNotCanonical, "a key is written with an escape")
	}
	if !isKey(string(key)) {
		return nil, badKey().inKey(string(key))
	}
	if count > 0 && bytes.Compare(previous, key) >= 0 {
		return nil, s.disorder(object, start, key).inKey(string(key))
	}
	if s.peek() != ':' {
		if isSpace(s.peek()) {
			return nil, whiteSpace()
		}
		return nil, fail(CodeNotJSON, "a colon is missing").inKey(string(key))
	}
	s.pos++
	return key, nil
}

// disorder tells a key that stands twice from one that is merely out of order,
// by reading the members between object and end again. Every one was read
// before, so that this happens once per refused value.
func (s *scanner) disorder(object, end int, key []byte) *Error {
	again := scanner{data: s.data[:end], pos: object}
	for again.pos < end {
		earlier, _, _ := again.text()
		if bytes.Equal(earlier, key) {
			return fail(CodeDuplicateField, "the key stands twice")
		}
		again.pos++ // the colon
		if again.skip(0) != nil {
			break
		}
		again.pos++ // the comma
	}
	return fail(CodeNotCanonical, "the keys are not sorted")
}

func (s *scanner) boolean() (bool, *Error) {
	rest := s.data[s.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("true")):
		s.pos += len("true")
		return true, nil
	case bytes.HasPrefix(rest, []byte("false")):
		s.pos += len("false")
		return false, nil
	}
	return false, s.unexpected("true or false")
}

// integer reads an integer from 0 to MaxInt.
func (s *scanner) integer() (uint64, *Error) {
	c := s.peek()
	if c < '0' || c > '9' {
		return 0, s.unexpected("an integer")
	}
	start, n := s.pos, uint64(0)
	for s.pos < len(s.data) {
		digit := s.data[s.pos] - '0'
		if digit > 9 {
			break
		}
		if n > MaxInt { // ten times this still fits 64 bits
			s.pos = start
			return 0, s.number()
		}
		n = n*10 + uint64(digit)
		s.pos++
	}
	if next := s.peek(); n > MaxInt || next == '.' || next == 'e' || next == 'E' || c == '0' && s.pos > start+1 {
		s.pos = start
		return 0, s.number()
	}
	return n, nil
}

// number says what is wrong with the number that begins here, or nil.
func (s *scanner) number() *Error {
	end := s.pos
	for end < len(s.data) && bytes.IndexByte([]byte("+-.0123456789eE"), s.data[end]) >= 0 {
		end++
	}
	token := s.data[s.pos:end]
	digits := bytes.TrimPrefix(token, []byte("-"))
	switch {
	case len(digits) == 0:
		return fail(CodeNotJSON, "a number has no digits")
	case bytes.ContainsAny(digits, ".eE"):
		return fail(CodeFloat, "the number has a fraction or an exponent")
	case bytes.ContainsAny(digits, "+-"):
		return fail(CodeNotJSON, "a sign stands inside a number")
	case len(digits) < len(token):
		return fail(CodeNumberRange, "the number is negative")
	case digits[0] == '0' && len(digits) > 1:
		return fail(CodeNotCanonical, "the number has a leading zero")
	case len(digits) > 16 || len(digits) == 16 && string(digits) > "9007199254740991":
		return fail(CodeNumberRange, "the number is above 9007199254740991")
	}
	return nil
}

// text reads a string and gives what stands between its quotes, aliasing the
// data, and whether that has escapes, every one of which is canonical.
func (s *scanner) text() (inner []byte, escaped bool, problem *Error) {
	if s.peek() != '"' {
		return nil, false, s.unexpected("a string")
	}
	data, start := s.data, s.pos+1
	for i := start; i < len(data); {
		c := data[i]
		switch {
		case plain[c]:
			i += plainLength(data[i:])
		case c == '"':
			s.pos = i + 1
			return data[start:i], escaped, nil
		case c == '\\':
			size, problem := escape(data[i:])
			if problem != nil {
				return nil, false, problem
			}
			escaped = true
			i += size
		case c < 0x20:
			return nil, false, fail(CodeBadString, "the string has a control character that is not escaped")
		default:
			r, size := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && size == 1 {
				return nil, false, fail(CodeBadString, "the string is not valid UTF-8")
			}
			i += size
		}
	}
	return nil, false, fail(CodeNotJSON, "the string has no end")
}

// escape checks the escape that data begins with and gives its length.
func escape(data []byte) (int, *Error) {
	if len(data) < 2 {
		return 0, fail(CodeNotJSON, "the string has no end")
	}
	switch data[1] {
	case '"', '\\', 'b', 't', 'n', 'f', 'r':
		return 2, nil
	case '/':
		return 0, fail(CodeNotCanonical, "the string has an escape that it does not need")
	case 'u':
	default:
		return 0, fail(CodeBadString, "the string has a malformed escape")
	}
	r, ok := hex4(data)
	if !ok {
		return 0, fail(CodeBadString, "the string has a malformed escape")
	}
	if utf16.IsSurrogate(r) {
		if low, ok := hex4(data[6:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			return 0, fail(CodeNotCanonical, "the string has an escape that it does not need")
		}
		return 0, fail(CodeBadString, "the string has a lone surrogate")
	}
	switch {
	case r >= 0x20:
		return 0, fail(CodeNotCanonical, "the string has an escape that it does not need")
	case shortEscape[r] != 0:
		return 0, fail(CodeNotCanonical, "the string has a \\u escape where a short one exists")
	case data[5] != hexDigits[r&15]:
		return 0, fail(CodeNotCanonical, "the string has an escape in upper case")
	}
	return 6, nil
}

// hex4 reads the code unit of the escape \uXXXX that data begins with.
func hex4(data []byte) (rune, bool) {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range data[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape gives the text of a string's inside whose escapes text checked.
func unescape(inner []byte) string {
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		if inner[i] != '\\' {
			out = append(out, inner[i])
			continue
		}
		i++
		switch c := inner[i]; c {
		case 'b':
			out = append(out, '\b')
		case 't':
			out = append(out, '\t')
		case 'n':
			out = append(out, '\n')
		case 'f':
			out = append(out, '\f')
		case 'r':
			out = append(out, '\r')
		case 'u':
			r, _ := hex4(inner[i-1:])
			out = append(out, byte(r))
			i += 4
		default: // the quote and the backslash
			out = append(out, c)
		}
	}
	return string(out)
}

// unexpected says why what stands here is not what is wanted.
func (s *scanner) unexpected(want string) *Error {
	rest := s.data[s.pos:]
	if len(rest) == 0 {
		return fail(CodeNotJSON, "the data ends where "+want+" should be")
	}
	switch c := rest[0]; {
	case isSpace(c):
		return whiteSpace()
	case bytes.HasPrefix(rest, []byte("null")):
		return fail(CodeNull, "null stands where "+want+" should be")
	case c == '-' || '0' <= c && c <= '9':
		if problem := s.number(); problem != nil {
			return problem
		}
		return fail(CodeWrongType, "a number stands where "+want+" should be")
	case c == '"':
		return fail(CodeWrongType, "a string stands where "+want+" should be")
	case c == '{':
		return fail(CodeWrongType, "an object stands where "+want+" should be")
	case c == '[':
		return fail(CodeWrongType, "an array stands where "+want+" should be")
	case bytes.HasPrefix(rest, []byte("true")) || bytes.HasPrefix(rest, []byte("false")):
		return fail(CodeWrongType, "a boolean stands where "+want+" should be")
	}
	return fail(CodeNotJSON, "no JSON stands where "+want+" should be")
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r'
}

func whiteSpace() *Error {
	return fail(CodeNotCanonical, "white space stands between the tokens")
}
