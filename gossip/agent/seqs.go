package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// Seqs gives each seq of a line of keys, which followed each other by rotation, once,
// whatever happens to the process or its disk:
// two statements under one seq are an equivocation, which excludes. Seqs are
// reserved in blocks on disk before they are used, so a restart skips the rest of
// a block. Nothing on a disk can show by itself that the disk is an old copy, so
// the node says nothing, in any doubt, until an epoch begins in which no earlier
// life of it can have signed:
//
//   - a record that is lost or damaged, or that was made for a key restored from a
//     backup: after the epoch in force and the next;
//   - one written before the machine was last booted, where a copy may have been
//     restored, or one of which the running system remembers nothing: after the
//     epoch in force;
//   - one that was written less often than the running system remembers: an image
//     of the disk was put back; after the epoch in force and the next;
//   - a statement of ours that the ledger or a peer shows and that the record does
//     not cover (Seen): two epochs after it.
//
// The epoch in force is that of a head that is not stale (Fresh): a restored node
// may be behind. It is safe for concurrent use.
type Seqs struct {
	mu      sync.Mutex
	disk    disk
	name    string
	record  seqRecord
	next    [2]uint64 // by space; below record.Reserved
	failure error     // of the last write
	memory  memory    // of the running system; "" in tests of the disk alone
}

// seqRecord is what is on disk. Nothing that was signed is beyond it.
type seqRecord struct {
	Accused  uint64      `json:"accused"`         // no accusation was of a tick after it, in ticks of Unit
	Acked    uint64      `json:"acked"`           // no ack was of a tick after it, in ticks of Unit
	Doubt    string      `json:"doubt,omitempty"` // nothing is signed until a fresh head tells the epoch
	Epoch    uint64      `json:"epoch"`           // the newest in which something was signed
	Key      ledger.Hash `json:"key"`             // the first of its line: those that follow it by rotation go on counting
	Machine  string      `json:"machine"`
	Reserved []uint64    `json:"reserved"`         // by space, exclusive, in Epoch
	Silent   uint64      `json:"silent,omitempty"` // epoch before which nothing is signed
	Unit     uint64      `json:"unit,omitempty"`   // milliseconds of a tick
	Why      string      `json:"why,omitempty"`    // of Silent
	Writes   uint64      `json:"writes,omitempty"` // how often it was written
}

const seqsPurpose = "quorate/seqs/v1\n\x00"

// The doubts, and how many epochs after the one in force they last.
const (
	doubtLost    = "lost"    // the record was lost or damaged
	doubtMachine = "machine" // it was written before the last boot, or elsewhere
	doubtBehind  = "behind"  // a statement of ours was seen that it does not cover
	// The key was restored from a backup, and nobody remembers what it signed.
	doubtRestored = "restored"
)

func epochsOf(doubt string) uint64 {
	if doubt == doubtMachine {
		return 1
	}
	return 2
}

// SilentError says that nothing may be signed now, since an earlier life of this
// node may have signed what nobody here remembers.
type SilentError struct {
	Doubt string // lost, machine, behind, restored
	Until uint64 // epoch; 0: as long as no head is fresh
}

func (e *SilentError) Error() string {
	why := map[string]string{
		doubtLost:    "the record of what was signed was lost",
		doubtMachine: "the record of what was signed was written before this machine was booted",
		doubtBehind:  "this node has signed what its record does not show",

		doubtRestored: "this node's key was restored from a backup, and what it signed before is not known",
	}[e.Doubt]
	if e.Until == 0 {
		return "nothing is signed until a fresh head is there: " + why
	}
	return fmt.Sprintf("nothing is signed before epoch %d: %s", e.Until, why)
}

// ErrQuota says that this epoch's seqs are used up.
var ErrQuota = errors.New("the quota of this epoch is used up")

// Machine names the running system: another after each boot. "" if that cannot be
// known; then each start is as after a boot.
func Machine() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(b) > 64 {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// CreateSeqs makes the record of a line whose key has signed nothing yet but its join. A
// record that is there is left as it is. memoryDir is MemoryDir, or the
// configuration's.
func CreateSeqs(path, memoryDir string, key ledger.Hash, machine string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	s := newSeqs(folder(filepath.Dir(path)), filepath.Base(path), key, machine)
	s.memory = memoryOf(memoryDir, path, key)
	return s.write(s.record)
}

func newSeqs(d disk, name string, key ledger.Hash, machine string) *Seqs {
	return &Seqs{disk: d, name: name, record: seqRecord{Key: key, Machine: machine, Reserved: []uint64{0, 0}}}
}

// OpenSeqs opens the record of a line of keys, by its first. One that is missing, damaged
// or of another line is made anew and leaves the node silent for two epochs; the error is that of a
// disk that can't be read. One that can't be written leaves the node as silent as
// it would be otherwise, and it signs nothing that it would have to write down first;
// Trouble says so.
func OpenSeqs(path, memoryDir string, key ledger.Hash, machine string) (*Seqs, error) {
	s, err := openSeqs(folder(filepath.Dir(path)), filepath.Base(path), key, machine)
	if s == nil {
		return nil, err
	}
	_ = s.recall(memoryOf(memoryDir, path, key)) // s.failure has it
	return s, nil
}

// recall compares the record with what the running system remembers of it.
func (s *Seqs) recall(m memory) error {
	s.memory = m
	writes, known := m.read()
	r := s.record
	switch {
	case known && writes <= r.Writes:
		return nil // a crash between the two writes leaves the record ahead
	case known:
		r.Doubt, r.Writes = doubtBehind, writes
	case r.Doubt == "":
		r.Doubt = doubtMachine
	}
	return s.doubt(r)
}

// doubt is write of a record that allows less. It is in force at once, since a disk
// that can't be written must not have the node forget it.
func (s *Seqs) doubt(r seqRecord) error {
	s.record.Doubt, s.record.Silent, s.record.Why, s.record.Writes = r.Doubt, r.Silent, r.Why, r.Writes
	return s.write(r)
}

func openSeqs(d disk, name string, key ledger.Hash, machine string) (*Seqs, error) {
	s := newSeqs(d, name, key, machine)
	b, err := d.read(name, maxSeqsBytes)
	var damaged *DamagedError
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) {
		return nil, fmt.Errorf("open seqs: %w", err)
	}
	record, err := decodeSeqs(name, b)
	switch {
	case err != nil || record.Key != key:
		s.record.Doubt = doubtLost
	case record.Doubt != "":
		s.record = *record
		s.record.Machine = machine
	case record.Machine != machine || machine == "":
		s.record = *record
		s.record.Machine, s.record.Doubt = machine, doubtMachine
	default:
		s.record = *record
		copy(s.next[:], record.Reserved)
		return s, nil
	}
	copy(s.next[:], s.record.Reserved)
	if err := s.write(s.record); err != nil {
		return s, fmt.Errorf("open seqs: %w", err)
	}
	return s, nil
}

func decodeSeqs(name string, b []byte) (*seqRecord, error) {
	content, err := checkSum(name, seqsPurpose, b)
	if err != nil {
		return nil, err
	}
	var r seqRecord
	if err := canon.Unmarshal(content, &r); err != nil {
		return nil, &DamagedError{File: name, Reason: err.Error()}
	}
	if len(r.Reserved) != 2 {
		return nil, &DamagedError{File: name, Reason: "it has not two spaces"}
	}
	return &r, nil
}

// write makes a record durable, and then the one in force.
func (s *Seqs) write(r seqRecord) error {
	r.Writes++
	content, err := canon.Marshal(r)
	if err == nil {
		content = withSum(seqsPurpose, content)
		err = s.disk.replace(s.name, func(w io.Writer) error { _, err := w.Write(content); return err })
	}
	if err == nil {
		// Crash here: the record is ahead of what is remembered, which is no doubt;
		// nothing was signed by it yet.
		err = s.memory.write(r.Writes)
	}
	if err != nil {
		// Whether the new record is there is not known, so neither is used: the
		// old one is in force, and what the new one would allow is not given.
		s.failure = fmt.Errorf("write seqs: %w", err)
		return s.failure
	}
	s.record, s.failure = r, nil
	return nil
}

// Fresh says which epoch is in force by a head that is not stale. It ends nothing
// but the doubt: from then on it is known until when to be silent.
func (s *Seqs) Fresh(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Doubt == "" {
		return nil
	}
	r := s.record
	if until := epoch + epochsOf(r.Doubt); until > r.Silent {
		r.Silent, r.Why = until, r.Doubt
	}
	r.Doubt = ""
	return s.write(r)
}

// Seen takes note of a statement of this key, whose signature was verified, that
// the ledger or a peer shows. What the record does not cover an earlier life
// signed, of which this disk is an old copy.
func (s *Seqs) Seen(epoch uint64, space ledger.SeqSpace, seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record
	covered := epoch < r.Epoch || epoch == r.Epoch && seq < r.Reserved[space]
	if covered || epoch+2 <= r.Silent {
		return nil
	}
	r.Silent, r.Why = epoch+2, doubtBehind
	if r.Doubt == "" {
		r.Doubt = doubtBehind // the epoch in force may be a later one
	}
	return s.doubt(r)
}

// Next gives a seq of an epoch that was never given before. The error is a
// *SilentError, ErrQuota, or that of the disk.
func (s *Seqs) Next(epoch uint64, space ledger.SeqSpace, quota uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.silent(epoch); err != nil {
		return 0, err
	}
	r := s.record
	if epoch < r.Epoch {
		return 0, &SilentError{Doubt: doubtBehind, Until: r.Epoch}
	}
	next := s.next
	if epoch > r.Epoch {
		r.Epoch, r.Reserved, next = epoch, []uint64{0, 0}, [2]uint64{}
	}
	seq := next[space]
	if seq >= quota {
		return 0, ErrQuota
	}
	if seq >= r.Reserved[space] || epoch > s.record.Epoch {
		block := uint64(seqBlockMain)
		if space == ledger.SpaceProbe {
			block = seqBlockProbe
		}
		r.Reserved = []uint64{r.Reserved[0], r.Reserved[1]}
		r.Reserved[space] = min(seq+block, quota)
		if err := s.write(r); err != nil {
			return 0, err
		}
		// Crash here: the block is skipped.
	}
	next[space]++
	s.next = next
	return seq, nil
}

func (s *Seqs) silent(epoch uint64) error {
	switch {
	case s.record.Doubt != "":
		return &SilentError{Doubt: s.record.Doubt}
	case epoch < s.record.Silent:
		return &SilentError{Doubt: s.record.Why, Until: s.record.Silent}
	}
	return nil
}

// Left is how many seqs of an epoch are left.
func (s *Seqs) Left(epoch uint64, space ledger.SeqSpace, quota uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.silent(epoch) != nil || epoch < s.record.Epoch:
		return 0
	case epoch > s.record.Epoch:
		return quota
	}
	return quota - min(quota, s.next[space])
}

// Vow is called before a body is signed, in ticks of so many milliseconds: after a
// restart, no accusation is of a tick at or before that of an ack, and no ack of
// one at or before the last of an accusation. Other bodies vow nothing.
func (s *Seqs) Vow(body any, tickMillis uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record
	if r.Unit != tickMillis {
		// Ticks of another length have other numbers, so nothing of now can
		// contradict what was of them.
		r.Unit, r.Acked, r.Accused = tickMillis, 0, 0
	}
	switch b := body.(type) {
	case ledger.Ack:
		if b.Tick <= r.Acked {
			return nil
		}
		r.Acked = b.Tick + ackedAhead
	case ledger.Observe:
		if b.Kind != ledger.LinkDown && b.Kind != ledger.NodeDown || b.To <= r.Accused {
			return nil
		}
		r.Accused = b.To
	default:
		return nil
	}
	return s.write(r)
}

// Ticks gives what an earlier life acknowledged and accused at most, in ticks of
// so many milliseconds: the arguments of gossip.NewVows.
func (s *Seqs) Ticks(tickMillis uint64) (acked, accused uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Unit != tickMillis {
		return 0, 0
	}
	return s.record.Acked, s.record.Accused
}

// Trouble says why nothing is signed in an epoch, or nil.
func (s *Seqs) Trouble(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.silent(epoch); err != nil {
		return err
	}
	return s.failure
}
