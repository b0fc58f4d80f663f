package ledger

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
)

// payloads are of every form, plain and not.
func payloads(random *rand.Rand) Payload {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	number := func() uint64 { return []uint64{0, 1, 9, 10, 1 << 32, canon.MaxInt}[random.IntN(6)] }
	p := Payload{
		Author:     pick("", "alice", "edge-7.a", strings.Repeat("n", 64), "a b", "ä", `q"`, "a\nb"),
		Body:       canon.Raw(pick(`{}`, `{"text":"x"}`, `[1,"}"]`, `"a\"}"`, `{"a":{"b":[{}]}}`, `7`)),
		Expires:    number(),
		Generation: number(),
		Type:       pick(TypeRecord, TypePropose, TypeApprove, TypeReject, TypeWithdraw, TypeVeto, TypeJoin, TypeReady, TypeRecover, "odd", ""),
	}
	for i := range p.Ledger {
		p.Ledger[i] = byte(random.IntN(256))
	}
	if random.IntN(2) == 0 {
		p.Nonce = bytes.Repeat([]byte{0xfb}, random.IntN(20))
	}
	if random.IntN(2) == 0 {
		n := number()
		p.Epoch = &n
	}
	if random.IntN(2) == 0 {
		n := number()
		p.Seq = &n
	}
	return p
}

// sameAsCanon fails unless what is read by hand is what canon reads.
func sameAsCanon(t *testing.T, data []byte) (plain bool) {
	var fast, slow Payload
	if !fast.readPlain(data, new([2]uint64)) {
		return false
	}
	if err := canon.Unmarshal(data, &slow); err != nil {
		t.Fatalf("%q was read, canon refuses it: %v", data, err)
	}
	if !reflect.DeepEqual(fast, slow) {
		t.Fatalf("%q was read as %+v, canon reads %+v", data, fast, slow)
	}
	return true
}

func TestPayloadsReadByHandAreThoseOfCanon(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	read, refused := 0, 0
	for range 4000 {
		p := payloads(random)
		data, err := canon.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if sameAsCanon(t, data) {
			read++
		}
		for range 20 {
			bad := bytes.Clone(data)
			switch i := random.IntN(len(bad)); random.IntN(4) {
			case 0:
				bad[i] = "\"\\{}[],:0189 anul\n\xff-_"[random.IntN(21)]
			case 1:
				bad = append(bad[:i], bad[i+1:]...)
			case 2:
				bad = bytes.Replace(bad, []byte(","), []byte(`,"x":1,`), 1)
			default:
				bad = append(bad[:i:i], append([]byte{data[i]}, bad[i:]...)...)
			}
			if !sameAsCanon(t, bad) {
				refused++
			}
		}
	}
	if read < 400 || refused < 4000 {
		t.Fatalf("%d were read and %d left to canon: the test shows nothing", read, refused)
	}
}

func TestPlainPayloadsAreReadByHand(t *testing.T) {
	w := newWorld(t, 1)
	for _, typ := range []string{TypeRecord, TypeApprove, TypePropose} {
		data, err := canon.Marshal(func() Payload {
			p := w.payload("alice", typ)
			p.Body = canon.Raw(`{"text":"ä \" \n"}`)
			p.Type = typ
			return p
		}())
		if err != nil || !sameAsCanon(t, data) {
			t.Errorf("%s is left to canon (%v)", data, err)
		}
	}
}

// A record's sizes are those of its fields, and what is no record is refused
// as by the codec.
func TestRecordSizes(t *testing.T) {
	texts := []string{"", "x", "one two", `a "b"`, "ä", "\n", "\\", strings.Repeat("long ", 700)}
	bodies := []string{`{}`, `{"text":""}`, `{"text":"a","zzz":"b"}`, `{"digest":"A"}`, `{"digest":"AB"}`, `{"digest":"__8"}`, `{"name":1}`, `{"media":{}}`,
		`{"a":"b"}`, `{"text":"x","x":[{}]}`, `[]`, `{"media":"","text":"x"}`, `{"digest":"","text":"x"}`}
	for i, a := range texts {
		for j, b := range texts {
			raw, err := canon.Marshal(Record{Digest: bytes.Repeat([]byte{7}, i*j), Media: a, Name: b, Text: texts[(i+j)%len(texts)]})
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, string(raw))
		}
	}
	for _, body := range bodies {
		st := &Statement{Payload: Payload{Body: canon.Raw(body)}}
		got, err := st.RecordSize()
		r, want := DecodeBody[Record](st)
		if fmt.Sprint(err) != fmt.Sprint(want) {
			t.Errorf("%s: error %v, want %v", body, err, want)
		}
		if size := (RecordSize{len(r.Digest), len(r.Media), len(r.Name), len(r.Text)}); err == nil && got != size {
			t.Errorf("%s: sizes %+v, want %+v", body, got, size)
		}
	}
	if _, ok := plainRecordSize([]byte(`{"name":"n","text":"x"}`)); !ok {
		t.Error("a plain record is left to canon")
	}
	for _, odd := range []string{`{"text":"x",}`, `{,"text":"x"}`, `{"name":"n""text":"x"}`, `{"text":"x"`, `{"text":"x"}}`} {
		if _, ok := plainRecordSize([]byte(odd)); ok {
			t.Errorf("%s is read", odd)
		}
	}
}
