package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// fleetFake is a fake ledger of format 2 with a node of each of five operators,
// admitted before the first epoch.
type fleetFake struct {
	*fake
	seqs map[string]uint64
}

var fleetOperators = []string{"acme", "blue", "core", "dune", "echo"}

func newFleet(t *testing.T) *fleetFake {
	t.Helper()
	f := &fleetFake{newFake(t, func(g *ledger.Genesis) {
		g.Operators = append(g.Operators, ledger.Operator{Name: "dune", Sponsor: "acme"}, ledger.Operator{Name: "echo", Sponsor: "acme"})
	}), map[string]uint64{}}
	var joins [][]byte
	var ids []ledger.Hash
	for _, operator := range fleetOperators {
		name := "n-" + operator
		k := seeded(name)
		join := f.world.sayAs(t, k, f.world.payload(name, ledger.TypeJoin), ledger.Join{
			Name: name, Operator: operator, Public: k.Public().Bytes(), Peer: bytes.Repeat([]byte{operator[0]}, 32)})
		joins, ids = append(joins, join), append(ids, idOf(t, join))
	}
	f.submit(joins...)
	f.decide("node.admit", map[string]any{"joins": ids})
	return f
}

// decide has an action proposed and approved by whoever must consent.
func (f *fleetFake) decide(action string, args any) {
	f.t.Helper()
	p := f.propose("alice", action, args)
	f.submit(p)
	for _, name := range []string{"bob", "carol"} {
		f.mu.Lock()
		shown, ok := f.state.Proposal(idOf(f.t, p))
		open := ok && shown.Standing == fsm.ProposalOpen
		f.mu.Unlock()
		if open {
			f.submit(f.world.ballot(f.t, name, ledger.TypeApprove, p))
		}
	}
}

// of is a payload of a node, at the next seq.
func (f *fleetFake) of(author, typ string) ledger.Payload {
	epoch, seq := f.state.Epoch(), f.seqs[author]
	f.seqs[author]++
	return ledger.Payload{Author: author, Type: typ, Ledger: f.world.hash, Epoch: &epoch, Seq: &seq}
}

func (f *fleetFake) observe(author, kind, subject string) []byte {
	policy := f.state.Policy()
	tick := uint64(time.Now().UnixMilli()) / policy.TickMillis
	body := ledger.Observe{Kind: kind, Subject: subject, Counter: f.seqs[author] + 1, From: tick, To: tick}
	if kind == ledger.NodeBad {
		body.Cause = ledger.CauseInvalid
	}
	return f.world.sayAs(f.t, seeded(author), f.of(author, ledger.TypeObserve), body)
}

// accuse has all others say that a node is bad, once.
func (f *fleetFake) accuse(subject string) {
	f.t.Helper()
	for _, operator := range fleetOperators {
		if name := "n-" + operator; name != subject {
			f.submit(f.observe(name, ledger.NodeBad, subject))
		}
	}
}

func TestNodesShowHowTheyStand(t *testing.T) {
	f := newFleet(t)
	ts := newServer(t, f, Config{})
	c := newClient(t, f.world, "", ts.URL)
	ctx := short(t)
	before, err := c.Node(ctx, "n-acme", client.Read{})
	if err != nil || before.Standing != fsm.NodeActive || before.Reputation == nil || before.Reputation.Points == 0 || before.Last != nil {
		t.Fatalf("before: %+v, %v", before, err)
	}
	f.accuse("n-acme")
	after, err := c.Node(ctx, "n-acme", client.Read{})
	if err != nil || after.Reputation.Points >= before.Reputation.Points || after.Last == nil {
		t.Fatalf("after: %+v, %v", after, err)
	}
	if after.Last.Type != fsm.EffectOffence || len(after.Last.Causes) < ledger.MinAccusers {
		t.Errorf("its last event: %+v", after.Last)
	}
	f.decide("node.quarantine", map[string]any{"name": "n-blue", "reason": "stolen"})
	page, err := c.Nodes(ctx, client.Read{})
	if err != nil || len(page.Nodes) != 5 {
		t.Fatalf("%+v, %v", page, err)
	}
	for _, n := range page.Nodes {
		switch n.Name {
		case "n-acme":
			if n.Last == nil || n.Last.Seq != after.Last.Seq {
				t.Errorf("in the list: %+v", n.Last)
			}
		case "n-blue":
			if n.Standing != fsm.NodeQuarantined || !n.Reputation.Decided || n.Last == nil || n.Last.Type != fsm.EffectExecuted {
				t.Errorf("by decision: %+v, %+v", n, n.Last)
			}
		default:
			if n.Standing != fsm.NodeActive || n.Last != nil {
				t.Errorf("untouched: %+v", n)
			}
		}
	}
	fleet, err := c.Fleet(ctx, client.Read{})
	if err != nil || !fleet.Protected || fleet.Nodes != 5 || fleet.Active != 3 || fleet.Probation != 1 || fleet.Quarantined != 1 || fleet.Breaker || fleet.Room != 1 {
		t.Errorf("fleet: %+v, %v", fleet, err)
	}
}

func TestLinksAreListed(t *testing.T) {
	f := newFleet(t)
	c := newClient(t, f.world, "", newServer(t, f, Config{}).URL)
	f.submit(f.observe("n-acme", ledger.LinkDown, "n-blue"))
	f.submit(f.observe("n-blue", ledger.LinkDown, "n-acme"))
	f.submit(f.observe("n-core", ledger.LinkDown, "n-dune"))
	first, err := c.FleetLinks(short(t), client.Read{Limit: 1})
	if err != nil || len(first.Links) != 1 || !first.Links[0].Down || len(first.Links[0].Words) != 2 || first.Next == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := c.FleetLinks(short(t), client.Read{Limit: 1, Cursor: first.Next})
	if err != nil || len(second.Links) != 1 || second.Links[0].Down || !slices.Equal(second.Links[0].Ends, []string{"n-core", "n-dune"}) || second.Next != "" {
		t.Errorf("%+v, %v", second, err)
	}
}

// TestStory tells a node's life, in pages too, and by every entry.
func TestStory(t *testing.T) {
	f := newFleet(t)
	server, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(server.Handler())
	t.Cleanup(ts.Close)
	c := newClient(t, f.world, "", ts.URL)
	ctx := short(t)
	f.submit(f.observe("n-acme", ledger.LinkDown, "n-blue"))
	f.submit(f.observe("n-blue", ledger.LinkDown, "n-acme"))
	f.accuse("n-acme")
	same := f.of("n-core", ledger.TypeRecord)
	f.submit(f.world.sayAs(t, seeded("n-blue"), f.of("n-blue", ledger.TypeEvidence), ledger.Evidence{
		Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{ // another's story
			f.world.sayAs(t, seeded("n-core"), same, ledger.Record{Text: "x"}), f.world.sayAs(t, seeded("n-core"), same, ledger.Record{Text: "y"}),
		}}))
	f.decide("node.quarantine", map[string]any{"name": "n-dune", "reason": "another"})
	f.decide("node.quarantine", map[string]any{"name": "n-acme", "reason": "stolen"})
	f.decide("node.release", map[string]any{"name": "n-acme", "reason": "found"})
	want := []string{"executed", "link", "verdict", "offence", "executed", "executed"}
	for _, whole := range []bool{false, true} {
		story, err := c.Story(ctx, "n-acme", client.StoryOptions{Whole: whole})
		if err != nil {
			t.Fatalf("whole %v: %v", whole, err)
		}
		var got []string
		for _, e := range story.Events {
			got = append(got, e.Type)
			if len(e.Causes) == 0 {
				t.Errorf("entry %d has no causes", e.Seq)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("whole %v: %v, want %v", whole, got, want)
		}
		if story.Node == nil || story.Node.Standing != fsm.NodeActive || story.Reputation == nil || story.From != story.Events[0].Seq {
			t.Errorf("its records: %+v, %+v, from %d", story.Node, story.Reputation, story.From)
		}
	}
	short, err := c.Story(ctx, "n-acme", client.StoryOptions{Limit: 2})
	if err != nil || len(short.Events) != 2 || short.Left != 4 || short.Events[0].Seq != short.From {
		t.Errorf("a short story: %d events, %d left, %v", len(short.Events), short.Left, err)
	}
	var paged []uint64
	for r := (client.Read{Limit: 1}); ; {
		page, err := c.NodeHistory(ctx, "n-acme", r)
		if err != nil || len(page.Events) > 1 {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, e := range page.Events {
			paged = append(paged, e.Seq)
		}
		if r.Cursor = page.Next; r.Cursor == "" {
			break
		}
	}
	slices.Reverse(paged)
	if len(paged) != len(want) || !slices.IsSorted(paged) {
		t.Errorf("in pages: %v", paged)
	}
	if _, err := c.Story(ctx, "nobody", client.StoryOptions{}); err == nil {
		t.Error("nobody has a story")
	}
	f.decide("node.remove", map[string]any{"name": "n-acme"})
	if story, err := c.Story(ctx, "n-acme", client.StoryOptions{}); err != nil || story.Node != nil || len(story.Events) != len(want)+1 {
		t.Errorf("after it was removed: %v", err)
	}
}

// TestStoryMissesNothing: a server that leaves out what a proven record names is
// refused, and what it leaves out besides is found by looking at every entry.
func TestStoryMissesNothing(t *testing.T) {
	f := newFleet(t)
	server, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	hidden := ""
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/history") {
			server.Handler().ServeHTTP(w, r)
			return
		}
		recorded := httptest.NewRecorder()
		server.Handler().ServeHTTP(recorded, r)
		var page client.NodeHistory
		if err := json.Unmarshal(recorded.Body.Bytes(), &page); err != nil {
			t.Error(err)
		}
		page.Events = slices.DeleteFunc(page.Events, func(e client.NodeEvent) bool { return e.Type == hidden })
		_ = json.NewEncoder(w).Encode(page)
	}))
	t.Cleanup(liar.Close)
	c := newClient(t, f.world, "", liar.URL)
	f.accuse("n-acme")
	hidden = fsm.EffectOffence // the newest
	if _, err := c.Story(short(t), "n-acme", client.StoryOptions{}); err == nil || !strings.Contains(err.Error(), "leaves out") {
		t.Errorf("without its last event: %v", err)
	}
	hidden = fsm.EffectVerdict
	story, err := c.Story(short(t), "n-acme", client.StoryOptions{Whole: true})
	if err != nil || len(story.Events) != 3 {
		t.Errorf("by every entry: %v", err)
	}
}

func TestStateIsVerified(t *testing.T) {
	f := newFleet(t)
	f.accuse("n-acme")
	server, err := New(f, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var change func([]byte) []byte
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/state" || change == nil {
			server.Handler().ServeHTTP(w, r)
			return
		}
		recorded := httptest.NewRecorder()
		server.Handler().ServeHTTP(recorded, r)
		_, _ = w.Write(change(recorded.Body.Bytes()))
	}))
	t.Cleanup(ts.Close)
	good, err := newClient(t, f.world, "", ts.URL).State(short(t))
	if err != nil {
		t.Fatal(err)
	}
	if good.State.Digest() != f.certified.State.Digest() || good.Head.Size != f.certified.Size || good.State.Next() != good.Head.Size {
		t.Errorf("state at %d, head %d, want %d", good.State.Next(), good.Head.Size, f.certified.Size)
	}
	// From there it goes on like the ledger's own.
	seal, err := ledger.ParseEntry(good.Seal)
	if err != nil || seal.Seq != good.Head.Size-1 {
		t.Errorf("seal: %+v, %v", seal, err)
	}
	lines := func(b []byte) [][]byte { return bytes.SplitAfter(b, []byte("\n")) }
	for name, lie := range map[string]func([]byte) []byte{
		"a higher reputation": func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"reputation":3500`), []byte(`"reputation":9500`), 1)
		},
		"a record too few": func(b []byte) []byte { l := lines(b); return bytes.Join(append(l[:3:3], l[4:]...), nil) },
		"a record twice":   func(b []byte) []byte { l := lines(b); return bytes.Join(append(l[:4:4], l[3:]...), nil) },
		"no record":        func(b []byte) []byte { return lines(b)[0] },
		"no line":          func([]byte) []byte { return nil },
		"no JSON":          func(b []byte) []byte { return append(lines(b)[0], "node/x {}\n"...) },
		"the wrong seal":   func(b []byte) []byte { return bytes.Replace(b, []byte(`"seal":"`), []byte(`"seal":"AA`), 1) },
		"another key":      func(b []byte) []byte { return bytes.Replace(b, []byte(`["node/n-acme"`), []byte(`["node/n-acmf"`), 1) },
		"another size":     func(b []byte) []byte { return bytes.Replace(b, []byte(`{"size":`), []byte(`{"size":1`), 1) },
		"another separator": func(b []byte) []byte {
			return bytes.Replace(b, []byte(`["node/n-acme",`), []byte(`["node/n-acme",1,`), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			change = func(b []byte) []byte {
				changed := lie(bytes.Clone(b))
				if bytes.Equal(changed, b) {
					t.Errorf("it changes nothing")
				}
				return changed
			}
			if state, err := newClient(t, f.world, "", ts.URL).State(short(t)); err == nil {
				t.Errorf("taken, with digest %s", state.State.Digest())
			}
		})
	}
	change = nil
	if _, err := newClient(t, &world{}, "", ts.URL).State(short(t)); !errors.Is(err, client.ErrNoGenesis) {
		t.Errorf("without genesis: %v", err)
	}
}

// TestStateIsStreamed: the stream says what it is, and there is none before a head.
func TestStateIsStreamed(t *testing.T) {
	f := newFleet(t)
	ts := newServer(t, f, Config{Limits: Limits{States: 1}})
	r := do(t, "GET", ts.URL+"/v1/state", "", nil)
	if r.status != 200 || r.header.Get("Content-Type") != "application/x-ndjson" || r.header.Get(client.HeaderSize) != fmt.Sprint(f.certified.Size) {
		t.Fatalf("%d %v", r.status, r.header)
	}
	if n := bytes.Count(r.body, []byte(`["node/`)); n != 5 {
		t.Errorf("%d nodes", n)
	}
	f.mu.Lock()
	f.certified = nil
	f.mu.Unlock()
	if r := do(t, "GET", ts.URL+"/v1/state", "", nil); r.status != 503 {
		t.Errorf("before a certified head: %d", r.status)
	}
}

// TestNodesSubmit: what nodes say for the ledger is taken, what they say to each
// other is refused in words.
func TestNodesSubmit(t *testing.T) {
	f := newFleet(t)
	ts := newServer(t, f, Config{})
	post := func(envelope []byte) reply {
		return do(t, "POST", ts.URL+"/v1/statements", "application/cose", envelope)
	}
	if r := post(f.observe("n-acme", ledger.NodeDown, "n-blue")); r.status != 200 {
		t.Errorf("observe: %d %s", r.status, r.body)
	}
	a := f.of("n-core", ledger.TypeRecord)
	x, y := f.world.sayAs(t, seeded("n-core"), a, ledger.Record{Text: "x"}), f.world.sayAs(t, seeded("n-core"), a, ledger.Record{Text: "y"})
	evidence := ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{x, y}}
	if r := post(f.world.sayAs(t, seeded("n-blue"), f.of("n-blue", ledger.TypeEvidence), evidence)); r.status != 200 {
		t.Errorf("evidence: %d %s", r.status, r.body)
	}
	ack := f.world.sayAs(t, seeded("n-dune"), f.of("n-dune", ledger.TypeAck), ledger.Ack{Prober: "n-acme", Tick: 1})
	probe := f.world.sayAs(t, seeded("n-dune"), f.of("n-dune", ledger.TypeProbe), ledger.Probe{Nonce: make([]byte, 16), Subject: "n-acme", Tick: 1})
	for name, body := range map[string][]byte{"ack": ack, "probe": probe, "bundle": append(bytes.Clone(f.world.record(t, "alice", "a")), probe...)} {
		seen := f.seen
		r := post(body)
		var p client.Problem
		if err := json.Unmarshal(r.body, &p); err != nil {
			t.Fatal(err)
		}
		if r.status != 422 || p.Code != "wrong_statement" || !strings.Contains(p.Detail, "from node to node") || !strings.HasSuffix(p.Path, "type") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
		if f.seen != seen {
			t.Errorf("%s reached the ledger", name)
		}
	}
	if _, err := f.View(context.Background(), client.Certified); err != nil {
		t.Error(err)
	}
}

// TestVerdictsAreWatched: the filter takes all types at once, and a watch that
// begins later misses none.
func TestVerdictsAreWatched(t *testing.T) {
	f := newFleet(t)
	c := newClient(t, f.world, "", newServer(t, f, Config{}).URL)
	f.accuse("n-acme")
	var got []string
	enough := errors.New("enough")
	watch := func(from uint64, want int) (next uint64) {
		err := c.Watch(short(t), client.WatchOptions{From: from, Types: client.VerdictTypes, Verify: true}, func(e *client.Entry) error {
			got = append(got, e.Type)
			next = e.Seq + 1
			if len(got) == want {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatalf("%v after %v", err, got)
		}
		return next
	}
	next := watch(0, 2)
	for _, name := range []string{"n-core", "n-dune", "n-echo"} {
		f.submit(f.observe(name, ledger.NodeBad, "n-blue"))
	}
	watch(next, 4)
	if want := []string{"verdict", "offence", "verdict", "offence"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
