package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger/keys"
)

// TypeRecover is the statement by which a council goes on after a lost quorum:
// from a named certified head, with another replica set, as the next generation
// (FORMAT.md section 15).
const TypeRecover = "recover"

// Recover is the body of a recover statement. Its author approves by it; the
// others approve by approve statements of its id.
type Recover struct {
	At         uint64      `json:"at"`         // milliseconds: the least stamp of the entries that open the branch
	Generation uint64      `json:"generation"` // that it opens: one above the statement's own
	Head       RecoverHead `json:"head"`
	Keep       []string    `json:"keep"` // replicas that stay, sorted; one of them is active
	Memo       string      `json:"memo,omitempty"`
	New        []Replica   `json:"new,omitempty"`   // replicas that join, by name
	Until      uint64      `json:"until,omitempty"` // milliseconds: no replica applies it later; 0: at any time
}

// RecoverHead is the last certified head, from which the branch goes on.
type RecoverHead struct {
	Last Hash   `json:"last"` // leaf hash of entry Size-1, its seal
	Root Hash   `json:"root"`
	Size uint64 `json:"size"`
}

// Validate checks what the body alone can show to be wrong.
func (r Recover) Validate() error {
	switch {
	case r.Generation == 0:
		return errors.New("generation: a recovery opens generation 1 or a later one")
	case r.Head.Size < 2 || r.Head.Size > 1<<53-1:
		return errors.New("head.size: a certified head ends in a seal")
	case r.Head.Root.IsZero() || r.Head.Last.IsZero():
		return errors.New("head: root and last name it")
	case len(r.Keep) == 0:
		return errors.New("keep: nobody holds the ledger any more")
	case len(r.Keep)+len(r.New) > MaxReplicas:
		return fmt.Errorf("new: at most %d replicas in all", MaxReplicas)
	case len(r.Memo) > MaxMemoBytes:
		return fmt.Errorf("memo: at most %d bytes", MaxMemoBytes)
	case r.Until != 0 && (r.Until <= r.At || r.Until-r.At > MaxNonceTTLMillis):
		return errors.New("until: it is after at, by at most 30 days")
	}
	for _, name := range r.Keep {
		if err := ValidName(name); err != nil {
			return fmt.Errorf("keep: %w", err)
		}
	}
	if err := strictlySorted("keep", r.Keep, func(name string) string { return name }); err != nil {
		return err
	}
	if err := strictlySorted("new", r.New, func(one Replica) string { return one.Name }); err != nil {
		return err
	}
	for _, one := range r.New {
		if err := one.Validate(); err != nil {
			return fmt.Errorf("new: %s: %w", one.Name, err)
		}
		if slices.Contains(r.Keep, one.Name) {
			return fmt.Errorf("new: %s stays, so it can't be new", one.Name)
		}
	}
	return nil
}

// RecoverThreshold is how many distinct operators of a's council decide a
// recovery: as many as change the council.
func (a Authority) RecoverThreshold() uint64 { return a.Needs(TypeRecover, a) }

// Recovered checks that statements, a recover and approvals of it, open the next
// generation under prev: the signatures, the threshold, and that prev can become
// what the body names. It gives the body, and the authority of the branch as its
// first handover will have it, with the seqs that the statements get. Whether
// the head is a certified one is not checked here.
func (prev Authority) Recovered(statements []*Statement) (Recover, Authority, error) {
	if len(statements) == 0 || len(statements) > MaxLinkStatements || statements[0].Payload.Type != TypeRecover {
		return Recover{}, Authority{}, errors.New("check recovery: want a recover statement and the approvals of it")
	}
	body, err := DecodeBody[Recover](statements[0])
	if err != nil {
		return Recover{}, Authority{}, fmt.Errorf("check recovery: %w", err)
	}
	causes := make([]uint64, len(statements))
	for i := range causes {
		causes[i] = body.Head.Size + uint64(i)
	}
	next, err := prev.successor(prev.Ledger, statements, causes)
	if err != nil {
		return body, Authority{}, fmt.Errorf("check recovery: %w", err)
	}
	return body, next, nil
}

// Branch names what the replicas of a generation cosign heads of: the ledger, and
// from generation 1 on the generation too. A replica that stays may have cosigned
// heads beyond the fork that too few others did; in the next generation, in which
// fewer are enough, those signatures must not certify them.
func Branch(genesis Hash, generation uint64) Hash {
	if generation == 0 {
		return genesis
	}
	b := append(keys.PurposePrefix("generation"), genesis[:]...)
	return sha256.Sum256(binary.BigEndian.AppendUint64(b, generation))
}

// Branch is what a's replicas cosign heads of.
func (a Authority) Branch() Hash { return Branch(a.Ledger, a.Generation) }

// applyRecover makes the change of a recovery that enough operators approved.
func (next *Authority) applyRecover(prev Authority, statements []*Statement, causes []uint64) error {
	body, err := DecodeBody[Recover](statements[0])
	if err == nil {
		err = body.Validate()
	}
	if err != nil {
		return fmt.Errorf("statement %d: %w", causes[0], err)
	}
	if body.Generation != prev.Generation+1 {
		return fmt.Errorf("statement %d: it opens generation %d, and the one after %d is %d", causes[0], body.Generation, prev.Generation, prev.Generation+1)
	}
	for i, seq := range causes {
		if seq != body.Head.Size+uint64(i) {
			return fmt.Errorf("statement %d: it does not follow the head of size %d at once", seq, body.Head.Size)
		}
	}
	next.Generation = body.Generation
	next.Replicas = slices.DeleteFunc(next.Replicas, func(r AuthorityReplica) bool { return !slices.Contains(body.Keep, r.Name) })
	if len(next.Replicas) != len(body.Keep) {
		return fmt.Errorf("statement %d: keep: a replica that is not there", causes[0])
	}
	for _, one := range body.New {
		if slices.ContainsFunc(prev.Replicas, func(old AuthorityReplica) bool { return old.KeyID() == one.KeyID() }) {
			return fmt.Errorf("statement %d: new: %s has the key of a replica of before", causes[0], one.Name)
		}
		next.Replicas = append(next.Replicas, authorityReplica(one, true))
	}
	slices.SortStableFunc(next.Replicas, func(a, b AuthorityReplica) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	have, err := prev.approvals(TypeRecover, statements, causes)
	if err != nil {
		return err
	}
	if want := prev.Needs(TypeRecover, *next); uint64(have) < want {
		return fmt.Errorf("statement %d: the recovery has the approval of %d operators, needs %d", causes[0], have, want)
	}
	return nil
}

// Fork is what a link that opens a generation has in the place of the lost
// replicas' cosignatures: the head that the recover statement names, certified by
// them when they were there, and the proof that the link's own head extends it.
type Fork struct {
	Checkpoint string `json:"checkpoint"`
	Proof      []Hash `json:"proof"` // RFC 6962 consistency
}

// checkFork checks that the link's branch goes on from the head that its recover
// statement names, and that old certified that head.
func (l *Link) checkFork(old *Certifier, body Recover, h Head) (Head, error) {
	fork, err := ParseCheckpoint([]byte(l.Fork.Checkpoint))
	if err != nil {
		return Head{}, fmt.Errorf("fork: %w", err)
	}
	if fork.Head.Size != body.Head.Size || fork.Head.Root != body.Head.Root {
		return Head{}, fmt.Errorf("fork: it is the head of size %d, and the recovery names another one", fork.Head.Size)
	}
	if _, err := old.Certifies(fork); err != nil {
		return Head{}, fmt.Errorf("fork: %w", err)
	}
	if err := VerifyConsistency(l.Fork.Proof, fork.Head.Size, fork.Head.Root, h.Size, h.Root); err != nil {
		return Head{}, fmt.Errorf("fork: %w", err)
	}
	e, err := ParseEntry(l.Statements[0].Entry)
	if err != nil {
		return Head{}, fmt.Errorf("fork: %w", err)
	}
	if e.Prev != body.Head.Last {
		return Head{}, errors.New("fork: the recovery names another last entry than the one it follows")
	}
	return fork.Head, nil
}

// Leaves says whether l claims to open a generation from a head below size, so that
// a head of that size which is below l's own is of the branch that l leaves.
func (l *Link) Leaves(size uint64) bool {
	if l.Fork == nil {
		return false
	}
	fork, err := ParseCheckpoint([]byte(l.Fork.Checkpoint))
	return err == nil && fork.Head.Size < size
}

// ErrLeftBranch says that a head is of the branch that a recovery left: it is
// beyond the head from which the ledger went on, and before the first one of the
// next generation.
var ErrLeftBranch = errors.New("the head is of the branch that a recovery left")

// FormerCouncilError says that a chain opens a generation by the word of governors
// whom another chain, of which that one is not a part, replaced: each handover of
// it is certified, and the present council did not approve of leaving it.
type FormerCouncilError struct {
	Generation uint64   // that is opened
	Index      uint64   // of the link that opens it
	Recovery   Hash     // id of the recover statement
	Fork       Head     // from which it goes on
	Signers    []string // who signed it, as the council of that time names them
	Have, Need uint64   // operators of the present council that approve of it
}

func (e *FormerCouncilError) Error() string {
	return fmt.Sprintf("authority link %d opens generation %d from size %d, root %s, by statement %s of %s: the council was replaced after that head, and of the present one %d operators approve, %d decide",
		e.Index, e.Generation, e.Fork.Size, e.Fork.Root, e.Recovery, strings.Join(e.Signers, ", "), e.Have, e.Need)
}

// Outvotes says whether c, which some replica follows, is to be kept against rival,
// which links make and which is of a higher generation. It is not (nil) if rival
// continues c: then the council at c's end, or one that it handed over to, decided;
// nor if the two part and c's present council approved of a generation that rival
// opens after that. Otherwise governors who were replaced since, with the keys of
// replicas of their time, made rival of a head of their time (FORMAT.md section 15).
func (c *Chain) Outvotes(rival *Chain, links []*Link) *FormerCouncilError {
	at, parted := c.partsFrom(rival)
	if !parted {
		return nil
	}
	var former *FormerCouncilError
	for _, l := range links[at:] {
		if l.Fork == nil || l.Record.Generation <= c.Latest.Generation {
			continue
		}
		e := c.Latest.approvalOf(l)
		if e.Have >= e.Need {
			return nil
		}
		if former == nil {
			e.Fork, _ = rival.Fork(l.Index)
			former = e
		}
	}
	return former
}

// partsFrom gives the first link of both chains that is not the same. The head of a
// handover says which link it is: its tree holds the record and what authorised it.
func (c *Chain) partsFrom(rival *Chain) (index uint64, parted bool) {
	for n := 1; n < min(len(c.steps), len(rival.steps)); n++ {
		if c.steps[n].head != rival.steps[n].head {
			return uint64(n), true
		}
	}
	return 0, false
}

// approvalOf counts the voices of a's council for the generation that l opens.
// That l's signatures verify was checked under the authority before it, by the same
// keys.
func (a Authority) approvalOf(l *Link) *FormerCouncilError {
	e := &FormerCouncilError{Generation: l.Record.Generation, Index: l.Index, Need: a.RecoverThreshold()}
	voices := map[string]bool{}
	for i, at := range l.Statements {
		entry, err := ParseEntry(at.Entry)
		if err != nil {
			continue
		}
		s, err := ParseStatement(entry.Content)
		if err != nil {
			continue
		}
		if i == 0 {
			e.Recovery = s.ID
		}
		e.Signers = append(e.Signers, s.Payload.Author)
		if voice, public := a.voter(TypeRecover, s); public != nil {
			voices[voice] = true
		}
	}
	e.Have = uint64(len(voices))
	return e
}
