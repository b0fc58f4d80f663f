package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// compare asks the earlier program for its format. A ledger of a later one it
// could not read: it would halt, as it must.
func (o *options) compare() error {
	if _, err := os.Stat(o.older); o.older == "" || errors.Is(err, fs.ErrNotExist) {
		o.older = ""
		return nil
	}
	out, err := exec.Command(o.older, "version", "--output", "json").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its format: %w", o.older, err)
	}
	var about struct {
		Format uint64 `json:"format"`
	}
	if err := json.Unmarshal(out, &about); err != nil {
		return fmt.Errorf("ask %s for its format: %w", o.older, err)
	}
	o.behind = about.Format < ledger.Format
	return nil
}

// upgrade: old and new programs side by side derive the same from the same. A
// ledger that the earlier program founded, in its own format, takes on the newest
// at the end.
func upgrade(ctx context.Context, h *harm) error {
	switch {
	case h.o.older == "":
		return &skipError{"there is no earlier program (--older); make chaos builds one where git has the history"}
	case h.o.behind && h.plan.founder == "":
		return &skipError{"the ledger has a format that the earlier program does not read"}
	}
	for _, program := range []string{h.o.older, h.o.program} {
		for i, m := range h.members {
			if err := m.stop(); err != nil {
				return err
			}
			m.program = []string{program, "server"}
			if err := h.start(m); err != nil {
				return err
			}
			if err := h.awaitReady(ctx, m); err != nil {
				return fmt.Errorf("%s as %s: %w", m.name, filepath.Base(program), err)
			}
			// What the two programs derive together is certified only if it is the same.
			if _, err := h.probe(ctx, m, h.keys[i%len(h.keys)]); err != nil {
				return fmt.Errorf("%s as %s: %w", m.name, filepath.Base(program), err)
			}
		}
		if err := h.some(ctx, 5); err != nil {
			return err
		}
	}
	h.note("one by one to %s and back", filepath.Base(h.o.older))
	if h.plan.founder == "" {
		return nil
	}
	if err := h.raiseFormat(ctx); err != nil {
		return err
	}
	h.plan.founder = "" // the earlier program reads it no more
	return h.some(ctx, 5)
}

// raiseFormat has the council take on the newest format, once the replicas have
// said that they run it.
func (h *harm) raiseFormat(ctx context.Context) error {
	cl, err := h.clientOf(h.members...)
	if err != nil {
		return err
	}
	defer cl.Close()
	err = await(ctx, "replicas to state the newest format", func(ctx context.Context) error {
		list, err := cl.Replicas(ctx, client.Read{})
		if err != nil {
			return err
		}
		for _, r := range list.Replicas {
			if r.Format < ledger.Format {
				return fmt.Errorf("%s stated format %d", r.Name, r.Format)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	h.note("then to format %d", ledger.Format)
	return h.decide(ctx, h.members, "format.upgrade", "format="+strconv.Itoa(ledger.Format))
}
