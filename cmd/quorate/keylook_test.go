package main

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// TestWhereAKeyStands: at each boundary of a key's life, in a table's words, in a
// sentence, and as doctor judges it.
func TestWhereAKeyStands(t *testing.T) {
	epoch := func(n uint64) *uint64 { return &n }
	restored := &client.Restoring{Seq: 55, Author: "alice", Holders: []string{"bob", "carol"}}
	node := client.Key{ID: strings.Repeat("0a", 32), Holder: "edge-7", Role: fsm.RoleNode, Standing: client.KeyInForce, ValidFrom: epoch(2), ValidTo: epoch(12)}
	as := func(standing string, change func(*client.Key)) client.Key {
		k := node
		if k.Standing = standing; change != nil {
			change(&k)
		}
		return k
	}
	for _, row := range []struct {
		name      string
		key       client.Key
		epoch     uint64
		announced bool
		restored  *client.Restoring

		short, long    string
		result, advice string
	}{
		{"long to go", node, 10, false, nil, "in force", "in force", resultOK, ""},
		{"its first late epoch", node, 11, false, nil, "late: ends with epoch 12", "late: it ends with epoch 12, and no other is announced", resultWarn, "reaches a replica"},
		{"its last epoch", node, 12, false, nil, "late: ends with epoch 12", "late: it ends with epoch 12", resultWarn, "reaches a replica"},
		{"its last epoch, another announced", node, 12, true, nil, "in force", "in force", resultOK, ""},
		{"announced, and that one revoked", as(client.KeyInForce, func(k *client.Key) { k.Next = strings.Repeat("0b", 32) }), 12, false, nil, "late: ends with epoch 12", "late", resultWarn, "reaches a replica"},
		{"over, and heard still", node, 13, false, nil, "over since epoch 13", "what bears its epochs is heard for a while", resultFail, "quorate agent rekey"},
		{"over", as(client.KeyExpired, nil), 20, false, nil, "over since epoch 13", "over: it ended with epoch 12, and no other was announced", resultFail, "quorate agent rekey"},
		{"revoked", as(fsm.KeyRevoked, func(k *client.Key) { k.RevokedFrom = epoch(0) }), 9, false, nil, "revoked from epoch 0", "revoked from epoch 0 on", resultFail, "quorate explain key 0a0a0a0a0a0a0a0a"},
		{"revoked late in its life", as(fsm.KeyRevoked, func(k *client.Key) { k.RevokedFrom = epoch(12) }), 12, false, nil, "revoked from epoch 12", "revoked from epoch 12 on", resultFail, "quorate propose node.rekey"},
		{"next", as(client.KeyNext, nil), 1, false, nil, "next", "announced, not in force yet", resultOK, ""},
		{"rotated", as(fsm.KeyRotated, func(k *client.Key) { k.Next = strings.Repeat("0b", 32) }), 9, false, nil, "rotated", "ended: rotated", resultFail, "use the one after it, 0b0b0b0b0b0b0b0b"},
		{"removed", as(fsm.KeyRemoved, nil), 9, false, nil, "removed", "ended: removed", resultFail, "tells how"},
		{"restored", node, 5, false, restored, "in force, restored (entry 55)", "in force", resultOK, ""},
		{"restored, and late", node, 12, false, restored, "late: ends with epoch 12, restored (entry 55)", "late", resultWarn, "reaches a replica"},
		{"a governor's", client.Key{Holder: "alice", Role: fsm.RoleGovernor, Standing: client.KeyInForce}, 99, false, nil, "in force", "in force", resultOK, ""},
	} {
		look := keyLook{key: &row.key, epoch: row.epoch, rules: ledger.Keys{LateEpochs: 2}, announced: row.announced, restored: row.restored}
		if got := look.short(); got != row.short {
			t.Errorf("%s: short %q, want %q", row.name, got, row.short)
		}
		if got := look.long(); !strings.Contains(got, row.long) {
			t.Errorf("%s: long %q, want %q in it", row.name, got, row.long)
		}
		var f findings
		judgeKey(&f, look)
		if f[0].Result != row.result || !strings.Contains(f[0].Advice, row.advice) || (f[0].Advice == "") != (row.advice == "") {
			t.Errorf("%s: doctor says %+v, want %s with %q", row.name, f[0], row.result, row.advice)
		}
		if told := len(f) == 2 && f.has(resultOK, "restored from its backup, with the shares of bob, carol, says alice (entry 55)"); told != (row.restored != nil) {
			t.Errorf("%s: doctor says %+v of a restoring", row.name, f)
		}
	}
}
