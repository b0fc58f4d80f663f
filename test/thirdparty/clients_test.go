package thirdparty

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/formats/witness"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/ledger"
)

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v\n%.300s", url, resp.Status, err, body)
	}
	return body
}

func verifier(t *testing.T, vkey string) note.Verifier {
	t.Helper()
	v, err := fnote.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		t.Fatalf("%.80s: %v", vkey, err)
	}
	return v
}

// tileReader reads tiles over HTTP for golang.org/x/mod/sumdb/tlog, whose paths
// are those of the Go checksum database.
type tileReader struct {
	t   *testing.T
	url string
}

func (r tileReader) Height() int                     { return 8 }
func (r tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range tiles {
		data = append(data, get(r.t, r.url+strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
	}
	return data, nil
}

func hashes(list []tlog.Hash) [][]byte {
	var out [][]byte
	for _, h := range list {
		out = append(out, h[:])
	}
	return out
}

// head reads and verifies the served checkpoint under both of the log's keys.
func head(t *testing.T, url string) *flog.Checkpoint {
	t.Helper()
	raw := get(t, url+"checkpoint")
	ed, pq := verifier(t, string(get(t, url+"log.vkey"))), verifier(t, string(get(t, url+"log-mldsa44.vkey")))
	checkpoint, rest, n, err := flog.ParseCheckpoint(raw, ed.Name(), ed, pq)
	if err != nil {
		t.Fatal(err)
	}
	if len(rest) > 0 || len(n.Sigs) != 2 {
		t.Errorf("%d of the log's 2 lines verify, %d bytes of extension lines", len(n.Sigs), len(rest))
	}
	return checkpoint
}

func TestForeignClientsFollowTheLog(t *testing.T) {
	old, now := serve(t, ledgerOfSize(t, 255)), serve(t, ledgerOfSize(t, 257))
	first, second := head(t, old.url), head(t, now.url)
	if first.Size != 255 || second.Size != 257 || second.Origin != origin {
		t.Fatalf("heads of %d and %d entries of %s", first.Size, second.Size, second.Origin)
	}
	reader := tlog.TileHashReader(tlog.Tree{N: int64(second.Size), Hash: tlog.Hash(second.Hash)}, tileReader{t, now.url})
	for _, seq := range []uint64{0, 1, 128, 255, 256} {
		leaf := rfc6962.DefaultHasher.HashLeaf(now.entries[seq])
		path, err := tlog.ProveRecord(int64(second.Size), int64(seq), reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, seq, second.Size, leaf, hashes(path), second.Hash); err != nil {
			t.Errorf("entry %d: %v", seq, err)
		}
	}

	// The longer log shares its first 253 entries with the shorter one, not the
	// seal of the shorter: these are two ledgers, and a client must notice.
	path, err := tlog.ProveTree(int64(second.Size), int64(first.Size), reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, first.Size, second.Size, hashes(path), first.Hash, second.Hash); err == nil {
		t.Error("a fork passes for a continuation")
	}

	// The same ledger, continued.
	longer := old.copy()
	longer.growTo(t, 300, true)
	grown := serve(t, longer)
	third := head(t, grown.url)
	reader = tlog.TileHashReader(tlog.Tree{N: int64(third.Size), Hash: tlog.Hash(third.Hash)}, tileReader{t, grown.url})
	if path, err = tlog.ProveTree(int64(third.Size), int64(first.Size), reader); err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, first.Size, third.Size, hashes(path), first.Hash, third.Hash); err != nil {
		t.Error(err)
	}
}

// The policy that we publish makes a third-party tool count our quorum.
func TestForeignPolicyCountsTheQuorum(t *testing.T) {
	s := serve(t, ledgerOfSize(t, 2))
	policy, err := witness.ParsePolicy(get(t, s.url+"policy"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ledger.ParseCheckpoint(get(t, s.url+"checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	all := c.Cosignatures
	for n := range len(all) + 1 {
		c.Cosignatures = all[:n]
		if got, want := policy.Satisfied(c.Note()), n >= 3; got != want {
			t.Errorf("%d of 4 replicas: satisfied %v, want %v", n, got, want)
		}
	}
	c.Cosignatures = all
	swapped := bytes.Replace(c.Note(), []byte(origin+"\n2\n"), []byte(origin+"\n3\n"), 1)
	if policy.Satisfied(swapped) {
		t.Error("cosignatures of another size satisfy the policy")
	}
}

func TestForeignReaderOfProofFiles(t *testing.T) {
	s := serve(t, ledgerOfSize(t, 257))
	path, err := s.archive.ProveInclusion(7, 257)
	if err != nil {
		t.Fatal(err)
	}
	p := &ledger.EntryProof{Seq: 7, Checkpoint: s.note, Entry: s.entries[7]}
	for _, h := range path {
		p.Proof = append(p.Proof, ledger.Hash(h))
	}
	file, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var read fproof.TLogProof
	if err := read.Unmarshal(file); err != nil {
		t.Fatal(err)
	}
	ed := verifier(t, ledger.LogVKey(origin, logSigner().Keys()))
	checkpoint, _, _, err := flog.ParseCheckpoint(read.Checkpoint, origin, ed)
	if err != nil {
		t.Fatal(err)
	}
	var audit [][]byte
	for i := range read.Hashes {
		audit = append(audit, read.Hashes[i][:])
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(s.entries[7])
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, read.Index, checkpoint.Size, leaf, audit, checkpoint.Hash); err != nil {
		t.Error(err)
	}
}
