package audit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// unpack writes the members of a .tar.zst below a new temporary folder, which
// the caller removes. The error is a *BadError if the archive is to blame: its
// names, its sizes, its form. Their content is Verify's.
func unpack(ctx context.Context, name string) (root string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", badFile(StepFiles, filepath.Base(name), errors.New("it is neither a folder nor a file"))
	}
	root, err = os.MkdirTemp("", "quorate-verify-*")
	if err != nil {
		return "", err
	}
	if err := unpackFile(ctx, f, info.Size(), root); err != nil {
		var bad *BadError
		if errors.As(err, &bad) && bad.File == "" {
			bad.File = filepath.Base(name)
		}
		return "", joinSecond(err, os.RemoveAll(root))
	}
	return root, nil
}

// joinSecond adds an error to a first one without changing how that reads when
// there is no second.
func joinSecond(first, second error) error {
	if second == nil {
		return first
	}
	return errors.Join(first, second)
}

func unpackFile(ctx context.Context, f io.Reader, size int64, root string) (err error) {
	disk := &watchedReader{from: f}
	z, err := zstd.NewReader(disk, zstd.WithDecoderMaxWindow(maxDecoderWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("start zstd: %w", err)
	}
	defer z.Close()
	dir, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer func() { err = joinSecond(err, dir.Close()) }()
	u := unpacker{out: &directorySink{root: dir}, budget: min(maxUnpackedBytes, size*maxUnpackRatio+unpackAllowance)}
	unzipped := readAhead(z)
	ended := &endReader{from: unzipped}
	if err = u.all(ctx, ended); err == nil && ended.zeros < tarEndBytes {
		err = badFile(StepFiles, "", errors.New("the archive is cut: its tar has no end"))
	}
	unzipped.stop()
	if disk.err != nil {
		return fmt.Errorf("read the archive: %w", disk.err)
	}
	return err
}

// memberSink takes members of a tar, none of them twice.
type memberSink interface {
	addStream(path string, size int64, r io.Reader) error
}

// endReader counts the zeros that what it read ends in: a tar ends in two
// blocks of them, which archive/tar does not ask for, so that a tar that was
// cut between two members would pass as a whole one.
type endReader struct {
	from  io.Reader
	zeros int
}

func (e *endReader) Read(b []byte) (int, error) {
	n, err := e.from.Read(b)
	zeros := n - len(bytes.TrimRight(b[:n], "\x00"))
	if zeros == n {
		zeros += e.zeros
	}
	e.zeros = min(zeros, tarEndBytes)
	return n, err
}

// unpacker takes the members of an archive that nobody vouches for.
type unpacker struct {
	out    memberSink
	budget int64 // bytes that may still be unpacked
	proofs int64 // bytes of proofs so far
	files  int
}

func (u *unpacker) all(ctx context.Context, unzipped io.Reader) error {
	for t := tar.NewReader(unzipped); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return onlyZeros(unzipped)
		}
		if err != nil {
			return badFile(StepFiles, "", fmt.Errorf("read member %d: %w", u.files, err))
		}
		if err := u.member(h, t); err != nil {
			return err
		}
	}
}

// onlyZeros reads what follows the end of a tar: its padding, and the checksum
// of the zstd frame.
func onlyZeros(r io.Reader) error {
	rest, err := io.ReadAll(io.LimitReader(r, maxTarPadding+1))
	if err != nil {
		return badFile(StepFiles, "", fmt.Errorf("read the archive's end: %w", err))
	}
	if len(rest) > maxTarPadding || len(bytes.Trim(rest, "\x00")) > 0 {
		return badFile(StepFiles, "", errors.New("bytes follow the archive's end"))
	}
	return nil
}

func (u *unpacker) member(h *tar.Header, body io.Reader) error {
	// What tar makes of a folder begins with ./ and has members for folders.
	name := strings.TrimPrefix(h.Name, "./")
	if h.Typeflag == tar.TypeDir && (name == "" || filepath.IsLocal(name)) {
		return u.count(name, 0)
	}
	limit := limitOf(name)
	if h.Typeflag != tar.TypeReg || limit == 0 {
		return badFile(StepFiles, "", fmt.Errorf("member %q: %w", h.Name, errOddFile))
	}
	if h.Size > limit {
		return badFile(StepFiles, name, fmt.Errorf("%d bytes, at most %d: %w", h.Size, limit, errTooLarge))
	}
	if err := u.count(name, h.Size); err != nil {
		return err
	}
	in := &watchedReader{from: body}
	err := u.out.addStream(name, h.Size, in)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return badFile(StepFiles, name, errors.New("the archive holds it twice"))
	case in.err != nil:
		return badFile(StepFiles, name, in.err)
	}
	return fmt.Errorf("unpack %s: %w", name, err)
}

// count refuses an archive that would fill the disk.
func (u *unpacker) count(name string, size int64) error {
	if u.files++; u.files > maxUnpackedFiles {
		return badFile(StepFiles, "", fmt.Errorf("more than %d files", maxUnpackedFiles))
	}
	if strings.HasPrefix(name, "proofs/") {
		if u.proofs += size; u.proofs > maxUnpackedProofs {
			return badFile(StepFiles, name, fmt.Errorf("proofs of more than %d bytes", int64(maxUnpackedProofs)))
		}
		return nil
	}
	if u.budget -= size; u.budget < 0 {
		return badFile(StepFiles, name, fmt.Errorf("the archive unpacks to more than %d times its size, which no export does", maxUnpackRatio))
	}
	return nil
}

// watchedReader remembers that it was this reader which failed, not whoever
// took its bytes.
type watchedReader struct {
	from io.Reader
	err  error
}

func (w *watchedReader) Read(b []byte) (int, error) {
	n, err := w.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}
