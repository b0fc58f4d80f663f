package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// keyCheckSignerCommand is the conformance test of the signer protocol.
func (a *app) keyCheckSignerCommand() *cobra.Command {
	var args []string
	var wait time.Duration
	c := &cobra.Command{
		Use:   "check-signer exec:PROGRAM",
		Short: "see whether a program is a good signer for --signer",
		Long: `check-signer starts the program several times and asks it what a good signer does
and what it must refuse: 20 checks. What it has signed is of the ledger whose hash
is zero, which there is none of, so that no signature is of use to anybody. A signer
that asks a person for each signature is asked about ten times.`,
		Example: "  quorate key check-signer exec:./card-signer --signer-arg --slot=2",
		Args:    exactArgs("exec:PROGRAM"),
		RunE: func(c *cobra.Command, names []string) error {
			check := &signerCheck{app: a, spec: names[0], args: args, wait: wait}
			if err := check.run(c.Context()); err != nil {
				return err
			}
			failed := check.failed()
			err := a.print(map[string]any{"checks": check.results, "failed": failed}, func(w io.Writer) {
				for _, r := range check.results {
					fmt.Fprintf(w, "%-5s  %s%s\n", r.word(), r.Name, suffix(": ", r.Problem))
				}
				fmt.Fprintf(w, "%d checks, %d failed\n", len(check.results), failed)
			})
			if err == nil && failed > 0 {
				err = refused("deploy/signer.md says what a signer must do", "%d of %d checks failed", failed, len(check.results))
			}
			return err
		},
	}
	c.Flags().StringArrayVar(&args, "signer-arg", nil, "an argument of the program; may be repeated")
	c.Flags().DurationVar(&wait, "signer-timeout", signerPatience, "how long the program may take for one answer")
	return c
}

// signerCheck is one run of the checks.
type signerCheck struct {
	app     *app
	spec    string
	args    []string
	wait    time.Duration
	at      *execSigner // the program that runs now
	first   keys.SignerOwner
	results []checkResult
}

type checkResult struct {
	Name    string `json:"name"`
	Passed  bool   `json:"passed"`
	Problem string `json:"problem,omitempty"`
}

func (r checkResult) word() string {
	if r.Passed {
		return "pass"
	}
	return "FAIL"
}

func (c *signerCheck) failed() int {
	n := 0
	for _, r := range c.results {
		if !r.Passed {
			n++
		}
	}
	return n
}

// run makes all checks. An error is one of ours, or that there is no program.
func (c *signerCheck) run(ctx context.Context) error {
	defer func() {
		if c.at != nil {
			_ = c.at.Close()
		}
	}()
	if err := c.restart(ctx); err != nil {
		return err
	}
	for i, check := range c.checks() {
		if err := ctx.Err(); err != nil {
			return err
		}
		problem := errNoHello
		if i == 0 || c.results[0].Passed {
			problem = check.see(ctx)
		}
		r := checkResult{Name: check.name, Passed: problem == nil}
		if problem != nil {
			r.Problem = clean(problem.Error())
		}
		c.results = append(c.results, r)
		// After a program broke the protocol the next check begins with a new one.
		if c.at.broken != nil && c.results[0].Passed {
			if err := c.restart(ctx); err != nil {
				return err
			}
			_ = c.at.greet(ctx)
		}
	}
	return nil
}

// restart ends the program, if it runs, and starts it anew.
func (c *signerCheck) restart(ctx context.Context) (err error) {
	if c.at != nil {
		_ = c.at.Close()
	}
	c.at, err = c.app.runSigner(ctx, c.spec, c.args, c.wait)
	return err
}

type signerTrial struct {
	name string
	see  func(ctx context.Context) error
}

func (c *signerCheck) checks() []signerTrial {
	return []signerTrial{
		{"hello: says who it signs for", func(ctx context.Context) error {
			err := c.at.greet(ctx)
			c.first = c.at.hello
			return err
		}},
		{"hello again: says the same", func(ctx context.Context) error {
			var again keys.SignerOwner
			if err := c.at.ask(ctx, keys.SignerRequest{Op: keys.SignerHello, Protocol: keys.SignerProtocol}, &again); err != nil {
				return err
			}
			return c.same(again)
		}},
		{"hello: another protocol is refused", c.refuses(keys.SignerRequest{Op: keys.SignerHello, Protocol: "quorate/signer.v0"})},
		{"signs a statement", c.signs(keys.PurposeStatement)},
		{"signs the same statement again", c.signs(keys.PurposeStatement)},
		{"signs a request for a share", c.signs(keys.PurposeRequest)},
		{"signs an endorsement", c.signs(keys.PurposeEndorsement)},
		{"refuses a purpose that it does not know", c.refusesMessage("rotate", keys.PurposeStatement)},
		{"refuses a statement as an endorsement", c.refusesMessage(keys.PurposeEndorsement, keys.PurposeStatement)},
		{"refuses an endorsement as a statement", c.refusesMessage(keys.PurposeStatement, keys.PurposeEndorsement)},
		{"refuses a request for a share as a statement", c.refusesMessage(keys.PurposeStatement, keys.PurposeRequest)},
		{"refuses other bytes as a statement", c.refuses(keys.SignerRequest{Op: keys.SignerSign, Purpose: keys.PurposeStatement, Message: []byte("quorate/rotate/v1\n\x00 and more")})},
		{"refuses a statement of another key", c.refusesForeignKey},
		{"an unknown operation: unknown_op", c.refusesWith(keys.SignerRequest{Op: "export"}, keys.SignerUnknownOp)},
		{"a line that is no JSON: bad_request, and it goes on", c.refusesLine([]byte("{hello}"))},
		{"an unknown field: bad_request, and it goes on", c.refusesLine([]byte(`{"id":1,"op":"hello","protocol":"quorate/signer.v1","silent":true}`))},
		{"a line of 200 KiB: bad_request, and it goes on", c.refusesLine(bytes.Repeat([]byte("a"), 200<<10))},
		{"unwraps what is sealed to its recipient", c.unwraps},
		{"refuses to unwrap what is sealed to another", c.refusesForeignStanza},
		{"ends when its input ends, and is the same when started again", c.ends},
	}
}

func (c *signerCheck) same(other keys.SignerOwner) error {
	if !bytes.Equal(other.Public, c.first.Public) || other.Name != c.first.Name || other.Operator != c.first.Operator ||
		other.Role != c.first.Role || other.Recipient != c.first.Recipient {
		return errors.New("it says another name, key or recipient than at first")
	}
	return nil
}

var errNoHello = errors.New("not asked: hello failed")

// message is one of a purpose, of a ledger that there is not.
func (c *signerCheck) message(purpose string) ([]byte, error) {
	if c.at.public == nil {
		return nil, errNoHello
	}
	var message []byte
	keep := func(m []byte) ([]byte, error) {
		message = m
		return make([]byte, keys.SignatureSize), nil
	}
	id := c.at.public.ID()
	switch purpose {
	case keys.PurposeEndorsement:
		_, err := ledger.EndorseWith(ledger.Hash{}, c.first.Name, ledger.Head{Origin: "check-signer.invalid", Size: 1}, 1, keep)
		return message, err
	case keys.PurposeRequest:
		_, recipient, err := keys.NewIdentity()
		if err != nil {
			return nil, err
		}
		payload, err := canon.Marshal(keys.ShareRequest{Author: c.first.Name, Expires: 1, Holder: c.first.Name, Name: c.first.Name,
			Purpose: keys.TestPurpose, Recipient: recipient, Sealed: []byte{0}, Type: keys.ShareRequestTyp})
		return keys.SigStructure(id, keys.ShareRequestTyp, payload), err
	}
	p := ledger.Payload{Author: c.first.Name, Type: ledger.TypeRecord, Nonce: make([]byte, 16), Expires: 1}
	_, err := ledger.SignWith(p, ledger.Record{Text: "quorate key check-signer: of no ledger"}, func(typ string, payload []byte) ([]byte, error) {
		message = keys.SigStructure(id, typ, payload)
		e := keys.Envelope{KeyID: id, Type: typ, Payload: payload, Signature: make([]byte, keys.SignatureSize)}
		return e.Bytes(), nil
	})
	return message, err
}

var shownAtCheck = []string{"quorate key check-signer: a message of no ledger"}

func (c *signerCheck) signs(purpose string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		message, err := c.message(purpose)
		if err != nil {
			return err
		}
		_, err = c.at.Sign(ctx, purpose, message, shownAtCheck)
		return err
	}
}

func (c *signerCheck) refusesMessage(purpose, of string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		message, err := c.message(of)
		if err != nil {
			return err
		}
		return c.refuses(keys.SignerRequest{Op: keys.SignerSign, Purpose: purpose, Message: message, Show: shownAtCheck})(ctx)
	}
}

func (c *signerCheck) refusesForeignKey(ctx context.Context) error {
	message, err := c.message(keys.PurposeStatement)
	if err != nil {
		return err
	}
	_, typ, payload, err := keys.ParseSigStructure(message)
	if err != nil {
		return err
	}
	return c.refuses(keys.SignerRequest{Op: keys.SignerSign, Purpose: keys.PurposeStatement, Message: keys.SigStructure(keys.ID{1}, typ, payload), Show: shownAtCheck})(ctx)
}

// refuses wants an error of the protocol, whichever.
func (c *signerCheck) refuses(r keys.SignerRequest) func(ctx context.Context) error {
	return c.refusesWith(r, "")
}

func (c *signerCheck) refusesWith(r keys.SignerRequest, code string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var ok canon.Raw
		err := c.at.ask(ctx, r, &ok)
		if err == nil {
			return errors.New("it did it")
		}
		return wantRefusal(err, code)
	}
}

// wantRefusal takes the signer's own refusal, and gives everything else back.
func wantRefusal(err error, code string) error {
	var refusal *keys.SignerError
	if !errors.As(err, &refusal) {
		return err
	}
	if code != "" && refusal.Code != code {
		return fmt.Errorf("its code is %.40q, want %q", refusal.Code, code)
	}
	if !strings.Contains(" declined locked unknown_op bad_request foreign unavailable ", " "+refusal.Code+" ") {
		return fmt.Errorf("its code %.40q is none of the protocol", refusal.Code)
	}
	return nil
}

// refusesLine sends a line that is no request, and then hello.
func (c *signerCheck) refusesLine(line []byte) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		raw, err := c.at.exchange(ctx, append(line, '\n'))
		if err != nil {
			c.at.broken = err
			return err
		}
		a, err := keys.ParseSignerAnswer(raw)
		if err != nil {
			return fmt.Errorf("it answered what is no answer: %w", err)
		}
		if a.Error == nil || a.Error.Code != keys.SignerBadRequest {
			return errors.New("it did not answer bad_request")
		}
		if a.ID != 0 {
			return fmt.Errorf("it answered with id %d, want 0", a.ID)
		}
		var again keys.SignerOwner
		if err := c.at.ask(ctx, keys.SignerRequest{Op: keys.SignerHello, Protocol: keys.SignerProtocol}, &again); err != nil {
			return fmt.Errorf("afterwards: %w", err)
		}
		return nil
	}
}

// unwraps has it open a small file. A signer without a recipient must say that it
// cannot.
func (c *signerCheck) unwraps(ctx context.Context) error {
	if c.at.public == nil {
		return errNoHello
	}
	if c.first.Recipient == "" {
		return c.refusesWith(keys.SignerRequest{Op: keys.SignerUnwrap, Stanzas: []keys.Stanza{{Type: "x", Args: []string{}}}}, keys.SignerUnknownOp)(ctx)
	}
	sealed, err := keys.SealTo([]string{c.first.Recipient}, []byte("check"))
	if err != nil {
		return err
	}
	plain, err := keys.OpenBy(ctx, c.at, sealed)
	if err == nil && string(plain) != "check" {
		err = errors.New("the file key is another")
	}
	return err
}

func (c *signerCheck) refusesForeignStanza(ctx context.Context) error {
	if c.at.public == nil {
		return errNoHello
	}
	_, recipient, err := keys.NewIdentity()
	if err != nil {
		return err
	}
	sealed, err := keys.SealTo([]string{recipient}, []byte("check"))
	if err != nil {
		return err
	}
	_, err = keys.OpenBy(ctx, c.at, sealed)
	switch {
	case err == nil:
		return errors.New("it opened it")
	case errors.Is(err, keys.ErrNotForUs):
		return nil // foreign
	case c.first.Recipient == "":
		return wantRefusal(err, keys.SignerUnknownOp)
	}
	return wantRefusal(err, keys.SignerForeign)
}

func (c *signerCheck) ends(ctx context.Context) error {
	began := time.Now()
	err := c.at.Close()
	if err != nil {
		if time.Since(began) >= signerEnding {
			err = fmt.Errorf("it did not end within %s and was killed", signerEnding)
		}
		_ = c.restart(ctx)
		return err
	}
	if err := c.restart(ctx); err != nil {
		return err
	}
	if err := c.at.greet(ctx); err != nil {
		return err
	}
	return c.same(c.at.hello)
}
