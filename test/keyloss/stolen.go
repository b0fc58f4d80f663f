package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
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
	"github.com/quorate/quorate/test/nodetest"
	"github.com/quorate/quorate/test/stagehand"
)

// impostor has a copy of a node's key: it signs in the node's name, and runs an
// agent at the node's own address.
type impostor struct {
	h       *house
	of      *agent
	key     *keys.PrivateKey
	process *stagehand.Process
	orders  io.WriteCloser
	dir     string
	seq     uint64
}

// stealsNode copies a node's key of now, from its agent's files, and ends the
// agent: whoever has the machine has it whole. A key that is announced and not in
// force yet would be the thief's too: the story is of one that has only one.
func (h *house) stealsNode(ctx context.Context, a *agent) (*impostor, error) {
	c, err := h.client("", h.up()...)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for range thefts {
		var record *fsm.NodeRecord
		alone := func() bool {
			record, _, err = c.VerifiedNode(ctx, a.Name)
			return err == nil && record.Next == nil
		}
		if err := stagehand.Await(ctx, patience, a.Name+" has no successor announced", alone); err != nil {
			return nil, err
		}
		h.stopAgent(a, syscall.SIGKILL)
		if err := h.awaitHead(ctx); err != nil {
			return nil, err
		}
		if !alone() { // it was announced in that moment
			if err := h.startAgent(a); err != nil {
				return nil, err
			}
			continue
		}
		for _, path := range h.keyFiles(a) {
			file, err := h.openWith(path, filepath.Join(a.dir(), a.Name+".pass"))
			if err == nil && ledger.Hash(file.Key.ID()) == record.Key {
				return &impostor{h: h, of: a, key: file.Key, dir: filepath.Join(h.Dir, "impostor"), seq: 10_000}, nil
			}
		}
		return nil, fmt.Errorf("the key %s of %s is in none of %v", record.Key, a.Name, h.keyFiles(a))
	}
	return nil, fmt.Errorf("%s announced a successor %d times when it was to be robbed", a.Name, thefts)
}

// runs starts an agent with the stolen key: the real one, with the hook by which a
// test tells it what to say.
func (i *impostor) runs() (err error) {
	h := i.h
	files := &nodetest.AgentFiles{Dir: i.dir, Genesis: h.Genesis, Listen: i.of.Listen}
	for _, r := range h.up() {
		files.Servers = append(files.Servers, r.URL())
	}
	for _, a := range h.agents {
		files.Peers = append(files.Peers, a.Name+"@"+a.Listen)
	}
	path, err := files.Write(&nodetest.Node{Name: i.of.Name, Operator: i.of.Operator, Key: i.key, Peer: i.key.PeerKey()})
	if err != nil {
		return err
	}
	// The agent itself is to say nothing: it does not know which seqs the node has used,
	// and a thief that equivocates is excluded by that, which is another story.
	for _, folder := range []string{"state", "memory"} {
		if err := os.RemoveAll(filepath.Join(i.dir, folder)); err != nil {
			return err
		}
	}
	// Its copy is a plain file of its own.
	seed := i.key.Seed()
	h.mayStand(seed[:], "impostor/node.key")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var pins strings.Builder
	for _, p := range h.Pins {
		fmt.Fprintf(&pins, "    - %s\n", p)
	}
	changed := strings.Replace(string(text), "gossip:\n", "  pins:\n"+pins.String()+"gossip:\n", 1) + "rotation: {off: true}\n"
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		return err
	}
	i.process, i.orders, err = h.Observer("impostor", "impostor/agent.yaml", "impostor/seen")
	return err
}

func (i *impostor) close() {
	if i.process != nil {
		_ = i.process.End(syscall.SIGKILL, stopLimit)
		i.process = nil
	}
}

// says is a statement in the node's name, under a key, of an epoch.
func (i *impostor) says(key *keys.PrivateKey, epoch uint64) []byte {
	i.seq++
	seq, tick := i.seq, uint64(time.Now().Unix())
	envelope, err := ledger.Sign(key, ledger.Payload{Author: i.of.Name, Ledger: i.h.Genesis, Type: ledger.TypeObserve, Epoch: &epoch, Seq: &seq},
		ledger.Observe{Kind: ledger.LinkUp, Subject: "n1", Counter: i.seq, From: tick, To: tick})
	if err != nil {
		panic(err) // our own shape
	}
	return envelope
}

// rotates is a key.rotate of a key of the thief's to another.
func (i *impostor) rotates(from, to *keys.PrivateKey, epoch uint64) ([]byte, error) {
	peer := to.PeerKey()
	body := ledger.Rotate{Peer: peer.Public().(ed25519.PublicKey), Public: to.Public().Bytes()}
	message := ledger.RotationMessage(i.h.Genesis, ledger.Hash(from.ID()), i.of.Name, body)
	body.Proof, body.PeerProof = to.Sign(message), ed25519.Sign(peer, message)
	return i.signs(from, ledger.TypeRotate, epoch, body)
}

// signs is whatever in the node's name, under a key of the thief's.
func (i *impostor) signs(key *keys.PrivateKey, typ string, epoch uint64, body any) ([]byte, error) {
	i.seq++
	seq := i.seq
	return ledger.Sign(key, ledger.Payload{Author: i.of.Name, Ledger: i.h.Genesis, Type: typ, Epoch: &epoch, Seq: &seq}, body)
}

// tries has the thief rotate, back up, say that a backup was opened, and destroy, under
// both keys and in epochs of before, at and after that of the revocation.
func (i *impostor) tries(ctx context.Context, fresh *keys.PrivateKey, from, now uint64) error {
	h := i.h
	another, err := keys.Generate()
	if err != nil {
		return err
	}
	codes := map[string]int{}
	var all [][]byte
	for _, key := range []*keys.PrivateKey{i.key, fresh} {
		of := ledger.Hash(key.ID())
		for _, epoch := range []uint64{0, from - 1, from, now} {
			rotation, err := i.rotates(key, another, epoch)
			if err != nil {
				return err
			}
			list := [][]byte{rotation}
			for _, one := range []struct {
				typ  string
				body any
			}{
				{ledger.TypeBackup, h.backupBody(of)},
				{ledger.TypeRestoreTest, ledger.RestoreTest{Ciphertext: ledger.Hash{1}, Key: of, Holders: []string{"alice", "bob"}, Outcome: ledger.RestoreOpened, Purpose: ledger.RestoreForTest}},
				{ledger.TypeDestroy, ledger.Destroy{Key: of}},
			} {
				envelope, err := i.signs(key, one.typ, epoch, one.body)
				if err != nil {
					return err
				}
				list = append(list, envelope)
			}
			all = append(all, list...)
		}
	}
	for n, envelope := range all {
		codes[h.submits(ctx, h.up()[n%2], envelope)]++
	}
	taken, err := h.judged(ctx, all)
	if err != nil {
		return err
	}
	h.Says("the thief", "signs key.rotate, backup, restore.test and key.destroy, of epochs 0, %d, %d and %d, under both keys: %v; agents take %d of %d", from-1, from, now, codes, taken, len(all))
	h.Demand(len(codes) == 1 && codes["revoked_key"] == len(all), "replicas answer %v", codes)
	h.Demand(taken == 0, "agents take %d of what the thief signs to have the key live on", taken)
	return nil
}

// submits gives the code with which a replica refuses a statement, or "ok".
func (h *house) submits(ctx context.Context, to *replica, envelope []byte) string {
	c, err := h.client("", to)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_, err = c.Submit(ctx, [][]byte{envelope}, client.WaitCertified)
	return problemOf(err)
}

// epoch is that of the ledger now.
func (h *house) epoch(ctx context.Context) (uint64, error) {
	c, err := h.client("", h.up()...)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return 0, err
	}
	return status.Epoch, nil
}

// nextEpoch waits until another epoch has begun.
func (h *house) nextEpoch(ctx context.Context, was uint64) (now uint64, err error) {
	err = stagehand.Await(ctx, patience, "the next epoch begins", func() bool {
		e, err := h.epoch(ctx)
		now = e
		return err == nil && e > was
	})
	return now, err
}

// nodeKeyStolen: a thief has a node's key. The council revokes it from an epoch on;
// what it signed before stands, what bears that epoch or a later one does not, and
// the key that the thief rotated to falls with it.
func nodeKeyStolen(ctx context.Context, h *house) error {
	a := h.agent("n5")
	i, err := h.stealsNode(ctx, a)
	if err != nil {
		return err
	}
	defer i.close()
	if err := i.runs(); err != nil {
		return err
	}
	early, err := h.epoch(ctx)
	if err != nil {
		return err
	}
	before := i.says(i.key, early)
	if got := h.submits(ctx, h.up()[0], before); got != "ok" {
		return fmt.Errorf("a statement under the key before it was revoked: %s", got)
	}
	if err := h.keeps("before.cose", before); err != nil {
		return err
	}
	from, err := h.nextEpoch(ctx, early)
	if err != nil {
		return err
	}
	fresh, err := keys.Generate()
	if err != nil {
		return err
	}
	rotation, err := i.rotates(i.key, fresh, from)
	if err != nil {
		return err
	}
	disputed := i.says(i.key, from)
	for what, envelope := range map[string][]byte{"the thief's rotation": rotation, "the thief's word": disputed} {
		if got := h.submits(ctx, h.up()[1], envelope); got != "ok" {
			return fmt.Errorf("%s before the decision: %s", what, got)
		}
	}
	if n, err := h.judged(ctx, [][]byte{i.says(i.key, from)}); err != nil || n == 0 {
		return fmt.Errorf("the agents let nothing of the thief pass before the decision: nothing is shown (%w)", err)
	}
	if err := stagehand.Await(ctx, patience, "the thief has met the agents", func() bool { return i.peers(ctx) > 0 }); err != nil {
		return err
	}
	h.Says("the thief", "speaks as %s in epochs %d and %d and rotates to a key of its own: all accepted, it is connected to %d agents", a.Name, early, from, i.peers(ctx))
	if err := h.revokes(ctx, i, fresh, from); err != nil {
		return err
	}
	if err := i.floods(ctx, fresh, from); err != nil {
		return err
	}
	i.close()
	return h.bringsBack(ctx, a)
}

// revokes has the council revoke the stolen key, and waits until all know.
func (h *house) revokes(ctx context.Context, i *impostor, fresh *keys.PrivateKey, from uint64) error {
	began := time.Now()
	if err := h.decides(ctx, three, "key.revoke", "key="+i.key.ID().String(), fmt.Sprintf("from=%d", from), "reason=stolen"); err != nil {
		return err
	}
	took := time.Since(began)
	executed := time.Now()
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, one := range []struct {
		what string
		key  *keys.PrivateKey
	}{{"the stolen key", i.key}, {"the key that the thief rotated to", fresh}} {
		record, err := c.Key(ctx, one.key.ID().String(), client.Read{Consistency: client.Certified})
		if err != nil {
			return err
		}
		h.Demand(record.Revoked, "%s is not revoked: %+v", one.what, record)
	}
	if err := stagehand.Await(ctx, patience, "no agent keeps the thief's connection", func() bool { return i.peers(ctx) == 0 }); err != nil {
		return err
	}
	h.Says("council", "key.revoke from epoch %d: executed after %.1f s; the key that the thief rotated to is revoked by it; every agent has cut the connection within %s of that",
		from, took.Seconds(), time.Since(executed).Round(10*time.Millisecond))
	return h.agentsFollow(ctx)
}

// floods has the thief sign 200 statements, of epochs before, at and after that of
// the revocation and under both keys; nobody takes one.
func (i *impostor) floods(ctx context.Context, fresh *keys.PrivateKey, from uint64) error {
	h := i.h
	now, err := h.epoch(ctx)
	if err != nil {
		return err
	}
	after := i.says(i.key, now)
	if err := h.keeps("after.cose", after); err != nil {
		return err
	}
	var all [][]byte
	for n := range thiefStatements {
		key := i.key
		if n%4 == 3 {
			key = fresh
		}
		all = append(all, i.says(key, []uint64{0, from - 1, from, now}[n%5%4]))
	}
	codes := map[string]int{}
	for n, envelope := range append(all[:thiefSubmitted:thiefSubmitted], after) {
		codes[h.submits(ctx, h.up()[n%2], envelope)]++
	}
	taken, err := h.judged(ctx, all)
	if err != nil {
		return err
	}
	h.Says("the thief", "signs %d statements more, of epochs 0 and %d to %d, under both keys: at two replicas %v; judged by %d agents as if passed on by others: %d taken", len(all), from-1, now, codes, len(h.watchers()), taken)
	h.Demand(len(codes) == 1 && codes["revoked_key"] == thiefSubmitted+1, "replicas answer %v", codes)
	h.Demand(taken == 0, "agents take %d statements of the thief", taken)
	return i.tries(ctx, fresh, from, now)
}

// bringsBack re-keys a node, whose machine was cleaned.
func (h *house) bringsBack(ctx context.Context, a *agent) error {
	if err := h.movesFolder(a.dir(), "cleaned-"+a.Name); err != nil {
		return err
	}
	if err := h.makeNode(ctx, a); err != nil {
		return err
	}
	if err := h.decides(ctx, []string{"alice", "bob", "erin"}, "node.rekey", "join=@"+filepath.Join(a.dir(), a.Name+".join.cose")); err != nil {
		return err
	}
	if err := h.startAgent(a); err != nil {
		return err
	}
	if err := h.follows(ctx, a); err != nil {
		return err
	}
	h.demandCode("a record of "+a.Name+" under its new key", h.recordBeside(ctx, a, a.Name+" is back"), "ok")
	h.Says("the node", "%s is re-keyed by decision and speaks again", a.Name)
	return nil
}

// peers counts the connections of the thief's agent.
func (i *impostor) peers(ctx context.Context) int {
	s, err := (&stagehand.Agent{Socket: filepath.Join(i.dir, "agent.sock")}).Status(ctx)
	if err != nil {
		return -1
	}
	return s.Peers
}

// watchers are the agents that take orders.
func (h *house) watchers() []*agent {
	return slices.DeleteFunc(slices.Clone(h.agents), func(a *agent) bool { return a.orders == nil })
}

// judged has every watcher judge statements as if a peer had passed them on, and
// counts those that were taken.
func (h *house) judged(ctx context.Context, envelopes [][]byte) (int, error) {
	b, err := json.Marshal(envelopes)
	if err != nil {
		return 0, err
	}
	path := filepath.Join(h.Dir, fmt.Sprintf("judge-%d.json", time.Now().UnixNano()))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return 0, err
	}
	order, err := json.Marshal(nodetest.Order{Judge: path})
	if err != nil {
		return 0, err
	}
	taken := 0
	for _, a := range h.watchers() {
		had, err := a.judgements(h.Dir)
		if err != nil {
			return 0, err
		}
		if _, err := a.orders.Write(append(order, '\n')); err != nil {
			return 0, err
		}
		var now []int
		if err := stagehand.Await(ctx, patience, a.Name+" has judged", func() bool {
			now, err = a.judgements(h.Dir)
			return err == nil && len(now) > len(had)
		}); err != nil {
			return 0, err
		}
		taken += now[len(now)-1]
	}
	return taken, nil
}

// judgements lists how many each order to judge let pass.
func (a *agent) judgements(dir string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, a.dir(), "seen"))
	if err != nil {
		return nil, err
	}
	var list []int
	for line := range strings.Lines(string(b)) {
		var seen nodetest.Seen
		if json.Unmarshal([]byte(line), &seen) == nil && seen.Judged != nil {
			list = append(list, seen.Judged.Accepted)
		}
	}
	return list, nil
}

// keeps writes a statement to a file, as somebody who caught it would.
func (h *house) keeps(name string, envelope []byte) error {
	return os.WriteFile(filepath.Join(h.Dir, name), envelope, 0o600)
}
