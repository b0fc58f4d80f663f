package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// TestArgumentsCoverActions: each action of FORMAT.md has its arguments, and
// nothing else has.
func TestArgumentsCoverActions(t *testing.T) {
	var got []string
	got = append(got, sortedKeys(arguments)...)
	if want := ledger.ActionsOf(ledger.Format); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, entry := range optional {
		action, key := entry[:strings.LastIndexByte(entry, '.')], entry[strings.LastIndexByte(entry, '.')+1:]
		if _, ok := arguments[action][key]; !ok {
			t.Errorf("%s is optional, but no argument", entry)
		}
	}
}

// TestNextStepsNameCodes: a next step for a code that does not exist helps
// nobody.
func TestNextStepsNameCodes(t *testing.T) {
	for code := range nextSteps {
		if _, ok := fsm.CodeNamed(code); !ok {
			t.Errorf("%s is no code of the rules", code)
		}
	}
}

func TestReadArguments(t *testing.T) {
	for _, test := range []struct {
		action string
		args   []string
		want   string
	}{
		{"node.quarantine", []string{"name=edge-7", "reason=forged = routes"}, `{"name":"edge-7","reason":"forged = routes"}`},
		{"council.change", []string{"remove=bob,alice"}, `{"remove":["alice","bob"]}`},
		{"council.change", []string{"remove=bob", "remove=alice"}, `{"remove":["alice","bob"]}`},
		{"replica.remove", []string{"name=r1", "cause=false"}, `{"name":"r1"}`},
		{"replica.remove", []string{"name=r1", "cause=true"}, `{"cause":true,"name":"r1"}`},
		{"format.upgrade", []string{"format=2"}, `{"format":2}`},
		{"epoch.advance", nil, `{}`},
		{"operator.add", []string{"name=fjord", "sponsor=aurora"}, `{"name":"fjord","sponsor":"aurora"}`},
	} {
		given, err := keyValues(test.args)
		if err != nil {
			t.Fatal(err)
		}
		r, err := readArguments(test.action, given, "")
		if err != nil {
			t.Errorf("%s %v: %v", test.action, test.args, err)
			continue
		}
		if string(r.Args) != test.want {
			t.Errorf("%s %v: got %s, want %s", test.action, test.args, r.Args, test.want)
		}
	}
}

func TestReadArgumentsRefuses(t *testing.T) {
	for _, test := range []struct {
		action, arg, want string
	}{
		{"node.remove", "name=Edge", `name "Edge"`},
		{"node.remove", "nme=edge", "has no argument"},
		{"node.release", "name=edge", `needs the argument "reason"`},
		{"format.upgrade", "format=two", "want a whole number"},
		{"node.admit", "joins=zz", "parse hash"},
		{"council.change", "add=dave.pub", "is not @FILE"},
		{"log.rekey", "ed25519=+/", "want unpadded base64url"},
		{"replica.remove", "cause=perhaps", "want true or false"},
	} {
		given, err := keyValues([]string{test.arg})
		if err != nil {
			t.Fatal(err)
		}
		_, err = readArguments(test.action, given, "")
		if err == nil || !strings.Contains(err.Error(), test.want) || asFailure(err).exit != exitUsage || asFailure(err).next == "" {
			t.Errorf("%s %s: got %v, want %s with a next step", test.action, test.arg, err, test.want)
		}
	}
	if _, err := keyValues([]string{"name"}); err == nil {
		t.Error("an argument without = was taken")
	}
}

// testStatement signs a statement of a fixed key.
func testStatement(t *testing.T, seed byte, typ string, body any) []byte {
	t.Helper()
	key := keys.FromSeed([32]byte{seed})
	p := ledger.Payload{Author: "edge-1", Ledger: ledger.Hash{1}, Type: typ}
	if form, _ := ledger.ReplayForm(typ); form == ledger.ReplayNonce {
		p.Nonce, p.Expires = bytes.Repeat([]byte{seed}, 16), 1
	}
	if join, ok := body.(ledger.Join); ok {
		join.Public = key.Public().Bytes()
		body = join
	}
	envelope, err := ledger.Sign(key, p, body)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func TestSubmissionOrder(t *testing.T) {
	dir := t.TempDir()
	join := testStatement(t, 1, ledger.TypeJoin, ledger.Join{Name: "edge-1", Operator: "aurora", Peer: make([]byte, 32)})
	propose := testStatement(t, 2, ledger.TypePropose, ledger.Propose{Action: "epoch.advance", Args: canon.Raw("{}"), Base: map[string]uint64{}})
	s, err := ledger.ParseStatement(propose)
	if err != nil {
		t.Fatal(err)
	}
	approve := testStatement(t, 3, ledger.TypeApprove, ledger.Ballot{Proposal: s.ID})
	files := map[string][][]byte{"a.cose": {approve}, "p.cose": {propose, join}, "again.cose": {propose}}
	for name, envelopes := range files {
		if err := writeStatements(filepath.Join(dir, name), envelopes); err != nil {
			t.Fatal(err)
		}
	}
	got, proposals, err := submission([]string{filepath.Join(dir, "a.cose"), filepath.Join(dir, "p.cose"), filepath.Join(dir, "again.cose")})
	if err != nil {
		t.Fatal(err)
	}
	if want := [][]byte{join, propose, approve}; !reflect.DeepEqual(got, want) {
		t.Error("want the join, the proposal once, the approval")
	}
	if !reflect.DeepEqual(proposals, []ledger.Hash{s.ID}) {
		t.Errorf("got the proposals %v", proposals)
	}
}

func TestJoinOfAnotherKeyIsRefused(t *testing.T) {
	other := keys.FromSeed([32]byte{9}).Public().Bytes()
	key := keys.FromSeed([32]byte{1})
	p := ledger.Payload{Author: "edge-1", Ledger: ledger.Hash{1}, Type: ledger.TypeJoin, Nonce: make([]byte, 16), Expires: 1}
	envelope, err := ledger.Sign(key, p, ledger.Join{Name: "edge-1", Operator: "aurora", Peer: make([]byte, 32), Public: other})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ledger.ParseStatement(envelope)
	if err != nil {
		t.Fatal(err)
	}
	if checkJoin(s) == nil {
		t.Error("a join that another key signed was taken")
	}
}

func TestSplit(t *testing.T) {
	list := [][]byte{make([]byte, 4), make([]byte, 4), make([]byte, 4), make([]byte, 9), make([]byte, 1)}
	var sizes []int
	for _, part := range split(list, 2, 9) {
		sizes = append(sizes, len(part))
	}
	if want := []int{2, 1, 1, 1}; !reflect.DeepEqual(sizes, want) {
		t.Errorf("got %v, want %v", sizes, want)
	}
	if split(nil, 2, 9) != nil {
		t.Error("nothing was split into something")
	}
}

func TestSetPolicy(t *testing.T) {
	policy := func() (*ledger.Policy, error) { p := ledger.DefaultPolicy(3); return &p, nil }
	r, err := policyRequest(map[string]any{"quota": "7", "rules.node.admit.threshold": "3", "rules.node.admit.vetoers": "carol,bob"}, "", policy)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"quota":7`, `"node.admit":{"delay_millis":0,"threshold":3,"vetoers":["bob","carol"]}`, `"node.rekey":{"delay_millis":0,"threshold":2}`} {
		if !strings.Contains(string(r.Args), want) {
			t.Errorf("%s is not in %s", want, r.Args)
		}
	}
	for path, value := range map[string]string{"quotas": "1", "quota": "x", "rules.node.explode.threshold": "1", "rules.node.admit.colour": "1", "rules": "1"} {
		if _, err := policyRequest(map[string]any{path: value}, "", policy); err == nil {
			t.Errorf("%s=%s was taken", path, value)
		}
	}
	if _, err := policyRequest(map[string]any{}, "", policy); err == nil {
		t.Error("no change was taken")
	}
}

// TestWholePolicy: what list policy --output json prints can be edited and
// given back.
func TestWholePolicy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	text := `{"policy": ` + string(mustMarshal(t, ledger.DefaultPolicy(3))) + `, "version": 4}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := policyRequest(map[string]any{"policy": "@" + path}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"policy":` + string(mustMarshal(t, ledger.DefaultPolicy(3))) + `}`; string(r.Args) != want {
		t.Errorf("got %s", r.Args)
	}
	if _, err := policyRequest(map[string]any{"policy": "@" + path, "quota": "1"}, "", nil); err == nil {
		t.Error("a whole policy and a field were taken together")
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := canon.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
