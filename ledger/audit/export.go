package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// PackedSuffix is how the name of an export ends that is one file.
const PackedSuffix = ".tar.zst"

// ExportOptions say what Export takes along.
type ExportOptions struct {
	Genesis ledger.Hash // the ledger that the source must be

	// Decisions takes along, for each decision effect, proofs/SEQ.tlog-proof,
	// which proves it alone, and, if the source gives receipts, for the decided
	// proposal's statement the transparent statement proofs/SEQ.cose.
	Decisions bool

	Progress func(done, total uint64) // entries; called from one goroutine; may be nil
}

// ExportReport says what an export holds.
type ExportReport struct {
	Path    string      `json:"path"`
	Origin  string      `json:"origin"`
	Size    uint64      `json:"size"`
	Root    ledger.Hash `json:"-"`
	RootHex string      `json:"root"`
	Links   int         `json:"authority_links"`
	Proofs  int         `json:"proofs"`
	Files   int         `json:"files"`
}

// Export writes the source's ledger to path: a directory, or an archive when
// path ends in .tar.zst. Everything is written beside path and put there when
// it is whole, so an interrupted export is never mistaken for one. An existing
// path is refused. What the source gives is checked as it comes; a *BadError
// says that it is wrong.
func Export(ctx context.Context, src Source, path string, opts ExportOptions) (report *ExportReport, err error) {
	path = filepath.Clean(path)
	defer func() {
		if err != nil {
			report, err = nil, fmt.Errorf("export to %s: %w", path, err)
		}
	}()
	if err := checkFree(path); err != nil {
		return nil, err
	}
	partial, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = joinSecond(err, os.RemoveAll(partial)) }()
	whole := filepath.Join(partial, "export")
	if strings.HasSuffix(path, PackedSuffix) {
		report, err = exportPacked(ctx, src, whole, opts)
	} else {
		report, err = exportDirectory(ctx, src, whole, opts)
	}
	if err != nil {
		return nil, err
	}
	if err := checkFree(path); err != nil {
		return nil, err
	}
	if err := os.Rename(whole, path); err != nil {
		return nil, err
	}
	report.Path = path
	return report, nil
}

var errExists = errors.New("it exists; name a new path")

func checkFree(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return errExists
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func exportDirectory(ctx context.Context, src Source, name string, opts ExportOptions) (_ *ExportReport, err error) {
	if err := os.Mkdir(name, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = joinSecond(err, root.Close()) }()
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
	return report, joinSecond(err, f.Close())
}

// WritePacked streams the export as a zstd-compressed tar to w. After an error
// what was written is no archive: neither tar nor zstd have their end.
func WritePacked(ctx context.Context, src Source, w io.Writer, opts ExportOptions) (*ExportReport, error) {
	p, err := newPackedSink(w)
	if err != nil {
		return nil, err
	}
	report, err := export(ctx, src, p, opts)
	if err != nil {
		p.abort()
		return nil, err
	}
	return report, p.close()
}

func export(ctx context.Context, src Source, out sink, opts ExportOptions) (*ExportReport, error) {
	h, err := readHead(ctx, src, opts.Genesis)
	if err != nil {
		return nil, err
	}
	get := func(path string) ([]byte, error) { return src.Get(ctx, path) }
	x := &exporter{src: src, out: out, head: h, opts: opts, tree: newTree(get, h.checkpoint.Head)}
	if err := h.fits(x.tree); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{x.headFiles, x.upperTiles, x.entries, x.proofs} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	root := h.checkpoint.Head.Root
	return &ExportReport{
		Origin: h.authority.Origin, Size: h.size(), Root: root, RootHex: root.String(),
		Links: len(h.links), Proofs: x.proofFiles, Files: x.files,
	}, nil
}

type exporter struct {
	src        Source
	out        sink
	head       *head
	opts       ExportOptions
	tree       *tree
	decisions  []decision
	proposals  map[ledger.Hash]uint64 // seq by statement id; only with Decisions
	files      int
	proofFiles int
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
func (x *exporter) headFiles(context.Context) error {
	links, err := x.head.parsedLinks()
	if err != nil {
		return err
	}
	files := append([]file{{"checkpoint", x.head.note}, {"genesis.cbor", links[0].Genesis}}, append(x.head.derivedFiles(), x.head.vkeysFile())...)
	for n, raw := range x.head.links {
		files = append(files, file{fmt.Sprintf("authority/%d.json", n), raw})
	}
	for _, f := range files {
		if err := x.add(f.path, f.data); err != nil {
			return err
		}
	}
	return nil
}

// upperTiles copies the tiles above the leaves, each checked up to the root.
// Those of leaves come with their bundles.
func (x *exporter) upperTiles(ctx context.Context) error {
	return eachTile(x.head.size(), 1, func(level int, n uint64, width int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		hashes, err := x.tree.hashes(level, n, width)
		if err != nil {
			return err
		}
		return x.add(archive.TilePath(level, n, width), joinHashes(hashes))
	})
}

// fetched is a bundle on its way from the source, with its lines of the view.
type fetched struct {
	n         uint64
	bundle    verifiedBundle
	lines     []byte
	decisions []decision
	proposals map[ledger.Hash]uint64
	err       error
}

// entries copies every bundle with its tile, checked against the tile above,
// and writes entries.jsonl. The view is spooled to a temporary file, because a
// tar member's size comes before its bytes.
func (x *exporter) entries(ctx context.Context) (err error) {
	spool, err := os.CreateTemp("", "quorate-export-*.jsonl")
	if err != nil {
		return err
	}
	defer func() {
		err = joinSecond(err, errors.Join(spool.Close(), os.Remove(spool.Name())))
	}()
	x.proposals = map[ledger.Hash]uint64{}
	var pieces []int64 // bytes of each bundle's lines
	err = inOrder(ctx, exportFetchersAhead, unitsAhead, x.bundles(),
		func(_ context.Context, f *fetched) { f.err = x.fetch(f) }, nil,
		func(f *fetched) error {
			if f.err != nil {
				return f.err
			}
			pieces = append(pieces, int64(len(f.lines)))
			return x.take(f, spool)
		})
	if err != nil {
		return err
	}
	return x.addSpool(viewName, pieces, spool)
}

func (x *exporter) bundles() iter.Seq[*fetched] {
	return func(yield func(*fetched) bool) {
		for n := uint64(0); n*archive.TileWidth < x.head.size(); n++ {
			if !yield(&fetched{n: n}) {
				return
			}
		}
	}
}

// fetch reads and renders a bundle; several may be fetched at a time.
func (x *exporter) fetch(f *fetched) (err error) {
	if f.bundle, err = x.tree.bundle(f.n); err != nil {
		return err
	}
	f.lines = make([]byte, 0, len(f.bundle.raw))
	var memory ledger.StatementMemory
	memory.Reset(len(f.bundle.raw))
	for i, raw := range f.bundle.entries {
		seq := f.n*archive.TileWidth + uint64(i)
		c := checked{raw: raw, leaf: f.bundle.leaves[i]}
		if err := c.parse(seq, &memory); err != nil {
			return badEntry(StepEntry, seq, x.head.size(), err)
		}
		f.lines = appendView(f.lines, &c)
		if err := f.note(&c); err != nil {
			return badEntry(StepEntry, seq, x.head.size(), err)
		}
	}
	return nil
}

func (x *exporter) take(f *fetched, spool io.Writer) error {
	width := len(f.bundle.leaves)
	if err := x.out.cut(); err != nil {
		return err
	}
	if err := x.add(archive.TilePath(0, f.n, width), joinHashes(f.bundle.leaves)); err != nil {
		return err
	}
	if err := x.add(archive.BundlePath(f.n, width), f.bundle.raw); err != nil {
		return err
	}
	if _, err := spool.Write(f.lines); err != nil {
		return fmt.Errorf("write %s: %w", viewName, err)
	}
	if x.opts.Decisions {
		x.decisions = append(x.decisions, f.decisions...)
		for id, seq := range f.proposals {
			x.proposals[id] = seq
		}
	}
	if x.opts.Progress != nil {
		x.opts.Progress(f.n*archive.TileWidth+uint64(width), x.head.size())
	}
	return nil
}

func (x *exporter) addSpool(path string, pieces []int64, spool *os.File) error {
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	x.files++
	if err := x.out.addPieces(path, pieces, spool); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
