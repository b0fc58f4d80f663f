package client

import (
	"context"
	"crypto/sha256"
	"iter"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// The standings of a key. How it came to its end is one of them once it has.
const (
	KeyInForce = "in_force"
	KeyNext    = "next"    // announced, and not in force yet
	KeyExpired = "expired" // its epochs are over, and it had no successor
	KeyEnded   = "ended"   // before the ledger kept how
)

// Key is the answer of /v1/keys/{id}: a key with its holder and its life. Of keys
// that came or ended before format 3, not all of it is known.
type Key struct {
	Meta        `json:"-"`
	ID          string  `json:"id" doc:"Key id, hex"`
	Words       string  `json:"words"`
	Holder      string  `json:"holder"`
	Role        string  `json:"role" enum:"governor,recovery,replica,node"`
	Operator    string  `json:"operator,omitempty" doc:"Of the holder, while it is on the ledger"`
	Standing    string  `json:"standing" enum:"in_force,next,rotated,rekeyed,revoked,removed,expired,ended"`
	How         string  `json:"how,omitempty" doc:"How it came: genesis, admitted, seated, rotated or rekeyed"`
	Since       uint64  `json:"since" doc:"seq of the entry by which it came"`
	Said        *uint64 `json:"said,omitempty" doc:"Of a rotation: the epoch in which it was accepted"`
	ValidFrom   *uint64 `json:"valid_from,omitempty" doc:"Epoch, inclusive"`
	ValidTo     *uint64 `json:"valid_to,omitempty" doc:"Epoch, inclusive"`
	Previous    string  `json:"previous,omitempty" doc:"Key id of its predecessor, hex"`
	Next        string  `json:"next,omitempty" doc:"Key id of its successor, hex"`
	Revoked     bool    `json:"revoked,omitempty" doc:"It is no longer its holder's key"`
	RevokedFrom *uint64 `json:"revoked_from,omitempty" doc:"Epoch from which on what it signed is disputed"`
	Last        uint64  `json:"last,omitempty" doc:"seq of the last statement under it, once it ended"`
	Destroyed   uint64  `json:"destroyed,omitempty" doc:"seq of the statement that its private key is destroyed"`
	Backup      *Backup `json:"backup,omitempty" doc:"Its last backup"`
}

// KeyList is the answer of /v1/holders/{name}/keys: the keys that a name has and had,
// newest first, as far as each names the one before it; and of /v1/keys?prefix=.
type KeyList struct {
	Meta `json:"-"`
	Keys []Key `json:"keys"`
}

// KeyFacts are the records from which a key's life is told.
type KeyFacts struct {
	ID       ledger.Hash
	Record   *fsm.KeyRecord
	Operator string          // of the holder, if it is on the ledger
	Current  *ledger.Hash    // the holder's key in force, if it is on the ledger
	Node     *fsm.NodeRecord // the holder, if the key is a node's and it is on the ledger
	Epoch    uint64          // now
	Policy   *ledger.Policy
	Backup   *Backup
}

// TellKey gives a key's life as its records say. Server and client use the same.
func TellKey(f *KeyFacts) Key {
	r := f.Record
	out := Key{
		ID: f.ID.String(), Words: keys.Words([16]byte(f.ID[:16])), Holder: r.Holder, Role: r.Role, Operator: f.Operator,
		How: r.How, Since: r.Since, ValidTo: r.ValidTo, Revoked: r.Revoked, RevokedFrom: r.RevokedFrom,
		Last: r.Last, Destroyed: r.Destroyed, Backup: f.Backup,
	}
	if r.Previous != nil {
		out.Previous = r.Previous.String()
	}
	if r.Next != nil {
		out.Next = r.Next.String()
	}
	if r.How == fsm.KeyRotated {
		out.Said = &r.Said
	}
	if r.Role == fsm.RoleNode && r.How != "" {
		out.ValidFrom = &r.ValidFrom
	}
	out.Standing = f.standing(&out)
	return out
}

// standing says how the key stands, and gives a node's key that has not ended its
// range.
func (f *KeyFacts) standing(out *Key) string {
	r, n := f.Record, f.Node
	switch {
	case r.RevokedFrom != nil && (r.Ended == "" || r.Ended == fsm.KeyRotated):
		return fsm.KeyRevoked
	case r.Ended != "":
		return r.Ended
	case n != nil && n.Next != nil && n.Next.Key == f.ID:
		from, to := n.Next.From, n.Next.From+f.Policy.KeyEpochs
		out.ValidFrom, out.ValidTo = &from, &to
		return KeyNext
	case f.Current == nil:
		return fsm.KeyRemoved
	case *f.Current != f.ID:
		return KeyEnded
	case n == nil:
		return KeyInForce
	}
	out.ValidFrom, out.ValidTo = &n.ValidFrom, &n.ValidTo
	switch {
	case n.Revoked:
		return fsm.KeyRevoked
	case f.Epoch > n.ValidTo+f.Policy.GraceEpochs:
		return KeyExpired
	}
	return KeyInForce
}

// Backup is the last backup of a key, as the ledger records it.
type Backup struct {
	Key        string        `json:"key" doc:"Key id, hex"`
	Holder     string        `json:"holder" doc:"Of the key"`
	Role       string        `json:"role"`
	Ciphertext string        `json:"ciphertext" doc:"SHA-256 of the backup's ciphertext, hex"`
	Threshold  uint64        `json:"threshold" doc:"How many shares open it"`
	Shares     []BackupShare `json:"shares"`
	Seq        uint64        `json:"seq" doc:"Of the statement that recorded it"`
	Epoch      uint64        `json:"epoch"`
	Standing   string        `json:"standing" enum:"covered,untested,missing" doc:"covered: as many holders as open it still sit with the recipients of then, and it was opened not long ago"`
	Tested     *uint64       `json:"tested,omitempty" doc:"Epoch in which it was opened last"`
	TestedSeq  uint64        `json:"tested_seq,omitempty" doc:"Of that statement"`
	Failed     bool          `json:"failed,omitempty" doc:"The last restore test failed"`
}

// The standings of a backup.
const (
	BackupCovered  = "covered"
	BackupUntested = "untested"
	BackupMissing  = "missing" // there is one, but too few of its holders are left
)

// BackupShare is a share of a backup.
type BackupShare struct {
	Holder string `json:"holder"`
	Share  string `json:"share" doc:"Its hash, hex"`
	Left   bool   `json:"left,omitempty" doc:"The holder no longer sits with the recipient that it is sealed to"`
}

// Backups is a page of /v1/backups, by key id.
type Backups struct {
	Meta    `json:"-"`
	Backups []Backup `json:"backups"`
	Next    string   `json:"next,omitempty"`
}

// BackupFacts are the records from which the standing of a backup is told.
type BackupFacts struct {
	Key     ledger.Hash
	Record  *fsm.BackupRecord
	Council []fsm.Governor
	Epoch   uint64
	Policy  *ledger.Policy
	Former  iter.Seq[*fsm.BackupRecord] // of the keys before it, newest first
}

// TellBackup gives a backup as its records say. Server and client use the same.
func TellBackup(f *BackupFacts) Backup {
	r := f.Record
	out := Backup{
		Key: f.Key.String(), Holder: r.Holder, Role: r.Role, Ciphertext: r.Ciphertext.String(), Threshold: r.Threshold,
		Shares: make([]BackupShare, len(r.Shares)), Seq: r.Seq, Epoch: r.Epoch, TestedSeq: r.TestedSeq, Failed: r.Failed,
	}
	if r.TestedSeq != 0 {
		out.Tested = &r.Tested
	}
	sits := map[string]ledger.Hash{}
	for _, g := range f.Council {
		if g.Recipient != "" {
			sits[g.Name] = sha256.Sum256([]byte(g.Recipient))
		}
	}
	seated := uint64(0)
	for i, s := range r.Shares {
		recipient, ok := sits[s.Holder]
		out.Shares[i] = BackupShare{Holder: s.Holder, Share: s.Share.String(), Left: !ok || recipient != s.Recipient}
		if !out.Shares[i].Left {
			seated++
		}
	}
	switch {
	case seated < r.Threshold:
		out.Standing = BackupMissing
	case r.Failed || !f.tested():
		out.Standing = BackupUntested
	default:
		out.Standing = BackupCovered
	}
	return out
}

// tested says whether the backup, or one of an earlier key with the very same
// holders, was opened not long ago: so an automatic rotation calls nobody together.
func (f *BackupFacts) tested() bool {
	lately := func(r *fsm.BackupRecord) bool {
		return r.TestedSeq != 0 && !r.Failed && f.Epoch <= r.Tested+f.Policy.KeyRules().TestEpochs
	}
	if lately(f.Record) {
		return true
	}
	for former := range f.Former {
		if lately(former) && former.Threshold == f.Record.Threshold && slices.EqualFunc(former.Shares, f.Record.Shares, func(x, y ledger.BackupShare) bool {
			return x.Holder == y.Holder && x.Recipient == y.Recipient
		}) {
			return true
		}
	}
	return false
}

// MaxFormerBackups is how many keys before a key are looked at for one whose backup
// was tested.
const MaxFormerBackups = 64

// Alarm is what the ledger itself warns of, since an epoch began or a decision was
// executed.
type Alarm struct {
	Kind  string   `json:"kind" doc:"rotation_late, key_expired, replica_rotation_late, backup_missing, backup_untested, retention_over, council_thin, reseat_pending or log_key_exposed"`
	Count uint64   `json:"count" doc:"How many it names"`
	Names []string `json:"names" doc:"The first 32 of them, sorted: nodes, governors, replicas, keys, actions or a proposal, by kind"`
	Since uint64   `json:"since" doc:"Epoch in which it began"`
	Seq   uint64   `json:"seq" doc:"Of the effect that said so last"`
}

// Alarms is the answer of /v1/alarms, by kind.
type Alarms struct {
	Meta   `json:"-"`
	Alarms []Alarm `json:"alarms"`
}

// Key reads a key with its life, by its id in hex, as a server says; VerifiedKey
// proves it.
func (c *Client) Key(ctx context.Context, id string, r Read) (*Key, error) {
	return get[Key](ctx, c, "/v1/keys/"+segment(id), r)
}

// KeysLike reads the keys whose ids begin with these hex digits, 8 at least: 16 of
// them at most.
func (c *Client) KeysLike(ctx context.Context, prefix string, r Read) (*KeyList, error) {
	return get[KeyList](ctx, c, "/v1/keys?prefix="+segment(prefix), r)
}

// HolderKeys reads the keys of a holder, newest first.
func (c *Client) HolderKeys(ctx context.Context, name string, r Read) (*KeyList, error) {
	return get[KeyList](ctx, c, "/v1/holders/"+segment(name)+"/keys", r)
}

// Backups reads a page of the backups, of a role and standing or of any ("").
func (c *Client) Backups(ctx context.Context, role, standing string, r Read) (*Backups, error) {
	path := "/v1/backups"
	separator := "?"
	for _, q := range [][2]string{{"role", role}, {"standing", standing}} {
		if q[1] != "" {
			path += separator + q[0] + "=" + segment(q[1])
			separator = "&"
		}
	}
	return get[Backups](ctx, c, path, r)
}

// Alarms reads what the ledger warns of.
func (c *Client) Alarms(ctx context.Context, r Read) (*Alarms, error) {
	return get[Alarms](ctx, c, "/v1/alarms", r)
}
