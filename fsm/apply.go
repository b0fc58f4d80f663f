package fsm

import (
	"errors"

	"github.com/quorate/quorate/ledger"
)

// Verifier says whether a statement's signature verifies under a packed
// ML-DSA-65 key. Shells verify in parallel before Apply and answer from what
// they remember; DirectVerifier verifies on the spot. It must be a pure
// function of its arguments.
type Verifier interface {
	Verify(st *ledger.Statement, public []byte) bool
}

// Parser may be implemented by a Verifier that has parsed the envelopes
// already. It must do what ledger.ParseStatement does.
type Parser interface {
	Parse(envelope []byte) (*ledger.Statement, error)
}

// Result is what a command did.
type Result struct {
	Entries  [][]byte      // encoded entries appended, in order (FORMAT.md section 5)
	Leaves   []ledger.Hash // their leaf hashes
	Verdicts []Verdict     // one a statement of the command, in order
	Sealed   *ledger.Seal  // the seal, if one was appended
	SealSeq  uint64        // its seq
	Urgent   bool          // an unsealed entry wants a seal at once

	// Halt says that the state's format is above Format: this program must
	// stop rather than diverge. Nothing was applied.
	Halt bool
}

// Verdict is what became of one statement.
type Verdict struct {
	Code      Code
	Seq       uint64      // of its entry, when Code is OK
	ID        ledger.Hash // zero when the bytes are no statement
	Path      string      // the field that is wrong, if one is
	Detail    string      // for people; not part of the ledger
	Duplicate bool        // it was accepted before, as entry Seq
}

// problem is a refusal on its way to becoming a verdict or a reason.
type problem struct {
	code   Code
	path   string
	detail string
}

func refuse(code Code, path, detail string) *problem {
	return &problem{code: code, path: path, detail: detail}
}

// reason is how a failed effect names the problem. It is on the ledger, so it
// is made of the code and the path alone, never of wording.
func (p *problem) reason() string {
	if p.path == "" {
		return p.code.String()
	}
	return p.code.String() + " at " + p.path
}

func (p *problem) verdict(id ledger.Hash) Verdict {
	return Verdict{Code: p.code, ID: id, Path: p.path, Detail: p.detail}
}

// fromStatementError turns an error of package ledger into a problem.
func fromStatementError(err error) *problem {
	var s *ledger.StatementError
	if !errors.As(err, &s) {
		return refuse(NotCOSE, "", err.Error())
	}
	code, ok := CodeNamed(s.Code)
	if !ok {
		code = BadField
	}
	return refuse(code, s.Path, s.Message)
}

// Apply is the ledger's rules: the state after command c, and what it did. It
// is total, and never changes s. The entries' stamp is the greater of the
// command's and the last entry's; what is due by then happens first, then the
// statements, in order. A bundle is accepted whole or not at all. A command
// that appends no entry of its own returns s itself.
func Apply(s *State, c *ledger.Command, v Verifier) (*State, Result) {
	if s.meta.Format > Format {
		return s, Result{Halt: true}
	}
	if c.Stamp > maxStamp {
		return s, Result{Verdicts: refuseAll(c, BadStamp)}
	}
	t := begin(s, max(c.Stamp, s.stamp), v)
	verdicts, holds := t.run(c)
	if !holds {
		return s, Result{Verdicts: verdicts}
	}
	next := t.commit()
	_, urgent := next.SealWanted()
	return next, Result{
		Entries:  t.entries,
		Leaves:   t.leaves,
		Verdicts: verdicts,
		Sealed:   t.seal,
		SealSeq:  t.sealSeq,
		Urgent:   urgent,
	}
}

// Admit says what Apply would answer to the command's statements, without
// making the next state, which costs as much again: a leader asks before it
// orders them.
func Admit(s *State, c *ledger.Command, v Verifier) []Verdict {
	if s.meta.Format > Format {
		return nil
	}
	if c.Stamp > maxStamp {
		return refuseAll(c, BadStamp)
	}
	t := begin(s, max(c.Stamp, s.stamp), v)
	t.dry = true
	verdicts, _ := t.run(c)
	return verdicts
}

// run does what a command orders. Unless it holds, nothing of the transition
// may be kept: the command was refused, or appends no entry of its own.
func (t *transition) run(c *ledger.Command) (verdicts []Verdict, holds bool) {
	switch c.Kind {
	case ledger.CommandStatements:
		if verdicts, holds = t.statements(c); !holds {
			return verdicts, false
		}
	case ledger.CommandTick:
		t.runDue()
		if len(t.entries) == 0 && t.next == t.sealed {
			t.appendEffect(EffectTick, &TickEffect{Tick: t.stamp / t.policy.TickMillis})
		}
	case ledger.CommandSeal:
		t.runDue()
		if t.next > t.sealed {
			t.appendSeal()
		}
	}
	return verdicts, len(t.entries) > 0
}

func refuseAll(c *ledger.Command, code Code) []Verdict {
	verdicts := make([]Verdict, len(c.Statements))
	for i := range verdicts {
		verdicts[i].Code = code
	}
	return verdicts
}

// statements applies a bundle.
func (t *transition) statements(c *ledger.Command) (verdicts []Verdict, holds bool) {
	if len(c.Statements) > ledger.MaxBundle {
		return refuseAll(c, BundleTooLarge), false
	}
	verdicts = make([]Verdict, len(c.Statements))
	fresh := false
	for i, envelope := range c.Statements {
		st, err := t.parse(envelope)
		// A recovery follows its head at once: what is due comes after it.
		if i == 0 && (err != nil || st.Payload.Type != ledger.TypeRecover) {
			t.runDue()
		}
		verdicts[i] = t.statement(st, err)
		if verdicts[i].Code != OK {
			return rejectBundle(verdicts, i), false
		}
		fresh = fresh || !verdicts[i].Duplicate
		// What the statement made due happens before the next statement, as it
		// would if they came in two commands.
		t.runDue()
	}
	return verdicts, fresh
}

// rejectBundle withdraws the verdicts of the others when statement bad is
// refused. What was said before stays said.
func rejectBundle(verdicts []Verdict, bad int) []Verdict {
	for i := range verdicts {
		if i != bad && !verdicts[i].Duplicate {
			verdicts[i] = Verdict{Code: BundleRejected, ID: verdicts[i].ID}
		}
	}
	return verdicts
}
