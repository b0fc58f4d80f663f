package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// The vectors of what a key's word is worth in each epoch (FORMAT.md section 19): the
// entries of a ledger, and the words that follow from them. They are append-only like
// all of test/vectors, whose other files package ledger checks.

const keyAtVectorsName = "keyat-with-test-keys.json"

type keyAtVectors struct {
	About   string        `json:"about"`
	Entries []string      `json:"entries"` // hex
	Words   []keyAtVector `json:"words"`
}

type keyAtVector struct {
	Name  string  `json:"name"`
	Key   string  `json:"key"`             // id
	Epoch *uint64 `json:"epoch,omitempty"` // none: the statement names none
	Word  KeyWord `json:"word"`
}

// keyAtLedger is a ledger on which keys are rotated, lost, stolen and passed over, and
// the names of its keys. Keys speak for four epochs after their first.
func keyAtLedger(t testing.TB) (*world, []string) {
	g := defaultGenesis()
	rules := ledger.DefaultKeys()
	rules.ReplicaKeyEpochs = 2
	g.Format, g.Policy.KeyEpochs, g.Policy.Keys = ledger.Format, 4, &rules
	g.Replicas, g.Recovery.Holders, g.Recovery.Threshold = g.Replicas[:2], g.Recovery.Holders[:1], 1
	w := newWorld(t, g)
	join := func(name, key string) ledger.Hash {
		peer := sha256.Sum256([]byte("peer " + key))
		envelope := w.sign(saying{author: name, key: key, typ: ledger.TypeJoin, body: ledger.Join{Name: name, Operator: "alpha", Peer: peer[:], Public: publicOf(key)}})
		w.submit(envelope)
		return idOf(envelope)
	}
	decide := func(action string, args any) {
		p := w.propose("alice", action, args)
		w.submit(p, w.ballot("bob", ledger.TypeApprove, p))
		w.apply(ledger.CommandSeal)
	}
	until := func(epoch uint64) {
		policy := w.state.Policy()
		w.now += (epoch - w.state.Epoch()) * policy.EpochMillis
		w.apply(ledger.CommandTick)
		if w.state.Epoch() != epoch {
			t.Fatalf("it is epoch %d, not %d", w.state.Epoch(), epoch)
		}
	}
	rotate := func(name, key, next string) {
		_, replica := w.state.Replica(name)
		w.submit(w.sign(saying{author: name, key: key, typ: ledger.TypeRotate, body: rotationOf(w, name, key, next, replica)}))
		w.apply(ledger.CommandSeal)
	}
	decide("node.admit", admitArgs{Joins: slices.SortedFunc(slices.Values([]ledger.Hash{join("edge-1", "edge-1"), join("edge-2", "edge-2"), join("edge-3", "edge-3")}),
		func(x, y ledger.Hash) int { return bytes.Compare(x[:], y[:]) })})
	for epoch := uint64(1); epoch <= 3; epoch++ {
		until(epoch)
	}
	rotate("edge-1", "edge-1", "edge-1 second")
	rotate("edge-2", "edge-2", "edge-2 second")
	rotate("r1", "r1", "r1 second")
	until(4)
	until(5)
	w.submit(w.sign(saying{author: "edge-3", typ: ledger.TypeRecord, body: ledger.Record{Text: "in the grace epoch of a key without successor"}}))
	until(6)
	decide("node.rekey", nodeRekeyArgs{Join: join("edge-3", "edge-3 another")})
	decide(ledger.ActionRevoke, revokeArgs{From: 3, Key: ledger.Hash(keyNamed("edge-2").ID()), Reason: "stolen, and rotated by the thief"})
	until(9) // 7 and 8 are passed over
	until(10)
	rotate("edge-1", "edge-1 second", "edge-1 third")
	from := uint64(3)
	decide("replica.rekey", replicaArgs{From: &from, Replica: replicaOf("r1@alpha#r1 another")})
	decide("council.change", councilArgs{Add: []ledger.Member{memberOf("carol@gamma#carol another")}, Remove: []string{"carol"}})
	return w, []string{"edge-1", "edge-1 second", "edge-1 third", "edge-2", "edge-2 second", "edge-3", "edge-3 another",
		"r1", "r1 second", "r1 another", "r2", "alice", "carol", "carol another", "rita"}
}

func makeKeyAtVectors(t testing.TB) keyAtVectors {
	w, names := keyAtLedger(t)
	v := keyAtVectors{About: "What a key's word is worth (FORMAT.md section 19): after the entries of this ledger, whose first is its genesis, a signature under the key whose statement names this epoch, or none, is worth word."}
	for _, entry := range append([][]byte{w.entry0}, w.entries...) {
		v.Entries = append(v.Entries, hex.EncodeToString(entry))
	}
	add := func(name string, id ledger.Hash, epoch *uint64) {
		word, _ := w.state.KeyAt(id, epoch)
		v.Words = append(v.Words, keyAtVector{Name: name, Key: id.String(), Epoch: epoch, Word: word})
	}
	for _, name := range names {
		id := ledger.Hash(keyNamed(name).ID())
		for epoch := range uint64(18) {
			add(fmt.Sprintf("%s in epoch %d", name, epoch), id, &epoch)
		}
		add(name+" in no epoch", id, nil)
	}
	epoch := uint64(3)
	add("a stranger's", ledger.Hash(keyNamed("mallory").ID()), &epoch)
	return v
}

func TestKeyAtVectors(t *testing.T) {
	path := filepath.Join("../test/vectors", keyAtVectorsName)
	if _, err := os.Stat(path); *update && errors.Is(err, os.ErrNotExist) {
		writeKeyAtVectors(t, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v keyAtVectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	state := replayHex(t, v.Entries)
	met := map[KeyWord]int{}
	for _, c := range v.Words {
		id, err := ledger.ParseHash(c.Key)
		if err != nil {
			t.Fatal(err)
		}
		if word, _ := state.KeyAt(id, c.Epoch); word != c.Word {
			t.Errorf("%s: %s, want %s", c.Name, word, c.Word)
		}
		met[c.Word]++
	}
	for _, word := range []KeyWord{WordHolds, WordDisputed, WordNotYet, WordExpired, WordNoEpoch, WordUnknown} {
		if met[word] == 0 {
			t.Errorf("no case of %q", word)
		}
	}
	if made := makeKeyAtVectors(t); !slices.Equal(made.Entries, v.Entries) {
		t.Error("the ledger of the vectors is not the one that is told here")
	}
}

func replayHex(t *testing.T, entries []string) *State {
	t.Helper()
	var r *Replayer
	for i, text := range entries {
		entry, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			r, err = NewReplayer(entry, NewDirectVerifier(64))
		} else {
			err = r.Add(entry)
		}
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	return r.State()
}

// writeKeyAtVectors writes the file, which is missing, and appends its hash.
func writeKeyAtVectors(t *testing.T, path string) {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", " ")
	if err := e.Encode(makeKeyAtVectors(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	sums, err := os.OpenFile("../test/vectors/SHA256SUMS", os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(sums, "%x  %s\n", sha256.Sum256(b.Bytes()), keyAtVectorsName); err != nil {
		t.Fatal(err)
	}
	if err := sums.Close(); err != nil {
		t.Fatal(err)
	}
}
