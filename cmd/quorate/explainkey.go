package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// keyStory is what explain key prints.
type keyStory struct {
	client.Key
	Epoch    uint64             `json:"epoch"` // now
	Came     toldCause          `json:"came"`
	Signed   *toldSigned        `json:"signed,omitempty"`
	Looked   []uint64           `json:"looked_at,omitempty"` // entries from, to (exclusive)
	Decision *client.Revocation `json:"revoked_by,omitempty"`
	Disputed []uint64           `json:"disputed,omitempty"` // seqs
	Partial  bool               `json:"partial,omitempty"`  // older entries were not looked at
	Size     uint64             `json:"size"`               // of the certified head that all is proven under
	SignedAt uint64             `json:"head_signed"`
	MayNext  *uint64            `json:"rotate_from,omitempty"` // epoch from which a node's key may be rotated
	LateNext *uint64            `json:"late_from,omitempty"`   // epoch from which it is late
	Late     bool               `json:"late,omitempty"`        // it ends soon, and no other is announced
	Over     bool               `json:"over,omitempty"`        // it ended, and no other was announced
	Restored *client.Restoring  `json:"restored,omitempty"`    // the last time that was found

	look keyLook
}

type toldSigned struct {
	Seq   uint64  `json:"seq"`
	Type  string  `json:"type"`
	Epoch *uint64 `json:"epoch,omitempty"`
}

var keyDigits = regexp.MustCompile(`^[0-9a-fA-F]{8,64}$`)

// explainKey finds the key that text means and tells its life; a holder's name lists
// its keys.
func (a *app) explainKey(ctx context.Context, l *link, text string, whole bool) error {
	if !keyDigits.MatchString(text) {
		if err := ledger.ValidName(text); err != nil {
			return usage("give 8 or more hex digits of a key's id, or a holder's name", "%q is neither", text)
		}
		return a.explainHolder(ctx, l, text)
	}
	id, err := ledger.ParseHash(strings.ToLower(text))
	if err != nil {
		like, err := l.KeysLike(ctx, strings.ToLower(text), client.Read{})
		if err != nil {
			return err
		}
		switch len(like.Keys) {
		case 0:
			return noKey(text)
		case 1:
		default:
			var fit []string
			for _, k := range like.Keys {
				fit = append(fit, fmt.Sprintf("%s… of %s", k.ID[:16], k.Holder))
			}
			return refused("give more digits", "%d keys begin with %s: %s", len(fit), text, strings.Join(fit, ", "))
		}
		if id, err = ledger.ParseHash(like.Keys[0].ID); err != nil || !strings.HasPrefix(like.Keys[0].ID, strings.ToLower(text)) {
			return refused("ask another server", "the server names the key %q, which does not begin with %s", like.Keys[0].ID, text)
		}
	}
	story, err := l.keyStory(ctx, id, whole)
	if errors.Is(err, client.ErrNotFound) {
		return noKey(text)
	}
	if err != nil {
		return err
	}
	return a.print(story, story.text)
}

func noKey(text string) error {
	return &failure{exit: exitRefused, code: "not_found", cause: fmt.Errorf("no key %s had a role on this ledger", text), next: "quorate list keys shows those in force"}
}

// explainHolder lists the keys of a holder, each told from proven records.
func (a *app) explainHolder(ctx context.Context, l *link, name string) error {
	list, err := l.HolderKeys(ctx, name, client.Read{})
	var p *client.Problem
	if errors.As(err, &p) && p.Status == 404 {
		return &failure{exit: exitRefused, code: "not_found", cause: fmt.Errorf("nobody named %q holds a key on this ledger now", name), next: "quorate list keys shows who does; a key of the past is found by its id"}
	}
	if err != nil {
		return err
	}
	t := &table{head: []string{"KEY", "HOLDER", "ROLE", "EPOCHS", "STANDING", "CAME"}}
	proven := []client.Key{}
	for _, told := range list.Keys {
		id, err := ledger.ParseHash(told.ID)
		if err != nil {
			return refused("ask another server", "the server names a key %q", told.ID)
		}
		k, err := l.VerifiedKey(ctx, id)
		if err != nil {
			return err
		}
		if k.Holder != name {
			return refused("ask another server", "the server names the key %s… for %s, which is %s's", told.ID[:16], name, k.Holder)
		}
		restored, err := l.LastRestoring(ctx, id, k.Backup)
		if err != nil {
			return err
		}
		proven = append(proven, k.Key)
		t.rows = append(t.rows, []string{k.ID, k.Holder, k.Role, rangeWords(&k.Key), lookAt(k, restored).short(), strings.TrimSpace(k.How + " (entry " + number(k.Since) + ")")})
	}
	return a.print(proven, t.text)
}

func (l *link) keyStory(ctx context.Context, id ledger.Hash, whole bool) (*keyStory, error) {
	s, err := l.StoryOfKey(ctx, id, whole)
	if err != nil {
		return nil, err
	}
	out := &keyStory{
		Key: s.Key, Epoch: s.Epoch, Came: tellCause(s.Came).toldCause, Decision: s.Revoked, Disputed: s.Disputed, Partial: s.Partial,
		Size: s.Head.Size, SignedAt: s.Head.Signed, Restored: s.Restored, look: lookAt(&s.ProvenKey, s.Restored),
	}
	out.Late, out.Over = out.look.late(), out.look.over()
	if s.Seen[1] > 0 {
		out.Looked = s.Seen[:]
	}
	if s.Signed != nil {
		out.Signed = &toldSigned{Seq: s.Signed.Seq, Type: s.Signed.Type, Epoch: epochOf(s.Signed)}
	}
	if k := &s.Key; k.Role == fsm.RoleNode && k.ValidTo != nil && (k.Standing == client.KeyInForce || k.Standing == client.KeyNext) {
		rules := s.Rules.KeyRules()
		may, late := *k.ValidTo+1-min(rules.RotateEpochs, *k.ValidTo+1), *k.ValidTo+1-min(rules.LateEpochs, *k.ValidTo+1)
		out.MayNext, out.LateNext = &may, &late
	}
	return out, nil
}

// epochOf is the epoch that a statement bears, if it has one.
func epochOf(e *client.Entry) *uint64 {
	var payload struct {
		Epoch *uint64 `json:"epoch"`
	}
	_ = json.Unmarshal(e.View, &payload) // what is not there is not shown
	return payload.Epoch
}

func (s *keyStory) text(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-12s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	fmt.Fprintf(w, "key %s…, of %s %s%s: %s\n", s.ID[:16], s.Role, clean(s.Holder), suffix(" of ", clean(s.Operator)), clean(s.standing()))
	line("id", "%s", s.ID)
	line("words", "%s", s.Words)
	switch {
	case s.ValidFrom == nil:
	case s.ValidTo == nil:
		line("valid", "from epoch %d on; it is epoch %d", *s.ValidFrom, s.Epoch)
	default:
		line("valid", "from epoch %d to %d; it is epoch %d", *s.ValidFrom, *s.ValidTo, s.Epoch)
	}
	line("came", "%s", s.came())
	if s.Previous != "" {
		line("before it", "%s…", s.Previous[:16])
	}
	if s.Next != "" {
		line("after it", "%s…", s.Next[:16])
	}
	switch {
	case s.Late:
		line("next", "none is announced, which is late since epoch %d: see that its agent runs and reaches a replica", *s.LateNext)
	case s.Over:
		line("next", "quorate agent rekey makes another on its machine, and quorate propose node.rekey gives it to the node")
	case s.MayNext != nil && s.Next == "":
		line("next", "may be rotated from epoch %d on; late from epoch %d on", *s.MayNext, *s.LateNext)
	}
	s.signed(line)
	s.revoked(line)
	switch {
	case s.Backup != nil:
		b := s.Backup
		line("backup", "entry %d: %s; opened %s; %s", b.Seq, shareWords(b), openedWords(b), b.Standing)
	case s.Standing == client.KeyInForce && s.Role != fsm.RoleReplica:
		line("backup", "none is recorded")
	}
	if s.Restored != nil {
		line("restored", "%s", restoringWords(s.Restored))
	}
	if s.Destroyed != 0 {
		line("destroyed", "the private key is, says entry %d", s.Destroyed)
	}
	fmt.Fprintf(w, "verified: records and entries are proven under the head of size %d, signed %s\n", s.Size, time.Unix(int64(s.SignedAt), 0).UTC().Format("15:04:05 UTC"))
}

// standing says how the key stands, in words, and of a revoked one by which decision.
func (s *keyStory) standing() string {
	text := s.look.long()
	if s.Standing != fsm.KeyRevoked {
		return text
	}
	if s.RevokedFrom != nil {
		text = "ended, " + text
	}
	if d := s.Decision; d != nil {
		text += fmt.Sprintf(" (entry %d, %s by %s%s)", d.Seq, d.Action, strings.Join(d.By, " "), suffix(": ", d.Reason))
	}
	return text
}

// came says how the key got its role.
func (s *keyStory) came() string {
	switch s.How {
	case fsm.KeyGenesis:
		return "with the genesis"
	case fsm.KeyRotated:
		text := fmt.Sprintf("by rotation: entry %d", s.Since)
		if s.Said != nil {
			text += fmt.Sprintf(" of epoch %d", *s.Said)
		}
		return text + ", signed by the key before it"
	case fsm.KeyRekeyed:
		return fmt.Sprintf("by decision, in place of another: entry %d", s.Since)
	case fsm.KeyAdmitted, fsm.KeySeated:
		return fmt.Sprintf("by decision: entry %d", s.Since)
	}
	return fmt.Sprintf("by entry %d", s.Since)
}

func (s *keyStory) signed(line func(name, format string, args ...any)) {
	switch {
	case s.Signed != nil && s.Signed.Epoch != nil:
		line("signed last", "entry %d: %s, epoch %d", s.Signed.Seq, s.Signed.Type, *s.Signed.Epoch)
	case s.Signed != nil:
		line("signed last", "entry %d: %s", s.Signed.Seq, s.Signed.Type)
	case len(s.Looked) > 0 && s.Partial:
		line("signed last", "nothing among the entries %d to %d; --whole looks at all since it came", s.Looked[0], s.Looked[1]-1)
	default:
		line("signed last", "nothing on the ledger")
	}
}

func (s *keyStory) revoked(line func(name, format string, args ...any)) {
	if s.RevokedFrom == nil {
		return
	}
	if d := s.Decision; d != nil && s.Standing != fsm.KeyRevoked {
		line("ended", "by decision: entry %d, %s by %s%s", d.Seq, d.Action, strings.Join(d.By, " "), suffix(": ", d.Reason))
	}
	line("means", "what it signed before epoch %d is %s's word; what bears epoch %d or a later one is disputed", *s.RevokedFrom, s.Holder, *s.RevokedFrom)
	text := plural(len(s.Disputed), "entry")
	if len(s.Disputed) != 1 {
		text = fmt.Sprintf("%d entries", len(s.Disputed))
	}
	if len(s.Disputed) > 0 {
		text += " (" + seqList(s.Disputed) + ")"
	}
	if s.Partial {
		text += fmt.Sprintf(", of those from %d on; --whole looks at all", s.Looked[0])
	}
	line("disputed", "%s", text)
}

// rotationWords tell of a node's own rotation.
func rotationWords(body json.RawMessage) (text, rule string) {
	var r client.Rotation
	if json.Unmarshal(body, &r) != nil || len(r.Key) < 16 || len(r.Old) < 16 {
		return string(body), ""
	}
	return fmt.Sprintf("announced its next key %s…, in epoch %d, signed by %s…", r.Key[:16], r.Epoch, r.Old[:16]),
		"a node's next key speaks from two epochs later on, and the one before it no longer"
}
