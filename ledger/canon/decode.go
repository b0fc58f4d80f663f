package canon

import (
	"bytes"
	"reflect"
)

// into reads a value of shape s into v, which can be set, inside depth open
// arrays and objects.
func (s *scanner) into(v reflect.Value, plan *shape, depth int) *Error {
	switch plan.kind {
	case shapeBool:
		b, problem := s.boolean()
		v.SetBool(b)
		return problem
	case shapeUint, shapeInt:
		return s.intoInteger(v, plan)
	case shapeString:
		text, problem := s.goString()
		v.SetString(text)
		return problem
	case shapeBytes:
		return s.intoBytes(v)
	case shapeByteArray:
		return s.intoByteArray(v, plan)
	case shapeSlice:
		return s.intoSlice(v, plan, depth)
	case shapeArray:
		return s.intoArray(v, plan, depth)
	case shapeMap:
		return s.intoMap(v, plan, depth)
	case shapeStruct:
		return s.intoStruct(v, plan, depth)
	case shapePointer:
		target := reflect.New(plan.elem.typ)
		v.Set(target)
		return s.into(target.Elem(), plan.elem, depth)
	case shapeRaw:
		start := s.pos
		if problem := s.skip(depth); problem != nil {
			return problem
		}
		raw := s.data[start:s.pos:s.pos]
		if !s.share {
			raw = bytes.Clone(raw)
		}
		v.SetBytes(raw)
		return nil
	default:
		value, problem := s.value(depth)
		if problem == nil {
			v.Set(reflect.ValueOf(value))
		}
		return problem
	}
}

func (s *scanner) intoInteger(v reflect.Value, plan *shape) *Error {
	n, problem := s.integer()
	if problem != nil {
		return problem
	}
	if plan.kind == shapeInt {
		if v.OverflowInt(int64(n)) {
			return fail(CodeNumberRange, "the number is too large for this field")
		}
		v.SetInt(int64(n))
		return nil
	}
	if v.OverflowUint(n) {
		return fail(CodeNumberRange, "the number is too large for this field")
	}
	v.SetUint(n)
	return nil
}

func (s *scanner) goString() (string, *Error) {
	inner, escaped, problem := s.text()
	if problem != nil {
		return "", problem
	}
	if escaped {
		return unescape(inner), nil
	}
	return string(inner), nil
}

func (s *scanner) intoBytes(v reflect.Value) *Error {
	inner, _, problem := s.text()
	if problem != nil {
		return problem
	}
	b := make([]byte, base64url.DecodedLen(len(inner)))
	if _, err := base64url.Decode(b, inner); err != nil {
		return fail(CodeBadBase64, "the string is not canonical base64url without padding")
	}
	v.SetBytes(b)
	return nil
}

func (s *scanner) intoByteArray(v reflect.Value, plan *shape) *Error {
	inner, _, problem := s.text()
	if problem != nil {
		return problem
	}
	if len(inner) != base64url.EncodedLen(plan.typ.Len()) {
		return fail(CodeBadBase64, "the byte string has the wrong length")
	}
	if _, err := base64url.Decode(v.Bytes(), inner); err != nil {
		return fail(CodeBadBase64, "the string is not canonical base64url without padding")
	}
	return nil
}

func (s *scanner) intoSlice(v reflect.Value, plan *shape, depth int) *Error {
	if _, problem := s.open('[', depth); problem != nil {
		return problem
	}
	v.Set(reflect.MakeSlice(plan.typ, 0, 0))
	for count := 0; ; count++ {
		more, problem := s.more(']', count)
		if problem != nil || !more {
			return problem
		}
		v.Grow(1)
		v.SetLen(count + 1)
		if problem := s.into(v.Index(count), plan.elem, depth+1); problem != nil {
			return problem.inIndex(count)
		}
	}
}

func (s *scanner) intoArray(v reflect.Value, plan *shape, depth int) *Error {
	if _, problem := s.open('[', depth); problem != nil {
		return problem
	}
	for count := 0; ; count++ {
		more, problem := s.more(']', count)
		if problem != nil {
			return problem
		}
		if more == (count == plan.typ.Len()) {
			return fail(CodeWrongType, "the array has the wrong length")
		}
		if !more {
			return nil
		}
		if problem := s.into(v.Index(count), plan.elem, depth+1); problem != nil {
			return problem.inIndex(count)
		}
	}
}

func (s *scanner) intoMap(v reflect.Value, plan *shape, depth int) *Error {
	object, problem := s.open('{', depth)
	if problem != nil {
		return problem
	}
	v.Set(reflect.MakeMap(plan.typ))
	var key []byte
	for count := 0; ; count++ {
		more, problem := s.more('}', count)
		if problem != nil || !more {
			return problem
		}
		if key, problem = s.key(object, count, key); problem != nil {
			return problem
		}
		goKey := string(key)
		element := reflect.New(plan.elem.typ).Elem()
		if problem := s.into(element, plan.elem, depth+1); problem != nil {
			return problem.inKey(goKey)
		}
		v.SetMapIndex(reflect.ValueOf(goKey).Convert(plan.typ.Key()), element)
	}
}

// intoStruct walks the object's keys and the struct's fields together: both are
// sorted.
func (s *scanner) intoStruct(v reflect.Value, plan *shape, depth int) *Error {
	object, problem := s.open('{', depth)
	if problem != nil {
		return problem
	}
	var key []byte
	fields := plan.fields
	// A required field that was passed over is absent, or the keys are out of
	// order, which is known only at the object's end.
	missing := ""
	for count := 0; ; count++ {
		more, problem := s.more('}', count)
		if problem != nil {
			return problem
		}
		if !more {
			break
		}
		if key, problem = s.key(object, count, key); problem != nil {
			return problem
		}
		for len(fields) > 0 && fields[0].name < string(key) {
			if missing == "" && !fields[0].omitEmpty {
				missing = fields[0].name
			}
			fields = fields[1:]
		}
		if len(fields) == 0 || fields[0].name != string(key) {
			return fail(CodeUnknownField, "the key is unknown here").inKey(string(key))
		}
		if problem := s.intoField(v, &fields[0], depth); problem != nil {
			return problem.inKey(fields[0].name)
		}
		fields = fields[1:]
	}
	for i := 0; i < len(fields) && missing == ""; i++ {
		if !fields[i].omitEmpty {
			missing = fields[i].name
		}
	}
	if missing != "" {
		return fail(CodeMissingField, "the field is missing").inKey(missing)
	}
	return nil
}

func (s *scanner) intoField(v reflect.Value, f *field, depth int) *Error {
	inner := f.of(v)
	if problem := s.into(inner, f.shape, depth+1); problem != nil {
		return problem
	}
	if f.omitEmpty && f.shape.empty(inner) {
		return fail(CodeNotCanonical, "an empty optional field must be left out")
	}
	return nil
}

// value reads a value without a schema.
func (s *scanner) value(depth int) (any, *Error) {
	switch c := s.peek(); {
	case c == '"':
		return s.goString()
	case c == '{':
		return s.object(depth)
	case c == '[':
		return s.list(depth)
	case c == 't' || c == 'f':
		return s.boolean()
	case '0' <= c && c <= '9':
		return s.integer()
	default:
		return nil, s.unexpected("a value")
	}
}

func (s *scanner) object(depth int) (any, *Error) {
	object, problem := s.open('{', depth)
	if problem != nil {
		return nil, problem
	}
	members := map[string]any{}
	var key []byte
	for count := 0; ; count++ {
		more, problem := s.more('}', count)
		if problem != nil || !more {
			return members, problem
		}
		if key, problem = s.key(object, count, key); problem != nil {
			return nil, problem
		}
		goKey := string(key)
		if members[goKey], problem = s.value(depth + 1); problem != nil {
			return nil, problem.inKey(goKey)
		}
	}
}

func (s *scanner) list(depth int) (any, *Error) {
	if _, problem := s.open('[', depth); problem != nil {
		return nil, problem
	}
	elements := []any{}
	for count := 0; ; count++ {
		more, problem := s.more(']', count)
		if problem != nil || !more {
			return elements, problem
		}
		element, problem := s.value(depth + 1)
		if problem != nil {
			return nil, problem.inIndex(count)
		}
		elements = append(elements, element)
	}
}
