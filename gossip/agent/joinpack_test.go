package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica/replicatest"
	"github.com/quorate/quorate/test/freeport"
)

// packOf writes a join pack of a certified note, endorsed by these at a time.
func (h *history) packOf(t *testing.T, note []byte, at time.Time, by ...replicatest.Principal) string {
	t.Helper()
	checkpoint, err := ledger.ParseCheckpoint(note)
	if err != nil {
		t.Fatal(err)
	}
	pack := &ledger.JoinPack{Checkpoint: string(note)}
	for _, raw := range h.links {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			t.Fatal(err)
		}
		pack.Authority = append(pack.Authority, link)
	}
	for _, g := range by {
		pack.Add(ledger.Endorse(h.cluster.Hash, g.Key, g.Name, checkpoint.Head, uint64(at.UnixMilli())))
	}
	data, err := pack.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fleet.pack")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newcomer configures an agent that starts from a pack.
func (h *history) newcomer(t *testing.T, pack string) *Config {
	dir := t.TempDir()
	return &Config{
		Name: "newcomer", Dir: dir, MemoryDir: t.TempDir(), KeyFile: "unused", Genesis: h.cluster.Hash.String(), JoinPack: pack,
		API: APIConfig{Servers: []string{h.url}}, Gossip: GossipConfig{Listen: freeport.Address(t)},
		Local: LocalConfig{Socket: filepath.Join(dir, "agent.sock")}, Log: LogConfig{Level: "info", Format: "text"},
	}
}

// A newcomer starts from a pack that enough operators endorsed a while ago, follows
// the ledger that contains its head, and believes nothing of one that does not.
func TestStartFromJoinPack(t *testing.T) {
	h := newHistory(t)
	council, now := h.cluster.Council, time.Now()
	run := func(t *testing.T, config *Config, until func(a *Agent) bool) *Agent {
		t.Helper()
		a, err := New(config, Options{Key: replicatest.Key(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		for deadline := time.Now().Add(patience); !until(a); {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain: %+v", a.Status())
			}
			select {
			case <-a.Changed():
			case <-time.After(10 * time.Millisecond):
			}
		}
		return a
	}
	follows := func(a *Agent) bool { return a.View().Size >= uint64(len(h.entries)) }

	t.Run("refused", func(t *testing.T) {
		var few *ledger.NotEndorsedError
		var age *ledger.PackAgeError
		var nobody *ledger.EndorsementError
		for name, c := range map[string]struct {
			pack string
			as   any
		}{
			"nobody endorsed it":    {h.packOf(t, h.note, now), &few},
			"one operator did":      {h.packOf(t, h.note, now, council[0]), &few},
			"it is 32 days old":     {h.packOf(t, h.note, now.Add(-32*24*time.Hour), council...), &age},
			"it is of tomorrow":     {h.packOf(t, h.note, now.Add(24*time.Hour), council...), &age},
			"a stranger endorsed":   {h.packOf(t, h.note, now, council[0], council[1], replicatest.Principal{Name: "nobody", Key: replicatest.Key(t)}), &nobody},
			"another's key in name": {h.packOf(t, h.note, now, council[0], replicatest.Principal{Name: council[1].Name, Key: replicatest.Key(t)}), &nobody},
		} {
			a, err := New(h.newcomer(t, c.pack), Options{Key: replicatest.Key(t)})
			var refused *PackError
			if a != nil || !errors.As(err, &refused) || !errors.As(err, c.as) {
				t.Errorf("%s: %v", name, err)
			}
		}
		other := h.newcomer(t, h.packOf(t, h.note, now, council...))
		other.Genesis = ledger.Hash{1}.String()
		if _, err := New(other, Options{Key: replicatest.Key(t)}); err == nil {
			t.Error("a pack of another ledger was taken")
		}
	})

	t.Run("followed", func(t *testing.T) {
		config := h.newcomer(t, h.packOf(t, h.note, now.Add(-time.Hour), council[0], council[2]))
		a := run(t, config, follows)
		if len(a.Status().Trouble) != 0 {
			t.Errorf("status %+v", a.Status())
		}
		// What it verified since counts for more than the pack's age.
		config.JoinPack = h.packOf(t, h.note, now.Add(-100*24*time.Hour), council...)
		config.API.Servers = nil
		if again, err := New(config, Options{Key: replicatest.Key(t)}); err != nil || again.View().Size != a.View().Size {
			t.Errorf("after a restart with an old pack: %v", err)
		}
		config.JoinPack, config.Dir = h.packOf(t, h.note, now.Add(-2*time.Hour), council...), t.TempDir()
		config.MaxPackAge = time.Hour
		if _, err := New(config, Options{Key: replicatest.Key(t)}); err == nil {
			t.Error("its own limit is not kept to")
		}
	})

	// Certified and endorsed, but not on the ledger that the replicas show.
	t.Run("not in the history", func(t *testing.T) {
		beside := h.certify(t, h.altered(t), now)
		a := run(t, h.newcomer(t, h.packOf(t, beside, now, council...)), func(a *Agent) bool { return a.Status().Trouble[troublePack] != "" })
		if a.View().State != nil || !a.Status().Alarm {
			t.Errorf("it believes something: %+v", a.Status())
		}
	})
	t.Run("beyond the history", func(t *testing.T) {
		longer := append(append([][]byte(nil), h.entries...), h.entries[len(h.entries)-1])
		beyond := h.certify(t, longer, now)
		a := run(t, h.newcomer(t, h.packOf(t, beyond, now, council...)), func(a *Agent) bool { return a.Status().Trouble[troublePack] != "" })
		if a.View().State != nil {
			t.Errorf("it believes something: %+v", a.Status())
		}
	})
}
