package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// The sections of a snapshot (ledger/replica, snapshotfile.go).
const (
	sectionCheckpoint = 3
	sectionRecords    = 6
	sectionCommand    = 7
	sectionEnd        = 8
)

type section struct {
	kind    byte
	payload []byte
}

const snapshotMagic = "quosnap1"

func parseSnapshot(b []byte) ([]section, error) {
	if !bytes.HasPrefix(b, []byte(snapshotMagic)) {
		return nil, errors.New("no snapshot")
	}
	var list []section
	for b = b[len(snapshotMagic):]; len(b) >= 9; {
		n := int(binary.BigEndian.Uint32(b[1:]))
		if len(b) < 9+n {
			return nil, errors.New("snapshot ends early")
		}
		list = append(list, section{b[0], bytes.Clone(b[5 : 5+n])})
		b = b[9+n:]
	}
	return list, nil
}

func encodeSnapshot(list []section) []byte {
	b := []byte(snapshotMagic)
	for _, s := range list {
		begin := len(b)
		b = binary.BigEndian.AppendUint32(append(b, s.kind), uint32(len(s.payload)))
		b = append(b, s.payload...)
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[begin:], crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// keepSnapshot takes a snapshot now, for a later act to send.
func keepSnapshot(ctx context.Context, l *liar, _ url.Values) (string, error) {
	meta, state, err := l.takeSnapshot(ctx)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	l.kept, l.keptMeta = state, meta
	l.mu.Unlock()
	return fmt.Sprintf("kept one of index %d", meta.Index), nil
}

// takeSnapshot has the replica write a snapshot and reads it.
func (l *liar) takeSnapshot(ctx context.Context) (*raft.SnapshotMeta, []byte, error) {
	if err := l.replica.Snapshot(ctx); err != nil {
		return nil, nil, err
	}
	found, err := filepath.Glob(filepath.Join(l.settings.Dir, "raft", "snapshots", "*", "meta.json"))
	if err != nil || len(found) == 0 {
		return nil, nil, fmt.Errorf("no snapshot: %w", err)
	}
	slices.Sort(found) // names begin with term and index
	newest := found[len(found)-1]
	text, err := os.ReadFile(newest)
	if err != nil {
		return nil, nil, err
	}
	var meta raft.SnapshotMeta
	if err := json.Unmarshal(text, &meta); err != nil {
		return nil, nil, err
	}
	state, err := os.ReadFile(filepath.Join(filepath.Dir(newest), "state.bin"))
	return &meta, state, err
}

// sendSnapshot installs at every peer a snapshot as leader: ?as= says what is
// wrong with it, ?to= that one peer alone gets it.
func sendSnapshot(ctx context.Context, l *liar, q url.Values) (string, error) {
	meta, state, err := l.takeSnapshot(ctx)
	if err != nil {
		return "", err
	}
	status := l.replica.Status()
	index, term := meta.Index, meta.Term
	configuration, err := l.configuration(url.Values{})
	if err != nil {
		return "", err
	}
	switch as := q.Get("as"); as {
	case "state", "cosigners", "commands", "forged":
		if state, err = l.alter(state, as); err != nil {
			return "", err
		}
	case "true":
	case "old": // as it was, but said to be of now
		l.mu.Lock()
		state, index, term = l.kept, meta.Index+1, status.Term
		l.mu.Unlock()
	case "index": // true, but said to be of far ahead
		index, term = meta.Index+1<<40, status.Term
	case "garbage":
		configuration, _ = l.configuration(url.Values{"garbage": {"1"}})
		index = meta.Index + 1
	case "configuration": // true, but with another set of voters
		configuration, _ = l.configuration(url.Values{"remove": {"r3"}})
		index = meta.Index + 1
	default:
		return "", fmt.Errorf("no snapshot as %q", as)
	}
	header, err := l.header(l.settings.Name)
	if err != nil {
		return "", err
	}
	l.did("sent a snapshot: %s", q.Get("as"))
	return l.eachPeer(func(id raft.ServerID, target raft.ServerAddress) error {
		if to := q.Get("to"); to != "" && l.names[string(id)] != to {
			return errors.New("not sent")
		}
		var answer raft.InstallSnapshotResponse
		err := l.transport.GuardedTransport.InstallSnapshot(id, target, &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: raft.SnapshotVersionMax, Term: status.Term,
			LastLogIndex: index, LastLogTerm: term, Configuration: configuration, ConfigurationIndex: meta.ConfigurationIndex,
			Size: int64(len(state)),
		}, &answer, bytes.NewReader(state))
		if err == nil && !answer.Success {
			err = errors.New("not taken")
		}
		return err
	}), nil
}

// alter changes a snapshot and mends its checksums.
func (l *liar) alter(state []byte, as string) ([]byte, error) {
	sections, err := parseSnapshot(state)
	if err != nil {
		return nil, err
	}
	for i := range sections {
		s := &sections[i]
		switch {
		case as == "state" && s.kind == sectionRecords:
			// The quota of the policy becomes another.
			s.payload = bytes.Replace(s.payload, []byte(`"quota":65536`), []byte(`"quota":65537`), 1)
		case as == "cosigners" && s.kind == sectionCheckpoint:
			if s.payload, err = l.onlyOurs(s.payload); err != nil {
				return nil, err
			}
		case as == "forged" && s.kind == sectionCheckpoint:
			// The liar alone signs a head that it makes up.
			c, err := ledger.ParseCheckpoint(s.payload)
			if err != nil {
				return nil, err
			}
			s.payload = l.forge(c.Head.Size+1, otherRoot(c.Head.Root))
		}
	}
	if as == "commands" {
		// Commands after the seal are proven by nothing: one more.
		last := len(sections) - 1
		tick := (&ledger.Command{Kind: ledger.CommandTick, Stamp: 1}).Encode()
		end := section{sectionEnd, bytes.Clone(sections[last].payload)}
		count := end.payload[16:]
		binary.BigEndian.PutUint64(count, binary.BigEndian.Uint64(count)+1)
		sections = append(sections[:last:last], section{sectionCommand, tick}, end)
	}
	return encodeSnapshot(sections), nil
}

// onlyOurs leaves of a checkpoint's lines the liar's own.
func (l *liar) onlyOurs(note []byte) ([]byte, error) {
	c, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return nil, err
	}
	less := ledger.Checkpoint{Head: c.Head}
	for _, s := range c.Cosignatures {
		if s.Replica == l.settings.Name {
			less.Add(s)
		}
	}
	return less.Note(), nil
}

// forge is a checkpoint that the liar alone signs, in its own name.
func (l *liar) forge(size uint64, root ledger.Hash) []byte {
	c := ledger.Checkpoint{Head: ledger.Head{Origin: l.origin, Size: size, Root: root}}
	c.Add(l.sign(size, root, now()))
	return c.Note()
}
