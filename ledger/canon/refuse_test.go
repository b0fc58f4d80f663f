package canon

import (
	"reflect"
	"strings"
	"sync"
	"testing"
)

// TestUnmarshalRefuses holds one case for each way in which bytes can miss the
// canonical form, with the code and the path that a client is told.
func TestUnmarshalRefuses(t *testing.T) {
	const good = `{"add":[{"name":"x"}],"author":"a","big":7,"ledger":"AQIDBA"}`
	if err := Unmarshal([]byte(good), new(record)); err != nil {
		t.Fatalf("the base of all cases: %v", err)
	}
	for _, c := range []struct{ name, old, new, code, path string }{
		{"empty", good, ``, CodeNotJSON, ""},
		{"not json", good, `hello`, CodeNotJSON, ""},
		{"cut short", `"AQIDBA"}`, `"AQ`, CodeNotJSON, "ledger"},
		{"cut after a value", `"AQIDBA"}`, `"AQIDBA"`, CodeNotJSON, ""},
		{"comma before the end", `"AQIDBA"}`, `"AQIDBA",}`, CodeNotJSON, ""},
		{"no colon", `"big":7`, `"big"7`, CodeNotJSON, "big"},
		{"no comma", `"big":7,`, `"big":7`, CodeNotJSON, ""},
		{"bare key", `"big":7`, `big:7`, CodeNotJSON, ""},
		{"minus alone", `:7`, `:-`, CodeNotJSON, "big"},
		{"sign inside", `:7`, `:7-1`, CodeNotJSON, ""},
		{"trailing space", good, good + " ", CodeTrailingBytes, ""},
		{"trailing line feed", good, good + "\n", CodeTrailingBytes, ""},
		{"trailing value", good, good + good, CodeTrailingBytes, ""},
		{"leading space", good, " " + good, CodeNotCanonical, ""},
		{"space in object", `{"add"`, `{ "add"`, CodeNotCanonical, ""},
		{"space before colon", `"big":`, `"big" :`, CodeNotCanonical, ""},
		{"space after colon", `"big":`, `"big": `, CodeNotCanonical, "big"},
		{"space before comma", `7,`, `7 ,`, CodeNotCanonical, ""},
		{"space in array", `[{`, "[\n{", CodeNotCanonical, "add[0]"},
		{"keys out of order", `"author":"a","big":7`, `"big":7,"author":"a"`, CodeNotCanonical, "author"},
		{"duplicate beside", `"big":7`, `"big":7,"big":7`, CodeDuplicateField, "big"},
		{"duplicate apart", `"ledger":"AQIDBA"`, `"ledger":"AQIDBA","big":7`, CodeDuplicateField, "big"},
		{"duplicate deep", `{"name":"x"}`, `{"name":"x","name":"y"}`, CodeDuplicateField, "add[0].name"},
		{"key by escape", `"big"`, `"\u0062ig"`, CodeNotCanonical, ""},
		{"key with an accent", `"big"`, `"bíg"`, CodeBadString, `["b\u00edg"]`},
		{"key with a control", `"big"`, "\"b\tg\"", CodeBadString, ""},
		{"key with DEL", `"big"`, "\"b\x7fg\"", CodeBadString, `["b\x7fg"]`},
		{"unknown", `"big":7`, `"big":7,"bigger":7`, CodeUnknownField, "bigger"},
		{"unknown deep", `"name":"x"`, `"name":"x","rank":1`, CodeUnknownField, "add[0].rank"},
		{"unknown last", `"AQIDBA"`, `"AQIDBA","zoo":1`, CodeUnknownField, "zoo"},
		{"field that JSON ignores", `"ledger"`, `"Local":"x","ledger"`, CodeNotCanonical, "Local"},
		{"other case", `"big"`, `"biG"`, CodeUnknownField, "biG"},
		{"missing first", `"add":[{"name":"x"}],`, ``, CodeMissingField, "add"},
		{"missing inside", `"big":7,`, ``, CodeMissingField, "big"},
		{"missing last", `,"ledger":"AQIDBA"`, ``, CodeMissingField, "ledger"},
		{"missing deep", `{"name":"x"}`, `{}`, CodeMissingField, "add[0].name"},
		{"all missing", good, `{}`, CodeMissingField, "add"},
		{"fraction", `:7`, `:7.0`, CodeFloat, "big"},
		{"exponent", `:7`, `:7e0`, CodeFloat, "big"},
		{"negative fraction", `:7`, `:-0.5`, CodeFloat, "big"},
		{"float for a string", `"author":"a"`, `"author":1.5`, CodeFloat, "author"},
		{"null", `:7`, `:null`, CodeNull, "big"},
		{"null for a list", `[{"name":"x"}]`, `null`, CodeNull, "add"},
		{"null for an element", `{"name":"x"}`, `null`, CodeNull, "add[0]"},
		{"null for everything", good, `null`, CodeNull, ""},
		{"nearly null", `:7`, `:nul`, CodeNotJSON, "big"},
		{"negative", `:7`, `:-7`, CodeNumberRange, "big"},
		{"negative zero", `:7`, `:-0`, CodeNumberRange, "big"},
		{"2^53", `:7`, `:9007199254740992`, CodeNumberRange, "big"},
		{"2^64", `:7`, `:18446744073709551616`, CodeNumberRange, "big"},
		{"very long number", `:7`, `:` + strings.Repeat("9", 1000), CodeNumberRange, "big"},
		{"too large for the field", `"ledger":"AQIDBA"`, `"ledger":"AQIDBA","level":256`, CodeNumberRange, "level"},
		{"leading zero", `:7`, `:07`, CodeNotCanonical, "big"},
		{"two zeros", `:7`, `:00`, CodeNotCanonical, "big"},
		{"string for a number", `:7`, `:"7"`, CodeWrongType, "big"},
		{"boolean for a number", `:7`, `:true`, CodeWrongType, "big"},
		{"number for a string", `"author":"a"`, `"author":1`, CodeWrongType, "author"},
		{"array for an object", good, `[]`, CodeWrongType, ""},
		{"object for an array", `[{"name":"x"}]`, `{}`, CodeWrongType, "add"},
		{"number for bytes", `"AQIDBA"`, `1`, CodeWrongType, "ledger"},
		{"string for a boolean", `"ledger"`, `"flag":"true","ledger"`, CodeWrongType, "flag"},
		{"array too short", `"AQIDBA"`, `"AQIDBA","pair":[1]`, CodeWrongType, "pair"},
		{"array too long", `"AQIDBA"`, `"AQIDBA","pair":[1,2,3]`, CodeWrongType, "pair"},
		{"padding", `"AQIDBA"`, `"AQIDBA=="`, CodeBadBase64, "ledger"},
		{"standard alphabet", `"AQIDBA"`, `"/+IDBA"`, CodeBadBase64, "ledger"},
		{"unused bits", `"AQIDBA"`, `"AQIDBB"`, CodeBadBase64, "ledger"},
		{"too few bytes", `"AQIDBA"`, `"AQID"`, CodeBadBase64, "ledger"},
		{"too many bytes", `"AQIDBA"`, `"AQIDBAU"`, CodeBadBase64, "ledger"},
		{"line feed in base64", `"AQIDBA"`, `"AQI\nBA"`, CodeBadBase64, "ledger"},
		{"bytes with unused bits", `"big":7`, `"big":7,"blob":"AB"`, CodeBadBase64, "blob"},
		{"bytes of 1 mod 4", `"big":7`, `"big":7,"blob":"A"`, CodeBadBase64, "blob"},
		{"bytes with a line feed", `"big":7`, `"big":7,"blob":"AQID\nAQID"`, CodeBadBase64, "blob"},
		{"invalid UTF-8", `"a"`, "\"\xff\"", CodeBadString, "author"},
		{"overlong UTF-8", `"a"`, "\"\xc0\x80\"", CodeBadString, "author"},
		{"surrogate in UTF-8", `"a"`, "\"\xed\xa0\x80\"", CodeBadString, "author"},
		{"raw control", `"a"`, "\"\x1f\"", CodeBadString, "author"},
		{"lone high surrogate", `"a"`, `"\ud83d"`, CodeBadString, "author"},
		{"lone low surrogate", `"a"`, `"\ude00\ud83d"`, CodeBadString, "author"},
		{"high surrogate and text", `"a"`, `"\ud83dx"`, CodeBadString, "author"},
		{"unknown escape", `"a"`, `"\x41"`, CodeBadString, "author"},
		{"short escape", `"a"`, `"\u12"`, CodeBadString, "author"},
		{"surrogate pair by escape", `"a"`, `"\ud83d\ude00"`, CodeNotCanonical, "author"},
		{"needless escape", `"a"`, `"\u0061"`, CodeNotCanonical, "author"},
		{"escaped slash", `"a"`, `"\/"`, CodeNotCanonical, "author"},
		{"long escape where a short exists", `"a"`, `"\u000a"`, CodeNotCanonical, "author"},
		{"escape in upper case", `"a"`, `"\u001F"`, CodeNotCanonical, "author"},
		{"escape at the end", `"a"`, `"\`, CodeBadString, "author"},
		{"empty optional bytes", `"big":7`, `"big":7,"blob":""`, CodeNotCanonical, "blob"},
		{"empty optional map", `"AQIDBA"`, `"AQIDBA","map":{}`, CodeNotCanonical, "map"},
		{"empty optional string", `"name":"x"`, `"name":"x","role":""`, CodeNotCanonical, "add[0].role"},
		{"false optional boolean", `"ledger"`, `"flag":false,"ledger"`, CodeNotCanonical, "flag"},
		{"zero optional number", `"AQIDBA"`, `"AQIDBA","level":0`, CodeNotCanonical, "level"},
		{"zero optional byte array", `"ledger"`, `"hash":"AAAAAA","ledger"`, CodeNotCanonical, "hash"},
		{"zero optional array", `"AQIDBA"`, `"AQIDBA","pair":[0,0]`, CodeNotCanonical, "pair"},
		{"space in raw", `"ledger"`, `"body":{"x": 1},"ledger"`, CodeNotCanonical, "body.x"},
		{"float in raw", `"ledger"`, `"body":{"x":[0,{"y z":1.5}]},"ledger"`, CodeFloat, `body.x[1]["y z"]`},
		{"null in any", `"author"`, `"any":[null],"author"`, CodeNull, "any[0]"},
		{"duplicate in map", `"AQIDBA"`, `"AQIDBA","map":{"a":1,"a":1}`, CodeDuplicateField, "map.a"},
		{"unsorted map", `"AQIDBA"`, `"AQIDBA","map":{"b":1,"a":1}`, CodeNotCanonical, "map.a"},
		{"key of a map", `"AQIDBA"`, `"AQIDBA","map":{"a.b":"x"}`, CodeWrongType, `map["a.b"]`},
		{"nested struct", `"AQIDBA"`, `"AQIDBA","next":{"add":[],"author":"b","big":-1,"ledger":"AAAAAA"}`, CodeNumberRange, "next.big"},
		{"byte order mark", good, "\ufeff" + good, CodeNotJSON, ""},
		{"comment", good, "/**/" + good, CodeNotJSON, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := strings.Replace(good, c.old, c.new, 1)
			if data == good {
				t.Fatal("the case changes nothing")
			}
			r := record{Local: "old"}
			err := Unmarshal([]byte(data), &r)
			if err == nil {
				t.Fatalf("%s is accepted", data)
			}
			code, path := codeAndPath(t, err)
			if code != c.code || path != c.path {
				t.Errorf("%s\ngives  %s at %q: %v\nwanted %s at %q", data, code, path, err, c.code, c.path)
			}
			if !reflect.DeepEqual(r, record{}) {
				t.Errorf("something is left after the error: %+v", r)
			}
		})
	}
}

func TestDepth(t *testing.T) {
	nested := func(open, inner, shut string, n int) []byte {
		return []byte(strings.Repeat(open, n) + inner + strings.Repeat(shut, n))
	}
	for _, c := range []struct{ open, inner, shut string }{{"[", "", "]"}, {`{"a":`, "1", "}"}} {
		if err := Valid(nested(c.open, c.inner, c.shut, MaxDepth)); err != nil {
			t.Errorf("%d times %s: %v", MaxDepth, c.open, err)
		}
		for _, depth := range []int{MaxDepth + 1, 100000} {
			data := nested(c.open, c.inner, c.shut, depth)
			if code, _ := codeAndPath(t, Valid(data)); code != CodeTooDeep {
				t.Errorf("%d times %s gives %s", depth, c.open, code)
			}
			if _, err := Decode(data); err == nil {
				t.Errorf("Decode takes %d times %s", depth, c.open)
			}
			var holder struct {
				Raw Raw `json:"raw"`
			}
			if code, _ := codeAndPath(t, Unmarshal([]byte(`{"raw":`+string(data)+`}`), &holder)); code != CodeTooDeep {
				t.Errorf("%d times %s as Raw gives %s", depth, c.open, code)
			}
		}
	}
	// Raw counts from where it stands.
	inside := map[string]Raw{"a": nested("[", "", "]", MaxDepth)}
	if _, err := Marshal(inside); err == nil {
		t.Error("Raw of the full depth inside a map is accepted")
	}
	_, err := Decode(nested("[", "", "]", MaxDepth+1))
	if _, path := codeAndPath(t, err); path != strings.Repeat("[0]", MaxDepth) {
		t.Errorf("the path is %s", path)
	}
	type links struct {
		Next *links `json:"next,omitempty"`
	}
	for depth := MaxDepth - 1; depth <= MaxDepth+1; depth++ {
		chain := &links{}
		for range depth - 1 {
			chain = &links{Next: chain}
		}
		data, err := Marshal(chain)
		if (err == nil) != (depth <= MaxDepth) {
			t.Errorf("Marshal of depth %d gives %v", depth, err)
		}
		if err == nil && Unmarshal(data, new(links)) != nil {
			t.Errorf("what Marshal gives of depth %d is refused", depth)
		}
	}
	cycle := &record{}
	cycle.Next = cycle
	if code, _ := codeAndPath(t, func() error { _, err := Marshal(cycle); return err }()); code != CodeTooDeep {
		t.Errorf("a cycle gives %s", code)
	}
}

func TestMarshalRefuses(t *testing.T) {
	type inner struct {
		X any `json:"x"`
	}
	type list []list
	deep := list{}
	for range MaxDepth {
		deep = list{deep}
	}
	for _, c := range []struct {
		name       string
		value      any
		code, path string
	}{
		{"nil", nil, CodeNull, ""},
		{"nil pointer", (*record)(nil), CodeNull, ""},
		{"float", 1.0, CodeFloat, ""},
		{"float field", struct {
			A float64 `json:"a"`
		}{}, CodeFloat, "a"},
		{"float in any", inner{[]any{"a", 1.5}}, CodeFloat, "x[1]"},
		{"nil in any", inner{}, CodeNull, "x"},
		{"negative", inner{-1}, CodeNumberRange, "x"},
		{"2^53", []uint64{MaxInt, MaxInt + 1}, CodeNumberRange, "[1]"},
		{"nil pointer in a field", struct {
			A *uint64 `json:"a"`
		}{}, CodeNull, "a"},
		{"nil pointer in a list", []*member{{}, nil}, CodeNull, "[1]"},
		{"invalid UTF-8", map[string]string{"a": "\xff"}, CodeBadString, "a"},
		{"key with an accent", map[string]string{"é": ""}, CodeBadString, `["\u00e9"]`},
		{"key with a quote", map[string]string{`"`: ""}, CodeBadString, `["\""]`},
		{"map with other keys", map[uint64]string{}, CodeWrongType, ""},
		{"no tag", struct{ A string }{}, CodeWrongType, ""},
		{"tag without a name", struct {
			A string `json:",omitempty"`
		}{}, CodeWrongType, ""},
		{"tag with another option", struct {
			A string `json:"a,string"`
		}{}, CodeWrongType, ""},
		{"two fields of a name", struct {
			common
			Author string `json:"author"`
		}{}, CodeDuplicateField, "author"},
		{"omitempty struct", struct {
			A member `json:"a,omitempty"`
		}{}, CodeWrongType, "a"},
		{"channel", make(chan int), CodeWrongType, ""},
		{"raw with white space", inner{Raw(" 1")}, CodeNotCanonical, "x"},
		{"raw with more", inner{Raw("1 ")}, CodeTrailingBytes, "x"},
		{"empty raw", inner{Raw{}}, CodeNotJSON, "x"},
		{"too deep", deep, CodeTooDeep, strings.Repeat("[0]", MaxDepth)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst, err := Append([]byte("before"), c.value)
			if err == nil {
				t.Fatalf("gives %s", dst)
			}
			if string(dst) != "before" {
				t.Errorf("the destination became %q", dst)
			}
			if code, path := codeAndPath(t, err); code != c.code || path != c.path {
				t.Errorf("gives %s at %q (%v), wanted %s at %q", code, path, err, c.code, c.path)
			}
		})
	}
}

func TestMarshalForms(t *testing.T) {
	type embedded struct {
		M string `json:"m"`
	}
	zero := uint64(0)
	for _, c := range []struct {
		value any
		want  string
	}{
		{struct {
			Z string `json:"z"`
			embedded
			A []string          `json:"a"`
			B map[string]string `json:"b"`
			C [2]byte           `json:"c"`
			D *uint64           `json:"d,omitempty"`
			E *uint64           `json:"e,omitempty"`
			F []byte            `json:"f"`
		}{D: &zero, embedded: embedded{"<&>\u2028\x7f"}},
			`{"a":[],"b":{},"c":"AAA","d":0,"f":"","m":"<&>` + "\u2028\x7f" + `","z":""}`},
		{map[string]any{"b": uint64(1), "a": []any{}, "B": true, "": "x"}, `{"":"x","B":true,"a":[],"b":1}`},
		{map[role]hash{"r": {1, 2, 3, 4}}, `{"r":"AQIDBA"}`},
		{hash{1, 2, 3, 4}, `"AQIDBA"`},
		{[]hash{{}}, `["AAAAAA"]`},
		{int64(MaxInt), `9007199254740991`},
		{Raw(`{"a":1}`), `{"a":1}`},
		{"\x00\x1f\b\t\n\f\r\"\\/", `"\u0000\u001f\b\t\n\f\r\"\\/"`},
		{textMarshaler("kept"), `"kept"`},
	} {
		got, err := Marshal(c.value)
		if err != nil || string(got) != c.want {
			t.Errorf("%#v gives %s, %v, wanted %s", c.value, got, err, c.want)
		}
		if err := Valid(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
}

// Several levels of embedding, where the ways to the fields would overwrite
// each other if they shared memory.
type level3 struct {
	A string `json:"a"`
	B string `json:"b"`
	C string `json:"c"`
}
type level2 struct{ level3 }
type level1 struct{ level2 }
type level0 struct {
	level1
	D string `json:"d"`
}

func TestEmbedded(t *testing.T) {
	var v level0
	v.A, v.B, v.C, v.D = "1", "2", "3", "4"
	const want = `{"a":"1","b":"2","c":"3","d":"4"}`
	if got, err := Marshal(v); err != nil || string(got) != want {
		t.Errorf("gives %s, %v", got, err)
	}
	var back level0
	if err := Unmarshal([]byte(want), &back); err != nil || back != v {
		t.Errorf("gives %+v, %v", back, err)
	}
}

type textMarshaler string

func (textMarshaler) MarshalText() ([]byte, error) { return []byte("wrong"), nil }
func (textMarshaler) MarshalJSON() ([]byte, error) { return []byte(`"wrong"`), nil }

func TestUnmarshalAliasesNothing(t *testing.T) {
	data := []byte(`{"add":[],"any":"s","author":"a","big":0,"blob":"AQID","body":[1],"ledger":"AQIDBA"}`)
	var r, again record
	if err := Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if err := Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	clear(data)
	if !reflect.DeepEqual(r, again) || string(r.Body) != "[1]" || r.Author != "a" {
		t.Errorf("the value changed with the data: %+v", r)
	}
}

func TestUnmarshalOverwrites(t *testing.T) {
	r := record{Level: 9, Blob: []byte("old"), Map: map[string]uint64{"old": 1}, Local: "old"}
	if err := Unmarshal([]byte(`{"add":[],"author":"a","big":0,"ledger":"AQIDBA"}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.Level != 0 || r.Blob != nil || r.Map != nil || r.Local != "" {
		t.Errorf("something old is left: %+v", r)
	}
	for _, target := range []any{nil, record{}, (*record)(nil)} {
		if code, _ := codeAndPath(t, Unmarshal([]byte(`{}`), target)); code != CodeWrongType {
			t.Errorf("%T gives %s", target, code)
		}
	}
}

// TestShapesTogether lets many goroutines meet new types at once; it means
// something under the race detector.
func TestShapesTogether(t *testing.T) {
	type a struct {
		X []record `json:"x"`
	}
	type b struct {
		Y map[string]a `json:"y"`
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for _, v := range []any{a{}, b{}, record{}, []b{}} {
				if _, err := Marshal(v); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestErrorText(t *testing.T) {
	err := Unmarshal([]byte(`{"add":[{"name":1}],"author":"a","big":7,"ledger":"AQIDBA"}`), new(record))
	if got := err.Error(); !strings.Contains(got, "add[0].name") || !strings.Contains(got, CodeWrongType) {
		t.Error(got)
	}
	long := `{"` + strings.Repeat("k", 10000) + `":1.5}`
	if got := Valid([]byte(long)).Error(); len(got) > 300 {
		t.Errorf("the error repeats %d bytes of a hostile key", len(got))
	}
}
