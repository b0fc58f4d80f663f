// Package thirdparty shows our logs to programs and libraries that other people
// wrote: whoever audits with those needs none of our code.
package thirdparty

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

const (
	origin   = "ledger.test/thirdparty"
	replicas = 4
	created  = 1_700_000_000_000 // milliseconds
)

func seed(name string) [32]byte { return sha256.Sum256([]byte("quorate third-party test " + name)) }

// ledgerOf is a ledger whose entries the real rules made, one signed record
// after the other. Copies share what they have in common.
type ledgerOf struct {
	genesis ledger.Hash
	state   *fsm.State
	entries [][]byte
}

// trusting stands for the shells, which verify before they apply. The
// signatures are real all the same.
type trusting struct{}

func (trusting) Verify(*ledger.Statement, []byte) bool { return true }

func replicaName(i int) string { return fmt.Sprintf("r%d", i+1) }

var replicaKeys = sync.OnceValue(func() (all [replicas]*keys.PrivateKey) {
	for i := range all {
		all[i] = keys.FromSeed(seed(replicaName(i)))
	}
	return all
})

func logSigner() *ledger.LogSigner {
	return ledger.NewLogSigner(origin, seed("log ed25519"), seed("log mldsa44"))
}

func newLedger(t testing.TB) *ledgerOf {
	t.Helper()
	operators := []string{"acme", "bolt", "core"}
	g := &ledger.Genesis{
		Created: created, Format: ledger.Format, Log: logSigner().Keys(), Origin: origin, Policy: ledger.DefaultPolicy(len(operators)),
	}
	for i, name := range []string{"alice", "bob", "carol"} {
		g.Operators = append(g.Operators, ledger.Operator{Name: operators[i]})
		g.Council = append(g.Council, ledger.Member{Name: name, Operator: operators[i], Public: keys.FromSeed(seed(name)).Public().Bytes()})
	}
	for i := range replicas {
		k := replicaKeys()[i]
		g.Replicas = append(g.Replicas, ledger.Replica{
			Cosigner: k.Cosigner44().Public(), Name: replicaName(i), Operator: operators[i%3], Peer: replicaName(i) + ".test:7000",
			Public: k.Public().Bytes(), TLSPin: seed("certificate " + replicaName(i)),
		})
	}
	entry, err := g.Entry()
	if err != nil {
		t.Fatal(err)
	}
	state, err := fsm.New(entry)
	if err != nil {
		t.Fatal(err)
	}
	return &ledgerOf{genesis: ledger.LeafHash(entry), state: state, entries: [][]byte{entry}}
}

func (l *ledgerOf) size() int { return len(l.entries) }

func (l *ledgerOf) copy() *ledgerOf {
	return &ledgerOf{genesis: l.genesis, state: l.state, entries: slices.Clip(l.entries)}
}

func (l *ledgerOf) apply(t testing.TB, kind ledger.CommandKind, envelopes ...[]byte) {
	t.Helper()
	next, result := fsm.Apply(l.state, &ledger.Command{Kind: kind, Stamp: l.state.Stamp() + 1, Statements: envelopes}, trusting{})
	for _, v := range result.Verdicts {
		if v.Code != fsm.OK {
			t.Fatalf("entry %d: %s %s %s", l.size(), v.Code, v.Path, v.Detail)
		}
	}
	l.state, l.entries = next, append(l.entries, result.Entries...)
}

// signRecords makes n records, of the replicas in turn, on all cores.
func (l *ledgerOf) signRecords(t testing.TB, from, n int) [][]byte {
	t.Helper()
	envelopes := make([][]byte, n)
	var group errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() error {
			for i := w; i < n; i += workers {
				at := from + i
				epoch, seq := l.state.Epoch(), uint64(at/replicas)
				p := ledger.Payload{Author: replicaName(at % replicas), Epoch: &epoch, Ledger: l.genesis, Seq: &seq, Type: ledger.TypeRecord}
				var err error
				if envelopes[i], err = ledger.Sign(replicaKeys()[at%replicas], p, &ledger.Record{Text: fmt.Sprintf("reading %d", at)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return envelopes
}

// growTo adds records until the ledger has size entries, of which the last is
// a seal if sealed: only heads that end in a seal are signed.
func (l *ledgerOf) growTo(t testing.TB, size int, sealed bool) {
	t.Helper()
	records := size - l.size()
	if sealed {
		records--
	}
	for _, envelope := range l.signRecords(t, l.size(), records) {
		l.apply(t, ledger.CommandStatements, envelope)
	}
	if sealed {
		l.apply(t, ledger.CommandSeal)
	}
	if l.size() != size {
		t.Fatalf("the ledger has %d entries, want %d", l.size(), size)
	}
}

// stems are ledgers just short of the sizes to show; making the long one takes
// seconds, so it is made once.
var stems = sync.OnceValue(func() map[int]*ledgerOf { return map[int]*ledgerOf{} })

// ledgerOfSize grows a ledger to size entries, from a stem of at least two less.
func ledgerOfSize(t testing.TB, size int) *ledgerOf {
	t.Helper()
	length := size/256*256 - 4
	if size%256 > 250 {
		length += 256
	}
	if length < 1 {
		length = 1
	}
	stem := stems()[length]
	if stem == nil {
		stem = newLedger(t)
		if length > 1 {
			stem.growTo(t, length, false)
		}
		stems()[length] = stem
	}
	l := stem.copy()
	l.growTo(t, size, true)
	return l
}

// served is a ledger in a real archive, with its certified head: what the
// handlers of a replica need, without Raft.
type served struct {
	*ledgerOf
	archive *archive.Archive
	link    []byte
	note    []byte
	url     string
}

func serve(t testing.TB, l *ledgerOf) *served {
	t.Helper()
	a, err := archive.Open(t.TempDir(), archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	for seq, entry := range l.entries {
		if err := a.Append(uint64(seq), entry); err != nil {
			t.Fatal(err)
		}
		if seq%4096 == 4095 || seq == len(l.entries)-1 {
			if _, err := a.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	link, err := ledger.GenesisLink(l.entries[0]).Encode()
	if err != nil {
		t.Fatal(err)
	}
	s := &served{ledgerOf: l, archive: a, link: link}
	s.note = s.certify(t)
	server, err := api.New(s, api.Config{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	httpServer := httptest.NewServer(server.Handler())
	t.Cleanup(httpServer.Close)
	s.url = httpServer.URL + "/"
	return s
}

// certify signs the head as the replicas do.
func (s *served) certify(t testing.TB) []byte {
	t.Helper()
	root, err := s.archive.TreeHash(uint64(s.size()))
	if err != nil {
		t.Fatal(err)
	}
	head := ledger.Head{Origin: origin, Size: uint64(s.size()), Root: ledger.Hash(root)}
	now := uint64(created/1000 + 100)
	c := &ledger.Checkpoint{Head: head, LogLines: logSigner().Sign(head, now)}
	for i := range replicas {
		k := replicaKeys()[i]
		c.Add(ledger.Cosign(s.genesis, k, k.Cosigner44(), replicaName(i), head, now))
	}
	return c.Note()
}

// The rest is api.Backend.

func (s *served) Submit(context.Context, []*ledger.Statement, client.Wait) (*api.Receipt, error) {
	return nil, api.ErrNoLeader
}

func (s *served) View(context.Context, string) (*api.View, error) {
	return &api.View{State: s.state, Size: uint64(s.size()), Checkpoint: s.note, Certified: true, Signed: created + 100_000}, nil
}

func (s *served) Checkpoint() ([]byte, uint64) { return s.note, uint64(s.size()) }
func (s *served) Archive() *archive.Archive    { return s.archive }
func (s *served) AuthorityIndex() uint64       { return 0 }
func (s *served) LogVKeys() []ledger.LogVKeys {
	keys := logSigner().Keys()
	return []ledger.LogVKeys{{Ed25519: ledger.LogVKey(origin, keys), MLDSA44: ledger.LogMLDSA44VKey(origin, keys)}}
}
func (s *served) Changed() <-chan struct{} { return make(chan struct{}) }
func (s *served) Status() client.Status    { return client.Status{} }
func (s *served) AuthorityLink(n uint64) ([]byte, error) {
	if n > 0 {
		return nil, api.ErrNotFound
	}
	return s.link, nil
}

func (s *served) Simulate(context.Context, string, canon.Raw, string) (fsm.Diff, fsm.Verdict, error) {
	return fsm.Diff{}, fsm.Verdict{}, api.ErrNotReady
}
