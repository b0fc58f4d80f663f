package main

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
)

// What status says of the servers' own keys: one line for each that says how its own
// stands, in every state of it.
func TestStatusLineOfReplicaKeys(t *testing.T) {
	const id, next = "0123456789abcdef", "fedcba9876543210"
	for name, row := range map[string]struct {
		key  client.ReplicaKey
		want string
	}{
		"in force":          {client.ReplicaKey{Since: 3, Due: 70, Late: 75}, "since epoch 3, is to rotate in epoch 70"},
		"due":               {client.ReplicaKey{Since: 3, Due: 41, Late: 42}, "since epoch 3, is to rotate in epoch 41"},
		"late":              {client.ReplicaKey{Due: 30, Late: 41}, "since epoch 0, is to rotate in epoch 30, which is late"},
		"long late, by off": {client.ReplicaKey{Due: 3, Late: 4, Off: true}, "since epoch 0, is to rotate in epoch 3, which is late; it makes no new one (rotation.off)"},
		"off":               {client.ReplicaKey{Due: 70, Late: 75, Off: true}, "since epoch 0, is to rotate in epoch 70; it makes no new one (rotation.off)"},
		"rotating":          {client.ReplicaKey{Since: 3, Due: 41, Late: 45, Next: next}, "since epoch 3, rotates now, to fedcba98…"},
		"rotating late":     {client.ReplicaKey{Since: 3, Due: 30, Late: 40, Next: next}, "since epoch 3, rotates now, to fedcba98…, which is late"},
		"rotates never":     {client.ReplicaKey{Since: 3}, "since epoch 3, is not to rotate"},
	} {
		row.key.ID = id
		view := statusView{Servers: []serverAnswer{
			{Server: "http://dead", Error: "refused"},
			{Server: "http://none", Status: &client.Status{Name: "removed"}},
			{Server: "http://r1", Status: &client.Status{Name: "r1", Epoch: 41, Key: &row.key}},
			{Server: "http://r2", Status: &client.Status{Name: "r2\x1b", Epoch: 41, Key: &client.ReplicaKey{ID: "ab", Since: 1}}},
		}}
		var out strings.Builder
		view.replicaKeys(&out)
		want := "\nkeys of   r1: 01234567…, " + row.want + "\n          r2?: ab…, since epoch 1, is not to rotate\n"
		if out.String() != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, out.String(), want)
		}
	}
	var out strings.Builder
	(&statusView{Servers: []serverAnswer{{Server: "http://dead"}}}).replicaKeys(&out)
	if out.Len() > 0 {
		t.Errorf("of nobody: %q", out.String())
	}
}

// What status says of the ledger's keys: how many are in force, rotated, late and over,
// and each alarm with what to do; of revoked keys the log's.
func TestStatusLinesOfLedgerKeys(t *testing.T) {
	alarm := func(kind string, count uint64, names ...string) client.Alarm {
		return client.Alarm{Kind: kind, Since: 7, Count: count, Names: names}
	}
	for name, row := range map[string]struct {
		view *keysView
		want string
	}{
		"unknown":  {nil, ""},
		"in force": {&keysView{Epoch: 9, Count: 20, Rotated: 3}, "\nkeys      20 in force, 3 rotated in epoch 9, 0 late, 0 expired\n"},
		"ends soon and over": {&keysView{Epoch: 9, Count: 20, Alarms: []client.Alarm{alarm(fsm.AlarmRotationLate, 2, "a", "b"), alarm(fsm.AlarmKeyExpired, 1, "c")}},
			"\nkeys      20 in force, 0 rotated in epoch 9, 2 late, 1 expired\n" +
				"alarms    rotation_late, since epoch 7: a, b: " + alarmMeans[fsm.AlarmRotationLate] + "\n" +
				"          key_expired, since epoch 7: c: " + alarmMeans[fsm.AlarmKeyExpired] + "\n"},
		"exposed": {&keysView{Alarms: []client.Alarm{alarm(fsm.AlarmLogKeyExposed, 1, "r3")}},
			"alarms    log_key_exposed, since epoch 7: r3: " + alarmMeans[fsm.AlarmLogKeyExposed] + "\n"},
		"thin": {&keysView{Spare: 1, Alarms: []client.Alarm{alarm(fsm.AlarmCouncilThin, 1, "acme")}},
			"alarms    council_thin (warning), since epoch 7: acme: " + alarmMeans[fsm.AlarmCouncilThin] + "\n"},
		"too thin": {&keysView{Spare: -1, Alarms: []client.Alarm{alarm(fsm.AlarmCouncilThin, 1, "acme")}},
			"alarms    council_thin, since epoch 7: acme: " + alarmMeans[fsm.AlarmCouncilThin] + "\n" +
				"COUNCIL   has too few operators for some action that changes authority; the recovery set can re-seat it: quorate propose council.reseat\n"},
	} {
		var out strings.Builder
		(&statusView{Keys: row.view}).keys(&out)
		if out.String() != row.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, out.String(), row.want)
		}
	}
}
