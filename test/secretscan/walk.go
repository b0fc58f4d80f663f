package secretscan

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Report is what a scan saw.
type Report struct {
	Files    int   // read
	Unpacked int   // streams and members within them
	Bytes    int64 // looked at, what was unpacked too
	Found    []Found
	Own      []Found  // where they may stand; a scan that does not find a secret there is blind
	Cores    []string // files by whose names systems keep what a process had in memory
}

// core are those names.
var core = regexp.MustCompile(`^(vg)?core(\.[0-9]+|dump)?$|\.core$`)

// Folder scans every regular file below a folder. A file that cannot be read is
// an error: what was not looked at is not clean.
func (s *Scanner) Folder(dir string) (*Report, error) {
	r := &Report{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		r.Files++
		if core.MatchString(entry.Name()) {
			r.Cores = append(r.Cores, name)
		}
		if err := s.stream(r, file, name, name, 0); err != nil {
			return fmt.Errorf("scan %s: %w", path, err)
		}
		return nil
	})
	if err == nil && r.Files == 0 {
		err = fmt.Errorf("scan %s: there is no file", dir)
	}
	return r, err
}

// Stream scans one stream by name.
func (s *Scanner) Stream(r *Report, in io.Reader, name string) error {
	return s.stream(r, in, name, name, 0)
}

// stream scans bytes as they are and, where they are compressed or an archive,
// what is in them. own is the file's name, by which secrets have a home.
func (s *Scanner) stream(r *Report, in io.Reader, name, own string, depth int) error {
	buffered := bufio.NewReaderSize(in, windowBytes)
	head, err := buffered.Peek(tarHead)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	unpack := unpackerOf(head)
	if unpack == nil || depth >= maxDepth {
		return s.raw(r, buffered, name, own)
	}
	// Both as it is and as what it holds, from one reading.
	pipeIn, pipeOut := io.Pipe()
	done := make(chan error, 1)
	inner := &Report{}
	go func() {
		err := unpack(s, inner, pipeIn, name, own, depth+1)
		// What follows a damaged or finished stream is still read as bytes.
		_, _ = io.Copy(io.Discard, pipeIn)
		done <- err
	}()
	err = s.raw(r, io.TeeReader(buffered, pipeOut), name, own)
	_ = pipeOut.CloseWithError(err)
	// A stream that does not unpack is no archive, or was cut: its bytes were looked at.
	<-done
	r.Unpacked += inner.Unpacked
	r.Bytes += inner.Bytes
	r.Found = append(r.Found, inner.Found...)
	r.Own = append(r.Own, inner.Own...)
	return err
}

type unpacker func(s *Scanner, r *Report, in io.Reader, name, own string, depth int) error

// unpackerOf says how to unpack what begins like this; nil: it is plain.
func unpackerOf(head []byte) unpacker {
	switch {
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return unzstd
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gunzip
	case len(head) >= tarHead && bytes.Equal(head[257:262], []byte("ustar")):
		return untar
	}
	return nil
}

func unzstd(s *Scanner, r *Report, in io.Reader, name, own string, depth int) error {
	d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return err
	}
	defer d.Close()
	r.Unpacked++
	return s.stream(r, io.LimitReader(d, maxUnpacked), name+" (unpacked)", own, depth)
}

func gunzip(s *Scanner, r *Report, in io.Reader, name, own string, depth int) error {
	d, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	r.Unpacked++
	return s.stream(r, io.LimitReader(d, maxUnpacked), name+" (unpacked)", own, depth)
}

// untar scans the members apart: one of them may be compressed again. Their bytes
// as they stand in the archive are looked at by whoever unpacks.
func untar(s *Scanner, r *Report, in io.Reader, name, own string, depth int) error {
	t := tar.NewReader(in)
	for range maxMembers {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r.Unpacked++
		if err := s.stream(r, t, name+"/"+h.Name, own, depth); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d members", maxMembers)
}

// raw scans a stream's bytes as they are, and without their white space, a window at a
// time.
func (s *Scanner) raw(r *Report, in io.Reader, name, own string) error {
	plain, folded := s.window(), s.window()
	chunk, tight := make([]byte, windowBytes), make([]byte, 0, windowBytes)
	for {
		n, err := io.ReadFull(in, chunk)
		r.Bytes += int64(n)
		end := err != nil
		plain.take(chunk[:n], end, func(hit needle, at int64) { s.note(r, hit, name, own, at) })
		tight = tight[:0]
		for _, b := range chunk[:n] {
			if b != '\n' && b != ' ' && b != '\r' && b != '\t' {
				tight = append(tight, b)
			}
		}
		folded.take(tight, end, func(hit needle, at int64) {
			hit.encoding += ", with white space"
			s.note(r, hit, name, own, at)
		})
		if end {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
	}
}

// window is the end of a stream, as far as something may begin in it.
type window struct {
	*Scanner
	bytes []byte
	at    int64 // the place of its first byte
}

func (s *Scanner) window() *window {
	return &window{Scanner: s, bytes: make([]byte, 0, windowBytes+s.longest)}
}

// take searches the next bytes of the stream. Whatever begins in the last of them is
// looked for when they are followed.
func (w *window) take(next []byte, end bool, hit func(needle, int64)) {
	w.bytes = append(w.bytes, next...)
	keep := 0
	if !end {
		keep = min(w.longest-1, len(w.bytes))
	}
	w.search(w.bytes, func(n needle, at int) {
		if at < len(w.bytes)-keep {
			hit(n, w.at+int64(at))
		}
	})
	w.at += int64(len(w.bytes) - keep)
	w.bytes = w.bytes[:copy(w.bytes, w.bytes[len(w.bytes)-keep:])]
}

// note keeps a finding: the first of each secret in each file.
func (s *Scanner) note(r *Report, hit needle, name, own string, at int64) {
	secret := s.secrets[hit.secret]
	list := &r.Found
	if slices.Contains(secret.Own, own) {
		list = &r.Own
	}
	if !slices.ContainsFunc(*list, func(f Found) bool { return f.Secret == secret.Name && f.Path == name }) && len(*list) < maxFound {
		*list = append(*list, Found{Secret: secret.Name, Encoding: hit.encoding, Path: name, At: at})
	}
}
