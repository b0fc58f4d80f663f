package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

const (
	signerPatience = time.Minute     // for an answer: a person may have to press a button
	signerEnding   = 5 * time.Second // from the end of its input to its own end
)

// execSigner is a signer that is another program: started for one command, asked
// over its standard input and output, ended by closing its input.
type execSigner struct {
	program string
	wait    time.Duration
	command *exec.Cmd
	in      io.WriteCloser
	said    io.Closer // what out reads
	out     *bufio.Reader

	mu     sync.Mutex // one request at a time
	last   uint64     // id of the last request
	broken error      // why it is not asked any more

	hello  keys.SignerOwner
	public *keys.PublicKey
}

// startSigner starts the program and asks who it signs for.
func (a *app) startSigner(ctx context.Context, spec string, args []string, wait time.Duration) (*execSigner, error) {
	s, err := a.runSigner(ctx, spec, args, wait)
	if err != nil {
		return nil, err
	}
	if err := s.greet(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// runSigner starts the program and asks nothing.
func (a *app) runSigner(_ context.Context, spec string, args []string, wait time.Duration) (*execSigner, error) {
	program, ok := strings.CutPrefix(spec, "exec:")
	if !ok || program == "" {
		return nil, usage("say --signer exec:PROGRAM; deploy/signer.md says what the program must do", "--signer %q names no program", spec)
	}
	if wait <= 0 {
		return nil, usage("say a time such as 60s", "--signer-timeout is %s", wait)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, refused("give the path of the program, and make it executable", "start signer: %w", err)
	}
	s := &execSigner{program: program, wait: wait, command: exec.Command(path, args...)}
	// No shell, and of the environment only what a program needs to run, so that
	// no passphrase of ours reaches it by accident.
	s.command.Env = []string{"PATH=" + a.getenv("PATH"), "HOME=" + a.getenv("HOME")}
	for _, pair := range a.environ() {
		if strings.HasPrefix(pair, "QUORATE_SIGNER_") {
			s.command.Env = append(s.command.Env, pair)
		}
	}
	s.command.Stderr = a.err
	// Should a child of its own hold the standard error, that is waited for no longer.
	s.command.WaitDelay = signerEnding
	if s.in, err = s.command.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start signer: %w", err)
	}
	out, err := s.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start signer: %w", err)
	}
	s.said, s.out = out, bufio.NewReaderSize(out, 16<<10)
	if err := s.command.Start(); err != nil {
		return nil, refused("give the path of the program, and make it executable", "start signer %s: %w", program, causeOf(err))
	}
	return s, nil
}

// Close ends the program: its input ends, and then, if it does not end itself, it
// is killed. It says how it ended.
func (s *execSigner) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		return nil
	}
	_ = s.in.Close()
	s.in = nil
	kill := time.AfterFunc(signerEnding, s.kill)
	defer kill.Stop()
	// What it still says nobody reads; Wait may only be called when all is read.
	_, _ = io.Copy(io.Discard, s.out)
	wipeReader(s.out)
	if err := s.command.Wait(); err != nil {
		return fmt.Errorf("the signer %s ended badly: %w", s.program, err)
	}
	return nil
}

// kill ends the program and hears it no more: a child of its own may hold its output
// open for as long as it likes, and whoever reads would wait for that one. (A process
// group of its own would end the child too, but then no signer could ask at the
// terminal.)
func (s *execSigner) kill() {
	_ = s.command.Process.Kill()
	_ = s.said.Close()
}

// failed is an error of the signer, with a next step.
func (s *execSigner) failed(format string, args ...any) error {
	return refused("quorate key check-signer exec:"+s.program+" looks closer", "the signer %s "+format, append([]any{s.program}, args...)...)
}

// ask sends one request and reads its answer into ok. A signer that breaks the
// protocol or does not answer is not asked again.
func (s *execSigner) ask(ctx context.Context, r keys.SignerRequest, ok any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if s.in == nil {
		return s.failed("was ended")
	}
	s.last++
	r.ID = s.last
	line, err := canon.Marshal(r)
	if err != nil {
		return fmt.Errorf("ask signer: %w", err)
	}
	answer, err := s.exchange(ctx, append(line, '\n'))
	if err != nil {
		s.broken = err
		return err
	}
	defer keys.WipeBytes(answer) // of unwrap it is a secret
	a, err := keys.ParseSignerAnswer(answer)
	switch {
	case err != nil:
		s.broken = s.failed("answered what is no answer: %w", err)
		return s.broken
	case a.ID != r.ID:
		s.broken = s.failed("answered request %d, asked was %d", a.ID, r.ID)
		return s.broken
	case a.Error != nil:
		return s.refusal(a.Error)
	}
	defer keys.WipeBytes(a.OK)
	if err := canon.Unmarshal(a.OK, ok); err != nil {
		return s.failed("gave a wrong answer to %s: %w", r.Op, err)
	}
	return nil
}

// wipeReader writes zeros over what a reader has read ahead and handed out.
func wipeReader(r *bufio.Reader) {
	r.Reset(zeros{})
	_, _ = r.Peek(r.Size())
	r.Reset(nil)
}

// zeros is an endless input.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// exchange writes a line and reads one, and waits for neither for longer than it
// may: the program is killed then, which ends both.
func (s *execSigner) exchange(ctx context.Context, line []byte) ([]byte, error) {
	type read struct {
		line []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		if _, err := s.in.Write(line); err != nil {
			done <- read{nil, err}
			return
		}
		answer, err := keys.ReadSignerLine(s.out)
		done <- read{answer, err}
	}()
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	var why error
	select {
	case got := <-done:
		if got.err != nil {
			return nil, s.failed("ended or closed its output before it answered: %w", got.err)
		}
		return got.line, nil
	case <-ctx.Done():
		why = ctx.Err()
	case <-timer.C:
		why = s.failed("did not answer within %s", s.wait)
	}
	s.kill()
	_ = s.in.Close() // a child may hold that as well, and not read
	<-done
	return nil, why
}

// refusal is what a signer's own error comes to.
func (s *execSigner) refusal(e *keys.SignerError) error {
	next := map[string]string{
		keys.SignerDeclined:    "nothing was signed; run the command again if that was a mistake",
		keys.SignerLocked:      "unlock it, then run the command again",
		keys.SignerUnknownOp:   "use a signer that can do this, or a key file",
		keys.SignerBadRequest:  "the signer does not take what it was asked: quorate key check-signer exec:" + s.program + " looks closer",
		keys.SignerForeign:     "what is to be opened is sealed to somebody else",
		keys.SignerUnavailable: "see that what it needs is there, then run the command again",
	}[e.Code]
	return &failure{exit: exitRefused, code: e.Code, cause: fmt.Errorf("the signer %s says %w", s.program, e), next: next}
}

// greet asks who the signer signs for, and checks it.
func (s *execSigner) greet(ctx context.Context) error {
	if err := s.ask(ctx, keys.SignerRequest{Op: keys.SignerHello, Protocol: keys.SignerProtocol}, &s.hello); err != nil {
		return err
	}
	h := &s.hello
	if h.Protocol != keys.SignerProtocol {
		return s.failed("speaks %.40q, not %q", h.Protocol, keys.SignerProtocol)
	}
	var err error
	if s.public, err = keys.ParsePublicKey(h.Public); err != nil {
		return s.failed("gives no public key: %w", err)
	}
	if err := ledger.ValidName(h.Name); err != nil {
		return s.failed("gives no name: %w", err)
	}
	if h.Role != fsm.RoleGovernor && h.Role != fsm.RoleRecovery {
		return s.failed("signs for a %.40q, who does not govern", h.Role)
	}
	if h.Role == fsm.RoleGovernor && ledger.ValidName(h.Operator) != nil {
		return s.failed("names no operator of the governor %s", h.Name)
	}
	if h.Recipient != "" {
		if err := keys.CheckRecipient(h.Recipient); err != nil {
			return s.failed("gives a wrong recipient: %w", err)
		}
	}
	return nil
}

// Public gives the key that the signer said it signs with.
func (s *execSigner) Public() *keys.PublicKey { return s.public }

// Sign has the program sign. Whoever uses the signature verifies it before.
func (s *execSigner) Sign(ctx context.Context, purpose string, message []byte, show []string) ([]byte, error) {
	if err := keys.CheckPurpose(s.public.ID(), purpose, message); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	var got keys.SignerSignature
	if err := s.ask(ctx, keys.SignerRequest{Op: keys.SignerSign, Purpose: purpose, Message: message, Show: show}, &got); err != nil {
		return nil, err
	}
	if !s.public.Verify(message, got.Signature) {
		return nil, s.failed("gave what is no signature of its key %s…", s.public.ID().String()[:16])
	}
	return got.Signature, nil
}

// Unwrap has the program find a file key.
func (s *execSigner) Unwrap(ctx context.Context, stanzas []keys.Stanza) ([]byte, error) {
	var got keys.SignerFileKey
	err := s.ask(ctx, keys.SignerRequest{Op: keys.SignerUnwrap, Stanzas: stanzas}, &got)
	var refusal *keys.SignerError
	if errors.As(err, &refusal) && refusal.Code == keys.SignerForeign {
		return nil, fmt.Errorf("%w: %w", err, keys.ErrNotForUs)
	}
	return got.FileKey, err
}
