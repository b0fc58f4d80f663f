package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/test/stagehand"
)

type options struct {
	bin    string
	epochs uint64
	every  time.Duration
	epoch  time.Duration
	keep   bool
}

// run founds the ledger, leaves it alone for the epochs, and judges. It says whether all
// was as it should be. why is why there are no lines that could be parted, if so.
func run(ctx context.Context, w io.Writer, o options, why error) bool {
	ctx, cancel := context.WithTimeout(ctx, foundLimit+judgeLimit+time.Duration(o.epochs+2*overrun)*o.epoch)
	defer cancel()
	r := stagehand.NewReport()
	var f *fleet
	end, ok := r.Begin(o.bin, "rotation-", o.keep, func(bin, dir string) error {
		at, err := takePlaces(why)
		if err == nil {
			f, err = found(ctx, r, bin, dir, o, at)
		}
		return err
	})
	defer end()
	if ok {
		r.Says("fleet", "%d replicas, %d agents of %d operators, founded in %.0f s; epochs of %s; a node's key lives for %d of them and is rotated in its last %d, a replica's is due after %d",
			replicasOfFleet, nodesOfFleet, operators, r.Took().Seconds(), o.epoch, keyEpochs, rotateEpochs, f.replicaEpochs)
		if err := lives(ctx, f, o); err != nil {
			r.Fail("%v", err)
			fmt.Fprintf(w, "rotation: %v\n", err)
		}
	}
	if f != nil {
		f.close()
		f.Leftovers()
		if err := f.leave(); err != nil {
			r.Fail("%v", err)
		}
	}
	if f != nil && len(r.Faults) > 0 {
		for _, one := range f.replicas {
			f.Tail(one.Name, logLines)
		}
		f.refusals()
	}
	return r.Print(w, "a fleet is left alone while its keys change", "the run", fmt.Sprintf("%d epochs, each agent speaks every %s", o.epochs, o.every)) && ctx.Err() == nil
}

// lives lets the fleet speak and be hurt for the epochs, and judges what it left.
func lives(ctx context.Context, f *fleet, o options) error {
	s, err := f.agents[0].Status(ctx)
	if err != nil {
		return err
	}
	f.newest.Store(s.Epoch)
	d := &disaster{fleet: f, begin: s.Epoch, epochs: o.epochs}
	speaking, silence := context.WithCancel(ctx)
	watching, stop := context.WithCancel(ctx)
	var talk, clock sync.WaitGroup
	clock.Go(func() { f.watches(watching) })
	clock.Go(func() { f.looks(watching) })
	began := time.Now()
	talk.Go(func() { f.speaks(speaking, o.every) })
	err = d.strikes(ctx)
	if err == nil {
		err = d.until(ctx, d.begin+o.epochs)
	}
	silence()
	talk.Wait()
	ended := time.Now()
	settled := f.settles(ctx)
	stop()
	clock.Wait()
	// Whatever went wrong, what is on the ledger tells more of it.
	return errors.Join(err, settled, f.judged(ctx, d, began, ended))
}

// settles waits until everything that was said is certified at every agent, and demands
// that each is well.
func (f *fleet) settles(ctx context.Context) error {
	leader, err := f.leader(ctx)
	if err != nil {
		return err
	}
	for _, a := range f.agents {
		if a.Process == nil {
			return fmt.Errorf("%s does not run", a.Name)
		}
		err := stagehand.Await(ctx, settleLimit, a.Name+" has nothing more to say", func() bool {
			s, err := a.Status(ctx)
			return err == nil && s.Waiting == 0
		})
		if err != nil {
			return err
		}
	}
	now, err := f.replicaStatus(ctx, leader)
	if err != nil {
		return err
	}
	for _, a := range f.agents {
		var s stagehand.AgentStatus
		err := stagehand.Await(ctx, settleLimit, a.Name+" has all that was said", func() bool {
			s, err = a.Status(ctx)
			return err == nil && s.Size >= now.Applied
		})
		if err != nil {
			return err
		}
		delete(s.Trouble, "backup") // made anew when the council or the policy wants it
		f.Demand(s.Standing == "active" && !s.Stale && !s.Alarm && len(s.Trouble) == 0, "%s in the end: %+v", a.Name, s)
	}
	f.Says("in the end", "every agent follows, is active and without trouble, and has all %d entries of then", now.Applied)
	return nil
}

// judged exports the ledger, verifies it, and judges what is in it.
func (f *fleet) judged(ctx context.Context, d *disaster, began, ended time.Time) error {
	if err := f.Command(ctx, "export", "--out", "export").Failed(); err != nil {
		return err
	}
	at := time.Now()
	checked := f.Command(ctx, "verify", "export")
	if err := checked.Failed(); err != nil {
		return err
	}
	for line := range strings.Lines(checked.Out) {
		if strings.HasPrefix(line, "verified") || strings.HasPrefix(line, "disputed") {
			f.Says("verify", "%s", strings.Join(strings.Fields(line), " "))
		}
	}
	f.Says("verify", "without any server, in %.1f s", time.Since(at).Seconds())
	entries, err := readExport(filepath.Join(f.Dir, "export"))
	if err != nil {
		return err
	}
	t := times{key: keyEpochs, rotate: rotateEpochs, late: lateEpochs, grace: graceEpochs}
	h, err := read(entries, t)
	if err != nil {
		return err
	}
	said, err := f.words()
	if err != nil {
		return err
	}
	f.tells(d, h, said, t)
	quiet, all := silent(said.said, began, ended)
	f.row(quiet*20 > all, "load", "%d statements said in %d s, %d seconds without any; %d orders not carried out %v", len(said.said), all, quiet, total(said.unsaid), said.unsaid)
	f.Says("machine", "%d processors; %s", runtime.NumCPU(), load())
	if f.lines == nil {
		f.Says("partition", "SKIPPED: %v", f.why)
	}
	f.row(d.done != faults, "faults", "%d of %d took place", d.done, faults)
	return nil
}

// tells says what was judged, line by line.
func (f *fleet) tells(d *disaster, h *history, said *words, t times) {
	missing, apart, kept := lost(said.said, h, f.absences)
	list(f, "lost", missing)
	f.row(len(missing) > 0, "lost", "%d of %d statements that agents said; %d more said by agents just before they were stopped (%s) and until they followed again, of them %d on the ledger",
		len(missing), len(said.said)-apart, apart, justBefore, kept)
	f.Says("anew", "%d statements are on the ledger under another id: their agents signed them anew in a later epoch", anew(said.said, h))
	if cut := d.parted; cut.names != nil {
		n, on, again := cut.spoke(said.said, h)
		f.row(n == 0, "partition", "%d statements said on the side that was cut off, while it was: %d are on the ledger, %d of them signed anew", n, on, again)
	}
	f.Says("gossip", "%.1f %% of the copies that others should get came by gossip; all others know the statement from the ledger", 100*float64(said.heard)/float64(max(1, len(said.said)*(nodesOfFleet-1))))

	bad := outside(h.wrong)
	accepted := 0
	for what, n := range h.judged {
		if kind, ok := strings.CutPrefix(what, "accepted "); ok && kind != "under the key before" {
			accepted += n
		}
	}
	list(f, "reader", h.wrong)
	f.row(len(bad) > 0 || accepted == 0, "range", "%d of %d statements accepted outside their key's range, by the naive reader of %d entries; %d under the key before, in the epoch after its last",
		len(bad), accepted, h.entries, h.judged["accepted under the key before"])
	f.row(len(h.wrong) > 0, "reader", "%d complaints of any kind", len(h.wrong))

	var own []spoken
	for _, s := range said.said {
		own = append(own, s.spoken)
	}
	double := twice(h.spoken, own)
	list(f, "twice", double)
	f.row(len(double) > 0, "twice", "%d of %d (name, epoch, seq) twice, on the ledger or said", len(double), len(h.spoken))
	f.keys(d, h, t)
	list(f, "standing", h.punished)
	f.row(len(h.punished) > 0, "standing", "%d nodes quarantined, excluded or found bad", len(h.punished))
}

// keys judges rotations and who was late.
func (f *fleet) keys(d *disaster, h *history, t times) {
	nodes, replicas := 0, 0
	for name, n := range h.rotations {
		if _, node := h.first[name]; node {
			nodes += n
		} else {
			replicas += n
		}
	}
	behind := idle(h, t)
	list(f, "idle", behind)
	f.row(len(behind) > 0 || h.said == 0, "rotations", "%d said by nodes in %d epochs; %d nodes rotated less often than once in %d epochs; %d by replicas", h.said, h.last+1, len(behind), t.key+1, replicas)
	f.row(h.last > f.replicaEpochs*9/8 && replicas < replicasOfFleet, "replicas", "%d rotations of their own keys (due after %d epochs)", replicas, f.replicaEpochs)
	silentLate, reasonless := untold(h.lates), unexcused(h.lates, h.starts, f.absences)
	list(f, "late", silentLate)
	list(f, "late", reasonless)
	late, expired := map[string]bool{}, map[string]bool{}
	for _, l := range h.lates {
		if l.expired {
			expired[l.name] = true
		} else {
			late[l.name] = true
		}
	}
	f.row(len(silentLate) > 0, "alarms", "%d late or expired keys, by epoch, without an alarm that names the node; %d with one", len(silentLate), len(h.lates)-len(silentLate))
	f.row(len(reasonless) > 0, "late", "%d late whom nothing had stopped or hindered; late: %v, expired: %v", len(reasonless), slices.Sorted(maps.Keys(late)), slices.Sorted(maps.Keys(expired)))
	f.row(!late[d.victim] || !expired[d.victim], "away", "%s, which was away, was late and then expired: alarms", d.victim)
}

// row says what was found, and fails if it is bad.
func (f *fleet) row(bad bool, what, format string, args ...any) {
	word := "ok   "
	if bad {
		word = "WRONG"
		f.Fail(what+": "+format, args...)
	}
	f.Says(what, word+" "+format, args...)
}

// list says the first of what was found wrong.
func list[T any](f *fleet, what string, found []T) {
	for _, one := range found[:min(len(found), shownLines)] {
		f.Says(what, "%v", one)
	}
}

// refusals says what the ledger refused of what agents said, what agents gave up, and
// what else went wrong with them, the commonest first.
func (f *fleet) refusals() {
	counts := map[string]int{}
	for _, a := range f.agents {
		b, err := os.ReadFile(filepath.Join(f.Dir, a.Name+".log"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if _, text, ok := strings.Cut(line, "level="); ok && (strings.Contains(text, "refused") || strings.Contains(text, "given up") || strings.HasPrefix(text, "WARN") || strings.HasPrefix(text, "ERROR")) {
				counts[fmt.Sprintf("%.140s", number.ReplaceAllString(strings.TrimSpace(text), "N"))]++
			}
		}
	}
	commonest := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(counts[b]-counts[a], strings.Compare(a, b)) })
	for _, text := range commonest[:min(len(commonest), 2*shownLines)] {
		f.Says("agents", "%d times: %s", counts[text], text)
	}
}

// load is how busy the machine was, as far as it tells: who shares it slows everybody.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 3 {
		return "its load is not known"
	}
	return fmt.Sprintf("%s, %s and %s processes wanted them on the mean of the last 1, 5 and 15 minutes", fields[0], fields[1], fields[2])
}

func total(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}
