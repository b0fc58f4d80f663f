package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/audit"
)

type verifyFlags struct {
	server  serverFlags // only its genesis
	atLeast string
	json    bool
	workers int
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:   "verify PATH --genesis HEX",
		Short: "verify an export or a proof file offline; exit 0 or 1",
		Long: `verify proves an export (a directory or .tar.zst) from the genesis hash alone:
every link of the chain, leaf, root, cosignature quorum and statement signature;
then it replays the whole log through the rules and derives every effect and
state digest again. The first bad entry is named, and the exit code is 1.

A .tlog-proof or a state proof is verified the same way.

Genesis proves authority, not recency: an old export verifies too. The report
says "complete to size N, last signed T"; --at-least CHECKPOINT refuses an export
that does not reach a head that you know.`,
		Example: "  quorate verify ledger.tar.zst --genesis genesis --at-least head.txt\n  quorate verify 17.tlog-proof --genesis $(cat genesis)",
		Args:    exactArgs("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			if f.json {
				a.output = "json"
			}
			trusted, err := a.requireGenesis(f.server.genesis)
			if err != nil {
				return err
			}
			var atLeast []byte
			if f.atLeast != "" {
				if atLeast, err = readBounded(f.atLeast, ledger.MaxCheckpointBytes); err != nil {
					return usage("check --at-least", "read %s: %w", f.atLeast, err)
				}
			}
			if kind := proofKind(args[0]); kind != "" {
				return a.verifyProof(kind, args[0], trusted.hash, atLeast)
			}
			return a.verifyExport(c, args[0], trusted.hash, atLeast, f.workers)
		},
	}
	f.server.addGenesis(c.Flags())
	c.Flags().StringVar(&f.atLeast, "at-least", "", "a checkpoint that the export must extend")
	c.Flags().BoolVar(&f.json, "json", false, "the report as JSON; the same as --output json")
	c.Flags().IntVar(&f.workers, "workers", 0, "how many cores to use (default: all)")
	return c
}

func (a *app) verifyExport(c *cobra.Command, path string, genesis ledger.Hash, atLeast []byte, workers int) error {
	if _, err := os.Stat(path); err != nil {
		return usage("check the path", "verify %s: %w", path, causeOf(err))
	}
	report, err := audit.Verify(c.Context(), path, audit.Options{Genesis: genesis, AtLeast: atLeast, Workers: workers, Progress: a.progress("verifying")})
	var bad *audit.BadError
	if err != nil && !errors.As(err, &bad) {
		return err
	}
	printErr := a.print(report, func(w io.Writer) { reportText(w, report) })
	if bad != nil {
		return refused("do not rely on it; export again from another server and compare", "verification failed: %w", bad)
	}
	return printErr
}

func reportText(w io.Writer, r *audit.Report) {
	fmt.Fprintf(w, "ledger      %s\n  words     %s\n", r.GenesisHex, r.Words)
	if r.Origin != "" {
		fmt.Fprintf(w, "origin      %s\n", clean(r.Origin))
	}
	if r.Size > 0 {
		fmt.Fprintf(w, "head        complete to size %d, last signed %s, by %d replicas (threshold %d)\n", r.Size,
			r.LastSigned.UTC().Format("2006-01-02 15:04:05 UTC"), r.Cosigners, r.Threshold)
		fmt.Fprintf(w, "authority   %d links from genesis\n", r.Links)
	}
	fmt.Fprintf(w, "verified    %d entries, %d signatures, %d state digests derived again, in %.2f s\n", r.Entries, r.Signatures, r.Digests, r.Seconds)
	for _, part := range []struct {
		name   string
		counts map[string]int
	}{{"kinds", r.Kinds}, {"statements", r.Statements}, {"effects", r.Effects}} {
		if len(part.counts) == 0 {
			continue
		}
		var list []string
		for _, k := range sortedKeys(part.counts) {
			list = append(list, fmt.Sprintf("%s %d", k, part.counts[k]))
		}
		fmt.Fprintf(w, "%-11s %s\n", part.name, strings.Join(list, ", "))
	}
	if r.OK {
		fmt.Fprintf(w, "OK\n")
		return
	}
	fmt.Fprintf(w, "BAD         %s\n", badText(r.Bad))
}

func badText(b *audit.Bad) string {
	if b == nil {
		return "for an unknown reason"
	}
	text := b.Step
	if b.Seq != nil {
		text += fmt.Sprintf(", entry %d", *b.Seq)
	}
	return text + suffix(", ", b.File) + ": " + clean(b.Reason)
}

const (
	proofOfEntry = "entry"
	proofOfState = "state"
)

// proofKind says which proof file a path is, by its first bytes.
func proofKind(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Size() > ledger.MaxProofFileBytes {
		return ""
	}
	data, err := readBounded(path, ledger.MaxProofFileBytes)
	switch {
	case err != nil:
		return ""
	case bytes.HasPrefix(data, []byte("c2sp.org/tlog-proof@")):
		return proofOfEntry
	case bytes.HasPrefix(data, []byte("{")) && bytes.Contains(data, []byte(ledger.StateProofType)):
		return proofOfState
	}
	return ""
}

// proofView is what verifying a proof file prints.
type proofView struct {
	OK        bool            `json:"ok"`
	Genesis   string          `json:"genesis"`
	Size      uint64          `json:"size"`
	Signed    time.Time       `json:"last_signed"`
	Cosigners int             `json:"cosigners"`
	Threshold int             `json:"cosign_threshold"`
	Authority uint64          `json:"authority"`
	Entry     *entryView      `json:"entry,omitempty"`
	Key       string          `json:"key,omitempty"`
	Exists    bool            `json:"exists,omitempty"`
	Value     json.RawMessage `json:"value,omitempty"`
}

type entryView struct {
	Seq    uint64   `json:"seq"`
	Stamp  uint64   `json:"stamp"`
	Kind   string   `json:"kind"`
	Hash   string   `json:"hash"`
	ID     string   `json:"id,omitempty"`
	Type   string   `json:"type,omitempty"`
	Author string   `json:"author,omitempty"`
	About  []string `json:"about,omitempty"`
}

func (a *app) verifyProof(kind, path string, genesis ledger.Hash, atLeast []byte) error {
	data, err := readBounded(path, ledger.MaxProofFileBytes)
	if err != nil {
		return usage("check the path", "read %s: %w", path, err)
	}
	const next = "do not rely on it; ask for another proof"
	if len(atLeast) > 0 {
		return usage("verify an export to prove that it extends a head", "--at-least is for exports: a proof file holds no consistency proof")
	}
	var report *ledger.ProofReport
	if kind == proofOfEntry {
		var p *ledger.EntryProof
		if p, err = ledger.ParseEntryProof(data); err == nil {
			report, err = p.Verify(genesis)
		}
	} else {
		var p *ledger.StateProofFile
		if p, err = ledger.ParseStateProofFile(data); err == nil {
			report, err = p.Verify(genesis)
		}
	}
	if err != nil {
		return refused(next, "verification failed: %s: %w", path, err)
	}
	view := proofView{OK: true, Genesis: genesis.String(), Size: report.Head.Size, Signed: time.Unix(int64(report.Signed), 0).UTC(),
		Cosigners: report.Cosigners, Threshold: report.Threshold, Authority: report.Authority,
		Key: report.Key, Exists: report.Value != nil, Value: json.RawMessage(report.Value)}
	if report.Entry != nil {
		view.Entry = entryOf(report.Entry)
	}
	return a.print(view, view.text)
}

func entryOf(e *ledger.Entry) *entryView {
	v := &entryView{Seq: e.Seq, Stamp: e.Stamp, Kind: e.Kind.String()}
	if raw, err := e.Encode(); err == nil {
		v.Hash = ledger.LeafHash(raw).String()
	}
	switch e.Kind {
	case ledger.KindStatement:
		if s, err := ledger.ParseStatement(e.Content); err == nil {
			v.ID, v.Type, v.Author = s.ID.String(), s.Payload.Type, s.Payload.Author
			if body, err := ledger.DecodeBody[ledger.Propose](s); v.Type == ledger.TypePropose && err == nil {
				v.About = append([]string{body.Action}, actionWords(body.Action, body.Args)...)
			} else {
				v.About = aboutStatement(s)
			}
		}
	case ledger.KindEffect:
		if f, err := e.Effect(); err == nil {
			v.Type, v.About = f.Type, []string{string(f.Body)}
		}
	}
	return v
}

func (v *proofView) text(w io.Writer) {
	fmt.Fprintf(w, "head      size %d, last signed %s, by %d replicas (threshold %d), authority %d\n", v.Size,
		v.Signed.Format("2006-01-02 15:04:05 UTC"), v.Cosigners, v.Threshold, v.Authority)
	if e := v.Entry; e != nil {
		fmt.Fprintf(w, "entry     %d, %s %s%s, at %s\n", e.Seq, e.Kind, e.Type, suffix(" by ", e.Author), moment(e.Stamp))
		for _, line := range e.About {
			fmt.Fprintf(w, "          %s\n", clean(line))
		}
	} else if v.Exists {
		fmt.Fprintf(w, "record    %s\n          %s\n", clean(v.Key), clean(string(v.Value)))
	} else {
		fmt.Fprintf(w, "record    there is no %s\n", clean(v.Key))
	}
	fmt.Fprintf(w, "OK\n")
}
