package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// keySignerCommand is the reference of the signer protocol: it signs with a key
// file. Whoever writes a signer for a card or another machine reads this.
func (a *app) keySignerCommand() *cobra.Command {
	var key, passphraseFile string
	c := &cobra.Command{
		Use:   "signer --key FILE",
		Short: "be a signer for --signer: speak its protocol on standard input and output",
		Long: `signer is the reference of the protocol that --signer exec:PROGRAM speaks: one
JSON object a line, which deploy/signer.md describes. It signs with a key file,
so it protects nothing by itself; start it over ssh, and the key file stays on the
other machine. Its passphrase comes from --passphrase-file, or from the file that
QUORATE_SIGNER_PASSPHRASE_FILE names: its input is the protocol.`,
		Example: `  quorate approve 9f0c… --signer exec:ssh --signer-arg vault --signer-arg "quorate key signer --key alice.key --passphrase-file pass"
  quorate key check-signer exec:quorate --signer-arg key --signer-arg signer --signer-arg --key --signer-arg alice.key`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			passphraseFile = orText(passphraseFile, a.getenv("QUORATE_SIGNER_PASSPHRASE_FILE"))
			file, err := a.readKey(key, passphraseFile)
			if err != nil {
				return err
			}
			defer file.Wipe()
			if file.Role != fsm.RoleGovernor && file.Role != fsm.RoleRecovery {
				return wrongFile("give a governor's key file", "%s is the key of the %s %s, who does not govern", key, file.Role, file.Name)
			}
			s, err := newSignerServer(file)
			if err != nil {
				return err
			}
			return s.serve(c.Context(), a.in, a.out)
		},
	}
	c.Flags().StringVar(&key, "key", "", "the key file to sign with (or QUORATE_KEY)")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "read its passphrase from this file")
	return c
}

// signerServer answers requests with a key in memory.
type signerServer struct {
	hello     keys.SignerOwner
	signer    keys.Signer
	unwrapper keys.Unwrapper // nil without an identity
	last      uint64         // id of the last request
}

func newSignerServer(file *keys.File) (*signerServer, error) {
	s := &signerServer{signer: keys.LocalSigner(file.Key)}
	s.hello = keys.SignerOwner{Name: file.Name, Operator: file.Operator, Protocol: keys.SignerProtocol, Public: file.Key.Public().Bytes(), Role: file.Role}
	if file.Identity == "" {
		return s, nil
	}
	var err error
	if s.hello.Recipient, err = keys.RecipientOf(file.Identity); err != nil {
		return nil, err
	}
	s.unwrapper, err = keys.LocalUnwrapper(file.Identity)
	return s, err
}

// serve answers until the input ends. A line that is no request is answered too,
// with id 0.
func (s *signerServer) serve(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	defer wipeReader(lines)
	for {
		line, err := keys.ReadSignerLine(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, keys.ErrLongLine) {
			return fmt.Errorf("read request: %w", err)
		}
		answer := keys.SignerAnswer{}
		if err != nil {
			answer.Error = keys.NewSignerError(keys.SignerBadRequest, err.Error())
		} else {
			answer = s.answer(ctx, line)
		}
		if err := say(out, answer); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// say writes an answer, and wipes it: that of unwrap is a secret.
func say(out io.Writer, answer keys.SignerAnswer) error {
	text, err := canon.Append(make([]byte, 0, len(answer.OK)+signerAnswerRoom), answer)
	defer keys.WipeBytes(text)
	defer keys.WipeBytes(answer.OK)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	_, err = out.Write(text)
	return err
}

// signerAnswerRoom is what an answer has beside ok, so that it need not grow, which would
// leave a copy behind.
const signerAnswerRoom = 1 << 10

func (s *signerServer) answer(ctx context.Context, line []byte) keys.SignerAnswer {
	r, err := keys.ParseSignerRequest(line)
	if err != nil {
		return keys.SignerAnswer{Error: keys.NewSignerError(keys.SignerBadRequest, "the line is no request: "+err.Error())}
	}
	a := keys.SignerAnswer{ID: r.ID}
	if r.ID != s.last+1 {
		a.Error = keys.NewSignerError(keys.SignerBadRequest, fmt.Sprintf("the id is %d, not %d", r.ID, s.last+1))
		return a
	}
	s.last = r.ID
	ok, problem := s.do(ctx, r)
	if problem != nil {
		a.Error = problem
		return a
	}
	if key, is := ok.(keys.SignerFileKey); is {
		defer keys.WipeBytes(key.FileKey)
	}
	if a.OK, err = canon.Marshal(ok); err != nil {
		a.Error = keys.NewSignerError(keys.SignerUnavailable, err.Error())
	}
	return a
}

// do does one operation. A field that is not the operation's is refused: who sends
// it means something that this signer would not do.
func (s *signerServer) do(ctx context.Context, r *keys.SignerRequest) (any, *keys.SignerError) {
	bad := func(text string) (any, *keys.SignerError) {
		return nil, keys.NewSignerError(keys.SignerBadRequest, text)
	}
	signs, unwraps := r.Message != nil || r.Purpose != "" || r.Show != nil, r.Stanzas != nil
	switch r.Op {
	case keys.SignerHello:
		if signs || unwraps || r.Protocol != keys.SignerProtocol {
			return bad("hello has a protocol, " + keys.SignerProtocol + ", and nothing else")
		}
		return s.hello, nil
	case keys.SignerSign:
		if unwraps || r.Protocol != "" {
			return bad("sign has message, purpose and show, and nothing else")
		}
		signature, err := s.signer.Sign(ctx, r.Purpose, r.Message, r.Show)
		if err != nil {
			return bad(err.Error())
		}
		return keys.SignerSignature{Signature: signature}, nil
	case keys.SignerUnwrap:
		switch {
		case signs || r.Protocol != "":
			return bad("unwrap has stanzas, and nothing else")
		case s.unwrapper == nil:
			return nil, keys.NewSignerError(keys.SignerUnknownOp, "this key has no age identity")
		}
		fileKey, err := s.unwrapper.Unwrap(ctx, r.Stanzas)
		if errors.Is(err, keys.ErrNotForUs) {
			return nil, keys.NewSignerError(keys.SignerForeign, "no stanza is for this identity")
		}
		if err != nil {
			return bad(err.Error())
		}
		return keys.SignerFileKey{FileKey: fileKey}, nil // answer wipes it
	}
	return nil, keys.NewSignerError(keys.SignerUnknownOp, fmt.Sprintf("there is no operation %.40q", r.Op))
}
