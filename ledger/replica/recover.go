package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/quorate/quorate/ledger"
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

// RecoverOptions are what Recover needs to know.
type RecoverOptions struct {
	Dir, Name  string
	Genesis    []byte           // entry 0
	Key        *keys.PublicKey  // this replica's
	LogStore   string           // as in Config
	Statements [][]byte         // the recover statement and the approvals of it
	Instead    string           // ID of a recovery that they take the place of, on every replica; else one is kept to
	Checkpoint []byte           // a note of the head that it names; nil: the one that is here
	Links      [][]byte         // authority links 1 to N, for one that lacks the last ones
	Logger     *slog.Logger     // nil: none
	Progress   func(seq uint64) // may be nil: entries verified so far
	Now        func() time.Time // nil: time.Now

	crash crashPoint // tests' own
}

// RecoverReport is what Recover did.
type RecoverReport struct {
	ID         string // of the very statements: the same on every replica, or they can't go on together
	Already    bool   // it had been done before, by the same statements
	Generation uint64 // that was opened
	Size       uint64 // of the head from which it goes on
	Dropped    int    // statements beyond it that this replica had, kept in Folder/dropped.cose
	Folder     string // what was set aside: old Raft log, old history, statements
}

// Recover makes the data of a stopped replica a member of the generation that
// the statements open. It verifies the whole history up to the named head and the
// council's signatures, and refuses with a *RecoverError what is short of that
// head, beyond it, of another ledger, of a replica that the recovery does not keep,
// outside of the time that the statements give it, or other than what was decided
// here before. Raft's log is replaced by a snapshot that proves itself, with the
// replicas that stay as voters and the recovery as its one command; raft.Restore
// has no part in it.
//
// A crash at any point leaves the data as it was, or the recovery decided, which
// the next Recover or Open then completes. Doing it again changes nothing.
func Recover(ctx context.Context, o RecoverOptions) (*RecoverReport, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d, err := openData(o.Dir, o.Genesis, o.crash)
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
		return &RecoverReport{ID: filepath.Base(folder), Already: true, Generation: d.marker.Generation, Size: d.marker.Head.Size,
			Dropped: d.marker.Dropped, Folder: d.files.path(folder)}, nil
	}
	body, err := d.admit(o, folder, statements)
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
	d.closeArchive()
	if err := completeRecovery(d.files, o.crash); err != nil {
		return nil, err
	}
	return &RecoverReport{ID: filepath.Base(folder), Generation: body.Generation, Size: body.Head.Size, Dropped: len(dropped), Folder: d.files.path(folder)}, nil
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
