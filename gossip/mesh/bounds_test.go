package mesh

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// However takes are spread, a key gets no more than burst and rate allow, and
// never less than it asks for within them; no more keys are kept than the limit.
func TestAllowanceHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const rate, burst, limit = 5.0, 10.0, 8
		a := newAllowance[int](rate, burst, limit)
		now := time.Unix(0, 0)
		got := map[int]int{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			key := rapid.IntRange(0, limit-1).Draw(t, "key")
			got[key] += a.take(key, rapid.IntRange(1, 4).Draw(t, "n"), now)
			if most := burst + rate*now.Sub(time.Unix(0, 0)).Seconds() + 1e-6; float64(got[key]) > most {
				t.Fatalf("key %d got %d by %v, want at most %v", key, got[key], now, most)
			}
			if len(a.keys) > limit {
				t.Fatalf("%d keys are kept", len(a.keys))
			}
		}
		fresh := newAllowance[int](rate, burst, limit)
		if n := fresh.take(1, 10, now); n != burst {
			t.Fatalf("a fresh key got %d of %v", n, burst)
		}
		if fresh.has(1, now) || !fresh.has(1, now.Add(time.Second)) || !fresh.has(2, now) {
			t.Fatal("has differs from what may be taken")
		}
	})
}

// Many keys don't grow the table, and a key that is throttled stays so while
// others come and go full.
func TestAllowanceForgetsFullKeysFirst(t *testing.T) {
	a := newAllowance[int](1, 4, 100)
	now := time.Unix(0, 0)
	a.take(-1, 4, now)
	for key := range 10_000 {
		a.take(key, 1, now)
		now = now.Add(20 * time.Millisecond) // a key is full again when 50 more have come
		if key%50 == 0 {
			a.take(-1, 4, now)
		}
		if len(a.keys) > 100 {
			t.Fatalf("%d keys are kept", len(a.keys))
		}
	}
	if a.take(-1, 4, now) == 4 {
		t.Error("the throttled key was forgotten")
	}
}

func TestGaugeHolds(t *testing.T) {
	g := newGauge[string](3, 2)
	for i, c := range []struct {
		key  string
		want bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"c", false}} {
		if got := g.enter(c.key); got != c.want {
			t.Errorf("%d: %s enters: %v, want %v", i, c.key, got, c.want)
		}
	}
	g.leave("a")
	if !g.enter("c") || len(g.keys) != 3 {
		t.Error("a place that was left stays taken")
	}
	g.leave("c")
	if _, kept := g.keys["c"]; kept {
		t.Error("an idle key is kept")
	}
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	for failed := range 100 {
		wait, mean := backoff(failed), backoffLast
		if failed < 7 {
			mean = min(backoffLast, backoffFirst<<failed)
		}
		if wait < mean/2 || wait > mean*3/2 {
			t.Errorf("after %d failures: %v, want about %v", failed, wait, mean)
		}
	}
}

func key(n byte) ed25519.PublicKey {
	return bytes.Repeat([]byte{n}, ed25519.PublicKeySize)
}

// A liar's addresses are few, come last, and are never passed on.
func TestHearsayIsBoundedAndNotPassedOn(t *testing.T) {
	b := newBook([32]byte{1})
	m := Member{Peer: key(1), Addresses: []string{"192.0.2.1:7"}}
	for n := range 100 {
		b.told(m.Peer, []string{fmt.Sprintf("198.51.100.%d:9", n)})
	}
	b.announced(m.Peer, []string{"192.0.2.2:7"})
	b.reached(m.Peer, "192.0.2.3:7")
	got := b.addresses(m)
	if want := []string{"192.0.2.3:7", "192.0.2.1:7", "192.0.2.2:7", "198.51.100.99:9", "198.51.100.98:9", "198.51.100.97:9"}; !slices.Equal(got, want) {
		t.Errorf("addresses are %v, want %v", got, want)
	}
	b.told(key(2), []string{"198.51.100.1:9"})
	shared := b.share(func(ed25519.PublicKey) bool { return true })
	if len(shared) != 1 || !bytes.Equal(shared[0].Peer, m.Peer) || !slices.Equal(shared[0].Addresses, []string{"192.0.2.2:7", "192.0.2.3:7"}) {
		t.Errorf("shared: %v", shared)
	}
	if b.share(func(ed25519.PublicKey) bool { return false }) == nil {
		t.Error("an empty list must be one, for its encoding")
	}
	b.keep(func(k ed25519.PublicKey) bool { return bytes.Equal(k, key(2)) })
	if len(b.contacts) != 1 {
		t.Error("who is no member any more is kept")
	}
	for n := range maxBookMembers + 10 {
		b.told(binary.BigEndian.AppendUint64(bytes.Clone(key(9)[:24]), uint64(n)), []string{"192.0.2.1:1"})
	}
	if len(b.contacts) > maxBookMembers {
		t.Errorf("the book holds %d", len(b.contacts))
	}
}

func TestUsableAddresses(t *testing.T) {
	far, near := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		address string
		from    netip.Addr
		want    string
	}{
		{"192.0.2.1:80", far, "192.0.2.1:80"},
		{":80", far, "192.0.2.9:80"},
		{"127.0.0.1:80", far, ""},
		{"127.0.0.1:80", near, "127.0.0.1:80"},
		{"0.0.0.0:80", far, ""},
		{"[::]:80", far, ""},
		{"224.0.0.1:80", far, ""},
		{"node.example:80", far, "node.example:80"},
		{"node.example:0", far, ""},
		{"node.example", far, ""},
		{"a/b:80", far, ""},
		{strings.Repeat("a", 300) + ":80", far, ""},
		{"", far, ""},
	} {
		if got := strings.Join(usable([]string{c.address}, c.from), ","); got != c.want {
			t.Errorf("%q from %v: %q, want %q", c.address, c.from, got, c.want)
		}
	}
}

// An operator with most of the fleet gets no more of a node's choice than others.
func TestChoiceIsSpreadOverOperators(t *testing.T) {
	var candidates []candidate
	for n := range 240 {
		operator := "many"
		if n < 40 {
			operator = fmt.Sprintf("op-%d", n%8)
		}
		candidates = append(candidates, candidate{member: Member{Operator: operator}, rank: [8]byte{byte(n * 37), byte(n)}})
	}
	has := map[string]int{"op-0": 3}
	picked := pick(candidates, has, 15)
	counts := map[string]int{}
	for _, c := range picked {
		counts[c.member.Operator]++
	}
	if len(picked) != 15 || counts["op-0"] != 0 || counts["many"] > 2 || len(counts) != 8 {
		t.Errorf("picked %v", counts)
	}
}

func TestFewOperatorsLeavePlacesForOthers(t *testing.T) {
	take := func(g *gater, operator string, most int) (n int) {
		for ; n < most && len(g.inbound) < maxInbound && g.room(operator); n++ {
			g.inbound[fmt.Sprint(len(g.inbound))] = operator
			g.operators[operator]++
		}
		return n
	}
	g := newGater(nil, nil)
	for i := range 16 { // the first takes all that one may, each other its share
		take(g, fmt.Sprintf("bad-%d", i), maxInbound)
	}
	if n := take(g, "honest", 4); n != 4 {
		t.Errorf("%d connections of sixteen operators leave %d places for another", len(g.inbound)-n, n)
	}
	if n := take(newGater(nil, nil), "alone", maxInbound); n != crowdedInbound {
		t.Errorf("one operator alone holds %d", n)
	}
	// In a fleet of few operators each gets its part, whatever all others take before.
	for operators := 2; operators <= 32; operators++ {
		g := newGater(nil, nil)
		g.counts(operators)
		for i := range operators - 1 {
			take(g, fmt.Sprintf("bad-%d", i), maxInbound)
		}
		want := max((maxInbound-crowdedInbound)/operators, 1)
		if operators > 17 {
			want = 0 // eight of each fill it: see Known limits
		}
		if n := take(g, "newcomer", maxInbound); n < want {
			t.Errorf("of %d operators the last gets %d places, not %d", operators, n, want)
		}
	}
	// Those who come one by one are not kept out by their number.
	g = newGater(nil, nil)
	for i := range maxInbound {
		if take(g, fmt.Sprintf("op-%d", i), 1) != 1 {
			t.Fatalf("operator %d is not let in", i)
		}
	}
}

func TestFramesAreBounded(t *testing.T) {
	var b bytes.Buffer
	if err := writeFrame(&b, nil, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(b.Bytes())
	if got, err := readFrame(&b, 3); err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := readFrame(bytes.NewReader(whole), 2); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for n := range len(whole) {
		if _, err := readFrame(bytes.NewReader(whole[:n]), 3); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

// No frame makes a reader panic, or take more memory than the frame has.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03abc"))
	f.Add([]byte("\xff\xff\xff\xffabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		data, err := readFrame(bytes.NewReader(b), 1_000)
		if err == nil && (len(data) > 1_000 || !bytes.Equal(data, b[4:4+len(data)])) {
			t.Errorf("read %q of %q", data, b)
		}
	})
}

// What parses encodes again to the same bytes, and keeps the bounds.
func FuzzParseHints(f *testing.F) {
	for _, h := range []hints{
		{Addresses: []string{":80"}, Members: []memberHints{}},
		{Addresses: []string{}, Members: []memberHints{{[]string{"192.0.2.1:1", "a.example:2"}, key(1)}}},
	} {
		frame, err := h.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Add([]byte(`{"addresses":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHints(b)
		if err != nil {
			return
		}
		if len(h.Addresses) > maxAnnouncedAddress || len(h.Members) > maxExchangeMembers {
			t.Errorf("%d addresses, %d members", len(h.Addresses), len(h.Members))
		}
		if again, err := h.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
		usable(h.Addresses, netip.MustParseAddr("192.0.2.1"))
	})
}

func TestScores(t *testing.T) {
	for _, c := range []struct {
		member Member
		known  bool
		want   float64
	}{
		{Member{Standing: Active, Reputation: 10_000}, true, 70},
		{Member{Standing: Active, Reputation: 5_000}, true, 20},
		{Member{Standing: Active, Reputation: 2_000}, true, 0},
		{Member{Standing: Quarantined, Reputation: 10_000}, true, scoreOfOutcast},
		{Member{Standing: "", Reputation: 10_000}, true, scoreOfOutcast},
		{Member{Standing: Active, Reputation: 10_000}, false, scoreOfOutcast},
	} {
		if got := scoreOf(c.member, c.known); got != c.want {
			t.Errorf("%v: %v, want %v", c.member, got, c.want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Ledger: testLedger, Identity: ed25519.NewKeyFromSeed(key(1)), Directory: &directory{}, Judge: &court{}, Listen: []string{"127.0.0.1:0", "[::1]:7000"}}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no ledger":        func(c *Config) { c.Ledger = "" },
		"no identity":      func(c *Config) { c.Identity = nil },
		"no judge":         func(c *Config) { c.Judge = nil },
		"no directory":     func(c *Config) { c.Directory = nil },
		"a name to listen": func(c *Config) { c.Listen = []string{"localhost:80"} },
		"no port":          func(c *Config) { c.Announce = []string{"node.example"} },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	m, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Publish(t.Context(), Heads, []byte("x")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("publish before Run: %v", err)
	}
	if _, err := m.Ask(t.Context(), key(1), []byte("x")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("ask before Run: %v", err)
	}
}
