package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
)

// listKeys lists the keys in force, and those that nodes have announced.
func listKeys(ctx context.Context, l *link, f *listFlags) (*table, error) {
	t := &table{head: []string{"KEY", "HOLDER", "ROLE", "OPERATOR", "EPOCHS", "STANDING"}}
	list := []client.Key{}
	add := func(k client.Key) {
		if f.role == "" || f.role == k.Role {
			list = append(list, k)
		}
	}
	council, err := l.Council(ctx, f.read())
	if err != nil {
		return nil, err
	}
	for _, g := range council.Governors {
		add(client.Key{ID: g.Key, Words: g.Words, Holder: g.Name, Role: fsm.RoleGovernor, Operator: g.Operator, Standing: client.KeyInForce, Since: g.Since})
	}
	replicas, err := l.Replicas(ctx, f.read())
	if err != nil {
		return nil, err
	}
	for _, r := range replicas.Replicas {
		add(client.Key{ID: r.Key, Words: r.Words, Holder: r.Name, Role: fsm.RoleReplica, Operator: r.Operator, Standing: client.KeyInForce, Since: r.Since})
	}
	recovery, err := l.Recovery(ctx, f.read())
	if err != nil {
		return nil, err
	}
	for _, holder := range recovery.Holders {
		add(client.Key{ID: holder.Key, Words: holder.Words, Holder: holder.Name, Role: fsm.RoleRecovery, Standing: client.KeyInForce})
	}
	nodes, err := pages(f.read(), func(r client.Read) ([]client.Node, string, error) {
		page, err := l.Nodes(ctx, r)
		if err != nil {
			return nil, "", err
		}
		return page.Nodes, page.Next, nil
	})
	if err != nil {
		return nil, err
	}
	epoch, err := l.CurrentEpoch(ctx, f.read())
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		standing := client.KeyInForce
		switch {
		case n.Revoked:
			standing = fsm.KeyRevoked
		case epoch.Epoch > n.ValidTo:
			standing = client.KeyExpired
		}
		add(client.Key{ID: n.Key, Holder: n.Name, Role: fsm.RoleNode, Operator: n.Operator, Standing: standing, ValidFrom: &n.ValidFrom, ValidTo: &n.ValidTo})
		if next := n.NextKey; next != nil {
			add(client.Key{ID: next.ID, Holder: n.Name, Role: fsm.RoleNode, Operator: n.Operator, Standing: client.KeyNext, ValidFrom: &next.From})
		}
	}
	for _, k := range list {
		t.rows = append(t.rows, []string{k.ID, k.Holder, k.Role, k.Operator, rangeWords(&k), strings.ReplaceAll(k.Standing, "_", " ")})
	}
	t.data = list
	return t, nil
}

// rangeWords are the epochs in which a key speaks, in short.
func rangeWords(k *client.Key) string {
	switch {
	case k.ValidFrom == nil:
		return "-"
	case k.ValidTo == nil:
		return number(*k.ValidFrom) + "-"
	}
	return fmt.Sprintf("%d-%d", *k.ValidFrom, *k.ValidTo)
}

func listBackups(ctx context.Context, l *link, f *listFlags) (*table, error) {
	list, err := pages(f.read(), func(r client.Read) ([]client.Backup, string, error) {
		page, err := l.Backups(ctx, f.role, f.standing, r)
		if err != nil {
			return nil, "", err
		}
		return page.Backups, page.Next, nil
	})
	t := &table{head: []string{"KEY", "HOLDER", "ROLE", "STANDING", "SHARES", "OPENED", "SEQ"}, data: list}
	for _, b := range list {
		t.rows = append(t.rows, []string{b.Key[:min(16, len(b.Key))] + "…", b.Holder, b.Role, b.Standing, shareWords(&b), openedWords(&b), number(b.Seq)})
	}
	return t, err
}

// shareWords are who holds the shares of a backup, and how many open it.
func shareWords(b *client.Backup) string {
	var names []string
	for _, s := range b.Shares {
		name := s.Holder
		if s.Left {
			name += " (left)"
		}
		names = append(names, name)
	}
	return fmt.Sprintf("%d of %d (%s)", b.Threshold, len(b.Shares), strings.Join(names, ", "))
}

func openedWords(b *client.Backup) string {
	switch {
	case b.Tested == nil && b.Failed:
		return "could not be opened"
	case b.Tested == nil:
		return "never"
	case b.Failed:
		return fmt.Sprintf("in epoch %d, not since", *b.Tested)
	}
	return fmt.Sprintf("in epoch %d (entry %d)", *b.Tested, b.TestedSeq)
}

func listAlarms(ctx context.Context, l *link, f *listFlags) (*table, error) {
	list, err := l.Alarms(ctx, f.read())
	if err != nil {
		return nil, err
	}
	t := &table{head: []string{"ALARM", "COUNT", "SINCE EPOCH", "SEQ", "WHAT"}, data: list}
	for _, a := range list.Alarms {
		t.rows = append(t.rows, []string{a.Kind, number(a.Count), number(a.Since), number(a.Seq), alarmWords(&a)})
	}
	return t, nil
}

// alarmWords say what an alarm of the ledger means, and what to do.
func alarmWords(a *client.Alarm) string {
	const most = 8
	names := strings.Join(a.Names[:min(most, len(a.Names))], ", ")
	if a.Count > most {
		names += fmt.Sprintf(" and %d more", a.Count-most)
	}
	if what := alarmMeans[a.Kind]; what != "" {
		names += ": " + what
	}
	return names
}

// alarmMeans is what is wrong with those whom an alarm names, and what to do.
var alarmMeans = map[string]string{
	fsm.AlarmRotationLate:   "the key ends soon, and no other is announced; see that the agent runs and reaches a replica",
	fsm.AlarmKeyExpired:     "the key has ended; quorate agent rekey makes another on its machine, and quorate propose node.rekey gives it to the node",
	fsm.AlarmReplicaLate:    "the replica's key is older than the policy has it; see that it runs and is active",
	fsm.AlarmBackupMissing:  "no backup of the key can be opened; quorate key backup makes one",
	fsm.AlarmBackupUntested: "nobody has opened the backup lately; quorate key verify-backup with answers does",
	fsm.AlarmRetentionOver:  "the key ended long ago; destroy its backup: quorate key destroy",
	fsm.AlarmCouncilThin:    "one more lost governor's key leaves no spare operator, or decides nothing any more; seat another operator: quorate propose council.change",
	fsm.AlarmReseatPending:  "the recovery holders replace the whole council; the council may veto it: quorate veto",
	fsm.AlarmLogKeyExposed:  "it was removed for cause and may have copied the log's own keys; quorate operator log-key and quorate propose log.rekey replace them",
}

func numberOr(n *uint64, otherwise string) string {
	if n == nil {
		return otherwise
	}
	return number(*n)
}
