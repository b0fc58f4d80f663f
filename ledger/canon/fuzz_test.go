package canon

import (
	"bytes"
	"testing"
)

var seeds = []string{
	`{"add":[],"author":"a","big":0,"ledger":"AQIDBA"}`,
	`{"add":[{"name":"x","role":"y"}],"any":{"a":[1,"b",true]},"author":"\u0000\n\"é😀","big":9007199254740991,"blob":"AQ","body":[{}],"flag":true,"hash":"AAAAAQ","ledger":"AQIDBA","level":255,"map":{"a":0,"b":1},"next":{"add":[],"author":"","big":0,"ledger":"AAAAAA"},"pair":[0,1]}`,
	`[]`, `{}`, `0`, `""`, `true`, `[0,1,[2,{"a":[]}]]`, `{"a":1,"b":2}`,
	``, ` 1`, `1 `, `01`, `-0`, `1.0`, `1e3`, `null`, `[null]`, `{"b":1,"a":2}`, `{"a":1,"a":2}`, `{"a":1,}`, `[1,]`,
	`9007199254740992`, `"\u0061"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\/"`, "\"\xff\"", "\"\x01\"", `"`, `"\`, `{"é":1}`, `{"\u0061":1}`,
	"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
}

// FuzzDecode: the gate takes exactly what its naive twin takes, as the same
// value, which encodes again to the same bytes.
func FuzzDecode(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, data) })
}

// FuzzUnmarshal: what a struct takes is canonical, and comes out again as the
// same bytes and as the same value.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r record
		if err := Unmarshal(data, &r); err != nil {
			codeAndPath(t, err)
			return
		}
		again, err := Marshal(&r)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q encodes again to %q, %v", data, again, err)
		}
		if _, err := twin(data); err != nil {
			t.Fatalf("%q: the twin refuses: %v", data, err)
		}
		if r.Any == nil && r.Body == nil && (r.Next == nil || r.Next.Any == nil && r.Next.Body == nil && r.Next.Next == nil) {
			if naive := twinEncode(nil, r.naive()); !bytes.Equal(naive, data) {
				t.Fatalf("%q means to the twin %q", data, naive)
			}
		}
	})
}

// FuzzString: every valid text has one encoding, which means that text.
func FuzzString(f *testing.F) {
	for _, seed := range []string{"", "a", "\x00\x1f\x7f", "\b\t\n\f\r\"\\/", "é\u2028😀\ufffd", "\xff", "\xed\xa0\x80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		data, err := Marshal(text)
		if err != nil {
			if code, _ := codeAndPath(t, err); code != CodeBadString {
				t.Fatal(err)
			}
			return
		}
		var back string
		if err := Unmarshal(data, &back); err != nil || back != text {
			t.Fatalf("%q encodes to %q, which means %q, %v", text, data, back, err)
		}
		agree(t, data)
	})
}
