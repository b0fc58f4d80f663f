package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// provenFork is one fork as operator forks shows it.
type provenFork struct {
	Replica  string `json:"replica"`
	Operator string `json:"operator"`
	Key      string `json:"key"`
	Size     uint64 `json:"size"`
	Root     string `json:"root"`
	Ours     string `json:"ours"`
	File     string `json:"file,omitempty"`
}

func (a *app) forksCommand(f *operatorFlags) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "forks",
		Short: "who signed two histories, and the proof as files",
		Long: `forks lists the replicas that this one caught signing two histories, and with
--out writes a proof of each: the two signatures, what shows that no history has
both heads, and the authority chain. Anybody can check such a file with quorate
verify FILE --genesis HASH, without a server. What to do: re-key or remove the
replica by the council; its operator answers for the key.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withSocket(c, f, func(ctx context.Context, o *client.OperatorClient) error {
				files, err := o.ForkProofs(ctx)
				if err != nil {
					return err
				}
				list := []provenFork{}
				for i, file := range files {
					one, err := showFork(file)
					if err != nil {
						return err
					}
					if out != "" {
						one.File = filepath.Join(out, fmt.Sprintf("fork-%s-%d.json", one.Replica, i+1))
						if err := writeNew(one.File, file, 0o644); err != nil {
							return err
						}
					}
					list = append(list, one)
				}
				return a.print(list, func(w io.Writer) { textForks(w, list) })
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "an existing folder, for the proofs")
	return c
}

func showFork(file []byte) (one provenFork, err error) {
	p, err := ledger.ParseForkProof(file)
	if err != nil {
		return one, err
	}
	// The replica that tells is ours: its genesis will do to read its own file.
	genesis, err := p.Ledger()
	if err != nil {
		return one, err
	}
	report, err := p.Verify(genesis)
	if err != nil {
		return one, err
	}
	return provenFork{Replica: report.Replica, Operator: report.Operator, Key: report.Key.String(), Size: report.Theirs.Size,
		Root: report.Theirs.Root.String(), Ours: report.Root.String()}, nil
}

func textForks(w io.Writer, list []provenFork) {
	if len(list) == 0 {
		fmt.Fprintln(w, "nobody is proven to have signed two histories")
	}
	for _, one := range list {
		fmt.Fprintf(w, "%s of %s signed two histories: root %s at size %d, and this replica's, which has %s there\n",
			clean(one.Replica), clean(one.Operator), one.Root, one.Size, one.Ours)
		if one.File != "" {
			fmt.Fprintf(w, "  wrote %s; anybody checks it with quorate verify %s --genesis HASH\n", one.File, one.File)
		}
	}
}
