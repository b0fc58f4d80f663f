package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// heads collects every checkpoint that an honest replica served or a client was
// shown, and every cosignature that an honest replica sent to the liar: with its
// own, the liar can make a certified head of two of those.
type heads struct {
	s *scene

	mu     sync.Mutex
	notes  map[string]string // by text: who showed it
	signed map[headName]map[string]bool

	archives []string // histories that honest replicas had before they were re-keyed
}

// headName is a head by what tells it apart.
type headName struct {
	size uint64
	root string
}

// tally counts what was compared.
type tally struct {
	certified, assembled, refused int // heads
	pairs, inconsistent           int
}

func (t *tally) add(o tally) {
	t.certified += o.certified
	t.assembled += o.assembled
	t.refused += o.refused
	t.pairs += o.pairs
	t.inconsistent += o.inconsistent
}

func (t tally) String() string {
	return fmt.Sprintf("%d certified ones seen, %d more that the liar could have assembled, %d shown that are not certified; %d pairs, %d inconsistent",
		t.certified, t.assembled, t.refused, t.pairs, t.inconsistent)
}

func newHeads(s *scene) *heads {
	return &heads{s: s, notes: map[string]string{}, signed: map[headName]map[string]bool{}}
}

// add keeps a checkpoint.
func (h *heads) add(note []byte, who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.notes[string(note)]; !ok && len(h.notes) < maxHeads {
		h.notes[string(note)] = who
	}
}

// watch asks every honest replica for its checkpoint until ctx ends.
func (h *heads) watch(ctx context.Context) {
	for ctx.Err() == nil {
		for _, m := range h.s.honest() {
			if note, err := h.s.Get(ctx, m.url()+"/checkpoint"); err == nil {
				h.add(note, m.name)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollHeads):
		}
	}
}

// hear asks the liar which cosignatures it has been sent; before it is killed,
// or they are lost.
func (h *heads) hear(ctx context.Context) {
	if !h.s.liar().running() {
		return
	}
	var heard []struct {
		Replica, Root string
		Size          uint64
	}
	if err := h.s.tell(ctx, "GET", "/heard", nil, &heard); err != nil {
		h.s.Fail("ask the liar what it heard: %v", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range heard {
		name := headName{c.Size, c.Root}
		if h.signed[name] == nil {
			h.signed[name] = map[string]bool{}
		}
		h.signed[name][c.Replica] = true
	}
}

// compare verifies what was collected and compares every pair, by the histories
// on the disks of the honest replicas, which have stopped.
func (h *heads) compare() tally {
	var t tally
	chain, err := h.chain()
	if err != nil {
		h.s.Fail("read the authority chain: %v", err)
		return t
	}
	found := map[headName]bool{}
	for note, who := range h.notes {
		checkpoint, err := chain.VerifyCheckpoint([]byte(note))
		if err != nil {
			t.refused++
			for _, m := range h.s.honest() {
				if m.name == who {
					h.s.Fail("%s served a checkpoint that does not verify: %v", who, err)
				}
			}
			continue
		}
		name := headName{checkpoint.Head.Size, checkpoint.Head.Root.String()}
		if !found[name] {
			found[name] = true
			t.certified++
		}
	}
	if t.certified == 0 {
		h.s.Fail("no certified head was seen: nothing was compared")
	}
	for name, by := range h.signed {
		honest := 0
		for _, m := range h.s.honest() {
			if by[m.name] {
				honest++
			}
		}
		if honest >= ledger.CosignThreshold(replicas)-1 && !found[name] {
			found[name] = true
			t.assembled++
		}
	}
	trees, err := h.trees(found)
	if err != nil {
		h.s.Fail("read the histories: %v", err)
	}
	t.pairs, t.inconsistent = comparePairs(found, trees)
	if t.inconsistent > 0 {
		h.s.Fail("%d pairs of certified heads are inconsistent", t.inconsistent)
	}
	return t
}

// comparePairs counts the pairs of heads, and those of which no history holds
// both.
func comparePairs(found map[headName]bool, trees []map[headName]bool) (pairs, inconsistent int) {
	list := make([]headName, 0, len(found))
	for name := range found {
		list = append(list, name)
	}
	for i, a := range list {
		for _, b := range list[:i] {
			pairs++
			together := false
			for _, tree := range trees {
				together = together || tree[a] && tree[b]
			}
			if !together {
				inconsistent++
			}
		}
	}
	return pairs, inconsistent
}

// trees says of each honest replica's history which of the heads are its
// prefixes.
func (h *heads) trees(found map[headName]bool) ([]map[headName]bool, error) {
	var trees []map[headName]bool
	folders := h.archives
	for _, m := range h.s.honest() {
		folders = append(folders, filepath.Join(h.s.Dir, "ledger", m.name, "archive"))
	}
	for _, folder := range folders {
		a, err := archive.Open(folder, archive.Options{})
		if err != nil {
			return trees, err
		}
		tree := map[headName]bool{}
		for name := range found {
			root, err := a.TreeHash(name.size)
			if err == nil && ledger.Hash(root).String() == name.root {
				tree[name] = true
			}
		}
		trees = append(trees, tree)
		if err := a.Close(); err != nil {
			return trees, err
		}
	}
	return trees, nil
}

// chain is the longest authority chain on an honest replica's disk.
func (h *heads) chain() (*ledger.Chain, error) {
	var longest []*ledger.Link
	for _, m := range h.s.honest() {
		links := []*ledger.Link{{Genesis: h.s.entry}}
		for n := 1; ; n++ {
			raw, err := os.ReadFile(filepath.Join(h.s.Dir, "ledger", m.name, "authority", fmt.Sprintf("%d.json", n)))
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return nil, err
			}
			link, err := ledger.ParseLink(raw)
			if err != nil {
				return nil, err
			}
			links = append(links, link)
		}
		if len(links) > len(longest) {
			longest = links
		}
	}
	return ledger.WalkChain(h.s.genesis, longest)
}
