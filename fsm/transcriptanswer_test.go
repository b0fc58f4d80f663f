package fsm

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// answer shows what a command did.
func (r *storyteller) answer(result Result) []string {
	lines := []string{}
	if result.Halt {
		return []string{"halted: the ledger's format is above what this program knows"}
	}
	for _, v := range result.Verdicts {
		r.seen[v.Code] = r.file
		switch {
		case v.Duplicate:
			lines = append(lines, "said before, as entry "+strconv.FormatUint(v.Seq, 10))
		case v.Code != OK:
			line := "refused: " + v.Code.String()
			if v.Path != "" {
				line += " at " + v.Path
			}
			lines = append(lines, line)
		}
	}
	if n := len(lines); n > 2 && len(slices.Compact(slices.Clone(lines))) == 1 {
		lines = []string{fmt.Sprintf("%s (all %d)", lines[0], n)}
	}
	for _, entry := range result.Entries {
		lines = append(lines, r.describe(entry))
	}
	if len(lines) == 0 {
		lines = append(lines, "nothing")
	}
	return lines
}

func (r *storyteller) describe(entry []byte) string {
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		r.fatalf("%v", err)
	}
	line := fmt.Sprintf("%d ", e.Seq)
	switch e.Kind {
	case ledger.KindStatement:
		st, err := ledger.ParseStatement(e.Content)
		if err != nil {
			r.fatalf("%v", err)
		}
		return line + st.Payload.Author + ": " + st.Payload.Type
	case ledger.KindSeal:
		seal, err := e.Seal()
		if err != nil {
			r.fatalf("%v", err)
		}
		line += "seal, " + seal.Reason
		if seal.Handover > 0 {
			line += fmt.Sprintf(" to authority %d", seal.Handover)
		}
		return line
	}
	f, err := e.Effect()
	if err != nil {
		r.fatalf("%v", err)
	}
	return line + f.Type + r.describeEffect(f) + causesText(f.Causes)
}

func causesText(causes []uint64) string {
	if len(causes) == 0 {
		return ""
	}
	return " (by " + strings.Trim(fmt.Sprint(causes), "[]") + ")"
}

func (r *storyteller) describeEffect(f *ledger.Effect) string {
	switch f.Type {
	case EffectEpoch:
		var b EpochEffect
		r.decode(f.Body, &b)
		text := fmt.Sprintf(" %d from %s", b.Epoch, relative(b.Start))
		if b.Count > 0 {
			text += fmt.Sprintf(", %d keys", b.Count)
		}
		if b.Rotated > 0 {
			text += fmt.Sprintf(", %d rotated", b.Rotated)
		}
		return text
	case EffectRotated:
		var b RotatedEffect
		r.decode(f.Body, &b)
		return fmt.Sprintf(" %s from %s to %s", b.Name, r.keyName(b.Old), r.keyName(b.Key))
	case EffectTick:
		return ""
	case EffectAlarm:
		var b AlarmEffect
		r.decode(f.Body, &b)
		return " " + alarmText(b.Kind, b.Count, b.Names)
	case EffectActive:
		var b ReplicaEffect
		r.decode(f.Body, &b)
		return " " + b.Name
	}
	if text, ok := r.describeProtection(f); ok {
		return text
	}
	var b ProposalEffect
	r.decode(f.Body, &b)
	text := fmt.Sprintf(" %s, %s", r.labels[b.Proposal], b.Action)
	if b.DueAt != 0 && b.DueAt != r.world.state.Stamp() {
		text += ", due at " + relative(b.DueAt)
	}
	if b.Reason != "" {
		name, _, _ := strings.Cut(b.Reason, " at ")
		code, ok := CodeNamed(name)
		if !ok {
			r.fatalf("the reason %q names no code", b.Reason)
		}
		r.seen[code] = r.file
		text += ": " + b.Reason
	}
	return text
}

func (r *storyteller) decode(raw canon.Raw, v any) {
	if err := canon.Unmarshal(raw, v); err != nil {
		r.fatalf("%v", err)
	}
}

// show tells a part of the state.
func (r *storyteller) show(words []string) []string {
	s := r.world.state
	switch words[0] {
	case "council":
		return []string{list(s.Council(), func(g Governor) string { return g.Name + "@" + g.Operator })}
	case "operators":
		return []string{list(s.Operators(), func(o OperatorRecord) string {
			if o.Sponsor != "" {
				return o.Name + " (sponsor " + o.Sponsor + ")"
			}
			return o.Name
		})}
	case "replicas":
		return []string{list(s.Replicas(), func(p ReplicaRecord) string { return p.Name + " " + p.Standing })}
	case "nodes":
		return []string{list(s.Nodes("", 1000), func(n NodeRecord) string { return n.Name + " " + n.Standing })}
	case "key":
		return r.showKey(words[1])
	case "alarms":
		return r.showAlarms()
	case "backup":
		return r.showBackup(words[1])
	case "reputation":
		return r.showReputation(words[1])
	case "protection":
		return r.showProtection()
	case "joins":
		return []string{fmt.Sprint(len(s.Joins(ledger.Hash{}, 1000)), " waiting")}
	case "node":
		n, ok := s.Node(words[1])
		if !ok {
			return []string{"no such node"}
		}
		line := fmt.Sprintf("%s@%s, %s, key valid in epochs %d to %d", n.Name, n.Operator, n.Standing, n.ValidFrom, n.ValidTo)
		if n.Next != nil {
			line += fmt.Sprintf(", next key %s from epoch %d", r.keyName(n.Next.Key), n.Next.From)
		}
		if n.Revoked {
			line += ", its key is revoked"
		}
		if n.Reason != "" {
			line += ", because " + n.Reason
		}
		return []string{line}
	case "proposal":
		p, ok := s.Proposal(r.id(words[1]))
		if !ok {
			return []string{"no such proposal"}
		}
		line := p.Standing
		if p.Reason != "" {
			line += ": " + p.Reason
		}
		return []string{line}
	case "rule":
		p, ok := s.Proposal(r.id(words[1]))
		if !ok {
			return []string{"no such proposal"}
		}
		return ruleLines(s.Rule(p))
	case "authority":
		a := s.Authority()
		return []string{fmt.Sprintf("%d: council %s; replicas %s; %d certify; by %v", a.Index,
			list(a.Council, func(m ledger.AuthorityMember) string { return m.Name }),
			list(a.Replicas, func(p ledger.AuthorityReplica) string {
				if p.Joining {
					return p.Name + " joining"
				}
				return p.Name
			}), a.CosignThreshold, a.Causes)}
	case "seal":
		wanted, urgent := s.SealWanted()
		return []string{fmt.Sprintf("wanted %v, urgent %v, handover pending %v, due %v", wanted, urgent, s.PendingHandover(), s.Due(r.world.now))}
	}
	r.fatalf("show what?")
	return nil
}

func ruleLines(v RuleView) []string {
	whom := "operators"
	if v.Recovery {
		whom = "recovery holders"
	}
	line := fmt.Sprintf("%d %s; signed %v, rejected %v, missing %v", v.Threshold, whom, v.Signed, v.Rejected, v.Missing)
	if v.DelayMillis > 0 {
		line += fmt.Sprintf("; waits %d ms", v.DelayMillis)
	}
	if len(v.Vetoers) > 0 {
		line += fmt.Sprintf("; vetoers %v", v.Vetoers)
	}
	if v.VetoThreshold > 0 {
		line += fmt.Sprintf("; %d operators' vetoes cancel it", v.VetoThreshold)
	}
	lines := []string{line}
	for _, c := range v.Consents {
		given := "missing"
		if c.Given {
			given = "given"
		}
		lines = append(lines, fmt.Sprintf("consent for %s by %s: %s", c.Operator, c.By, given))
	}
	return lines
}

func list[T any](items []T, show func(T) string) string {
	names := []string{}
	for _, item := range items {
		names = append(names, show(item))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// simulate AUTHOR ACTION ... tells what an action would do.
func (r *storyteller) simulate(words []string) []string {
	o := parseOptions(words[2:])
	args := r.args(words[1], o)
	digest := r.world.state.Digest()
	diff, v := Simulate(r.world.state, words[1], args, words[0], r.world.now)
	if r.world.state.Digest() != digest {
		r.fatalf("a simulation changed the state")
	}
	lines := []string{}
	if v.Code != OK {
		lines = append(lines, "refused: "+v.Code.String())
	}
	lines = append(lines, diff.Words...)
	for _, c := range diff.Changes {
		what := "changes"
		if c.Before == nil {
			what = "is made"
		} else if c.After == nil {
			what = "goes"
		}
		key := c.Key
		if table, name, found := strings.Cut(key, "/"); found && len(name) == 64 {
			key = table + "/..."
		}
		lines = append(lines, "record "+key+" "+what)
	}
	return lines
}

// breakEnvelope spoils a good envelope in one way.
func (r *storyteller) breakEnvelope(envelope []byte, how string) []byte {
	b := slices.Clone(envelope)
	switch how {
	case "signature":
		b[len(b)-1] ^= 1
	case "trailing":
		b = append(b, 0)
	case "cut":
		b = b[:len(b)-1]
	case "unprotected":
		i := bytes.Index(b, []byte{0xa0}) // the empty map after the protected header
		at := bytes.Index(b, []byte(".v1")) + 3
		if at > i {
			i = at
		}
		b = slices.Concat(b[:i], []byte{0xa1, 0x01, 0x01}, b[i+1:])
	case "alg":
		i := bytes.Index(b, []byte{0x01, 0x38, 0x30})
		b[i+2] = 0x2f
	case "large":
		at := bytes.Index(b, []byte(".v1")) + 4
		b = slices.Concat(b[:at], []byte{0x59, 0x9c, 0x40}, make([]byte, 40_000))
	case "typ":
		b = bytes.Replace(b, []byte("quorate/record.v1"), []byte("quorate/recorx.v1"), 1)
	default:
		r.fatalf("broken=%s?", how)
	}
	return b
}

// signRaw signs a payload given as JSON text: AUTHOR signs TYPE {...}, where
// $L is the ledger's hash and $X an expiry ahead.
func (r *storyteller) signRaw(author string, words []string) []byte {
	hash := r.world.state.Meta().Ledger
	text := strings.Join(words[1:], " ")
	text = strings.ReplaceAll(text, "$L", base64.RawURLEncoding.EncodeToString(hash[:]))
	text = strings.ReplaceAll(text, "$X", strconv.FormatUint(r.world.now+3_600_000, 10))
	text = strings.ReplaceAll(text, "$DEEP", strings.Repeat("[", 40)+strings.Repeat("]", 40))
	text = strings.ReplaceAll(text, "$BADUTF8", "\xff")
	return keys.SignEnvelope(keyNamed(author), "quorate/"+words[0]+".v1", []byte(text))
}
