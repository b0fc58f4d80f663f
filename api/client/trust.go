package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/quorate/quorate/ledger"
)

// trust is what the client has verified so far: the authority chain, and the
// newest head. On disk it is a folder named after the ledger, with each link
// as N.json and the head's note as head. A link is written before the head
// that needs it; each file is replaced whole, so that a crash at any point
// leaves the trust of before or of after.
type trust struct {
	dir   string // "": in memory only
	chain *ledger.Chain
	links [][]byte // encoded, by index
	kept  int      // how many links are on disk
	disk  *Head    // the head that is there, if we read or wrote it
	head  *Head    // nil before the first
	least bool     // MinHead was taken into account

	// A head that extends both the newest handover's and the kept one was seen since
	// the trust was loaded: links that were given, or came in the run before, were
	// maybe never compared.
	compared bool
}

const headName = "head"

// TrustedHeadPath is where a client with this TrustDir keeps the newest head of a
// ledger that it verified.
func TrustedHeadPath(trustDir string, genesis ledger.Hash) string {
	return filepath.Join(trustDir, genesis.String(), headName)
}

// loadTrust reads what is on disk and verifies it again: the disk may have
// been tampered with too. An empty folder gives an empty trust. Of the chain that
// is known otherwise it takes what the folder lacks, and compares nothing of the
// rest: see checkExtends.
func loadTrust(dir string, genesis ledger.Hash, known [][]byte) (*trust, error) {
	t := &trust{}
	if dir != "" {
		t.dir = filepath.Join(dir, genesis.String())
		if err := os.MkdirAll(t.dir, 0o700); err != nil {
			return nil, fmt.Errorf("make trust folder: %w", err)
		}
		if err := t.load(genesis); err != nil {
			return nil, &TrustError{Dir: t.dir, Err: err}
		}
	}
	if len(t.links) >= len(known) {
		return t, nil
	}
	for _, raw := range known[len(t.links):] {
		if err := t.begin(genesis, raw); err != nil {
			return nil, fmt.Errorf("begin with the given authority chain: %w", err)
		}
	}
	return t, nil
}

// begin adds a link of the chain that is known otherwise. A link by which a
// recovery leaves the kept head behind makes it a left one, as a server's would.
func (t *trust) begin(genesis ledger.Hash, raw []byte) error {
	link, err := ledger.ParseLink(raw)
	if err != nil {
		return err
	}
	leaves, err := t.leaves(link)
	if err != nil {
		return err
	}
	if err := t.extend(genesis, link); err != nil {
		return err
	}
	if leaves {
		if err := t.leave(); err != nil {
			return err
		}
	}
	if t.head != nil {
		// Written beside a head that is not under it, a link would spoil the folder.
		if _, err := t.verify(t.head.Note); err != nil {
			return &TrustError{Dir: t.dir, Err: fmt.Errorf("its head and the given authority link %d: %w", link.Index, err)}
		}
	}
	_ = t.addLink(raw) // what can't be written now is written with the next head
	return nil
}

func (t *trust) load(genesis ledger.Hash) error {
	for n := 0; ; n++ {
		raw, err := os.ReadFile(t.linkPath(n))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return err
		}
		if err := t.extend(genesis, link); err != nil {
			return err
		}
		t.links = append(t.links, raw)
	}
	t.kept = len(t.links)
	note, err := os.ReadFile(filepath.Join(t.dir, headName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if t.chain == nil {
		return errors.New("there is a head but no authority chain")
	}
	head, err := t.verify(note)
	if err != nil {
		return err
	}
	t.head, t.disk = head, head
	return nil
}

func (t *trust) linkPath(n int) string { return filepath.Join(t.dir, strconv.Itoa(n)+".json") }

// extend verifies a link and adds it to the chain.
func (t *trust) extend(genesis ledger.Hash, link *ledger.Link) error {
	if t.chain == nil {
		chain, err := ledger.NewChain(genesis, link)
		if err != nil {
			return err
		}
		t.chain = chain
		return nil
	}
	return t.chain.Extend(link)
}

// verify checks that a note is certified by who has authority over it.
func (t *trust) verify(note []byte) (*Head, error) {
	checkpoint, err := t.chain.VerifyCheckpoint(note)
	if err != nil {
		return nil, err
	}
	return &Head{
		Origin: checkpoint.Head.Origin, Size: checkpoint.Head.Size, Root: checkpoint.Head.Root,
		Signed: checkpoint.Signed(t.chain.ForSize(checkpoint.Head.Size)), Note: note,
		Authority: t.chain.ForSize(checkpoint.Head.Size),
	}, nil
}

// addLink keeps a verified link. After an error it is in memory only, and comes to
// the disk before the next head does.
func (t *trust) addLink(raw []byte) error {
	t.links = append(t.links, raw)
	return t.keepLinks()
}

func (t *trust) keepLinks() error {
	for ; t.dir != "" && t.kept < len(t.links); t.kept++ {
		if err := replaceFile(t.linkPath(t.kept), t.links[t.kept]); err != nil {
			return err
		}
	}
	return nil
}

// setHead keeps a verified head. A head that another process put there
// meanwhile and that is newer stays on disk. After an error it is in memory only. A
// fresher signature of what is on disk shows no more of a ledger rolled back, and is
// not worth waiting for the disk.
func (t *trust) setHead(h *Head) error {
	t.head = h
	if t.dir == "" || t.disk != nil && t.disk.Size == h.Size && t.disk.Root == h.Root && t.kept == len(t.links) {
		return nil
	}
	if err := t.keepLinks(); err != nil {
		return err
	}
	path := filepath.Join(t.dir, headName)
	if note, err := os.ReadFile(path); err == nil {
		if other, err := ledger.ParseCheckpoint(note); err == nil && other.Head.Size > h.Size {
			return nil
		}
	}
	if err := replaceFile(path, h.Note); err != nil {
		return err
	}
	t.disk = h
	return nil
}

// replaceFile writes a file beside path and renames it over path, durably.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // crash before the rename: the old file stands
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write trust: %w", err), os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	err = d.Sync() // crash before it: the old or the new file, both whole
	return errors.Join(err, d.Close())
}
