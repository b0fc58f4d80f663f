package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// Outbox keeps on disk the signed statements that have not reached the ledger, so
// that a restart loses none. It is a file that is appended to: a record for each
// statement that comes in and for each that is done with. What a crash cut short
// is dropped when it is opened, and what is damaged with all that follows: it
// bears our signatures or others', so nothing in it is believed for being there.
// It is safe for concurrent use.
type Outbox struct {
	mu      sync.Mutex
	disk    disk
	name    string
	kept    gossip.Outbox
	size    int64 // of the file
	dropped int64 // bytes that were not whole when it was opened
	broken  bool  // the file may end in part of a record
}

// The kinds of a record.
const (
	outboxAdd   = 1
	outboxDone  = 2
	outboxRenew = 3
	outboxMiss  = 4
)

// A record is its length (of what follows but the sum; 4 bytes, big-endian), kind,
// then: of add the urgency, the epoch (8 bytes) and the envelope; of done and
// miss the id; of renew the id of the one that is done with, then as of add. At its end is the CRC-32C
// of all before it.
const (
	recordHead = 4
	recordSum  = 4
	addHead    = 1 + 1 + 8
	doneLength = 1 + 32
	renewHead  = 32 + addHead
)

// OpenOutbox opens the outbox at path, or begins one. If what is not whole can't be
// cut off, as on a full disk, there is an outbox and an error: it is in memory only
// until the disk can be written.
func OpenOutbox(path string) (*Outbox, error) {
	return openOutbox(folder(filepath.Dir(path)), filepath.Base(path))
}

func openOutbox(d disk, name string) (*Outbox, error) {
	o := &Outbox{disk: d, name: name}
	b, err := d.read(name, 2*gossip.MaxOutboxBytes+2*outboxSlack)
	var damaged *DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, nil
	case errors.As(err, &damaged):
		o.dropped = int64(len(b))
		return o, o.rewrite()
	case err != nil:
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	rest := b
	for len(rest) > 0 {
		body, after, ok := cutRecord(rest)
		if !ok || !o.take(body) {
			break
		}
		rest = after
	}
	o.size = int64(len(b) - len(rest))
	if o.dropped = int64(len(rest)); o.dropped > 0 {
		if err := d.cut(name, o.size); err != nil {
			o.broken = true
			return o, fmt.Errorf("open outbox: %w", err)
		}
	}
	return o, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cutRecord gives the first record's body and what follows it.
func cutRecord(b []byte) (body, after []byte, ok bool) {
	if len(b) < recordHead {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if n > renewHead+gossip.MaxStatementBytes || uint64(len(b)) < recordHead+n+recordSum {
		return nil, nil, false
	}
	end := recordHead + n
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, nil, false
	}
	return b[recordHead:end], b[end+recordSum:], true
}

func sealRecord(body []byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, recordHead+len(body)+recordSum), uint32(len(body)))
	b = append(b, body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// take does what a record says, as far as it is one.
func (o *Outbox) take(body []byte) bool {
	switch {
	case len(body) > renewHead && body[0] == outboxRenew:
		o.kept.Drop(ledger.Hash(body[1:33]))
		return o.put(body[33:])
	case len(body) > addHead && body[0] == outboxAdd:
		return o.put(body[1:])
	case len(body) == doneLength && body[0] == outboxDone:
		o.kept.Drop(ledger.Hash(body[1:]))
		return true
	case len(body) == doneLength && body[0] == outboxMiss:
		o.kept.Miss(ledger.Hash(body[1:]))
		return true
	}
	return false
}

// put takes what follows the kind of an add.
func (o *Outbox) put(b []byte) bool {
	st, err := ledger.ParseStatement(slices.Clone(b[addHead-1:]))
	if err != nil {
		return false
	}
	// What gave way to it was written as done before it.
	gone, err := o.kept.Put(gossip.Waiting{ID: st.ID, Epoch: binary.BigEndian.Uint64(b[1:]), Urgency: gossip.Urgency(b[0]), Envelope: st.Envelope})
	return err == nil && len(gone) == 0
}

func addBody(w gossip.Waiting) []byte {
	return waitingBody(append(make([]byte, 0, addHead+len(w.Envelope)), outboxAdd), w)
}

func renewBody(old ledger.Hash, w gossip.Waiting) []byte {
	return waitingBody(append(append(make([]byte, 0, renewHead+len(w.Envelope)), outboxRenew), old[:]...), w)
}

func waitingBody(body []byte, w gossip.Waiting) []byte {
	return append(binary.BigEndian.AppendUint64(append(body, byte(w.Urgency)), w.Epoch), w.Envelope...)
}

func doneBody(id ledger.Hash) []byte { return append([]byte{outboxDone}, id[:]...) }
func missBody(id ledger.Hash) []byte { return append([]byte{outboxMiss}, id[:]...) }

// live is how many bytes the records of what waits have.
func (o *Outbox) live() int64 {
	return int64(o.kept.Bytes() + o.kept.Len()*(recordHead+addHead+recordSum+recordHead+doneLength+recordSum))
}

// Add keeps a signed statement; once it returned, a crash does not lose it. When
// there is no room, the newest of what is less urgent gives way. After an error
// of the disk the statement is kept in memory alone.
func (o *Outbox) Add(st *ledger.Statement, urgency gossip.Urgency) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kept.Has(st.ID) {
		return nil
	}
	w := gossip.WaitingOf(st, urgency)
	gone, err := o.kept.Put(w)
	if err != nil {
		return err
	}
	var records []byte
	for _, id := range gone {
		records = append(records, sealRecord(doneBody(id))...)
	}
	return o.append(append(records, sealRecord(addBody(w))...))
}

// Renew keeps a statement in the place of one that can get onto the ledger no more.
// Once it returned nil, a crash leaves the new one and not the old one: only then may
// anybody hear it. After an error the old one is kept, and a restart finds either, never
// both.
func (o *Outbox) Renew(old ledger.Hash, st *ledger.Statement, urgency gossip.Urgency) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := gossip.WaitingOf(st, urgency)
	next := o.kept.Clone()
	next.Drop(old)
	gone, err := next.Put(w)
	if err != nil {
		return err
	}
	var records []byte
	for _, id := range gone {
		records = append(records, sealRecord(doneBody(id))...)
	}
	before := o.kept
	o.kept = next
	if err := o.append(append(records, sealRecord(renewBody(old, w))...)); err != nil {
		// Whether it is there is not known; whatever is written next is the whole file.
		o.kept, o.broken = before, true
		return err
	}
	return nil
}

// Miss says of statements that it is certain that the ledger has them not and takes them
// no more: a later state does not show that by itself.
func (o *Outbox) Miss(ids ...ledger.Hash) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var records []byte
	for _, id := range ids {
		if o.kept.Miss(id) {
			records = append(records, sealRecord(missBody(id))...)
		}
	}
	if len(records) == 0 {
		return nil
	}
	return o.append(records)
}

// Done says that a statement is on the ledger or can no longer be. A crash may
// bring it back: to bring a statement twice does no harm.
func (o *Outbox) Done(ids ...ledger.Hash) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var records []byte
	for _, id := range ids {
		if o.kept.Drop(id) {
			records = append(records, sealRecord(doneBody(id))...)
		}
	}
	if len(records) == 0 {
		return nil
	}
	return o.append(records)
}

// append writes records, or, when most of the file is done with or its end is in
// doubt, the file anew.
func (o *Outbox) append(records []byte) error {
	if o.broken || o.size+int64(len(records)) > 2*o.live()+outboxSlack {
		return o.rewrite()
	}
	if err := o.disk.add(o.name, records); err != nil {
		o.broken = true // part of a record may stand there: what follows it would be lost
		return fmt.Errorf("write outbox: %w", err)
	}
	o.size += int64(len(records))
	return nil
}

func (o *Outbox) rewrite() error {
	written := int64(0)
	err := o.disk.replace(o.name, func(w io.Writer) error {
		for _, kept := range o.kept.Items() {
			records := sealRecord(addBody(kept))
			if kept.Missed {
				records = append(records, sealRecord(missBody(kept.ID))...)
			}
			n, err := w.Write(records)
			written += int64(n)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		o.broken = true
		return fmt.Errorf("rewrite outbox: %w", err)
	}
	o.size, o.broken = written, false
	return nil
}

// Expire gives up the statements that the ledger takes no more, but those that somebody
// still decides on.
func (o *Outbox) Expire(epoch uint64, undecided func(ledger.Hash) bool) error {
	o.mu.Lock()
	late := o.kept.Late(epoch)
	o.mu.Unlock()
	return o.Done(slices.DeleteFunc(late, undecided)...)
}

// Waiting gives what waits, in the order in which it is to be brought.
func (o *Outbox) Waiting() []gossip.Waiting {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept.Items()
}

// Dropped is how many bytes were not whole when the outbox was opened.
func (o *Outbox) Dropped() int64 { return o.dropped }
