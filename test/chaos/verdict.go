package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
)

// nemesis is one way to hurt a cluster.
type nemesis struct {
	number int // of the list in DESIGN.md
	name   string
	what   string
	// run hurts the cluster while clients are at work, and lets it be hurt for a
	// while. It may leave the harm in place; heal takes it away.
	run func(ctx context.Context, h *harm) error
}

// harm is what a nemesis works with.
type harm struct {
	*cluster
	load   *load
	chance *rand.Rand
	notes  []string
	// Checks that a nemesis asks for after the healing.
	after []func(ctx context.Context) error
}

func (h *harm) note(format string, args ...any) {
	h.notes = append(h.notes, fmt.Sprintf(format, args...))
}

// skipError says that this machine or this cluster cannot show a nemesis.
type skipError struct{ why string }

func (e *skipError) Error() string { return e.why }

func asSkip(err error, to **skipError) bool { return errors.As(err, to) }

// endure lets clients work, a nemesis at the cluster, heals it, and holds what
// clients were told against what is on the ledger.
func (c *cluster) endure(ctx context.Context, n *nemesis, chance *rand.Rand) (report string, err error) {
	l, err := c.startLoad(chance.Uint64())
	if err != nil {
		return "", err
	}
	h := &harm{cluster: c, load: l, chance: chance}
	err = h.some(ctx, 5)
	if err == nil {
		err = n.run(ctx, h)
	}
	healed := c.heal(ctx)
	if err == nil && healed == nil {
		err = h.some(ctx, 5) // service resumes for clients that were there all along
	}
	l.stop()
	if err = errors.Join(err, healed); err != nil {
		return "", err
	}
	if err := c.verdict(ctx, l); err != nil {
		return "", err
	}
	for _, check := range h.after {
		if err := check(ctx); err != nil {
			return "", err
		}
	}
	ops := l.history.all()
	open := 0
	for _, o := range ops {
		if o.open != nil {
			open++
		}
	}
	h.note("%d answers, %d open, %d entries", len(ops)-open, open, c.known.size)
	return strings.Join(h.notes, "; "), nil
}

// some waits until n more submissions are acknowledged.
func (h *harm) some(ctx context.Context, n int) error {
	from := h.load.now()
	return await(ctx, fmt.Sprintf("%d acknowledgements", n), func(context.Context) error {
		if got := h.load.history.acknowledged(from, nil); got < n {
			return fmt.Errorf("%d so far", got)
		}
		return nil
	})
}

// heal takes every harm away and waits until all replicas are well, and until a
// statement that is submitted through each of them is certified.
func (c *cluster) heal(ctx context.Context) error {
	errs := []error{c.partition(nil)}
	for _, m := range c.members {
		if m.worse {
			errs = append(errs, mend(m.space))
			m.worse = false
		}
		m.mu.Lock()
		stopped := m.stopped
		m.mu.Unlock()
		if m.running() && stopped {
			errs = append(errs, m.resume())
		}
		if !slices.Equal(m.program, c.program()) {
			errs = append(errs, m.stop())
			m.program = c.program()
		}
		if !m.running() {
			errs = append(errs, c.start(m))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	for i, m := range c.members {
		if _, err := c.probe(ctx, m, c.keys[i%len(c.keys)]); err != nil {
			return err
		}
	}
	return nil
}

// verdict compares the replicas' histories, and what clients were told with
// them; and looks for what was left behind.
func (c *cluster) verdict(ctx context.Context, l *load) error {
	if err := c.settle(ctx); err != nil {
		return err
	}
	if err := c.compare(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	twice := c.twice
	c.mu.Unlock()
	l.history.mu.Lock()
	broken := errors.Join(l.history.errs...)
	l.history.mu.Unlock()
	return errors.Join(twice, broken, check(l.history.all(), c.known.seqs), c.leaks())
}

// known is what all replicas were found to agree on.
type known struct {
	size uint64
	sums [][32]byte          // of each entry
	seqs map[string][]uint64 // of each statement's id
}

// compare reads what is new in the certified history from every replica. All
// must serve the same bytes; because an entry holds the hash of the one before
// and a seal the state's digest, equal entries mean equal histories and states.
func (c *cluster) compare(ctx context.Context) error {
	if c.known.seqs == nil {
		c.known.seqs = map[string][]uint64{}
	}
	upTo := uint64(0)
	for i, m := range c.members {
		s, err := c.statusOf(ctx, m)
		if err != nil {
			return err
		}
		if i == 0 || s.Certified < upTo {
			upTo = s.Certified
		}
	}
	from := c.known.size
	var sums [][32]byte
	for i, m := range c.members {
		cl, err := c.clientOf(m)
		if err != nil {
			return err
		}
		got, err := readEntries(ctx, cl, from, upTo, func(e *client.Entry) error {
			sum := sha256.Sum256(e.Entry)
			at := e.Seq - from
			if i == 0 {
				sums = append(sums, sum)
				if e.Stamp > uint64(time.Now().Add(mostAhead).UnixMilli()) {
					return fmt.Errorf("entry %d is of %d, which is in the future", e.Seq, e.Stamp)
				}
				if e.ID != "" {
					c.known.seqs[e.ID] = append(c.known.seqs[e.ID], e.Seq)
				}
			}
			if at >= uint64(len(sums)) || sums[at] != sum {
				return fmt.Errorf("entry %d differs between %s and %s", e.Seq, c.members[0].name, m.name)
			}
			return nil
		})
		cl.Close()
		if err == nil && got != upTo {
			err = fmt.Errorf("%s serves %d entries, and has certified %d", m.name, got, upTo)
		}
		if err != nil {
			return err
		}
	}
	c.known.size, c.known.sums = upTo, append(c.known.sums, sums...)
	return nil
}

// mostAhead is more than the ledger's max_skew and far less than an hour.
const mostAhead = 5 * time.Minute

// readEntries reads the entries of [from, to) of one replica.
func readEntries(ctx context.Context, cl *client.Client, from, to uint64, fn func(*client.Entry) error) (uint64, error) {
	for from < to {
		page, err := cl.ListEntries(ctx, from, "", "", client.Read{Limit: client.MaxEntriesPage})
		if err != nil {
			return from, err
		}
		for i := range page.Entries {
			e := &page.Entries[i]
			if e.Seq != from {
				return from, fmt.Errorf("entry %d is served where %d was asked for", e.Seq, from)
			}
			if from == to {
				return from, nil
			}
			if err := fn(e); err != nil {
				return from, err
			}
			if from++; from == to {
				return from, nil
			}
		}
		if len(page.Entries) == 0 {
			return from, nil
		}
	}
	return from, nil
}

// finish stops the cluster as an operator would, and looks at what is on the
// disks: histories that are each other's prefixes byte by byte, an export that
// verifies, and no temporary file.
func (c *cluster) finish(ctx context.Context) error {
	if err := c.settle(ctx); err != nil {
		return err
	}
	if err := c.verifyExport(ctx); err != nil {
		return err
	}
	for _, m := range c.members {
		if err := m.stop(); err != nil {
			return err
		}
	}
	return errors.Join(c.compareArchives(), c.temporaryFiles())
}

// verifyExport takes an export from the last replica and lets the program
// verify it with nothing but the genesis hash.
func (c *cluster) verifyExport(ctx context.Context) error {
	cl, err := c.clientOf(c.members[len(c.members)-1])
	if err != nil {
		return err
	}
	defer cl.Close()
	path := c.path("export.tar.zst")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(cl.Export(ctx, f), f.Close()); err != nil {
		return err
	}
	_, err = c.quorate("verify", path, "--genesis", c.genesis.String())
	return err
}

// temporaryFiles looks for files that should have been renamed or removed.
func (c *cluster) temporaryFiles() error {
	var found []string
	for _, m := range c.members {
		err := filepath.WalkDir(m.dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			base := filepath.Base(path)
			if filepath.Base(filepath.Dir(path)) == "tmp" || strings.HasSuffix(base, ".tmp") || strings.HasPrefix(base, ".new-") {
				found = append(found, path)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("temporary files are left: %s", strings.Join(found, ", "))
	}
	return nil
}

// usage is what a process holds.
type usage struct {
	descriptors int
	bytes       uint64 // resident
	threads     int
}

// measure gives the most that any replica holds.
func (c *cluster) measure() (most usage) {
	for _, m := range c.members {
		if !m.running() {
			continue
		}
		proc := filepath.Join("/proc", strconv.Itoa(m.pid()))
		list, _ := os.ReadDir(filepath.Join(proc, "fd"))
		most.descriptors = max(most.descriptors, len(list))
		text, _ := os.ReadFile(filepath.Join(proc, "status"))
		for line := range strings.SplitSeq(string(text), "\n") {
			name, value, _ := strings.Cut(line, ":")
			var n uint64
			_, _ = fmt.Sscan(value, &n)
			switch name {
			case "VmRSS":
				most.bytes = max(most.bytes, n<<10)
			case "Threads":
				most.threads = max(most.threads, int(n))
			}
		}
	}
	return most
}

const (
	moreDescriptors = 200       // than at rest: connections of clients and peers
	mostBytes       = 512 << 20 // resident, of one replica
)

// leaks says what is there that should not be: processes, namespaces, mounts,
// or a replica that grew beyond bounds.
func (c *cluster) leaks() error {
	var errs []error
	now := c.measure()
	if now.descriptors > c.base.descriptors+moreDescriptors {
		errs = append(errs, fmt.Errorf("a replica has %d descriptors open, %d at rest", now.descriptors, c.base.descriptors))
	}
	if now.bytes > mostBytes {
		errs = append(errs, fmt.Errorf("a replica holds %d MB", now.bytes>>20))
	}
	return errors.Join(append(errs, c.strays())...)
}

// strays compares what lives in the run's namespaces with what should.
func (c *cluster) strays() error {
	expected := map[string]bool{"1": true}
	for _, m := range c.members {
		if m.running() {
			expected[strconv.Itoa(m.pid())] = true
		}
	}
	var errs []error
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil || expected[p.Name()] {
			continue
		}
		command, err := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
		if err == nil && len(command) > 0 {
			errs = append(errs, fmt.Errorf("a process is left: %s %s", p.Name(), strings.ReplaceAll(string(command), "\x00", " ")))
		}
	}
	spaces, err := os.ReadDir("/run/netns")
	if err != nil {
		return err
	}
	if len(spaces) != len(c.members) {
		errs = append(errs, fmt.Errorf("%d network namespaces are there, for %d replicas", len(spaces), len(c.members)))
	}
	return errors.Join(errs...)
}
