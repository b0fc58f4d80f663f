package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// Options of Verify. Genesis is its only trust.
type Options struct {
	Genesis  ledger.Hash
	AtLeast  []byte                   // a checkpoint that the export must extend; nil for none
	Workers  int                      // 0: one a core
	Progress func(done, total uint64) // entries; called from one goroutine; may be nil
}

// Verify proves the export at path, a directory or a .tar.zst. A bad export
// gives a Report with OK false and the *BadError that it names; any other error
// means that verification could not be done.
func Verify(ctx context.Context, path string, opts Options) (*Report, error) {
	started := time.Now()
	root := path
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", path, err)
	}
	if !info.IsDir() {
		if root, err = unpack(path); err != nil {
			bad := badFile("files", filepath.Base(path), err)
			return &Report{Bad: bad.report(), Genesis: opts.Genesis, GenesisHex: opts.Genesis.String()}, bad
		}
		defer os.RemoveAll(root)
	}
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	v := &verifier{src: directory{root: root}, root: root, opts: opts, report: &Report{
		Genesis: opts.Genesis, GenesisHex: opts.Genesis.String(), Words: keys.Words([16]byte(opts.Genesis[:16])),
		Kinds: map[string]int{}, Statements: map[string]int{}, Effects: map[string]int{},
	}}
	err = v.run(ctx)
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
	src     directory
	root    string
	opts    Options
	report  *Report
	head    *head
	genesis []byte
	tree    *tree
}

func (v *verifier) run(ctx context.Context) error {
	if err := v.headFiles(ctx); err != nil {
		return err
	}
	v.tree = newTree(func(path string) ([]byte, error) { return v.src.Get(ctx, path) }, v.head.checkpoint.Head)
	if err := eachTile(v.head.checkpoint.Head.Size, func(level int, n uint64, width int) error {
		if level == 0 {
			return ctx.Err() // checked with its bundle
		}
		_, err := v.tree.hashes(level, n, width)
		return err
	}); err != nil {
		return err
	}
	if err := v.atLeast(ctx); err != nil {
		return err
	}
	return v.entries(ctx)
}

// headFiles verifies everything but the tree: steps 1 and 2 of DESIGN.md.
func (v *verifier) headFiles(ctx context.Context) error {
	genesis, err := v.src.Get(ctx, "genesis.cbor")
	if err != nil {
		return badFile("files", "genesis.cbor", err)
	}
	if got := ledger.LeafHash(genesis); got != v.opts.Genesis {
		return badFile("files", "genesis.cbor", fmt.Errorf("this is ledger %s, not %s: either the wrong export or the wrong genesis hash", got, v.opts.Genesis))
	}
	v.genesis = genesis
	if v.head, err = readHead(ctx, v.src, v.opts.Genesis); err != nil {
		return err
	}
	h, a := v.head, v.head.authority
	if h.checkpoint.Head.Size == 0 {
		return badFile("head", "checkpoint", errors.New("size 0"))
	}
	n, err := a.Certifies(h.checkpoint)
	if err != nil {
		return badFile("head", "checkpoint", err)
	}
	r := v.report
	r.Origin, r.Size, r.Root = a.Origin, h.checkpoint.Head.Size, h.checkpoint.Head.Root.String()
	r.Cosigners, r.Threshold, r.Links = n, a.CosignThreshold, len(h.links)
	r.LastSigned = time.Unix(int64(h.checkpoint.Signed(a)), 0).UTC()
	return v.derivedFiles(ctx)
}

// derivedFiles compares the files that follow from the authority chain.
func (v *verifier) derivedFiles(ctx context.Context) error {
	a := v.head.authority
	for _, f := range []struct {
		path string
		want []byte
	}{
		{"log.vkey", []byte(ledger.LogVKey(a.Origin, a.Log) + "\n")},
		{"log-mldsa44.vkey", []byte(ledger.LogMLDSA44VKey(a.Origin, a.Log) + "\n")},
		{"policy", ledger.TLogPolicy(a)},
	} {
		got, err := v.src.Get(ctx, f.path)
		if err != nil {
			return badFile("files", f.path, err)
		}
		if !bytes.Equal(got, f.want) {
			return badFile("files", f.path, errors.New("is not what the authority chain gives"))
		}
	}
	return nil
}

// atLeast proves that the export extends the checkpoint that the caller has.
func (v *verifier) atLeast(ctx context.Context) error {
	if v.opts.AtLeast == nil {
		return nil
	}
	want, err := v.head.chain.VerifyCheckpoint(v.opts.AtLeast)
	if err != nil {
		return badFile("head", "", fmt.Errorf("the checkpoint of --at-least: %w", err))
	}
	have := v.head.checkpoint.Head
	if want.Head.Size > have.Size {
		return badFile("head", "checkpoint", fmt.Errorf("the export ends at size %d, before the known checkpoint of size %d: it is old or cut", have.Size, want.Head.Size))
	}
	root, err := v.tree.rootAt(want.Head.Size)
	if err != nil {
		return err
	}
	if root != want.Head.Root {
		return badFile("head", "checkpoint", fmt.Errorf("at size %d the export has root %s, the known certified checkpoint %s: two histories were certified; keep both as evidence", want.Head.Size, root, want.Head.Root))
	}
	return ctx.Err()
}
