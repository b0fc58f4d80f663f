package replica

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// What a recovered replica starts from, written beside the data that it replaces.

// prepare writes everything that the recovered replica starts from, beside the
// data that it replaces. Whatever an earlier attempt left is written anew.
func (d *data) prepare(o RecoverOptions, folder string, body ledger.Recover, statements []*ledger.Statement, sealed *sealedState) ([]*ledger.Statement, error) {
	path := d.files.path(folder)
	if err := d.clear(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	dropped, err := d.dropped(o, body.Head.Size, statements)
	if err != nil {
		return nil, err
	}
	for name, list := range map[string][]*ledger.Statement{"recover.cose": statements, "dropped.cose": dropped} {
		var b []byte
		for _, s := range list {
			b = append(b, s.Envelope...)
		}
		if err := d.files.replace(filepath.Join(folder, name), b); err != nil {
			return nil, err
		}
	}
	if err := d.files.replace(filepath.Join(folder, certifiedFile), d.note); err != nil {
		return nil, err
	}
	for i, raw := range d.links {
		if have, err := d.files.read(linkName(uint64(i) + 1)); err != nil || have == nil {
			if err := d.files.replace(linkName(uint64(i)+1), raw); err != nil {
				return nil, err
			}
		}
	}
	if d.archive.Size() > body.Head.Size {
		if err := d.copyArchive(filepath.Join(path, archiveDir+newSuffix), body.Head.Size); err != nil {
			return nil, err
		}
	}
	if err := d.writeRaft(o, filepath.Join(path, raftDir+newSuffix), body, statements, sealed); err != nil {
		return nil, err
	}
	return dropped, errors.Join(syncDir(path), syncDir(filepath.Dir(path)), syncDir(d.files.dir))
}

// clear makes room for a recovery's folder. One that holds what was set aside, by
// the same statements before others were applied, is kept under another name.
func (d *data) clear(path string) error {
	aside, err := filepath.Glob(path + "/*" + oldSuffix)
	if err != nil || len(aside) == 0 {
		return errors.Join(err, os.RemoveAll(path))
	}
	for n := 1; ; n++ {
		kept := fmt.Sprintf("%s.%d", path, n)
		if _, err := os.Stat(kept); errors.Is(err, os.ErrNotExist) {
			return os.Rename(path, kept)
		} else if err != nil {
			return err
		}
	}
}

// copyArchive writes a history that ends at size.
func (d *data) copyArchive(dir string, size uint64) (err error) {
	to, err := archive.Open(dir, archive.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	err = d.archive.Entries(0, size, func(seq uint64, entry []byte) error {
		if seq%recoverProgress == 0 {
			if _, err := to.Sync(); err != nil {
				return err
			}
		}
		return to.Append(seq, entry)
	})
	if err != nil {
		return err
	}
	whole, err := to.Sync()
	if err == nil && whole != size {
		err = fmt.Errorf("the copy of the history ends at %d of %d", whole, size)
	}
	if err != nil {
		return err
	}
	root, err := to.TreeHash(size)
	if err == nil && ledger.Hash(root) != d.certified.Head.Root {
		err = errors.New("the copy of the history has another root")
	}
	return err
}

// writeRaft makes Raft's folder anew: no log, and a snapshot of the state at the
// head with the recovery as the one command since, the replicas that stay being
// its voters. It is the same on each of them, so it is as if all had been
// bootstrapped with it.
func (d *data) writeRaft(o RecoverOptions, dir string, body ledger.Recover, statements []*ledger.Statement, sealed *sealedState) error {
	var servers []raft.Server
	for _, name := range body.Keep {
		one, ok := sealed.state.Replica(name)
		if !ok {
			return fmt.Errorf("there is no replica %s", name)
		}
		server := raft.Server{ID: serverOf(one), Address: raft.ServerAddress(one.Peer)}
		if one.Standing != fsm.ReplicaActive {
			server.Suffrage = raft.Nonvoter
		}
		servers = append(servers, server)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, newRaftLogger(o.Logger, "snapshots"))
	if err != nil {
		return err
	}
	_, transport := raft.NewInmemTransport("")
	defer transport.Close()
	sink, err := store.Create(raft.SnapshotVersionMax, 1, 1, raft.Configuration{Servers: servers}, 1, transport)
	if err != nil {
		return err
	}
	links := func(index uint64) ([][]byte, error) {
		if index > uint64(len(d.links)) {
			return nil, fmt.Errorf("authority link %d is not here", index)
		}
		return d.links[:index], nil
	}
	s := &snapshot{shell: &shell{genesis: d.genesis, hooks: shellHooks{links: links}, archive: d.archive}, sealed: sealed,
		checkpoint: d.note, commands: [][]byte{recoveryCommand(body, statements).Encode()}}
	if err := s.Persist(sink); err != nil {
		return err
	}
	if err := proveWritten(store, sink.ID(), d); err != nil {
		return err
	}
	// Raft does not fsync the folder that its snapshots are in.
	return errors.Join(syncDir(filepath.Join(dir, snapshotsDir)), syncDir(dir))
}

// proveWritten reads the snapshot back and proves it as a start does.
func proveWritten(store raft.SnapshotStore, id string, d *data) error {
	_, from, err := store.Open(id)
	if err != nil {
		return err
	}
	defer from.Close()
	content, err := readSnapshot(io.Reader(from), 1<<62)
	if err != nil {
		return err
	}
	_, err = content.prove(d.entry0, d.genesis)
	return err
}
