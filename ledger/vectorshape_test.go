package ledger

import (
	"encoding/hex"
)

// The shapes of the vector files; test/vectors/README.md describes them.

// hexBytes are bytes that a vector shows as lower-case hex.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }
func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

type canonVectors struct {
	About string        `json:"about"`
	Cases []canonVector `json:"cases"`
}

type canonVector struct {
	Name  string   `json:"name"`
	Bytes hexBytes `json:"bytes"`
	Error string   `json:"error,omitempty"` // code; none: it is valid
}

type keyVectors struct {
	About string        `json:"about"`
	Keys  []keyVector   `json:"keys"`
	Words []wordsVector `json:"words"`
}

type wordsVector struct {
	Bytes hexBytes `json:"bytes"` // 32
	Words string   `json:"words"`
}

type keyVector struct {
	Name     string   `json:"name"`
	Seed     hexBytes `json:"seed"`
	Public   hexBytes `json:"public"`
	ID       hexBytes `json:"id"`
	Words    string   `json:"words"`
	Cosigner hexBytes `json:"cosigner"` // derived ML-DSA-44 public key
}

type statementVectors struct {
	About string            `json:"about"`
	Cases []statementVector `json:"cases"`
}

type statementVector struct {
	Name      string   `json:"name"`
	Envelope  hexBytes `json:"envelope"`
	Error     string   `json:"error,omitempty"` // code; none: it is a statement
	Path      string   `json:"path,omitempty"`  // of the field that is wrong
	Public    hexBytes `json:"public,omitempty"`
	Signature string   `json:"signature,omitempty"` // "valid" or "invalid" under public
	ID        hexBytes `json:"id,omitempty"`
	KeyID     hexBytes `json:"key_id,omitempty"`
	Signed    hexBytes `json:"signed,omitempty"` // Sig_structure
	Payload   string   `json:"payload,omitempty"`
}

type entryVectors struct {
	About string        `json:"about"`
	Cases []entryVector `json:"cases"`
}

type entryVector struct {
	Name    string   `json:"name"`
	Entry   hexBytes `json:"entry"`
	Error   bool     `json:"error,omitempty"`
	Seq     uint64   `json:"seq"`
	Stamp   uint64   `json:"stamp"`
	Prev    hexBytes `json:"prev,omitempty"`
	Kind    string   `json:"kind,omitempty"`
	Content hexBytes `json:"content,omitempty"`
	Leaf    hexBytes `json:"leaf,omitempty"`
	Genesis bool     `json:"genesis,omitempty"` // the content is a valid genesis too
}

type commandVectors struct {
	About string          `json:"about"`
	Cases []commandVector `json:"cases"`
}

type commandVector struct {
	Name       string     `json:"name"`
	Command    hexBytes   `json:"command"`
	Error      bool       `json:"error,omitempty"`
	Kind       uint8      `json:"kind"`
	Stamp      uint64     `json:"stamp"`
	Statements []hexBytes `json:"statements,omitempty"`
}

type trieVectors struct {
	About   string            `json:"about"`
	Digests []digestVector    `json:"digests"`
	Proofs  []trieProofVector `json:"proofs"`
}

type digestVector struct {
	Name    string       `json:"name"`
	Records []trieRecord `json:"records"`
	Digest  hexBytes     `json:"digest"`
}

type trieProofVector struct {
	Name   string   `json:"name"`
	Digest hexBytes `json:"digest"`
	Proof  string   `json:"proof"` // canonical JSON
	Holds  bool     `json:"holds"`
}

type trieRecord struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type checkpointVectors struct {
	About     string             `json:"about"`
	Authority string             `json:"authority"` // record, canonical JSON
	Policy    string             `json:"policy"`    // tlog-policy of the authority
	VKeys     []string           `json:"vkeys"`     // log Ed25519, log ML-DSA-44, then each active replica's ML-DSA-44
	Messages  []messageVector    `json:"messages"`
	Cases     []checkpointVector `json:"cases"`
}

type messageVector struct {
	Ledger    hexBytes `json:"ledger"`
	Replica   string   `json:"replica"`
	Origin    string   `json:"origin"`
	Size      uint64   `json:"size"`
	Root      hexBytes `json:"root"`
	Time      uint64   `json:"time"`
	Message44 hexBytes `json:"message_mldsa44"`
	Message65 hexBytes `json:"message_mldsa65"`
	Line44    string   `json:"line_mldsa44"`
	Line65    string   `json:"line_mldsa65"`
}

type checkpointVector struct {
	Name      string   `json:"name"`
	Note      string   `json:"note"`
	Result    string   `json:"result"` // certified, short, bad_signature, malformed or other_origin
	Size      uint64   `json:"size,omitempty"`
	Root      hexBytes `json:"root,omitempty"`
	Cosigners int      `json:"cosigners,omitempty"`
	Signed    uint64   `json:"signed,omitempty"` // seconds
}

type authorityVectors struct {
	About       string        `json:"about"`
	Strings     []string      `json:"strings"` // what the texts are shortened by
	Genesis     hexBytes      `json:"genesis"` // hash
	Links       []string      `json:"links"`   // canonical JSON; a chain
	Certifiers  []string      `json:"certifiers"`
	Checkpoints []noteVector  `json:"checkpoints"`
	Refused     []refusedLink `json:"refused"`
}

type noteVector struct {
	Name string `json:"name"`
	Note string `json:"note"`
	OK   bool   `json:"ok"` // certified by who has authority over its size
}

type refusedLink struct {
	Name  string `json:"name"`
	After int    `json:"after"` // index of the link that it claims to follow; -1: a link 0
	Link  string `json:"link"`
}

type proofVectors struct {
	About   string        `json:"about"`
	Strings []string      `json:"strings"` // what the texts are shortened by
	Genesis hexBytes      `json:"genesis"`
	Cases   []proofVector `json:"cases"`
}

type proofVector struct {
	Name  string   `json:"name"`
	File  string   `json:"file"` // tlog-proof or state proof, by its first bytes
	Holds bool     `json:"holds"`
	Size  uint64   `json:"size,omitempty"`
	Seq   uint64   `json:"seq,omitempty"`   // of an entry proof
	Entry hexBytes `json:"entry,omitempty"` // of an entry proof
	Key   string   `json:"key,omitempty"`   // of a state proof
	Value string   `json:"value,omitempty"` // of a state proof; none: there is no record
}

type forkVectors struct {
	About   string       `json:"about"`
	Strings []string     `json:"strings"` // what the texts are shortened by
	Genesis hexBytes     `json:"genesis"`
	Cases   []forkVector `json:"cases"`
}

type forkVector struct {
	Name     string   `json:"name"`
	File     string   `json:"file"`
	Holds    bool     `json:"holds"`
	Replica  string   `json:"replica,omitempty"` // who forked
	Operator string   `json:"operator,omitempty"`
	Key      hexBytes `json:"key,omitempty"`    // id
	Ours     uint64   `json:"ours,omitempty"`   // size
	Theirs   uint64   `json:"theirs,omitempty"` // size
	Root     hexBytes `json:"root,omitempty"`   // of ours' history at theirs' size
	Forked   hexBytes `json:"forked,omitempty"` // theirs' root
	Signed   uint64   `json:"signed,omitempty"` // theirs, in seconds
}
