package agent

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// Other programs see what is enforced: on the socket, in the file, by the hook.
// Two certified heads that contradict each other hold every quarantine, also one
// that is then released.
func TestPublishedAndHeld(t *testing.T) {
	var out string
	f := newFleet(t, 3, 3, nil, func(i int, c *Config) {
		if i == 0 {
			out = filepath.Join(c.Dir, "hook.json")
			c.Publish = PublishConfig{File: filepath.Join(c.Dir, "published.json"), Hook: []string{"/bin/sh", "-c", "cat > " + out + ".new && mv " + out + ".new " + out}}
		}
	})
	f.registry = prometheus.NewRegistry()
	first := f.agents[0]
	f.start(first)
	f.await("it follows", []*member{first}, func(m *member) bool { return m.View().Standing("n3") == fsm.NodeActive })
	f.decide("node.quarantine", map[string]any{"name": "n3", "reason": "drill"})

	var p Published
	for _, path := range []string{first.config.Publish.File, out} {
		f.await("it is published in "+path, []*member{first}, func(*member) bool {
			b, err := os.ReadFile(path)
			p = Published{}
			return err == nil && json.Unmarshal(b, &p) == nil && len(p.Quarantine) == 1
		})
		if p.Quarantine[0].Name != "n3" || p.Quarantine[0].Source != "ledger" || len(p.Keys) != 2 || p.Genesis != f.cluster.Hash.String() || p.Stale || p.Alarm {
			t.Errorf("%s: %+v", path, p)
		}
	}
	var node NodeStanding
	get(t, first, "/v1/nodes/n3", http.StatusOK, &node)
	if node.Standing != fsm.NodeQuarantined || node.Reason != "drill" {
		t.Errorf("%+v", node)
	}
	get(t, first, "/v1/nodes/nobody", http.StatusNotFound, nil)
	var epoch Epoch
	get(t, first, "/v1/epoch", http.StatusOK, &epoch)
	if epoch.Millis != f.cluster.Genesis.Policy.EpochMillis || epoch.Size == 0 {
		t.Errorf("%+v", epoch)
	}
	if text := get(t, first, "/metrics", http.StatusOK, nil); !strings.Contains(text, "quorate_agent_quarantined 1\n") {
		t.Errorf("metrics: %s", text)
	}

	// Another certified head of a size that we have, by gossip.
	second := f.agents[1]
	f.start(second)
	f.connected([]*member{first, second}, 1)
	first.mu.Lock()
	ours := first.chronicle.head
	first.mu.Unlock()
	theirs := ours.Head
	theirs.Root[0] ^= 1
	said, last := 0, time.Time{}
	say := func() {
		// What is published before the other's subscription has come is lost, and the
		// same bytes are never sent again.
		if time.Since(last) < 300*time.Millisecond {
			return
		}
		c := &ledger.Checkpoint{Head: theirs}
		for _, r := range f.cluster.Replicas {
			c.Add(ledger.Cosign(f.cluster.Hash, r.Key, r.Key.Cosigner44(), r.Record.Name, theirs, ours.signed+uint64(said)))
		}
		if err := second.mesh.Publish(t.Context(), mesh.Heads, c.Note()); err != nil {
			t.Fatal(err)
		}
		said, last = said+1, time.Now()
	}
	f.await("it raises the alarm", []*member{first}, func(*member) bool {
		say()
		return first.Status().Alarm
	})
	f.decide("node.release", map[string]any{"name": "n3", "reason": "over"})
	f.await("the ledger released it", []*member{first}, func(m *member) bool {
		n, _ := m.View().State.Node("n3")
		return n.Standing == fsm.NodeActive
	})
	var list []Dropped
	get(t, first, "/v1/quarantine", http.StatusOK, &list)
	if s := first.Status(); !s.Alarm || s.Trouble[troubleConflict] == "" || len(list) != 1 || list[0].Source != "conflict" {
		t.Errorf("after the conflict: %+v, %+v", s, list)
	}
	// What it keeps proves itself: the same replicas certified both.
	var heads []ledger.Head
	for _, name := range []string{"0-ours", "0-theirs"} {
		note, err := os.ReadFile(filepath.Join(first.config.Dir, "conflicts", name))
		if err != nil {
			t.Fatal(err)
		}
		certified, err := first.chronicle.chain.VerifyCheckpoint(note)
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, certified.Head)
	}
	if heads[0].Size != heads[1].Size || heads[0].Root == heads[1].Root {
		t.Errorf("the heads %+v contradict each other", heads)
	}
}

func get(t *testing.T, m *member, path string, status int, into any) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", m.config.Local.Socket)
	}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get("http://agent" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var b strings.Builder
	if _, err := io.Copy(&b, answer.Body); err != nil || answer.StatusCode != status {
		t.Fatalf("GET %s: %s, %v", path, answer.Status, err)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(b.String()), into); err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
	}
	return b.String()
}

// A hook that hangs is ended, and its trouble told.
func TestHookIsEnded(t *testing.T) {
	a := &Agent{config: &Config{Publish: PublishConfig{Hook: []string{"/bin/sh", "-c", "echo begun; sleep 60"}, HookTime: 300 * time.Millisecond}}}
	began := time.Now()
	err := a.runHook(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "begun") || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}
