package replica

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
)

// The small files of the data directory. Each is replaced whole: temporary
// file, fsync, rename, fsync of the folder. DESIGN.md names the crash points.
const (
	headFile       = "head"           // the newest head that was or is about to be signed
	certifiedFile  = "certified"      // the newest certified checkpoint, a note
	seqFile        = "seq"            // reserved seqs of this replica's own statements
	forksFile      = "forks"          // who cosigned what is not ours, with the signatures
	haltedFile     = "halted"         // why this replica stays out until it is re-keyed
	logKeyFile     = "logkey"         // the log's secret in use
	pendingKeyFile = "logkey.pending" // one that a log.rekey may name
	oldKeyFile     = "logkey.old"     // the one before, while its lines go on
	scrubFile      = "scrub"          // where the scrub of the history goes on
	lockFile       = "lock"           // locked while a process has the directory
	peersFile      = "peers"          // the replica set of the newest certified state
	authorityDir   = "authority"      // N.json: links of the authority chain
	handoverDir    = "handover"       // N: this replica's cosignature of handover N
	archiveDir     = "archive"
	raftDir        = "raft"
)

// files reads and replaces the small files of one data directory.
type files struct {
	dir      string
	watchdog *watchdog
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FileError says that a file of the data directory is not what was written.
type FileError struct {
	File   string
	Offset int64
	Reason string
}

func (e *FileError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) has(name string) bool {
	_, err := os.Stat(f.path(name))
	return err == nil
}

// read returns a file's bytes, nil when there is none.
func (f files) read(name string) ([]byte, error) {
	info, err := os.Stat(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if info.Size() > maxFileBytes {
		return nil, &FileError{File: name, Reason: "too large"}
	}
	b, err := os.ReadFile(f.path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// replace makes b the durable content of the file. A crash leaves the old
// content or the new one.
func (f files) replace(name string, b []byte) error {
	defer f.watchdog.begin(diskFiles)()
	path := f.path(name)
	temporary := path + ".tmp"
	if err := writeSynced(temporary, b); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	// Crash here: the old file, and a temporary one that the next write empties.
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	// Crash here: either; the caller has not acted on the new content yet.
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (f files) remove(name string) error {
	if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return syncDir(filepath.Dir(f.path(name)))
}

// destroy removes a secret: its bytes are overwritten first, as far as the file
// system lets one.
func (f files) destroy(name string) error {
	defer f.watchdog.begin(diskFiles)()
	path := f.path(name)
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err == nil {
		if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			_, _ = file.Write(make([]byte, min(info.Size(), maxFileBytes)))
			_ = errors.Join(file.Sync(), file.Close())
		}
	}
	// Crash here: a file of zeros.
	return f.remove(name)
}

// lock keeps other processes away from the data directory, which must be there,
// until it is closed. The archive has a lock of its own, which goes with its folder
// when a recovery sets that aside.
func (f files) lock() (io.Closer, error) { return archive.OS().Lock(f.path(lockFile)) }

// makeDirs makes the data directory and its folders.
func (f files) makeDirs() error {
	for _, dir := range []string{"", authorityDir, handoverDir, keysDir, raftDir} {
		if err := os.MkdirAll(f.path(dir), 0o700); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	return errors.Join(syncDir(f.dir), syncDir(filepath.Dir(f.dir)))
}

// replaceChecked writes canonical JSON and its checksum on a second line, for
// the files that nothing else vouches for.
func (f files) replaceChecked(name string, value any) error {
	b, err := canon.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	sum := fmt.Sprintf("\n%08x\n", crc32.Checksum(b, castagnoli))
	return f.replace(name, append(b, sum...))
}

// readChecked reads what replaceChecked wrote; false when there is none.
func (f files) readChecked(name string, value any) (bool, error) {
	b, err := f.read(name)
	if b == nil || err != nil {
		return false, err
	}
	return true, parseChecked(name, b, value)
}

func parseChecked(name string, b []byte, value any) error {
	const tail = 10 // line feed, eight digits, line feed
	if len(b) < tail {
		return &FileError{File: name, Offset: int64(len(b)), Reason: "ends early"}
	}
	body := b[:len(b)-tail]
	if want := fmt.Appendf(nil, "\n%08x\n", crc32.Checksum(body, castagnoli)); !bytes.Equal(b[len(body):], want) {
		return &FileError{File: name, Reason: "its checksum differs"}
	}
	if err := canon.Unmarshal(body, value); err != nil {
		return &FileError{File: name, Reason: err.Error()}
	}
	return nil
}

// headRecord is the file head: this replica signs nothing below it, and no
// other root at its size.
type headRecord struct {
	Root ledger.Hash `json:"root"`
	Size uint64      `json:"size"`
}

// haltedRecord is the file halted.
type haltedRecord struct {
	Reason string `json:"reason"`
}

// logKeyRecord is the file logkey.
type logKeyRecord struct {
	Ed25519 []byte `json:"ed25519"`
	MLDSA44 []byte `json:"mldsa44"`
}

func (k LogKey) record() logKeyRecord {
	return logKeyRecord{Ed25519: k.Ed25519[:], MLDSA44: k.MLDSA44[:]}
}

func (r logKeyRecord) key() (*LogKey, error) {
	if len(r.Ed25519) != 32 || len(r.MLDSA44) != 32 {
		return nil, errors.New("log key: want two seeds of 32 bytes")
	}
	return &LogKey{Ed25519: [32]byte(r.Ed25519), MLDSA44: [32]byte(r.MLDSA44)}, nil
}

// oldLogKeyRecord is the file logkey.old.
type oldLogKeyRecord struct {
	Key   logKeyRecord `json:"key"`
	Until uint64       `json:"until"` // milliseconds, by our clock
}

func (f files) readLogKey(name string) (*LogKey, error) {
	var record logKeyRecord
	if ok, err := f.readChecked(name, &record); !ok || err != nil {
		return nil, err
	}
	return record.key()
}

// linkName is the file of authority link n.
func linkName(n uint64) string {
	return filepath.Join(authorityDir, strconv.FormatUint(n, 10)+".json")
}

func handoverName(n uint64) string {
	return filepath.Join(handoverDir, strconv.FormatUint(n, 10))
}

// readDirNames lists a folder, sorted.
func readDirNames(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}
