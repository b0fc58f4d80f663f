package gossip

import (
	"bytes"
	"slices"
	"testing"

	"github.com/quorate/quorate/ledger"
)

func up(subject string, counter uint64) ledger.Observe {
	return ledger.Observe{Kind: ledger.NodeUp, Subject: subject, Counter: counter, From: 6_000, To: 6_000}
}

// Each reason is met, and does to the peer what it should.
func TestEachReason(t *testing.T) {
	const me, a, b = "n-000-000", "n-001-000", "n-002-000"
	met := map[Reason]bool{}
	// Each case makes a frame, the judge may have seen others before.
	for name, c := range map[string]struct {
		want    Reason
		channel Channel
		frame   func(w *world, j *Judge) []byte
	}{
		"good": {Good, Statements, func(w *world, _ *Judge) []byte { return w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1)) }},
		"the epoch before": {Good, Statements, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeObserve, 99, 0, up(b, 1))
		}},
		"a quarantined node's probe": {Good, Probes, func(w *world, _ *Judge) []byte {
			w.change(a, func(a *Author) { a.Standing = Quarantined })
			return w.sign(t, a, ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 16), Subject: me, Tick: 6_000})
		}},
		"too long": {TooLarge, Statements, func(*world, *Judge) []byte { return make([]byte, MaxStatementBytes+1) }},
		"no statement": {Malformed, Statements, func(*world, *Judge) []byte {
			return []byte("\x84")
		}},
		"cut": {Malformed, Statements, func(w *world, _ *Judge) []byte {
			e := w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
			return e[:len(e)-1]
		}},
		"a probe for the ledger": {WrongChannel, Statements, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 16), Subject: me})
		}},
		"another ledger": {WrongLedger, Statements, func(w *world, _ *Judge) []byte {
			w.rules.Ledger[0]++
			e := w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
			w.rules.Ledger[0]--
			return e
		}},
		"of itself": {BadBody, Statements, func(w *world, _ *Judge) []byte { return w.sign(t, a, ledger.TypeObserve, 100, 0, up(a, 1)) }},
		"a short nonce": {BadBody, Probes, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 8), Subject: me})
		}},
		"a probe of several": {Good, Probes, func(w *world, _ *Judge) []byte {
			asked := []string{b, me}
			slices.Sort(asked)
			return w.sign(t, a, ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 16), Subjects: asked})
		}},
		"a probe of several others": {NotForUs, Probes, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 16), Subjects: []string{b, b + "x"}})
		}},
		"a probe of several, out of order": {BadBody, Probes, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 16), Subjects: []string{"z", me}})
		}},
		"a foreign signature": {BadSignature, Statements, func(w *world, _ *Judge) []byte {
			e := w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
			e[len(e)-1] ^= 1
			return e
		}},
		"one statement as two": {FalseProof, Statements, func(w *world, _ *Judge) []byte {
			e := w.sign(t, b, ledger.TypeObserve, 100, 0, up(a, 1))
			return w.sign(t, a, ledger.TypeEvidence, 100, 0, ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{e, e}})
		}},
		"a forged exhibit": {FalseProof, Statements, func(w *world, _ *Judge) []byte {
			e, f := w.sign(t, b, ledger.TypeObserve, 100, 0, up(a, 1)), w.sign(t, b, ledger.TypeObserve, 100, 0, up(a, 2))
			f[len(f)-1] ^= 1
			return w.sign(t, a, ledger.TypeEvidence, 100, 0, ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{e, f}})
		}},
		"a later generation": {OtherGeneration, Statements, func(w *world, _ *Judge) []byte {
			w.rules.Generation++
			e := w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
			w.rules.Generation--
			return e
		}},
		"of a later format": {LaterFormat, Statements, func(w *world, _ *Judge) []byte {
			w.rules.Format = ledger.KeysFormat - 1
			return w.sign(t, a, ledger.TypeDestroy, 100, 0, ledger.Destroy{})
		}},
		"nobody": {UnknownAuthor, Statements, func(w *world, _ *Judge) []byte {
			e := w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
			clear(w.authors)
			return e
		}},
		"a governor": {OtherKey, Statements, func(w *world, _ *Judge) []byte {
			w.change(a, func(a *Author) { a.Role = RoleGovernor })
			return w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
		}},
		"an old key": {RevokedKey, Statements, func(w *world, _ *Judge) []byte {
			w.change(a, func(a *Author) { a.Revoked = true })
			return w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
		}},
		"an expired key": {NotValid, Statements, func(w *world, _ *Judge) []byte {
			w.change(a, func(a *Author) { a.ValidTo = 99 })
			return w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
		}},
		"the next epoch": {EarlyEpoch, Statements, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeObserve, 101, 0, up(b, 1))
		}},
		"two epochs ago": {LateEpoch, Statements, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeObserve, 98, 0, up(b, 1))
		}},
		"quarantined": {AuthorHeld, Statements, func(w *world, _ *Judge) []byte {
			w.change(a, func(a *Author) { a.Standing = Quarantined })
			return w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
		}},
		"excluded": {AuthorBanned, Probes, func(w *world, _ *Judge) []byte {
			w.change(a, func(a *Author) { a.Standing = Excluded })
			return w.sign(t, a, ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 16), Subject: me})
		}},
		"proven here": {AuthorBanned, Statements, func(w *world, j *Judge) []byte {
			for counter := range uint64(2) {
				j.Statement(w, direct{}, Statements, w.sign(t, a, ledger.TypeObserve, 100, 7, up(b, counter+1)))
			}
			return w.sign(t, a, ledger.TypeObserve, 100, 8, up(b, 9))
		}},
		"a copy": {Replayed, Statements, func(w *world, j *Judge) []byte {
			e := w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
			j.Statement(w, direct{}, Statements, bytes.Clone(e))
			e[len(e)-1] ^= 1 // not even its signature is looked at
			return e
		}},
		"far below": {Stale, Statements, func(w *world, j *Judge) []byte {
			for _, seq := range []uint64{0, 5_000} {
				j.Statement(w, direct{}, Statements, w.sign(t, a, ledger.TypeObserve, 100, seq, up(b, seq+1)))
			}
			return w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 3))
		}},
		"equivocation": {Equivocated, Statements, func(w *world, j *Judge) []byte {
			j.Statement(w, direct{}, Statements, w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1)))
			return w.sign(t, a, ledger.TypeObserve, 100, 0, up(me, 1))
		}},
		"flood": {Flooded, Statements, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeObserve, 100, w.rules.Quota, up(b, 1))
		}},
		"evidence again": {KnownProof, Statements, func(w *world, j *Judge) []byte {
			body := ledger.Evidence{Kind: ledger.EvidenceFlood, Exhibits: [][]byte{w.sign(t, b, ledger.TypeObserve, 100, w.rules.Quota, up(a, 1))}}
			j.Statement(w, direct{}, Statements, w.sign(t, me, ledger.TypeEvidence, 100, 0, body))
			return w.sign(t, a, ledger.TypeEvidence, 100, 0, body)
		}},
		"evidence of an old quota": {OldProof, Statements, func(w *world, _ *Judge) []byte {
			x := w.sign(t, b, ledger.TypeObserve, 100, w.rules.Quota-1, up(a, 1))
			return w.sign(t, a, ledger.TypeEvidence, 100, 0, ledger.Evidence{Kind: ledger.EvidenceFlood, Exhibits: [][]byte{x}})
		}},
		"no room": {NoRoom, Statements, func(w *world, j *Judge) []byte {
			for i := range MaxWindowRows {
				j.window.rows[rowKey{key: ledger.Hash{byte(i), byte(i >> 8), 9}, epoch: 100}] = &row{}
			}
			return w.sign(t, a, ledger.TypeObserve, 100, 0, up(b, 1))
		}},
		"another's probe": {NotForUs, Probes, func(w *world, _ *Judge) []byte {
			return w.sign(t, a, ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 16), Subject: b})
		}},
	} {
		w, j := newWorld(4, 1), NewJudge(me, 100)
		w.key(b, RoleNode)
		frame := c.frame(w, j)
		_, ruling := j.Statement(w, direct{}, c.channel, frame)
		if ruling.Reason != c.want {
			t.Errorf("%s: %s, want %s", name, ruling.Reason, c.want)
		}
		met[ruling.Reason] = true
		if proof := ruling.Proof != nil; proof != (name == "equivocation" || name == "flood") {
			t.Errorf("%s: a proof: %v", name, proof)
		}
	}
	met[NotItsOwn] = true // the shell's to tell: it knows who brought the frame
	for _, r := range Reasons {
		if !met[r] {
			t.Errorf("no case is %s", r)
		}
		if want := map[bool]Verdict{true: Reject, false: Ignore}[slices.Contains(Reasons[1:9], r)]; r != Good && r.Verdict() != want {
			t.Errorf("%s: %s, want %s", r, r.Verdict(), want)
		}
	}
}

// Each kind of evidence is made of what a judge hears, once, and convicts.
func TestJudgeMakesEvidence(t *testing.T) {
	const me, a, b = "n-000-000", "n-001-000", "n-002-000"
	accusation := ledger.Observe{Kind: ledger.NodeDown, Subject: me, Counter: 1, From: 6_000, To: 6_004}
	ack := ledger.Ack{Prober: me, Tick: 6_003}
	type heard struct {
		channel  Channel
		typ      string
		seq      uint64
		body     any
		onLedger bool
	}
	for kind, frames := range map[string][]heard{
		ledger.EvidenceEquivocation:  {{Statements, ledger.TypeObserve, 1, up(b, 1), false}, {Statements, ledger.TypeObserve, 1, up(b, 2), false}},
		ledger.EvidenceObservation:   {{Statements, ledger.TypeObserve, 1, up(b, 1), false}, {Statements, ledger.TypeObserve, 2, ledger.Observe{Kind: ledger.NodeDown, Subject: b, Counter: 1, To: 7}, false}},
		ledger.EvidenceFlood:         {{Statements, ledger.TypeObserve, 70_000, up(b, 1), false}},
		ledger.EvidenceContradiction: {{Acks, ledger.TypeAck, 1, ack, false}, {Statements, ledger.TypeObserve, 2, accusation, false}},
	} {
		for _, onLedger := range []bool{false, true} {
			for _, backwards := range []bool{false, true} {
				w, j := newWorld(4, 1), NewJudge(me, 100)
				order := slices.Clone(frames)
				if backwards {
					slices.Reverse(order)
				}
				order[0].onLedger = onLedger && order[0].typ == ledger.TypeObserve
				if onLedger && kind == ledger.EvidenceFlood {
					continue // the ledger takes no such statement
				}
				var proof *Proof
				for _, f := range append(order, order...) {
					envelope := w.sign(t, a, f.typ, 100, f.seq, f.body)
					if f.onLedger {
						rules := w.Rules()
						j.Note(&rules, parse(t, envelope))
						continue
					}
					_, ruling := j.Statement(w, direct{}, f.channel, envelope)
					if ruling.Proof != nil && proof != nil {
						t.Errorf("%s: it is made twice", kind)
					}
					if ruling.Proof != nil {
						proof = ruling.Proof
					}
				}
				if proof == nil || proof.Offence.Kind != kind || proof.Offence.Offender != a {
					t.Errorf("%s (first on the ledger: %v, backwards: %v): %+v", kind, onLedger, backwards, proof)
					continue
				}
				if j.Banned(proof.Offence.KeyID) != Excludes(kind) {
					t.Errorf("%s: banned: %v", kind, !Excludes(kind))
				}
				// Others take it from whoever brings it.
				brought := w.sign(t, b, ledger.TypeEvidence, 100, 0, proof.Evidence)
				other := NewJudge("n-003-000", 100)
				if _, r := other.Statement(w, direct{}, Statements, brought); r.Reason != Good || !r.Brought || r.Proof.Offence != proof.Offence || other.Banned(proof.Offence.KeyID) != Excludes(kind) {
					t.Errorf("%s, brought to another: %+v", kind, r)
				}
				// Who proved it itself passes the first one on, too, and no other.
				if _, r := j.Statement(w, direct{}, Statements, brought); r.Reason != Good || !r.Brought {
					t.Errorf("%s, brought to who knows: %+v", kind, r)
				}
				again := w.sign(t, b, ledger.TypeEvidence, 100, 1, proof.Evidence)
				for _, judge := range []*Judge{j, other} {
					if _, r := judge.Statement(w, direct{}, Statements, again); r.Reason != KnownProof {
						t.Errorf("%s, brought again: %+v", kind, r)
					}
				}
				j.Settle(&proof.Offence)
				if j.Banned(proof.Offence.KeyID) {
					t.Errorf("%s: the ban outlives the ledger's decision", kind)
				}
			}
		}
	}
}

// A ban ends by itself if the ledger never decides.
func TestBansLapse(t *testing.T) {
	const a, b = "n-001-000", "n-002-000"
	w, j := newWorld(4, 1), NewJudge("n-000-000", 100)
	for counter := range uint64(2) {
		j.Statement(w, direct{}, Statements, w.sign(t, a, ledger.TypeObserve, 100, 7, up(b, counter+1)))
	}
	id := ledger.Hash(w.key(a, RoleNode).ID())
	for epoch := uint64(100); epoch <= 100+BanEpochs+1; epoch++ {
		j.Advance(epoch)
		if j.Banned(id) != (epoch <= 100+BanEpochs) {
			t.Errorf("in epoch %d: banned: %v", epoch, j.Banned(id))
		}
	}
}

func FuzzScreen(f *testing.F) {
	w := newWorld(4, 1)
	f.Add(uint8(0), w.sign(f, "n-001-000", ledger.TypeObserve, 100, 0, up("n-002-000", 1)))
	f.Add(uint8(1), w.sign(f, "n-001-000", ledger.TypeProbe, 100, 0, ledger.Probe{Nonce: make([]byte, 16), Subject: "n-000-000"}))
	f.Add(uint8(2), w.sign(f, "n-001-000", ledger.TypeAck, 100, 0, ledger.Ack{Prober: "n-000-000"}))
	exhibit := w.sign(f, "n-002-000", ledger.TypeObserve, 100, w.rules.Quota, up("n-001-000", 1))
	f.Add(uint8(0), w.sign(f, "n-001-000", ledger.TypeEvidence, 100, 0, ledger.Evidence{Kind: ledger.EvidenceFlood, Exhibits: [][]byte{exhibit}}))
	f.Fuzz(func(t *testing.T, channel uint8, frame []byte) {
		j := NewJudge("n-000-000", 100)
		c, r := j.Statement(w, direct{}, Channel(channel%3), frame)
		if !slices.Contains(Reasons, r.Reason) || r.Verdict() == Accept && c == nil {
			t.Fatalf("%+v", r)
		}
		if _, again := j.Statement(w, direct{}, Channel(channel%3), frame); r.Verdict() == Accept && again.Reason == Good {
			t.Fatal("a copy is news")
		}
	})
}
