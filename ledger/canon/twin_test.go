package canon

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// twin is the gate written naively, over encoding/json: decode, encode again
// by the simplest code there is, compare.
func twin(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var loose any
	if err := decoder.Decode(&loose); err != nil {
		return nil, err
	}
	value, err := twinValue(loose, 0)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(twinEncode(nil, value), data) {
		return nil, errors.New("other bytes")
	}
	return value, nil
}

func twinValue(loose any, depth int) (any, error) {
	switch v := loose.(type) {
	case nil:
		return nil, errors.New("null")
	case json.Number:
		n, err := strconv.ParseUint(v.String(), 10, 53)
		return n, err
	case []any:
		if depth == 32 {
			return nil, errors.New("too deep")
		}
		list := []any{}
		for _, element := range v {
			value, err := twinValue(element, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case map[string]any:
		if depth == 32 {
			return nil, errors.New("too deep")
		}
		object := map[string]any{}
		for key, element := range v {
			for _, r := range key {
				if r < ' ' || r > '~' || r == '"' || r == '\\' {
					return nil, errors.New("key")
				}
			}
			value, err := twinValue(element, depth+1)
			if err != nil {
				return nil, err
			}
			object[key] = value
		}
		return object, nil
	}
	return loose, nil
}

func twinEncode(b []byte, value any) []byte {
	switch v := value.(type) {
	case []any:
		b = append(b, '[')
		for i, element := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = twinEncode(b, element)
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(twinEncode(b, key), ':')
			b = twinEncode(b, v[key])
		}
		return append(b, '}')
	case string:
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(v); err != nil {
			panic(err)
		}
		// encoding/json escapes two characters more than RFC 8785 does; a
		// backslash that belongs to the text is doubled, so that pairs are taken
		// first.
		text := strings.NewReplacer(`\\`, `\\`, `\u2028`, "\u2028", `\u2029`, "\u2029").Replace(strings.TrimSuffix(out.String(), "\n"))
		return append(b, text...)
	default:
		plain, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return append(b, plain...)
	}
}

// agree holds the gate against the twin on the same bytes: both accept and give
// the same value, or both refuse.
func agree(t interface{ Fatalf(string, ...any) }, data []byte) {
	want, twinErr := twin(data)
	got, err := Decode(data)
	if (err == nil) != (twinErr == nil) {
		t.Fatalf("%q: Decode says %v, the twin %v", data, err, twinErr)
	}
	if validErr := Valid(data); (validErr == nil) != (err == nil) {
		t.Fatalf("%q: Decode says %v, Valid %v", data, err, validErr)
	} else if err != nil && err.Error() != validErr.Error() {
		t.Fatalf("%q: Decode says %v, Valid %v", data, err, validErr)
	}
	if err != nil {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: Decode gives %#v, the twin %#v", data, got, want)
	}
	if again, err := Marshal(got); err != nil || !bytes.Equal(again, data) {
		t.Fatalf("%q encodes again to %q, %v", data, again, err)
	}
}

// anyValue draws values without a schema, at most depth deep.
func anyValue(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just[any](true), rapid.Just[any](false),
		rapid.Uint64Max(MaxInt).AsAny(),
		rapid.SampledFrom([]uint64{0, 1, 9, 10, MaxInt}).AsAny(),
		rapid.String().AsAny(),
		rapid.StringOfN(rapid.RuneFrom([]rune("\x00\x07\b\t\n\f\r\x1f \"\\/a\x7f\u00e9\u2028\u2029\ufeff\ufffd\U0001f600")), 0, 6, -1).AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(leaves...)
	}
	key := rapid.StringMatching(`[ !#-\[\]-~]{0,3}`)
	return rapid.OneOf(append(leaves,
		rapid.Custom(func(t *rapid.T) any { return rapid.SliceOfN(anyValue(depth-1), 0, 4).Draw(t, "list") }),
		rapid.Custom(func(t *rapid.T) any { return rapid.MapOfN(key, anyValue(depth-1), 0, 4).Draw(t, "object") }),
	)...)
}

func TestValuesAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := anyValue(4).Draw(t, "value")
		want := twinEncode(nil, value)
		got, err := Marshal(value)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("Marshal gives %q, %v, the twin %q", got, err, want)
		}
		agree(t, got)
		back, err := Decode(got)
		if err != nil || !reflect.DeepEqual(back, value) {
			t.Fatalf("%q decodes to %#v, %v", got, back, err)
		}
	})
}

// TestMutationsAgainstTwin damages canonical bytes: most damage must be refused,
// and what is not must be what the twin takes too.
func TestMutationsAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := twinEncode(nil, anyValue(3).Draw(t, "value"))
		pieces := []string{"", " ", "0", "1", "-", ".", "e", "\"", "\\", "/", "{", "}", "[", "]", ",", ":", "null", "true",
			`"a":1`, `,"a":1`, `\u0061`, `\u001F`, `\ud83d`, "\n", "\x00", "\xff", "\u00e9", "9007199254740992"}
		for range rapid.IntRange(1, 3).Draw(t, "mutations") {
			at := rapid.IntRange(0, len(data)).Draw(t, "at")
			cut := rapid.IntRange(0, min(2, len(data)-at)).Draw(t, "cut")
			piece := rapid.SampledFrom(pieces).Draw(t, "piece")
			data = slices.Concat(data[:at], []byte(piece), data[at+cut:])
		}
		agree(t, data)
	})
}

// naive gives a record as a value without schema, field by field by hand.
func (r *record) naive() map[string]any {
	add := []any{}
	for _, m := range r.Add {
		one := map[string]any{"name": m.Name}
		if m.Role != "" {
			one["role"] = string(m.Role)
		}
		add = append(add, one)
	}
	object := map[string]any{
		"add":    add,
		"author": r.Author,
		"big":    r.Big,
		"ledger": base64.RawURLEncoding.EncodeToString(r.Ledger[:]),
	}
	if len(r.Blob) > 0 {
		object["blob"] = base64.RawURLEncoding.EncodeToString(r.Blob)
	}
	if r.Flag {
		object["flag"] = true
	}
	if r.Level != 0 {
		object["level"] = uint64(r.Level)
	}
	if r.Hash != (hash{}) {
		object["hash"] = base64.RawURLEncoding.EncodeToString(r.Hash[:])
	}
	if len(r.Map) > 0 {
		object["map"] = map[string]any{}
		for key, n := range r.Map {
			object["map"].(map[string]any)[key] = n
		}
	}
	if r.Next != nil {
		object["next"] = r.Next.naive()
	}
	if r.Pair != [2]int64{} {
		object["pair"] = []any{uint64(r.Pair[0]), uint64(r.Pair[1])}
	}
	return object
}

func drawRecord(t *rapid.T, depth int) *record {
	r := &record{
		common: common{Ledger: hash(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ledger")), Author: rapid.String().Draw(t, "author")},
		Add:    []member{},
		Big:    rapid.Uint64Max(MaxInt).Draw(t, "big"),
		Flag:   rapid.Bool().Draw(t, "flag"),
		Level:  rapid.Uint8().Draw(t, "level"),
	}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		r.Add = append(r.Add, member{rapid.String().Draw(t, "name"), role(rapid.String().Draw(t, "role"))})
	}
	if rapid.Bool().Draw(t, "more") {
		r.Blob = rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "blob")
		r.Hash = hash{rapid.Byte().Draw(t, "hash")}
		r.Map = rapid.MapOfN(rapid.StringMatching(`[a-z]{0,2}`), rapid.Uint64Max(MaxInt), 1, 3).Draw(t, "map")
		r.Pair[1] = rapid.Int64Range(0, MaxInt).Draw(t, "pair")
	}
	if depth > 0 && rapid.Bool().Draw(t, "has next") {
		r.Next = drawRecord(t, depth-1)
	}
	return r
}

func TestStructsAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t, 3)
		want := twinEncode(nil, r.naive())
		got, err := Marshal(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("Marshal gives %s, %v\nthe twin %s", got, err, want)
		}
		var back record
		if err := Unmarshal(got, &back); err != nil || !reflect.DeepEqual(&back, r) {
			t.Fatalf("%s decodes to %+v, %v", got, back, err)
		}
	})
}
