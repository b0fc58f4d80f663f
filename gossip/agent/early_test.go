package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// A statement of the next epoch waits for that, no longer than it may, and only if its
// author signed it.
func TestWhatIsEarlyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
		a := w.a
		of := func(epoch uint64) []byte {
			seq := uint64(7)
			b, err := ledger.Sign(w.key, ledger.Payload{Author: "n0", Epoch: &epoch, Seq: &seq, Ledger: a.genesis, Type: ledger.TypeObserve},
				ledger.Observe{Counter: 8, Kind: ledger.LinkUp, Subject: "n1"})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		now := w.ledger.State.Epoch()
		took := func(hop string, envelope []byte) (gossip.Reason, time.Duration) {
			began := time.Now()
			return a.awaitEpoch(hop, envelope), time.Since(began)
		}
		forged := of(now + 1)
		forged[len(forged)-1] ^= 1
		for name, c := range map[string]struct {
			envelope []byte
			want     gossip.Reason
			wait     time.Duration
		}{
			"of the next epoch":        {of(now + 1), gossip.EarlyEpoch, earlyPatience},
			"of the one after":         {of(now + 2), gossip.EarlyEpoch, 0},
			"of the one in force":      {of(now), gossip.Good, 0},
			"signed by nobody":         {forged, gossip.BadSignature, 0},
			"nothing that can be read": {[]byte("early"), gossip.EarlyEpoch, 0},
		} {
			if got, wait := took("hop", c.envelope); got != c.want || wait != c.wait {
				t.Errorf("%s: %s after %s; want %s after %s", name, got, wait, c.want, c.wait)
			}
		}

		// It begins meanwhile; a change of no consequence does not end the wait.
		go func() {
			time.Sleep(time.Second)
			a.changed.tell()
			w.pass(1)
			w.see()
		}()
		w.a.early.patience = time.Minute
		if got, wait := took("hop", of(now+1)); got != gossip.Good || wait < 2*time.Second || wait >= time.Minute {
			t.Errorf("once it has begun: %s after %s", got, wait)
		}
		go func() {
			time.Sleep(time.Second)
			close(a.early.over)
		}()
		if got, wait := took("hop", of(now+2)); got != gossip.EarlyEpoch || wait != time.Second {
			t.Errorf("when the agent ends: %s after %s", got, wait)
		}
		if len(a.early.authors) != 0 || len(a.early.hops) != 0 {
			t.Errorf("places stay taken: %v, %v", a.early.authors, a.early.hops)
		}

		// Whoever brings what a revoked key signed may be behind: it is no forgery.
		if err := w.ledger.Decide("key.revoke", map[string]any{"key": ledger.Hash(w.key.ID()), "from": now + 1, "reason": "stolen"}); err != nil {
			t.Fatal(err)
		}
		w.see()
		if got, _ := took("hop", of(w.ledger.State.Epoch()+1)); got == gossip.BadSignature {
			t.Errorf("under a revoked key: %s", got)
		}
	})
}
