package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

type councilArgs struct {
	Add    []ledger.Member `json:"add,omitempty"`
	Remove []string        `json:"remove,omitempty"`
}

type reseatArgs struct {
	Council []ledger.Member `json:"council"`
}

// changeCouncil is council.change: some leave, some come. A name in both lists
// is a governor who gets another key, operator or recipient.
func (t *transition) changeCouncil(args councilArgs, _ occasion) *problem {
	if len(args.Add)+len(args.Remove) == 0 {
		return refuse(NothingChanges, "body.args", "nobody comes or goes")
	}
	leaving := map[string]bool{}
	for i, name := range args.Remove {
		path := fmt.Sprintf("body.args.remove[%d]", i)
		if i > 0 && args.Remove[i-1] >= name {
			return refuse(BadField, path, "must be sorted, none twice")
		}
		if _, ok := t.Governor(name); !ok {
			return refuse(UnknownGovernor, path, fmt.Sprintf("there is no governor %q", name))
		}
		leaving[name] = true
	}
	staying := slices.DeleteFunc(t.members(), func(m ledger.Member) bool { return leaving[m.Name] })
	if p := t.checkMembers("body.args.add", args.Add, leaving); p != nil {
		return p
	}
	if p := t.checkCouncil(append(staying, args.Add...)); p != nil {
		return p
	}
	t.seat(args.Remove, args.Add)
	return nil
}

// reseatCouncil is council.reseat: the recovery holders replace the whole
// council.
func (t *transition) reseatCouncil(args reseatArgs, _ occasion) *problem {
	if t.recovery == nil {
		return refuse(WrongRole, "author", "genesis names no recovery set")
	}
	leaving, names := map[string]bool{}, []string{}
	for _, m := range t.members() {
		leaving[m.Name] = true
		names = append(names, m.Name)
	}
	if p := t.checkMembers("body.args.council", args.Council, leaving); p != nil {
		return p
	}
	if p := t.checkCouncil(args.Council); p != nil {
		return p
	}
	t.seat(names, args.Council)
	return nil
}

// checkMembers checks those who are to be seated, each by itself. Whoever
// leaves in the same change may be seated again under the same key.
func (t *transition) checkMembers(path string, members []ledger.Member, leaving map[string]bool) *problem {
	ids := map[ledger.Hash]bool{}
	for i, m := range members {
		path := fmt.Sprintf("%s[%d]", path, i)
		if i > 0 && strings.Compare(members[i-1].Name, m.Name) >= 0 {
			return refuse(BadField, path+".name", "must be sorted by name, none twice")
		}
		if ids[m.KeyID()] {
			return refuse(KeyTaken, path+".public", "the key appears twice")
		}
		ids[m.KeyID()] = true
		if len(m.Recipient) > maxRecipient {
			return refuse(BadField, path+".recipient", fmt.Sprintf("at most %d bytes", maxRecipient))
		}
		if t.rotates() && m.Recipient != "" { // or nobody could seal a share to it
			if err := keys.CheckRecipient(m.Recipient); err != nil {
				return refuse(BadField, path+".recipient", err.Error())
			}
		}
		key, known := t.Key(m.KeyID())
		again := known && key.Holder == m.Name && key.Role == RoleGovernor && !key.Revoked && leaving[m.Name]
		if !again {
			if p := t.checkNewcomer(path, m.Name, m.Public, leaving); p != nil {
				return p
			}
		}
		if p := t.checkOperator(path+".operator", m.Operator); p != nil {
			return p
		}
	}
	return nil
}

// checkCouncil checks that a council can decide: every threshold can be met.
func (t *transition) checkCouncil(council []ledger.Member) *problem {
	if len(council) > ledger.MaxCouncil {
		return refuse(TooManySeats, "body.args", fmt.Sprintf("%d governors, at most %d", len(council), ledger.MaxCouncil))
	}
	operators := uint64(ledger.CouncilOperators(council))
	for _, action := range ledger.ActionsOf(t.meta.Format) {
		threshold := t.policy.Rules[action].Threshold
		if action != "council.reseat" && threshold > operators {
			return refuse(ThresholdUnreachable, "body.args",
				fmt.Sprintf("%s needs %d operators, the council would have %d", action, threshold, operators))
		}
	}
	if operators == 0 {
		return refuse(ThresholdUnreachable, "body.args", "the council would be empty")
	}
	return nil
}

// seat makes the change. Whoever comes back under the same key keeps it.
func (t *transition) seat(leaving []string, coming []ledger.Member) {
	for _, name := range leaving {
		g, ok := lookup[Governor](&t.view, tableCouncil+name)
		invariant(ok, "who leaves the council is in it")
		t.remove(tableCouncil + name)
		stays := slices.ContainsFunc(coming, func(m ledger.Member) bool { return m.KeyID() == g.KeyID() })
		if !stays {
			t.revokeKey(g.KeyID(), KeyRemoved, t.meta.Epoch)
		}
	}
	for _, m := range coming {
		t.put(tableCouncil+m.Name, &Governor{Member: m, Since: t.next})
		if _, known := t.Key(m.KeyID()); !known {
			t.seatKey(m.Public, m.Name, RoleGovernor, KeySeated)
		}
	}
	t.touch("council")
}
