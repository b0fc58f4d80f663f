package canon

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// base64url is the one text form of bytes: strict, so that the unused bits of
// the last character must be zero and no two texts mean the same bytes.
var base64url = base64.RawURLEncoding.Strict()

// An encoder appends canonical JSON. rawChecked says that Raw values come out
// of the scanner and need no second check.
type encoder struct{ rawChecked bool }

// append writes v, of shape s, inside depth open arrays and objects.
func (e encoder) append(dst []byte, v reflect.Value, s *shape, depth int) ([]byte, *Error) {
	switch s.kind {
	case shapeBool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case shapeUint:
		return appendUint(dst, v.Uint())
	case shapeInt:
		if v.Int() < 0 {
			return dst, fail(CodeNumberRange, "the number is negative")
		}
		return appendUint(dst, uint64(v.Int()))
	case shapeString:
		return appendString(dst, v.String())
	case shapeBytes:
		return appendBytes(dst, v.Bytes()), nil
	case shapeByteArray:
		return appendBytes(dst, arrayBytes(v)), nil
	case shapeSlice, shapeArray:
		return e.appendList(dst, v, s, depth)
	case shapeMap:
		return e.appendMap(dst, v, s, depth)
	case shapeStruct:
		return e.appendStruct(dst, v, s, depth)
	case shapePointer:
		if v.IsNil() {
			return dst, fail(CodeNull, "nil has no canonical form")
		}
		return e.append(dst, v.Elem(), s.elem, depth)
	case shapeRaw:
		return e.appendRaw(dst, v.Bytes(), depth)
	default:
		return e.appendAny(dst, v, depth)
	}
}

func (e encoder) appendStruct(dst []byte, v reflect.Value, s *shape, depth int) ([]byte, *Error) {
	if depth >= MaxDepth {
		return dst, tooDeep()
	}
	dst = append(dst, '{')
	first := true
	for i := range s.fields {
		f := &s.fields[i]
		inner := f.of(v)
		if f.omitEmpty && f.shape.empty(inner) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, f.quoted...)
		var problem *Error
		if dst, problem = e.append(dst, inner, f.shape, depth+1); problem != nil {
			return dst, problem.inKey(f.name)
		}
	}
	return append(dst, '}'), nil
}

func (e encoder) appendList(dst []byte, v reflect.Value, s *shape, depth int) ([]byte, *Error) {
	if depth >= MaxDepth {
		return dst, tooDeep()
	}
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var problem *Error
		if dst, problem = e.append(dst, v.Index(i), s.elem, depth+1); problem != nil {
			return dst, problem.inIndex(i)
		}
	}
	return append(dst, ']'), nil
}

func (e encoder) appendMap(dst []byte, v reflect.Value, s *shape, depth int) ([]byte, *Error) {
	if depth >= MaxDepth {
		return dst, tooDeep()
	}
	type member struct {
		key   string
		value reflect.Value
	}
	members := make([]member, 0, v.Len())
	for rows := v.MapRange(); rows.Next(); {
		members = append(members, member{rows.Key().String(), rows.Value()})
	}
	slices.SortFunc(members, func(a, b member) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	dst = append(dst, '{')
	for i, m := range members {
		if !isKey(m.key) {
			return dst, badKey().inKey(m.key)
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, m.key...)
		dst = append(dst, '"', ':')
		var problem *Error
		if dst, problem = e.append(dst, m.value, s.elem, depth+1); problem != nil {
			return dst, problem.inKey(m.key)
		}
	}
	return append(dst, '}'), nil
}

func (e encoder) appendRaw(dst, raw []byte, depth int) ([]byte, *Error) {
	if !e.rawChecked {
		s := scanner{data: raw}
		if problem := s.skip(depth); problem != nil {
			return dst, problem
		}
		if problem := s.end(); problem != nil {
			return dst, problem
		}
	}
	return append(dst, raw...), nil
}

func (e encoder) appendAny(dst []byte, v reflect.Value, depth int) ([]byte, *Error) {
	if v.IsNil() {
		return dst, fail(CodeNull, "nil has no canonical form")
	}
	inner := v.Elem()
	s, problem := shapeOf(inner.Type())
	if problem != nil {
		return dst, problem
	}
	return e.append(dst, inner, s, depth)
}

func appendUint(dst []byte, n uint64) ([]byte, *Error) {
	if n > MaxInt {
		return dst, fail(CodeNumberRange, "the number is above 9007199254740991")
	}
	return strconv.AppendUint(dst, n, 10), nil
}

func appendBytes(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64url.AppendEncode(dst, b)
	return append(dst, '"')
}

// arrayBytes gives the bytes of an array: in place where the array can be
// addressed, and else (in a map, or passed by value) as a copy.
func arrayBytes(v reflect.Value) []byte {
	if v.CanAddr() {
		return v.Bytes()
	}
	array := reflect.New(v.Type()).Elem()
	array.Set(v)
	return array.Bytes()
}

const hexDigits = "0123456789abcdef"

func appendString(dst []byte, text string) ([]byte, *Error) {
	dst = append(dst, '"')
	dst = append(dst, text...)
	start := plainLength(dst[len(dst)-len(text):])
	dst = dst[:len(dst)-len(text)+start]
	for i := start; i < len(text); {
		c := text[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && size == 1 {
				return dst, fail(CodeBadString, "the string is not valid UTF-8")
			}
			i += size
			continue
		}
		dst = append(dst, text[start:i]...)
		if short := shortEscape[c]; short != 0 {
			dst = append(dst, '\\', short)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"'), nil
}

// plainLength says how many bytes text begins with that stand for themselves in
// a string. It looks at eight at a time: most strings are long and plain.
func plainLength(text []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(text)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(text[n:])
		quote, backslash := w^ones*'"', w^ones*'\\'
		// A byte's high bit is set if it is above 0x7f, below 0x20, a quote or a
		// backslash; a borrow can set wrong ones, but only behind a right one.
		odd := (w | (w-ones*0x20)&^w | (quote-ones)&^quote | (backslash-ones)&^backslash) & highs
		if odd != 0 {
			return n + bits.TrailingZeros64(odd)/8
		}
	}
	for n < len(text) && plain[text[n]] {
		n++
	}
	return n
}

// plain marks the ASCII bytes that stand for themselves in a string.
var plain = func() (table [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

// shortEscape gives the letter after the backslash, for the characters that
// have a short escape (RFC 8785, section 3.2.2.2).
var shortEscape = [utf8.RuneSelf]byte{
	'"': '"', '\\': '\\', '\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r',
}

func tooDeep() *Error {
	return fail(CodeTooDeep, "more than 32 arrays and objects are nested")
}

func badKey() *Error {
	return fail(CodeBadString, "the key is not printable ASCII without quote and backslash")
}
