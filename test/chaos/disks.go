package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/quorate/quorate/test/spacetest"
)

// Each replica has a disk of its own: ext4 in an image on a loop device. What a
// process wrote and did not fsync is then in the kernel's memory and not in the
// image, so a copy of the image is what a power cut leaves. commit=300 keeps the
// file system from writing on its own before the cut comes.

const diskBytes = 512 << 20 // sparse

func (m *member) image() string { return m.dir + ".img" }

// makeDisk makes a member's disk; no loop devices: it goes without, and what
// needs one is skipped.
func (c *cluster) makeDisk(m *member) error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	f, err := os.Create(m.image())
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskBytes), f.Close()); err != nil {
		return err
	}
	if err := spacetest.Tool("", "mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", m.image()); err != nil {
		return c.withoutDisks(err)
	}
	if err := m.mount(); err != nil {
		return c.withoutDisks(err)
	}
	m.mounted = true
	return nil
}

func (c *cluster) withoutDisks(why error) error {
	if c.noDisks == nil {
		fmt.Printf("chaos: no disks of their own for the replicas, so no power cut and no full disk: %v\n", why)
		c.noDisks = why
	}
	return nil
}

func (m *member) mount() error {
	return spacetest.Tool("", "mount", "-o", "loop,commit=300", m.image(), m.dir)
}

func (m *member) unmount() error {
	if !m.mounted {
		return nil
	}
	m.mounted = false
	return syscall.Unmount(m.dir, 0)
}

// cutPower ends the processes of members without warning, all at once, and
// gives their disks back as they were in that moment.
func (c *cluster) cutPower(members []*member) error {
	for _, m := range members {
		if err := m.signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := m.gone(); err != nil {
			return err
		}
		left := m.image() + ".left"
		if err := spacetest.Tool("", "cp", "--sparse=always", m.image(), left); err != nil {
			return err
		}
		if err := m.unmount(); err != nil {
			return err
		}
		if err := os.Rename(left, m.image()); err != nil {
			return err
		}
		if err := m.mount(); err != nil {
			return err
		}
		m.mounted = true
	}
	return nil
}

// fillName is the file that fills a disk.
const fillName = "fill"

// fill leaves no room on a member's disk.
func (m *member) fill() error {
	f, err := os.Create(filepath.Join(m.dir, fillName))
	if err != nil {
		return err
	}
	defer f.Close()
	var s syscall.Statfs_t
	if err := syscall.Statfs(m.dir, &s); err != nil {
		return err
	}
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(s.Bavail)*s.Bsize); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("fill the disk of %s: %w", m.name, err)
	}
	// What the estimate left.
	block := make([]byte, 4096)
	for {
		if _, err := f.Seek(0, 2); err != nil {
			return err
		}
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// drain makes room again.
func (m *member) drain() error {
	if err := os.Remove(filepath.Join(m.dir, fillName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
