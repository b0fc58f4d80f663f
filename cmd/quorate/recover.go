package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
)

// recoverCommand is what an operator does when more than half of the voters will
// not come back. deploy/playbooks/lost-quorum.md tells it in order.
func (a *app) recoverCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "recover",
		Short: "go on after a lost quorum, as the council decides",
		Long: `recover works on the data directories of stopped replicas, without any server:

  1. operator recover plan     on each replica that is left: its newest certified head;
                               with --out, on the one with the highest: the plan
  2. propose recover plan=FILE by one governor, approve FILE by others, as many
                               operators as change the council; all offline
  3. operator recover apply    on each replica that the plan keeps
  4. start those, then the new ones with empty directories and seeds

Statements that were committed but not certified may be lost; apply keeps a copy.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return usage("one of plan, apply", "say what to do") },
	}
	c.AddCommand(a.recoverPlanCommand(), a.recoverApplyCommand())
	return c
}

type recoverPlanFlags struct {
	configs []string
	keep    []string
	fresh   []string
	memo    string
	out     string
	valid   time.Duration
}

// defaultValid is how long a plan may be applied: time to sign and to apply it, and
// not for the statements to lie about.
const defaultValid = 24 * time.Hour

func (a *app) recoverPlanCommand() *cobra.Command {
	var f recoverPlanFlags
	c := &cobra.Command{
		Use:   "plan --config FILE… [--keep NAME,…] [--new FILE.pub,…] [--out plan.json]",
		Short: "show what stopped replicas hold; with --out, plan how to go on",
		Long: `plan reads the data directories of stopped replicas and shows the newest certified
head of each, who is left, and what would be lost. It changes nothing. With --out
it writes a plan for the governors to sign: the ledger goes on from the newest of
these heads with the replicas of --keep (those whose configurations are given,
unless said) and those of --new, whose public key files quorate keygen wrote. What
is signed says until when it may be applied: for --valid from now.

A recovery that was cut off is completed first, as a start of the replica would do.`,
		Example: "  quorate operator recover plan --config r1.yaml\n  quorate operator recover plan --config r1.yaml --new keys/r5.pub,keys/r6.pub,keys/r7.pub --out plan.json",
		Args:    exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			if len(f.configs) == 0 {
				return usage("say --config FILE of a replica that is left and stopped", "no replica is named")
			}
			return a.recoverPlan(&f)
		},
	}
	c.Flags().StringSliceVar(&f.configs, "config", nil, "configuration of a stopped replica; may be given more than once")
	c.Flags().StringSliceVar(&f.keep, "keep", nil, "replicas that stay, by name (default: those of --config)")
	c.Flags().StringSliceVar(&f.fresh, "new", nil, "public key files of replicas that join")
	c.Flags().DurationVar(&f.valid, "valid", defaultValid, "how long the recovery may be applied, at most 720h")
	c.Flags().StringVar(&f.memo, "memo", "", "a note that is signed with it")
	c.Flags().StringVar(&f.out, "out", "", "write the plan to this file")
	return c
}

// survivorView is what plan shows of a replica.
type survivorView struct {
	Name       string `json:"name"`
	Certified  uint64 `json:"certified"`
	Root       string `json:"root"`
	Whole      uint64 `json:"whole"`     // entries without a gap
	Uncertain  int    `json:"uncertain"` // statements beyond the certified head
	Generation uint64 `json:"generation"`
	Recovered  uint64 `json:"recovered,omitempty"`
}

type recoverPlanView struct {
	Survivors []survivorView `json:"survivors"`
	Head      uint64         `json:"head"`
	Opens     uint64         `json:"opens"`
	Keep      []string       `json:"keep"`
	New       []string       `json:"new"`
	Lost      []string       `json:"lost"`
	Threshold uint64         `json:"threshold"` // operators that must sign
	Council   []string       `json:"council"`
	Until     uint64         `json:"until"` // milliseconds: a replica applies it no later
	Out       string         `json:"out,omitempty"`
}

func (a *app) recoverPlan(f *recoverPlanFlags) error {
	var best *replica.Survivor
	var genesis []byte
	view := recoverPlanView{New: []string{}, Lost: []string{}}
	for _, path := range f.configs {
		config, err := a.loadConfig(path, nil)
		if err != nil {
			return err
		}
		entry, err := readBounded(config.GenesisFile, ledger.MaxEntryBytes)
		if err != nil {
			return usage("check genesis_file", "read %s: %w", config.GenesisFile, err)
		}
		if genesis != nil && string(genesis) != string(entry) {
			return usage("plan for one ledger at a time", "%s is of another ledger", path)
		}
		genesis = entry
		s, err := replica.Survey(config.Dir, entry)
		if err != nil {
			return recoverFailure(config.Name, err)
		}
		view.Survivors = append(view.Survivors, survivorView{Name: config.Name, Certified: s.Head.Size, Root: s.Head.Root.String(),
			Whole: s.Whole, Uncertain: s.Uncertain, Generation: s.Generation, Recovered: s.Recovered})
		if best == nil || s.Generation > best.Generation || s.Generation == best.Generation && s.Head.Size > best.Head.Size {
			best = s
		}
	}
	body, err := a.planned(f, best, &view)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := writePlan(f.out, genesis, best, body); err != nil {
			return err
		}
		view.Out = f.out
	}
	return a.print(view, view.text)
}

// planned makes the body that the governors are to sign.
func (a *app) planned(f *recoverPlanFlags, best *replica.Survivor, view *recoverPlanView) (*ledger.Recover, error) {
	body := &ledger.Recover{At: uint64(a.now().UnixMilli()), Generation: best.Generation + 1, Head: best.Head, Keep: f.keep, Memo: f.memo}
	if f.valid < time.Second || f.valid.Milliseconds() > ledger.MaxNonceTTLMillis {
		return nil, usage("say --valid 24h, at most 720h", "a plan can't be valid for %s", f.valid)
	}
	body.Until = body.At + uint64(f.valid.Milliseconds())
	view.Until = body.Until
	if len(body.Keep) == 0 {
		for _, s := range view.Survivors {
			body.Keep = append(body.Keep, s.Name)
		}
	}
	slices.Sort(body.Keep)
	for _, path := range f.fresh {
		p, err := readPublic(path, fsm.RoleReplica)
		if err != nil {
			return nil, err
		}
		r, err := replicaOf(p, "", "")
		if err != nil {
			return nil, err
		}
		body.New = append(body.New, r)
		view.New = append(view.New, r.Name)
	}
	slices.SortFunc(body.New, func(a, b ledger.Replica) int { return strings.Compare(a.Name, b.Name) })
	if err := body.Validate(); err != nil {
		return nil, usage("check --keep and --new", "plan: %w", err)
	}
	known := map[string]bool{}
	for _, r := range best.Authority.Replicas {
		known[r.Name] = true
		if !slices.Contains(body.Keep, r.Name) {
			view.Lost = append(view.Lost, r.Name)
		}
	}
	for _, name := range body.Keep {
		if !known[name] {
			return nil, usage("check --keep and --config", "the ledger has no replica %s", name)
		}
	}
	for _, m := range best.Authority.Council {
		view.Council = append(view.Council, m.Name+" of "+m.Operator)
	}
	view.Head, view.Opens, view.Keep, view.Threshold = body.Head.Size, body.Generation, body.Keep, best.Authority.RecoverThreshold()
	return body, nil
}

func (v recoverPlanView) text(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "REPLICA\tCERTIFIED\tROOT\tHISTORY\tBEYOND THE HEAD\tGENERATION")
	for _, s := range v.Survivors {
		fmt.Fprintf(table, "%s\t%d\t%s…\t%d\t%d statements\t%d\n", clean(s.Name), s.Certified, s.Root[:16], s.Whole, s.Uncertain, s.Generation)
	}
	_ = table.Flush()
	fmt.Fprintf(w, "the ledger would go on from size %d as generation %d\n", v.Head, v.Opens)
	fmt.Fprintf(w, "  stay     %s\n", strings.Join(v.Keep, ", "))
	fmt.Fprintf(w, "  join     %s\n", orText(strings.Join(v.New, ", "), "nobody"))
	fmt.Fprintf(w, "  removed  %s, for good: their keys are worth nothing any more\n", orText(strings.Join(v.Lost, ", "), "nobody"))
	fmt.Fprintf(w, "  lost     what was committed beyond size %d and is not certified; apply keeps a copy of what is here\n", v.Head)
	fmt.Fprintf(w, "  to sign  governors of %d operators of: %s\n", v.Threshold, strings.Join(v.Council, ", "))
	fmt.Fprintf(w, "  until    %s it can be applied, by the clocks of the replicas\n", moment(v.Until))
	fmt.Fprintf(w, "If another replica is left, compare: the plan must be made from the highest certified head of all.\n")
	if v.Out == "" {
		fmt.Fprintf(w, "next: quorate operator recover plan … --new KEYS --out plan.json\n")
		return
	}
	fmt.Fprintf(w, "wrote %s\nnext, by a governor: quorate propose recover plan=%s --out recover.cose\n", v.Out, v.Out)
}

func recoverFailure(name string, err error) error {
	var refusal *replica.RecoverError
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return usage("stop it first: recover works on the data of stopped replicas", "%s is running: %w", name, err)
	case errors.As(err, &refusal):
		return refused("nothing was changed; deploy/playbooks/lost-quorum.md says what each reason means", "%s: %w", name, err)
	}
	return refused("quorate doctor --config FILE looks closer", "%s: %w", name, err)
}

func (a *app) recoverApplyCommand() *cobra.Command {
	var config, plan, instead string
	c := &cobra.Command{
		Use:   "apply --config FILE --plan plan.json STATEMENTS.cose…",
		Short: "make a stopped replica a member of the generation that the council opened",
		Long: `apply verifies the whole history up to the head that the plan names and the
council's signatures, and then replaces the replica's Raft log by one that begins
there. Give every replica that stays the very same files. What it had beyond that
head, and its old Raft log, are kept in a folder that it names. If it is
interrupted, run it again; once done, it changes nothing.

It names the recovery by an ID, of the very statements: it must be the same on every
replica. Other statements for the same generation are refused, unless --instead says
the ID of those that are given up, on every replica.`,
		Example: "  quorate operator recover apply --config r1.yaml --plan plan.json recover.cose bob.cose",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("name the files that quorate propose recover and quorate approve wrote", "no statements are given")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if config == "" || plan == "" {
				return usage("quorate operator recover apply --config FILE --plan plan.json STATEMENTS.cose…", "--config or --plan is missing")
			}
			return a.recoverApply(c, config, plan, instead, args)
		},
	}
	c.Flags().StringVar(&config, "config", "", "configuration of the stopped replica")
	c.Flags().StringVar(&plan, "plan", "", "the plan that operator recover plan wrote")
	c.Flags().StringVar(&instead, "instead", "", "ID of a recovery applied before, which is given up on every replica")
	return c
}

// recoverDone is what apply prints.
type recoverDone struct {
	ID         string `json:"id"` // the same on every replica
	Replica    string `json:"replica"`
	Already    bool   `json:"already"`
	Generation uint64 `json:"generation"`
	Size       uint64 `json:"size"`
	Dropped    int    `json:"dropped"`
	Folder     string `json:"folder"`
}

func (a *app) recoverApply(c *cobra.Command, configPath, planPath, instead string, paths []string) error {
	config, err := a.loadConfig(configPath, nil)
	if err != nil {
		return err
	}
	plan, err := readPlan(planPath)
	if err != nil {
		return err
	}
	entry, err := readBounded(config.GenesisFile, ledger.MaxEntryBytes)
	if err != nil {
		return usage("check genesis_file", "read %s: %w", config.GenesisFile, err)
	}
	key, err := keys.ReadFile(config.KeyFile, a.passphrase(config.PassphraseFile, config.KeyFile))
	if err != nil {
		return err
	}
	o := replica.RecoverOptions{Dir: config.Dir, Name: config.Name, Genesis: entry, Key: key.Key.Public(), LogStore: config.LogStore, Instead: instead, Now: a.now,
		Checkpoint: []byte(plan.Checkpoint), Links: plan.Links[1:], Logger: config.Log.logger(a.logFile()),
		Progress: func(seq uint64) { a.note("verified %d entries", seq) }}
	for _, path := range paths {
		list, err := readStatements(path)
		if err != nil {
			return err
		}
		for _, s := range list {
			o.Statements = append(o.Statements, s.Envelope)
		}
	}
	report, err := replica.Recover(c.Context(), o)
	if err != nil {
		return recoverFailure(config.Name, err)
	}
	done := recoverDone{ID: report.ID, Replica: config.Name, Already: report.Already, Generation: report.Generation, Size: report.Size,
		Dropped: report.Dropped, Folder: report.Folder}
	return a.print(done, func(w io.Writer) {
		if done.Already {
			fmt.Fprintf(w, "%s was recovered by these statements before; nothing was changed\n", done.Replica)
		} else {
			fmt.Fprintf(w, "%s is a member of generation %d, which goes on from size %d\n", done.Replica, done.Generation, done.Size)
		}
		fmt.Fprintf(w, "this recovery is %s; it must say so on every replica that stays\n", done.ID)
		if done.Dropped > 0 {
			fmt.Fprintf(w, "%s it had beyond that head are in %s: they are of the old generation, so whoever still wants them signs them anew\n",
				plural(done.Dropped, "statements"), filepath.Join(done.Folder, "dropped.cose"))
		}
		fmt.Fprintf(w, "the old Raft log is in %s; keep it until all is well\n", done.Folder)
		fmt.Fprintf(w, "next: the same on every replica that stays, then quorate server --config %s; then the new ones, with empty directories and seeds\n", configPath)
	})
}

// planFile is what governors sign by: what is to be decided, and the proof that
// the head is a certified one, from genesis on.
type planFile struct {
	Type       string   `json:"type"`
	Ledger     string   `json:"ledger"`
	Body       []byte   `json:"body"` // canonical JSON of ledger.Recover
	Checkpoint string   `json:"checkpoint"`
	Links      [][]byte `json:"links"` // 0 to N
}

const planType = "quorate/recover-plan.v1"

func writePlan(path string, genesis []byte, s *replica.Survivor, body *ledger.Recover) error {
	raw, err := canon.Marshal(body)
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	first, err := ledger.GenesisLink(genesis).Encode()
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	p := planFile{Type: planType, Ledger: ledger.LeafHash(genesis).String(), Body: raw, Checkpoint: string(s.Checkpoint),
		Links: append([][]byte{first}, s.Links...)}
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	return writeNew(path, append(data, '\n'), 0o644)
}

func readPlan(path string) (*planFile, error) {
	data, err := readBounded(path, maxPlanBytes)
	if err != nil {
		return nil, usage("quorate operator recover plan … --out FILE writes one", "read %s: %w", path, err)
	}
	var p planFile
	if err := json.Unmarshal(data, &p); err != nil || p.Type != planType || len(p.Links) == 0 {
		return nil, usage("quorate operator recover plan … --out FILE writes one", "%s is no plan of a recovery", path)
	}
	return &p, nil
}

const maxPlanBytes = 512 << 20
