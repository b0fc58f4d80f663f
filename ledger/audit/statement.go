package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// SignedBy is what an export's state at its end says of the key under which a
// statement is signed.
type SignedBy struct {
	Holder      string  `json:"holder"`
	Role        string  `json:"role"`
	KeyHex      string  `json:"key"`
	Epoch       *uint64 `json:"epoch,omitempty"` // that the statement names
	Word        string  `json:"word"`            // fsm.KeyWord
	RevokedFrom *uint64 `json:"revoked_from,omitempty"`
}

func (s *SignedBy) text() string {
	text := fmt.Sprintf("%s %s, key %s…", s.Role, s.Holder, s.KeyHex[:16])
	if s.Epoch != nil {
		text += fmt.Sprintf(", in epoch %d, which is in the key's range", *s.Epoch)
	}
	return text
}

// ErrNoExport says that a statement can't be judged without an export.
var ErrNoExport = errors.New("a statement alone carries neither its author's key nor how that key stands: name an export of the ledger")

// statement judges a statement by itself, whether or not it is on the ledger: by its
// signature, and by what the state at the end of an export says of its key.
func (r *FileReport) statement(ctx context.Context, st *ledger.Statement, base string, opts FileOptions) error {
	if opts.Export == "" {
		return ErrNoExport
	}
	v, err := r.judge(ctx, st, base, opts)
	if err != nil {
		return err
	}
	envelope, err := keys.ParseEnvelope(st.Envelope)
	if err != nil {
		return badFile(StepProof, base, err)
	}
	r.Statement, r.View = st.ID.String(), envelope.Payload
	r.Seq = v.found
	h := v.head
	r.Origin, r.Size, r.Root = h.authority.Origin, h.size(), h.checkpoint.Head.Root.String()
	r.Cosigners, r.Threshold, r.Authority = v.report.Cosigners, int(h.authority.CosignThreshold), h.authority.Index
	r.LastSigned = unixTime(h.checkpoint.Signed(h.authority))
	return nil
}

// author judges the author of a statement whose place in the log is proven.
func (r *FileReport) author(ctx context.Context, envelope []byte, base string, opts FileOptions) error {
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return badFile(StepProof, base, err)
	}
	_, err = r.judge(ctx, st, base, opts)
	return err
}

// judge verifies the export, and the statement under the key that the export's state
// has for it.
func (r *FileReport) judge(ctx context.Context, st *ledger.Statement, base string, opts FileOptions) (*verifier, error) {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	v, err := verify(ctx, opts.Export, Options{Genesis: opts.Genesis, Workers: opts.Workers, wanted: st.ID})
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) (*verifier, error) {
		return nil, badFile(StepProof, base, fmt.Errorf(format, args...))
	}
	p := &st.Payload
	word, record := v.state.KeyAt(st.KeyID, p.Epoch)
	r.Signed = &SignedBy{
		Holder: record.Holder, Role: record.Role, KeyHex: st.KeyID.String(), Epoch: p.Epoch, Word: string(word), RevokedFrom: record.RevokedFrom,
	}
	if word == fsm.WordUnknown {
		r.Signed = nil
		return bad("its key %s had no role on this ledger up to size %d", st.KeyID, v.head.size())
	}
	if p.Ledger != opts.Genesis {
		return bad("it is of ledger %s, not of %s", p.Ledger, opts.Genesis)
	}
	if p.Author != record.Holder {
		return bad("it says that it is of %s, and its key is %s's", p.Author, record.Holder)
	}
	packed, key := v.known.get(st.KeyID)
	if key == nil {
		return bad("the log shows no public key for %s (%d bytes)", st.KeyID, len(packed))
	}
	if !st.Verify(key) {
		return bad("the signature of %s does not verify", p.Author)
	}
	if err := worth(word, &record, p.Epoch); err != nil {
		return nil, badFile(StepProof, base, err)
	}
	return v, nil
}

// worth says why a signature of an epoch is not worth its holder's word.
func worth(word fsm.KeyWord, record *fsm.KeyRecord, epoch *uint64) error {
	switch word {
	case fsm.WordDisputed:
		return fmt.Errorf("signed in epoch %d under a key that is revoked from epoch %d on", *epoch, *record.RevokedFrom)
	case fsm.WordEnded:
		return fmt.Errorf("signed in epoch %d under a key that was revoked; the ledger does not say from when", *epoch)
	case fsm.WordNotYet:
		return fmt.Errorf("signed in epoch %d under a key that is valid from epoch %d on", *epoch, record.ValidFrom)
	case fsm.WordExpired:
		return fmt.Errorf("signed in epoch %d, after the last one of its key", *epoch)
	}
	return nil
}

// CheckKey judges an entry proof that has one by the key's record, and says whose key
// it is; nil if the proof has none.
func CheckKey(found *ledger.ProofReport) (*SignedBy, error) {
	if found.KeyRecord == nil {
		return nil, nil
	}
	st, err := ledger.ParseStatement(found.Entry.Content)
	if err != nil {
		return nil, err
	}
	word, record, err := fsm.WordOf(st, found.KeyRecord)
	if err != nil {
		return nil, err
	}
	signed := &SignedBy{Holder: record.Holder, Role: record.Role, KeyHex: st.KeyID.String(), Epoch: st.Payload.Epoch, Word: string(word), RevokedFrom: record.RevokedFrom}
	return signed, worth(word, &record, st.Payload.Epoch)
}
