package keys

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
)

// asking is one governor's restoring: a one-time identity and the requests.
type asking struct {
	*escrow
	asker    *PrivateKey
	identity string // one-time
	signed   map[string][]byte
	ids      map[string][32]byte
}

func ask(t testing.TB, e *escrow) *asking {
	t.Helper()
	identity, recipient, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	a := &asking{escrow: e, asker: testKey(1), identity: identity, signed: map[string][]byte{}, ids: map[string][32]byte{}}
	for _, s := range e.backup.Shares {
		r, err := e.backup.Request(s.Holder)
		if err != nil {
			t.Fatal(err)
		}
		r.Author, r.Expires, r.Purpose, r.Recipient = "alice", 1000, RestorePurpose, recipient
		envelope, err := r.Sign(t.Context(), LocalSigner(a.asker), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseShareRequest(envelope)
		if err != nil || !got.Verify(a.asker.Public()) || got.Verify(testKey(2).Public()) || got.KeyID() != a.asker.ID() {
			t.Fatalf("the request comes back wrong: %v", err)
		}
		a.signed[s.Holder], a.ids[s.Holder] = envelope, got.ID
	}
	return a
}

func (a *asking) answer(t testing.TB, holder string) []byte {
	t.Helper()
	r, err := ParseShareRequest(a.signed[holder])
	if err != nil {
		t.Fatal(err)
	}
	by, err := LocalUnwrapper(a.identities[holder])
	if err != nil {
		t.Fatal(err)
	}
	answer, err := r.Answer(t.Context(), by)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// forged is an answer as somebody else could make one: sealed to the right
// recipient, of whatever content.
func (a *asking) forged(t testing.TB, holder string, change func(*shareBody)) []byte {
	t.Helper()
	plain, err := OpenWith(a.identity, a.answer(t, holder))
	if err != nil {
		t.Fatal(err)
	}
	body, err := parseShare(plain)
	if err != nil {
		t.Fatal(err)
	}
	change(body)
	recipient, err := RecipientOf(a.identity)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := body.sealTo(recipient)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestAnswersRestore(t *testing.T) {
	a := ask(t, newEscrow(t, 7, 3, escrowNames...))
	var list []Answer
	for _, holder := range []string{"erin", "bob", "carol"} {
		list = append(list, Answer{holder + ".share.age", a.answer(t, holder)})
	}
	j := a.backup.Judge(list, a.identity, "entry 5123", a.ids)
	defer j.Wipe()
	if len(j.Bad) > 0 || !slices.Equal(j.Holders, []string{"erin", "bob", "carol"}) || !slices.Equal(j.Missing, []string{"alice", "dave"}) {
		t.Fatalf("%+v", j)
	}
	if f, err := a.backup.Open(j.Good); err != nil || f.Key.ID() != a.file.Key.ID() {
		t.Errorf("%v, %v", f, err)
	}
}

// Every kind of wrong answer is named by itself, and costs no good one its count.
func TestWrongAnswersAreNamed(t *testing.T) {
	a := ask(t, newEscrow(t, 7, 3, escrowNames...))
	again := ask(t, a.escrow)
	other := ask(t, newEscrow(t, 8, 3, escrowNames...))
	recipient, err := RecipientOf(a.identity)
	if err != nil {
		t.Fatal(err)
	}
	noShare, err := SealTo([]string{recipient}, []byte(`{"type":"quorate/share.v1"}`))
	if err != nil {
		t.Fatal(err)
	}
	good := a.answer(t, "bob")
	middle := bytes.Clone(good)
	middle[len(middle)-20] ^= 1
	foreign, err := OpenWith(other.identity, other.answer(t, "dave"))
	if err != nil {
		t.Fatal(err)
	}
	if foreign, err = SealTo([]string{recipient}, foreign); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		content []byte
		want    string // after the file's name
	}{
		{"no age file", []byte("hello"), " is damaged ("},
		{"empty", nil, " is damaged ("},
		{"cut short", good[:len(good)-1], " is damaged ("},
		{"changed", middle, " is damaged ("},
		{"sealed to another request", again.answer(t, "bob"), " answers another request: it is not sealed to"},
		{"of an older request", a.forged(t, "bob", func(s *shareBody) { s.Request = &[32]byte{1} }), " answers another request: not the one"},
		{"the share as it was in the backup", a.forged(t, "bob", func(s *shareBody) { s.Request = nil }), " answers another request"},
		{"of another backup", foreign, " is a share of another backup (of key " + other.file.Key.ID().String()[:8] + "… of edge-7)"},
		{"of another ledger", a.forged(t, "bob", func(s *shareBody) { s.Ledger[0]++ }), " is a share of another backup"},
		{"another value", a.forged(t, "bob", func(s *shareBody) { s.Value[3] ^= 1 }), " claims to be bob's share and is not: its hash is "},
		{"another index", a.forged(t, "bob", func(s *shareBody) { s.Index = 5 }), " claims to be bob's share and is not"},
		{"another's share", a.forged(t, "bob", func(s *shareBody) { s.Holder = "carol" }), " claims to be carol's share and is not"},
		{"no holder", a.forged(t, "bob", func(s *shareBody) { s.Holder = "frank" }), " names holder frank, who holds no share of this backup"},
		{"no share", noShare, " holds no share ("},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := []Answer{{"alice.share.age", a.answer(t, "alice")}, {"x.share.age", c.content}, {"dave.share.age", a.answer(t, "dave")}}
			j := a.backup.Judge(list, a.identity, "entry 5123", a.ids)
			if len(j.Bad) != 1 || !strings.HasPrefix(j.Bad[0].Error(), "x.share.age"+c.want) {
				t.Fatalf("said %v, want x.share.age%s…", j.Bad, c.want)
			}
			if !slices.Equal(j.Holders, []string{"alice", "dave"}) || !slices.Equal(j.Missing, []string{"bob", "carol", "erin"}) {
				t.Errorf("good %v, missing %v", j.Holders, j.Missing)
			}
			if _, err := a.backup.Open(j.Good); !errors.Is(err, ErrTooFewShares) {
				t.Errorf("two of three open it: %v", err)
			}
		})
	}
	list := []Answer{{"a.age", good}, {"b.age", a.answer(t, "bob")}}
	if j := a.backup.Judge(list, a.identity, "entry 5123", a.ids); len(j.Good) != 1 || len(j.Bad) != 1 || j.Bad[0].Error() != "a.age and b.age are the same share: one counts" {
		t.Errorf("twice the same: %v", j.Bad)
	}
}

// A holder answers for nothing but what the request says.
func TestHolderRefusesWrongRequests(t *testing.T) {
	e, other := newEscrow(t, 7, 2, "alice", "bob"), newEscrow(t, 8, 2, "alice", "bob")
	a := ask(t, e)
	by, err := LocalUnwrapper(e.identities["bob"])
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ShareRequest){
		"another backup":     func(r *ShareRequest) { r.Backup[0]++ },
		"another ledger":     func(r *ShareRequest) { r.Ledger[0]++ },
		"another key":        func(r *ShareRequest) { r.Key[0]++ },
		"another's name":     func(r *ShareRequest) { r.Name = "edge-8" },
		"another holder":     func(r *ShareRequest) { r.Holder = "alice" },
		"another share hash": func(r *ShareRequest) { r.Share[0]++ },
		"another sealed":     func(r *ShareRequest) { r.Sealed = other.backup.ShareOf("bob").Sealed },
		"another's sealed":   func(r *ShareRequest) { r.Sealed = e.backup.ShareOf("alice").Sealed },
	} {
		r, err := ParseShareRequest(a.signed["bob"])
		if err != nil {
			t.Fatal(err)
		}
		change(&r.ShareRequest)
		if answer, err := r.Answer(t.Context(), by); err == nil {
			t.Errorf("%s: answered with %d bytes", name, len(answer))
		}
	}
	if err := e.backup.CheckShare(t.Context(), "bob", by); err != nil {
		t.Errorf("bob's share: %v", err)
	}
	if err := e.backup.CheckShare(t.Context(), "alice", by); !errors.Is(err, ErrNotForUs) {
		t.Errorf("alice's share by bob: %v", err)
	}
	if err := e.backup.CheckShare(t.Context(), "zoe", by); err == nil {
		t.Error("a stranger's share is good")
	}
	wrong := *e.backup
	wrong.Shares = slices.Clone(wrong.Shares)
	wrong.Shares[1].Share[0]++
	if err := wrong.CheckShare(t.Context(), "bob", by); err == nil {
		t.Error("a share with another recorded hash is good")
	}
}

func TestRequestsAreChecked(t *testing.T) {
	a := ask(t, newEscrow(t, 7, 2, "alice", "bob"))
	for name, change := range map[string]func(*ShareRequest){
		"type": func(r *ShareRequest) { r.Type = "quorate/propose.v1" }, "purpose": func(r *ShareRequest) { r.Purpose = "theft" },
		"no share": func(r *ShareRequest) { r.Sealed = nil }, "for ever": func(r *ShareRequest) { r.Expires = 0 },
		"no name": func(r *ShareRequest) { r.Name = "" }, "recipient": func(r *ShareRequest) { r.Recipient = "age1" },
		"large": func(r *ShareRequest) { r.Sealed = make([]byte, MaxSealedShare+1) },
	} {
		r, err := ParseShareRequest(a.signed["bob"])
		if err != nil {
			t.Fatal(err)
		}
		change(&r.ShareRequest)
		if _, err := r.Sign(t.Context(), LocalSigner(a.asker), nil); err == nil {
			t.Errorf("%s: signed", name)
		}
		payload, err := canon.Marshal(&r.ShareRequest)
		if err != nil {
			t.Fatal(err)
		}
		if len(payload) > MaxPayload {
			continue
		}
		if _, err := ParseShareRequest(SignEnvelope(a.asker, ShareRequestTyp, payload)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	if _, err := a.backup.Request("zoe"); err == nil {
		t.Error("a stranger is asked")
	}
	if _, err := ParseShareRequest(SignEnvelope(a.asker, "quorate/propose.v1", []byte("{}"))); err == nil {
		t.Error("a proposal is taken for a request")
	}
}

func FuzzParseShareRequest(f *testing.F) {
	f.Add(ask(f, newEscrow(f, 7, 2, "alice", "bob")).signed["bob"])
	f.Add(SignEnvelope(testKey(1), ShareRequestTyp, []byte("{}")))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseShareRequest(data)
		if err != nil {
			return
		}
		payload, err := canon.Marshal(&r.ShareRequest)
		if err != nil || !bytes.Equal(payload, r.envelope.Payload) || !bytes.Equal(r.envelope.Bytes(), data) {
			t.Errorf("%q comes out as %q, %v", data, payload, err)
		}
	})
}

func FuzzParseShare(f *testing.F) {
	a := ask(f, newEscrow(f, 7, 2, "alice", "bob"))
	for _, sealed := range []struct {
		identity string
		content  []byte
	}{{a.identities["bob"], a.backup.ShareOf("bob").Sealed}, {a.identity, a.answer(f, "bob")}} {
		plain, err := OpenWith(sealed.identity, sealed.content)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseShare(data)
		if err != nil {
			return
		}
		if again, err := canon.Marshal(s); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q comes out as %q, %v", data, again, err)
		}
	})
}

// FuzzJudge hands whatever bytes back as an answer: it is named, and never good.
func FuzzJudge(f *testing.F) {
	a := ask(f, newEscrow(f, 7, 2, "alice", "bob"))
	good := a.answer(f, "bob")
	f.Add(good[:len(good)-1])
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Equal(data, good) {
			return
		}
		j := a.backup.Judge([]Answer{{"x", data}}, a.identity, "entry 1", a.ids)
		if len(j.Good) != 0 || len(j.Bad) != 1 || !strings.HasPrefix(j.Bad[0].Error(), "x ") {
			t.Errorf("%q: %+v", data, j)
		}
	})
}

var errCard = errors.New("the card is out")

type brokenSigner struct {
	Signer
	give func(sig []byte) ([]byte, error)
}

func (b brokenSigner) Sign(ctx context.Context, purpose string, message []byte, show []string) ([]byte, error) {
	sig, err := b.Signer.Sign(ctx, purpose, message, show)
	if err != nil {
		return nil, err
	}
	return b.give(sig)
}

// What a signer gives is verified before anybody relies on it.
func TestSignersAreNotBelieved(t *testing.T) {
	key, payload := testKey(1), []byte("{}")
	for name, c := range map[string]struct {
		give func([]byte) ([]byte, error)
		want error
	}{
		"good":     {func(sig []byte) ([]byte, error) { return sig, nil }, nil},
		"a bit":    {func(sig []byte) ([]byte, error) { sig[9] ^= 1; return sig, nil }, ErrWrongSignature},
		"short":    {func(sig []byte) ([]byte, error) { return sig[1:], nil }, ErrWrongSignature},
		"nothing":  {func([]byte) ([]byte, error) { return nil, nil }, ErrWrongSignature},
		"refusing": {func([]byte) ([]byte, error) { return nil, errCard }, errCard},
		"other":    {func([]byte) ([]byte, error) { return testKey(2).Sign(payload), nil }, ErrWrongSignature},
	} {
		s := brokenSigner{LocalSigner(key), c.give}
		envelope, err := SignEnvelopeWith(t.Context(), s, PurposeStatement, "quorate/record.v1", payload, nil)
		if !errors.Is(err, c.want) || (err == nil) != bytes.Equal(envelope, SignEnvelope(key, "quorate/record.v1", payload)) {
			t.Errorf("%s: %d bytes, %v", name, len(envelope), err)
		}
	}
}

func TestPurposesAreApart(t *testing.T) {
	key := testKey(1)
	statement := SigStructure(key.ID(), "quorate/propose.v1", []byte("{}"))
	request := SigStructure(key.ID(), ShareRequestTyp, []byte("{}"))
	endorsement := append(PurposePrefix(PurposeEndorsement), 1)
	foreign := SigStructure(testKey(2).ID(), "quorate/propose.v1", []byte("{}"))
	messages := map[string][]byte{
		PurposeStatement: statement, PurposeRequest: request, PurposeEndorsement: endorsement,
		"foreign": foreign, "empty": nil, "prefix": PurposePrefix(PurposeEndorsement), "rotate": append(PurposePrefix("rotate"), 1),
		"cut": statement[:len(statement)-1], "longer": append(bytes.Clone(statement), 0),
	}
	for _, purpose := range []string{PurposeStatement, PurposeRequest, PurposeEndorsement, "rotate", ""} {
		for name, message := range messages {
			_, err := LocalSigner(key).Sign(t.Context(), purpose, message, nil)
			if (err == nil) != (name == purpose && purpose != "rotate") {
				t.Errorf("purpose %q, message %s: %v", purpose, name, err)
			}
		}
	}
}

func FuzzParseSigStructure(f *testing.F) {
	f.Add(SigStructure(testKey(1).ID(), "quorate/propose.v1", []byte("{}")))
	f.Add([]byte("\x84\x6aSignature1\x40\x40\x41\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		kid, typ, payload, err := ParseSigStructure(data)
		if err == nil && !bytes.Equal(SigStructure(kid, typ, payload), data) {
			t.Errorf("%x comes out otherwise", data)
		}
	})
}
