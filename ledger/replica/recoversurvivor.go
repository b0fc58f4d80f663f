package replica

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// What a stopped replica that is left holds (DESIGN.md, recovery).

// Survivor is what a stopped replica's data directory holds.
type Survivor struct {
	Generation uint64             // of the newest certified handover
	Head       ledger.RecoverHead // the newest certified head
	Checkpoint []byte             // its note
	Links      [][]byte           // authority links 1 to N
	Authority  ledger.Authority   // that certifies it
	Whole      uint64             // entries that are here without a gap
	Uncertain  int                // statements here beyond the head: they would be dropped
	Recovered  uint64             // the generation that Recover made it a member of, 0 if none
}

// Survey reads a stopped replica's data directory. It changes nothing that
// opening the replica would not (a recovery that was cut off is completed), and
// errs while a process has it open.
func Survey(dir string, genesisEntry []byte) (*Survivor, error) {
	d, err := openData(dir, genesisEntry, nil)
	if err != nil {
		return nil, err
	}
	defer d.close()
	s := &Survivor{Generation: d.chain.Latest.Generation, Authority: d.chain.Latest, Links: d.links, Whole: d.archive.Whole()}
	if d.marker != nil {
		s.Recovered = d.marker.Generation
	}
	if d.certified == nil {
		return nil, refuseRecovery("no head was ever certified here")
	}
	head := d.certified.Head
	s.Checkpoint, s.Authority = d.note, d.chain.ForSize(head.Size)
	s.Head = ledger.RecoverHead{Root: head.Root, Size: head.Size}
	if s.Head.Last, err = d.lastHash(head.Size); err != nil {
		return nil, err
	}
	tail, err := d.tail(head.Size)
	s.Uncertain = len(tail)
	return s, err
}

// data is a stopped replica's data directory.
type data struct {
	lock      io.Closer // of the directory, until close
	files     files
	genesis   ledger.Hash
	entry0    []byte
	archive   *archive.Archive
	chain     *ledger.Chain
	links     [][]byte
	note      []byte
	certified *ledger.Checkpoint
	marker    *recovered
}

// openData locks the data directory, completes a recovery that was cut off, and
// reads what there is. at is for tests.
func openData(dir string, genesisEntry []byte, at crashPoint) (d *data, err error) {
	founding, genesis, err := ledger.ParseGenesis(genesisEntry)
	if err != nil {
		return nil, refuseRecovery("the genesis is none: %v", err)
	}
	d = &data{files: files{dir: dir}, genesis: genesis, entry0: genesisEntry}
	if !d.files.has(archiveDir) && !d.files.has(recoveredFile) {
		return nil, refuseRecovery("%s holds no ledger", dir)
	}
	if d.lock, err = d.files.lock(); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if err := completeRecovery(d.files, at); err != nil {
		return d, err
	}
	if !d.files.has(archiveDir) {
		return d, refuseRecovery("%s holds no history: it was set aside, and nothing is in its place", dir)
	}
	if d.marker, err = d.files.readRecovered(); err != nil {
		return d, err
	}
	if d.archive, err = archive.Open(filepath.Join(dir, archiveDir), archive.Options{}); err != nil {
		return d, fmt.Errorf("recover: %w", err)
	}
	if first, err := d.archive.Entry(0); err != nil || !bytes.Equal(first, genesisEntry) {
		return d, refuseRecovery("%s is of another ledger than %s (%s)", dir, genesis, founding.Origin)
	}
	if d.chain, err = ledger.NewChain(genesis, ledger.GenesisLink(genesisEntry)); err != nil {
		return d, err
	}
	for n := uint64(1); ; n++ {
		b, err := d.files.read(linkName(n))
		if err != nil {
			return d, err
		}
		if b == nil {
			break
		}
		if err := d.extend(b); err != nil {
			return d, &FileError{File: linkName(n), Reason: err.Error()}
		}
	}
	if d.note, err = d.files.read(certifiedFile); err != nil {
		return d, err
	}
	if d.note == nil && len(d.links) == 0 {
		return d, nil
	}
	return d, d.newest()
}

// newest takes the newest certified head: that of the last link, where a crash
// came between the link and the checkpoint.
func (d *data) newest() (err error) {
	if n := len(d.links); n > 0 {
		link, err := ledger.ParseLink(d.links[n-1])
		if err != nil {
			return err
		}
		if note, err := ledger.ParseCheckpoint(d.note); d.note == nil || err == nil && note.Head.Size < d.handover().Size {
			d.note = []byte(link.Checkpoint)
		}
	}
	if d.certified, err = d.chain.VerifyCheckpoint(d.note); err != nil {
		return &FileError{File: certifiedFile, Reason: err.Error()}
	}
	return nil
}

// handover is the head of the newest link; of link 0 nothing.
func (d *data) handover() ledger.Head {
	head, _ := d.chain.HandoverHead(d.chain.Len() - 1)
	return head
}

func (d *data) extend(raw []byte) error {
	link, err := ledger.ParseLink(raw)
	if err != nil {
		return err
	}
	if err := d.chain.Extend(link); err != nil {
		return err
	}
	d.links = append(d.links, raw)
	return nil
}

func (d *data) close() {
	d.closeArchive()
	if d.lock != nil {
		_ = d.lock.Close()
		d.lock = nil
	}
}

func (d *data) closeArchive() {
	if d.archive != nil {
		_ = d.archive.Close()
		d.archive = nil
	}
}

func (d *data) lastHash(size uint64) (ledger.Hash, error) {
	if d.archive.Whole() < size {
		return ledger.Hash{}, refuseRecovery("the history is here up to %d entries, and the head is of size %d", d.archive.Whole(), size)
	}
	last, err := d.archive.LeafHash(size - 1)
	if err != nil {
		return ledger.Hash{}, fmt.Errorf("recover: %w", err)
	}
	return ledger.Hash(last), nil
}

// tail lists the statements of the history beyond size.
func (d *data) tail(size uint64) ([]*ledger.Statement, error) {
	var list []*ledger.Statement
	if d.archive.Size() <= size || d.archive.Whole() < size {
		return nil, nil
	}
	err := d.archive.Entries(size, d.archive.Size(), func(_ uint64, entry []byte) error {
		e, err := ledger.ParseEntry(entry)
		if err != nil || e.Kind != ledger.KindStatement {
			return err
		}
		s, err := ledger.ParseStatement(e.Content)
		if err == nil {
			list = append(list, s)
		}
		return err
	})
	return list, err
}
