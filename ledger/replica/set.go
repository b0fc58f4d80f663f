package replica

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// replicaSet is the replica set of a certified state with its proof: whoever
// has genesis can check it, whoever it comes from. A replica that starts with
// genesis alone, or that was away while every peer that it knew was replaced,
// learns from it whom to answer. It proves authority, not recency.
type replicaSet struct {
	Checkpoint string               `json:"checkpoint"`
	Links      [][]byte             `json:"links"` // 1 to N
	Records    []*ledger.StateProof `json:"records"`
	Seal       []byte               `json:"seal"`
	SealProof  []ledger.Hash        `json:"seal_proof"`
}

// The tables of the state that are read by their keys.
const (
	replicaTable = "replica/"
	windowTable  = "window/"
	keyTable     = "key/"
)

func (r *Replica) serveSet(w http.ResponseWriter, _ *http.Request, _ *peer) error {
	sealed := r.shell.certified.Load()
	if sealed == nil {
		return ErrCatchingUp
	}
	note := r.shell.noteOf(sealed)
	links, err := r.links(sealed.authority.Index)
	if err != nil {
		return err
	}
	sealProof, err := r.inclusion(sealed.head.Size-1, sealed.head.Size)
	if err != nil {
		return err
	}
	set := replicaSet{Checkpoint: string(note), Links: links, Seal: sealed.entry, SealProof: sealProof}
	for _, record := range sealed.state.Replicas() {
		proof, err := sealed.state.Prove(replicaTable + record.Name)
		if err != nil {
			return err
		}
		set.Records = append(set.Records, proof)
	}
	b, err := canon.Marshal(set)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// parseSet checks a replica set against genesis and gives its replicas, and what
// certified head it is of.
func parseSet(genesisEntry []byte, genesis ledger.Hash, b []byte) ([]*peer, certifiedAt, error) {
	set, err := checkSet(genesisEntry, genesis, b)
	if err != nil {
		return nil, certifiedAt{}, err
	}
	return set.replicas, set.at, nil
}

// provenSet is a replica set that was checked against genesis.
type provenSet struct {
	replicas []*peer
	at       certifiedAt
	chain    *ledger.Chain
	links    []*ledger.Link // 0 to N
}

// certifiedAt is how new something certified is: of two, that of the higher
// generation, then that of the larger size.
type certifiedAt struct{ generation, size uint64 }

func (a certifiedAt) before(b certifiedAt) bool {
	return a.generation < b.generation || a.generation == b.generation && a.size < b.size
}

func checkSet(genesisEntry []byte, genesis ledger.Hash, b []byte) (*provenSet, error) {
	var set replicaSet
	if err := canon.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("parse replica set: %w", err)
	}
	if len(set.Links) > maxSnapshotLinks || len(set.Records) > ledger.MaxReplicas {
		return nil, errors.New("parse replica set: too many links or records")
	}
	links := []*ledger.Link{{Genesis: genesisEntry}}
	for _, raw := range set.Links {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return nil, fmt.Errorf("check replica set: %w", err)
		}
		links = append(links, link)
	}
	chain, err := ledger.WalkChain(genesis, links)
	if err != nil {
		return nil, fmt.Errorf("check replica set: %w", err)
	}
	checkpoint, err := chain.VerifyCheckpoint([]byte(set.Checkpoint))
	if err != nil {
		return nil, fmt.Errorf("check replica set: %w", err)
	}
	entry, err := ledger.ParseEntry(set.Seal)
	if err != nil {
		return nil, fmt.Errorf("check replica set: %w", err)
	}
	head := checkpoint.Head
	if entry.Seq+1 != head.Size {
		return nil, errors.New("check replica set: the seal is not the checkpoint's last entry")
	}
	if err := ledger.VerifyInclusion(set.SealProof, entry.Seq, head.Size, ledger.Hash(tlog.RecordHash(set.Seal)), head.Root); err != nil {
		return nil, fmt.Errorf("check replica set: %w", err)
	}
	seal, err := entry.Seal()
	if err != nil {
		return nil, fmt.Errorf("check replica set: %w", err)
	}
	proven := &provenSet{chain: chain, links: links, at: certifiedAt{chain.ForSize(head.Size).Generation, head.Size}}
	for _, proof := range set.Records {
		record, err := provenReplica(proof, seal.Digest)
		if err != nil {
			return nil, fmt.Errorf("check replica set: %w", err)
		}
		proven.replicas = append(proven.replicas, record)
	}
	return proven, nil
}

func provenReplica(proof *ledger.StateProof, digest ledger.Hash) (*peer, error) {
	if proof == nil || proof.Value == nil {
		return nil, errors.New("a record without value")
	}
	if err := proof.Verify(digest); err != nil {
		return nil, err
	}
	var record fsm.ReplicaRecord
	if err := canon.Unmarshal(proof.Value, &record); err != nil {
		return nil, err
	}
	if proof.Key != replicaTable+record.Name {
		return nil, fmt.Errorf("record %q is no replica's", proof.Key)
	}
	return &peer{Replica: record.Replica, id: record.Server(), standing: record.Standing}, nil
}

// learnPeers asks the seeds, and the peers that it knows, for the replica set
// while this replica has not caught up, or has lost every leader: then whoever
// leads may be one that it has never heard of. The one who answers is not
// pinned: the answer proves itself.
func (r *Replica) learnPeers(ctx context.Context) error {
	wait := 500 * time.Millisecond
	for {
		doubted, alive := r.pauseOrDoubt(ctx, jitter(wait))
		if !alive {
			return nil
		}
		if r.halted() != nil || r.caughtUp.Load() && !r.outOfTouch() && !doubted {
			wait = r.limits.OutOfTouch / 2
			if r.caughtUp.Load() {
				r.pins.settle()
			}
			continue
		}
		wait = min(2*wait, 10*time.Second)
		if found := r.askSeeds(ctx); found != nil {
			r.pins.learn(found, doubted || r.outOfTouch())
			r.pinsChanged.fire()
		}
	}
}

// askSeeds gives the newest replica set that any seed proves: an old majority
// that came back proves one of an older generation.
func (r *Replica) askSeeds(ctx context.Context) []*peer {
	var best []*peer
	var newest certifiedAt
	for _, address := range r.seedAddresses() {
		b, err := r.askSeed(ctx, address)
		if err != nil {
			r.log.Debug("ask seed", "address", address, "error", err)
			continue
		}
		found, at, err := r.takeSet(b)
		if err != nil {
			r.log.Warn("ask seed", "address", address, "error", err)
			continue
		}
		if best == nil || newest.before(at) {
			best, newest = found, at
		}
	}
	if best == nil || r.outlived(newest.generation, best) != nil {
		return nil
	}
	return best
}

// takeSet is parseSet, and refuses a set older than what is certified here:
// anybody can show one in which whoever was removed still is; or of a generation
// that a former council opened.
func (r *Replica) takeSet(b []byte) ([]*peer, certifiedAt, error) {
	set, err := checkSet(r.cfg.Genesis, r.genesis, b)
	if err != nil {
		return nil, certifiedAt{}, err
	}
	if err := r.withstand(set.chain, set.links); err != nil {
		return nil, certifiedAt{}, fmt.Errorf("check replica set: %w", err)
	}
	found, at := set.replicas, set.at
	if ours := (certifiedAt{r.generation.Load(), r.certifier.size()}); at.before(ours) {
		return nil, at, fmt.Errorf("check replica set: it is of size %d in generation %d, and %d is certified here in generation %d",
			at.size, at.generation, ours.size, ours.generation)
	}
	return found, at, nil
}

// outOfTouch says that no leader was heard of for long.
func (r *Replica) outOfTouch() bool {
	node := r.node.Load()
	return node != nil && node.State() != raft.Leader && time.Since(node.LastContact()) > r.limits.OutOfTouch
}

func (r *Replica) seedAddresses() []string {
	seen := map[string]bool{}
	list := append([]string(nil), r.cfg.Seeds...)
	for _, p := range r.peers.others() {
		list = append(list, p.Peer)
	}
	var out []string
	for _, a := range list {
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

func (r *Replica) askSeed(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.PeerTimeout)
	defer cancel()
	conn, err := r.wire.dial(ctx, address, protocolHTTP, ledger.Hash{}, func(ledger.Hash) bool { return true })
	if err != nil {
		return nil, err
	}
	return getOverConn(ctx, conn, pathSet, r.limits.PeerBody)
}
