package canon

import (
	"errors"
	"testing"
)

type role string
type hash [4]byte

type common struct {
	Ledger hash   `json:"ledger"`
	Author string `json:"author"`
}

type member struct {
	Name string `json:"name"`
	Role role   `json:"role,omitempty"`
}

type record struct {
	common
	Add   []member          `json:"add"`
	Big   uint64            `json:"big"`
	Blob  []byte            `json:"blob,omitempty"`
	Body  Raw               `json:"body,omitempty"`
	Flag  bool              `json:"flag,omitempty"`
	Hash  hash              `json:"hash,omitempty"`
	Level uint8             `json:"level,omitempty"`
	Map   map[string]uint64 `json:"map,omitempty"`
	Next  *record           `json:"next,omitempty"`
	Pair  [2]int64          `json:"pair,omitempty"`
	Any   any               `json:"any,omitempty"`
	Local string            `json:"-"`
}

func codeAndPath(t *testing.T, err error) (string, string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is no *Error", err)
	}
	return e.Code, e.Path
}

func TestUnmarshalAccepts(t *testing.T) {
	for _, data := range []string{
		`{"add":[],"author":"a","big":0,"ledger":"AQIDBA"}`,
		`{"add":[{"name":"x"},{"name":"y","role":"z"}],"author":"é€😀\u0000\u001f\b\t\n\f\r\"\\/","big":9007199254740991,"ledger":"AQIDBA"}`,
		`{"add":[],"any":{"a":[1,"b",true,{}]},"author":"","big":1,"blob":"_-8","body":{"x":[[],{}]},"flag":true,"hash":"AAAAAQ","ledger":"AQIDBA","level":255,"map":{"a":0,"b":1},"next":{"add":[],"author":"b","big":2,"ledger":"AAAAAA"},"pair":[0,1]}`,
	} {
		var r record
		if err := Unmarshal([]byte(data), &r); err != nil {
			t.Errorf("%s: %v", data, err)
			continue
		}
		if again, err := Marshal(r); err != nil || string(again) != data {
			t.Errorf("%s encodes again to %s, %v", data, again, err)
		}
		if again, err := Marshal(&r); err != nil || string(again) != data {
			t.Errorf("%s encodes again through a pointer to %s, %v", data, again, err)
		}
	}
}
