package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// The golden vectors of test/vectors, which a second implementation checks too.
// They are append-only: a change of format adds files, and SHA256SUMS holds
// what is there to what it was.

const vectorFolder = "../test/vectors"

var updateVectors = flag.Bool("update", false, "write the vector files that are missing; existing ones are never altered")

// hexBytes are bytes that a vector shows as lower-case hex.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }
func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

type canonVectors struct {
	About string        `json:"about"`
	Cases []canonVector `json:"cases"`
}

type canonVector struct {
	Name  string   `json:"name"`
	Bytes hexBytes `json:"bytes"`
	Error string   `json:"error,omitempty"` // code; none: it is valid
}

type keyVectors struct {
	About string        `json:"about"`
	Keys  []keyVector   `json:"keys"`
	Words []wordsVector `json:"words"`
}

type wordsVector struct {
	Bytes hexBytes `json:"bytes"` // 32
	Words string   `json:"words"`
}

type keyVector struct {
	Name     string   `json:"name"`
	Seed     hexBytes `json:"seed"`
	Public   hexBytes `json:"public"`
	ID       hexBytes `json:"id"`
	Words    string   `json:"words"`
	Cosigner hexBytes `json:"cosigner"` // derived ML-DSA-44 public key
}

type statementVectors struct {
	About string            `json:"about"`
	Cases []statementVector `json:"cases"`
}

type statementVector struct {
	Name      string   `json:"name"`
	Envelope  hexBytes `json:"envelope"`
	Error     string   `json:"error,omitempty"` // code; none: it is a statement
	Path      string   `json:"path,omitempty"`  // of the field that is wrong
	Public    hexBytes `json:"public,omitempty"`
	Signature string   `json:"signature,omitempty"` // "valid" or "invalid" under public
	ID        hexBytes `json:"id,omitempty"`
	KeyID     hexBytes `json:"key_id,omitempty"`
	Signed    hexBytes `json:"signed,omitempty"` // Sig_structure
	Payload   string   `json:"payload,omitempty"`
}

type entryVectors struct {
	About string        `json:"about"`
	Cases []entryVector `json:"cases"`
}

type entryVector struct {
	Name    string   `json:"name"`
	Entry   hexBytes `json:"entry"`
	Error   bool     `json:"error,omitempty"`
	Seq     uint64   `json:"seq"`
	Stamp   uint64   `json:"stamp"`
	Prev    hexBytes `json:"prev,omitempty"`
	Kind    string   `json:"kind,omitempty"`
	Content hexBytes `json:"content,omitempty"`
	Leaf    hexBytes `json:"leaf,omitempty"`
	Genesis bool     `json:"genesis,omitempty"` // the content is a valid genesis too
}

type commandVectors struct {
	About string          `json:"about"`
	Cases []commandVector `json:"cases"`
}

type commandVector struct {
	Name       string     `json:"name"`
	Command    hexBytes   `json:"command"`
	Error      bool       `json:"error,omitempty"`
	Kind       uint8      `json:"kind"`
	Stamp      uint64     `json:"stamp"`
	Statements []hexBytes `json:"statements,omitempty"`
}

type trieVectors struct {
	About   string            `json:"about"`
	Digests []digestVector    `json:"digests"`
	Proofs  []trieProofVector `json:"proofs"`
}

type digestVector struct {
	Name    string       `json:"name"`
	Records []trieRecord `json:"records"`
	Digest  hexBytes     `json:"digest"`
}

type trieProofVector struct {
	Name   string   `json:"name"`
	Digest hexBytes `json:"digest"`
	Proof  string   `json:"proof"` // canonical JSON
	Holds  bool     `json:"holds"`
}

type trieRecord struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type checkpointVectors struct {
	About     string             `json:"about"`
	Authority string             `json:"authority"` // record, canonical JSON
	Policy    string             `json:"policy"`    // tlog-policy of the authority
	VKeys     []string           `json:"vkeys"`     // log Ed25519, log ML-DSA-44, then each active replica's ML-DSA-44
	Messages  []messageVector    `json:"messages"`
	Cases     []checkpointVector `json:"cases"`
}

type messageVector struct {
	Replica   string   `json:"replica"`
	Origin    string   `json:"origin"`
	Size      uint64   `json:"size"`
	Root      hexBytes `json:"root"`
	Time      uint64   `json:"time"`
	Message44 hexBytes `json:"message_mldsa44"`
	Message65 hexBytes `json:"message_mldsa65"`
	Line44    string   `json:"line_mldsa44"`
	Line65    string   `json:"line_mldsa65"`
}

type checkpointVector struct {
	Name      string   `json:"name"`
	Note      string   `json:"note"`
	Result    string   `json:"result"` // certified, short, bad_signature, malformed or other_origin
	Size      uint64   `json:"size,omitempty"`
	Root      hexBytes `json:"root,omitempty"`
	Cosigners int      `json:"cosigners,omitempty"`
	Signed    uint64   `json:"signed,omitempty"` // seconds
}

type authorityVectors struct {
	About       string        `json:"about"`
	Strings     []string      `json:"strings"` // what the texts are shortened by
	Genesis     hexBytes      `json:"genesis"` // hash
	Links       []string      `json:"links"`   // canonical JSON; a chain
	Certifiers  []string      `json:"certifiers"`
	Checkpoints []noteVector  `json:"checkpoints"`
	Refused     []refusedLink `json:"refused"`
}

type noteVector struct {
	Name string `json:"name"`
	Note string `json:"note"`
	OK   bool   `json:"ok"` // certified by who has authority over its size
}

type refusedLink struct {
	Name  string `json:"name"`
	After int    `json:"after"` // index of the link that it claims to follow; -1: a link 0
	Link  string `json:"link"`
}

type proofVectors struct {
	About   string        `json:"about"`
	Strings []string      `json:"strings"` // what the texts are shortened by
	Genesis hexBytes      `json:"genesis"`
	Cases   []proofVector `json:"cases"`
}

type proofVector struct {
	Name  string   `json:"name"`
	File  string   `json:"file"` // tlog-proof or state proof, by its first bytes
	Holds bool     `json:"holds"`
	Size  uint64   `json:"size,omitempty"`
	Seq   uint64   `json:"seq,omitempty"`   // of an entry proof
	Entry hexBytes `json:"entry,omitempty"` // of an entry proof
	Key   string   `json:"key,omitempty"`   // of a state proof
	Value string   `json:"value,omitempty"` // of a state proof; none: there is no record
}

// vectorChecks says how each file is read and checked.
var vectorChecks = map[string]func(*testing.T, []byte){
	"canon.json":                      checks(checkCanon),
	"keys-with-test-keys.json":        checks(checkKeys),
	"statements-with-test-keys.json":  checks(checkStatements),
	"entries-with-test-keys.json":     checks(checkEntries),
	"commands-with-test-keys.json":    checks(checkCommands),
	"trie.json":                       checks(checkTrie),
	"checkpoints-with-test-keys.json": checks(checkCheckpoints),
	"authority-with-test-keys.json":   checks(checkAuthority),
	"proofs-with-test-keys.json":      checks(checkProofs),
}

func checks[V any](check func(*testing.T, V)) func(*testing.T, []byte) {
	return func(t *testing.T, b []byte) {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		var v V
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		check(t, v)
	}
}

func TestVectors(t *testing.T) {
	if *updateVectors {
		writeVectors(t)
	}
	sums := readSums(t)
	files, err := filepath.Glob(filepath.Join(vectorFolder, "*.json"))
	if err != nil || len(files) == 0 || len(sums) == 0 {
		t.Fatalf("no vectors in %s: %v", vectorFolder, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if sums[name] != hex.EncodeToString(hash(b)) {
				t.Fatal("SHA256SUMS has another hash: vectors are append-only")
			}
			delete(sums, name)
			check := vectorChecks[name]
			if check == nil {
				t.Fatal("no check for this file")
			}
			check(t, b)
		})
	}
	for name := range sums {
		t.Errorf("%s is in SHA256SUMS and gone", name)
	}
}

func hash(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

func readSums(t *testing.T) map[string]string {
	b, err := os.ReadFile(filepath.Join(vectorFolder, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(b)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || sums[name] != "" {
			t.Fatalf("SHA256SUMS: bad line %q", line)
		}
		sums[name] = sum
	}
	return sums
}

// writeVectors writes the files that are missing and appends their hashes.
func writeVectors(t *testing.T) {
	for _, name := range sortedKeys(vectorMakers) {
		path := filepath.Join(vectorFolder, name)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Logf("%s exists and stays as it is", name)
			continue
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(vectorMakers[name](t)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(vectorFolder, "SHA256SUMS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(f, "%x  %s\n", hash(b.Bytes()), name); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Texts that repeat the same keys and signatures are shortened: $N$ in them
// stands for string N of their file.
var (
	shortened = regexp.MustCompile(`\$[0-9]+\$`)
	long      = regexp.MustCompile(`[A-Za-z0-9_+/=-]{100,}`)
)

func lengthen(t *testing.T, text string, table []string) []byte {
	return shortened.ReplaceAllFunc([]byte(text), func(ref []byte) []byte {
		n, err := strconv.Atoi(strings.Trim(string(ref), "$"))
		if err != nil || n >= len(table) {
			t.Fatalf("no string %s", ref)
		}
		return []byte(table[n])
	})
}

// shorten moves into a table what texts repeat.
func shorten(texts ...*string) []string {
	count := map[string]int{}
	for _, text := range texts {
		for _, s := range long.FindAllString(*text, -1) {
			count[s]++
		}
	}
	table, index := []string{}, map[string]int{}
	for _, text := range texts {
		*text = long.ReplaceAllStringFunc(*text, func(s string) string {
			if count[s] < 2 {
				return s
			}
			if _, ok := index[s]; !ok {
				index[s] = len(table)
				table = append(table, s)
			}
			return fmt.Sprintf("$%d$", index[s])
		})
	}
	return table
}

// wants fails unless a vector file has cases of every sort that is named.
func wants(t *testing.T, counts map[string]int) {
	t.Helper()
	for what, n := range counts {
		if n == 0 {
			t.Errorf("no vector of sort %q", what)
		}
	}
}

func checkCanon(t *testing.T, v canonVectors) {
	sorts := map[string]int{"valid": 0, "invalid": 0}
	for _, c := range v.Cases {
		err := canon.Valid(c.Bytes)
		if c.Error == "" {
			sorts["valid"]++
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
			continue
		}
		sorts["invalid"]++
		var e *canon.Error
		if !errors.As(err, &e) || e.Code != c.Error {
			t.Errorf("%s: want %s, got %v", c.Name, c.Error, err)
		}
	}
	wants(t, sorts)
}

func checkKeys(t *testing.T, v keyVectors) {
	for _, c := range v.Keys {
		k := keys.FromSeed([32]byte(c.Seed))
		id := k.ID()
		if !bytes.Equal(k.Public().Bytes(), c.Public) || !bytes.Equal(id[:], c.ID) || id.Words() != c.Words {
			t.Errorf("%s: another public key, id or words", c.Name)
		}
		if !bytes.Equal(k.Cosigner44().Public(), c.Cosigner) {
			t.Errorf("%s: another cosigning key", c.Name)
		}
	}
	for _, c := range v.Words {
		if got := keys.Words([16]byte(c.Bytes)); got != c.Words {
			t.Errorf("words of %x: %q", c.Bytes, got)
		}
	}
	wants(t, map[string]int{"keys": len(v.Keys), "words": len(v.Words)})
}

func checkStatements(t *testing.T, v statementVectors) {
	sorts := map[string]int{"valid": 0, "invalid": 0, "refused": 0}
	for _, c := range v.Cases {
		s, err := ParseStatement(c.Envelope)
		if c.Error != "" {
			sorts["refused"]++
			var e *StatementError
			if !errors.As(err, &e) || e.Code != c.Error || e.Path != c.Path {
				t.Errorf("%s: want %s at %q, got %v", c.Name, c.Error, c.Path, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		sorts[c.Signature]++
		public, err := keys.ParsePublicKey(c.Public)
		if err != nil {
			t.Fatal(err)
		}
		if s.Verify(public) != (c.Signature == "valid") {
			t.Errorf("%s: its signature should be %s", c.Name, c.Signature)
		}
		signed := keys.SigStructure(keys.ID(s.KeyID), "quorate/"+s.Payload.Type+".v1", []byte(c.Payload))
		if !bytes.Equal(s.ID[:], c.ID) || !bytes.Equal(s.KeyID[:], c.KeyID) || !bytes.Equal(signed, c.Signed) {
			t.Errorf("%s: another id, key id or Sig_structure", c.Name)
		}
	}
	wants(t, sorts)
}

func checkEntries(t *testing.T, v entryVectors) {
	sorts := map[string]int{"valid": 0, "refused": 0, "genesis": 0}
	for _, c := range v.Cases {
		e, err := ParseEntry(c.Entry)
		if err == nil && e.Kind == KindGenesis {
			_, _, err = ParseGenesis(c.Entry)
		}
		if err == nil && e.Kind == KindSeal {
			_, err = e.Seal()
		}
		if err == nil && e.Kind == KindEffect {
			_, err = e.Effect()
		}
		if c.Error {
			sorts["refused"]++
			if err == nil {
				t.Errorf("%s: it is accepted", c.Name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		sorts["valid"]++
		if c.Genesis {
			sorts["genesis"]++
		}
		leaf := LeafHash(c.Entry)
		if e.Seq != c.Seq || e.Stamp != c.Stamp || e.Kind.String() != c.Kind || !bytes.Equal(e.Prev[:], c.Prev) ||
			!bytes.Equal(e.Content, c.Content) || !bytes.Equal(leaf[:], c.Leaf) {
			t.Errorf("%s: parsed as %+v, leaf %s", c.Name, e, leaf)
		}
	}
	wants(t, sorts)
}

func checkCommands(t *testing.T, v commandVectors) {
	sorts := map[string]int{"valid": 0, "refused": 0}
	for _, c := range v.Cases {
		got, err := ParseCommand(c.Command)
		if c.Error {
			sorts["refused"]++
			if err == nil {
				t.Errorf("%s: it is accepted", c.Name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		sorts["valid"]++
		if uint8(got.Kind) != c.Kind || got.Stamp != c.Stamp || len(got.Statements) != len(c.Statements) {
			t.Errorf("%s: parsed as kind %d, stamp %d, %d statements", c.Name, got.Kind, got.Stamp, len(got.Statements))
			continue
		}
		for i := range got.Statements {
			if !bytes.Equal(got.Statements[i], c.Statements[i]) {
				t.Errorf("%s: statement %d differs", c.Name, i)
			}
		}
	}
	wants(t, sorts)
}

func checkTrie(t *testing.T, v trieVectors) {
	for _, c := range v.Digests {
		var forward, backward Trie
		for _, r := range c.Records {
			forward = forward.Put(r.Key, []byte(r.Value))
		}
		for _, r := range slices.Backward(c.Records) {
			backward = backward.Put(r.Key, []byte(r.Value))
		}
		if root := forward.Root(); !bytes.Equal(root[:], c.Digest) || backward.Root() != root {
			t.Errorf("%s: digest %s", c.Name, root)
		}
	}
	sorts := map[string]int{"holds": 0, "fails": 0, "digests": len(v.Digests)}
	for _, c := range v.Proofs {
		p, err := ParseStateProof([]byte(c.Proof))
		if err == nil {
			err = p.Verify(Hash(c.Digest))
		}
		if (err == nil) != c.Holds {
			t.Errorf("%s: want it to hold: %t; got %v", c.Name, c.Holds, err)
		}
		if c.Holds {
			sorts["holds"]++
		} else {
			sorts["fails"]++
		}
	}
	wants(t, sorts)
}

func checkCheckpoints(t *testing.T, v checkpointVectors) {
	var a Authority
	if err := canon.Unmarshal([]byte(v.Authority), &a); err != nil {
		t.Fatal(err)
	}
	if string(TLogPolicy(a)) != v.Policy {
		t.Error("another tlog-policy")
	}
	vkeys := []string{LogVKey(a.Origin, a.Log), LogMLDSA44VKey(a.Origin, a.Log)}
	for _, r := range a.Active() {
		vkeys = append(vkeys, CosignerVKey(a.Origin, r))
	}
	if !slices.Equal(vkeys, v.VKeys) {
		t.Error("other verifier keys")
	}
	for _, c := range v.Messages {
		h := Head{Origin: c.Origin, Size: c.Size, Root: Hash(c.Root)}
		name := CosignerName(c.Origin, c.Replica)
		if !bytes.Equal(h.message44(name, c.Time), c.Message44) || !bytes.Equal(h.message65(name, c.Time), c.Message65) {
			t.Errorf("%s: another message", c.Replica)
		}
		k := testKey(c.Replica)
		note := (&Checkpoint{Head: h, Cosignatures: []Cosignature{Cosign(k, k.Cosigner44(), c.Replica, h, c.Time)}}).Note()
		if want := string(h.Body()) + "\n" + c.Line44 + "\n" + c.Line65 + "\n"; string(note) != want {
			t.Errorf("%s: other lines", c.Replica)
		}
	}
	sorts := map[string]int{"certified": 0, "short": 0, "bad_signature": 0, "malformed": 0, "other_origin": 0}
	for _, c := range v.Cases {
		sorts[c.Result]++
		if got := certify(a, c); got != c.Result {
			t.Errorf("%s: want %s, got %s", c.Name, c.Result, got)
		}
	}
	wants(t, sorts)
	wants(t, map[string]int{"messages": len(v.Messages)})
}

// certify says what the result of a checkpoint is, and checks what is said of
// it besides.
func certify(a Authority, c checkpointVector) string {
	checkpoint, err := ParseCheckpoint([]byte(c.Note))
	if err != nil {
		return "malformed"
	}
	n, err := a.Certifies(checkpoint)
	var short *NotCertifiedError
	var bad *BadSignatureError
	switch {
	case errors.As(err, &short):
		return "short"
	case errors.As(err, &bad):
		return "bad_signature"
	case err != nil:
		return "other_origin"
	case n != c.Cosigners || checkpoint.Signed(a) != c.Signed || checkpoint.Head.Size != c.Size || !bytes.Equal(checkpoint.Head.Root[:], c.Root):
		return fmt.Sprintf("certified by %d, signed %d, size %d", n, checkpoint.Signed(a), checkpoint.Head.Size)
	}
	return "certified"
}

func checkAuthority(t *testing.T, v authorityVectors) {
	var links []*Link
	for i, text := range v.Links {
		l, err := ParseLink(lengthen(t, text, v.Strings))
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
		chain, err := WalkChain(Hash(v.Genesis), links)
		if err != nil {
			t.Fatal(err)
		}
		var active []string
		for _, r := range chain.Latest.Active() {
			active = append(active, r.Name)
		}
		if got := strings.Join(active, " "); got != v.Certifiers[i] {
			t.Errorf("link %d: certifiers are %s", i, got)
		}
	}
	for _, c := range v.Refused {
		l, err := ParseLink(lengthen(t, c.Link, v.Strings))
		if err == nil && c.After < 0 {
			_, err = NewChain(Hash(v.Genesis), l)
		} else if err == nil {
			var chain *Chain
			if chain, err = WalkChain(Hash(v.Genesis), links[:c.After+1]); err != nil {
				t.Fatal(err)
			}
			err = chain.Extend(l)
		}
		if err == nil {
			t.Errorf("%s: it is accepted", c.Name)
		}
	}
	chain, err := WalkChain(Hash(v.Genesis), links)
	if err != nil {
		t.Fatal(err)
	}
	sorts := map[string]int{"refused": len(v.Refused), "certified": 0, "not certified": 0}
	for _, c := range v.Checkpoints {
		_, err := chain.VerifyCheckpoint(lengthen(t, c.Note, v.Strings))
		if (err == nil) != c.OK {
			t.Errorf("checkpoint %s: want ok %t, got %v", c.Name, c.OK, err)
		}
		if c.OK {
			sorts["certified"]++
		} else {
			sorts["not certified"]++
		}
	}
	wants(t, sorts)
}

func checkProofs(t *testing.T, v proofVectors) {
	sorts := map[string]int{"entry": 0, "state": 0, "absence": 0, "refused": 0}
	for _, c := range v.Cases {
		report, err := verifyProofFile(lengthen(t, c.File, v.Strings), Hash(v.Genesis))
		if (err == nil) != c.Holds {
			t.Errorf("%s: want it to hold: %t; got %v", c.Name, c.Holds, err)
			continue
		}
		switch {
		case !c.Holds:
			sorts["refused"]++
			continue
		case report.Entry != nil:
			sorts["entry"]++
			encoded, err := report.Entry.Encode()
			if err != nil || report.Entry.Seq != c.Seq || !bytes.Equal(encoded, c.Entry) {
				t.Errorf("%s: another entry", c.Name)
			}
		case report.Value != nil:
			sorts["state"]++
		default:
			sorts["absence"]++
		}
		if report.Key != c.Key || string(report.Value) != c.Value || report.Head.Size != c.Size {
			t.Errorf("%s: another report: %+v", c.Name, report)
		}
	}
	wants(t, sorts)
}

func verifyProofFile(b []byte, genesis Hash) (*ProofReport, error) {
	if bytes.HasPrefix(b, []byte(tlogProofHeader)) {
		p, err := ParseEntryProof(b)
		if err != nil {
			return nil, err
		}
		return p.Verify(genesis)
	}
	p, err := ParseStateProofFile(b)
	if err != nil {
		return nil, err
	}
	return p.Verify(genesis)
}
