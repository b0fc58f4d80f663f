package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/quorate/quorate/ledger"
)

// head is what a source claims: its authority chain and certified checkpoint,
// verified against the genesis hash.
type head struct {
	chain      *ledger.Chain
	links      [][]byte
	note       []byte
	checkpoint *ledger.Checkpoint
	authority  ledger.Authority // in force at the checkpoint
}

func (h *head) size() uint64 { return h.checkpoint.Head.Size }

// readHead takes the checkpoint, walks the authority chain from the genesis
// hash up to it, and verifies the checkpoint under the chain. The checkpoint
// comes first: a server may hand over while it is being read, and the chain
// must reach at least as far. Later handovers are left out.
func readHead(ctx context.Context, src Source, genesis ledger.Hash) (*head, error) {
	note, err := src.Get(ctx, "checkpoint")
	if err != nil {
		return nil, readError(StepHead, "checkpoint", err)
	}
	claimed, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return nil, badFile(StepHead, "checkpoint", err)
	}
	h := &head{note: note}
	for n := 0; ; n++ {
		file := fmt.Sprintf("authority/%d.json", n)
		raw, err := src.Get(ctx, fmt.Sprintf("authority/%d", n))
		if errors.Is(err, fs.ErrNotExist) && n > 0 {
			break
		}
		if err != nil {
			return nil, readError(StepHead, file, err)
		}
		beyond, err := h.extend(genesis, raw, claimed.Head.Size)
		if err != nil {
			return nil, badFile(StepHead, file, err)
		}
		if beyond {
			break
		}
	}
	if h.checkpoint, err = h.chain.VerifyCheckpoint(note); err != nil {
		return nil, badFile(StepHead, "checkpoint", err)
	}
	h.authority = h.chain.ForSize(h.checkpoint.Head.Size)
	return h, nil
}

// extend adds a link, unless it hands over beyond size. One that leaves the branch
// of that size behind is added: then the checkpoint is refused.
func (h *head) extend(genesis ledger.Hash, raw []byte, size uint64) (beyond bool, err error) {
	link, err := ledger.ParseLink(raw)
	if err != nil {
		return false, err
	}
	if h.chain == nil {
		if h.chain, err = ledger.NewChain(genesis, link); err != nil {
			return false, err
		}
		h.links = append(h.links, raw)
		return false, nil
	}
	handover, err := ledger.ParseCheckpoint([]byte(link.Checkpoint))
	if err != nil {
		return false, err
	}
	if handover.Head.Size > size && !link.Leaves(size) {
		return true, nil
	}
	h.links = append(h.links, raw)
	return false, h.chain.Extend(link)
}

// derivedFiles are the files that follow from the authority chain.
func (h *head) derivedFiles() []file {
	a := h.authority
	return []file{
		{"log.vkey", []byte(ledger.LogVKey(a.Origin, a.Log) + "\n")},
		{"log-mldsa44.vkey", []byte(ledger.LogMLDSA44VKey(a.Origin, a.Log) + "\n")},
		{"policy", ledger.TLogPolicy(a)},
	}
}

// vkeysFile lists the keys that the log has had. Exports of before format 3 have
// no such file.
func (h *head) vkeysFile() file {
	return file{vkeysName, ledger.LogVKeysText(h.chain.LogVKeys())}
}

// file is a file of an export.
type file struct {
	path string
	data []byte
}

// parsedLinks gives the links as proof files carry them.
func (h *head) parsedLinks() ([]*ledger.Link, error) {
	links := make([]*ledger.Link, len(h.links))
	for i, raw := range h.links {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return nil, err
		}
		links[i] = link
	}
	return links, nil
}

// fits checks that every handover of the chain lies in the tree: replicas that
// certified another history beside this one would hand over there.
func (h *head) fits(t *tree) error {
	for n := range h.chain.Len() {
		handover, ok := h.chain.HandoverHead(n)
		if !ok {
			continue // link 0
		}
		root, err := t.rootAt(handover.Size)
		if err != nil {
			return err
		}
		if root != handover.Root {
			return badFile(StepHead, fmt.Sprintf("authority/%d.json", n), fmt.Errorf("it handed over at size %d with root %s, the tree has root %s there: %w",
				handover.Size, handover.Root, root, ledger.ErrEquivocation))
		}
	}
	return nil
}
