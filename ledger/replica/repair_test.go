package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// library is a cluster whose history has two full bundles.
type library struct {
	*replicatest.Cluster
	t       *testing.T
	metrics map[string]*prometheus.Registry // by replica
}

func newLibrary(t *testing.T, n int, change func(*replica.Config)) *library {
	l := &library{t: t, metrics: map[string]*prometheus.Registry{}}
	l.Cluster = replicatest.Start(t, n, func(cfg *replica.Config) {
		l.metrics[cfg.Name] = prometheus.NewRegistry()
		cfg.Registerer = l.metrics[cfg.Name]
		cfg.Limits.ScrubInterval = 20 * time.Millisecond
		if change != nil {
			change(cfg)
		}
	})
	for author := range 3 {
		var envelopes [][]byte
		for i := range 180 {
			envelopes = append(envelopes, l.Record(l.Council[author], fmt.Sprint("record ", i)))
		}
		l.Submit(l.Leader(), replica.WaitCertified, envelopes...)
	}
	for _, n := range l.Nodes {
		n.Await("two bundles are full", func(replica.Status) bool { return n.Replica.Archive().Bundles() >= 2 })
	}
	return l
}

func (l *library) metric(n *replicatest.Node, name string) float64 {
	l.t.Helper()
	families, err := l.metrics[n.Record.Name].Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	l.t.Fatalf("no metric %s", name)
	return 0
}

func (l *library) path(n *replicatest.Node, file string) string {
	return filepath.Join(n.Dir, "archive", filepath.FromSlash(file))
}

// damage changes a file of the history: "flip" a byte in the middle, "cut" it in
// half, "delete" it.
func (l *library) damage(n *replicatest.Node, file, how string) {
	l.t.Helper()
	path := l.path(n, file)
	b, err := os.ReadFile(path)
	if err == nil {
		switch how {
		case "flip":
			b[len(b)/2] ^= 0x10
			err = os.WriteFile(path, b, 0o644)
		case "cut":
			err = os.WriteFile(path, b[:len(b)/2], 0o644)
		case "delete":
			err = os.Remove(path)
		}
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// whole waits until the files of a replica are those of another, byte for byte,
// and nothing raises an alarm; meanwhile it reads, and nothing wrong is served.
func (l *library) whole(n *replicatest.Node, want map[string][]byte) {
	l.t.Helper()
	n.Await("its history is whole", func(s replica.Status) bool {
		for number := range uint64(2) {
			b, err := n.Replica.Archive().Bundle(number, archive.TileWidth)
			var damage *archive.DamageError
			if err == nil && !bytes.Equal(b, want[archive.BundlePath(number, archive.TileWidth)]) {
				l.t.Fatalf("%s serves a damaged bundle %d", n.Record.Name, number)
			} else if err != nil && !errors.As(err, &damage) {
				l.t.Fatalf("%s: bundle %d: %v", n.Record.Name, number, err)
			}
		}
		for file, b := range want {
			if have, err := os.ReadFile(l.path(n, file)); err != nil || !bytes.Equal(have, b) {
				return false
			}
		}
		return !alarmed(s, "damaged")
	})
}

// contents are the four full files of the history, from one replica.
func (l *library) contents(n *replicatest.Node) map[string][]byte {
	l.t.Helper()
	files := map[string][]byte{}
	for number := range uint64(2) {
		for _, file := range []string{archive.BundlePath(number, archive.TileWidth), archive.TilePath(0, number, archive.TileWidth)} {
			b, err := os.ReadFile(l.path(n, file))
			if err != nil {
				l.t.Fatal(err)
			}
			files[file] = b
		}
	}
	return files
}

// Every full bundle and tile, flipped, cut or deleted under a running replica or
// a stopped one, is found, fetched from a peer and written anew.
func TestDamagedHistoryIsRepaired(t *testing.T) {
	l := newLibrary(t, 3, nil)
	n := l.Follower()
	want := l.contents(n)
	repairs := 0.0
	for file := range want {
		for _, how := range []string{"flip", "cut", "delete"} {
			l.damage(n, file, how)
			l.whole(n, want)
			if now := l.metric(n, "quorate_repaired_bundles_total"); now <= repairs {
				t.Errorf("%s, %s: no repair was counted", file, how)
			} else {
				repairs = now
			}
		}
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	for file := range want {
		l.damage(n, file, "flip")
	}
	n.Start()
	l.whole(n, want)
	sameDigest(t, l.Cluster)
	if err := n.Replica.Archive().Verify(nil); err != nil {
		t.Fatal(err)
	}
}

// A peer that sends other entries is refused and the next one is asked.
func TestRepairRefusesWrongBytes(t *testing.T) {
	var liar string
	l := newLibrary(t, 4, func(cfg *replica.Config) {
		name := cfg.Name
		cfg.Hooks = &replica.Hooks{Service: func(honest http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if name == liar && strings.Contains(q.URL.Path, "entries") {
					for range 256 {
						_, _ = w.Write([]byte{0, 0, 0, 3, 'l', 'i', 'e'})
					}
					return
				}
				honest.ServeHTTP(w, q)
			})
		}}
	})
	n := l.Follower()
	want := l.contents(n)
	for _, one := range l.Nodes {
		if one != n {
			liar = one.Record.Name
			break
		}
	}
	for range 5 { // each round another may be asked first
		l.damage(n, archive.BundlePath(1, archive.TileWidth), "flip")
		l.whole(n, want)
	}
	if l.metric(n, "quorate_bad_repairs_total") == 0 {
		t.Error("the liar was never asked")
	}
}

// While nobody has a bundle whole the alarm stays, and all else goes on; as soon
// as one has it again, all are repaired.
func TestDamageThatNobodyCanRepair(t *testing.T) {
	l := newLibrary(t, 3, nil)
	want := l.contents(l.Nodes[0])
	file := archive.BundlePath(0, archive.TileWidth)
	for _, n := range l.Nodes {
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		l.damage(n, file, "flip")
	}
	for _, n := range l.Nodes {
		n.Start()
	}
	for _, n := range l.Nodes {
		n.Await("the alarm", func(s replica.Status) bool { return alarmed(s, "damaged") })
		if _, err := n.Replica.Archive().Entry(3); err == nil {
			t.Fatalf("%s serves an entry of a damaged bundle", n.Record.Name)
		}
	}
	l.Submit(l.Leader(), replica.WaitCertified, l.Record(l.Council[0], "all else goes on"))
	sameDigest(t, l.Cluster)
	for _, n := range l.Nodes {
		if !alarmed(n.Replica.Status(), "damaged") {
			t.Errorf("%s: the alarm is over", n.Record.Name)
		}
	}
	if err := os.WriteFile(l.path(l.Nodes[0], file), want[file], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Nodes {
		l.whole(n, want)
	}
}
