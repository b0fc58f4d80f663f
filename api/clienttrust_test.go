package api

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

func TestClientSaysStale(t *testing.T) {
	f := newFake(t)
	f.mu.Lock()
	f.certify(time.Now().Add(-time.Hour))
	f.mu.Unlock()
	ts := newServer(t, f, Config{})
	c, err := client.New(client.Options{Servers: []string{ts.URL}, Genesis: f.world.hash, MaxHeadAge: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head, err := c.Sync(short(t))
	var stale *client.StaleError
	if !errors.As(err, &stale) || head == nil || stale.Age < 59*time.Minute {
		t.Errorf("got %+v, %v", head, err)
	}
	f.mu.Lock()
	f.certify(time.Now())
	f.mu.Unlock()
	if head, err := c.Sync(short(t)); err != nil || time.Since(time.Unix(int64(head.Signed), 0)) > time.Minute {
		t.Errorf("fresh again: %+v, %v", head, err)
	}

	// One server that replays an old signature of the head hides no fresh one.
	note, _ := f.Checkpoint()
	parsed, err := ledger.ParseCheckpoint(note)
	if err != nil {
		t.Fatal(err)
	}
	l, old := newLying(t, f)
	l.lie("/checkpoint", func([]byte) []byte {
		return f.world.sign(parsed.Head, time.Now().Add(-time.Hour), "r1", "r2", "r3", "r4")
	})
	both, err := client.New(client.Options{Servers: []string{old, ts.URL}, Genesis: f.world.hash, MaxHeadAge: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	if _, err := both.Sync(short(t)); err != nil {
		t.Errorf("with a fresh server beside an old one: %v", err)
	}
	only, err := client.New(client.Options{Servers: []string{old, old}, Genesis: f.world.hash, MaxHeadAge: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer only.Close()
	if head, err := only.Sync(short(t)); !errors.As(err, &stale) || head == nil {
		t.Errorf("with old servers alone: %+v, %v", head, err)
	}
}

// TestTamperedTrust: what is on disk is verified again, and never put aside.
func TestTamperedTrust(t *testing.T) {
	f := newFake(t)
	ts := newServer(t, f, Config{})
	dir := t.TempDir()
	if _, err := newClient(t, f.world, dir, ts.URL).Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	head := filepath.Join(dir, f.world.hash.String(), "head")
	note, err := os.ReadFile(head)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, note[:len(note)/2], bytes.Replace(note, []byte("\n2\n"), []byte("\n1\n"), 1)} {
		if err := os.WriteFile(head, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		var trust *client.TrustError
		if _, err := newClient(t, f.world, dir, ts.URL).Sync(short(t)); !errors.As(err, &trust) {
			t.Errorf("got %v, want a *client.TrustError", err)
		}
	}
}
