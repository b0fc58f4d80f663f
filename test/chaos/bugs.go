package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/quorate/quorate/api/client"
)

// bug is a fault planted into every replica. A run with it must fail: it shows
// that the checker would notice.
type bug struct {
	name, what string
	nemesis    func(ctx context.Context, h *harm) error // under which it shows
	disks      bool
	verdict    *regexp.Regexp // what the checker must say of it: noticed as something else is not noticed
}

var (
	notLinearizable = regexp.MustCompile(`is not linearizable`)
	notDurable      = regexp.MustCompile(`acknowledged statements are on no replica's disk|no replica opens what is on its disk: r1: .*(damaged|older data|lost)`)
)

var bugs = []bug{
	{"early-ack", "a leader counts a follower that does not answer as one that agrees", separate, false, notLinearizable},
	{"stale-read", "a linearizable read is answered from what the replica has", separate, false, notLinearizable},
	{"drop-fsync", "writes are not made durable", powerCut, true, notDurable},
}

// runBug runs a cluster of replicas with a planted bug through a nemesis. found
// is what the checker says, err what kept the run from getting so far.
func runBug(ctx context.Context, o *options, dir string, number uint64, b bug) (found, err error) {
	c, err := foundCluster(ctx, o, dir, clusterPlan{members: startMembers, bug: b.name})
	if err != nil {
		return nil, err
	}
	defer c.close()
	if b.disks && c.noDisks != nil {
		return nil, &skipError{"it needs disks of their own for the replicas"}
	}
	chance := rand.New(rand.NewPCG(o.seed, 100+number))
	l, err := c.startLoad(chance.Uint64())
	if err != nil {
		return nil, err
	}
	h := &harm{cluster: c, load: l, chance: chance}
	if err := errors.Join(h.some(ctx, 20), b.nemesis(ctx, h)); err != nil {
		l.stop()
		return nil, err
	}
	// With a bug, healing may fail: replicas that diverged halt. What clients
	// were told is then held against what the others have.
	l.stop()
	if b.disks {
		if found, err := c.lostOnDisks(l); found != nil || err != nil {
			return found, err
		}
	}
	return c.accuse(ctx, l)
}

// lostOnDisks says which acknowledged statements have left no trace on any disk,
// in Raft's log or the history: whatever the replicas make of what is left, those
// are lost.
func (c *cluster) lostOnDisks(l *load) (found, err error) {
	missing := map[string]op{} // by text
	for _, o := range l.history.all() {
		if o.kind == opSubmit && o.open == nil {
			missing[o.text] = o
		}
	}
	acknowledged := len(missing)
	for _, m := range c.members {
		err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
				return nil // replaced meanwhile
			}
			if err != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			for text := range missing {
				if bytes.Contains(b, []byte(text+`"`)) { // as JSON has it
					delete(missing, text)
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	texts := slices.Sorted(maps.Keys(missing))
	return fmt.Errorf("%d of %d acknowledged statements are on no replica's disk after the power cut, such as %q, acknowledged as entry %d",
		len(missing), acknowledged, texts[0], missing[texts[0]].seq), nil
}

// accuse says what is wrong with what clients were told. Replicas with a bug
// may refuse to go on, so it waits until each of them is well or has given up,
// and takes the statements that are on any of the others for what is left.
func (c *cluster) accuse(ctx context.Context, l *load) (found, err error) {
	if found := check(l.history.all(), nil); found != nil {
		return found, nil
	}
	if err := c.partition(nil); err != nil {
		return nil, err
	}
	final := map[string][]uint64{}
	anybody := false
	for _, m := range c.members {
		well := false
		err := await(ctx, m.name+" to be well or to give up", func(ctx context.Context) error {
			well = false
			if !m.running() {
				return nil
			}
			s, err := c.statusOf(ctx, m)
			if err != nil {
				return err
			}
			well = s.Ready && len(s.Alarms) == 0
			if !well && len(s.Alarms) == 0 {
				return fmt.Errorf("it is %s", s.Role)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if well {
			anybody = true
			if err := c.collect(ctx, m, final); err != nil {
				return nil, err
			}
		}
	}
	if !anybody {
		return c.lastWords()
	}
	return check(l.history.all(), final), nil
}

// lastWords is what each replica says of why it does not open or serve what it
// has.
func (c *cluster) lastWords() (found, err error) {
	var told []string
	for _, m := range c.members {
		b, err := os.ReadFile(c.path("logs", m.name+".log"))
		if err != nil {
			return nil, err
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		told = append(told, m.name+": "+lines[len(lines)-1])
	}
	return fmt.Errorf("no replica opens what is on its disk: %s", strings.Join(told, "; ")), nil
}

// collect adds the statements of a member's history, certified or not.
func (c *cluster) collect(ctx context.Context, m *member, into map[string][]uint64) error {
	cl, err := c.clientOf(m)
	if err != nil {
		return err
	}
	defer cl.Close()
	for from := uint64(0); ; {
		page, err := cl.ListEntries(ctx, from, "", "", client.Read{Consistency: client.Stale, Limit: client.MaxEntriesPage})
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if e.ID != "" && !slices.Contains(into[e.ID], e.Seq) {
				into[e.ID] = append(into[e.ID], e.Seq)
			}
			from = e.Seq + 1
		}
		if len(page.Entries) == 0 {
			return nil
		}
	}
}
