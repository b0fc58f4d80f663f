package audit

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// sink takes the files of an export in order. What stands between two cuts, and
// each piece of a file that is added in pieces, can be read alone.
type sink interface {
	add(path string, data []byte) error
	addPieces(path string, sizes []int64, r io.Reader) error
	cut() error
}

// directorySink writes files below a folder, and nowhere else.
type directorySink struct{ root *os.Root }

func (d *directorySink) add(name string, data []byte) error {
	return d.addStream(name, int64(len(data)), bytes.NewReader(data))
}

func (d *directorySink) cut() error { return nil }

func (d *directorySink) addPieces(name string, sizes []int64, r io.Reader) error {
	return d.addStream(name, sum(sizes), r)
}

func (d *directorySink) addStream(name string, size int64, r io.Reader) (err error) {
	if dir := path.Dir(name); dir != "." {
		if err := d.root.MkdirAll(filepath.FromSlash(dir), 0o755); err != nil {
			return err
		}
	}
	f, err := d.root.OpenFile(filepath.FromSlash(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if n, err := io.Copy(f, r); err != nil {
		return err
	} else if n != size {
		return fmt.Errorf("%d bytes instead of %d", n, size)
	}
	return nil
}

// packedSink writes a zstd-compressed tar whose members have no owner, no
// time and one mode, so that the same ledger gives the same members. Each cut
// begins another zstd frame: framed reads them in parallel. A frame has no
// checksum, for all of it is hashed or compared when it is verified.
type packedSink struct {
	to  io.Writer
	zip *zstd.Encoder
	tar *tar.Writer
}

func newPackedSink(w io.Writer) (*packedSink, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return &packedSink{to: w, zip: z, tar: tar.NewWriter(z)}, nil
}

func (p *packedSink) add(name string, data []byte) error {
	if err := p.begin(name, int64(len(data))); err != nil {
		return err
	}
	_, err := p.tar.Write(data)
	return err
}

func (p *packedSink) begin(name string, size int64) error {
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX})
}

func (p *packedSink) addPieces(name string, sizes []int64, r io.Reader) error {
	if err := errors.Join(p.cut(), p.begin(name, sum(sizes)), p.endFrame()); err != nil {
		return err
	}
	for _, size := range sizes {
		if _, err := io.CopyN(p.tar, r, size); err != nil {
			return err
		}
		if err := p.endFrame(); err != nil {
			return err
		}
	}
	return nil
}

// cut ends a member and the frame.
func (p *packedSink) cut() error { return errors.Join(p.tar.Flush(), p.endFrame()) }

func (p *packedSink) endFrame() error {
	if err := p.zip.Close(); err != nil {
		return err
	}
	p.zip.Reset(p.to)
	return nil
}

func (p *packedSink) close() error { return errors.Join(p.tar.Close(), p.zip.Close()) }

// abort ends neither the tar nor the zstd frame, so that what was written so
// far can't be read as a whole export.
func (p *packedSink) abort() { p.zip.Reset(io.Discard); _ = p.zip.Close() }

func sum(sizes []int64) (total int64) {
	for _, size := range sizes {
		total += size
	}
	return total
}
