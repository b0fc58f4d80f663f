package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// Diff is what an action would change, for people to read before they sign.
type Diff struct {
	Words   []string `json:"words"`   // the effect in sentences
	Changes []Change `json:"changes"` // the records that change, sorted by key
}

// Change is one record before and after; Before is empty when it is made,
// After when it goes.
type Change struct {
	Key    string    `json:"key"`
	Before canon.Raw `json:"before,omitempty"`
	After  canon.Raw `json:"after,omitempty"`
}

// Simulate performs an action on a copy of s, as if it were executed at stamp
// (milliseconds) by the same code, and returns what changes. The verdict says
// why it could not be executed, or why author could not propose it; the words
// say what it means even then, as far as the args can be read. An empty author
// is not checked.
func Simulate(s *State, action string, args canon.Raw, author string, stamp uint64) (Diff, Verdict) {
	diff := Diff{Words: []string{}, Changes: []Change{}}
	act, ok := s.actionNamed(action)
	if !ok {
		return diff, refuse(UnknownAction, "body.action", fmt.Sprintf("there is no action %q", action)).verdict(ledger.Hash{})
	}
	if stamp > maxStamp {
		return diff, refuse(BadStamp, "", "the stamp is beyond any date").verdict(ledger.Hash{})
	}
	t := begin(s, max(stamp, s.stamp), nil)
	t.runDue()
	diff.Words = t.words(action, args)
	if p := t.maySimulate(action, author); p != nil {
		return diff, p.verdict(ledger.Hash{})
	}
	trial := t.fork()
	if p := act.perform(trial, args, executing); p != nil {
		return diff, p.verdict(ledger.Hash{})
	}
	if handsOver(action) {
		trial.pending = false
		trial.noteAuthority(nil)
		if trial.pending {
			diff.Words = append(diff.Words, "The next seal is a handover: the old and the new replicas certify it.")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(trial.dirty)) {
		c := Change{Key: key}
		if before, ok := t.source.Get([]byte(key)); ok {
			c.Before = encode(before)
		}
		if after, ok := trial.source.Get([]byte(key)); ok {
			c.After = encode(after)
		}
		if !bytes.Equal(c.Before, c.After) {
			diff.Changes = append(diff.Changes, c)
		}
	}
	return diff, Verdict{}
}

func (t *transition) maySimulate(action, name string) *problem {
	if t.meta.Frozen != "" && !openWhileFrozen(action) {
		return refuse(Frozen, "body.action", t.meta.Frozen)
	}
	if name == "" {
		return nil
	}
	a := author{name: name}
	switch {
	case t.holder(name) != nil:
		a.role = RoleRecovery
	case has[Governor](&t.view, tableCouncil+name):
		a.role = RoleGovernor
	case has[ReplicaRecord](&t.view, tableReplica+name):
		a.role = RoleReplica
	case has[NodeRecord](&t.view, tableNode+name):
		a.role = RoleNode
	default:
		return refuse(UnknownAuthor, "author", fmt.Sprintf("the ledger knows no %s", name))
	}
	return t.mayVote(action, a)
}

func has[T any](v *view, key string) bool {
	_, ok := lookup[T](v, key)
	return ok
}

// keyWords are the twelve words of a key, which people compare aloud.
func keyWords(id ledger.Hash) string { return keys.ID(id).Words() }

// words says what an action does, in sentences.
func (v *view) words(action string, raw canon.Raw) []string {
	describe, ok := wordings[action]
	if !ok {
		return []string{}
	}
	words, p := describe(v, raw)
	if p != nil {
		return []string{fmt.Sprintf("The args of %s can't be read: %s.", action, p.detail)}
	}
	return words
}

// wording makes the sentences of an action.
func wording[A any](describe func(*view, A) []string) func(*view, canon.Raw) ([]string, *problem) {
	return func(v *view, raw canon.Raw) ([]string, *problem) {
		args, p := decodeArgs[A](raw)
		if p != nil {
			return nil, p
		}
		return describe(v, args), nil
	}
}

func sentence(format string, values ...any) []string { return []string{fmt.Sprintf(format, values...)} }

var wordings = map[string]func(*view, canon.Raw) ([]string, *problem){
	"council.change":    wording((*view).councilWords),
	"council.reseat":    wording((*view).reseatWords),
	ledger.ActionRevoke: wording((*view).revokeWords),
	"epoch.advance": wording(func(v *view, _ noArgs) []string {
		return sentence("Ends epoch %d now and begins epoch %d.", v.meta.Epoch, v.meta.Epoch+1)
	}),
	"format.upgrade": wording(func(v *view, a formatArgs) []string {
		return sentence("Takes the ledger from format %d to %d; replicas that don't know format %d stop.", v.meta.Format, a.Format, a.Format)
	}),
	"ledger.freeze": wording(func(_ *view, a freezeArgs) []string {
		return sentence("Freezes the ledger: %q. Only quarantines, epochs, unfreezing and re-seating the council go on.", a.Reason)
	}),
	"ledger.unfreeze": wording(func(v *view, _ noArgs) []string {
		return sentence("Ends the freeze (%q).", v.meta.Frozen)
	}),
	"log.rekey": wording(func(_ *view, _ ledger.LogKeys) []string {
		return sentence("Replaces the log's own keys, which carry no authority.")
	}),
	"node.admit": wording((*view).admitWords),
	"node.quarantine": wording(func(_ *view, a nodeReasonArgs) []string {
		return sentence("Quarantines node %s everywhere: %q.", a.Name, a.Reason)
	}),
	"node.rekey": wording(func(v *view, a nodeRekeyArgs) []string {
		join, ok := lookup[JoinRecord](v, joinOf(a.Join))
		if !ok {
			return sentence("Gives a node the key of join %s, which does not wait.", a.Join)
		}
		return fromWords(sentence("Gives node %s another key: %s.", join.Join.Name, keyWords(keyIDOf(join.Join))), a.From)
	}),
	"node.release": wording(func(v *view, a nodeReasonArgs) []string {
		words := sentence("Releases node %s from quarantine: %q.", a.Name, a.Reason)
		if r, ok := v.Reputation(a.Name); ok {
			p := v.policy.Protects()
			words = append(words, fmt.Sprintf("It goes on with a reputation of %d and %d strikes; its word counts from %d.",
				max(r.Reputation, p.StartReputation), r.Strikes, p.VoteReputation))
		}
		return words
	}),
	"node.remove": wording(func(_ *view, a nodeArgs) []string {
		return fromWords(sentence("Removes node %s; its key is revoked for ever.", a.Name), a.From)
	}),
	"operator.add": wording(func(_ *view, a operatorArgs) []string {
		if a.Sponsor != "" {
			return sentence("Adds operator %s; governors of %s consent for it until it has its own.", a.Name, a.Sponsor)
		}
		return sentence("Adds operator %s, without a sponsor.", a.Name)
	}),
	"operator.remove": wording(func(_ *view, a operatorRemoveArgs) []string {
		return sentence("Removes operator %s.", a.Name)
	}),
	"policy.change": wording((*view).policyWords),
	"replica.add": wording(func(v *view, a replicaArgs) []string {
		r := a.Replica
		return sentence("Adds replica %s of operator %s at %s, key %s; it counts once it is ready, and then %d of %d certify.",
			r.Name, r.Operator, r.Peer, keyWords(r.KeyID()), ledger.CosignThreshold(v.activeReplicas()+1), v.activeReplicas()+1)
	}),
	"replica.rekey": wording(func(v *view, a replicaArgs) []string {
		words := sentence("Gives replica %s another key, %s; its old key is revoked for ever and it joins anew.", a.Replica.Name, keyWords(a.Replica.KeyID()))
		return v.replicaFromWords(words, a.Replica.Name, a.From)
	}),
	"replica.remove": wording((*view).replicaRemoveWords),
}

func (v *view) councilWords(a councilArgs) []string {
	words := []string{}
	coming := map[string]ledger.Member{}
	for _, m := range a.Add {
		coming[m.Name] = m
	}
	after := v.councilOperators()
	for _, name := range a.Remove {
		g, ok := v.Governor(name)
		if !ok {
			words = append(words, fmt.Sprintf("Removes governor %s, who is not in the council.", name))
			continue
		}
		after[g.Operator]--
		if m, stays := coming[name]; stays {
			words = append(words, fmt.Sprintf("Re-seats governor %s for operator %s with key %s.", name, m.Operator, keyWords(m.KeyID())))
		} else {
			words = append(words, fmt.Sprintf("Removes governor %s of operator %s; the key is revoked for ever.", name, g.Operator))
		}
	}
	for _, m := range a.Add {
		after[m.Operator]++
		if !slices.Contains(a.Remove, m.Name) {
			words = append(words, fmt.Sprintf("Adds governor %s of operator %s, key %s.", m.Name, m.Operator, keyWords(m.KeyID())))
		}
	}
	operators := 0
	for _, n := range after {
		if n > 0 {
			operators++
		}
	}
	return append(words, fmt.Sprintf("The council then speaks for %d operators; what changes authority needs at least %d.",
		operators, ledger.MajorityOfOperators(operators)))
}

func (v *view) reseatWords(a reseatArgs) []string {
	words := sentence("Replaces the whole council of %d by %d governors.", len(v.Council()), len(a.Council))
	for _, m := range a.Council {
		words = append(words, fmt.Sprintf("Seats governor %s of operator %s, key %s.", m.Name, m.Operator, keyWords(m.KeyID())))
	}
	return words
}

func (v *view) admitWords(a admitArgs) []string {
	words := []string{}
	byOperator := map[string]int{}
	for _, id := range a.Joins {
		join, ok := lookup[JoinRecord](v, joinOf(id))
		if !ok {
			words = append(words, fmt.Sprintf("Admits join %s, which does not wait.", id))
			continue
		}
		byOperator[join.Join.Operator]++
		words = append(words, fmt.Sprintf("Admits node %s of operator %s, key %s.", join.Join.Name, join.Join.Operator, keyWords(keyIDOf(join.Join))))
	}
	governed := v.councilOperators()
	for _, name := range slices.Sorted(maps.Keys(byOperator)) {
		words = append(words, fmt.Sprintf("Needs a governor of %s, for %d nodes of %s.", v.consenter(name, governed), byOperator[name], name))
	}
	return words
}

func (v *view) replicaRemoveWords(a replicaRemoveArgs) []string {
	r, ok := v.Replica(a.Name)
	if !ok {
		return sentence("Removes replica %s, which is not there.", a.Name)
	}
	words := sentence("Removes replica %s of operator %s; its key is revoked for ever.", a.Name, r.Operator)
	if active := v.activeReplicas(); r.Standing == ReplicaActive {
		words = append(words, fmt.Sprintf("Then %d of %d replicas certify.", ledger.CosignThreshold(active-1), active-1))
	}
	words = v.replicaFromWords(words, a.Name, a.From)
	if a.Cause {
		words = append(words, "It is removed for cause: rotate the log's own keys too (log.rekey).")
	}
	return words
}

func (v *view) policyWords(a policyArgs) []string {
	words := []string{}
	old, next := v.policy, &a.Policy
	for _, action := range ledger.ActionsOf(v.meta.Format) {
		o, n := ruleOf(old, action), ruleOf(next, action)
		if o.Threshold != n.Threshold {
			words = append(words, fmt.Sprintf("%s needs %d operators instead of %d.", action, n.Threshold, o.Threshold))
		}
		if o.DelayMillis != n.DelayMillis {
			words = append(words, fmt.Sprintf("%s waits %d s instead of %d s after its decision.", action, n.DelayMillis/1000, o.DelayMillis/1000))
		}
		if !slices.Equal(o.Vetoers, n.Vetoers) {
			words = append(words, fmt.Sprintf("%s may be vetoed by %v instead of %v.", action, n.Vetoers, o.Vetoers))
		}
	}
	words = figureWords(words, []figure{
		{"closed_retention_millis", old.ClosedRetentionMillis, next.ClosedRetentionMillis},
		{"epoch_millis", old.EpochMillis, next.EpochMillis},
		{"grace_epochs", old.GraceEpochs, next.GraceEpochs},
		{"key_epochs", old.KeyEpochs, next.KeyEpochs},
		{"max_head_age_millis", old.MaxHeadAgeMillis, next.MaxHeadAgeMillis},
		{"max_skew_millis", old.MaxSkewMillis, next.MaxSkewMillis},
		{"proposal_lifetime_millis", old.ProposalLifetimeMillis, next.ProposalLifetimeMillis},
		{"quota", old.Quota, next.Quota},
		{"tick_millis", old.TickMillis, next.TickMillis},
	})
	return append(words, keysWords(old, next)...)
}

// figure is a number of the policy, before and after a change.
type figure struct {
	name      string
	old, next uint64
}

// figureWords adds what becomes of the numbers that change.
func figureWords(words []string, figures []figure) []string {
	for _, f := range figures {
		if f.old != f.next {
			words = append(words, fmt.Sprintf("%s becomes %d instead of %d.", f.name, f.next, f.old))
		}
	}
	return words
}

// keysWords says what changes in the rules of keys.
func keysWords(old, next *ledger.Policy) []string {
	words := []string{}
	if old.Keys == nil && next.Keys == nil {
		return words
	}
	o, n := old.KeyRules(), next.KeyRules()
	if !slices.Equal(o.BackupRoles, n.BackupRoles) {
		words = append(words, fmt.Sprintf("keys.backup_roles become %v instead of %v.", n.BackupRoles, o.BackupRoles))
	}
	return figureWords(words, []figure{
		{"keys.late_epochs", o.LateEpochs, n.LateEpochs},
		{"keys.replica_key_epochs", o.ReplicaKeyEpochs, n.ReplicaKeyEpochs},
		{"keys.retention_epochs", o.RetentionEpochs, n.RetentionEpochs},
		{"keys.rotate_epochs", o.RotateEpochs, n.RotateEpochs},
		{"keys.test_epochs", o.TestEpochs, n.TestEpochs},
	})
}
