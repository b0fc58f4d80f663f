package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// actionWords says in words what a proposal asks for, from its own bytes: what
// is signed, whatever a server claims about it.
func actionWords(action string, args canon.Raw) []string {
	var a struct {
		Add     []ledger.Member `json:"add,omitempty"`
		Cause   bool            `json:"cause,omitempty"`
		Council []ledger.Member `json:"council,omitempty"`
		Ed25519 []byte          `json:"ed25519,omitempty"`
		Format  uint64          `json:"format,omitempty"`
		From    *uint64         `json:"from,omitempty"`
		Join    ledger.Hash     `json:"join,omitempty"`
		Joins   []ledger.Hash   `json:"joins,omitempty"`
		Key     ledger.Hash     `json:"key,omitempty"`
		MLDSA44 []byte          `json:"mldsa44,omitempty"`
		Name    string          `json:"name,omitempty"`
		Policy  *ledger.Policy  `json:"policy,omitempty"`
		Reason  string          `json:"reason,omitempty"`
		Remove  []string        `json:"remove,omitempty"`
		Replica *ledger.Replica `json:"replica,omitempty"`
		Sponsor string          `json:"sponsor,omitempty"`
	}
	if err := canon.Unmarshal(args, &a); err != nil {
		return []string{fmt.Sprintf("the arguments of %s cannot be read: %v", action, err)}
	}
	switch action {
	case "council.change":
		var words []string
		for _, m := range a.Add {
			words = append(words, "seat "+memberWords(m))
		}
		for _, name := range a.Remove {
			words = append(words, "take the seat of "+name)
		}
		return words
	case "council.reseat":
		words := []string{fmt.Sprintf("replace the whole council by these %d", len(a.Council))}
		for _, m := range a.Council {
			words = append(words, "seat "+memberWords(m))
		}
		return words
	case "operator.add":
		if a.Sponsor != "" {
			return []string{fmt.Sprintf("add the operator %s, for which the governors of %s consent", a.Name, a.Sponsor)}
		}
		return []string{"add the operator " + a.Name}
	case "operator.remove":
		return []string{"remove the operator " + a.Name}
	case actionPolicyChange:
		return policyWords(a.Policy)
	case "replica.add", "replica.rekey":
		return append(replicaWords(action, a.Replica), fromWords(a.From)...)
	case "replica.remove":
		if a.Cause {
			return append([]string{"remove the replica " + a.Name + " for cause: it may have copied the log's own keys, which quorate propose log.rekey replaces then"}, fromWords(a.From)...)
		}
		return append([]string{"remove the replica " + a.Name}, fromWords(a.From)...)
	case "node.admit":
		if len(a.Joins) == 1 {
			return []string{"admit the node of the listed join"}
		}
		return []string{fmt.Sprintf("admit the %d nodes of the listed joins", len(a.Joins))}
	case "node.rekey":
		return append([]string{fmt.Sprintf("give the node of join %s… its new key", a.Join.String()[:16])}, fromWords(a.From)...)
	case "node.remove":
		return append([]string{"remove the node " + a.Name + " for ever"}, fromWords(a.From)...)
	case ledger.ActionRevoke:
		words := []string{fmt.Sprintf("revoke the key %s: %s", a.Key, a.Reason), "its words are: " + wordsOf(a.Key)}
		return append(words, fromWords(a.From)...)
	case "node.quarantine":
		return []string{fmt.Sprintf("quarantine the node %s: %s", a.Name, a.Reason)}
	case "node.release":
		return []string{fmt.Sprintf("release the node %s from quarantine: %s", a.Name, a.Reason)}
	case "epoch.advance":
		return []string{"begin the next epoch now"}
	case "ledger.freeze":
		return []string{"freeze the ledger: " + a.Reason}
	case "ledger.unfreeze":
		return []string{"end the freeze"}
	case "format.upgrade":
		return []string{fmt.Sprintf("take up format %d", a.Format)}
	case "log.rekey":
		return []string{"replace the log's own key"}
	}
	return []string{"an action that this program does not know: " + action}
}

// fromWords says what an epoch of revocation means.
func fromWords(from *uint64) []string {
	if from == nil {
		return nil
	}
	return []string{
		fmt.Sprintf("from epoch %d on, what its key signed is nobody's word: such statements stay on the ledger, disputed", *from),
		"keys by which it was rotated in that epoch or later are revoked with it; verdicts and decisions that followed stay",
	}
}

// policyWords says the whole policy, because a diff may not be at hand.
func policyWords(p *ledger.Policy) []string {
	if p == nil {
		return []string{"replace the policy by none"}
	}
	millis := func(n uint64) string { return (time.Duration(n) * time.Millisecond).String() }
	words := []string{
		"replace the policy by this one:",
		fmt.Sprintf("epoch %s, tick %s, node keys valid for %d epochs (%d of grace), quota %d", millis(p.EpochMillis), millis(p.TickMillis), p.KeyEpochs, p.GraceEpochs, p.Quota),
		fmt.Sprintf("proposals live %s and stay %s after closing; clocks may differ %s; heads are current for %s",
			millis(p.ProposalLifetimeMillis), millis(p.ClosedRetentionMillis), millis(p.MaxSkewMillis), millis(p.MaxHeadAgeMillis)),
	}
	if p.Keys != nil {
		k := p.KeyRules()
		words = append(words, fmt.Sprintf("keys: nodes rotate theirs in the last %d epochs, late with fewer than %d left; a replica's is due after %d epochs; private keys that ended are kept for %d; backups wanted of %s, opened every %d epochs",
			k.RotateEpochs, k.LateEpochs, k.ReplicaKeyEpochs, k.RetentionEpochs, orText(strings.Join(k.BackupRoles, " "), "nobody"), k.TestEpochs))
	}
	// Actions of one rule stand together, so that an odd one is seen.
	same := map[string][]string{}
	for _, action := range sortedKeys(p.Rules) {
		rule := fmt.Sprintf("%d operators%s", p.Rules[action].Threshold, ruleSuffix(p.Rules[action]))
		same[rule] = append(same[rule], action)
	}
	for _, rule := range sortedKeys(same) {
		words = append(words, rule+": "+strings.Join(same[rule], " "))
	}
	return words
}

func memberWords(m ledger.Member) string {
	return fmt.Sprintf("%s of %s, whose key is: %s", m.Name, m.Operator, wordsOf(m.KeyID()))
}

func replicaWords(action string, r *ledger.Replica) []string {
	if r == nil {
		return []string{action + " without a replica"}
	}
	verb := "add the replica"
	if action == "replica.rekey" {
		verb = "give a new key to the replica"
	}
	return []string{
		fmt.Sprintf("%s %s of %s at %s", verb, r.Name, r.Operator, r.Peer),
		"its key is: " + wordsOf(r.KeyID()),
	}
}

// ruleSuffix says what a rule has besides its threshold.
func ruleSuffix(r ledger.Rule) string {
	text := ""
	if r.DelayMillis > 0 {
		text += ", after " + (time.Duration(r.DelayMillis) * time.Millisecond).String()
	}
	if len(r.Vetoers) > 0 {
		text += fmt.Sprintf(", vetoers %v", r.Vetoers)
	}
	return text
}
