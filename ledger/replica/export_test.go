package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// BreakLog makes Raft's log refuse writes while broken gives an error. Call it
// between Open and Run.
func (r *Replica) BreakLog(broken func() error) {
	r.cfg.Hooks = &Hooks{Log: func(inner raft.LogStore) raft.LogStore { return &brokenLog{inner, broken} }}
}

type brokenLog struct {
	raft.LogStore
	broken func() error
}

func (l *brokenLog) StoreLogs(logs []*raft.Log) error {
	if err := l.broken(); err != nil {
		return err
	}
	return l.LogStore.StoreLogs(logs)
}

// Offer hands a checkpoint in as a peer's.
func (r *Replica) Offer(note []byte) error { return r.certifier.offer(note) }

// Hear hands a cosignature in as somebody else's word for it, and says how many
// heads wait for how many replicas.
func (r *Replica) Hear(head ledger.Head, s ledger.Cosignature) (heads, replicas int) {
	r.certifier.hearsay(cosigned{head, s})
	r.certifier.mu.Lock()
	defer r.certifier.mu.Unlock()
	return len(r.certifier.collected), len(r.certifier.arrivals)
}

// SnapshotLies change one claim of a snapshot each, and nothing of its form.
var SnapshotLies = map[string]func(*snapshotContent){
	"a record's value": func(c *snapshotContent) {
		for i, r := range c.records {
			if r.key == "meta" {
				c.records[i].value = bytes.Replace(r.value, []byte(`"epoch":0`), []byte(`"epoch":1`), 1)
			}
		}
	},
	"a record left out":  func(c *snapshotContent) { c.records = c.records[:len(c.records)-1] },
	"a record twice":     func(c *snapshotContent) { c.records = append(c.records, c.records[len(c.records)-1]) },
	"the frontier":       func(c *snapshotContent) { c.frontier.Hashes[0] = tlog.Hash{1} },
	"the frontier, less": func(c *snapshotContent) { c.frontier.Size, c.frontier.Hashes = 0, nil },
	"the seal":           func(c *snapshotContent) { c.seal[len(c.seal)-4] ^= 1 },
	"the checkpoint's root": func(c *snapshotContent) {
		checkpoint, err := ledger.ParseCheckpoint(c.checkpoint)
		if err != nil {
			panic(err)
		}
		checkpoint.Head.Root[0] ^= 1
		c.checkpoint = checkpoint.Note()
	},
	"too few cosignatures": func(c *snapshotContent) {
		checkpoint, err := ledger.ParseCheckpoint(c.checkpoint)
		if err != nil {
			panic(err)
		}
		checkpoint.Cosignatures = checkpoint.Cosignatures[:1]
		c.checkpoint = checkpoint.Note()
	},
	"a link made up": func(c *snapshotContent) { c.links = append(c.links, []byte(`{"index":1}`)) },
}

// ProveSnapshot reads a snapshot, lies if asked to, and proves the outcome
// written again.
func ProveSnapshot(b, genesisEntry []byte, lie func(*snapshotContent)) error {
	content, err := readSnapshot(bytes.NewReader(b), 1<<30)
	if err != nil {
		return err
	}
	if lie != nil {
		lie(content)
		var again bytes.Buffer
		if err := content.write(&again); err != nil {
			return err
		}
		if content, err = readSnapshot(&again, 1<<30); err != nil {
			return err
		}
	}
	_, err = content.prove(genesisEntry, ledger.LeafHash(genesisEntry))
	return err
}

// GivesLogKey says whether a pinned replica of that name and key gets the log key.
func (r *Replica) GivesLogKey(name string, id ledger.Hash) bool {
	answer := httptest.NewRecorder()
	err := r.serveLogKey(answer, nil, &peer{Replica: ledger.Replica{Name: name}, id: id})
	return err == nil && answer.Body.Len() > 0
}

// Set is the replica set as a seed at the address gives it, and TakeSet what
// this replica makes of one.
func (r *Replica) Set(ctx context.Context, address string) ([]byte, error) {
	return r.askSeed(ctx, address)
}

func (r *Replica) TakeSet(set []byte) error {
	_, _, err := r.takeSet(set)
	return err
}

// AskSeeds is what a replica does that is out of touch: it gives how many replicas
// the newest set has that any of its addresses proves.
func (r *Replica) AskSeeds(ctx context.Context) int { return len(r.askSeeds(ctx)) }

// AskSeed asks an address for the replica set and gives the names that it
// proves against genesis.
func (r *Replica) AskSeed(ctx context.Context, address string) (map[string]ledger.Hash, error) {
	b, err := r.askSeed(ctx, address)
	if err != nil {
		return nil, err
	}
	found, _, err := parseSet(r.cfg.Genesis, r.genesis, b)
	if err != nil {
		return nil, err
	}
	names := map[string]ledger.Hash{}
	for _, one := range found {
		names[one.Name] = one.id
	}
	return names, nil
}

// Pins says whether connections under a pin are taken.
func (r *Replica) Pins(pin ledger.Hash) bool { return r.pins.now.Load().byPin(pin) != nil }

// DumpLog gives Raft's log, term and votes as text.
func (r *Replica) DumpLog() (string, error) {
	var dump strings.Builder
	first, err := r.store.FirstIndex()
	if err != nil {
		return "", err
	}
	last, err := r.store.LastIndex()
	if err != nil {
		return "", err
	}
	for index := first; index <= last; index++ {
		var l raft.Log
		if err := r.store.GetLog(index, &l); err != nil {
			return "", err
		}
		fmt.Fprintf(&dump, "%d %d %d %x\n", l.Index, l.Term, l.Type, l.Data)
	}
	for _, key := range stableKeys {
		value, err := r.store.Get([]byte(key))
		fmt.Fprintf(&dump, "%s %x %v\n", key, value, err)
	}
	return dump.String(), nil
}

// OpenArchive opens the history of a stopped replica.
func OpenArchive(dir string) (*archive.Archive, error) {
	return archive.Open(filepath.Join(dir, archiveDir), archive.Options{})
}

// RaftLast is the index and the term of the last entry of Raft's log.
func (r *Replica) RaftLast() (index, term uint64) {
	var last raft.Log
	index, err := r.store.LastIndex()
	if err == nil {
		err = r.store.GetLog(index, &last)
	}
	if err != nil {
		return 0, 0
	}
	return index, last.Term
}

// Install streams a snapshot as a leader would, and says how much of it reached
// the disk and whether it was kept.
func Install(genesisEntry []byte, limit int64, from io.Reader) (written int64, kept bool, err error) {
	disk := &countingSink{}
	store := &provingSnapshots{SnapshotStore: disk, point: func(string) {}, prove: func(r io.Reader, _ snapshotOrigin) error {
		content, err := readSnapshot(r, limit)
		if err != nil {
			return err
		}
		_, err = content.prove(genesisEntry, ledger.LeafHash(genesisEntry))
		return err
	}}
	sink, err := store.Create(1, 1, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		return 0, false, err
	}
	if _, err = io.Copy(sink, from); err != nil {
		return disk.written, disk.kept, errors.Join(err, sink.Cancel())
	}
	err = sink.Close()
	return disk.written, disk.kept, err
}

type countingSink struct {
	raft.SnapshotStore
	raft.SnapshotSink
	written int64
	kept    bool
}

func (s *countingSink) Create(raft.SnapshotVersion, uint64, uint64, raft.Configuration, uint64, raft.Transport) (raft.SnapshotSink, error) {
	return s, nil
}

func (s *countingSink) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return nil, nil, errors.New("none")
}
func (s *countingSink) Write(b []byte) (int, error) { s.written += int64(len(b)); return len(b), nil }
func (s *countingSink) Close() error                { s.kept = true; return nil }
func (s *countingSink) Cancel() error               { return nil }

// OnStep calls f after each step of a recovery.
func (o *RecoverOptions) OnStep(f func(step string) error) { o.crash = f }

// CrashAt has a recovery end after a step.
func (o *RecoverOptions) CrashAt(step string, err error) {
	o.crash = func(at string) error {
		if at == step {
			return err
		}
		return nil
	}
}

// Believe makes this replica take a term to be won, as if enough voters had
// vouched for it.
func (r *Replica) Believe(term uint64, id raft.ServerID) {
	r.elections.mu.Lock()
	defer r.elections.mu.Unlock()
	r.elections.note(term, id)
}

// JudgeSnapshot judges another replica's newest snapshot as though it came as
// what a leader's log has at an index, after a change of what it says; 0 for the
// index that it was taken at.
func (r *Replica) JudgeSnapshot(ctx context.Context, from *Replica, index uint64, change func(*SnapshotClaims)) error {
	meta := from.restored()[0]
	b, err := os.ReadFile(from.files.path(snapshotFile(meta.ID, "state.bin")))
	if err != nil {
		return err
	}
	content, err := readSnapshot(bytes.NewReader(b), 1<<30)
	if err != nil {
		return err
	}
	claims := &SnapshotClaims{Commands: content.commands, Servers: meta.Configuration.Servers}
	if change != nil {
		change(claims)
	}
	content.commands = claims.Commands
	var again bytes.Buffer
	if err := content.write(&again); err != nil {
		return err
	}
	o := snapshotOrigin{index: meta.Index, term: meta.Term, configuration: raft.Configuration{Servers: claims.Servers},
		configurationIndex: meta.ConfigurationIndex, own: func() bool { return false }}
	if index > 0 {
		o.index, o.term = index, 0
	}
	return r.proveSnapshot(ctx, &again, o)
}

// SnapshotClaims is what a snapshot says that its certified seal does not prove.
type SnapshotClaims struct {
	Commands [][]byte
	Servers  []raft.Server
}

// Watched is how many submissions are under watch for censorship.
func (r *Replica) Watched() int { return len(r.censors.list()) }

// StepVouched says whether enough others hold a configuration at an index of
// Raft's log.
func (r *Replica) StepVouched(ctx context.Context, index uint64, c raft.Configuration) bool {
	return r.stepVouched(ctx, index, raft.EncodeConfiguration(c))
}

// HeldConfiguration is the configuration at an index of Raft's log.
func (r *Replica) HeldConfiguration(index uint64) raft.Configuration {
	return raft.DecodeConfiguration(r.heldConfiguration(index))
}

// IndexVouched says whether enough others have an index of Raft's log.
func (r *Replica) IndexVouched(ctx context.Context, index uint64) bool {
	return r.indexVouched(ctx, index, 0)
}

// Lag makes this replica know no other replicas by its state than some, as one
// does that replays what was applied when these were all.
func (r *Replica) Lag(names ...string) {
	r.pins.mu.Lock()
	defer r.pins.mu.Unlock()
	r.pins.applied = slices.DeleteFunc(slices.Clone(r.pins.applied), func(p *peer) bool { return !slices.Contains(names, p.Name) })
	r.pins.publish()
}

// LookAfterWithdrawal withdraws a submission between the moment that the censor
// loop lists it and the look, and says whether it was given to anybody then.
func (r *Replica) LookAfterWithdrawal(ctx context.Context, envelopes [][]byte) (given bool, err error) {
	c := r.censors
	c.watch(envelopes, ledger.Hash{})
	key := watchKey(envelopes)
	one := c.list()[key]
	var sends sync.WaitGroup
	r.look(ctx, &sends, key, one) // a first look at its leader: nothing is due yet
	sends.Wait()
	c.mu.Lock()
	one.sent = time.Time{} // it is
	c.mu.Unlock()
	if !c.withdraw(envelopes) {
		return false, errors.New("it is not withdrawn")
	}
	r.look(ctx, &sends, key, one)
	sends.Wait()
	return one.again, nil
}

// PassOn takes a submission as one that a peer passes on, and says how it is answered.
func (r *Replica) PassOn(peerName string, envelopes [][]byte) error {
	from := r.pins.now.Load().byName(peerName)
	q := httptest.NewRequest("POST", pathPending, bytes.NewReader(frame(envelopes)))
	return r.servePending(httptest.NewRecorder(), q, from)
}

// LookAt makes the dry run of a submission under watch so many times, and says
// whether the rules accept it.
func (r *Replica) LookAt(envelopes [][]byte, times int) bool {
	w := &watched{envelopes: envelopes}
	for range times {
		if !r.wouldAccept(w.rules(r), 0) {
			return false
		}
	}
	return true
}

// OrderTick has Raft order a tick, as a leader's loops do that have not heard yet
// that it leads no more.
func (r *Replica) OrderTick() error {
	return r.node.Load().ApplyLog(raft.Log{Data: r.stamped(&ledger.Command{Kind: ledger.CommandTick})}, time.Second).Error()
}

// PrepareKey makes the next key, as a rotation does, and NextKey says whether there
// is one.
func (r *Replica) PrepareKey() error { return r.prepareKey(r.shell.now.Load().state) }

func (r *Replica) NextKey() bool { return r.ring.Load().next() != nil }

// SettleRing goes on after a write of the ring that failed once the new one had its
// name, of which this replica knows nothing.
func (r *Replica) SettleRing() error {
	r.ring.Store(newLine(r.ring.Load().identity(r.id)))
	r.doubtful.Store(true)
	return r.settleRing()
}

// UsesKey says whether a key is the active one.
func (r *Replica) UsesKey(id ledger.Hash) bool { return r.ring.Load().record.Active == id }

// WriteFormerRing writes the ring of another line, with one key in a file.
func WriteFormerRing(dir, file string) error {
	key := ringKey{Cosigner: []byte{1}, File: file, Public: []byte{1}}
	f := files{dir, newWatchdog(time.Minute)}
	return f.replaceChecked(ringName(key.id()), ringRecord{Active: key.id(), Keys: []ringKey{key}, Line: key.id()})
}

// MayStateReady says whether this replica is about to state ready.
func (r *Replica) MayStateReady() bool { return r.mayStateReady() }

// Unnamed says whether a former key's file is named by the ring no more.
func (r *Replica) Unnamed(id ledger.Hash) bool {
	return !slices.ContainsFunc(r.ring.Load().record.Keys, func(k ringKey) bool { return k.id() == id && k.File != "" })
}

// VotedFor is whom this replica voted for in a term.
func (r *Replica) VotedFor(term uint64) raft.ServerID { return r.votedFor(term) }
