package fsm

import (
	"bytes"
	"fmt"

	"github.com/quorate/quorate/ledger"
)

type policyArgs struct {
	Policy ledger.Policy `json:"policy"`
}

// changePolicy is policy.change: the whole policy, so that what is signed is
// what will stand.
func (t *transition) changePolicy(args policyArgs, _ occasion) *problem {
	next := args.Policy
	council := t.members()
	operators := ledger.CouncilOperators(council)
	for _, action := range ledger.ActionsOf(t.meta.Format) {
		rule, ok := next.Rules[action]
		if !ok || action == "council.reseat" {
			continue
		}
		path := "body.args.policy.rules[\"" + action + "\"]"
		if rule.Threshold > uint64(operators) {
			return refuse(ThresholdUnreachable, path+".threshold", fmt.Sprintf("%d can't be met by %d operators", rule.Threshold, operators))
		}
		if ledger.ChangesAuthority(action) && rule.Threshold < ledger.MajorityOfOperators(operators) {
			return refuse(ThresholdTooLow, path+".threshold", fmt.Sprintf("below the majority of %d operators", operators))
		}
		for i, name := range rule.Vetoers {
			if _, ok := t.Governor(name); !ok {
				return refuse(UnknownGovernor, fmt.Sprintf("%s.vetoers[%d]", path, i), fmt.Sprintf("there is no governor %q", name))
			}
		}
	}
	if err := ledger.ValidatePolicy(next, operators, t.meta.Format); err != nil {
		return refuse(BadField, "body.args.policy", err.Error())
	}
	if bytes.Equal(encode(&next), encode(t.policy)) {
		return refuse(NothingChanges, "body.args.policy", "it is the policy in force")
	}
	old := t.policy
	t.put(keyPolicy, &next)
	t.changeProtectionPolicy(old)
	t.touch("policy")
	return nil
}
