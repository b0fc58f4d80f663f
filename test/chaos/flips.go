package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// flipKinds are the files of a replica that a bit may flip in, by path in its
// data directory. Raft's log and the folders of tiles and snapshots are as deep
// as they happen to be.
var flipKinds = []struct {
	name string
	path *regexp.Regexp
}{
	{"bundle", regexp.MustCompile(`^archive/tile/entries/`)},
	{"tile", regexp.MustCompile(`^archive/tile/\d+/`)},
	{"tail", regexp.MustCompile(`^archive/tail$`)},
	{"log", regexp.MustCompile(`^raft/(log\.db|wal)`)},
	{"snapshot", regexp.MustCompile(`^raft/snapshots/[^/]+/state\.bin$`)},
	{"snapshot-meta", regexp.MustCompile(`^raft/snapshots/[^/]+/meta\.`)},
	{"head", regexp.MustCompile(`^head$`)},
	{"certified", regexp.MustCompile(`^certified$`)},
	{"link", regexp.MustCompile(`^authority/`)},
	{"handover", regexp.MustCompile(`^handover/`)},
	{"log-key", regexp.MustCompile(`^logkey`)},
}

// flipsAtOnce is how many kinds one bit-flip nemesis draws, one after another.
const flipsAtOnce = 4

// flipDeck deals kinds so that all come up before one comes up again.
type flipDeck map[string]int // times drawn

// deal draws, of the files of a data directory, one of a kind that was drawn
// least.
func (d flipDeck) deal(dir string, chance *rand.Rand) (kind, path string, err error) {
	found := map[string][]string{}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		in, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		for _, k := range flipKinds {
			if k.path.MatchString(filepath.ToSlash(in)) {
				found[k.name] = append(found[k.name], path)
			}
		}
		return nil
	})
	if err != nil {
		return "", "", err
	}
	var least []string
	for _, k := range flipKinds { // in order, so that the seed decides
		switch {
		case len(found[k.name]) == 0:
		case len(least) == 0 || d[k.name] < d[least[0]]:
			least = []string{k.name}
		case d[k.name] == d[least[0]]:
			least = append(least, k.name)
		}
	}
	if len(least) == 0 {
		return "", "", fmt.Errorf("%s has no file that a bit could flip in", dir)
	}
	kind = least[chance.IntN(len(least))]
	d[kind]++
	return kind, found[kind][chance.IntN(len(found[kind]))], nil
}

// String lists the kinds that were drawn.
func (d flipDeck) String() string {
	var list []string
	for _, k := range flipKinds {
		if n := d[k.name]; n > 0 {
			list = append(list, fmt.Sprintf("%s %d", k.name, n))
		}
	}
	return fmt.Sprintf("%d of %d kinds so far (%s)", len(list), len(flipKinds), strings.Join(list, ", "))
}

// bitFlip: damage is noticed and never served.
func bitFlip(ctx context.Context, h *harm) error {
	members := slices.Clone(h.members)
	h.chance.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	for i := range flipsAtOnce {
		m := members[i%len(members)]
		if err := h.flipOne(ctx, m); err != nil {
			return err
		}
		// One at a time: the others repair it.
		if err := h.awaitReady(ctx, m); err != nil {
			return err
		}
	}
	h.note("%s", h.flips)
	return nil
}

// flipOne flips a bit on the disk of one member, and leaves the member running.
func (h *harm) flipOne(ctx context.Context, m *member) error {
	// Snapshots are rare in a short run: one to flip a bit in. Failing, there is none.
	_, _ = h.quorate("operator", "snapshot", "--socket", m.socket())
	if err := m.kill(); err != nil {
		return err
	}
	kind, path, err := h.flips.deal(m.dir, h.chance)
	if err != nil {
		return err
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	damaged := bytes.Clone(whole)
	damaged[h.chance.IntN(len(whole))] ^= 1 << h.chance.IntN(8)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		return err
	}
	if err := h.start(m); err != nil {
		return err
	}
	well, err := h.wellOrEnded(ctx, m)
	if err != nil {
		return fmt.Errorf("a bit of %s: %w", kind, err)
	}
	if m.running() {
		if err := h.neverWrong(ctx, m); err != nil {
			return fmt.Errorf("a bit of %s: %w", kind, err)
		}
	}
	if err := m.kill(); err != nil {
		return err
	}
	h.note("%s of %s: %s", kind, m.name, map[bool]string{true: "well", false: "refused"}[well])
	// What was not repaired from the others is put right by hand, as an operator
	// does who restores the sector.
	now, err := os.ReadFile(path)
	if err != nil || !well && !bytes.Equal(now, whole) {
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			return err
		}
	}
	return h.start(m)
}
