package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// faultFS is a file system in memory that can fail or die at any operation, and then shows what a disk
// might hold after the power went.
//
// Its model: the content of a file is durable as of its last fsync, a name as of the last fsync of its
// folder. What is not durable may be there after a crash or not, each operation by itself; of bytes that
// were appended and not fsynced any prefix may be there, or sectors of them may be zero. A rename is
// atomic. An fsync that fails leaves the data readable, clean and not durable: a later fsync of the same
// file succeeds and changes nothing (as Linux does).
type faultFS struct {
	mu     sync.Mutex
	root   *inode
	ops    []*nameOp // since the beginning, in order
	count  int       // operations so far
	fault  fault
	full   bool // after left more writes, there is no space
	left   int
	dead   bool
	locked map[string]bool
	trace  []string
}

// fault is what happens at the operation with number at, counted from 1.
type fault struct {
	at   int
	kind faultKind
}

type faultKind int

const (
	dieBefore  faultKind = iota // the process dies, the operation is not done
	dieAfter                    // it is done, and the process dies
	failUndone                  // it gives an error; of a write, half is done
	failDone                    // it gives an error and is done all the same
)

var faultKinds = []faultKind{dieBefore, dieAfter, failUndone, failDone}

func (k faultKind) String() string {
	return [...]string{"dies before", "dies after", "fails", "fails but done"}[k]
}

// inode is a file or a folder.
type inode struct {
	children map[string]*inode // of a folder
	data     []byte
	durable  int // bytes of data that survive a crash
	clean    int // bytes of data that no later fsync will write: lost by one that failed
}

// nameOp changes names: it takes one away, gives one, or both.
type nameOp struct {
	fromDir, toDir   *inode
	fromName, toName string
	node             *inode
	durable          bool
}

var (
	errDead  = errors.New("the process is dead")
	errFault = syscall.ENOSPC
)

func newFaultFS() *faultFS {
	return &faultFS{root: newFolder(), locked: make(map[string]bool)}
}

func newFolder() *inode { return &inode{children: make(map[string]*inode)} }

// step counts an operation and says whether to do it and what to return.
func (f *faultFS) step(what string) (do bool, err error) {
	if f.dead {
		return false, errDead
	}
	f.count++
	f.trace = append(f.trace, what)
	if f.full && strings.HasPrefix(what, "write") {
		if f.left--; f.left < 0 {
			return false, errFault
		}
	}
	if f.count != f.fault.at {
		return true, nil
	}
	switch f.fault.kind {
	case dieBefore:
		f.dead = true
		return false, errDead
	case dieAfter:
		f.dead = true
		return true, errDead
	case failUndone:
		return false, errFault
	default:
		return true, errFault
	}
}

func split(name string) []string {
	return strings.FieldsFunc(filepath.ToSlash(filepath.Clean(name)), func(r rune) bool { return r == '/' || r == '.' && name == "." })
}

// find walks to a name; nil when it is not there.
func (f *faultFS) find(name string) *inode {
	at := f.root
	for _, part := range split(name) {
		if at == nil || at.children == nil {
			return nil
		}
		at = at.children[part]
	}
	return at
}

func (f *faultFS) parent(name string) (*inode, string) {
	return f.find(filepath.Dir(name)), filepath.Base(name)
}

func missing(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (op *nameOp) apply() {
	if op.fromDir != nil {
		delete(op.fromDir.children, op.fromName)
	}
	if op.toDir != nil {
		op.toDir.children[op.toName] = op.node
	}
}

func (f *faultFS) do(op *nameOp) {
	op.apply()
	f.ops = append(f.ops, op)
}

func (f *faultFS) ReadFile(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, errDead
	}
	n := f.find(name)
	if n == nil || n.children != nil {
		return nil, missing("read", name)
	}
	return bytes.Clone(n.data), nil
}

func (f *faultFS) ReadDir(name string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, errDead
	}
	n := f.find(name)
	if n == nil || n.children == nil {
		return nil, missing("readdir", name)
	}
	return slices.Sorted(maps.Keys(n.children)), nil
}

func (f *faultFS) Create(name string) (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base := f.parent(name)
	if dir == nil {
		return nil, missing("create", name)
	}
	do, err := f.step("create " + name)
	n := &inode{}
	if do {
		f.do(&nameOp{toDir: dir, toName: base, node: n})
	}
	if err != nil {
		return nil, err
	}
	return &faultFile{f, n, name}, nil
}

func (f *faultFS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fromDir, fromName := f.parent(from)
	toDir, toName := f.parent(to)
	if f.find(from) == nil || toDir == nil {
		return missing("rename", from)
	}
	do, err := f.step("rename " + to)
	if do {
		f.do(&nameOp{fromDir, toDir, fromName, toName, f.find(from), false})
	}
	return err
}

func (f *faultFS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.find(name) == nil {
		return missing("remove", name)
	}
	do, err := f.step("remove " + name)
	if do {
		dir, base := f.parent(name)
		f.do(&nameOp{fromDir: dir, fromName: base})
	}
	return err
}

// RemoveAll removes each name by itself, so that a crash may leave any of them.
func (f *faultFS) RemoveAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.find(name)
	if n == nil {
		return nil
	}
	do, err := f.step("remove all " + name)
	if do {
		dir, base := f.parent(name)
		f.removeAll(dir, base)
	}
	return err
}

func (f *faultFS) removeAll(dir *inode, name string) {
	n := dir.children[name]
	for _, child := range slices.Sorted(maps.Keys(n.children)) {
		f.removeAll(n, child)
	}
	f.do(&nameOp{fromDir: dir, fromName: name})
}

func (f *faultFS) MkdirAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return errDead
	}
	at := f.root
	for _, part := range split(name) {
		next := at.children[part]
		if next == nil {
			do, err := f.step("mkdir " + name)
			next = newFolder()
			if do {
				f.do(&nameOp{toDir: at, toName: part, node: next})
			}
			if err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

func (f *faultFS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir := f.find(name)
	if dir == nil {
		return missing("syncdir", name)
	}
	do, err := f.step("syncdir " + name)
	if do {
		for _, op := range f.ops {
			if op.fromDir == dir || op.toDir == dir {
				op.durable = true
			}
		}
	}
	return err
}

func (f *faultFS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, errDead
	}
	if f.locked[name] {
		return nil, fmt.Errorf("%s is locked", name)
	}
	f.locked[name] = true
	return closerFunc(func() { delete(f.locked, name) }), nil
}

type closerFunc func()

func (c closerFunc) Close() error { c(); return nil }

// faultFile is one that is being written.
type faultFile struct {
	fs   *faultFS
	node *inode
	name string
}

func (f *faultFile) Write(b []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	do, err := f.fs.step(fmt.Sprintf("write %d to %s", len(b), f.name))
	n := len(b)
	if !do {
		if n = 0; !f.fs.dead {
			n = len(b) / 2 // a disk that fills up takes a part
		}
	}
	f.node.data = append(f.node.data, b[:n]...)
	return n, err
}

func (f *faultFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	do, err := f.fs.step("fsync " + f.name)
	switch {
	case do && f.node.clean == f.node.durable:
		f.node.durable = len(f.node.data)
		f.node.clean = f.node.durable
	default:
		f.node.clean = len(f.node.data)
	}
	return err
}

func (f *faultFile) Close() error { return nil }

// aftermath is what is left of what was not durable.
type aftermath int

const (
	nothingLost   aftermath = iota // the process is started anew, the machine went on
	allPersisted                   // power went, everything had reached the disk
	nonePersisted                  // nothing that was not fsynced
	tornWrites                     // names all; of bytes, a part
	zeroSectors                    // names all; of bytes, some sectors are zeros
	anythingHolds                  // each name and each write by chance
)

var aftermaths = []aftermath{nothingLost, allPersisted, nonePersisted, tornWrites, zeroSectors, anythingHolds}

func (a aftermath) String() string {
	return [...]string{"nothing lost", "all persisted", "none persisted", "torn writes", "zero sectors", "chance"}[a]
}

// reboot is the file system as the next process finds it.
func (f *faultFS) reboot(after aftermath, rng *rand.Rand) *faultFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := newFaultFS()
	if after == nothingLost { // the page cache goes on, with what it believes to be clean
		g.root, g.ops = f.root, f.ops
		return g
	}
	image := map[*inode]*inode{f.root: g.root}
	copied := func(n *inode) *inode {
		if n == nil {
			return nil
		}
		if image[n] == nil {
			image[n] = n.afterCrash(after, rng)
		}
		return image[n]
	}
	for _, op := range f.ops {
		holds := op.durable || (after != nonePersisted && (after != anythingHolds || rng.IntN(2) == 0))
		if holds {
			survivor := *op
			survivor.fromDir, survivor.toDir, survivor.node = copied(op.fromDir), copied(op.toDir), copied(op.node)
			survivor.durable = true
			g.do(&survivor)
		}
	}
	return g
}

// afterCrash is an inode on the disk after the power went; a folder is filled by the operations.
func (n *inode) afterCrash(after aftermath, rng *rand.Rand) *inode {
	if n.children != nil {
		return newFolder()
	}
	data := bytes.Clone(n.data)
	loose := len(data) - n.durable
	if after == anythingHolds {
		after = []aftermath{allPersisted, nonePersisted, tornWrites, zeroSectors}[rng.IntN(4)]
	}
	switch {
	case after == nonePersisted:
		data = data[:n.durable]
	case after == tornWrites && loose > 0:
		data = data[:n.durable+rng.IntN(loose)]
	case after == zeroSectors && loose > 0:
		for i := n.durable; i < len(data); {
			next := min(i-i%tornSectorBytes+tornSectorBytes, len(data))
			if rng.IntN(2) == 0 {
				clear(data[i:next])
			}
			i = next
		}
	}
	return &inode{data: data, durable: len(data), clean: len(data)}
}

// names lists all files.
func (f *faultFS) names() []string {
	var list []string
	var walk func(prefix string, n *inode)
	walk = func(prefix string, n *inode) {
		for name, child := range n.children {
			if child.children != nil {
				walk(prefix+name+"/", child)
			} else {
				list = append(list, prefix+name)
			}
		}
	}
	walk("", f.root)
	slices.Sort(list)
	return list
}
