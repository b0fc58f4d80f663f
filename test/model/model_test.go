package model

import (
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"
)

// How verdicts spread in a small fleet: to every honest agent, whatever is lost
// and whoever withholds, in the same way each time.
func TestVerdictsReachEverybody(t *testing.T) {
	const nodes = 60
	b, err := prepare(nodes)
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range []Cause{ByEvidence, ByWords} {
		for _, config := range hardships(nodes, 1) {
			v, err := spread(config, cause, b)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(v)
			if v.Left != 0 || v.Certified == never || v.Known == never || v.Half > v.Most || v.Most > v.All {
				t.Errorf("%v, by %s: %d of %d honest agents do not drop the offender: %+v", config, cause, v.Left, v.Honest, v)
			}
			if config.Withholding == (v.Honest == nodes-1) {
				t.Errorf("%v: %d honest agents", config, v.Honest)
			}
			again, err := spread(config, cause, b)
			if err != nil || !reflect.DeepEqual(v, again) {
				t.Errorf("%v, by %s: another result the second time: %+v, %+v", config, cause, v, again)
			}
		}
	}
}

// Planted: nobody offers what it has, nor asks a peer for what it lacks. The
// model must show that some never hear.
func TestWithoutRepairSomeNeverHear(t *testing.T) {
	left := 0
	for seed := range uint64(3) {
		v, err := Spread(Config{Nodes: 60, Seed: seed + 1, Loss: 0.05, Withholding: true, Alone: 0.05, NoRepair: true}, ByWords)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(v)
		left += v.Left
	}
	if left == 0 {
		t.Error("without repair everybody hears: the model does not see what repair is for")
	}
}

// A node probes as often in a large fleet as in a small one, and nobody at rest
// accuses anybody.
func TestRest(t *testing.T) {
	for _, c := range []struct {
		nodes    int
		probes   float64
		subjects int // at most
	}{{20, 180, 18}, {120, 980, 98}, {500, 980, 98}} {
		duties, err := Duties(c.nodes, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(duties)
		if duties.Probes < c.probes*0.95 || duties.Probes > c.probes*1.05 || duties.MostSubjects > c.subjects {
			t.Errorf("%d nodes: %.0f probes an epoch, want about %.0f; at most %d subjects", c.nodes, duties.Probes, c.probes, duties.MostSubjects)
		}
	}
	r, err := AtRest(50, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	if r.Accused != 0 || r.By[probes] == 0 || r.By[refreshing] == 0 || r.Sent > 40_000 {
		t.Errorf("at rest: %+v", r)
	}
}

// A fleet rotates and enters the epoch in which all its keys take effect: everybody
// knows every key long before, and what is said around that moment reaches everybody,
// in the same way each time.
func TestRotationsReachEverybody(t *testing.T) {
	const nodes = 40
	for _, config := range hardships(nodes, 1) {
		r, err := Rotate(config, Rotating{})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r)
		if r.Said != r.Honest || r.All == never || r.Left != 0 || r.Sent < 10_000 {
			t.Errorf("%v: of %d rotations of %d honest agents, %d pairs are left: %+v", config, r.Said, r.Honest, r.Left, r)
		}
		if r.Lost != 0 || r.Unknown != 0 || r.NotValid != 0 || r.Refused != 0 || r.Last == never || r.Spoken != 2*r.Said {
			t.Errorf("%v: at the boundary: %+v", config, r)
		}
		if r.Held == 0 {
			t.Errorf("%v: nothing came before its epoch: the run does not show that early statements wait", config)
		}
		again, err := Rotate(config, Rotating{})
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%v: another result the second time: %+v, %+v", config, r, again)
		}
	}
}

// Planted: what comes before its epoch does not wait. The model must show that gossip
// loses it: the ledger alone brings it.
func TestWithoutWaitingGossipLosesAtABoundary(t *testing.T) {
	config := Config{Nodes: 40, Seed: 1}
	with, err := Rotate(config, Rotating{})
	if err != nil {
		t.Fatal(err)
	}
	config.NoEarly = true
	without, err := Rotate(config, Rotating{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v\n%v", with, without)
	if with.ByLedger != with.NoPlace || without.ByLedger <= with.ByLedger || without.Held != 0 || without.Lost != 0 {
		t.Errorf("the ledger alone brought %d with waiting and %d without, %d lost", with.ByLedger, without.ByLedger, without.Lost)
	}
}

// What is planned happens by time, and in the order of planning at one time.
func TestClock(t *testing.T) {
	c := &clock{}
	var got []int
	for i, at := range []time.Duration{5, 3, 5, 1, 3, 9} {
		c.at(at, func() { got = append(got, i) })
	}
	c.run(9, nil)
	if !reflect.DeepEqual(got, []int{3, 1, 4, 0, 2}) || c.now != 9 {
		t.Errorf("%v at %d", got, c.now)
	}
}

// hardships are a quiet fleet, one that loses frames, one of whose operators a
// third withhold, and both.
func hardships(nodes int, seed uint64) []Config {
	return []Config{
		{Nodes: nodes, Seed: seed},
		{Nodes: nodes, Seed: seed, Loss: 0.05, Alone: 0.05},
		{Nodes: nodes, Seed: seed, Withholding: true, Alone: 0.05},
		{Nodes: nodes, Seed: seed, Loss: 0.05, Withholding: true, Alone: 0.05},
	}
}

// The tables of DESIGN.md: make model. QUORATE_SEED gives another seed.
func TestModelFleets(t *testing.T) {
	seed := modelSeed(t)
	t.Logf("seed %d\n%s", seed, VerdictColumns)
	for _, nodes := range []int{50, 500, 5_000} {
		b, err := prepare(nodes)
		if err != nil {
			t.Fatal(err)
		}
		for _, cause := range []Cause{ByEvidence, ByWords} {
			for _, config := range hardships(nodes, seed) {
				v, err := spread(config, cause, b)
				if err != nil {
					t.Fatal(err)
				}
				t.Log(v)
				t.Logf("%d submissions, %.1f publishers of a head, %d frames lost; sent a node: %.0f", v.Submissions, v.Publishers, v.Lost, v.By)
				if v.Left != 0 || v.Known == never {
					t.Errorf("%v, by %s: %d of %d honest agents do not drop the offender", config, cause, v.Left, v.Honest)
				}
			}
		}
	}
	t.Log("whoever is behind asks again:")
	for _, nodes := range []int{500, 5_000} {
		v, err := Spread(Config{Nodes: nodes, Seed: seed, Loss: 0.05, Withholding: true, Alone: 0.05, AskAgain: true}, ByWords)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(v)
	}
	t.Log(RestColumns)
	for _, nodes := range []int{20, 50, 500, 5_000} {
		r, err := AtRest(nodes, seed)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r)
	}
}

// The table of rotations in DESIGN.md: make model.
func TestModelRotations(t *testing.T) {
	seed := modelSeed(t)
	t.Logf("seed %d\n%s", seed, RotationColumns)
	for _, c := range []struct {
		nodes, hardships int
		how              Rotating
	}{
		{50, 4, Rotating{}}, {500, 4, Rotating{}},
		{5_000, 2, Rotating{Every: 810, Speakers: 12}}, // as the default policy spreads them
		{5_000, 2, Rotating{Slice: 10 * time.Second}},
	} {
		for _, config := range hardships(c.nodes, seed)[:c.hardships] {
			r, err := Rotate(config, c.how)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(r)
			if r.Left != 0 || r.Lost != 0 || r.Unknown != 0 || r.NotValid != 0 || r.Refused != 0 {
				t.Errorf("%v: %+v", config, r)
			}
		}
	}
}

// modelSeed is 1, or what QUORATE_SEED says.
func modelSeed(t *testing.T) uint64 {
	t.Helper()
	if os.Getenv("QUORATE_MODEL") == "" {
		t.Skip("make model runs it")
	}
	seed := uint64(1)
	if text := os.Getenv("QUORATE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return seed
}
