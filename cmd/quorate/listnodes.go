package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// listedNode is a node as list has it in JSON: what a server says of it, and how its key
// stands.
type listedNode struct {
	client.Node
	KeyStanding string            `json:"key_standing"` // as explain key has it, or late or over
	RevokedFrom *uint64           `json:"revoked_from,omitempty"`
	Restored    *client.Restoring `json:"restored,omitempty"`
}

func listNodes(ctx context.Context, l *link, f *listFlags) (*table, error) {
	return nodeTable(ctx, l, f, func(r client.Read) (*client.Nodes, error) { return l.Nodes(ctx, r) })
}

func listQuarantine(ctx context.Context, l *link, f *listFlags) (*table, error) {
	return nodeTable(ctx, l, f, func(r client.Read) (*client.Nodes, error) { return l.Quarantine(ctx, r) })
}

func nodeTable(ctx context.Context, l *link, f *listFlags, read func(client.Read) (*client.Nodes, error)) (*table, error) {
	list, err := pages(f.read(), func(r client.Read) ([]client.Node, string, error) {
		page, err := read(r)
		if err != nil {
			return nil, "", err
		}
		return page.Nodes, page.Next, nil
	})
	if err != nil {
		return nil, err
	}
	looks, err := l.nodeKeys(ctx, list, f.read())
	if err != nil {
		return nil, err
	}
	listed := []listedNode{}
	t := &table{head: []string{"NODE", "OPERATOR", "STANDING", "REPUTATION", "EPOCHS", "KEY", "LAST VERDICT", "CAUSED BY"}}
	for i, n := range list {
		look := looks[i]
		listed = append(listed, listedNode{n, look.code(), look.key.RevokedFrom, look.restored})
		reputation, last, causes := "-", "-", ""
		if n.Reputation != nil {
			reputation = number(n.Reputation.Points)
		}
		if n.Last != nil {
			last, causes = lastWords(&n), seqList(n.Last.Causes)
		}
		standing := n.Standing
		if n.Reputation != nil && n.Reputation.Down {
			standing += ", down"
		}
		t.rows = append(t.rows, []string{n.Name, n.Operator, standing, reputation, fmt.Sprintf("%d-%d", n.ValidFrom, n.ValidTo), look.short(), last, causes})
	}
	t.data = listed
	return t, nil
}

// lastWords says in short what last became of a node, and in which entry.
func lastWords(n *client.Node) string {
	var body struct {
		Kind   string `json:"kind"`
		Action string `json:"action"`
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(n.Last.Body, &body) // what is not there is not shown
	text := n.Last.Type
	switch n.Last.Type {
	case fsm.EffectExecuted:
		text = decisionWords(body.Action) + suffix(": ", n.Reason)
	case fsm.EffectVerdict, fsm.EffectOffence:
		text += " " + body.Kind
	default:
		text += suffix(": ", body.Reason)
	}
	return fmt.Sprintf("%s (entry %d)", text, n.Last.Seq)
}

// nodeKeys looks at the keys of nodes, in their order. It asks for single keys and
// entries only where something became of a key, of maxKeyLooks at most.
func (l *link) nodeKeys(ctx context.Context, nodes []client.Node, r client.Read) ([]keyLook, error) {
	policy, err := l.Policy(ctx, r)
	if err != nil {
		return nil, err
	}
	epoch, err := l.CurrentEpoch(ctx, r)
	if err != nil {
		return nil, err
	}
	restored, err := l.restoredNodes(ctx, nodes, r)
	if err != nil {
		return nil, err
	}
	asked := 0
	looks := make([]keyLook, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		k := &client.Key{ID: n.Key, Holder: n.Name, Role: fsm.RoleNode, Standing: client.KeyInForce, ValidFrom: &n.ValidFrom, ValidTo: &n.ValidTo}
		switch {
		case n.Revoked:
			k.Standing = fsm.KeyRevoked
			if asked++; asked > maxKeyLooks {
				break
			}
			told, err := l.Key(ctx, n.Key, r)
			if err != nil {
				return nil, err
			}
			k.RevokedFrom = told.RevokedFrom
		case epoch.Epoch > n.ValidTo+policy.Policy.GraceEpochs:
			k.Standing = client.KeyExpired
		}
		looks[i] = keyLook{key: k, epoch: epoch.Epoch, rules: policy.Policy.KeyRules(), announced: n.NextKey != nil, restored: restored[n.Key]}
	}
	return looks, nil
}

// maxKeyLooks bounds the single keys, and the single entries, that one list asks for.
const maxKeyLooks = 64

// restoredNodes finds the keys of nodes that were restored, by their ids: of those whose
// backup was opened, the statement that opened it last says what for.
func (l *link) restoredNodes(ctx context.Context, nodes []client.Node, r client.Read) (map[string]*client.Restoring, error) {
	present := map[string]bool{}
	for i := range nodes {
		present[nodes[i].Key] = true
	}
	backups, err := pages(r, func(r client.Read) ([]client.Backup, string, error) {
		page, err := l.Backups(ctx, fsm.RoleNode, "", r)
		if err != nil {
			return nil, "", err
		}
		return page.Backups, page.Next, nil
	})
	if err != nil {
		return nil, err
	}
	restored, asked := map[string]*client.Restoring{}, 0
	for i := range backups {
		b := &backups[i]
		if b.TestedSeq == 0 || !present[b.Key] {
			continue
		}
		if asked++; asked > maxKeyLooks {
			break
		}
		id, err := ledger.ParseHash(b.Key)
		if err != nil {
			return nil, refused("ask another server", "the server names a key %q", b.Key)
		}
		if restored[b.Key], err = l.LastRestoring(ctx, id, b); err != nil {
			return nil, err
		}
	}
	return restored, nil
}

// nodeKey is how a node's key stands now, in its story.
type nodeKey struct {
	ID          string            `json:"id"`
	Standing    string            `json:"standing"` // as explain key has it, or late or over
	Epoch       uint64            `json:"epoch"`    // now
	ValidFrom   *uint64           `json:"valid_from,omitempty"`
	ValidTo     *uint64           `json:"valid_to,omitempty"`
	RevokedFrom *uint64           `json:"revoked_from,omitempty"`
	Next        string            `json:"next,omitempty"` // key id
	NextFrom    uint64            `json:"next_from,omitempty"`
	Restored    *client.Restoring `json:"restored,omitempty"`

	look keyLook
}

// nodeKey proves how a node's key stands.
func (l *link) nodeKey(ctx context.Context, n *fsm.NodeRecord) (*nodeKey, error) {
	k, err := l.VerifiedKey(ctx, n.Key)
	if err != nil {
		return nil, err
	}
	restored, err := l.LastRestoring(ctx, n.Key, k.Backup)
	if err != nil {
		return nil, err
	}
	out := &nodeKey{ID: k.ID, Epoch: k.Epoch, ValidFrom: k.ValidFrom, ValidTo: k.ValidTo, RevokedFrom: k.RevokedFrom, Restored: restored, look: lookAt(k, restored)}
	out.Standing = out.look.code()
	if n.Next != nil {
		out.Next, out.NextFrom = n.Next.Key.String(), n.Next.From
	}
	return out, nil
}

func (k *nodeKey) text() string {
	text := fmt.Sprintf("its key %s… is %s", k.ID[:16], k.look.long())
	if k.ValidFrom != nil && k.ValidTo != nil {
		text += fmt.Sprintf("; valid from epoch %d to %d, it is epoch %d", *k.ValidFrom, *k.ValidTo, k.Epoch)
	}
	if k.Next != "" {
		text += fmt.Sprintf("; the next one, %s…, is in force from epoch %d on", k.Next[:16], k.NextFrom)
	}
	if k.Restored != nil {
		text += "; restored " + restoringWords(k.Restored)
	}
	return text
}
