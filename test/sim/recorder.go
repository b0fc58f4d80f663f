package sim

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// recorder keeps what happened: the faults as they were carried out, with whom
// they hit, and a digest of the deliveries of each virtual minute, so that a
// replay can say how far it went the same way. The newest deliveries and notes
// are kept whole.
type recorder struct {
	mu      sync.Mutex
	began   time.Time
	record  record
	carried []string // the faults, with the times at which they were carried out
	lines   []string // newest notes and deliveries, a ring
	at      int
	minute  int64
	digest  uint64 // of the deliveries of the minute
	against *record
	parted  time.Duration // when the deliveries first differed from the recorded run; 0 for never
	total   uint64        // deliveries
}

// record is the file of a run.
type record struct {
	Plan     plan     `json:"plan"`    // faults in order, with the targets they hit
	Minutes  []uint64 `json:"minutes"` // digest of the deliveries of each virtual minute
	Newest   []string `json:"newest,omitempty"`
	Violated string   `json:"violated,omitempty"`
}

func newRecorder(p *plan, against *record) *recorder {
	own := *p
	own.Faults = slices.Clone(p.Faults) // hit changes them
	return &recorder{record: record{Plan: own}, against: against, digest: 14695981039346656037}
}

func (r *recorder) begin(at time.Time) {
	r.mu.Lock()
	r.began = at
	r.mu.Unlock()
}

// delivered notes n bytes that a reader took.
func (r *recorder) delivered(l link, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := time.Since(r.began)
	for minute := int64(since / time.Minute); r.minute < minute; r.minute++ {
		r.turn()
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %s %d", since, l.from, l.to, n)
	r.digest = r.digest*1099511628211 ^ h.Sum64()
	r.total++
	r.keep(fmt.Sprintf("%12s %s>%s %d", since, l.from, l.to, n))
}

// turn ends a minute; requires mu.
func (r *recorder) turn() {
	if r.against != nil && r.parted == 0 && r.minute < int64(len(r.against.Minutes)) && r.against.Minutes[r.minute] != r.digest {
		r.parted = max(time.Duration(r.minute)*time.Minute, 1)
	}
	r.record.Minutes = append(r.record.Minutes, r.digest)
}

// keep requires mu.
func (r *recorder) keep(line string) {
	if len(r.lines) < keptLines {
		r.lines = append(r.lines, line)
		return
	}
	r.lines[r.at%keptLines] = line
	r.at++
}

func (r *recorder) note(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line = fmt.Sprintf("%12s -- %s", time.Since(r.began), line)
	r.keep(line)
	if os.Getenv("QUORATE_SIM_LOG") != "" {
		fmt.Fprintln(os.Stderr, line)
	}
}

// carry notes a fault that is carried out.
func (r *recorder) carry(f fault) {
	r.note(f.String())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.carried = append(r.carried, fmt.Sprint(time.Since(r.began), " ", f))
}

// hit notes whom fault i of the plan hit, for the replay.
func (r *recorder) hit(i int, target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.Plan.Faults[i].Target = target
}

// save writes the file of the run.
func (r *recorder) save(path string, v *violation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v != nil {
		r.record.Violated = v.Error()
		r.record.Newest = append(append([]string(nil), r.lines[r.at%max(len(r.lines), 1):]...), r.lines[:r.at%max(len(r.lines), 1)]...)
	}
	b, err := json.MarshalIndent(r.record, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func loadRecord(path string) (*record, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}
