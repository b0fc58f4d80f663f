package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// The verifying client against servers that lie, lag, fork and die.

// lying changes what a server answers on some paths.
type lying struct {
	next http.Handler
	mu   sync.Mutex
	lies map[string]func(body []byte) []byte // by prefix of the path
}

func (l *lying) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	var lie func([]byte) []byte
	for prefix, f := range l.lies {
		if strings.HasPrefix(r.URL.Path, prefix) {
			lie = f
		}
	}
	l.mu.Unlock()
	if lie == nil {
		l.next.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	l.next.ServeHTTP(rec, r)
	for k, v := range rec.Header() {
		if k != "Content-Length" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(rec.Code)
	w.Write(lie(rec.Body.Bytes()))
}

func newLying(t *testing.T, b Backend) (*lying, string) {
	t.Helper()
	s, err := New(b, Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := &lying{next: s.Handler(), lies: map[string]func([]byte) []byte{}}
	ts := httptest.NewServer(l)
	t.Cleanup(ts.Close)
	return l, ts.URL
}

func (l *lying) lie(prefix string, f func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lies = map[string]func([]byte) []byte{prefix: f}
}

// edit changes an answer's JSON.
func edit[T any](t *testing.T, f func(*T)) func([]byte) []byte {
	return func(body []byte) []byte {
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			t.Errorf("edit: %v: %s", err, body)
		}
		f(&v)
		out, err := json.Marshal(v)
		if err != nil {
			t.Errorf("edit: %v", err)
		}
		return out
	}
}

func flipHex(s string) string {
	if s[0] == '0' {
		return "1" + s[1:]
	}
	return "0" + s[1:]
}

// TestClientRefusesLies: forged checkpoints, wrong proofs, changed entries and
// records.
func TestClientRefusesLies(t *testing.T) {
	f := newFake(t)
	w := f.world
	l, url := newLying(t, f)
	f.submit(w.record(t, "alice", "one"))
	f.submit(w.record(t, "alice", "two"))
	head := func() ledger.Head {
		note, _ := f.Checkpoint()
		c, err := ledger.ParseCheckpoint(note)
		if err != nil {
			t.Fatal(err)
		}
		return c.Head
	}
	forged := head()
	forged.Size, forged.Root = forged.Size+1, ledger.Hash{1}
	impostor := &world{replicas: map[string]*keys.PrivateKey{}, log: w.log}
	for name := range w.replicas {
		impostor.replicas[name] = seeded("impostor " + name)
	}

	sync := func(c *client.Client) error { _, err := c.Sync(short(t)); return err }
	page := func(c *client.Client) error { _, err := c.Entries(short(t), 0, 4); return err }
	for _, row := range []struct {
		name, path string
		lie        func([]byte) []byte
		read       func(c *client.Client) error
	}{
		{"a checkpoint of two of four", "/checkpoint", func([]byte) []byte { return w.sign(forged, time.Now(), "r1", "r2") }, sync},
		{"a checkpoint of unknown keys", "/checkpoint", func([]byte) []byte {
			return impostor.sign(forged, time.Now(), "r1", "r2", "r3", "r4")
		}, sync},
		{"a checkpoint with another size", "/checkpoint", func(b []byte) []byte {
			return bytes.Replace(b, fmt.Appendf(nil, "\n%d\n", head().Size), fmt.Appendf(nil, "\n%d\n", head().Size+1), 1)
		}, sync},
		{"no checkpoint", "/checkpoint", func([]byte) []byte { return []byte("hello\n") }, sync},
		{"another genesis", "/authority/0", func([]byte) []byte {
			link, err := (&ledger.Link{Genesis: newWorld(t, func(g *ledger.Genesis) { g.Created++ }).genesis}).Encode()
			if err != nil {
				t.Error(err)
			}
			return link
		}, sync},
		{"an entry that was changed", "/v1/entries/2", edit(t, func(e *client.Entry) { e.Entry[len(e.Entry)-1] ^= 1 }), func(c *client.Client) error {
			_, err := c.Entry(short(t), 2)
			return err
		}},
		{"another entry", "/v1/entries/2", func([]byte) []byte { return do(t, "GET", url+"/v1/entries/3", "", nil).body }, func(c *client.Client) error {
			_, err := c.Entry(short(t), 2)
			return err
		}},
		{"an entry without a proof", "/v1/entries/2", edit(t, func(e *client.Entry) { e.Proof = nil }), func(c *client.Client) error {
			_, err := c.Entry(short(t), 2)
			return err
		}},
		{"a wrong inclusion proof", "/v1/entries/2", edit(t, func(e *client.Entry) { e.Proof.Hashes[0] = flipHex(e.Proof.Hashes[0]) }), func(c *client.Client) error {
			_, err := c.Entry(short(t), 2)
			return err
		}},
		{"a gap in the entries", "/v1/entries", edit(t, func(p *client.Entries) { p.Entries = append(p.Entries[:1], p.Entries[2:]...) }), page},
		{"entries that begin later", "/v1/entries", edit(t, func(p *client.Entries) { p.Entries = p.Entries[1:] }), page},
		{"a forged entry among entries", "/v1/entries", edit(t, func(p *client.Entries) { p.Entries[1].Entry = restamped(t, p.Entries[1].Entry) }), page},
		{"a forged entry at the end", "/v1/entries", func(b []byte) []byte {
			if !bytes.HasPrefix(b, []byte(`{"entries"`)) {
				return b // of the last entry alone, with its proof: the truth
			}
			return edit(t, func(p *client.Entries) {
				last := len(p.Entries) - 1
				p.Entries[last].Entry = restamped(t, p.Entries[last].Entry)
			})(b)
		}, page},
		{"a changed record", "/v1/proofs/state", func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"name":"alice"`), []byte(`"name":"malice"`), 1)
		}, func(c *client.Client) error {
			_, err := c.Record(short(t), "council/alice")
			return err
		}},
		{"another record", "/v1/proofs/state", func([]byte) []byte {
			return do(t, "GET", url+"/v1/proofs/state?key=council/bob", "", nil).body
		}, func(c *client.Client) error {
			_, err := c.Record(short(t), "council/alice")
			return err
		}},
		{"a record denied", "/v1/proofs/state", func([]byte) []byte {
			return bytes.ReplaceAll(do(t, "GET", url+"/v1/proofs/state?key=council/nobody", "", nil).body, []byte("council/nobody"), []byte("council/alice"))
		}, func(c *client.Client) error {
			_, err := c.Record(short(t), "council/alice")
			return err
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := client.New(client.Options{Servers: []string{url}, Genesis: w.hash, TrustDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			l.lie("/nothing", nil)
			if row.path != "/checkpoint" && row.path != "/authority/0" {
				if _, err := c.Sync(short(t)); err != nil {
					t.Fatal(err)
				}
			}
			if row.path == "/v1/proofs/state" || row.path == "/v1/entries/2" {
				// A lie must not be confused with a lack: asked for another record
				// by name, the lying server's handler is the true one.
				truth := row.lie(do(t, "GET", url+row.path+queryOf(row.path), "", nil).body)
				l.lie(row.path, func([]byte) []byte { return truth })
			} else {
				l.lie(row.path, row.lie)
			}
			err = row.read(c)
			var proof *client.ProofError
			if !errors.As(err, &proof) {
				t.Errorf("got %v, want a *client.ProofError", err)
			}
			var equivocation *client.EquivocationError
			if errors.As(err, &equivocation) {
				t.Errorf("a lie of one server was taken for evidence: %v", err)
			}
		})
	}
}

// restamped is the entry with another stamp: well-formed, and not on the ledger.
func restamped(t *testing.T, raw []byte) []byte {
	t.Helper()
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		t.Fatal(err)
	}
	e.Stamp++
	out, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestClientChecksAcknowledgements: a server that acknowledges what is not on
// the ledger is found out when certification was asked for.
func TestClientChecksAcknowledgements(t *testing.T) {
	f := newFake(t)
	l, url := newLying(t, f)
	f.submit(f.world.record(t, "alice", "something else"))
	c := newClient(t, f.world, "", url)
	l.lie("/v1/statements", edit(t, func(a *client.SubmitAnswer) { a.Statements[0].Seq = 2 }))
	answer, err := c.Submit(short(t), [][]byte{f.world.record(t, "bob", "x")}, client.WaitCertified)
	if err == nil || answer.Verified {
		t.Errorf("another's entry was taken for ours: %+v", answer)
	}
	l.lie("/v1/statements", edit(t, func(a *client.SubmitAnswer) { a.Statements = nil }))
	if answer, err := c.Submit(short(t), [][]byte{f.world.record(t, "bob", "y")}, client.WaitCertified); err == nil {
		t.Errorf("an answer without verdicts was taken: %+v", answer)
	}
}

func queryOf(path string) string {
	if path == "/v1/proofs/state" {
		return "?key=council/alice"
	}
	return ""
}

// TestClientFailsOver: one liar and one dead server among three do no harm.
func TestClientFailsOver(t *testing.T) {
	f := newFake(t)
	l, liar := newLying(t, f)
	l.lie("/checkpoint", func([]byte) []byte { return []byte("x") })
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	ts := newServer(t, f, Config{})
	c := newClient(t, f.world, "", dead.URL, liar, ts.URL)
	if _, err := c.Sync(short(t)); err != nil {
		t.Errorf("sync: %v", err)
	}
	if _, err := c.Submit(short(t), [][]byte{f.world.record(t, "alice", "x")}, client.WaitCertified); err != nil {
		t.Errorf("submit: %v", err)
	}
	// A server that is behind the verified head lacks what another one has.
	var good atomic.Bool
	s, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if good.Load() {
			s.Handler().ServeHTTP(w, r)
			return
		}
		writeProblem(w, notFound("not here yet"))
	}))
	defer behind.Close()
	dir := t.TempDir()
	if _, err := newClient(t, f.world, dir, ts.URL).Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	lagging := newClient(t, f.world, dir, behind.URL, ts.URL)
	if _, err := lagging.Sync(short(t)); err != nil {
		t.Errorf("sync: %v", err)
	}
	good.Store(true)
	lagging = newClient(t, f.world, dir, behind.URL, ts.URL)
	if _, err := lagging.Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	good.Store(false) // the one that was asked is behind now, the other one is not
	if _, err := lagging.Entry(short(t), 2); err != nil {
		t.Errorf("entry: %v", err)
	}
	if entries, err := lagging.Entries(short(t), 1, 2); err != nil || len(entries) != 2 {
		t.Errorf("entries: %d, %v", len(entries), err)
	}
	// No leader anywhere: nothing is acknowledged, and the error says so.
	f.mu.Lock()
	f.fail = ErrNoLeader
	f.mu.Unlock()
	var problem *client.Problem
	if err := givenUp(func(ctx context.Context) error {
		_, err := c.Submit(ctx, [][]byte{f.world.record(t, "alice", "y")}, client.WaitCommitted)
		return err
	}, func(err error) bool { return errors.As(err, &problem) && problem.Code == "no_leader" }); err != nil {
		t.Errorf("without a leader: %v", err)
	}
}

// TestClientRefusesRollback: a server that shows an older head is passed over,
// and when there is no other, refused; also after a restart.
func TestClientRefusesRollback(t *testing.T) {
	f := newFake(t)
	old, _ := f.Checkpoint()
	f.submit(f.world.record(t, "alice", "later"))
	dir := t.TempDir()
	_, honest := newLying(t, f)
	if _, err := newClient(t, f.world, dir, honest).Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	l, rolled := newLying(t, f)
	l.lie("/checkpoint", func([]byte) []byte { return old })
	c := newClient(t, f.world, dir, rolled)
	var rollback *client.RollbackError
	sync := func(c *client.Client) func(context.Context) error {
		return func(ctx context.Context) error { _, err := c.Sync(ctx); return err }
	}
	if err := givenUp(sync(c), func(err error) bool { return errors.As(err, &rollback) && rollback.Offered < rollback.Kept }); err != nil {
		t.Errorf("got %v, want a rollback", err)
	}
	if _, err := newClient(t, f.world, dir, rolled, honest).Sync(short(t)); err != nil {
		t.Errorf("with an honest server beside it: %v", err)
	}
	// The same by a recent head that the client was given.
	note, _ := f.Checkpoint()
	fresh, err := client.New(client.Options{Servers: []string{rolled}, Genesis: f.world.hash, MinHead: note})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if err := givenUp(sync(fresh), func(err error) bool { return errors.As(err, &rollback) }); err != nil {
		t.Errorf("got %v, want a rollback behind MinHead", err)
	}
}

// TestClientProvesEquivocation: two certified branches of one ledger, of one
// size and of two. The error holds evidence that a third party can check.
func TestClientProvesEquivocation(t *testing.T) {
	w := newWorld(t)
	for _, extra := range []int{0, 1, 5, 6} {
		t.Run(fmt.Sprint("ahead by ", extra), func(t *testing.T) {
			left, right := fakeOf(t, w), fakeOf(t, w)
			_, a := newLying(t, left)
			_, b := newLying(t, right)
			left.submit(w.record(t, "alice", "left"))
			for i := range 1 + extra {
				right.submit(w.record(t, "alice", fmt.Sprint("right ", i)))
			}
			if extra == 6 { // the other branch hands over, and its link must not be kept
				p := right.propose("alice", "council.change", map[string]any{"remove": []string{"carol"}})
				right.submit(p, w.ballot(t, "bob", ledger.TypeApprove, p))
				if right.AuthorityIndex() != 1 {
					t.Fatal("no handover")
				}
			}
			dir := t.TempDir()
			if _, err := newClient(t, w, dir, a).Sync(short(t)); err != nil {
				t.Fatal(err)
			}
			_, err := newClient(t, w, dir, b).Sync(short(t))
			var e *client.EquivocationError
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want equivocation", err)
			}
			kept, offered := certifiedHead(t, w, e.Kept), certifiedHead(t, w, e.Offered)
			if e.PrefixRoot == kept.Root {
				t.Error("the prefix is that of the kept head")
			}
			if kept.Size != offered.Size {
				if err := ledger.VerifyConsistency(e.Proof, kept.Size, e.PrefixRoot, offered.Size, offered.Root); err != nil {
					t.Errorf("the evidence does not verify: %v", err)
				}
			}
			// What was trusted before is still what is on disk.
			again := newClient(t, w, dir, a)
			if _, err := again.Sync(short(t)); err != nil || len(again.Links()) != 1 {
				t.Errorf("the kept branch: %v, %d links", err, len(again.Links()))
			}
		})
	}
}

// certifiedHead checks a note as a third party does, from genesis alone.
func certifiedHead(t *testing.T, w *world, note []byte) ledger.Head {
	t.Helper()
	chain, err := ledger.NewChain(w.hash, &ledger.Link{Genesis: w.genesis})
	if err != nil {
		t.Fatal(err)
	}
	c, err := chain.VerifyCheckpoint(note)
	if err != nil {
		t.Fatal(err)
	}
	return c.Head
}

// TestWrongConsistencyProof: a server that cannot prove that its head extends
// the kept one proves nothing, and is no evidence.
func TestWrongConsistencyProof(t *testing.T) {
	f := newFake(t)
	l, url := newLying(t, f)
	c := newClient(t, f.world, t.TempDir(), url)
	if _, err := c.Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	f.submit(f.world.record(t, "alice", "more"))
	l.lie("/v1/proofs/consistency", edit(t, func(p *client.ConsistencyProof) {
		p.FromRoot = strings.Repeat("ab", 32)
		for i := range p.Hashes {
			p.Hashes[i] = flipHex(p.Hashes[i])
		}
	}))
	var proof *client.ProofError
	var equivocation *client.EquivocationError
	if err := givenUp(func(ctx context.Context) error { _, err := c.Sync(ctx); return err }, func(err error) bool {
		return errors.As(err, &proof) && !errors.As(err, &equivocation)
	}); err != nil {
		t.Errorf("got %v, want a *client.ProofError", err)
	}
}
