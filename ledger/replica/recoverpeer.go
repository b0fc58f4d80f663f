package replica

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// Generations among peers (DESIGN.md). Raft speaks only with replicas of the same
// generation: the protocol that the handshake agrees on names it. Those that a
// recovery left out are told so, with the proof, and nothing else.

// raftProtocol is the ALPN name of Raft's stream layer in a generation.
func raftProtocol(generation uint64) string {
	if generation == 0 {
		return protocolRaft
	}
	return fmt.Sprintf("%s/%d", protocolRaft, generation)
}

// openRecovered completes a recovery that was decided, and takes the replica set
// that it made in the place of genesis's, whose replicas are gone.
func (r *Replica) openRecovered() error {
	if err := completeRecovery(r.files, nil); err != nil {
		return fmt.Errorf("open replica: %w", err)
	}
	record, err := r.files.readRecovered()
	if err != nil || record == nil {
		return err
	}
	r.generation.Store(record.Generation)
	var set []*peer
	for _, one := range record.Replicas {
		set = append(set, one.peer())
	}
	r.recovered = record
	r.pins.refound(set, record.Left)
	return nil
}

// reachGeneration notes the generation of what was proven here.
func (r *Replica) reachGeneration(generation uint64) {
	for {
		now := r.generation.Load()
		if generation <= now || r.generation.CompareAndSwap(now, generation) {
			return
		}
	}
}

// outlived halts a replica that holds a state of an older generation than one
// that was proven to it: whatever it has, nobody waits for it. One that holds
// nothing yet joins the newer one.
func (r *Replica) outlived(generation uint64, set []*peer) error {
	if generation <= r.generation.Load() {
		return nil
	}
	if r.shell.now.Load().index == 0 && r.cosigner.head.Size == 0 && !r.hasLog {
		r.reachGeneration(generation)
		return nil
	}
	reason := fmt.Sprintf("the ledger was recovered as generation %d without this replica; re-key it (replica.rekey)", generation)
	if slices.ContainsFunc(set, func(p *peer) bool { return p.id == r.id }) {
		reason = fmt.Sprintf("the ledger was recovered as generation %d, and this replica is to be a member of it: stop it and run quorate operator recover apply", generation)
	}
	r.halt(reason)
	return r.halted()
}

// withstand refuses a chain that opens a generation by the word of governors who
// were replaced since, on our chain: with the key of one replica of their time it
// would otherwise stop whoever is shown it. It is an alarm; the link is kept.
func (r *Replica) withstand(rival *ledger.Chain, links []*ledger.Link) error {
	former := r.certifier.outvotes(rival, links)
	if former == nil {
		return nil
	}
	r.raise(alarmFormerCouncil, fmt.Sprintf("%v; this replica goes on, and keeps that link in the file %s", former, formerFile))
	if err := r.keepFormer(links[former.Index]); err != nil {
		r.log.Error("keep what a former council signed", "error", err)
	}
	return former
}

// keepFormer keeps the first such link: whoever makes one can make many.
func (r *Replica) keepFormer(link *ledger.Link) error {
	if have, err := r.files.read(formerFile); have != nil || err != nil {
		return err
	}
	b, err := link.Encode()
	if err != nil {
		return err
	}
	return r.files.replace(formerFile, b)
}

// refound takes set in the place of genesis's replicas. Those that left are heard
// for one purpose: to learn that they did.
func (p *pins) refound(set []*peer, left []ledger.Replica) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.founding = set
	p.outcasts = map[ledger.Hash]bool{}
	for _, one := range left {
		p.outcasts[one.TLSPin] = true
	}
	p.publish()
}

// admits says whether a connection of this pin and protocol is taken.
func (p *pins) admits(pin ledger.Hash, protocol string) bool {
	set := p.now.Load()
	return set.byPin(pin) != nil || set.outcasts[pin] && protocol == protocolHTTP
}

// outcast reports whether the caller is a replica that a recovery left out.
func (r *Replica) outcast(q *http.Request) bool {
	if q.TLS == nil {
		return false
	}
	pin, err := peerPin(*q.TLS)
	return err == nil && r.pins.now.Load().outcasts[pin]
}

// answerOutcast answers a replica that a recovery left out: the set with its
// proof, or else that it should ask for it.
func (r *Replica) answerOutcast(w http.ResponseWriter, q *http.Request) {
	if q.Method == http.MethodGet && q.URL.Path == pathSet && r.halted() == nil {
		if err := r.serveSet(w, q, nil); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
		return
	}
	http.Error(w, fmt.Sprintf("the ledger was recovered as generation %d without this replica", r.generation.Load()), http.StatusGone)
}

// forkOf makes what a link has that opens a generation. The head that it goes on
// from is the newest certified one: no seal lies between it and the handover.
func (c *certifier) forkOf(s *sealedState) (*ledger.Fork, error) {
	now := c.now.Load()
	entry, err := c.r.archive.Entry(s.authority.Causes[0])
	if err != nil {
		return nil, err
	}
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		return nil, err
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		return nil, err
	}
	body, err := ledger.DecodeBody[ledger.Recover](st)
	if err != nil {
		return nil, err
	}
	if now == nil || now.checkpoint.Head.Size != body.Head.Size || now.checkpoint.Head.Root != body.Head.Root {
		return nil, fmt.Errorf("the head of size %d, from which the ledger goes on, is not the newest certified one here", body.Head.Size)
	}
	path, err := c.r.archive.ProveConsistency(body.Head.Size, s.head.Size)
	if err != nil {
		return nil, err
	}
	return &ledger.Fork{Checkpoint: string(now.note), Proof: hashes(path)}, nil
}

// opens says whether a handover opens a generation: then those before it have no
// quorum, and only those after it certify it.
func (s *sealedState) opens() bool { return s.handover() && s.authority.Generation > s.old.Generation }
