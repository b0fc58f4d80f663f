package audit

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"
)

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

func (p *packedSink) add(path string, data []byte) error {
	return p.addStream(path, int64(len(data)), bytes.NewReader(data))
}

func (p *packedSink) addStream(path string, size int64, r io.Reader) error {
	err := p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Size: size, Mode: 0o644, Format: tar.FormatPAX})
	if err != nil {
		return err
	}
	_, err = io.Copy(p.tar, r)
	return err
}

func (p *packedSink) close() error { return errors.Join(p.tar.Close(), p.zip.Close()) }

// abort ends the compressor without the end of a tar, so that what was
// written so far can't be read as a whole export.
func (p *packedSink) abort() error { return p.zip.Close() }

// exportPath matches the names of FORMAT.md section 12.
var exportPath = regexp.MustCompile(`^(checkpoint|log\.vkey|log-mldsa44\.vkey|policy|genesis\.cbor|entries\.jsonl|authority/[0-9]{1,9}\.json|proofs/[0-9]{1,16}\.(tlog-proof|cose)|tile/(entries|[0-9]{1,2})/[x0-9./p]{3,64})$`)

// unpack writes the members of a .tar.zst below a new temporary directory.
func unpack(name string) (root string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	defer z.Close()
	root, err = os.MkdirTemp("", "quorate-verify-*")
	if err != nil {
		return "", err
	}
	if err := unpackInto(root, tar.NewReader(z)); err != nil {
		return "", errors.Join(fmt.Errorf("unpack %s: %w", name, err), os.RemoveAll(root))
	}
	return root, nil
}

func unpackInto(root string, t *tar.Reader) error {
	out := &directorySink{root: root}
	var total int64
	for files := 0; ; files++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read member %d: %w", files, err)
		}
		if h.Typeflag != tar.TypeReg || !exportPath.MatchString(h.Name) || strings.Contains(h.Name, "..") {
			return fmt.Errorf("member %q does not belong in an export", h.Name)
		}
		total += h.Size
		if files >= maxUnpackedFiles || total > maxUnpackedBytes {
			return fmt.Errorf("larger than %d files or %d bytes", maxUnpackedFiles, int64(maxUnpackedBytes))
		}
		if h.Name != "entries.jsonl" && h.Size > limitOf(h.Name) && !strings.HasPrefix(h.Name, "proofs/") {
			return fmt.Errorf("member %q has %d bytes, at most %d", h.Name, h.Size, limitOf(h.Name))
		}
		if err := out.addStream(filepath.ToSlash(h.Name), h.Size, t); err != nil {
			return fmt.Errorf("member %q: %w", h.Name, err)
		}
	}
}
