package replica

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// signerCache keeps the log's signer for the key that was used last.
type signerCache struct {
	mu     sync.Mutex
	key    *LogKey
	signer *ledger.LogSigner
	public ledger.LogKeys
}

func sameLogKeys(a, b ledger.LogKeys) bool {
	return bytes.Equal(a.Ed25519, b.Ed25519) && bytes.Equal(a.MLDSA44, b.MLDSA44)
}

// logSigner is the signer whose public keys the authority names, nil while
// this replica has not got it: heads then go out without the log's own lines,
// which carry no authority.
func (r *Replica) logSigner(want ledger.LogKeys) *ledger.LogSigner {
	key := r.logKey.Load()
	if key == nil {
		return nil
	}
	r.signers.mu.Lock()
	defer r.signers.mu.Unlock()
	if r.signers.key != key {
		r.signers.key = key
		r.signers.signer = ledger.NewLogSigner(r.origin, key.Ed25519, key.MLDSA44)
		r.signers.public = r.signers.signer.Keys()
	}
	if !sameLogKeys(r.signers.public, want) {
		return nil
	}
	return r.signers.signer
}

// logLines are the log's own lines on a head: of the key that the authority names
// and, for LogOverlap after it took another's place, of that one too, so that who
// knows the older key alone goes on until it has found the newer (/log.vkeys).
func (r *Replica) logLines(want ledger.LogKeys, head ledger.Head, seconds uint64) []string {
	signer := r.logSigner(want)
	if signer == nil {
		return nil
	}
	lines := signer.Sign(head, seconds)
	if old := r.formerLog.Load(); old != nil && r.now() < old.until && !sameLogKeys(old.signer.Keys(), want) {
		lines = append(lines, old.signer.Sign(head, seconds)...)
	}
	return ledger.DistinctLines(lines)
}

// formerLog is the log key before the one in use.
type formerLog struct {
	signer *ledger.LogSigner
	until  uint64 // milliseconds
}

// openFormerLog takes the log key before back, unless its time is over.
func (r *Replica) openFormerLog() error {
	var record oldLogKeyRecord
	had, err := r.files.readChecked(oldKeyFile, &record)
	var damage *FileError
	if errors.As(err, &damage) {
		return r.files.remove(oldKeyFile) // it was being destroyed, as a rule; nothing depends on it
	}
	if !had || err != nil {
		return err
	}
	key, err := record.Key.key()
	if err != nil {
		return r.files.remove(oldKeyFile)
	}
	r.formerLog.Store(&formerLog{ledger.NewLogSigner(r.origin, key.Ed25519, key.MLDSA44), record.Until})
	return r.endFormerLog()
}

// endFormerLog destroys the log key before once its time is over.
func (r *Replica) endFormerLog() error {
	old := r.formerLog.Load()
	if old == nil || r.now() < old.until {
		return nil
	}
	if err := r.files.destroy(oldKeyFile); err != nil {
		return err
	}
	r.formerLog.Store(nil)
	return nil
}

// LogVKeys lists the verifier keys that the log has had, by the authority chain.
func (r *Replica) LogVKeys() []ledger.LogVKeys {
	r.certifier.chainMu.RLock()
	defer r.certifier.chainMu.RUnlock()
	return r.certifier.chain.LogVKeys()
}

// openLogKey takes the log key that Config gives, else the one on disk.
func (r *Replica) openLogKey() error {
	key, err := r.files.readLogKey(logKeyFile)
	if err != nil {
		return err
	}
	if key == nil && r.cfg.LogKey != nil {
		key = r.cfg.LogKey
		if err := r.files.replaceChecked(logKeyFile, key.record()); err != nil {
			return err
		}
	}
	if key != nil {
		r.logKey.Store(key)
		if pending, err := r.files.readLogKey(pendingKeyFile); err == nil && pending != nil && *pending == *key {
			// A crash came between its two files: it is not pending any more, and must not
			// be given for another log.rekey.
			if err := r.files.remove(pendingKeyFile); err != nil {
				return err
			}
		}
	}
	return r.openFormerLog()
}

// NewLogKey makes a pending log key, and gives its public halves for a
// log.rekey. It is used, and given to peers, once such a decision is executed.
// One that is pending is given again: a proposal may name it already.
func (r *Replica) NewLogKey() (ledger.LogKeys, error) {
	r.pendingLog.Lock()
	defer r.pendingLog.Unlock()
	pending, err := r.files.readLogKey(pendingKeyFile)
	if err != nil {
		return ledger.LogKeys{}, err
	}
	// One in use is there still if its file could not be removed: it is replaced below.
	if used := r.logKey.Load(); pending != nil && (used == nil || *pending != *used) {
		return pending.Public(r.origin), nil
	}
	var key LogKey
	for _, seed := range [][]byte{key.Ed25519[:], key.MLDSA44[:]} {
		if _, err := rand.Read(seed); err != nil {
			return ledger.LogKeys{}, fmt.Errorf("make log key: %w", err)
		}
	}
	if err := r.files.replaceChecked(pendingKeyFile, key.record()); err != nil {
		return ledger.LogKeys{}, err
	}
	return key.Public(r.origin), nil
}

// logKeyLoop sees to it that this replica has the log key that the state
// names: in use, pending, or from a peer.
func (r *Replica) logKeyLoop(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := r.changed.wait()
		want := r.shell.now.Load().state.Log()
		if r.logSigner(want) != nil {
			r.clear(alarmNoLogKey)
			if err := r.endFormerLog(); err != nil {
				r.log.Warn("destroy the former log key", "error", err)
			}
			select {
			case <-changed:
			case <-r.formerLogEnds():
			case <-ctx.Done():
			}
			continue
		}
		if err := r.findLogKey(ctx, want); err != nil {
			if r.caughtUp.Load() {
				r.raise(alarmNoLogKey, err.Error())
			}
			if !pause(ctx, jitter(time.Second)) {
				return nil
			}
		}
	}
	return nil
}

func (r *Replica) findLogKey(ctx context.Context, want ledger.LogKeys) error {
	if used, err := r.usePending(want); used || err != nil {
		return err
	}
	err := errors.New("no peer in reach has the log key")
	for _, from := range r.peers.others() {
		b, failed := r.peers.get(ctx, from, pathLogKey, maxPeerNotes)
		if failed != nil {
			continue
		}
		var record logKeyRecord
		if failed := canon.Unmarshal(b, &record); failed != nil {
			continue
		}
		key, failed := record.key()
		if failed != nil || !sameLogKeys(key.Public(r.origin), want) {
			continue
		}
		return r.useLogKey(key)
	}
	return err
}

// usePending takes the pending key into use, if it is the one that the state names.
func (r *Replica) usePending(want ledger.LogKeys) (used bool, err error) {
	r.pendingLog.Lock()
	defer r.pendingLog.Unlock()
	pending, err := r.files.readLogKey(pendingKeyFile)
	if err != nil || pending == nil || !sameLogKeys(pending.Public(r.origin), want) {
		return false, err
	}
	if err := r.useLogKey(pending); err != nil {
		return false, err
	}
	// Crash before this: both files hold the key. The next start removes this one.
	return true, r.files.remove(pendingKeyFile)
}

// formerLogEnds fires when the log key before is to be destroyed; without one never.
func (r *Replica) formerLogEnds() <-chan time.Time {
	old := r.formerLog.Load()
	if old == nil {
		return nil
	}
	return time.After(max(time.Duration(int64(old.until-min(old.until, r.now())))*time.Millisecond, time.Second))
}

func (r *Replica) useLogKey(key *LogKey) error {
	if old := r.logKey.Load(); old != nil && r.cfg.LogOverlap > 0 {
		record := oldLogKeyRecord{Key: old.record(), Until: r.now() + uint64(r.cfg.LogOverlap.Milliseconds())}
		if err := r.files.replaceChecked(oldKeyFile, record); err != nil {
			return err
		}
		// Crash here: both files hold the same key, whose lines go out once; then this
		// runs again.
		r.formerLog.Store(&formerLog{ledger.NewLogSigner(r.origin, old.Ed25519, old.MLDSA44), record.Until})
	}
	if err := r.files.replaceChecked(logKeyFile, key.record()); err != nil {
		return err
	}
	r.logKey.Store(key)
	r.log.Info("log key in use")
	r.changed.fire()
	return nil
}
