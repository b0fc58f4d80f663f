package canon

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
)

// A shape is what the codec knows of a Go type: found once by reflection and
// remembered, because records pass here by the ten thousand a second.
type shape struct {
	kind   shapeKind
	typ    reflect.Type
	elem   *shape  // of pointers, slices, arrays, maps
	fields []field // of structs, sorted by name
}

type shapeKind uint8

const (
	shapeBool shapeKind = iota
	shapeUint
	shapeInt
	shapeString
	shapeBytes     // a slice of uint8
	shapeByteArray // an array of uint8
	shapeSlice
	shapeArray
	shapeMap
	shapeStruct
	shapePointer
	shapeAny
	shapeRaw
)

// A field is one key of a struct. Fields of embedded structs stand among the
// others, and index is the way to them.
type field struct {
	name      string
	quoted    []byte // `"name":`
	index     []int
	omitEmpty bool
	shape     *shape
}

var rawType = reflect.TypeFor[Raw]()

// shapes maps each type seen to its shape. The map behind the pointer is never
// written again once it is published: whoever adds a type publishes a copy. Two
// that race both find right shapes, and the loser's are found again later.
var shapes atomic.Pointer[map[reflect.Type]*shape]

func shapeOf(t reflect.Type) (*shape, *Error) {
	known := shapes.Load()
	if known != nil {
		if found := (*known)[t]; found != nil {
			return found, nil
		}
	}
	found := map[reflect.Type]*shape{}
	made, problem := analyse(t, found)
	if problem != nil {
		return nil, problem
	}
	if known != nil {
		if len(*known)+len(found) > maxShapes {
			return made, nil
		}
		maps.Copy(found, *known)
	}
	shapes.CompareAndSwap(known, &found)
	return made, nil
}

// analyse gives the shape of t. It enters t into found before it looks inside,
// so that a type may contain itself.
func analyse(t reflect.Type, found map[reflect.Type]*shape) (*shape, *Error) {
	if s := found[t]; s != nil {
		return s, nil
	}
	s := &shape{typ: t}
	found[t] = s
	switch kind := t.Kind(); kind {
	case reflect.Bool:
		s.kind = shapeBool
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.kind = shapeUint
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.kind = shapeInt
	case reflect.String:
		s.kind = shapeString
	case reflect.Slice, reflect.Array, reflect.Map, reflect.Pointer:
		return s, s.analyseElem(found)
	case reflect.Struct:
		s.kind = shapeStruct
		return s, s.analyseStruct(found)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return nil, fail(CodeWrongType, "interface type "+t.String()+" has no canonical form")
		}
		s.kind = shapeAny
	case reflect.Float32, reflect.Float64:
		return nil, fail(CodeFloat, "Go type "+t.String()+" has no canonical form")
	default:
		return nil, fail(CodeWrongType, "Go type "+t.String()+" has no canonical form")
	}
	return s, nil
}

func (s *shape) analyseElem(found map[reflect.Type]*shape) *Error {
	kind, elem := s.typ.Kind(), s.typ.Elem()
	isBytes := elem.Kind() == reflect.Uint8
	switch {
	case s.typ == rawType:
		s.kind = shapeRaw
		return nil
	case kind == reflect.Slice && isBytes:
		s.kind = shapeBytes
		return nil
	case kind == reflect.Array && isBytes:
		s.kind = shapeByteArray
		return nil
	case kind == reflect.Slice:
		s.kind = shapeSlice
	case kind == reflect.Array:
		s.kind = shapeArray
	case kind == reflect.Pointer:
		s.kind = shapePointer
	default:
		if s.typ.Key().Kind() != reflect.String {
			return fail(CodeWrongType, "map key type "+s.typ.Key().String()+" is not a string")
		}
		s.kind = shapeMap
	}
	var problem *Error
	if s.elem, problem = analyse(elem, found); problem != nil {
		return problem
	}
	if s.kind == shapePointer && (s.elem.kind == shapePointer || s.elem.kind == shapeAny) {
		return fail(CodeWrongType, "Go type "+s.typ.String()+" has no canonical form")
	}
	return nil
}

func (s *shape) analyseStruct(found map[reflect.Type]*shape) *Error {
	fields, problem := structFields(s.typ, nil, found)
	if problem != nil {
		return problem
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(fields); i++ {
		if fields[i].name == fields[i-1].name {
			return fail(CodeDuplicateField, s.typ.String()+" has two fields of this name").inKey(fields[i].name)
		}
	}
	s.fields = fields
	return nil
}

func structFields(t reflect.Type, prefix []int, found map[reflect.Type]*shape) ([]field, *Error) {
	var fields []field
	for i := range t.NumField() {
		goField := t.Field(i)
		index := append(slices.Clone(prefix), i)
		tag, tagged := goField.Tag.Lookup("json")
		switch {
		case tag == "-":
		case goField.Anonymous && !tagged && goField.Type.Kind() == reflect.Struct:
			inner, problem := structFields(goField.Type, index, found)
			if problem != nil {
				return nil, problem
			}
			fields = append(fields, inner...)
		case !goField.IsExported() && !goField.Anonymous:
			if tagged {
				return nil, fail(CodeWrongType, fmt.Sprintf("%v: field %s has a json tag but is not exported", t, goField.Name))
			}
		default:
			made, problem := structField(t, goField, index, found)
			if problem != nil {
				return nil, problem
			}
			fields = append(fields, made)
		}
	}
	return fields, nil
}

func structField(t reflect.Type, goField reflect.StructField, index []int, found map[reflect.Type]*shape) (field, *Error) {
	tag := goField.Tag.Get("json")
	name, options, hasOptions := strings.Cut(tag, ",")
	if !goField.IsExported() || name == "" || !isKey(name) || hasOptions && options != "omitempty" {
		return field{}, fail(CodeWrongType, fmt.Sprintf(
			"%v: field %s needs a tag json:\"name\" or json:\"name,omitempty\", not %q", t, goField.Name, tag))
	}
	inner, problem := analyse(goField.Type, found)
	if problem != nil {
		return field{}, problem.inKey(name)
	}
	if hasOptions && inner.typ.Kind() == reflect.Struct {
		return field{}, fail(CodeWrongType, "a struct is never empty: omitempty needs a pointer to it").inKey(name)
	}
	return field{
		name:      name,
		quoted:    []byte(`"` + name + `":`),
		index:     index,
		omitEmpty: hasOptions,
		shape:     inner,
	}, nil
}

// isKey says whether key may be an object's key: printable ASCII that never
// needs an escape, so that sorting the bytes as written is sorting the keys.
func isKey(key string) bool {
	for i := 0; i < len(key); i++ {
		if c := key[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// of gives the value of the field in the struct v.
func (f *field) of(v reflect.Value) reflect.Value {
	for _, i := range f.index {
		v = v.Field(i)
	}
	return v
}

// empty says whether a field of this shape is left out under omitempty.
func (s *shape) empty(v reflect.Value) bool {
	switch s.kind {
	case shapeBytes, shapeSlice, shapeMap, shapeRaw, shapeString:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}
