package main

import (
	"errors"
	"os"
	"path/filepath"
)

// madeFiles are the files and directories that a command has made so far: it leaves all
// of them or none.
type madeFiles struct {
	dirs  []string // the innermost first
	files []string
	trees []string // directories that it made, with all that is put into them
}

// mkdir makes a directory and those above it.
func (m *madeFiles) mkdir(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		m.dirs = append(m.dirs, at)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return wrongFile("name a directory that can be written", "make %s: %w", dir, causeOf(err))
	}
	return nil
}

// mktree makes a directory that must not be there, to be taken back with all in it.
func (m *madeFiles) mktree(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return wrongFile("name a directory that can be written", "make %s: %w", dir, causeOf(err))
	}
	m.trees = append(m.trees, dir)
	return nil
}

// add has write make a new file.
func (m *madeFiles) add(path string, write func(path string) error) error {
	err := write(path)
	if err == nil {
		m.files = append(m.files, path)
	}
	return err
}

// remove takes all of it back. Directories go as far as they are empty: others may have
// put something there meanwhile.
func (m *madeFiles) remove() (err error) {
	for _, path := range m.files {
		err = errors.Join(err, os.Remove(path))
	}
	for _, dir := range m.trees {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	for _, dir := range m.dirs {
		_ = os.Remove(dir)
	}
	return err
}
