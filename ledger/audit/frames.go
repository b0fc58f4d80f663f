package audit

import (
	"errors"
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"
)

// errNotFramed says that an archive is not as Export writes it, or that it is
// bad: unpack reads it, and says what is wrong.
var errNotFramed = errors.New("the archive is not in frames")

// frames are the zstd frames of an archive, found without unzipping them. It is
// safe for concurrent use.
type frames struct {
	file *os.File
	at   []span
	zip  *zstd.Decoder
}

type span struct {
	offset, length int64
	unzipped       int64 // at most
}

func readFrames(f *os.File, size int64) (*frames, error) {
	x := &frames{file: f}
	for offset := int64(0); offset < size; {
		s, err := readSpan(f, offset, size)
		if err != nil {
			return nil, err
		}
		if s.unzipped > maxFrameBytes {
			return nil, fmt.Errorf("%w: one is too large", errNotFramed)
		}
		if x.at = append(x.at, s); int64(len(x.at)) > framesBeside+size/bytesAFrame {
			return nil, fmt.Errorf("%w: there are too many", errNotFramed)
		}
		offset += s.length
	}
	var err error
	x.zip, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxFrameBytes), zstd.WithDecoderMaxWindow(maxDecoderWindow))
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return x, nil
}

// readSpan goes from block to block of the frame at offset (RFC 8878 section
// 3.1.1). What a compressed block unzips to is bounded by the format.
func readSpan(f *os.File, offset, size int64) (span, error) {
	const maxBlock, blockHead = 128 << 10, 3
	var buffer [zstd.HeaderMaxSize]byte
	var head zstd.Header
	n, _ := f.ReadAt(buffer[:], offset) // what is missing is found below
	if err := head.Decode(buffer[:n]); err != nil || head.Skippable || head.DictionaryID != 0 {
		return span{}, fmt.Errorf("%w: no frame begins at byte %d", errNotFramed, offset)
	}
	s := span{offset: offset}
	for at := offset + int64(head.HeaderSize); ; {
		if n, _ := f.ReadAt(buffer[:blockHead], at); n < blockHead {
			return span{}, fmt.Errorf("%w: it is cut", errNotFramed)
		}
		block := int64(buffer[0]) | int64(buffer[1])<<8 | int64(buffer[2])<<16
		last, kind, length := block&1 == 1, block>>1&3, block>>3
		at += blockHead
		switch kind {
		case 0: // raw
			at, s.unzipped = at+length, s.unzipped+length
		case 1: // one byte, repeated
			at, s.unzipped = at+1, s.unzipped+length
		default:
			at, s.unzipped = at+length, s.unzipped+maxBlock
		}
		if last {
			if head.HasCheckSum {
				at += 4
			}
			s.length = at - offset
			if at > size {
				return span{}, fmt.Errorf("%w: it is cut", errNotFramed)
			}
			return s, nil
		}
		if s.unzipped > maxFrameBytes || at > size {
			return span{}, fmt.Errorf("%w: one is too large", errNotFramed)
		}
	}
}

// unzip gives frame n, over what the buffers held: zipped, and unzipped.
func (x *frames) unzip(n int, zipped, out []byte) (_, _ []byte, err error) {
	s := x.at[n]
	if int64(cap(zipped)) < s.length {
		zipped = make([]byte, s.length+s.length/8)
	}
	zipped = zipped[:s.length]
	if _, err := x.file.ReadAt(zipped, s.offset); err != nil {
		return zipped, out, fmt.Errorf("read the archive: %w", err)
	}
	out, err = x.zip.DecodeAll(zipped, out[:0])
	if err != nil {
		return zipped, out, fmt.Errorf("%w: %w", errNotFramed, err)
	}
	return zipped, out, nil
}

func (x *frames) close() { x.zip.Close() }
