package ledger

import (
	"errors"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
)

// hostileLink is a link that must be refused: after the chain's links 0 to
// after (-1: as link 0), for the reason why.
type hostileLink struct {
	name  string
	after int
	why   string
	make  func(w *world) *Link // w stands where link after was made
}

// tampered is the honest next link, changed in what it carries.
func tampered(change func(w *world, l *Link)) func(w *world) *Link {
	return func(w *world) *Link {
		l := growth[w.now.Index](w)
		b, err := canon.Marshal(l)
		w.must(err)
		var c Link
		w.must(canon.Unmarshal(b, &c))
		change(w, &c)
		return &c
	}
}

// overreach is the honest next link, but with a record, sealed and certified,
// that changes more than its statements say.
func overreach(change func(a *Authority)) func(w *world) *Link {
	return func(w *world) *Link {
		fourth := testReplica("r04", "dune", "r04")
		causes := w.decide("replica.add", map[string]any{"replica": fourth}, "alice", "bob")
		next := w.now.Clone()
		next.Index, next.Causes = next.Index+1, causes
		next.Replicas = append(next.Replicas, authorityReplica(fourth, true))
		change(&next)
		return w.enact(next, "r01", "r02", "r03")
	}
}

// removal is a link that removes replica r03, caused by what say puts on the
// ledger: if its statements were enough, it would be followed.
func removal(say func(w *world) []uint64) func(w *world) *Link {
	return func(w *world) *Link {
		causes := say(w)
		return w.handover(causes, removeThird, w.replicas()...)
	}
}

func removeThird(a *Authority) { a.Replicas = append(a.Replicas[:2], a.Replicas[3:]...) }

func proposeRemoval(w *world, author string, change func(p *Payload)) (uint64, *Statement) {
	p := w.payload(author, TypePropose)
	change(&p)
	return w.sayBy(testKey(author), p, Propose{Action: "replica.remove", Args: canon.Raw(`{"name":"r03"}`), Base: map[string]uint64{}})
}

func asIs(*Payload) {}

var removeR03 = map[string]any{"name": "r03"}

func hostileLinks() []hostileLink {
	return append(hostileForms(), hostileStatements()...)
}

// hostileForms are wrong in their proofs, seals, checkpoints and records.
func hostileForms() []hostileLink {
	return []hostileLink{
		{"genesis of another ledger", -1, "it is the genesis of ledger", func(w *world) *Link {
			other := *w.genesis
			other.Origin = "ledger.test/other"
			entry, err := other.Entry()
			w.must(err)
			return GenesisLink(entry)
		}},
		{"link 0 with a checkpoint", -1, "genesis and nothing else", func(w *world) *Link {
			return &Link{Genesis: w.entries[0], Checkpoint: "x"}
		}},
		{"link 0 without genesis", -1, "genesis and nothing else", func(w *world) *Link { return &Link{} }},
		{"link 1 as link 0", -1, "starts with link 0", func(w *world) *Link { return growth[0](w) }},
		{"link 0 again", 0, "does not follow", func(w *world) *Link { return GenesisLink(w.entries[0]) }},
		{"a link is skipped", 0, "does not follow", func(w *world) *Link { return grow(w, 2)[2] }},
		{"a link again", 1, "does not follow", func(w *world) *Link { return grow(newWorld(w.t, 3), 1)[1] }},
		{"genesis in a later link", 0, "genesis is in link 0 alone", tampered(func(w *world, l *Link) { l.Genesis = w.entries[0] })},
		{"no statements", 0, "statements: want", tampered(func(w *world, l *Link) { l.Statements = nil })},
		{"no record", 0, "is missing", tampered(func(w *world, l *Link) { l.Record = nil })},
		{"record proof with a value", 0, "record_proof", tampered(func(w *world, l *Link) { l.RecordProof.Value = canon.Raw(`{}`) })},

		{"record changed after it was sealed", 0, "leads to digest", tampered(func(w *world, l *Link) { l.Record.Thresholds["council.change"] = 1 })},
		{"record proof changed", 0, "leads to digest", tampered(func(w *world, l *Link) { l.RecordProof.Siblings[0].Hashes[0][0] ^= 1 })},
		{"record proof of another record", 0, "record_proof is of record", tampered(func(w *world, l *Link) { l.RecordProof.Key = "authority2" })},
		{"seal proof changed", 0, "the proof does not hold", tampered(func(w *world, l *Link) { l.SealProof[0][0] ^= 1 })},
		{"seal changed", 0, "the proof does not hold", tampered(func(w *world, l *Link) {
			e, err := ParseEntry(l.Seal)
			w.must(err)
			e.Stamp++
			l.Seal, err = e.Encode()
			w.must(err)
		})},
		{"the seal is no seal", 0, "not a seal", tampered(func(w *world, l *Link) { l.Seal = l.Statements[0].Entry })},
		{"the seal announces another handover", 0, "announces handover 2", func(w *world) *Link {
			causes := w.decide("replica.remove", removeR03, "alice", "bob")
			next := w.now.Clone()
			next.Index, next.Causes = 1, causes
			removeThird(&next)
			next.CosignThreshold = 2
			w.now = next
			w.put(AuthorityKey, next)
			return w.link(causes, w.seal(2), "r01", "r02", "r03")
		}},
		{"the seal is a routine one", 0, "announces handover 0", func(w *world) *Link {
			causes := w.decide("replica.remove", removeR03, "alice", "bob")
			next := w.now.Clone()
			next.Index, next.Causes = 1, causes
			removeThird(&next)
			w.now = next
			w.put(AuthorityKey, next)
			return w.link(causes, w.seal(0), "r01", "r02", "r03")
		}},
		{"the checkpoint reaches beyond the seal", 0, "the checkpoint's size is", func(w *world) *Link {
			l := growth[0](w)
			w.say("alice", TypeRecord, Record{Text: "later"})
			l.Checkpoint = string(w.sign(w.head(), "r01", "r02", "r03").Note())
			return l
		}},
		{"the checkpoint is of another root", 0, "the proof does not hold", tampered(func(w *world, l *Link) {
			h := w.head()
			h.Root[0] ^= 1
			l.Checkpoint = string(w.sign(h, "r01", "r02", "r03").Note())
		})},
		{"the checkpoint is of another origin", 0, "origin", tampered(func(w *world, l *Link) {
			h := w.head()
			h.Origin = "ledger.test/other"
			l.Checkpoint = string(w.sign(h, "r01", "r02", "r03").Note())
		})},
		{"the checkpoint is no note", 0, "parse checkpoint", tampered(func(w *world, l *Link) { l.Checkpoint = "x" })},
		{"cosigned by one of three", 0, "under the authority before: certify checkpoint of size 8: the head is cosigned by 1", tampered(func(w *world, l *Link) {
			l.Checkpoint = string(w.sign(w.head(), "r01").Note())
		})},
		{"cosigned by one and the joining replica", 0, "cosigned by 1", tampered(func(w *world, l *Link) {
			l.Checkpoint = string(w.sign(w.head(), "r01", "r04").Note())
		})},
		{"cosigned by strangers", 0, "cosigned by 0", tampered(func(w *world, l *Link) {
			l.Checkpoint = string(w.sign(w.head(), "r01:x", "r02:x", "r03:x").Note())
		})},
		{"a cosignature is wrong", 0, "does not verify", tampered(func(w *world, l *Link) {
			c := w.sign(w.head(), "r01", "r02", "r03")
			c.Cosignatures[2].MLDSA65[0] ^= 1
			l.Checkpoint = string(c.Note())
		})},
		{"certified before but not after", 1, "under the authority that follows", tampered(func(w *world, l *Link) {
			l.Checkpoint = string(w.sign(w.head(), "r01", "r02").Note())
		})},
		{"certified after but not before", 2, "under the authority before", func(w *world) *Link {
			causes := w.decide("replica.remove", removeR03, "alice", "bob")
			return w.handover(causes, removeThird, "r01", "r02")
		}},

		{"record: a threshold lowered", 0, "record: thresholds", overreach(func(a *Authority) { a.Thresholds["council.change"] = 1 })},
		{"record: a governor added", 0, "record: council", overreach(func(a *Authority) {
			a.Council = append(a.Council, authorityCouncil([]Member{testMember("mallory", "acme")})...)
		})},
		{"record: a governor's key changed", 0, "record: council", overreach(func(a *Authority) { a.Council[0].Public = testKey("mallory").Public().Bytes() })},
		{"record: a governor's operator changed", 0, "record: council", overreach(func(a *Authority) { a.Council[0].Operator = "dune" })},
		{"record: a replica's key changed", 0, "record: replicas", overreach(func(a *Authority) { a.Replicas[0].Public = testKey("mallory").Public().Bytes() })},
		{"record: the new replica is not joining", 0, "record: cosign_threshold", overreach(func(a *Authority) { a.Replicas[3].Joining = false; a.CosignThreshold = 3 })},
		{"record: cosign_threshold lowered", 0, "record: cosign_threshold", overreach(func(a *Authority) { a.CosignThreshold = 1 })},
		{"record: two replicas added", 0, "record: replicas", overreach(func(a *Authority) {
			a.Replicas = append(a.Replicas, authorityReplica(testReplica("r05", "dune", "r05"), true))
		})},
		{"record: generation raised", 0, "record: generation", overreach(func(a *Authority) { a.Generation++ })},
		{"record: format raised", 0, "record: format", overreach(func(a *Authority) { a.Format++ })},
		{"record: log key changed", 0, "record: log", overreach(func(a *Authority) { a.Log.Ed25519 = make([]byte, 32) })},
		{"record: origin changed", 0, "record: origin", overreach(func(a *Authority) { a.Origin = "ledger.test/other" })},
		{"record: recovery set gone", 0, "record: recovery", overreach(func(a *Authority) { a.Recovery = nil })},
		{"record: index of another link", 0, "record: index", func(w *world) *Link {
			causes := w.decide("replica.remove", removeR03, "alice", "bob")
			next := w.now.Clone()
			next.Index, next.Causes, next.CosignThreshold = 2, causes, 2
			removeThird(&next)
			w.now = next
			w.put(AuthorityKey, next)
			l := w.link(causes, w.seal(1), "r01", "r02", "r03")
			l.Index = 1
			return l
		}},
		{"record: causes left out", 0, "record: causes", func(w *world) *Link {
			l := overreach(func(a *Authority) { a.Causes = a.Causes[:1] })(w)
			h := w.head()
			l.Statements = append(l.Statements, LinkStatement{Entry: w.entries[2], Proof: w.inclusion(2, h), Seq: 2})
			return l
		}},
		{"nothing changes", 0, "nothing changes", func(w *world) *Link {
			p := DefaultPolicy(3)
			p.Quota++
			return w.handover(w.decide("policy.change", map[string]any{"policy": p}, "alice", "bob"), func(*Authority) {}, "r01", "r02", "r03")
		}},
	}
}

// hostileStatements are sealed and certified, but nobody who could has said so.
func hostileStatements() []hostileLink {
	return []hostileLink{
		{"statement proof changed", 0, "the proof does not hold", tampered(func(w *world, l *Link) { l.Statements[0].Proof[0][0] ^= 1 })},
		{"statement entry is another's", 0, "the entry is", tampered(func(w *world, l *Link) { l.Statements[0].Entry = l.Statements[1].Entry })},
		{"statement entry is no statement", 0, "the entry is genesis", tampered(func(w *world, l *Link) {
			l.Statements[0].Entry, l.Statements[0].Seq = w.entries[0], 0
		})},
		{"statements out of order", 0, "do not rise", tampered(func(w *world, l *Link) {
			l.Statements[0], l.Statements[1] = l.Statements[1], l.Statements[0]
		})},
		{"a statement twice", 0, "do not rise", tampered(func(w *world, l *Link) { l.Statements[1] = l.Statements[0] })},
		{"an approval left out", 0, "has the approval of 1, needs 2", tampered(func(w *world, l *Link) { l.Statements = l.Statements[:1] })},
		{"the proposal left out", 0, "a approve can't change", tampered(func(w *world, l *Link) { l.Statements = l.Statements[1:] })},
		{"a signature changed before it was sealed", 0, "does not verify", removal(func(w *world) []uint64 {
			seq, s := proposeRemoval(w, "alice", asIs)
			envelope, err := Sign(testKey("bob"), w.payload("bob", TypeApprove), Ballot{Proposal: s.ID})
			w.must(err)
			envelope[len(envelope)-100] ^= 1
			return []uint64{seq, w.append(KindStatement, envelope)}
		})},

		{"one approval of three", 0, "has the approval of 1, needs 2", removal(func(w *world) []uint64 { return w.decide("replica.remove", removeR03, "alice") })},
		{"two governors of one operator", 4, "has the approval of 1, needs 2", removal(func(w *world) []uint64 {
			return w.decide("replica.remove", removeR03, "alice", "anna")
		})},
		{"a governor twice", 0, "a second vote by alice", removal(func(w *world) []uint64 { return w.decide("replica.remove", removeR03, "alice", "alice") })},
		{"a stranger approves", 0, "mallory has no vote", removal(func(w *world) []uint64 { return w.decide("replica.remove", removeR03, "alice", "mallory") })},
		{"a stranger proposes", 0, "mallory has no vote", removal(func(w *world) []uint64 { return w.decide("replica.remove", removeR03, "mallory", "alice", "bob") })},
		{"a removed governor approves", 3, "carol has no vote", removal(func(w *world) []uint64 { return w.decide("replica.remove", removeR03, "alice", "carol") })},
		{"a replica approves", 0, "r01 has no vote", removal(func(w *world) []uint64 { return w.decide("replica.remove", removeR03, "alice", "r01") })},
		{"a recovery holder approves", 0, "rhea has no vote", removal(func(w *world) []uint64 { return w.decide("replica.remove", removeR03, "alice", "rhea") })},
		{"another key under a governor's name", 0, "bob has no vote", removal(func(w *world) []uint64 {
			seq, s := proposeRemoval(w, "alice", asIs)
			approval, _ := w.sayBy(testKey("mallory"), w.payload("bob", TypeApprove), Ballot{Proposal: s.ID})
			return []uint64{seq, approval}
		})},
		{"an approval of another proposal", 0, "it approves proposal", removal(func(w *world) []uint64 {
			seq, _ := proposeRemoval(w, "alice", asIs)
			_, other := proposeRemoval(w, "alice", asIs)
			approval, _ := w.say("bob", TypeApprove, Ballot{Proposal: other.ID})
			return []uint64{seq, approval}
		})},
		{"a rejection as approval", 0, "a reject is no approval", removal(func(w *world) []uint64 {
			seq, s := proposeRemoval(w, "alice", asIs)
			approval, _ := w.say("bob", TypeReject, Ballot{Proposal: s.ID})
			return []uint64{seq, approval}
		})},
		{"a proposal as approval", 0, "a propose is no approval", removal(func(w *world) []uint64 {
			a, _ := proposeRemoval(w, "alice", asIs)
			b, _ := proposeRemoval(w, "bob", asIs)
			return []uint64{a, b}
		})},
		{"a proposal of another ledger", 0, "it names ledger", removal(func(w *world) []uint64 {
			seq, s := proposeRemoval(w, "alice", func(p *Payload) { p.Ledger[0] ^= 1 })
			approval, _ := w.say("bob", TypeApprove, Ballot{Proposal: s.ID})
			return []uint64{seq, approval}
		})},
		{"an approval of another generation", 0, "it names generation 1", removal(func(w *world) []uint64 {
			seq, s := proposeRemoval(w, "alice", asIs)
			p := w.payload("bob", TypeApprove)
			p.Generation = 1
			approval, _ := w.sayBy(testKey("bob"), p, Ballot{Proposal: s.ID})
			return []uint64{seq, approval}
		})},
		{"an action that can't change authority", 0, "does not change the authority", removal(func(w *world) []uint64 {
			return w.decide("node.remove", removeR03, "alice", "bob")
		})},
		{"an unknown action", 0, "does not change the authority", removal(func(w *world) []uint64 {
			return w.decide("replica.praise", removeR03, "alice", "bob")
		})},
		{"args with an unknown field", 0, "unknown_field", removal(func(w *world) []uint64 {
			return w.decide("replica.remove", map[string]any{"alien": true, "name": "r03"}, "alice", "bob")
		})},
		{"the proposal removes another replica", 0, "record: replicas", removal(func(w *world) []uint64 {
			return w.decide("replica.remove", map[string]any{"name": "r02"}, "alice", "bob")
		})},
		{"the proposal removes an unknown replica", 0, "no replica is named", removal(func(w *world) []uint64 {
			return w.decide("replica.remove", map[string]any{"name": "r09"}, "alice", "bob")
		})},
		{"a record statement as cause", 0, "a record can't change", removal(func(w *world) []uint64 {
			seq, _ := w.say("alice", TypeRecord, Record{Text: "let r03 go"})
			return []uint64{seq}
		})},
		{"recovery holders decide an ordinary action", 0, "has no vote", removal(func(w *world) []uint64 {
			return w.decide("replica.remove", removeR03, "rhea", "rolf")
		})},
		{"governors reseat", 0, "alice has no vote", func(w *world) *Link {
			next := []Member{testMember("mallory", "acme")}
			causes := w.decide("council.reseat", map[string]any{"council": next}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Council = authorityCouncil(next) }, "r01", "r02", "r03")
		}},
		{"one recovery holder reseats", 0, "has the approval of 1, needs 2", func(w *world) *Link {
			next := []Member{testMember("mallory", "acme")}
			causes := w.decide("council.reseat", map[string]any{"council": next}, "rhea")
			return w.handover(causes, func(a *Authority) { a.Council = authorityCouncil(next) }, "r01", "r02", "r03")
		}},
		{"the council is emptied", 0, "council: want 1", func(w *world) *Link {
			causes := w.decide("council.change", map[string]any{"remove": []string{"alice", "bob", "carol"}}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Council = nil }, "r01", "r02", "r03")
		}},
		{"a governor is seated twice", 0, "appears twice", func(w *world) *Link {
			again := testMember("alice", "acme")
			causes := w.decide("council.change", map[string]any{"add": []Member{again}}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Council = append(authorityCouncil([]Member{again}), a.Council...) }, "r01", "r02", "r03")
		}},
		{"a policy below the majority", 0, "below the majority", func(w *world) *Link {
			p := DefaultPolicy(3)
			p.Rules["council.change"] = Rule{Threshold: 1}
			causes := w.decide("policy.change", map[string]any{"policy": p}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Thresholds["council.change"] = 1 }, "r01", "r02", "r03")
		}},
		{"a stricter policy by the old rule", 0, "has the approval of 2, needs 3", func(w *world) *Link {
			p := DefaultPolicy(3)
			p.Rules["policy.change"] = Rule{Threshold: 3}
			causes := w.decide("policy.change", map[string]any{"policy": p}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Thresholds["policy.change"] = 3 }, "r01", "r02", "r03")
		}},
		{"an older format", 0, "does not follow", func(w *world) *Link {
			causes := w.decide("format.upgrade", map[string]any{"format": uint64(0)}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Format = 0 }, "r01", "r02", "r03")
		}},
		{"a replica is added under a name that is taken", 0, "there is a replica named", func(w *world) *Link {
			r := testReplica("r03", "core", "r03:new")
			causes := w.decide("replica.add", map[string]any{"replica": r}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Replicas[2] = authorityReplica(r, true) }, "r01", "r02", "r03")
		}},
		{"a replica is added under a key that is taken", 0, "its key appears twice", func(w *world) *Link {
			r := testReplica("r04", "core", "r03")
			causes := w.decide("replica.add", map[string]any{"replica": r}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Replicas = append(a.Replicas, authorityReplica(r, true)) }, "r01", "r02", "r03")
		}},

		{"ready of a replica that is active", 1, "no replica of this name is joining", func(w *world) *Link {
			return w.handover(w.ready("r03"), func(a *Authority) { a.Replicas[3].Joining = false }, "r01", "r02", "r03", "r04")
		}},
		{"ready by another key", 1, "does not verify", func(w *world) *Link {
			seq, _ := w.sayBy(testKey("mallory"), w.payload("r04", TypeReady), Ready{Format: 1, Size: 1})
			return w.handover([]uint64{seq}, func(a *Authority) { a.Replicas[3].Joining = false }, "r01", "r02", "r03", "r04")
		}},
		{"ready by a governor", 1, "no replica of this name is joining", func(w *world) *Link {
			seq, _ := w.say("alice", TypeReady, Ready{Format: 1, Size: 1})
			return w.handover([]uint64{seq}, func(a *Authority) { a.Replicas[3].Joining = false }, "r01", "r02", "r03", "r04")
		}},
		{"ready changes more than joining", 1, "record: replicas", func(w *world) *Link {
			return w.handover(w.ready("r04"), func(a *Authority) {
				a.Replicas[3].Joining = false
				a.Replicas[0].Public = testKey("mallory").Public().Bytes()
			}, "r02", "r03", "r04")
		}},
		{"ready beside an approval", 1, "a ready stands alone", func(w *world) *Link {
			causes := w.ready("r04")
			approval, _ := w.say("alice", TypeApprove, Ballot{})
			return w.handover(append(causes, approval), func(a *Authority) { a.Replicas[3].Joining = false }, "r01", "r02", "r03", "r04")
		}},
		{"two decisions in one handover", 1, "a propose is no approval", func(w *world) *Link {
			causes := w.decide("replica.remove", removeR03, "alice", "bob")
			causes = append(causes, w.decide("replica.remove", map[string]any{"name": "r02"}, "alice", "bob")...)
			return w.handover(causes, func(a *Authority) { a.Replicas = a.Replicas[:1] }, "r01", "r02", "r03")
		}},

		{"a decision executed twice", 5, "is a cause of link 1 already", replay},
		{"sizes do not rise", 1, "is not above link 1's", smallerFork},
	}
}

// replay makes a link that does again what link 1 did, by its statements: they
// would be enough, had they not been used up.
func replay(w *world) *Link {
	next := w.now.Clone()
	next.Index, next.Causes = 6, []uint64{1, 2}
	next.Replicas = append(next.Replicas, authorityReplica(testReplica("r04", "dune", "r04"), true))
	return w.enact(next, "r01", "r02", "r03")
}

// smallerFork makes link 2 of a history in which link 1 came sooner, with the
// same record, than in the one that w holds.
func smallerFork(w *world) *Link {
	fork := newWorld(w.t, 3)
	addFourth(fork, 0)
	return growth[1](fork)
}

func TestHostileLinks(t *testing.T) {
	for _, c := range hostileLinks() {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3)
			links := grow(w, max(c.after, 0))
			err := tryLink(w, links, c)
			var e *LinkError
			if !errors.As(err, &e) {
				t.Fatalf("want a *LinkError, got %v", err)
			}
			if !strings.Contains(err.Error(), c.why) {
				t.Errorf("want %q in: %v", c.why, err)
			}
		})
	}
}

func tryLink(w *world, links []*Link, c hostileLink) error {
	if c.after < 0 {
		_, err := NewChain(w.hash, c.make(w))
		return err
	}
	chain, err := WalkChain(w.hash, links)
	w.must(err)
	before := chain.Latest.Index
	err = chain.Extend(c.make(w))
	if err != nil && (chain.Latest.Index != before || chain.Len() != before+1) {
		w.t.Error("a refused link changed the chain")
	}
	return err
}

// TestMajorityAndThresholdBothBind lets two governors remove a replica where
// the record's threshold, or the majority of a council that grew, demands three.
func TestMajorityAndThresholdBothBind(t *testing.T) {
	for name, prepare := range map[string]func(w *world) *Link{
		"the council grew to five operators": func(w *world) *Link {
			more := []Member{testMember("dave", "dune"), testMember("erin", "eden")}
			causes := w.decide("council.change", map[string]any{"add": more}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Council = append(a.Council, authorityCouncil(more)...) }, "r01", "r02", "r03")
		},
		"the policy demands three": func(w *world) *Link {
			p := DefaultPolicy(3)
			p.Rules["replica.remove"] = Rule{Threshold: 3}
			causes := w.decide("policy.change", map[string]any{"policy": p}, "alice", "bob")
			return w.handover(causes, func(a *Authority) { a.Thresholds["replica.remove"] = 3 }, "r01", "r02", "r03")
		},
	} {
		for voters, ok := range map[string]bool{"alice bob": false, "alice bob carol": true} {
			w := newWorld(t, 3)
			links := []*Link{GenesisLink(w.entries[0]), prepare(w)}
			causes := w.decide("replica.remove", removeR03, strings.Fields(voters)...)
			links = append(links, w.handover(causes, removeThird, "r01", "r02", "r03"))
			_, err := WalkChain(w.hash, links)
			if (err == nil) != ok {
				t.Errorf("%s, decided by %s: %v", name, voters, err)
			}
			if err != nil && !strings.Contains(err.Error(), "has the approval of 2, needs 3") {
				t.Errorf("%s: refused for another reason: %v", name, err)
			}
		}
	}
}
