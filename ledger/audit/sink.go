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

// sink takes the files of an export in order.
type sink interface {
	add(path string, data []byte) error
	addStream(path string, size int64, r io.Reader) error
}

// directorySink writes files below a folder, and nowhere else.
type directorySink struct{ root *os.Root }

func (d *directorySink) add(name string, data []byte) error {
	return d.addStream(name, int64(len(data)), bytes.NewReader(data))
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
// time and one mode, so that the same ledger gives the same members.
type packedSink struct {
	zip *zstd.Encoder
	tar *tar.Writer
}

func newPackedSink(w io.Writer) (*packedSink, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return &packedSink{zip: z, tar: tar.NewWriter(z)}, nil
}

func (p *packedSink) add(name string, data []byte) error {
	return p.addStream(name, int64(len(data)), bytes.NewReader(data))
}

func (p *packedSink) addStream(name string, size int64, r io.Reader) error {
	err := p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX})
	if err != nil {
		return err
	}
	_, err = io.Copy(p.tar, r)
	return err
}

func (p *packedSink) close() error { return errors.Join(p.tar.Close(), p.zip.Close()) }

// abort ends neither the tar nor the zstd frame, so that what was written so
// far can't be read as a whole export.
func (p *packedSink) abort() { p.zip.Reset(io.Discard); _ = p.zip.Close() }
