package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/keys"
)

// Recovery after a lost quorum (DESIGN.md): what an operator does, offline, to
// the data directory of a replica that is left, so that the replica starts as a
// member of the next generation.

// RecoverError says why a replica's data can't take part in a recovery. Nothing
// was changed.
type RecoverError struct{ Reason string }

func (e *RecoverError) Error() string { return "recover: " + e.Reason }

func refuseRecovery(format string, values ...any) error {
	return &RecoverError{fmt.Sprintf(format, values...)}
}

// Survivor is what a stopped replica's data directory holds.
type Survivor struct {
	Generation uint64             // of the newest certified handover
	Head       ledger.RecoverHead // the newest certified head
	Checkpoint []byte             // its note
	Links      [][]byte           // authority links 1 to N
	Authority  ledger.Authority   // that certifies it
	Whole      uint64             // entries that are here without a gap
	Uncertain  int                // statements here beyond the head: they would be dropped
	Recovered  uint64             // the generation that Recover made it a member of, 0 if none
}

// Survey reads a stopped replica's data directory. It changes nothing that
// opening the history does not, and errs while a process has it open.
func Survey(dir string, genesisEntry []byte) (*Survivor, error) {
	d, err := openData(dir, genesisEntry)
	if err != nil {
		return nil, err
	}
	defer d.close()
	s := &Survivor{Generation: d.chain.Latest.Generation, Authority: d.chain.Latest, Links: d.links, Whole: d.archive.Whole()}
	if d.marker != nil {
		s.Recovered = d.marker.Generation
	}
	if d.certified == nil {
		return nil, refuseRecovery("no head was ever certified here")
	}
	head := d.certified.Head
	s.Checkpoint, s.Authority = d.note, d.chain.ForSize(head.Size)
	s.Head = ledger.RecoverHead{Root: head.Root, Size: head.Size}
	if s.Head.Last, err = d.lastHash(head.Size); err != nil {
		return nil, err
	}
	tail, err := d.tail(head.Size)
	s.Uncertain = len(tail)
	return s, err
}

// RecoverOptions are what Recover needs to know.
type RecoverOptions struct {
	Dir, Name  string
	Genesis    []byte           // entry 0
	Key        *keys.PublicKey  // this replica's
	LogStore   string           // as in Config
	Statements [][]byte         // the recover statement and the approvals of it
	Checkpoint []byte           // a note of the head that it names; nil: the one that is here
	Links      [][]byte         // authority links 1 to N, for one that lacks the last ones
	Logger     *slog.Logger     // nil: none
	Progress   func(seq uint64) // may be nil: entries verified so far

	crash crashPoint // tests' own
}

// RecoverReport is what Recover did.
type RecoverReport struct {
	Already    bool   // it had been done before, by the same statements
	Generation uint64 // that was opened
	Size       uint64 // of the head from which it goes on
	Dropped    int    // statements beyond it that this replica had, kept in Folder/dropped.cose
	Folder     string // what was set aside: old Raft log, old history, statements
}

// Recover makes the data of a stopped replica a member of the generation that
// the statements open. It verifies the whole history up to the named head and the
// council's signatures, and refuses with a *RecoverError what is short of that
// head, beyond it, of another ledger, or of a replica that the recovery does not
// keep. Raft's log is replaced by a snapshot that proves itself, with the
// replicas that stay as voters and the recovery as its one command; raft.Restore
// has no part in it.
//
// A crash at any point leaves the data as it was, or the recovery decided, which
// the next Recover or Open then completes. Doing it again changes nothing.
func Recover(ctx context.Context, o RecoverOptions) (*RecoverReport, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := completeRecovery(files{dir: o.Dir}, o.crash); err != nil {
		return nil, err
	}
	d, err := openData(o.Dir, o.Genesis)
	if err != nil {
		return nil, err
	}
	defer d.close()
	statements, err := sortRecovery(o.Statements)
	if err != nil {
		return nil, err
	}
	folder := recoveryFolder(statements)
	if d.marker != nil && d.marker.Folder == folder {
		return &RecoverReport{Already: true, Generation: d.marker.Generation, Size: d.marker.Head.Size,
			Dropped: d.marker.Dropped, Folder: d.files.path(folder)}, nil
	}
	body, err := d.admit(o, statements)
	if err != nil {
		return nil, err
	}
	sealed, now, err := d.verify(ctx, o, body, statements)
	if err != nil {
		return nil, err
	}
	dropped, err := d.prepare(o, folder, body, statements, sealed)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	if err := o.crash.reach("prepared"); err != nil {
		return nil, err
	}
	record := newRecovered(folder, body, sealed.state.Replicas(), now.Replicas(), len(dropped))
	if err := d.files.replaceChecked(recoveredFile, record); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	// Crash here: the recovery is decided; the next Recover or Open completes it.
	if err := o.crash.reach("decided"); err != nil {
		return nil, err
	}
	d.close()
	if err := completeRecovery(d.files, o.crash); err != nil {
		return nil, err
	}
	return &RecoverReport{Generation: body.Generation, Size: body.Head.Size, Dropped: len(dropped), Folder: d.files.path(folder)}, nil
}

// sortRecovery parses the statements and puts the recover first, the approvals
// by author after it: every replica must apply the same bytes.
func sortRecovery(envelopes [][]byte) ([]*ledger.Statement, error) {
	var list []*ledger.Statement
	seen := map[string]bool{}
	for _, envelope := range envelopes {
		s, err := ledger.ParseStatement(envelope)
		if err != nil {
			return nil, refuseRecovery("a statement is none: %v", err)
		}
		if seen[s.Payload.Author] {
			return nil, refuseRecovery("two statements of %s", s.Payload.Author)
		}
		seen[s.Payload.Author] = true
		list = append(list, s)
	}
	recovers := func(s *ledger.Statement) int {
		if s.Payload.Type == ledger.TypeRecover {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b *ledger.Statement) int {
		if d := recovers(a) - recovers(b); d != 0 {
			return d
		}
		return bytes.Compare([]byte(a.Payload.Author), []byte(b.Payload.Author))
	})
	if len(list) == 0 || recovers(list[0]) != 0 || len(list) > 1 && recovers(list[1]) == 0 {
		return nil, refuseRecovery("want one recover statement and the approvals of it")
	}
	return list, nil
}

// recoveryFolder names what belongs to one recovery, by its very statements.
func recoveryFolder(statements []*ledger.Statement) string {
	sum := sha256.New()
	for _, s := range statements {
		sum.Write(s.Envelope)
	}
	return filepath.Join(recoverDir, fmt.Sprintf("%d-%.8x", statements[0].Payload.Generation+1, sum.Sum(nil)))
}

// data is a stopped replica's data directory.
type data struct {
	files     files
	genesis   ledger.Hash
	entry0    []byte
	archive   *archive.Archive
	chain     *ledger.Chain
	links     [][]byte
	note      []byte
	certified *ledger.Checkpoint
	marker    *recovered
}

func openData(dir string, genesisEntry []byte) (d *data, err error) {
	founding, genesis, err := ledger.ParseGenesis(genesisEntry)
	if err != nil {
		return nil, refuseRecovery("the genesis is none: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, archiveDir)); err != nil {
		return nil, refuseRecovery("%s holds no ledger: %v", dir, err)
	}
	d = &data{files: files{dir: dir}, genesis: genesis, entry0: genesisEntry}
	if d.marker, err = d.files.readRecovered(); err != nil {
		return nil, err
	}
	if d.archive, err = archive.Open(filepath.Join(dir, archiveDir), archive.Options{}); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if first, err := d.archive.Entry(0); err != nil || !bytes.Equal(first, genesisEntry) {
		return d, refuseRecovery("%s is of another ledger than %s (%s)", dir, genesis, founding.Origin)
	}
	if d.chain, err = ledger.NewChain(genesis, ledger.GenesisLink(genesisEntry)); err != nil {
		return d, err
	}
	for n := uint64(1); ; n++ {
		b, err := d.files.read(linkName(n))
		if err != nil {
			return d, err
		}
		if b == nil {
			break
		}
		if err := d.extend(b); err != nil {
			return d, &FileError{File: linkName(n), Reason: err.Error()}
		}
	}
	if d.note, err = d.files.read(certifiedFile); err != nil {
		return d, err
	}
	if d.note == nil && len(d.links) == 0 {
		return d, nil
	}
	return d, d.newest()
}

// newest takes the newest certified head: that of the last link, where a crash
// came between the link and the checkpoint.
func (d *data) newest() (err error) {
	if n := len(d.links); n > 0 {
		link, err := ledger.ParseLink(d.links[n-1])
		if err != nil {
			return err
		}
		if note, err := ledger.ParseCheckpoint(d.note); d.note == nil || err == nil && note.Head.Size < d.handover().Size {
			d.note = []byte(link.Checkpoint)
		}
	}
	if d.certified, err = d.chain.VerifyCheckpoint(d.note); err != nil {
		return &FileError{File: certifiedFile, Reason: err.Error()}
	}
	return nil
}

// handover is the head of the newest link; of link 0 nothing.
func (d *data) handover() ledger.Head {
	head, _ := d.chain.HandoverHead(d.chain.Len() - 1)
	return head
}

func (d *data) extend(raw []byte) error {
	link, err := ledger.ParseLink(raw)
	if err != nil {
		return err
	}
	if err := d.chain.Extend(link); err != nil {
		return err
	}
	d.links = append(d.links, raw)
	return nil
}

func (d *data) close() {
	if d.archive != nil {
		_ = d.archive.Close()
		d.archive = nil
	}
}

func (d *data) lastHash(size uint64) (ledger.Hash, error) {
	if d.archive.Whole() < size {
		return ledger.Hash{}, refuseRecovery("the history is here up to %d entries, and the head is of size %d", d.archive.Whole(), size)
	}
	last, err := d.archive.LeafHash(size - 1)
	if err != nil {
		return ledger.Hash{}, fmt.Errorf("recover: %w", err)
	}
	return ledger.Hash(last), nil
}

// tail lists the statements of the history beyond size.
func (d *data) tail(size uint64) ([]*ledger.Statement, error) {
	var list []*ledger.Statement
	if d.archive.Size() <= size || d.archive.Whole() < size {
		return nil, nil
	}
	err := d.archive.Entries(size, d.archive.Size(), func(_ uint64, entry []byte) error {
		e, err := ledger.ParseEntry(entry)
		if err != nil || e.Kind != ledger.KindStatement {
			return err
		}
		s, err := ledger.ParseStatement(e.Content)
		if err == nil {
			list = append(list, s)
		}
		return err
	})
	return list, err
}

// admit checks everything but the history itself: the signatures, that this
// replica stays, and that the head is the last certified one, as far as this
// replica knows.
func (d *data) admit(o RecoverOptions, statements []*ledger.Statement) (ledger.Recover, error) {
	for i, raw := range o.Links {
		if uint64(i)+1 < d.chain.Len() {
			continue
		}
		if err := d.extend(raw); err != nil {
			return ledger.Recover{}, refuseRecovery("authority link %d: %v", i+1, err)
		}
	}
	if named := statements[0].Payload.Ledger; named != d.genesis {
		return ledger.Recover{}, refuseRecovery("the statements are for ledger %s, this is %s", named, d.genesis)
	}
	body, err := ledger.DecodeBody[ledger.Recover](statements[0])
	if err != nil {
		return body, refuseRecovery("%v", err)
	}
	if body.Generation <= d.chain.Latest.Generation {
		return body, refuseRecovery("already recovered: the ledger is at generation %d here, and the statements open %d", d.chain.Latest.Generation, body.Generation)
	}
	if _, _, err := d.chain.Latest.Recovered(statements); err != nil {
		return body, refuseRecovery("%v", err)
	}
	head := body.Head
	if d.certified != nil && d.certified.Head.Size > head.Size {
		return body, refuseRecovery("size %d is certified here, and the recovery goes on from %d: make a new plan from this replica", d.certified.Head.Size, head.Size)
	}
	if handover := d.handover(); handover.Size > head.Size {
		return body, refuseRecovery("authority link %d is of size %d, and the recovery goes on from %d: make a new plan", d.chain.Latest.Index, handover.Size, head.Size)
	}
	if whole := d.archive.Whole(); whole < head.Size {
		return body, refuseRecovery("short of the head: %d entries are here, it has %d. Let this replica start empty, as a new one", whole, head.Size)
	}
	if root, err := d.archive.TreeHash(head.Size); err != nil || ledger.Hash(root) != head.Root {
		return body, refuseRecovery("the root of size %d is %x here, the recovery names %s", head.Size, root, head.Root)
	}
	if d.certified == nil || d.certified.Head.Size < head.Size {
		checkpoint, err := d.chain.VerifyCheckpoint(o.Checkpoint)
		if err != nil {
			return body, refuseRecovery("the head of size %d is not known to be certified here: %v", head.Size, err)
		}
		d.certified, d.note = checkpoint, o.Checkpoint
	}
	if d.certified.Head.Size != head.Size || d.certified.Head.Root != head.Root {
		return body, refuseRecovery("the checkpoint is of size %d, the recovery goes on from %d", d.certified.Head.Size, head.Size)
	}
	if limit := uint64(time.Now().UnixMilli()) + maxRecoverSkew; body.At > limit {
		return body, refuseRecovery("it is dated %d s ahead of this clock: set the clock", (body.At-limit+maxRecoverSkew)/1000)
	}
	return body, nil
}

// verify derives the state at the head from the history, checking every
// signature again, and applies the recovery to it. It gives the seal that the
// snapshot stands on, and the state after.
func (d *data) verify(ctx context.Context, o RecoverOptions, body ledger.Recover, statements []*ledger.Statement) (*sealedState, *fsm.State, error) {
	verifier := fsm.NewDirectVerifier(recoverKeys)
	replayer, err := fsm.NewReplayer(d.entry0, verifier)
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	size := body.Head.Size
	old := replayer.State().Authority()
	err = d.archive.Entries(1, size, func(seq uint64, entry []byte) error {
		if o.Progress != nil && seq%recoverProgress == 0 {
			o.Progress(seq)
		}
		if seq == size-1 {
			old = replayer.State().Authority()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return replayer.Add(entry)
	})
	if err == nil {
		err = replayer.Finish()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	state := replayer.State()
	me, ok := state.Replica(o.Name)
	if !ok || me.KeyID() != ledger.Hash(o.Key.ID()) {
		return nil, nil, refuseRecovery("the ledger does not know %s with this key", o.Name)
	}
	if !slices.Contains(body.Keep, o.Name) {
		return nil, nil, refuseRecovery("the recovery does not keep %s", o.Name)
	}
	next, result := fsm.Apply(state, recoveryCommand(body, statements), verifier)
	for i, v := range result.Verdicts {
		if v.Code != fsm.OK {
			return nil, nil, refuseRecovery("the %s of %s: %s: %s", statements[i].Payload.Type, statements[i].Payload.Author, v.Code, v.Detail)
		}
	}
	if next.Meta().Generation != body.Generation {
		return nil, nil, refuseRecovery("the statements do not open generation %d", body.Generation)
	}
	return d.sealedAt(state, old, size, next)
}

func (d *data) sealedAt(state *fsm.State, old ledger.Authority, size uint64, next *fsm.State) (*sealedState, *fsm.State, error) {
	raw, err := d.archive.Entry(size - 1)
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	before, err := d.archive.Frontier(size - 1)
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	return &sealedState{head: d.certified.Head, state: state, entry: raw, stamp: state.Stamp(), before: before,
		old: old, authority: state.Authority(), note: d.note}, next, nil
}

func recoveryCommand(body ledger.Recover, statements []*ledger.Statement) *ledger.Command {
	c := &ledger.Command{Kind: ledger.CommandStatements, Stamp: body.At}
	for _, s := range statements {
		c.Statements = append(c.Statements, s.Envelope)
	}
	return c
}

// prepare writes everything that the recovered replica starts from, beside the
// data that it replaces. Whatever an earlier attempt left is written anew.
func (d *data) prepare(o RecoverOptions, folder string, body ledger.Recover, statements []*ledger.Statement, sealed *sealedState) ([]*ledger.Statement, error) {
	path := d.files.path(folder)
	if err := d.clear(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	dropped, err := d.dropped(o, body.Head.Size, statements)
	if err != nil {
		return nil, err
	}
	for name, list := range map[string][]*ledger.Statement{"recover.cose": statements, "dropped.cose": dropped} {
		var b []byte
		for _, s := range list {
			b = append(b, s.Envelope...)
		}
		if err := d.files.replace(filepath.Join(folder, name), b); err != nil {
			return nil, err
		}
	}
	if err := d.files.replace(filepath.Join(folder, certifiedFile), d.note); err != nil {
		return nil, err
	}
	for i, raw := range d.links {
		if have, err := d.files.read(linkName(uint64(i) + 1)); err != nil || have == nil {
			if err := d.files.replace(linkName(uint64(i)+1), raw); err != nil {
				return nil, err
			}
		}
	}
	if d.archive.Size() > body.Head.Size {
		if err := d.copyArchive(filepath.Join(path, archiveDir+newSuffix), body.Head.Size); err != nil {
			return nil, err
		}
	}
	if err := d.writeRaft(o, filepath.Join(path, raftDir+newSuffix), body, statements, sealed); err != nil {
		return nil, err
	}
	return dropped, errors.Join(syncDir(path), syncDir(filepath.Dir(path)), syncDir(d.files.dir))
}

// clear makes room for a recovery's folder. One that holds what was set aside, by
// the same statements before others were applied, is kept under another name.
func (d *data) clear(path string) error {
	aside, err := filepath.Glob(path + "/*" + oldSuffix)
	if err != nil || len(aside) == 0 {
		return errors.Join(err, os.RemoveAll(path))
	}
	for n := 1; ; n++ {
		kept := fmt.Sprintf("%s.%d", path, n)
		if _, err := os.Stat(kept); errors.Is(err, os.ErrNotExist) {
			return os.Rename(path, kept)
		} else if err != nil {
			return err
		}
	}
}

// dropped lists the statements that this replica has and the branch has not:
// those of the history beyond the head, and those that stand in Raft's log alone,
// committed or not.
func (d *data) dropped(o RecoverOptions, size uint64, statements []*ledger.Statement) ([]*ledger.Statement, error) {
	list, err := d.tail(size)
	if err != nil {
		return nil, err
	}
	known := map[ledger.Hash]bool{}
	for _, s := range slices.Concat(list, statements) {
		known[s.ID] = true
	}
	list = slices.DeleteFunc(list, func(s *ledger.Statement) bool {
		return slices.ContainsFunc(statements, func(one *ledger.Statement) bool { return one.ID == s.ID })
	})
	logged, err := loggedStatements(o)
	var damage *FileError
	if errors.As(err, &damage) {
		o.Logger.Warn("raft's log is damaged: statements that stand in it alone are not listed", "error", err)
		return list, nil
	}
	if err != nil || len(logged) == 0 {
		return list, err
	}
	err = d.archive.Entries(1, size, func(_ uint64, entry []byte) error {
		e, err := ledger.ParseEntry(entry)
		if err != nil || e.Kind != ledger.KindStatement {
			return err
		}
		s, err := ledger.ParseStatement(e.Content)
		if err == nil {
			known[s.ID] = true
		}
		return err
	})
	for _, s := range logged {
		if !known[s.ID] {
			known[s.ID] = true
			list = append(list, s)
		}
	}
	return list, err
}

// loggedStatements are those of every command in Raft's log.
func loggedStatements(o RecoverOptions) ([]*ledger.Statement, error) {
	cfg := Config{Dir: o.Dir, LogStore: o.LogStore, Logger: o.Logger}
	cfg.Limits, cfg.Raft = cfg.Limits.withDefaults(), cfg.Raft.withDefaults()
	if _, err := os.Stat(filepath.Join(o.Dir, raftDir)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	store, err := openLogStore(&cfg, o.Logger)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	first, err := store.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := store.LastIndex()
	if err != nil {
		return nil, err
	}
	var list []*ledger.Statement
	for index := max(first, 1); index <= last; index++ {
		var entry raft.Log
		if err := store.GetLog(index, &entry); errors.Is(err, raft.ErrLogNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		command, err := ledger.ParseCommand(entry.Data)
		if entry.Type != raft.LogCommand || err != nil {
			continue
		}
		for _, envelope := range command.Statements {
			if s, err := ledger.ParseStatement(envelope); err == nil {
				list = append(list, s)
			}
		}
	}
	return list, nil
}

// copyArchive writes a history that ends at size.
func (d *data) copyArchive(dir string, size uint64) (err error) {
	to, err := archive.Open(dir, archive.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	err = d.archive.Entries(0, size, func(seq uint64, entry []byte) error {
		if seq%recoverProgress == 0 {
			if _, err := to.Sync(); err != nil {
				return err
			}
		}
		return to.Append(seq, entry)
	})
	if err != nil {
		return err
	}
	whole, err := to.Sync()
	if err == nil && whole != size {
		err = fmt.Errorf("the copy of the history ends at %d of %d", whole, size)
	}
	if err != nil {
		return err
	}
	root, err := to.TreeHash(size)
	if err == nil && ledger.Hash(root) != d.certified.Head.Root {
		err = errors.New("the copy of the history has another root")
	}
	return err
}

// writeRaft makes Raft's folder anew: no log, and a snapshot of the state at the
// head with the recovery as the one command since, the replicas that stay being
// its voters. It is the same on each of them, so it is as if all had been
// bootstrapped with it.
func (d *data) writeRaft(o RecoverOptions, dir string, body ledger.Recover, statements []*ledger.Statement, sealed *sealedState) error {
	var servers []raft.Server
	for _, name := range body.Keep {
		one, ok := sealed.state.Replica(name)
		if !ok {
			return fmt.Errorf("there is no replica %s", name)
		}
		server := raft.Server{ID: raft.ServerID(one.KeyID().String()), Address: raft.ServerAddress(one.Peer)}
		if one.Standing != fsm.ReplicaActive {
			server.Suffrage = raft.Nonvoter
		}
		servers = append(servers, server)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, newRaftLogger(o.Logger, "snapshots"))
	if err != nil {
		return err
	}
	_, transport := raft.NewInmemTransport("")
	defer transport.Close()
	sink, err := store.Create(raft.SnapshotVersionMax, 1, 1, raft.Configuration{Servers: servers}, 1, transport)
	if err != nil {
		return err
	}
	links := func(index uint64) ([][]byte, error) {
		if index > uint64(len(d.links)) {
			return nil, fmt.Errorf("authority link %d is not here", index)
		}
		return d.links[:index], nil
	}
	s := &snapshot{shell: &shell{genesis: d.genesis, hooks: shellHooks{links: links}, archive: d.archive}, sealed: sealed,
		checkpoint: d.note, commands: [][]byte{recoveryCommand(body, statements).Encode()}}
	if err := s.Persist(sink); err != nil {
		return err
	}
	if err := proveWritten(store, sink.ID(), d); err != nil {
		return err
	}
	// Raft does not fsync the folder that its snapshots are in.
	return errors.Join(syncDir(filepath.Join(dir, snapshotsDir)), syncDir(dir))
}

// proveWritten reads the snapshot back and proves it as a start does.
func proveWritten(store raft.SnapshotStore, id string, d *data) error {
	_, from, err := store.Open(id)
	if err != nil {
		return err
	}
	defer from.Close()
	content, err := readSnapshot(io.Reader(from), 1<<62)
	if err != nil {
		return err
	}
	_, err = content.prove(d.entry0, d.genesis)
	return err
}
