package agent

import (
	"cmp"
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
	kept    []Kept // most urgent first, oldest first
	order   uint64
	live    int64 // bytes of records of kept statements
	size    int64 // of the file
	dropped int64 // bytes that were not whole when it was opened
	broken  bool  // the file may end in part of a record
}

// Kept is a statement that waits.
type Kept struct {
	ID       ledger.Hash
	Epoch    uint64 // in which its author signed it
	Urgency  gossip.Urgency
	Envelope []byte // verbatim; not the caller's to change

	order uint64
}

// The kinds of a record.
const (
	outboxAdd  = 1
	outboxDone = 2
)

// A record is its length (of what follows but the sum; 4 bytes, big-endian), kind,
// then: of add the urgency, the epoch (8 bytes) and the envelope; of done the id.
// At its end is the CRC-32C of all before it.
const (
	recordHead = 4
	recordSum  = 4
	addHead    = 1 + 1 + 8
	doneLength = 1 + 32
)

// ErrOutboxFull says that nothing less urgent could give way.
var ErrOutboxFull = errors.New("the outbox is full")

// OpenOutbox opens the outbox at path, or begins one.
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
			return nil, fmt.Errorf("open outbox: %w", err)
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
	if n > addHead+gossip.MaxStatementBytes || uint64(len(b)) < recordHead+n+recordSum {
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
	case len(body) > addHead && body[0] == outboxAdd:
		st, err := ledger.ParseStatement(slices.Clone(body[addHead:]))
		if err != nil || len(o.kept) >= gossip.MaxOutboxItems || o.live > gossip.MaxOutboxBytes+outboxSlack {
			return false
		}
		o.insert(Kept{
			ID: st.ID, Epoch: binary.BigEndian.Uint64(body[2:]), Urgency: gossip.Urgency(body[1]), Envelope: st.Envelope,
		})
		return true
	case len(body) == doneLength && body[0] == outboxDone:
		o.forget(ledger.Hash(body[1:]))
		return true
	}
	return false
}

func addBody(k Kept) []byte {
	body := append(make([]byte, 0, addHead+len(k.Envelope)), outboxAdd, byte(k.Urgency))
	return append(binary.BigEndian.AppendUint64(body, k.Epoch), k.Envelope...)
}

func sizeOf(k Kept) int64 { return int64(recordHead + addHead + len(k.Envelope) + recordSum) }

func (o *Outbox) insert(k Kept) {
	o.order++
	k.order = o.order
	at, _ := slices.BinarySearchFunc(o.kept, k, func(a, b Kept) int {
		return cmp.Or(cmp.Compare(a.Urgency, b.Urgency), cmp.Compare(a.order, b.order))
	})
	o.kept = slices.Insert(o.kept, at, k)
	o.live += sizeOf(k)
}

func (o *Outbox) forget(id ledger.Hash) bool {
	at := o.find(id)
	if at < 0 {
		return false
	}
	o.live -= sizeOf(o.kept[at])
	o.kept = slices.Delete(o.kept, at, at+1)
	return true
}

func (o *Outbox) find(id ledger.Hash) int {
	return slices.IndexFunc(o.kept, func(k Kept) bool { return k.ID == id })
}

// Add keeps a signed statement; once it returned, a crash does not lose it. When
// there is no room, the newest of what is less urgent gives way. After an error
// of the disk the statement is kept in memory alone.
func (o *Outbox) Add(st *ledger.Statement, urgency gossip.Urgency) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.find(st.ID) >= 0 {
		return nil
	}
	k := Kept{ID: st.ID, Urgency: urgency, Envelope: slices.Clone(st.Envelope)}
	if st.Payload.Epoch != nil {
		k.Epoch = *st.Payload.Epoch
	}
	var records []byte
	for len(o.kept) >= gossip.MaxOutboxItems || o.live+sizeOf(k) > gossip.MaxOutboxBytes {
		last := len(o.kept) - 1
		if last < 0 || o.kept[last].Urgency <= urgency {
			return ErrOutboxFull
		}
		id := o.kept[last].ID
		o.forget(id)
		records = append(records, sealRecord(append([]byte{outboxDone}, id[:]...))...)
	}
	o.insert(k)
	return o.append(append(records, sealRecord(addBody(k))...))
}

// Done says that a statement is on the ledger or can no longer be. A crash may
// bring it back: to bring a statement twice does no harm.
func (o *Outbox) Done(ids ...ledger.Hash) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var records []byte
	for _, id := range ids {
		if o.forget(id) {
			records = append(records, sealRecord(append([]byte{outboxDone}, id[:]...))...)
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
	if o.broken || o.size+int64(len(records)) > 2*o.live+outboxSlack {
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
		for _, k := range o.kept {
			n, err := w.Write(sealRecord(addBody(k)))
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

// Expire gives up the statements that the ledger takes no more: those of epochs
// before the last one.
func (o *Outbox) Expire(epoch uint64) error {
	var gone []ledger.Hash
	for _, k := range o.Waiting() {
		if k.Epoch+1 < epoch {
			gone = append(gone, k.ID)
		}
	}
	return o.Done(gone...)
}

// Waiting gives what waits, the most urgent first, the oldest first of equal
// urgency.
func (o *Outbox) Waiting() []Kept {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.kept)
}

// Dropped is how many bytes were not whole when the outbox was opened.
func (o *Outbox) Dropped() int64 { return o.dropped }
