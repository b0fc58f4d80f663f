package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/memorytest"
)

var began = time.Unix(1_700_000_000, 0)

func after(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

func said(author, id string, epoch, seq uint64, seconds int) saying {
	return saying{spoken{author, epoch, seq, id}, "what " + id + " says", after(seconds)}
}

func TestLost(t *testing.T) {
	all := []saying{said("a", "1", 1, 0, 0), said("a", "2", 1, 1, 10), said("a", "3", 1, 2, 12), said("b", "4", 1, 0, 12)}
	stopped := []absence{{name: "a", from: after(11), to: after(20), abrupt: true}}
	restarted := []absence{{name: "a", from: after(11), to: after(20)}}
	h := &history{ids: map[string]uint64{"1": 1, "2": 2, "4": 4}, contents: map[string]uint64{}}
	if missing, apart, kept := lost(all, h, stopped); len(missing) != 0 || apart != 2 || kept != 1 {
		t.Errorf("an agent that was stopped: %v missing, %d apart, %d of them kept; want none, 2, 1", missing, apart, kept)
	}
	if missing, apart, _ := lost(all, h, restarted); len(missing) != 1 || missing[0].id != "3" || apart != 0 {
		t.Errorf("a restart excuses something: %v missing, %d apart", missing, apart)
	}
	delete(h.ids, "4") // nobody stopped b
	if missing, _, _ := lost(all, h, stopped); len(missing) != 1 || missing[0].id != "4" {
		t.Errorf("what an agent said that nobody stopped is lost: %v", missing)
	}
	delete(h.ids, "1") // long before
	if missing, _, _ := lost(all, h, stopped); len(missing) != 2 {
		t.Errorf("what was said long before a stop is lost: %v", missing)
	}
	h.contents["what 4 says"] = 9
	if missing, _, _ := lost(all, h, stopped); len(missing) != 1 || missing[0].id != "1" || anew(all, h) != 1 {
		t.Errorf("what was signed anew is there: %v missing, %d anew", missing, anew(all, h))
	}
}

func TestPartition(t *testing.T) {
	all := []saying{said("a", "1", 1, 0, 9), said("a", "2", 1, 1, 11), said("b", "3", 1, 0, 12), said("a", "4", 1, 2, 13), said("a", "5", 1, 3, 14), said("a", "6", 2, 0, 21)}
	h := &history{ids: map[string]uint64{"1": 1, "2": 2, "6": 6}, contents: map[string]uint64{"what 4 says": 7}}
	p := &partition{names: []string{"a"}, from: after(10), to: after(20)}
	if n, kept, again := p.spoke(all, h); n != 3 || kept != 2 || again != 1 {
		t.Errorf("%d said, %d on the ledger, %d of them anew; want 3, 2, 1", n, kept, again)
	}
}

func TestTwice(t *testing.T) {
	onLedger := []spoken{{"a", 1, 0, "1"}, {"a", 1, 1, "2"}, {"a", 2, 0, "3"}, {"b", 1, 0, "4"}}
	if list := twice(onLedger, onLedger); len(list) != 0 {
		t.Errorf("sound: %v", list)
	}
	if list := twice(onLedger, []spoken{{"a", 2, 0, "5"}}); len(list) != 1 {
		t.Errorf("a seq that was used twice: %v", list)
	}
}

func TestLate(t *testing.T) {
	starts := map[uint64]uint64{4: uint64(after(24).UnixMilli()), 7: uint64(after(42).UnixMilli())}
	late := []lateness{{name: "a", epoch: 7, from: 4, told: true}}
	if list := untold(late); len(list) != 0 {
		t.Errorf("told: %v", list)
	}
	if list := untold([]lateness{{name: "a", epoch: 7, from: 4}}); len(list) != 1 {
		t.Errorf("without an alarm: %v", list)
	}
	for what, c := range map[string]struct {
		absence absence
		want    int
	}{
		"away in its window":         {absence{name: "a", from: after(30), to: after(60), long: true}, 0},
		"away before its window":     {absence{name: "a", from: after(3), to: after(20), long: true}, 1},
		"away after its window":      {absence{name: "a", from: after(43), to: after(60), long: true}, 1},
		"another was away":           {absence{name: "b", from: after(30), to: after(60), long: true}, 1},
		"restarted in its window":    {absence{name: "a", from: after(30), to: after(32)}, 1},
		"away for all of its window": {absence{name: "a", from: after(3), to: after(60), long: true}, 0},
	} {
		if list := unexcused(late, starts, []absence{c.absence}); len(list) != c.want {
			t.Errorf("%s: %v, want %d", what, list, c.want)
		}
	}
}

func TestIdle(t *testing.T) {
	h := &history{last: 20, first: map[string]uint64{"a": 0, "b": 12}, rotations: map[string]int{"a": 2}}
	if list := idle(h, times{key: 8}); len(list) != 0 {
		t.Errorf("sound: %v", list)
	}
	h.rotations["a"] = 1
	if list := idle(h, times{key: 8}); len(list) != 1 || !strings.HasPrefix(list[0], "a ") {
		t.Errorf("a node that did not rotate: %v", list)
	}
}

func TestSilent(t *testing.T) {
	if quiet, all := silent([]saying{said("a", "1", 0, 0, 0), said("a", "2", 0, 1, 2)}, began, after(4)); quiet != 2 || all != 4 {
		t.Errorf("%d of %d seconds were silent, want 2 of 4", quiet, all)
	}
}

// life is the entries of a ledger of four nodes whose keys live for four epochs, of whom
// one rotates in time and all others never do.
func life(t *testing.T) (entries [][]byte, l *memorytest.Ledger, past moment) {
	t.Helper()
	l, err := memorytest.Found(memorytest.Founding{Seed: "rotation", Council: []memorytest.Seat{{Name: "alice", Operator: "aurora"}, {Name: "bob", Operator: "borealis"}, {Name: "carol", Operator: "cirrus"}},
		Nodes: 4, Operators: 4, NodeName: "n%d", Note: func(raw []byte) { entries = append(entries, raw) },
		Change: func(g *ledger.Genesis) {
			g.Policy.KeyEpochs = 4
			rules := ledger.DefaultKeys()
			rules.RotateEpochs, rules.LateEpochs = 2, 1
			g.Policy.Keys = &rules
		}})
	if err != nil {
		t.Fatal(err)
	}
	policy := l.State.Policy()
	for l.State.Epoch() < 7 {
		l.Now = l.State.Meta().EpochStart + policy.EpochMillis
		if err := l.Apply(ledger.CommandTick); err != nil {
			t.Fatal(err)
		}
		if l.State.Epoch() == 3 {
			if err := l.Apply(ledger.CommandStatements, rotation(t, l, "n0")); err != nil {
				t.Fatal(err)
			}
		}
		if l.State.Epoch() == 4 {
			past.at, past.early = len(entries), early(t, len(entries), l)
		}
	}
	l.IDs["n0"] = nextID("n0")
	return entries, l, past
}

// moment is before n0's next key is in force, when it signs something with it.
type moment struct {
	at    int // the entry's seq, if it were one
	early []byte
}

func early(t *testing.T, at int, l *memorytest.Ledger) []byte {
	was := l.IDs["n0"]
	l.IDs["n0"] = nextID("n0")
	defer func() { l.IDs["n0"] = was }()
	return spokenEntry(t, at, l, "n0", 30, "n1")
}

// nextKey is the key that a node rotates to.
func nextKey(name string) (public, seed []byte) {
	sum := sha256.Sum256([]byte("next " + name))
	return append(sum[:], make([]byte, keys.PublicKeySize-len(sum))...), sum[:]
}

func nextID(name string) keys.ID {
	public, _ := nextKey(name)
	return sha256.Sum256(public)
}

func rotation(t *testing.T, l *memorytest.Ledger, name string) []byte {
	t.Helper()
	meta := l.State.Meta()
	public, seed := nextKey(name)
	peer := ed25519.NewKeyFromSeed(seed)
	body := ledger.Rotate{Peer: peer.Public().(ed25519.PublicKey), Proof: make([]byte, keys.SignatureSize), Public: public}
	body.PeerProof = ed25519.Sign(peer, ledger.RotationMessage(ledger.Branch(meta.Ledger, meta.Generation), ledger.Hash(l.IDs[name]), name, body))
	envelope, err := l.Say(name, ledger.TypeRotate, body)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

var lifeTimes = times{key: 4, rotate: 2, late: 1, grace: 1}

// TestRead reads entries that the real rules made, as they are and with what must not be
// planted in them.
func TestRead(t *testing.T) {
	entries, l, past := life(t)
	h, err := read(entries, lifeTimes)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.wrong) != 0 || len(untold(h.lates)) != 0 || h.said != 1 || h.rotations["n0"] != 1 || len(h.first) != 4 || len(h.ids) == 0 {
		t.Fatalf("sound: %v, untold %v, %d said, %v, %d nodes", h.wrong, untold(h.lates), h.said, h.rotations, len(h.first))
	}
	var late, expired []string
	for _, one := range h.lates {
		if one.expired {
			expired = append(expired, one.name)
		} else {
			late = append(late, one.name)
		}
	}
	if want := []string{"n1", "n2", "n3"}; !slices.Equal(late, want) || len(expired) < 3 || slices.Contains(expired, "n0") {
		t.Errorf("late %v, expired %v; want %v", late, expired, want)
	}

	t.Run("accepted after its end", func(t *testing.T) {
		planted := append(slices.Clone(entries), spokenEntry(t, len(entries), l, "n1", 40, "n0"))
		h, err := read(planted, lifeTimes)
		if err != nil || len(outside(h.wrong)) != 1 {
			t.Errorf("%v, %v: want one complaint", h.wrong, err)
		}
	})
	t.Run("an alarm that was not raised", func(t *testing.T) {
		planted := slices.Clone(entries)
		changed := 0
		for i, raw := range planted {
			planted[i] = unnamed(t, raw, "n2", &changed)
		}
		h, err := read(planted, lifeTimes)
		if err != nil || changed == 0 || len(untold(h.lates)) == 0 {
			t.Errorf("%d alarms changed, %v untold, %v", changed, untold(h.lates), err)
		}
	})
	t.Run("an entry that is missing", func(t *testing.T) {
		if _, err := read(slices.Delete(slices.Clone(entries), 5, 6), lifeTimes); err == nil {
			t.Error("nobody missed it")
		}
	})
	t.Run("accepted before its key was in force", func(t *testing.T) {
		planted := append(slices.Clone(entries[:past.at]), past.early)
		h, err := read(planted, lifeTimes)
		if err != nil || len(outside(h.wrong)) != 1 {
			t.Errorf("%v, %v: want one complaint of a key that was not in force yet", h.wrong, err)
		}
	})
	t.Run("a seq that is used twice", func(t *testing.T) {
		once := append(slices.Clone(entries), spokenEntry(t, len(entries), l, "n0", 40, "n1"))
		h, err := read(once, lifeTimes)
		if err != nil || len(twice(h.spoken)) != 0 || len(h.wrong) != 0 {
			t.Fatalf("said once: %v, %v, %v", twice(h.spoken), h.wrong, err)
		}
		h, err = read(append(once, spokenEntry(t, len(once), l, "n0", 40, "n2")), lifeTimes)
		if err != nil || len(twice(h.spoken)) != 1 || len(h.wrong) != 1 {
			t.Errorf("%v twice, %v, %v: want one", twice(h.spoken), h.wrong, err)
		}
	})
	t.Run("an alarm that ended too early", func(t *testing.T) {
		planted := slices.Clone(entries)
		at := slices.IndexFunc(planted, func(raw []byte) bool { return alarmOf(t, raw) == fsm.AlarmRotationLate })
		if at < 0 {
			t.Fatal("no rotation was late")
		}
		changed := 0
		for _, name := range []string{"n1", "n2", "n3"} {
			planted[at] = unnamed(t, planted[at], name, &changed)
		}
		h, err := read(planted, lifeTimes)
		if err != nil || changed != 3 || len(untold(h.lates)) != 3 {
			t.Errorf("%d names taken out, untold %v, %v: want three", changed, untold(h.lates), err)
		}
	})
}

// spokenEntry is an entry in which somebody spoke in the epoch of the ledger's end.
func spokenEntry(t *testing.T, at int, l *memorytest.Ledger, name string, seq uint64, subject string) []byte {
	t.Helper()
	envelope, err := l.Envelope(name, ledger.TypeObserve, seq, ledger.Observe{Counter: seq + 1, Kind: ledger.LinkUp, Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := (&ledger.Entry{Seq: uint64(at), Stamp: l.Now, Kind: ledger.KindStatement, Content: envelope}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// alarmOf is the kind of the alarm that an entry tells, "" for none.
func alarmOf(t *testing.T, raw []byte) string {
	t.Helper()
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind != ledger.KindEffect {
		return ""
	}
	effect, err := e.Effect()
	if err != nil || effect.Type != fsm.EffectAlarm {
		return ""
	}
	var body fsm.AlarmEffect
	if err := canon.Unmarshal(effect.Body, &body); err != nil {
		t.Fatal(err)
	}
	return body.Kind
}

// unnamed takes a name out of an alarm.
func unnamed(t *testing.T, raw []byte, name string, changed *int) []byte {
	t.Helper()
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind != ledger.KindEffect {
		return raw
	}
	effect, err := e.Effect()
	if err != nil || effect.Type != fsm.EffectAlarm {
		return raw
	}
	var body fsm.AlarmEffect
	if err := canon.Unmarshal(effect.Body, &body); err != nil {
		t.Fatal(err)
	}
	i := slices.Index(body.Names, name)
	if i < 0 {
		return raw
	}
	*changed++
	body.Names, body.Count = slices.Delete(body.Names, i, i+1), body.Count-1
	if effect.Body, err = canon.Marshal(body); err != nil {
		t.Fatal(err)
	}
	if e.Content, err = canon.Marshal(effect); err != nil {
		t.Fatal(err)
	}
	if raw, err = e.Encode(); err != nil {
		t.Fatal(err)
	}
	return raw
}
