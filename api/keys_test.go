package api

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// TestKeysAreTold: a key by its id, by its first digits and by its holder, as the
// server says and as the client proves, of a node that was re-keyed.
func TestKeysAreTold(t *testing.T) {
	f := newFleet(t)
	ts := newServer(t, f.fake, Config{})
	c := newClient(t, f.world, t.TempDir(), ts.URL)
	ctx := short(t)
	old := ledger.Hash(seeded("n-acme").ID())
	k := seeded("n-acme, another")
	join := f.world.sayAs(t, k, f.world.payload("n-acme", ledger.TypeJoin), ledger.Join{
		Name: "n-acme", Operator: "acme", Public: k.Public().Bytes(), Peer: make([]byte, 32)})
	f.submit(join)
	f.decide("node.rekey", map[string]any{"join": idOf(t, join)})
	id := ledger.Hash(k.ID())

	told, err := c.Key(ctx, id.String(), client.Read{})
	if err != nil || told.Holder != "n-acme" || told.Role != fsm.RoleNode || told.Operator != "acme" || told.Standing != client.KeyInForce || told.ValidTo == nil {
		t.Fatalf("the key in force: %+v, %v", told, err)
	}
	proven, err := c.VerifiedKey(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	told.Meta = client.Meta{}
	if want, got := inJSON(t, told), inJSON(t, proven.Key); want != got {
		t.Errorf("told %s\nproven %s", want, got)
	}
	ended, err := c.VerifiedKey(ctx, old)
	if err != nil || ended.Standing == client.KeyInForce || !ended.Revoked {
		t.Errorf("the key before: %+v, %v", ended, err)
	}
	list, err := c.HolderKeys(ctx, "n-acme", client.Read{})
	if err != nil || len(list.Keys) == 0 || list.Keys[0].ID != id.String() {
		t.Errorf("keys of the node: %+v, %v", list, err)
	}
	like, err := c.KeysLike(ctx, old.String()[:9], client.Read{})
	if err != nil || len(like.Keys) != 1 || like.Keys[0].ID != old.String() {
		t.Errorf("keys like %s: %+v, %v", old.String()[:9], like, err)
	}
	for _, name := range []string{"alice", "r1"} {
		if list, err := c.HolderKeys(ctx, name, client.Read{}); err != nil || len(list.Keys) != 1 || list.Keys[0].Standing != client.KeyInForce {
			t.Errorf("keys of %s: %+v, %v", name, list, err)
		}
	}
	var problem *client.Problem
	if _, err := c.HolderKeys(ctx, "nobody", client.Read{}); !errors.As(err, &problem) || problem.Status != 404 {
		t.Errorf("keys of nobody: %v", err)
	}
	if _, err := c.KeysLike(ctx, "77c0", client.Read{}); !errors.As(err, &problem) || problem.Status != 422 {
		t.Errorf("four digits: %v", err)
	}
	if _, err := c.VerifiedKey(ctx, ledger.Hash{1}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a key that never was: %v", err)
	}

	// Its life: the entry by which it came, and what it signed.
	story, err := c.StoryOfKey(ctx, ledger.Hash(seeded("alice").ID()), false)
	if err != nil || story.Came.Seq != 0 || story.Signed == nil || story.Signed.Type != ledger.TypePropose {
		t.Errorf("the story of a governor's key: %+v, %v", story, err)
	}
}

func inJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAlarmsAreMeasured: a scrape tells what the ledger warns of.
func TestAlarmsAreMeasured(t *testing.T) {
	f := newFleet(t)
	f.decide("epoch.advance", struct{}{})
	registry := prometheus.NewRegistry()
	if _, err := New(f.fake, Config{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "quorate_alarms" {
			for _, m := range family.GetMetric() {
				kinds[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if kinds[fsm.AlarmCouncilThin] < 2 {
		t.Errorf("measured: %v", kinds)
	}
}

// TestKeyStandings: how a key stands follows from its record and its holder's.
func TestKeyStandings(t *testing.T) {
	id, other, from := ledger.Hash{1}, ledger.Hash{2}, uint64(7)
	policy := ledger.DefaultPolicy(3)
	node := func(change func(*fsm.NodeRecord)) *fsm.NodeRecord {
		n := &fsm.NodeRecord{Name: "n", Key: id, ValidFrom: 3, ValidTo: 20}
		change(n)
		return n
	}
	same := func(*fsm.NodeRecord) {}
	for _, c := range []struct {
		name   string
		record fsm.KeyRecord
		node   *fsm.NodeRecord
		epoch  uint64
		want   string
	}{
		{"in force", fsm.KeyRecord{}, node(same), 20, client.KeyInForce},
		{"in its grace", fsm.KeyRecord{}, node(same), 20 + policy.GraceEpochs, client.KeyInForce},
		{"expired", fsm.KeyRecord{}, node(same), 21 + policy.GraceEpochs, client.KeyExpired},
		{"revoked, and no other came", fsm.KeyRecord{}, node(func(n *fsm.NodeRecord) { n.Revoked = true }), 9, fsm.KeyRevoked},
		{"announced", fsm.KeyRecord{}, node(func(n *fsm.NodeRecord) { n.Key, n.Next = other, &fsm.NextKey{Key: id, From: 9} }), 8, client.KeyNext},
		{"rotated out", fsm.KeyRecord{Ended: fsm.KeyRotated}, node(func(n *fsm.NodeRecord) { n.Key = other }), 9, fsm.KeyRotated},
		{"rotated out, then revoked", fsm.KeyRecord{Ended: fsm.KeyRotated, RevokedFrom: &from}, nil, 9, fsm.KeyRevoked},
		{"ended before format 3", fsm.KeyRecord{Revoked: true}, node(func(n *fsm.NodeRecord) { n.Key = other }), 9, client.KeyEnded},
		{"its holder is gone", fsm.KeyRecord{Revoked: true}, nil, 9, fsm.KeyRemoved},
	} {
		c.record.Role, c.record.Holder = fsm.RoleNode, "n"
		facts := &client.KeyFacts{ID: id, Record: &c.record, Node: c.node, Epoch: c.epoch, Policy: &policy}
		if c.node != nil {
			facts.Current = &c.node.Key
		}
		if got := client.TellKey(facts); got.Standing != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.Standing, c.want)
		}
	}
}

// TestBackupStandings: a backup covers while enough of its holders sit with the
// recipients of then and it, or one before it with the very same holders, was opened.
func TestBackupStandings(t *testing.T) {
	policy := ledger.DefaultPolicy(3)
	council := []fsm.Governor{}
	var shares []ledger.BackupShare
	for i, name := range []string{"alice", "bob", "carol"} {
		recipient := "age1pq1" + name
		council = append(council, fsm.Governor{Member: ledger.Member{Name: name, Recipient: recipient}})
		shares = append(shares, ledger.BackupShare{Holder: name, Recipient: sum256(recipient), Share: ledger.Hash{byte(i)}})
	}
	record := func(tested uint64) *fsm.BackupRecord {
		b := &fsm.BackupRecord{Backup: ledger.Backup{Threshold: 2, Shares: shares}}
		if tested > 0 {
			b.Tested, b.TestedSeq = tested, 99
		}
		return b
	}
	moved := slices.Clone(council)
	moved[0].Recipient, moved[1].Recipient = "age1pq1new", "age1pq1other"
	failed := record(5)
	failed.Failed = true
	narrow := record(5)
	narrow.Threshold = 3
	for _, c := range []struct {
		name    string
		record  *fsm.BackupRecord
		council []fsm.Governor
		former  []*fsm.BackupRecord
		epoch   uint64
		want    string
	}{
		{"never opened", record(0), council, nil, 6, client.BackupUntested},
		{"opened", record(5), council, nil, 6, client.BackupCovered},
		{"opened long ago", record(5), council, nil, 6 + policy.KeyRules().TestEpochs, client.BackupUntested},
		{"could not be opened", failed, council, nil, 6, client.BackupUntested},
		{"one holder has another recipient", record(5), moved[:0:0], nil, 6, client.BackupMissing},
		{"two of three hold other ones", record(5), moved, nil, 6, client.BackupMissing},
		{"two of three still sit", record(5), council[1:], nil, 6, client.BackupCovered},
		{"an earlier key's was opened", record(0), council, []*fsm.BackupRecord{record(0), record(5)}, 6, client.BackupCovered},
		{"an earlier one of another threshold", record(0), council, []*fsm.BackupRecord{narrow}, 6, client.BackupUntested},
	} {
		facts := &client.BackupFacts{Record: c.record, Council: c.council, Former: slices.Values(c.former), Epoch: c.epoch, Policy: &policy}
		if got := client.TellBackup(facts); got.Standing != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.Standing, c.want)
		}
	}
}

func sum256(text string) ledger.Hash { return sha256.Sum256([]byte(text)) }

// TestRotationsAreTold: a node's rotation in its history, in its story and in the
// life of both keys; then the revocation of one, with what is disputed.
func TestRotationsAreTold(t *testing.T) {
	f := newFleet(t)
	ts := newServer(t, f.fake, Config{})
	c := newClient(t, f.world, t.TempDir(), ts.URL)
	ctx := short(t)
	rules := ledger.DefaultKeys()
	rules.RotateEpochs = ledger.DefaultPolicy(3).KeyEpochs
	policy := f.state.Policy()
	policy.Keys = &rules
	f.decide("policy.change", map[string]any{"policy": policy})
	f.decide("epoch.advance", struct{}{}) // the window begins with epoch 1

	old, next := seeded("n-acme"), seeded("n-acme, the next")
	oldID, nextID := ledger.Hash(old.ID()), ledger.Hash(next.ID())
	peer := ed25519.NewKeyFromSeed(make([]byte, 32))
	body := ledger.Rotate{Public: next.Public().Bytes(), Peer: peer.Public().(ed25519.PublicKey)}
	message := ledger.RotationMessage(f.state.Authority().Branch(), oldID, "n-acme", body)
	body.Proof, body.PeerProof = next.Sign(message), ed25519.Sign(peer, message)
	say := func(k *keys.PrivateKey, seq uint64, typ string, body any) uint64 {
		t.Helper()
		epoch := f.state.Epoch()
		return f.submit(f.world.sayAs(t, k, ledger.Payload{Author: "n-acme", Type: typ, Ledger: f.world.hash, Epoch: &epoch, Seq: &seq}, body)).First
	}
	rotated := say(old, 0, ledger.TypeRotate, body)
	node, err := c.Node(ctx, "n-acme", client.Read{})
	if err != nil || node.NextKey == nil || node.NextKey.ID != nextID.String() || node.NextKey.From != f.state.Epoch()+2 {
		t.Fatalf("the node: %+v, %v", node, err)
	}
	if k, err := c.VerifiedKey(ctx, nextID); err != nil || k.Standing != client.KeyNext || k.Previous != oldID.String() || k.Since != rotated {
		t.Errorf("the next key: %+v, %v", k, err)
	}
	for range 2 {
		f.decide("epoch.advance", struct{}{})
	}
	last := say(next, 1, ledger.TypeRecord, ledger.Record{Text: "under the next key"})
	list, err := c.HolderKeys(ctx, "n-acme", client.Read{})
	if err != nil || len(list.Keys) != 2 || list.Keys[0].Standing != client.KeyInForce || list.Keys[1].Standing != fsm.KeyRotated {
		t.Errorf("the node's keys: %+v, %v", list, err)
	}
	for _, whole := range []bool{false, true} {
		story, err := c.Story(ctx, "n-acme", client.StoryOptions{Whole: whole})
		if err != nil || !slices.ContainsFunc(story.Events, func(e client.StoryEvent) bool { return e.Type == ledger.TypeRotate && e.Seq == rotated }) {
			t.Errorf("whole %v: the story has no rotation: %+v, %v", whole, story, err)
		}
	}
	epochs, err := c.Epochs(ctx, client.Read{})
	if err != nil || len(epochs.Epochs) < 2 || epochs.Epochs[0].Rotated == nil || *epochs.Epochs[0].Rotated != 1 || *epochs.Epochs[0].Count < 12 {
		t.Errorf("epochs: %+v, %v", epochs, err)
	}

	alarms, err := c.Alarms(ctx, client.Read{})
	if err != nil || len(alarms.Alarms) == 0 || alarms.Alarms[0].Kind == "" || !slices.ContainsFunc(alarms.Alarms, func(a client.Alarm) bool {
		return a.Kind == fsm.AlarmCouncilThin && a.Count > 1 && slices.Contains(a.Names, "council.change")
	}) {
		t.Errorf("alarms: %+v, %v", alarms, err)
	}

	f.decide(ledger.ActionRevoke, map[string]any{"from": f.state.Epoch(), "key": nextID, "reason": "stolen"})
	told, err := c.StoryOfKey(ctx, nextID, false)
	if err != nil {
		t.Fatal(err)
	}
	if told.Standing != fsm.KeyRevoked || told.Revoked == nil || told.Revoked.Reason != "stolen" || !slices.Equal(told.Revoked.By, []string{"alice", "bob"}) ||
		!slices.Equal(told.Disputed, []uint64{last}) || told.Signed == nil || told.Signed.Seq != last {
		t.Errorf("the story of the revoked key: %+v, revoked %+v", told, told.Revoked)
	}
	for _, whole := range []bool{false, true} {
		story, err := c.Story(ctx, "n-acme", client.StoryOptions{Whole: whole})
		if err != nil || story.Events[len(story.Events)-1].Type != fsm.EffectExecuted {
			t.Errorf("whole %v: the story does not end in the revocation: %+v, %v", whole, story, err)
		}
	}
	if other, err := c.Story(ctx, "n-blue", client.StoryOptions{Whole: true}); err != nil || len(other.Events) != 1 {
		t.Errorf("another node's story: %+v, %v", other, err)
	}
}
