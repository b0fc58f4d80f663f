package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/stagehand"
)

// replicaReplaced: a replica has lost disk and keys, and somebody may have found
// them. It is removed for cause, and another with new keys is admitted, which
// fetches the whole history from the others.
func replicaReplaced(ctx context.Context, h *house) error {
	lost := h.replica("r3")
	h.stop(lost.Name, &lost.Process, syscall.SIGKILL)
	if err := h.loses(filepath.Join("ledger", "r3")); err != nil {
		return err
	}
	for _, end := range []string{".key", ".tls.key", ".tls.crt"} {
		if err := os.Remove(filepath.Join(h.Dir, "keys", "r3"+end)); err != nil {
			return err
		}
	}
	authority, err := h.authority(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := h.decides(ctx, three, "replica.remove", "name=r3", "cause=true"); err != nil {
		return err
	}
	if err := h.handedOver(ctx, authority); err != nil {
		return err
	}
	h.replicas = slices.DeleteFunc(h.replicas, func(r *replica) bool { return r == lost })
	if err := h.warns(ctx, fsm.AlarmLogKeyExposed, lost.Name); err != nil {
		return err
	}
	h.Says("council", "replica.remove with cause: handed over after %.1f s; three replicas go on", time.Since(began).Seconds())
	size, err := h.size(ctx)
	if err != nil {
		return err
	}
	fresh := &replica{stagehand.Replica{Name: "r5", Operator: "cirrus", Peer: lost.Peer, API: lost.API}, "keys"}
	if err := h.keygen(ctx, "keys", "replica", fresh.Name, fresh.Operator, "--peer", fresh.Peer, "--api", fresh.URL()); err != nil {
		return err
	}
	began = time.Now()
	if err := h.decides(ctx, three, "replica.add", "replica=@keys/r5.pub"); err != nil {
		return err
	}
	if err := h.joins(ctx, fresh); err != nil {
		return err
	}
	h.Says("the replica", "r5, with new keys and an empty disk, has joined, fetched %d entries and certifies after %.1f s", size, time.Since(began).Seconds())
	// What it serves is the whole history: it proves its first entries itself.
	c, err := h.client("", fresh)
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Entries(ctx, 0, 8)
	if err != nil {
		return fmt.Errorf("ask r5 for its first entries: %w", err)
	}
	h.Demand(len(list) == 8 && list[0].Seq == 0, "r5 serves %d of the first 8 entries", len(list))
	// The removed one held the log's key too: the council makes another.
	if err := h.rekeysLog(ctx, fresh); err != nil {
		return err
	}
	return h.calms(ctx, fsm.AlarmLogKeyExposed, lost.Name)
}

// size is how many entries are certified.
func (h *house) size(ctx context.Context) (uint64, error) {
	c, err := h.client("", h.up()...)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return 0, err
	}
	return status.Certified, nil
}

// joins starts a replica that genesis does not know, or whose keys it does not,
// on an empty disk, and waits until it is active and ready, and its signature
// counts.
func (h *house) joins(ctx context.Context, r *replica) error {
	public, err := keys.ReadPublicFile(filepath.Join(h.Dir, r.keys, r.Name+".pub"))
	if err != nil {
		return err
	}
	h.Pins = append(h.Pins, ledger.Hash(public.TLSPin))
	var seeds []string
	for _, other := range h.up() {
		seeds = append(seeds, other.Peer)
	}
	text := fmt.Sprintf("name: %[1]s\ndir: %[1]s\ngenesis_file: genesis.cbor\nkey_file: ../%[2]s/%[1]s.key\ntls_cert_file: ../%[2]s/%[1]s.tls.crt\ntls_key_file: ../%[2]s/%[1]s.tls.key\nlisten: %[3]s\nseeds: [%[4]s]\napi: {listen: %[5]q}\n",
		r.Name, r.keys, r.Peer, strings.Join(seeds, ", "), r.API)
	if err := os.WriteFile(filepath.Join(h.Dir, "ledger", r.Name+".yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := h.start(r); err != nil {
		return err
	}
	if !slices.Contains(h.replicas, r) {
		h.replicas = append(h.replicas, r)
	}
	if err := h.reads(ctx, r.Name+" is active", func(ctx context.Context, c *client.Client) bool {
		list, err := c.Replicas(ctx, client.Read{Consistency: client.Certified})
		return err == nil && slices.ContainsFunc(list.Replicas, func(one client.Replica) bool { return one.Name == r.Name && one.Standing == "active" })
	}); err != nil {
		return err
	}
	if err := h.ready(ctx, r); err != nil {
		return err
	}
	return h.cosigns(ctx, r)
}

// cosigns waits until a certified head bears a replica's signature.
func (h *house) cosigns(ctx context.Context, r *replica) error {
	return h.reads(ctx, r.Name+" cosigns", func(ctx context.Context, c *client.Client) bool {
		head, err := c.Sync(ctx)
		if err != nil {
			return false
		}
		note, err := ledger.ParseCheckpoint(head.Note)
		return err == nil && slices.ContainsFunc(note.Cosignatures, func(s ledger.Cosignature) bool { return s.Replica == r.Name })
	})
}

// rekeysLog makes a new log key at a replica and has the council put it in force.
func (h *house) rekeysLog(ctx context.Context, at *replica) error {
	before, err := h.logKey(ctx)
	if err != nil {
		return err
	}
	made := h.Command(ctx, "operator", "log-key", "--config", filepath.Join("ledger", at.Name+".yaml"), "--output", "json")
	if err := made.Failed(); err != nil {
		return err
	}
	var public struct{ Ed25519, MLDSA44 string }
	if err := json.Unmarshal([]byte(made.Out), &public); err != nil {
		return err
	}
	if err := h.logSeeds(); err != nil { // the new ones too, while those before are there
		return err
	}
	began := time.Now()
	if err := h.decides(ctx, three, "log.rekey", "ed25519="+public.Ed25519, "mldsa44="+public.MLDSA44); err != nil {
		return err
	}
	now := ""
	err = h.reads(ctx, "heads bear the new log key", func(ctx context.Context, _ *client.Client) bool {
		now, err = h.logKey(ctx)
		return err == nil && now != "" && now != before
	})
	if err == nil {
		h.Says("log key", "made at %s, in force after %.1f s: the log's first line is under key %s, and was under %s", at.Name, time.Since(began).Seconds(), now, before)
	}
	return err
}

// logKey is the id, base64, of the key of the log's own first line on the newest
// head.
func (h *house) logKey(ctx context.Context) (string, error) {
	c, err := h.client("", h.up()...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	note, err := c.Get(ctx, "checkpoint")
	if err != nil {
		return "", err
	}
	return logLineOf(string(note)), nil
}

// logLineOf is the key id, base64, of the first signature in the log's own name.
func logLineOf(note string) string {
	for line := range strings.Lines(note) {
		if rest, ok := strings.CutPrefix(line, "— example.com/keyloss "); ok && len(rest) >= 6 {
			return rest[:6] // four bytes
		}
	}
	return ""
}
