package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

const (
	recoveredFile = "recovered" // the recovery that this replica is a member of
	recoverDir    = "recover"   // a folder for each: what was set aside
	formerFile    = "former"    // the first link by which a former council opened a generation

	newSuffix  = ".new"
	oldSuffix  = ".old"
	copySuffix = ".copy" // where a rename will not do: not whole yet, or not needed any more

	recoverKeys     = 512      // unpacked keys while the history is verified
	recoverProgress = 4_096    // entries between two syncs, and two words to the operator
	recoverBatch    = 1_024    // entries whose signatures are verified together
	recoverBytes    = 16 << 20 // of such a batch

	maxPolicySkew = 3_600_000 // milliseconds: the most that a policy's max_skew may be
)

// recovered is the file recovered. Once it is there the recovery is decided: what
// Prepared holds takes the place of the data, and Done says that it has.
type recovered struct {
	Done       bool               `json:"done,omitempty"`
	Dropped    int                `json:"dropped,omitempty"`
	Folder     string             `json:"folder"`
	Generation uint64             `json:"generation"`
	Head       ledger.RecoverHead `json:"head"`
	Left       []ledger.Replica   `json:"left,omitempty"` // of the generation before, and not of this one
	Replicas   []recoveredReplica `json:"replicas"`
}

type recoveredReplica struct {
	Replica  ledger.Replica `json:"replica"`
	Server   *ledger.Hash   `json:"server,omitempty"` // unless it is that of the key
	Standing string         `json:"standing"`
}

func newRecoveredReplica(one fsm.ReplicaRecord) recoveredReplica {
	r := recoveredReplica{Replica: one.Replica, Standing: one.Standing}
	if server := one.Server(); server != one.KeyID() {
		r.Server = &server
	}
	return r
}

func (r recoveredReplica) peer() *peer {
	p := &peer{Replica: r.Replica, id: r.Replica.KeyID(), standing: r.Standing}
	if r.Server != nil {
		p.id = *r.Server
	}
	return p
}

func newRecovered(folder string, body ledger.Recover, before, after []fsm.ReplicaRecord, dropped int) *recovered {
	r := &recovered{Dropped: dropped, Folder: folder, Generation: body.Generation, Head: body.Head}
	for _, one := range after {
		r.Replicas = append(r.Replicas, newRecoveredReplica(one))
	}
	for _, one := range before {
		if !slices.ContainsFunc(after, func(now fsm.ReplicaRecord) bool { return now.Server() == one.Server() }) {
			r.Left = append(r.Left, one.Replica)
		}
	}
	return r
}

func (f files) readRecovered() (*recovered, error) {
	var r recovered
	ok, err := f.readChecked(recoveredFile, &r)
	if !ok || err != nil {
		return nil, err
	}
	return &r, nil
}

// completeRecovery puts what a decided recovery prepared in the place of the data.
// Each step may have been done before a crash; it does nothing if there is none.
func completeRecovery(f files, at crashPoint) error {
	r, err := f.readRecovered()
	if err != nil || r == nil || r.Done {
		return err
	}
	for _, name := range []string{archiveDir, raftDir} {
		if err := f.swap(name, r.Folder, at); err != nil {
			return fmt.Errorf("complete recovery: %w", err)
		}
	}
	note, err := f.read(filepath.Join(r.Folder, certifiedFile))
	if err != nil {
		return fmt.Errorf("complete recovery: %w", err)
	}
	if err := f.replace(certifiedFile, note); err != nil {
		return fmt.Errorf("complete recovery: %w", err)
	}
	if err := at.reach("certified"); err != nil {
		return err
	}
	// Heads beyond the fork that this replica signed were never certified; on this
	// branch it signs from the fork on.
	if err := f.remove(haltedFile); err != nil { // what was found beyond the fork is set aside
		return err
	}
	if err := f.replaceChecked(headFile, headRecord{Root: r.Head.Root, Size: r.Head.Size}); err != nil {
		return fmt.Errorf("complete recovery: %w", err)
	}
	if err := at.reach("head"); err != nil {
		return err
	}
	if err := f.dropHandovers(); err != nil {
		return fmt.Errorf("complete recovery: %w", err)
	}
	if err := at.reach("handovers"); err != nil {
		return err
	}
	r.Done = true
	if err := f.replaceChecked(recoveredFile, r); err != nil {
		return fmt.Errorf("complete recovery: %w", err)
	}
	return nil
}

// swap puts folder/NAME.new in the place of NAME, which becomes folder/NAME.old.
func (f files) swap(name, folder string, at crashPoint) error {
	place, fresh, old := f.path(name), f.path(filepath.Join(folder, name+newSuffix)), f.path(filepath.Join(folder, name+oldSuffix))
	if _, err := os.Stat(fresh); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing to replace, or done
	} else if err != nil {
		return err
	}
	if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
		if err := setAside(place, old); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	// Crash here: the place is empty or holds what was copied, and the next attempt
	// fills it.
	if err := at.reach(name + oldSuffix); err != nil {
		return err
	}
	if err := fill(place, fresh, func() error { return at.reach(name + copySuffix) }); err != nil {
		return err
	}
	return at.reach(name)
}

// crashPoint lets a test end a recovery after each of its steps; nil does nothing.
type crashPoint func(step string) error

func (at crashPoint) reach(step string) error {
	if at == nil {
		return nil
	}
	return at(step)
}

// dropHandovers forgets our cosignatures of handovers that the branch has not.
func (f files) dropHandovers() error {
	names, err := readDirNames(f.path(handoverDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := f.remove(filepath.Join(handoverDir, name)); err != nil {
			return err
		}
	}
	return nil
}
