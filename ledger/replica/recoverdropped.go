package replica

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
	"github.com/quorate/quorate/ledger"
)

// What a recovery drops: statements beyond the head, kept for whoever signed them.

// dropped lists the statements that this replica has and the branch has not:
// those of the history beyond the head, and those that stand in Raft's log alone,
// committed or not.
func (d *data) dropped(o RecoverOptions, size uint64, statements []*ledger.Statement) ([]*ledger.Statement, error) {
	list, err := d.tail(size)
	if err != nil {
		return nil, err
	}
	known := map[ledger.Hash]bool{}
	for _, s := range slices.Concat(list, statements) {
		known[s.ID] = true
	}
	list = slices.DeleteFunc(list, func(s *ledger.Statement) bool {
		return slices.ContainsFunc(statements, func(one *ledger.Statement) bool { return one.ID == s.ID })
	})
	logged, err := loggedStatements(o)
	var damage *FileError
	if errors.As(err, &damage) {
		o.Logger.Warn("raft's log is damaged: statements that stand in it alone are not listed", "error", err)
		return list, nil
	}
	if err != nil || len(logged) == 0 {
		return list, err
	}
	err = d.archive.Entries(1, size, func(_ uint64, entry []byte) error {
		e, err := ledger.ParseEntry(entry)
		if err != nil || e.Kind != ledger.KindStatement {
			return err
		}
		s, err := ledger.ParseStatement(e.Content)
		if err == nil {
			known[s.ID] = true
		}
		return err
	})
	for _, s := range logged {
		if !known[s.ID] {
			known[s.ID] = true
			list = append(list, s)
		}
	}
	return list, err
}

// loggedStatements are those of every command in Raft's log.
func loggedStatements(o RecoverOptions) ([]*ledger.Statement, error) {
	cfg := Config{Dir: o.Dir, LogStore: o.LogStore, Logger: o.Logger}
	cfg.Limits, cfg.Raft = cfg.Limits.withDefaults(), cfg.Raft.withDefaults()
	if _, err := os.Stat(filepath.Join(o.Dir, raftDir)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	store, err := openLogStore(&cfg, o.Logger)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	first, err := store.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := store.LastIndex()
	if err != nil {
		return nil, err
	}
	var list []*ledger.Statement
	for index := max(first, 1); index <= last; index++ {
		var entry raft.Log
		if err := store.GetLog(index, &entry); errors.Is(err, raft.ErrLogNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		command, err := ledger.ParseCommand(entry.Data)
		if entry.Type != raft.LogCommand || err != nil {
			continue
		}
		for _, envelope := range command.Statements {
			if s, err := ledger.ParseStatement(envelope); err == nil {
				list = append(list, s)
			}
		}
	}
	return list, nil
}
