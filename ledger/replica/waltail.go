package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// The tail of raft-wal's log, as far as it is checked here: a file header, then
// batches of frames, each of which ends with a commit frame that has the CRC-32C
// of the batch; the first batch begins with the file header. What was never
// written is zeros. Source: raft-wal's segment/format.go and its README.
const (
	walHeader   = 32
	walFrame    = 8 // header of a frame, and what frames are aligned to
	walEntry    = 1
	walIndex    = 2
	walCommit   = 3
	walSector   = 512 // what a disk writes whole or not at all
	walLookBack = 16  // commit frames before one that its batch may begin after
)

// checkWALTail looks at the one segment that is still written to. raft-wal takes
// whatever does not parse for a torn write, and drops it with all that follows:
// so would a flipped bit be, with entries that were acknowledged. Here that is a
// *FileError. What is really torn is made zeros, so that the rest of it is never
// found after what takes its place.
func checkWALTail(dir string, segments []types.SegmentInfo) error {
	if len(segments) == 0 {
		return nil
	}
	tail := segments[len(segments)-1]
	if !tail.SealTime.IsZero() {
		return nil
	}
	path := filepath.Join(dir, segment.FileName(tail))
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a crash before it was made
	}
	if err != nil {
		return fmt.Errorf("read the tail of raft's log: %w", err)
	}
	t := walTail{b: b}
	whole, torn := t.check()
	if torn < 0 {
		return &FileError{File: filepath.Join(raftDir, "wal", filepath.Base(path)), Offset: int64(whole),
			Reason: "entries that were written whole do not parse any more, and raft-wal would drop them as if they were torn; " +
				"they may have been acknowledged, so re-key this replica (deploy/playbooks/damaged-disk.md)"}
	}
	if torn == whole {
		return nil
	}
	return wipe(path, whole, torn)
}

// wipe makes what a crash left of a write zeros.
func wipe(path string, from, to int) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("mend the tail of raft's log: %w", err)
	}
	// Crash here: some of it is zeros, which is as torn as before.
	_, err = file.WriteAt(make([]byte, to-from), int64(from))
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("mend the tail of raft's log: %w", err)
	}
	return nil
}

// walTail is the content of a segment.
type walTail struct{ b []byte }

// check gives where the last whole batch ends, and where what is torn after it
// does; a negative end says that it is damaged, not torn.
func (t walTail) check() (whole, end int) {
	whole = t.wholeBatches()
	end = len(t.b)
	for end > whole && t.b[end-1] == 0 {
		end--
	}
	switch {
	case t.recovered() != whole: // raft-wal takes a batch that is wrong, or not one that is right
		return whole, -1
	case end == whole:
		return whole, whole
	case t.laterCommit(whole, end), t.lastIsWhole(whole, end):
		return whole, -1
	}
	return whole, end
}

// recovered is where raft-wal would go on: after the last commit frame that it
// walks to, whose checksum it looks at only if no entry follows.
func (t walTail) recovered() int {
	before, last, entries := 0, 0, false
walk:
	for at := walHeader; at+walFrame <= len(t.b); {
		value := binary.LittleEndian.Uint32(t.b[at+4:])
		switch t.b[at] {
		case walEntry, walIndex:
			entries = entries || t.b[at] == walEntry
			at += walFrame + (int(value)+walFrame-1)/walFrame*walFrame
			continue
		case walCommit:
			at += walFrame
			before, last, entries = last, at, false
			continue
		}
		break walk
	}
	if last > 0 && !entries && crc32.Checksum(t.b[before:last-walFrame], castagnoli) != binary.LittleEndian.Uint32(t.b[last-4:]) {
		return before
	}
	return last
}

// wholeBatches walks the batches whose frames and checksum are right.
func (t walTail) wholeBatches() (end int) {
	start, at := 0, walHeader
	for at+walFrame <= len(t.b) {
		value := binary.LittleEndian.Uint32(t.b[at+4:])
		switch t.b[at] {
		case walEntry, walIndex:
			if value > segment.MaxEntrySize {
				return start
			}
			at += walFrame + (int(value)+walFrame-1)/walFrame*walFrame
		case walCommit:
			if crc32.Checksum(t.b[start:at], castagnoli) != value {
				return start
			}
			at += walFrame
			start = at
		default:
			return start
		}
	}
	return start
}

// commitAt says whether there may be a commit frame, and what it has. One whose
// header has a wrong bit is none.
func (t walTail) commitAt(at int) (sum uint32, wrong int) {
	tag := binary.LittleEndian.Uint32(t.b[at:])
	return binary.LittleEndian.Uint32(t.b[at+4:]), bits.OnesCount32(tag ^ walCommit)
}

// laterCommit finds a whole batch in [from, end): a commit frame that is right
// for what lies between another one and itself, or itself wrong by a bit after a
// batch that is right. raft-wal writes a batch only after the one before it is on
// the disk.
func (t walTail) laterCommit(from, end int) bool {
	var starts []int
	running := uint32(0)
	for at := from; at < end && at+walFrame <= len(t.b); at += walFrame {
		if sum, wrong := t.commitAt(at); wrong <= 1 && at > from {
			if running == sum {
				return true
			}
			for _, start := range starts[max(0, len(starts)-walLookBack):] {
				if wrong == 0 && crc32.Checksum(t.b[start:at], castagnoli) == sum {
					return true
				}
			}
			if wrong == 0 {
				starts = append(starts, at+walFrame)
			}
		}
		running = crc32.Update(running, castagnoli, t.b[at:at+walFrame])
	}
	return false
}

// lastIsWhole says whether the last batch in [from, end) was written whole: it
// ends with a commit frame, and no sector of it is missing. Then what is wrong in
// it is no torn write. A disk may leave out sectors of a batch, which are zeros
// then; it does not tear a sector. (A payload with a sector of zeros would hide
// the damage; statements are signatures and text.)
func (t walTail) lastIsWhole(from, end int) bool {
	end = (end + walFrame - 1) / walFrame * walFrame
	least := from + 2*walFrame // an entry and the commit
	if from == 0 {
		least += walHeader
	}
	if end > len(t.b) || end < least {
		return false // the file ends within it
	}
	if _, wrong := t.commitAt(end - walFrame); wrong > 0 {
		return false
	}
	for at := from; at < end; {
		next := min((at/walSector+1)*walSector, end)
		if allZero(t.b[at:next]) {
			return false
		}
		at = next
	}
	return true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
