package replica_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// faultyDisk is what a test does to the disk of each replica, by its name.
type faultyDisk struct {
	mu    sync.Mutex
	hangs map[string]chan struct{} // closed when the disk answers again
	fails map[string]error
	once  map[string]bool // the failure is over with the first write
	after map[string]int  // writes to Raft's log after a failure that was to happen once
}

func newFaultyDisk() *faultyDisk {
	return &faultyDisk{hangs: map[string]chan struct{}{}, fails: map[string]error{}, once: map[string]bool{}, after: map[string]int{}}
}

// stall makes every write of a part of a replica hang until release.
func (d *faultyDisk) stall(name, part string) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ch := make(chan struct{})
	d.hangs[name+" "+part] = ch
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.hangs, name+" "+part)
		close(ch)
	})
}

// fail makes every write of a part fail; nil ends it.
func (d *faultyDisk) fail(name, part string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails[name+" "+part] = err
}

// failOnce makes the next write of a part fail, and no other.
func (d *faultyDisk) failOnce(name, part string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails[name+" "+part] = err
	d.once[name+" "+part] = true
}

// since counts the writes to Raft's log after failOnce came true.
func (d *faultyDisk) since(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.after[name]
}

func (d *faultyDisk) write(name, part string) error {
	d.mu.Lock()
	hang := d.hangs[name+" "+part]
	if part == partStable {
		hang = d.hangs[name+" "+partLog] // one store, one disk
	}
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.fails[name+" "+part]
	if _, failed := d.after[name]; failed && (part == partLog || part == partStable) {
		d.after[name]++
	}
	if err != nil && d.once[name+" "+part] {
		delete(d.fails, name+" "+part)
		delete(d.once, name+" "+part)
		d.after[name] = 0
	}
	return err
}

// The parts.
const (
	partLog     = "log"
	partStable  = "stable"
	partArchive = "archive"
)

// config gives a replica this disk, and short patience with it.
func (d *faultyDisk) config(cfg *replica.Config) {
	name := cfg.Name
	cfg.Limits.DiskStall = 400 * time.Millisecond
	cfg.Hooks = &replica.Hooks{
		Log:     func(inner raft.LogStore) raft.LogStore { return &faultyLog{inner, d, name} },
		Stable:  func(inner raft.StableStore) raft.StableStore { return &faultyStable{inner, d, name} },
		Archive: &faultyFS{archive.OS(), d, name},
	}
}

type faultyLog struct {
	raft.LogStore
	disk *faultyDisk
	name string
}

func (l *faultyLog) StoreLogs(logs []*raft.Log) error {
	if err := l.disk.write(l.name, partLog); err != nil {
		return err
	}
	return l.LogStore.StoreLogs(logs)
}

func (l *faultyLog) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

type faultyStable struct {
	raft.StableStore
	disk *faultyDisk
	name string
}

func (s *faultyStable) Set(key, value []byte) error {
	if err := s.disk.write(s.name, partStable); err != nil {
		return err
	}
	return s.StableStore.Set(key, value)
}

func (s *faultyStable) SetUint64(key []byte, value uint64) error {
	if err := s.disk.write(s.name, partStable); err != nil {
		return err
	}
	return s.StableStore.SetUint64(key, value)
}

type faultyFS struct {
	archive.FS
	disk *faultyDisk
	name string
}

func (f *faultyFS) Create(name string) (archive.File, error) {
	if err := f.disk.write(f.name, partArchive); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return &faultyFile{file, f.disk, f.name}, err
}

type faultyFile struct {
	archive.File
	disk *faultyDisk
	name string
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if err := f.disk.write(f.name, partArchive); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *faultyFile) Sync() error {
	if err := f.disk.write(f.name, partArchive+" sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func alarmed(s replica.Status, code string) bool {
	for _, a := range s.Alarms {
		if a.Code == code {
			return true
		}
	}
	return false
}

// otherLeader waits for a ready leader that is not n.
func otherLeader(t *testing.T, c *replicatest.Cluster, n *replicatest.Node) {
	t.Helper()
	end := time.Now().Add(replicatest.Patience)
	for time.Now().Before(end) {
		for _, one := range c.Nodes {
			if s := one.Replica.Status(); one != n && one.Running() && s.Role == replica.RoleLeader && s.Ready {
				return
			}
		}
		time.Sleep(10 * time.Millisecond) // of all the replicas' changes none tells of all
	}
	t.Fatalf("nobody but %s leads", n.Record.Name)
}

// A leader whose disk hangs, in Raft's log or in the archive, is replaced; the
// others acknowledge within seconds, also what came through the hung one's
// followers; nothing acknowledged is lost; and when the disk answers again, the
// replica takes part without a restart.
func TestStalledLeaderIsReplaced(t *testing.T) {
	for _, part := range []string{partLog, partArchive + " sync"} {
		t.Run(part, func(t *testing.T) {
			disk := newFaultyDisk()
			c := replicatest.Start(t, 3, disk.config)
			leader, at := c.Leader(), c.Follower()
			stop := make(chan struct{})
			wait := acknowledged(c, at, stop)
			at.Await("statements flow", func(s replica.Status) bool { return s.Applied > 20 })

			release := disk.stall(leader.Record.Name, part)
			t.Cleanup(release)
			began := time.Now()
			leader.Await("the alarm", func(s replica.Status) bool { return alarmed(s, "disk_stalled") && !s.Ready })
			otherLeader(t, c, leader)
			c.Submit(at, replica.WaitCommitted, c.Record(c.Council[2], "while it hangs"))
			if gap := time.Since(began); gap > 10*time.Second {
				t.Errorf("%s until another took over", gap)
			} else {
				t.Logf("another acknowledges after %s", gap.Round(time.Millisecond))
			}
			close(stop)
			acks := wait()

			release()
			leader.Await("the alarm is over", func(s replica.Status) bool { return !alarmed(s, "disk_stalled") && s.Ready })
			sameDigest(t, c)
			if len(acks) < 20 {
				t.Fatalf("only %d acknowledged", len(acks))
			}
			for _, n := range c.Nodes {
				holds(t, n, acks)
			}
			// It is as good as the others again: it may lead.
			if err := c.Leader().Replica.TransferLeadership(c.Context(), leader.Record.Name); c.Leader() != leader && err != nil {
				t.Fatal(err)
			}
			leader.Await("it leads", func(s replica.Status) bool { return s.Role == replica.RoleLeader && s.Ready })
			c.Submit(leader, replica.WaitCertified, c.Record(c.Council[2], "through the one that hung"))
		})
	}
}

// What is submitted at the leader itself while its disk hangs is told so.
func TestSubmitAtStalledLeader(t *testing.T) {
	disk := newFaultyDisk()
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		disk.config(cfg)
		cfg.Limits.LeaderHold = time.Second
	})
	leader := c.Leader()
	release := disk.stall(leader.Record.Name, partLog)
	t.Cleanup(release)
	_, err := leader.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[0], "on its way into the hanging disk")}, replica.WaitCommitted)
	if !errors.Is(err, replica.ErrUnknownOutcome) && !errors.Is(err, replica.ErrDiskFull) {
		t.Fatalf("the first: %v", err)
	}
	_, err = leader.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[0], "after it")}, replica.WaitCommitted)
	if !errors.Is(err, replica.ErrDiskFull) || !strings.Contains(err.Error(), "raft log") {
		t.Fatalf("the second: %v", err)
	}
	if view, err := leader.Replica.View(c.Context(), replica.Certified); err != nil || view.Size == 0 {
		t.Fatalf("reads do not go on: %v", err)
	}
}

// A follower whose disk hangs does not stand for election and gives no vote,
// and the others go on; a quorum of hanging disks acknowledges nothing.
func TestStalledFollowers(t *testing.T) {
	disk := newFaultyDisk()
	c := replicatest.Start(t, 3, disk.config)
	leader := c.Leader()
	var followers []*replicatest.Node
	for _, n := range c.Nodes {
		if n != leader {
			followers = append(followers, n)
		}
	}
	var releases []func()
	for i, n := range followers {
		release := disk.stall(n.Record.Name, partLog)
		releases = append(releases, release)
		t.Cleanup(release)
		if i == 0 {
			c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "two of three"))
			n.Await("the alarm", func(s replica.Status) bool { return alarmed(s, "disk_stalled") })
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := leader.Replica.Submit(ctx, [][]byte{c.Record(c.Council[0], "one of three")}, replica.WaitCommitted); err == nil {
		t.Fatal("acknowledged by one disk of three")
	}
	for _, release := range releases {
		release()
	}
	for _, n := range followers {
		n.Await("the alarm is over", func(s replica.Status) bool { return !alarmed(s, "disk_stalled") && s.Ready })
	}
	sameDigest(t, c)
}

// A replica whose disk never answers again still stops when told to.
func TestStopWithHangingDisk(t *testing.T) {
	for _, part := range []string{partLog, partArchive + " sync"} {
		t.Run(part, func(t *testing.T) {
			disk := newFaultyDisk()
			c := replicatest.Start(t, 3, func(cfg *replica.Config) {
				disk.config(cfg)
				cfg.Limits.ShutdownLimit = time.Second
			})
			n := c.Follower()
			release := disk.stall(n.Record.Name, part)
			t.Cleanup(release)
			c.Submit(c.Leader(), replica.WaitCommitted, c.Record(c.Council[0], "x"))
			n.Await("the alarm", func(s replica.Status) bool { return alarmed(s, "disk_stalled") })
			began := time.Now()
			if err := n.Stop(); err == nil || !strings.Contains(err.Error(), "does not answer") {
				t.Fatalf("run: %v", err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Fatalf("it took %s to stop", took)
			}
			release()
			for end := time.Now().Add(replicatest.Patience); ; time.Sleep(20 * time.Millisecond) {
				err := n.TryStart() // in vain until what was left behind has let go of the files
				if err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatal(err)
				}
			}
			sameDigest(t, c)
		})
	}
}
