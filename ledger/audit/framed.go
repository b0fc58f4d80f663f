package audit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger/archive"
)

// framed is an archive as Export writes it, verified where it lies: nothing of
// it is unpacked to files, and its bundles are unzipped by whoever verifies
// them. Its frames are
//
//	the head's files and upper tiles
//	a bundle and its tile                          once a bundle
//	the tar header of entries.jsonl
//	a bundle's lines                               once a bundle
//	the proofs, and the tar's end
//
// Of anything else it says that it is not framed, and the archive is unpacked:
// so it need not say what is wrong, only take nothing that unpack refuses.
type framed struct {
	file  *os.File
	in    *frames
	small map[string][]byte // all but bundles, their tiles and the lines
	lines int64             // bytes of entries.jsonl
}

func openFramed(ctx context.Context, name string) (_ *framed, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	d := &framed{file: f, small: map[string][]byte{}}
	defer func() {
		if err != nil {
			err = joinSecond(err, d.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotFramed
	}
	if d.in, err = readFrames(f, info.Size()); err != nil {
		return nil, err
	}
	if count := len(d.in.at); count < 5 || count%2 == 0 {
		return nil, fmt.Errorf("%w: there are %d", errNotFramed, count)
	}
	if err := d.readSmall(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// bundles is how many the archive has frames for.
func (d *framed) bundles() uint64 { return uint64(len(d.in.at)-3) / 2 }

// readSmall reads the first frame, the header of the lines, and the last frame.
func (d *framed) readSmall(ctx context.Context) error {
	_, first, err := d.in.unzip(0, nil, nil)
	if err != nil {
		return err
	}
	if len(first)%tarBlockBytes != 0 || allZero(first[max(0, len(first)-tarBlockBytes):]) {
		return fmt.Errorf("%w: its first one ends inside a member", errNotFramed)
	}
	_, header, err := d.in.unzip(1+int(d.bundles()), nil, nil)
	if err != nil {
		return err
	}
	if d.lines, err = onlyHeader(header); err != nil {
		return err
	}
	_, last, err := d.in.unzip(len(d.in.at)-1, nil, nil)
	if err != nil {
		return err
	}
	padding := int(-d.lines & (tarBlockBytes - 1))
	if len(last) < padding+tarEndBytes || len(last)-padding > maxFrameBytes || !allZero(last[:padding]) || !allZero(last[len(last)-tarEndBytes:]) {
		return fmt.Errorf("%w: its tar has no end", errNotFramed)
	}
	for _, members := range [][]byte{first, last[padding:]} {
		u := unpacker{out: d, budget: 2 * maxFrameBytes}
		if err := u.all(ctx, bytes.NewReader(members)); err != nil {
			return fmt.Errorf("%w: %w", errNotFramed, err)
		}
	}
	return nil
}

func allZero(b []byte) bool { return len(bytes.TrimRight(b, "\x00")) == 0 }

// isPlain says whether what follows a header is the file as it is: a sparse one
// has other bytes when it is unpacked. Our own have no record but the size of a
// file above 8 GiB.
func isPlain(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if key != "size" {
			return false
		}
	}
	return h.Typeflag == tar.TypeReg
}

// onlyHeader reads the header of entries.jsonl, and gives the size in it.
func onlyHeader(frame []byte) (int64, error) {
	r := bytes.NewReader(frame)
	h, err := tar.NewReader(r).Next()
	if err != nil || h.Name != viewName || !isPlain(h) || h.Size > limitOf(viewName) || r.Len() > 0 {
		return 0, fmt.Errorf("%w: no header of %s stands before the lines", errNotFramed, viewName)
	}
	return h.Size, nil
}

// addStream keeps a small member: what has a frame of its own is none.
func (d *framed) addStream(path string, size int64, r io.Reader) error {
	if path == viewName || strings.HasPrefix(path, "tile/0/") || strings.HasPrefix(path, "tile/entries/") {
		return errNotFramed
	}
	if _, twice := d.small[path]; twice {
		return fs.ErrExist
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	d.small[path] = data
	return nil
}

// bundle gives tile and bundle n, and the memory that they are parts of, which
// is that of the buffers if it suffices.
func (d *framed) bundle(n uint64, width int, zipped, out []byte) (tile, bundle, _, _ []byte, err error) {
	if n >= d.bundles() {
		return nil, nil, zipped, out, errNotFramed
	}
	if zipped, out, err = d.in.unzip(1+int(n), zipped, out); err != nil {
		return nil, nil, zipped, out, err
	}
	r := bytes.NewReader(out)
	t := tar.NewReader(r)
	member := func(path string) []byte {
		h, problem := t.Next()
		if problem != nil || h.Name != path || !isPlain(h) || h.Size > min(limitOf(path), int64(r.Len())) {
			err = fmt.Errorf("%w: %s is not where it should be", errNotFramed, path)
			return nil
		}
		begin := len(out) - r.Len()
		return out[begin : begin+int(h.Size)]
	}
	tile = member(archive.TilePath(0, n, width))
	if err == nil {
		bundle = member(archive.BundlePath(n, width))
	}
	if err == nil {
		rest := out[len(out)-r.Len()+len(bundle):]
		if len(out)%tarBlockBytes != 0 || len(rest) >= tarBlockBytes || !allZero(rest) {
			err = fmt.Errorf("%w: bundle %d is not alone", errNotFramed, n)
		}
	}
	return tile, bundle, zipped, out, err
}

// view gives the lines of bundle n, over what the buffers held.
func (d *framed) view(n uint64, zipped, out []byte) (_, _ []byte, err error) {
	return d.in.unzip(2+int(d.bundles()+n), zipped, out)
}

// Get gives a file, as Directory does.
func (d *framed) Get(ctx context.Context, path string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, "authority/") && !strings.HasSuffix(path, ".json") {
		path += ".json"
	}
	if data, ok := d.small[path]; ok {
		return data, nil
	}
	if level, n, width, err := archive.ParseTilePath(path); err == nil && level < 1 && n < d.bundles() {
		tile, bundle, _, _, err := d.bundle(n, width, nil, nil)
		if level < 0 {
			tile = bundle
		}
		return tile, err
	}
	return nil, fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
}

// each calls fn for the small files. The others are those that they should be,
// or bundle fails.
func (d *framed) each(fn func(path string) error) error {
	for _, path := range slices.Sorted(maps.Keys(d.small)) {
		if err := fn(path); err != nil {
			return err
		}
	}
	return nil
}

// Close releases the archive.
func (d *framed) Close() error {
	if d.in != nil {
		d.in.close()
	}
	return d.file.Close()
}

// notFramed says whether an archive has to be unpacked: its form is another,
// or it is bad.
func notFramed(err error) bool {
	var bad *BadError
	return errors.Is(err, errNotFramed) || errors.As(err, &bad)
}
