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
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
)

// A link with a huge number costs no more than any other file that does not
// belong.
func TestFarLinkIsRefused(t *testing.T) {
	dir, h := exported(t)
	far := filepath.Join(dir, "authority", "9007199254740991.json")
	must(t, os.WriteFile(far, []byte("{}"), 0o644))
	found := make(chan error, 1)
	go func() {
		_, err := Verify(context.Background(), dir, Options{Genesis: h.genesis})
		found <- err
	}()
	select {
	case err := <-found:
		var bad *BadError
		if !errors.As(err, &bad) || bad.File != "authority/5.json" {
			t.Errorf("%v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("it counts up to the number")
	}
}

// tarBlock is a ustar header, by hand: archive/tar writes no sparse files.
func tarBlock(name string, flag byte, size int) []byte {
	b := make([]byte, tarBlockBytes)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x0000000000000\x00", size))
	copy(b[148:], "        ")
	b[156] = flag
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// sparseSink writes the lines as a sparse file: its last bytes stand in the
// padding, so that whoever unpacks it gets zeros instead.
type sparseSink struct{ *packedSink }

const sparseHole = 3

func (s *sparseSink) addPieces(path string, sizes []int64, r io.Reader) error {
	whole := int(sum(sizes))
	records := ""
	for _, record := range []string{
		"GNU.sparse.map=0," + fmt.Sprint(whole-sparseHole), "GNU.sparse.name=" + path, "GNU.sparse.numblocks=1", "GNU.sparse.size=" + fmt.Sprint(whole),
	} {
		length := len(record) + 3
		for len(fmt.Sprint(length))+len(record)+2 != length {
			length++
		}
		records += fmt.Sprintf("%d %s\n", length, record)
	}
	head := append(tarBlock("x", 'x', len(records)), records...)
	head = append(head, make([]byte, -len(records)&(tarBlockBytes-1))...)
	head = append(head, tarBlock(path, '0', whole-sparseHole)...)
	if err := s.cut(); err != nil {
		return err
	}
	write := func(r io.Reader) error {
		_, err := io.Copy(s.zip, r)
		return errors.Join(err, s.endFrame())
	}
	err := write(bytes.NewReader(head))
	for _, size := range sizes {
		err = errors.Join(err, write(io.LimitReader(r, size)))
	}
	_, padding := s.zip.Write(make([]byte, -whole&(tarBlockBytes-1)))
	return errors.Join(err, padding)
}

// What is verified in its frames is what unpacking gives.
func TestSparseLinesAreUnpacked(t *testing.T) {
	for records := 0; ; records++ { // until the hole fits into the padding
		w := newWorld(t)
		w.record("alice", strings.Repeat("x", 1+records))
		w.seal()
		h := w.history()
		var view []byte
		for seq, raw := range h.entries {
			c := checked{raw: raw, leaf: ledger.LeafHash(raw)}
			must(t, c.parse(uint64(seq), nil))
			view = appendView(view, &c)
		}
		if over := len(view) % tarBlockBytes; over <= sparseHole {
			continue
		}
		var b bytes.Buffer
		p, err := newPackedSink(&b)
		must(t, err)
		_, err = export(t.Context(), h.source(t), &sparseSink{p}, ExportOptions{Genesis: h.genesis})
		must(t, errors.Join(err, p.close()))
		path := filepath.Join(t.TempDir(), "sparse"+PackedSuffix)
		must(t, os.WriteFile(path, b.Bytes(), 0o644))
		if err := newVerifier(Options{Genesis: h.genesis, Workers: 1}).archive(t.Context(), path); !errors.Is(err, errNotFramed) {
			t.Errorf("in its frames: %v", err)
		}
		if bad := verifyBad(t, path, h.genesis); bad.Step != StepView || bad.File != viewName {
			t.Errorf("unpacked: %v", bad)
		}
		return
	}
}

// Empty frames, nine bytes each, fill no memory.
func TestManyFramesAreNotRead(t *testing.T) {
	empty := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0}
	path := filepath.Join(t.TempDir(), "many"+PackedSuffix)
	must(t, os.WriteFile(path, bytes.Repeat(empty, 5001), 0o644))
	if _, err := openFramed(t.Context(), path); !errors.Is(err, errNotFramed) || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
	if bad := verifyBad(t, path, ledger.Hash{}); bad.Step != StepFiles {
		t.Errorf("%v", bad)
	}
}
