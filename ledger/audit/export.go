package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// ExportOptions say what Export takes along.
type ExportOptions struct {
	Genesis   ledger.Hash              // the ledger that the source must be
	Decisions bool                     // also proofs/SEQ.tlog-proof for each decision effect
	Progress  func(done, total uint64) // entries; may be nil
}

// ExportReport says what an export holds.
type ExportReport struct {
	Path   string      `json:"path"`
	Origin string      `json:"origin"`
	Size   uint64      `json:"size"`
	Root   ledger.Hash `json:"root"`
	Links  int         `json:"links"`
	Files  int         `json:"files"`
}

// sink takes the files of an export in order.
type sink interface {
	add(path string, data []byte) error
	addStream(path string, size int64, r io.Reader) error
}

// Export writes the source's ledger to path: a directory, or an archive when
// path ends in .tar.zst. Everything is written beside path and renamed when it
// is whole, so an interrupted export is never mistaken for one. An existing
// path is refused.
func Export(ctx context.Context, src Source, path string, opts ExportOptions) (*ExportReport, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("export to %s: it exists; name a new path", path)
	}
	partial := path + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return nil, fmt.Errorf("export to %s: %w", path, err)
	}
	var report *ExportReport
	var err error
	if strings.HasSuffix(path, ".tar.zst") {
		report, err = exportPacked(ctx, src, partial, opts)
	} else {
		report, err = exportDirectory(ctx, src, partial, opts)
	}
	if err == nil {
		err = os.Rename(partial, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("export to %s: %w", path, err), os.RemoveAll(partial))
	}
	report.Path = path
	return report, nil
}

func exportDirectory(ctx context.Context, src Source, root string, opts ExportOptions) (*ExportReport, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	return export(ctx, src, &directorySink{root: root}, opts)
}

func exportPacked(ctx context.Context, src Source, name string, opts ExportOptions) (*ExportReport, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	report, err := WritePacked(ctx, src, f, opts)
	if err == nil {
		err = f.Sync()
	}
	return report, errors.Join(err, f.Close())
}

// WritePacked streams the export as a zstd-compressed tar to w.
func WritePacked(ctx context.Context, src Source, w io.Writer, opts ExportOptions) (*ExportReport, error) {
	p, err := newPackedSink(w)
	if err != nil {
		return nil, err
	}
	report, err := export(ctx, src, p, opts)
	if err != nil {
		return nil, errors.Join(err, p.abort())
	}
	return report, p.close()
}

func export(ctx context.Context, src Source, out sink, opts ExportOptions) (*ExportReport, error) {
	h, err := readHead(ctx, src, opts.Genesis)
	if err != nil {
		return nil, err
	}
	x := &exporter{ctx: ctx, src: src, out: out, head: h, opts: opts}
	if err := x.headFiles(); err != nil {
		return nil, err
	}
	if err := x.tiles(); err != nil {
		return nil, err
	}
	if err := x.entries(); err != nil {
		return nil, err
	}
	return &ExportReport{
		Origin: h.authority.Origin, Size: h.checkpoint.Head.Size, Root: h.checkpoint.Head.Root,
		Links: len(h.links), Files: x.files,
	}, nil
}

type exporter struct {
	ctx   context.Context
	src   Source
	out   sink
	head  *head
	opts  ExportOptions
	files int
}

func (x *exporter) add(path string, data []byte) error {
	x.files++
	if err := x.out.add(path, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// headFiles writes what is small. The keys and the policy are not taken from
// the source: the authority chain gives them.
func (x *exporter) headFiles() error {
	a := x.head.authority
	genesis, err := ledger.ParseLink(x.head.links[0])
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
	}{
		{"checkpoint", x.head.note},
		{"log.vkey", []byte(ledger.LogVKey(a.Origin, a.Log) + "\n")},
		{"log-mldsa44.vkey", []byte(ledger.LogMLDSA44VKey(a.Origin, a.Log) + "\n")},
		{"policy", ledger.TLogPolicy(a)},
		{"genesis.cbor", genesis.Genesis},
	} {
		if err := x.add(f.path, f.data); err != nil {
			return err
		}
	}
	for n, raw := range x.head.links {
		if err := x.add(fmt.Sprintf("authority/%d.json", n), raw); err != nil {
			return err
		}
	}
	return nil
}

// tiles copies every hash tile of the tree and checks each against the root.
func (x *exporter) tiles() error {
	size := x.head.checkpoint.Head.Size
	reader := newTree(x.get, x.head.checkpoint.Head)
	return eachTile(size, func(level int, n uint64, width int) error {
		data, err := reader.tile(level, n, width)
		if err != nil {
			return err
		}
		return x.add(archive.TilePath(level, n, width), data)
	})
}

func (x *exporter) get(path string) ([]byte, error) { return x.src.Get(x.ctx, path) }

// entries copies every bundle, checked against the level-0 tiles, and writes
// entries.jsonl beside them. The view is spooled to a temporary file, because a
// tar member's size comes before its bytes.
func (x *exporter) entries() (err error) {
	spool, err := os.CreateTemp("", "quorate-export-*.jsonl")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, spool.Close(), os.Remove(spool.Name()))
	}()
	size := x.head.checkpoint.Head.Size
	reader := newTree(x.get, x.head.checkpoint.Head)
	var lines []byte
	var decisions []uint64
	for n := uint64(0); n*archive.TileWidth < size; n++ {
		width := int(min(size-n*archive.TileWidth, archive.TileWidth))
		raw, entries, err := reader.bundle(n, width)
		if err != nil {
			return err
		}
		if err := x.add(archive.BundlePath(n, width), raw); err != nil {
			return err
		}
		lines = lines[:0]
		for i, entry := range entries {
			seq := n*archive.TileWidth + uint64(i)
			var decision bool
			if lines, decision, err = appendLine(lines, entry); err != nil {
				return fmt.Errorf("entry %d: %w", seq, err)
			}
			if decision {
				decisions = append(decisions, seq)
			}
		}
		if _, err := spool.Write(lines); err != nil {
			return err
		}
		x.progress(n*archive.TileWidth+uint64(width), size)
	}
	if err := x.addSpool("entries.jsonl", spool); err != nil {
		return err
	}
	if !x.opts.Decisions {
		return nil
	}
	return x.proofs(reader, decisions)
}

func appendLine(lines, entry []byte) ([]byte, bool, error) {
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		return nil, false, err
	}
	decision, err := isDecision(e)
	if err != nil {
		return nil, false, err
	}
	lines, err = appendView(lines, entry, e)
	return lines, decision, err
}

func (x *exporter) progress(done, total uint64) {
	if x.opts.Progress != nil {
		x.opts.Progress(done, total)
	}
}

func (x *exporter) addSpool(path string, spool *os.File) error {
	length, err := spool.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	x.files++
	return x.out.addStream(path, length, spool)
}

// proofs writes a self-contained proof for each decision.
func (x *exporter) proofs(reader *tree, decisions []uint64) error {
	links := make([]*ledger.Link, len(x.head.links))
	for i, raw := range x.head.links {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return err
		}
		links[i] = link
	}
	for _, seq := range decisions {
		entry, err := reader.entry(seq)
		if err != nil {
			return err
		}
		proof, err := reader.inclusion(seq)
		if err != nil {
			return err
		}
		file := ledger.EntryProof{Seq: seq, Proof: proof, Entry: entry, Authority: links, Checkpoint: x.head.note}
		data, err := file.Encode()
		if err != nil {
			return err
		}
		if err := x.add(fmt.Sprintf("proofs/%d.tlog-proof", seq), data); err != nil {
			return err
		}
	}
	return nil
}

// directorySink writes files below root.
type directorySink struct{ root string }

func (d *directorySink) add(path string, data []byte) error {
	return d.addStream(path, int64(len(data)), bytes.NewReader(data))
}

func (d *directorySink) addStream(path string, _ int64, r io.Reader) (err error) {
	name := filepath.Join(d.root, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}
