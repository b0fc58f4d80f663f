package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// The kinds of single files that VerifyFile knows.
const (
	FileEntryProof  = "entry-proof"           // .tlog-proof, FORMAT.md section 11
	FileStateProof  = "state-proof"           // canonical JSON, section 11
	FileForkProof   = "fork-proof"            // canonical JSON, section 16
	FileTransparent = "transparent-statement" // .cose, section 14
	FileStatement   = "statement"             // .cose without a receipt, section 3
)

// FileReport is what a single proof file proves. Its JSON is stable.
type FileReport struct {
	OK         bool            `json:"ok"`
	Reason     string          `json:"reason,omitempty"` // why not
	Kind       string          `json:"kind,omitempty"`
	GenesisHex string          `json:"genesis"`
	Origin     string          `json:"origin,omitempty"`
	Size       uint64          `json:"size,omitempty"` // of the certified head
	Root       string          `json:"root,omitempty"`
	Cosigners  int             `json:"cosigners,omitempty"`
	Threshold  int             `json:"cosign_threshold,omitempty"`
	Authority  uint64          `json:"authority"`
	LastSigned time.Time       `json:"last_signed,omitzero"`
	Seq        *uint64         `json:"seq,omitempty"` // of the proven entry
	EntryKind  string          `json:"entry_kind,omitempty"`
	Stamp      time.Time       `json:"stamp,omitzero"`           // of the entry, or of the seal of a state proof
	Statement  string          `json:"statement,omitempty"`      // id
	Signer     string          `json:"receipt_signer,omitempty"` // replica
	View       json.RawMessage `json:"view,omitempty"`           // what the entry says
	Key        string          `json:"key,omitempty"`            // of the record
	Absent     bool            `json:"absent,omitempty"`         // it is proven that there is no such record
	Value      json.RawMessage `json:"value,omitempty"`
	Fork       *ProvenFork     `json:"fork,omitempty"`
	Signed     *SignedBy       `json:"signed_by,omitempty"` // of a statement, what the ledger says of its key
	KeySize    uint64          `json:"key_size,omitempty"`  // of an entry proof with a key: the size at which it says so
}

// ProvenFork is what a fork proof shows: a replica signed a head which is not of
// the history of the other head that it signed (FileReport's Size and Root).
type ProvenFork struct {
	Replica  string    `json:"replica"`
	Operator string    `json:"operator"`
	KeyHex   string    `json:"key"`
	Size     uint64    `json:"size"`
	Root     string    `json:"root"`       // that it signed
	Other    string    `json:"other_root"` // of the other history at that size
	Signed   time.Time `json:"signed"`
}

// FileOptions of VerifyFile.
type FileOptions struct {
	Genesis ledger.Hash

	// Export is the folder of an export, which a transparent statement needs:
	// its receipt names a replica's key and shows an entry, and carries neither.
	// "" stands for the export in whose folder proofs/ the file lies.
	//
	// A statement without a receipt is judged by an export too, a folder or an
	// archive, which is verified whole for that.
	Export  string
	Workers int // 0: one a core
}

// VerifyFile proves a single proof file from the genesis hash. If the file is
// to blame, the error is a *BadError and the report says so.
func VerifyFile(ctx context.Context, path string, opts FileOptions) (*FileReport, error) {
	report := &FileReport{GenesisHex: opts.Genesis.String()}
	err := report.verify(ctx, path, opts)
	var bad *BadError
	if errors.As(err, &bad) {
		report.Reason = bad.Error()
		return report, bad
	}
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", path, err)
	}
	report.OK = true
	return report, nil
}

func (r *FileReport) verify(ctx context.Context, path string, opts FileOptions) error {
	data, err := readProofFile(path)
	if err != nil {
		return err
	}
	base := filepath.Base(path)
	switch {
	case bytes.HasPrefix(data, []byte("c2sp.org/tlog-proof@")):
		r.Kind = FileEntryProof
		err = r.entryProof(data, opts.Genesis)
	case bytes.HasPrefix(data, []byte("{")) && bytes.HasSuffix(data, []byte(`"type":"`+ledger.ForkProofType+`"}`)):
		r.Kind = FileForkProof
		err = r.forkProof(data, opts.Genesis)
	case bytes.HasPrefix(data, []byte("{")):
		r.Kind = FileStateProof
		err = r.stateProof(data, opts.Genesis)
	case bytes.HasPrefix(data, []byte{0xd2, 0x84}):
		if st, bare := ledger.ParseStatement(data); bare == nil {
			r.Kind = FileStatement
			return r.statement(ctx, st, base, opts)
		}
		r.Kind = FileTransparent
		return r.transparent(ctx, data, path, opts)
	default:
		err = errors.New("it is neither a .tlog-proof, a state proof, a fork proof nor a transparent statement")
	}
	if err != nil {
		return badFile(StepProof, base, err)
	}
	return nil
}

func readProofFile(path string) (_ []byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	base := filepath.Base(path)
	if !info.Mode().IsRegular() {
		return nil, badFile(StepFiles, base, errors.New("it is no regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := readBounded(f, ledger.MaxProofFileBytes, nil)
	if errors.Is(err, errTooLarge) {
		err = badFile(StepFiles, base, err)
	}
	return data, joinSecond(err, f.Close())
}

func (r *FileReport) entryProof(data []byte, genesis ledger.Hash) error {
	p, err := ledger.ParseEntryProof(data)
	if err != nil {
		return err
	}
	found, err := p.Verify(genesis)
	if err != nil {
		return err
	}
	r.head(found)
	if r.Signed, err = CheckKey(found); err != nil {
		return err
	}
	r.KeySize = found.KeySize
	return r.entry(found.Entry)
}

func (r *FileReport) head(p *ledger.ProofReport) {
	r.Origin, r.Size, r.Root = p.Head.Origin, p.Head.Size, p.Head.Root.String()
	r.Cosigners, r.Threshold, r.Authority = p.Cosigners, p.Threshold, p.Authority
	r.LastSigned = unixTime(p.Signed)
}

func (r *FileReport) entry(e *ledger.Entry) error {
	r.Seq, r.EntryKind, r.Stamp = &e.Seq, e.Kind.String(), unixTime(e.Stamp/1000)
	if e.Kind != ledger.KindStatement {
		r.View = json.RawMessage(e.Content)
		return nil
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		return err
	}
	env, err := keys.ParseEnvelope(e.Content)
	if err != nil {
		return err
	}
	r.Statement, r.View = st.ID.String(), json.RawMessage(env.Payload)
	return nil
}

func (r *FileReport) forkProof(data []byte, genesis ledger.Hash) error {
	p, err := ledger.ParseForkProof(data)
	if err != nil {
		return err
	}
	found, err := p.Verify(genesis)
	if err != nil {
		return err
	}
	r.Origin, r.Size, r.Root = found.Ours.Origin, found.Ours.Size, found.Ours.Root.String()
	r.Fork = &ProvenFork{Replica: found.Replica, Operator: found.Operator, KeyHex: found.Key.String(), Size: found.Theirs.Size,
		Root: found.Theirs.Root.String(), Other: found.Root.String(), Signed: unixTime(found.Signed)}
	return nil
}

func (r *FileReport) stateProof(data []byte, genesis ledger.Hash) error {
	p, err := ledger.ParseStateProofFile(data)
	if err != nil {
		return err
	}
	found, err := p.Verify(genesis)
	if err != nil {
		return err
	}
	r.head(found)
	r.Stamp = unixTime(found.SealedAt / 1000)
	r.Key, r.Value, r.Absent = found.Key, json.RawMessage(found.Value), len(found.Value) == 0
	return nil
}

// transparent verifies a transparent statement within an export: its place in
// the tree that the authority chain certifies, the author's signature, and the
// receipt of the replica.
func (r *FileReport) transparent(ctx context.Context, data []byte, path string, opts FileOptions) (err error) {
	base := filepath.Base(path)
	envelope, receipt, err := ledger.ParseTransparentStatement(data)
	if err != nil {
		return badFile(StepProof, base, err)
	}
	if opts.Export == "" {
		if opts.Export, err = exportAround(path); err != nil {
			return err
		}
	}
	dir, err := OpenDirectory(opts.Export)
	if err != nil {
		return err
	}
	defer func() { err = joinSecond(err, dir.Close()) }()
	h, err := readHead(ctx, dir, opts.Genesis)
	if err != nil {
		return err
	}
	t := newTree(func(path string) ([]byte, error) { return dir.Get(ctx, path) }, h.checkpoint.Head)
	if receipt.Seq >= h.size() {
		return badFile(StepProof, base, fmt.Errorf("it is of entry %d, the export ends at size %d", receipt.Seq, h.size()))
	}
	if err := h.fits(t); err != nil {
		return err
	}
	entry, err := t.entry(receipt.Seq)
	if err != nil {
		return err
	}
	if err := h.checkTransparent(t, data, receipt.Seq, entry); err != nil {
		return badFile(StepProof, base, err)
	}
	if err := h.checkAuthor(envelope); errors.Is(err, errNotInChain) {
		// A node's keys are in the log alone.
		if err := r.author(ctx, envelope, base, opts); err != nil {
			return err
		}
	} else if err != nil {
		return badFile(StepProof, base, err)
	}
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		return badFile(StepProof, base, err)
	}
	if err := r.entry(e); err != nil {
		return badFile(StepProof, base, err)
	}
	r.Origin, r.Size, r.Root = h.authority.Origin, h.size(), h.checkpoint.Head.Root.String()
	r.Authority, r.Threshold = h.authority.Index, int(h.authority.CosignThreshold)
	r.LastSigned = unixTime(h.checkpoint.Signed(h.authority))
	for _, replica := range h.chain.ForSize(receipt.Size).Replicas {
		if replica.KeyID() == receipt.KeyID {
			r.Signer = replica.Name
		}
	}
	return nil
}

var errNoExport = errors.New("a transparent statement carries neither the replica's key nor its entry: verify it in the folder proofs/ of an export, or name the export")

// exportAround gives the export in whose folder proofs/ a file lies.
func exportAround(path string) (string, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	proofs := filepath.Dir(full)
	export := filepath.Dir(proofs)
	if _, err := os.Stat(filepath.Join(export, "checkpoint")); filepath.Base(proofs) != "proofs" || err != nil {
		return "", errNoExport
	}
	return export, nil
}

// checkAuthor verifies a statement's signature under the key that it names, if
// that was a governor's, a recovery holder's or a replica's at any handover.
func (h *head) checkAuthor(envelope []byte) error {
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return err
	}
	for n := range h.chain.Len() {
		a, _ := h.chain.At(n)
		public := publicOf(a, st.KeyID)
		if public == nil {
			continue
		}
		key, err := keys.ParsePublicKey(public)
		if err != nil {
			return err
		}
		if !st.Verify(key) {
			return fmt.Errorf("the signature of %s does not verify", st.Payload.Author)
		}
		return nil
	}
	return fmt.Errorf("key %s of %s %w", st.KeyID, st.Payload.Author, errNotInChain)
}

var errNotInChain = errors.New("is nobody's in the authority chain")

func publicOf(a ledger.Authority, id ledger.Hash) []byte {
	for _, m := range a.Council {
		if m.KeyID() == id {
			return m.Public
		}
	}
	for _, r := range a.Replicas {
		if r.KeyID() == id {
			return r.Public
		}
	}
	if a.Recovery != nil {
		for _, holder := range a.Recovery.Holders {
			if holder.KeyID() == id {
				return holder.Public
			}
		}
	}
	return nil
}

// Text is the report for people: lines, the last with its line feed.
func (r *FileReport) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("ledger", "%s", r.GenesisHex)
	if !r.OK {
		fmt.Fprintf(&b, "BAD: %s\n", r.Reason)
		return b.String()
	}
	line("head", "size %d, root %s", r.Size, r.Root)
	if r.Cosigners > 0 {
		line("certified", "by %d replicas (threshold %d) under authority %d", r.Cosigners, r.Threshold, r.Authority)
	}
	switch r.Kind {
	case FileForkProof:
		line("FORK", "replica %s of operator %s, key %s", r.Fork.Replica, r.Fork.Operator, r.Fork.KeyHex)
		line("signed", "root %s at size %d, on %s", r.Fork.Root, r.Fork.Size, r.Fork.Signed.Format(time.RFC3339))
		line("and the head", "above, whose history has root %s there", r.Fork.Other)
		return b.String()
	case FileStateProof:
		line("record", "%s", r.Key)
		if r.Absent {
			line("value", "none: it is proven that there is no such record")
		} else {
			line("value", "%s", r.Value)
		}
		line("sealed", "%s", r.Stamp.Format(time.RFC3339))
	case FileStatement:
		line("statement", "%s", r.Statement)
		line("signed by", "%s", r.Signed.text())
		if r.Seq != nil {
			line("entry", "%d of this export", *r.Seq)
		} else {
			line("entry", "none: it is not on the ledger up to this size")
		}
		line("says", "%s", r.View)
		fmt.Fprintf(&b, "its signature and key hold at size %d, last signed %s\n", r.Size, r.LastSigned.Format(time.RFC3339))
		return b.String()
	default:
		line("entry", "%d, a %s of %s", *r.Seq, r.EntryKind, r.Stamp.Format(time.RFC3339))
		if r.Signed != nil {
			line("signed by", "%s, as the ledger has it at size %d", r.Signed.text(), r.KeySize)
		}
		line("says", "%s", r.View)
	}
	if r.Signer != "" {
		line("receipt", "by replica %s", r.Signer)
	}
	fmt.Fprintf(&b, "proven at size %d, last signed %s\n", r.Size, r.LastSigned.Format(time.RFC3339))
	return b.String()
}
