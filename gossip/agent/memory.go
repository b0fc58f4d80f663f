package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/quorate/quorate/ledger"
)

// memory is what the running system remembers of a record of seqs beside the
// disk: how often it was written. It lives in a folder that a boot empties, so
// an image of the disk that is put back without a boot is older than it.
type memory string

// MemoryDir is where agents keep it unless their configuration says otherwise;
// "" where the system has no such folder.
func MemoryDir() string {
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return ""
	}
	return filepath.Join("/dev/shm", "quorate-"+strconv.Itoa(os.Getuid()))
}

// memoryOf is the file for a record: another for each path, so that a copy
// elsewhere finds nothing.
func memoryOf(dir, path string, key ledger.Hash) memory {
	if dir == "" {
		return ""
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	sum := sha256.Sum256(append(key[:], path...))
	return memory(filepath.Join(dir, hex.EncodeToString(sum[:16])))
}

// read gives how often the record was written; known is false if the system does
// not remember.
func (m memory) read() (writes uint64, known bool) {
	if m == "" {
		return 0, false
	}
	b, err := os.ReadFile(string(m))
	if err != nil || len(b) > 20 {
		return 0, false
	}
	writes, err = strconv.ParseUint(string(b), 10, 64)
	return writes, err == nil
}

// write remembers. Nothing is lost with it but the right to sign at once after
// the next start.
func (m memory) write(writes uint64) error {
	if m == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(string(m)), 0o700); err != nil {
		return fmt.Errorf("remember seqs: %w", err)
	}
	// Never half written: a crash between the two leaves none, which is a doubt.
	temporary := string(m) + ".new"
	err := os.WriteFile(temporary, strconv.AppendUint(nil, writes, 10), 0o600)
	if err == nil {
		err = os.Rename(temporary, string(m))
	}
	if err != nil {
		return fmt.Errorf("remember seqs: %w", errors.Join(err, m.forget()))
	}
	return nil
}

// forget leaves the next start in doubt.
func (m memory) forget() error {
	if err := os.Remove(string(m)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
