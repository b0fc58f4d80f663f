package fsm

import (
	"fmt"

	"github.com/quorate/quorate/ledger"
)

type operatorArgs struct {
	Name    string `json:"name"`
	Sponsor string `json:"sponsor,omitempty"`
}

type operatorRemoveArgs struct {
	Name string `json:"name"`
}

// addOperator is operator.add. A sponsor is another operator, with a governor
// who can consent.
func (t *transition) addOperator(args operatorArgs, _ occasion) *problem {
	if err := ledger.ValidName(args.Name); err != nil {
		return refuse(BadField, "body.args.name", err.Error())
	}
	operators := t.Operators()
	if _, taken := t.Operator(args.Name); taken {
		return refuse(NameTaken, "body.args.name", fmt.Sprintf("there is an operator %s", args.Name))
	}
	if len(operators) >= maxOperators {
		return refuse(TooManySeats, "body.args", fmt.Sprintf("at most %d operators", maxOperators))
	}
	if args.Sponsor != "" {
		if p := t.checkOperator("body.args.sponsor", args.Sponsor); p != nil {
			return p
		}
		if t.councilOperators()[args.Sponsor] == 0 {
			return refuse(OperatorWithoutConsent, "body.args.sponsor", fmt.Sprintf("%s has no governor", args.Sponsor))
		}
	}
	t.put(tableOperator+args.Name, &OperatorRecord{
		Operator: ledger.Operator{Name: args.Name, Sponsor: args.Sponsor},
		Since:    t.next,
	})
	t.touch("operators")
	return nil
}

// removeOperator is operator.remove, of one that nobody belongs to any more.
func (t *transition) removeOperator(args operatorRemoveArgs, _ occasion) *problem {
	if p := t.checkOperator("body.args.name", args.Name); p != nil {
		return p
	}
	if user := t.userOf(args.Name); user != "" {
		return refuse(OperatorInUse, "body.args.name", fmt.Sprintf("%s belongs to it", user))
	}
	t.remove(tableOperator + args.Name)
	t.touch("operators")
	return nil
}

// userOf names something that an operator's removal would leave behind, or "".
func (t *transition) userOf(operator string) string {
	user := ""
	each(&t.view, tableCouncil, func(name string, g *Governor) bool {
		if g.Operator == operator {
			user = "governor " + name
		}
		return user == ""
	})
	each(&t.view, tableReplica, func(name string, r *ReplicaRecord) bool {
		if user == "" && r.Operator == operator {
			user = "replica " + name
		}
		return user == ""
	})
	each(&t.view, tableOperator, func(name string, o *OperatorRecord) bool {
		if user == "" && o.Sponsor == operator {
			user = "operator " + name + ", which it sponsors,"
		}
		return user == ""
	})
	if user == "" && t.count(countOperatorNodes(operator)) > 0 {
		user = fmt.Sprintf("%d nodes", t.count(countOperatorNodes(operator)))
	}
	return user
}
