package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// keyCommand is what concerns keys themselves, and not what they sign.
func (a *app) keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "back keys up, restore, test and destroy them; sign with keys that are elsewhere",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return usage("see quorate key --help", "say what to do")
		},
	}
	c.AddCommand(a.keyBackupCommand(), a.keyRestoreCommand(), a.keyShareCommand(), a.keyVerifyCommand(), a.keyListCommand(),
		a.keyDestroyCommand(), a.keyShowCommand(), a.keySignerCommand(), a.keyCheckSignerCommand())
	return aboutFiles(c)
}

// shownKey is what key show prints: nothing secret.
type shownKey struct {
	Name      string `json:"name"`
	Role      string `json:"role"`
	Operator  string `json:"operator,omitempty"`
	KeyID     string `json:"key_id"`
	Words     string `json:"words"`
	Recipient string `json:"recipient,omitempty"`
	Created   int64  `json:"created,omitempty"` // milliseconds
}

func (a *app) keyShowCommand() *cobra.Command {
	var passphraseFile string
	c := &cobra.Command{
		Use:     "show FILE",
		Short:   "show the public parts of a key file",
		Long:    "show opens a key file, with its passphrase, and prints what of it is public.",
		Example: "  quorate key show alice.key",
		Args:    exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := a.readKey(args[0], passphraseFile)
			if err != nil {
				return err
			}
			defer file.Wipe()
			public, err := file.Public()
			if err != nil {
				return err
			}
			shown := shownKey{Name: file.Name, Role: file.Role, Operator: file.Operator, KeyID: public.KeyID, Words: public.Words,
				Recipient: public.Recipient, Created: file.Created}
			return a.print(shown, func(w io.Writer) {
				fmt.Fprintf(w, "key of the %s %s%s\n  key id     %s\n  words      %s\n", shown.Role, shown.Name, suffix(" of ", shown.Operator), shown.KeyID, shown.Words)
				if shown.Recipient != "" {
					fmt.Fprintf(w, "  recipient  %s\n", shown.Recipient)
				}
			})
		},
	}
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "read its passphrase from this file")
	return c
}

// aboutFiles makes a command, and those below it, exit with 1 for whatever a file, a
// share, a passphrase or a request is refused for: 2 is for wrong flags.
func aboutFiles(c *cobra.Command) *cobra.Command {
	for _, child := range c.Commands() {
		aboutFiles(child)
	}
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error { return asRefusal(run(c, args)) }
	}
	return c
}
