package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// A snapshot is a stream of sections, each `u8 kind, u32 length, payload, u32
// CRC-32C of kind, length and payload`, after the eight bytes of magic. The
// order is fixed: header, links 1 to N, checkpoint, frontier, seal, record
// chunks, commands, end. The CRC tells damage from lies; the lies are found by
// what the sections prove (snapshot.go).
const snapshotMagic = "quosnap1"

type section byte

const (
	sectionHeader     section = 1 + iota // genesis hash[32]
	sectionLink                          // canonical JSON of one authority link
	sectionCheckpoint                    // the certified note
	sectionFrontier                      // u64 size, hashes: of all entries before the seal
	sectionSeal                          // the seal entry
	sectionRecords                       // repeated: u16 length, key, u32 length, value; sorted
	sectionCommand                       // one Raft command after the seal
	sectionEnd                           // u64 links, u64 records, u64 commands
)

// recordChunkBytes is when a chunk of records is written out.
const recordChunkBytes = 1 << 20

// SnapshotError says that a snapshot is damaged, and where.
type SnapshotError struct {
	Offset int64
	Reason string
}

func (e *SnapshotError) Error() string {
	return fmt.Sprintf("snapshot is damaged at offset %d: %s", e.Offset, e.Reason)
}

type snapshotWriter struct {
	w   *bufio.Writer
	err error

	links, records, commands uint64
	chunk                    []byte
}

func newSnapshotWriter(w io.Writer) *snapshotWriter {
	s := &snapshotWriter{w: bufio.NewWriterSize(w, 256<<10)}
	_, s.err = s.w.WriteString(snapshotMagic)
	return s
}

func (s *snapshotWriter) section(kind section, payload []byte) {
	if s.err != nil {
		return
	}
	if len(payload) > maxSectionBytes {
		s.err = fmt.Errorf("write snapshot: section of %d bytes", len(payload))
		return
	}
	head := binary.BigEndian.AppendUint32([]byte{byte(kind)}, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
	for _, part := range [][]byte{head, payload, binary.BigEndian.AppendUint32(nil, sum)} {
		if _, err := s.w.Write(part); err != nil {
			s.err = err
			return
		}
	}
}

func (s *snapshotWriter) frontier(f archive.Frontier) {
	b := binary.BigEndian.AppendUint64(nil, f.Size)
	for _, h := range f.Hashes {
		b = append(b, h[:]...)
	}
	s.section(sectionFrontier, b)
}

func (s *snapshotWriter) record(key string, value []byte) error {
	s.chunk = binary.BigEndian.AppendUint16(s.chunk, uint16(len(key)))
	s.chunk = append(s.chunk, key...)
	s.chunk = binary.BigEndian.AppendUint32(s.chunk, uint32(len(value)))
	s.chunk = append(s.chunk, value...)
	s.records++
	if len(s.chunk) >= recordChunkBytes {
		s.flushRecords()
	}
	return s.err
}

func (s *snapshotWriter) flushRecords() {
	if len(s.chunk) > 0 {
		s.section(sectionRecords, s.chunk)
		s.chunk = s.chunk[:0]
	}
}

func (s *snapshotWriter) finish() error {
	b := binary.BigEndian.AppendUint64(nil, s.links)
	b = binary.BigEndian.AppendUint64(b, s.records)
	b = binary.BigEndian.AppendUint64(b, s.commands)
	s.section(sectionEnd, b)
	if s.err != nil {
		return s.err
	}
	return s.w.Flush()
}

// snapshotContent is a snapshot as it was read, not verified yet.
type snapshotContent struct {
	genesis    ledger.Hash
	links      [][]byte
	checkpoint []byte
	frontier   archive.Frontier
	seal       []byte
	records    []snapshotRecord
	commands   [][]byte
}

type snapshotRecord struct {
	key   string
	value []byte
}

type snapshotReader struct {
	r      *bufio.Reader
	offset int64
	limit  int64
}

// readSnapshot reads a snapshot of at most limit bytes. Whatever it takes is in
// the fixed order and whole; nothing of it is believed yet. Its errors about
// the bytes are *SnapshotError.
func readSnapshot(r io.Reader, limit int64) (*snapshotContent, error) {
	s := &snapshotReader{r: bufio.NewReaderSize(r, 256<<10), limit: limit}
	magic := make([]byte, len(snapshotMagic))
	if err := s.read(magic); err != nil {
		return nil, err
	}
	if string(magic) != snapshotMagic {
		return nil, &SnapshotError{Reason: "not a quorate snapshot"}
	}
	var c snapshotContent
	var links, records, commands uint64
	last := section(0)
	for {
		start := s.offset
		kind, payload, err := s.section()
		if err != nil {
			return nil, err
		}
		if err := inOrder(last, kind); err != nil {
			return nil, &SnapshotError{start, err.Error()}
		}
		last = kind
		switch kind {
		case sectionHeader:
			if len(payload) != len(c.genesis) {
				return nil, &SnapshotError{start, "header of another length"}
			}
			copy(c.genesis[:], payload)
		case sectionLink:
			if links++; links > maxSnapshotLinks {
				return nil, &SnapshotError{start, "too many authority links"}
			}
			c.links = append(c.links, payload)
		case sectionCheckpoint:
			c.checkpoint = payload
		case sectionFrontier:
			if c.frontier, err = parseFrontier(payload); err != nil {
				return nil, &SnapshotError{start, err.Error()}
			}
		case sectionSeal:
			c.seal = payload
		case sectionRecords:
			list, err := parseRecords(payload)
			if err != nil {
				return nil, &SnapshotError{start, err.Error()}
			}
			records += uint64(len(list))
			c.records = append(c.records, list...)
		case sectionCommand:
			commands++
			c.commands = append(c.commands, payload)
		case sectionEnd:
			return &c, s.end(start, payload, links, records, commands)
		}
	}
}

func (s *snapshotReader) end(start int64, payload []byte, counts ...uint64) error {
	if len(payload) != 8*len(counts) {
		return &SnapshotError{start, "end of another length"}
	}
	for i, n := range counts {
		if binary.BigEndian.Uint64(payload[8*i:]) != n {
			return &SnapshotError{start, "counts differ from what was read"}
		}
	}
	if _, err := s.r.ReadByte(); !errors.Is(err, io.EOF) {
		return &SnapshotError{s.offset, "bytes after the end"}
	}
	return nil
}

// inOrder says whether kind may follow last.
func inOrder(last, kind section) error {
	repeats := kind == sectionLink || kind == sectionRecords || kind == sectionCommand
	if kind == last && repeats {
		return nil
	}
	next := last + 1
	for kind > next && (next == sectionLink || next == sectionRecords || next == sectionCommand) {
		next++
	}
	if kind != next || kind > sectionEnd {
		return fmt.Errorf("section %d after section %d", kind, last)
	}
	return nil
}

func (s *snapshotReader) section() (section, []byte, error) {
	start := s.offset
	var head [5]byte
	if err := s.read(head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxSectionBytes {
		return 0, nil, &SnapshotError{start, "section too long"}
	}
	payload, err := s.readLong(int(n))
	if err != nil {
		return 0, nil, err
	}
	var sum [4]byte
	if err := s.read(sum[:]); err != nil {
		return 0, nil, err
	}
	if crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, payload) != binary.BigEndian.Uint32(sum[:]) {
		return 0, nil, &SnapshotError{start, "checksum differs"}
	}
	return section(head[0]), payload, nil
}

// readLong grows with what really comes, so that a length alone allocates
// little.
func (s *snapshotReader) readLong(n int) ([]byte, error) {
	const step = 1 << 20
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		have := len(b)
		b = append(b, make([]byte, min(step, n-have))...)
		if err := s.read(b[have:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (s *snapshotReader) read(b []byte) error {
	if s.offset+int64(len(b)) > s.limit {
		return &SnapshotError{s.offset, "larger than the limit"}
	}
	n, err := io.ReadFull(s.r, b)
	s.offset += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &SnapshotError{s.offset, "ends early"}
	}
	return err
}

func parseFrontier(b []byte) (archive.Frontier, error) {
	if len(b) < 8 || (len(b)-8)%tlog.HashSize != 0 || len(b) > 8+64*tlog.HashSize {
		return archive.Frontier{}, errors.New("frontier of another length")
	}
	f := archive.Frontier{Size: binary.BigEndian.Uint64(b)}
	for b = b[8:]; len(b) > 0; b = b[tlog.HashSize:] {
		f.Hashes = append(f.Hashes, tlog.Hash(b[:tlog.HashSize]))
	}
	return f, f.Validate()
}

func parseRecords(b []byte) ([]snapshotRecord, error) {
	var list []snapshotRecord
	for len(b) > 0 {
		key, rest, ok := cut(b, 2)
		if !ok {
			return nil, errors.New("record cut off")
		}
		value, rest, ok := cut(rest, 4)
		if !ok {
			return nil, errors.New("record cut off")
		}
		list = append(list, snapshotRecord{string(key), value})
		b = rest
	}
	if list == nil {
		return nil, errors.New("no records in a chunk")
	}
	return list, nil
}

// cut takes a string after its length of width bytes.
func cut(b []byte, width int) (s, rest []byte, ok bool) {
	if len(b) < width {
		return nil, nil, false
	}
	n := 0
	for _, c := range b[:width] {
		n = n<<8 | int(c)
	}
	if b = b[width:]; len(b) < n {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// write writes the whole of c; it is the inverse of readSnapshot.
func (c *snapshotContent) write(w io.Writer) error {
	s := newSnapshotWriter(w)
	s.head(c.genesis, c.links, c.checkpoint, c.frontier, c.seal)
	for _, r := range c.records {
		if err := s.record(r.key, r.value); err != nil {
			return err
		}
	}
	s.flushRecords()
	for _, command := range c.commands {
		s.command(command)
	}
	return s.finish()
}

func (s *snapshotWriter) head(genesis ledger.Hash, links [][]byte, checkpoint []byte, f archive.Frontier, seal []byte) {
	s.section(sectionHeader, genesis[:])
	for _, link := range links {
		s.section(sectionLink, link)
		s.links++
	}
	s.section(sectionCheckpoint, checkpoint)
	s.frontier(f)
	s.section(sectionSeal, seal)
}

func (s *snapshotWriter) command(data []byte) {
	s.section(sectionCommand, data)
	s.commands++
}
