package replica

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// A join is signed by a key that the ledger does not know yet, so anybody can
// make one. A leader therefore takes it only in a bundle with the proposal that
// names it, which a governor signed: else a stranger could fill the ledger, and
// the places of joins that wait, with keys of their own. This is admission, not
// a rule: a replay, which sees statements one by one, does not ask it.

// strayJoin finds a join that no proposal of its bundle names.
func strayJoin(statements []*parsed) (verdicts []fsm.Verdict, stray bool) {
	verdicts = make([]fsm.Verdict, len(statements))
	joins, named := map[ledger.Hash]int{}, map[ledger.Hash]bool{}
	for i, one := range statements {
		st := one.statement
		verdicts[i].ID = st.ID
		switch st.Payload.Type {
		case ledger.TypeJoin:
			joins[st.ID] = i
		case ledger.TypePropose:
			nameJoins(st, named)
		case ledger.TypeRecover:
			// A ledger that takes statements has not lost its quorum.
			verdicts[i].Code, verdicts[i].Detail = fsm.NotAtHead, "a recovery is for replicas that are stopped: quorate operator recover apply"
			stray = true
		}
	}
	for id, i := range joins {
		if !named[id] {
			verdicts[i].Code = fsm.JoinAlone
			verdicts[i].Detail = "submit it beside the node.admit or node.rekey proposal that names it"
			stray = true
		}
	}
	for i := range verdicts {
		if stray && verdicts[i].Code == fsm.OK {
			verdicts[i].Code = fsm.BundleRejected
		}
	}
	return verdicts, stray
}

// nameJoins adds the joins that a proposal names.
func nameJoins(st *ledger.Statement, named map[ledger.Hash]bool) {
	body, err := ledger.DecodeBody[ledger.Propose](st)
	if err != nil {
		return
	}
	switch body.Action {
	case "node.admit":
		args, err := ledger.DecodeArgs[struct {
			Joins []ledger.Hash `json:"joins"`
		}](body.Args)
		if err == nil {
			for _, id := range args.Joins {
				named[id] = true
			}
		}
	case "node.rekey":
		args, err := ledger.DecodeArgs[struct {
			Join ledger.Hash `json:"join"`
		}](body.Args)
		if err == nil {
			named[args.Join] = true
		}
	}
}
