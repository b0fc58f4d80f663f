package fsm

import (
	"crypto/sha256"
	"fmt"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// occasion is why an action is performed.
type occasion int

const (
	proposing occasion = iota // on a trial, before anyone votes
	executing
)

// action is one of ledger.Actions().
type action struct {
	// tables names what a proposal's base must name.
	tables func(v *view, args canon.Raw) ([]string, *problem)

	// perform changes the state, or refuses and changes nothing. At its
	// execution t.next is the seq of the executed effect.
	perform func(t *transition, args canon.Raw, when occasion) *problem
}

// define makes an action of one whose args are decoded.
func define[A any](perform func(*transition, A, occasion) *problem, tables ...string) action {
	return defineFor(perform, func(A) []string { return tables })
}

func defineFor[A any](perform func(*transition, A, occasion) *problem, tables func(A) []string) action {
	return action{
		tables: func(_ *view, raw canon.Raw) ([]string, *problem) {
			args, p := decodeArgs[A](raw)
			if p != nil {
				return nil, p
			}
			return tables(args), nil
		},
		perform: func(t *transition, raw canon.Raw, when occasion) *problem {
			args, p := decodeArgs[A](raw)
			if p != nil {
				return p
			}
			return perform(t, args, when)
		},
	}
}

// actions is the table of FORMAT.md section 4.
var actions = map[string]action{
	"council.change":    define((*transition).changeCouncil, "council", "operators"),
	"council.reseat":    define((*transition).reseatCouncil, "council", "operators"),
	ledger.ActionRevoke: {tables: (*view).revokedNode, perform: define((*transition).revokeNodeKey).perform},
	"epoch.advance":     define((*transition).advanceEpoch, "epoch"),
	"format.upgrade":    define((*transition).upgradeFormat, "format", "replicas"),
	"ledger.freeze":     define((*transition).freeze, "freeze"),
	"ledger.unfreeze":   define((*transition).unfreeze, "freeze"),
	"log.rekey":         define((*transition).rekeyLog, "log"),
	"node.admit":        define((*transition).admitNodes, "operators"),
	"node.quarantine":   defineFor((*transition).quarantineNode, func(a nodeReasonArgs) []string { return []string{tableNode + a.Name} }),
	"node.rekey":        {tables: (*view).rekeyedNode, perform: define((*transition).rekeyNode).perform},
	"node.release":      defineFor((*transition).releaseNode, func(a nodeReasonArgs) []string { return []string{tableNode + a.Name} }),
	"node.remove":       defineFor((*transition).removeNode, func(a nodeArgs) []string { return []string{tableNode + a.Name} }),
	"operator.add":      define((*transition).addOperator, "operators"),
	"operator.remove":   define((*transition).removeOperator, "operators", "council", "replicas"),
	"policy.change":     define((*transition).changePolicy, "policy", "council"),
	"replica.add":       define((*transition).addReplica, "replicas", "operators"),
	"replica.rekey":     define((*transition).rekeyReplica, "replicas", "operators"),
	"replica.remove":    define((*transition).removeReplica, "replicas"),
}

// actionNamed finds an action that the ledger's format has.
func (v *view) actionNamed(name string) (action, bool) {
	act, ok := actions[name]
	return act, ok && (name != ledger.ActionRevoke || v.rotates())
}

// touch sets the version of a table to the seq of the decision under way.
func (t *transition) touch(table string) {
	t.changeMeta(func(m *Meta) { m.Versions[table] = t.next })
}

// checkNewcomer checks a name and a key that are to get a role. Names in
// leaving are about to be free.
func (t *transition) checkNewcomer(path, name string, public []byte, leaving map[string]bool) *problem {
	if err := ledger.ValidName(name); err != nil {
		return refuse(BadField, path+".name", err.Error())
	}
	if len(public) != keys.PublicKeySize {
		return refuse(BadField, path+".public", fmt.Sprintf("want %d bytes of ML-DSA-65 public key", keys.PublicKeySize))
	}
	if t.named(name) && !leaving[name] {
		return refuse(NameTaken, path+".name", fmt.Sprintf("%s is in use", name))
	}
	if _, taken := t.Key(sha256.Sum256(public)); taken {
		return refuse(KeyTaken, path+".public", "the key has or had a role")
	}
	return nil
}

func (t *transition) checkOperator(path, name string) *problem {
	if _, ok := t.Operator(name); !ok {
		return refuse(UnknownOperator, path, fmt.Sprintf("there is no operator %q", name))
	}
	return nil
}
