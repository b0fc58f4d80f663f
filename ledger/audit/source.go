// Package audit takes a ledger away and proves it offline: Export writes what
// FORMAT.md section 12 lists, Verify proves it from the genesis hash alone,
// VerifyFile proves a single proof file.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source gives the files of a ledger by their C2SP path without a leading
// slash: checkpoint, tile/…, authority/N, and, where a server signs receipts,
// receipts/SEQ (FORMAT.md section 14: the COSE_Sign1 of a receipt for entry
// SEQ). A path that does not exist gives an error that is fs.ErrNotExist. Get
// is called from several goroutines.
type Source interface {
	Get(ctx context.Context, path string) ([]byte, error)
}

// SourceFunc makes a Source of a function.
type SourceFunc func(ctx context.Context, path string) ([]byte, error)

// Get calls f.
func (f SourceFunc) Get(ctx context.Context, path string) ([]byte, error) { return f(ctx, path) }

// Directory is an export on disk, as a Source. It never leaves its folder and
// follows no symbolic link.
type Directory struct{ root *os.Root }

// OpenDirectory opens the export in a folder.
func OpenDirectory(path string) (*Directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Directory{root: root}, nil
}

// Close releases the folder.
func (d *Directory) Close() error { return d.root.Close() }

// Get reads a file, as Source has it; the path authority/N is the file
// authority/N.json.
func (d *Directory) Get(ctx context.Context, path string) ([]byte, error) {
	return d.getInto(ctx, path, nil)
}

// getInto is Get that reads into buf if the file fits.
func (d *Directory) getInto(ctx context.Context, path string, buf []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, "authority/") && !strings.HasSuffix(path, ".json") {
		path += ".json"
	}
	limit := limitOf(path)
	if limit == 0 {
		return nil, fmt.Errorf("read %q: %w", path, errors.Join(errOddFile, fs.ErrNotExist))
	}
	f, err := d.open(path)
	if err != nil {
		return nil, err
	}
	data, err := readBounded(f, limit, buf)
	return data, errors.Join(err, f.Close())
}

// open opens a regular file: opening a pipe could wait for ever.
func (d *Directory) open(path string) (*os.File, error) {
	name := filepath.FromSlash(path)
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: %w", path, errOddFile)
	}
	return d.root.Open(name)
}

func readBounded(f *os.File, limit int64, buf []byte) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", info.Size(), limit, errTooLarge)
	}
	data := slices.Grow(buf[:0], int(info.Size()))[:info.Size()]
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return data, nil
}

// each calls fn for every file below the folder. A symbolic link, a pipe or
// anything else that is neither file nor folder is the export's fault.
func (d *Directory) each(fn func(path string) error) error {
	return fs.WalkDir(d.root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("list %s: %w", path, err)
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			return badFile(StepFiles, path, errors.New("it is no regular file"))
		}
		return fn(path)
	})
}
