package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/keys"
)

// Options of Verify. Genesis is its only trust.
type Options struct {
	Genesis  ledger.Hash
	AtLeast  []byte                   // a checkpoint that the export must extend; nil for none
	Workers  int                      // 0: one a core
	Progress func(done, total uint64) // entries; called from one goroutine; may be nil

	wanted ledger.Hash // id of a statement to find
}

// Verify proves the export at path, a directory or a .tar.zst. A bad export
// gives a Report with OK false and the *BadError that it names; any other error
// means that verification could not be done, and comes without a report.
func Verify(ctx context.Context, path string, opts Options) (*Report, error) {
	started := time.Now()
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	v, err := verify(ctx, path, opts)
	v.report.Seconds = time.Since(started).Seconds()
	var bad *BadError
	if errors.As(err, &bad) {
		v.report.Bad = bad.report()
		return v.report, bad
	}
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", path, err)
	}
	v.report.OK = true
	return v.report, nil
}

type verifier struct {
	dir     exportFiles
	framed  *framed // dir, if it is an archive that need not be unpacked
	opts    Options
	report  *Report
	head    *head
	genesis []byte
	tree    *tree
	known   *knownKeys // once the entries are verified
	state   *fsm.State // that they derive
	found   *uint64    // the entry that the wanted statement is
}

// exportFiles are the files of an export: all of them, or all but bundles.
type exportFiles interface {
	Source
	each(fn func(path string) error) error
	Close() error
}

func newVerifier(opts Options) *verifier {
	return &verifier{opts: opts, report: newReport(opts.Genesis)}
}

// verify gives a verifier that has done its work, or has found what is wrong.
func verify(ctx context.Context, path string, opts Options) (v *verifier, err error) {
	v = newVerifier(opts)
	info, err := os.Stat(path)
	if err != nil {
		return v, err
	}
	if !info.IsDir() {
		if err := v.archive(ctx, path); !notFramed(err) {
			return v, err
		}
		// Unpacked and verified from the start, a bad archive gets the verdict
		// that its folder gets.
		v = newVerifier(opts)
		if path, err = unpack(ctx, path); err != nil {
			return v, err
		}
		defer func() { err = joinSecond(err, os.RemoveAll(path)) }()
	}
	dir, err := OpenDirectory(path)
	if err != nil {
		return v, err
	}
	v.dir = dir
	defer func() { err = joinSecond(err, dir.Close()) }()
	return v, v.run(ctx)
}

// archive verifies an archive that is framed.
func (v *verifier) archive(ctx context.Context, path string) (err error) {
	if v.framed, err = openFramed(ctx, path); err != nil {
		return err
	}
	v.dir = v.framed
	defer func() { err = joinSecond(err, v.framed.Close()) }()
	return v.run(ctx)
}

// run takes the steps of DESIGN.md in order.
func (v *verifier) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		v.headFiles, v.names, v.upperTiles, v.atLeast, v.entries, v.disputed, v.proofFiles,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// headFiles verifies the authority chain, the checkpoint and what follows from
// them.
func (v *verifier) headFiles(ctx context.Context) error {
	genesis, err := v.dir.Get(ctx, "genesis.cbor")
	if err != nil {
		return readError(StepFiles, "genesis.cbor", err)
	}
	if got := ledger.LeafHash(genesis); got != v.opts.Genesis {
		return badFile(StepFiles, "genesis.cbor", fmt.Errorf("this is ledger %s, not %s: either the wrong export or the wrong genesis hash", got, v.opts.Genesis))
	}
	v.genesis = genesis
	if err := v.linkGaps(); err != nil {
		return err
	}
	if v.head, err = readHead(ctx, v.dir, v.opts.Genesis); err != nil {
		return err
	}
	h, a := v.head, v.head.authority
	n, err := a.Certifies(h.checkpoint)
	if err != nil {
		return badFile(StepHead, "checkpoint", err)
	}
	r := v.report
	r.Origin, r.Size, r.Root = a.Origin, h.size(), h.checkpoint.Head.Root.String()
	r.Cosigners, r.Threshold, r.Links = n, a.CosignThreshold, len(h.links)
	r.LastSigned = unixTime(h.checkpoint.Signed(a))
	for _, f := range append(h.derivedFiles(), h.vkeysFile()) {
		got, err := v.dir.Get(ctx, f.path)
		if f.path == vkeysName && a.Format < ledger.KeysFormat && errors.Is(err, fs.ErrNotExist) {
			continue // an export of before there was such a file
		}
		if err != nil {
			return readError(StepHead, f.path, err)
		}
		if !bytes.Equal(got, f.data) {
			return badFile(StepHead, f.path, errors.New("it is not what the authority chain gives"))
		}
	}
	return nil
}

// linkGaps names a link that is missing before others: without it the chain
// would seem to end there.
func (v *verifier) linkGaps() error {
	links := map[uint64]bool{}
	last := uint64(0)
	err := v.dir.each(func(path string) error {
		number, found := strings.CutPrefix(path, "authority/")
		if n, err := strconv.ParseUint(strings.TrimSuffix(number, ".json"), 10, 53); found && err == nil && limitOf(path) > 0 {
			links[n] = true
			last = max(last, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for n := range last {
		if !links[n] {
			return badFile(StepHead, fmt.Sprintf("authority/%d.json", n), fmt.Errorf("the file is missing before authority/%d.json", last))
		}
	}
	return nil
}

// unixTime is a time of the ledger, which is below 2^53.
func unixTime(seconds uint64) time.Time {
	return time.Unix(int64(min(seconds, math.MaxInt64)), 0).UTC()
}

// names refuses files that do not belong here, which nothing would verify.
func (v *verifier) names(ctx context.Context) error {
	if v.framed != nil && v.framed.bundles() != (v.head.size()+archive.TileWidth-1)/archive.TileWidth {
		return errNotFramed
	}
	return v.dir.each(func(path string) error {
		if !belongs(path, v.head.size(), len(v.head.links)) {
			return badFile(StepFiles, path, fmt.Errorf("%w of %d entries and %d authority links", errOddFile, v.head.size(), len(v.head.links)))
		}
		return ctx.Err()
	})
}

// upperTiles verifies the tiles above the leaves up to the root, and that the
// authority chain is of this tree. Tiles of leaves come with their bundles.
func (v *verifier) upperTiles(ctx context.Context) error {
	v.tree = newTree(func(path string) ([]byte, error) { return v.dir.Get(ctx, path) }, v.head.checkpoint.Head)
	if dir, ok := v.dir.(*Directory); ok {
		v.tree.getInto = func(path string, buf []byte) ([]byte, error) { return dir.getInto(ctx, path, buf) }
	} else {
		v.tree.framed = v.framed
	}
	if _, err := v.tree.edges(); err != nil {
		return err
	}
	err := eachTile(v.head.size(), 1, func(level int, n uint64, width int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := v.tree.hashes(level, n, width)
		return err
	})
	if err != nil {
		return err
	}
	return v.head.fits(v.tree)
}

// atLeast proves that the export extends the checkpoint that the caller has.
func (v *verifier) atLeast(context.Context) error {
	if v.opts.AtLeast == nil {
		return nil
	}
	known, err := ledger.ParseCheckpoint(v.opts.AtLeast)
	if err != nil {
		return fmt.Errorf("the known checkpoint: %w", err)
	}
	want, have := known.Head, v.head.checkpoint.Head
	if want.Origin != have.Origin {
		return fmt.Errorf("the known checkpoint is of %q, the export of %q", want.Origin, have.Origin)
	}
	if want.Size > have.Size {
		return badFile(StepHead, "checkpoint", fmt.Errorf("the export ends at size %d, before the known checkpoint of size %d: it is old, or cut", have.Size, want.Size))
	}
	root, err := v.tree.rootAt(want.Size)
	if err != nil {
		return err
	}
	if root == want.Root {
		v.report.AtLeast = want.Size
		return nil
	}
	// Only what was certified is evidence against anyone.
	if _, err := v.head.chain.VerifyCheckpoint(v.opts.AtLeast); err != nil && !errors.Is(err, ledger.ErrEquivocation) {
		return fmt.Errorf("the known checkpoint is not of this ledger, and nobody certified it: %w", err)
	}
	return badFile(StepHead, "checkpoint", fmt.Errorf("at size %d the export has root %s, the known checkpoint %s: %w: keep both as evidence",
		want.Size, root, want.Root, ledger.ErrEquivocation))
}

func newReport(genesis ledger.Hash) *Report {
	return &Report{
		Genesis: genesis, GenesisHex: genesis.String(), Words: keys.Words([16]byte(genesis[:16])),
		Kinds: map[string]int{}, Statements: map[string]int{}, Effects: map[string]int{},
	}
}
