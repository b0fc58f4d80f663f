// Package canon is the gate of canonical JSON: the one byte string that may
// stand for a value in a signed payload.
//
// The form is a strict subset of RFC 8785 (JSON Canonicalization Scheme):
//
//   - no white space, nothing after the value;
//   - object keys are printable ASCII without '"' and '\', sorted by byte,
//     none twice;
//   - numbers are integers from 0 to 2^53-1, decimal, without sign, fraction,
//     exponent or leading zero;
//   - strings are valid UTF-8 and escape only '"', '\' and the controls below
//     U+0020, as \b \t \n \f \r where these exist and \u00xx in lower case
//     where not (RFC 8785, section 3.2.2.2);
//   - byte strings are base64url without padding and with zero trailing bits
//     (RFC 4648, section 5);
//   - there is no null: what is absent is left out;
//   - at most 32 arrays and objects are open at once.
//
// A payload is stored and verified verbatim. Unmarshal accepts it only if
// encoding the decoded value again gives the same bytes, so one value has one
// encoding, and what was signed is what is read.
//
// # Go values
//
// Structs take `json:"name"` and `json:"name,omitempty"` tags; every exported
// field needs one ("-" leaves it out). A field without omitempty must be
// present. A field with omitempty is left out when it is false, 0, "", nil, or
// of length 0, and also when it is an array of zeros; its zero value written
// out is refused. Embedded structs without a tag are flattened. Slices and
// arrays whose elements are of kind uint8 are byte strings, maps need string
// keys, and named types behave as their kind: no method of theirs is called.
// Nil slices and maps without omitempty are [] and {}.
package canon

import (
	"bytes"
	"reflect"
)

// Raw is one canonical JSON value kept verbatim. As the type of a field it
// takes whatever canonical value stands there; what is marshalled from it is
// checked first.
type Raw []byte

// Marshal gives the canonical JSON of v. Its errors are of type *Error, with
// the path of what has no canonical form: floats, negative or too large
// integers, nil pointers without omitempty, invalid UTF-8, keys that are not
// printable ASCII, Raw that is not canonical, cycles.
func Marshal(v any) ([]byte, error) {
	return Append(make([]byte, 0, 512), v)
}

// Append is Marshal into dst, which it extends and returns. On an error it
// returns dst's first len(dst) bytes, unchanged.
func Append(dst []byte, v any) ([]byte, error) {
	value := reflect.ValueOf(v)
	if !value.IsValid() {
		return dst, fail(CodeNull, "nil has no canonical form")
	}
	plan, problem := shapeOf(value.Type())
	if problem != nil {
		return dst, problem
	}
	out, problem := encoder{}.append(dst, value, plan, 0)
	if problem != nil {
		return dst, problem
	}
	return out, nil
}

// Unmarshal reads the canonical JSON value data into what v points to, and
// accepts it only if that value encodes to data again. Its errors are of type
// *Error, with the path of the first thing that is wrong. What v points to is
// overwritten, and zero after an error. Nothing in it aliases data.
func Unmarshal(data []byte, v any) error { return read(scanner{data: data}, v) }

// UnmarshalShared is Unmarshal whose Raw values are parts of data, which must
// not change from then on.
func UnmarshalShared(data []byte, v any) error { return read(scanner{data: data, share: true}, v) }

func read(s scanner, v any) error {
	pointer := reflect.ValueOf(v)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		return fail(CodeWrongType, "Unmarshal needs a pointer that is not nil")
	}
	target := pointer.Elem()
	plan, problem := shapeOf(target.Type())
	if problem != nil {
		return problem
	}
	target.SetZero()
	if problem := s.unmarshal(target, plan); problem != nil {
		target.SetZero()
		return problem
	}
	return nil
}

func (s *scanner) unmarshal(target reflect.Value, plan *shape) *Error {
	if problem := s.into(target, plan, 0); problem != nil {
		return problem
	}
	if problem := s.end(); problem != nil {
		return problem
	}
	// The scanner refuses every form that is not canonical, with its path. The
	// comparison is the definition, and stays, so that a mistake in the scanner
	// cannot let two encodings of one value in.
	again, problem := encoder{rawChecked: true}.append(make([]byte, 0, len(s.data)), target, plan, 0)
	if problem != nil {
		return problem
	}
	same := bytes.Equal(again, s.data)
	clear(again) // what was read may be secret, and nobody else can wipe this copy
	if !same {
		return fail(CodeNotCanonical, "encoding the value again gives other bytes")
	}
	return nil
}

// Valid says whether data is one canonical JSON value, of any shape. Its
// errors are of type *Error.
func Valid(data []byte) error {
	s := scanner{data: data}
	if problem := s.skip(0); problem != nil {
		return problem
	}
	if problem := s.end(); problem != nil {
		return problem
	}
	return nil
}

// Prefix gives the length of the canonical JSON value that data begins with, of
// any shape, with depth arrays and objects open around it. What follows it is
// not looked at. Its errors are of type *Error.
func Prefix(data []byte, depth int) (int, error) {
	s := scanner{data: data}
	if problem := s.skip(depth); problem != nil {
		return 0, problem
	}
	return s.pos, nil
}

// Decode reads one canonical JSON value of any shape. It gives
// map[string]any, []any, string, bool or uint64; byte strings are strings,
// because nothing but a schema tells them apart. Its errors are of type
// *Error.
func Decode(data []byte) (any, error) {
	var value any
	if err := Unmarshal(data, &value); err != nil {
		return nil, err
	}
	return value, nil
}
