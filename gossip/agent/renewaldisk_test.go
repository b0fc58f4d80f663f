package agent

import (
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
)

// Wherever it crashes while it signs anew, what a node said is on the ledger once in the
// end, and no seq is used twice.
func TestSigningAnewSurvivesEveryCrash(t *testing.T) {
	crashed := 0
	for steps := 1; ; steps++ {
		ended := false
		for seed := range uint64(8) {
			inVirtualTime(t, func(t *testing.T, w *lagging) {
				w.disk.rand = newCrashDisk(seed).rand
				w.gone = true
				w.say(ledger.LinkUp, "n1")
				w.say(ledger.LinkUp, "n2")
				w.run(time.Second)
				w.pass(2)
				w.gone = false
				w.disk.steps = steps
				w.show()
				w.run(time.Second)
				if ended = w.disk.steps != 0; !ended {
					crashed++
				}
				for range 4 {
					w.save()
					w.disk = w.disk.again()
					w.start()
					w.show()
					w.run(time.Second)
					w.pass(1)
				}
				if got := w.words(); len(got) != 2 || got[0] == got[1] {
					t.Errorf("crash at step %d, seed %d: the ledger has %q", steps, seed, got)
				}
			})
		}
		if ended {
			break
		}
	}
	if crashed == 0 {
		t.Error("it never crashed")
	}
	t.Logf("%d crashes", crashed)
}

// A life that begins with a state in which the epoch of what waits is over knows of the one
// before that the ledger has it not.
func TestALaterLifeSignsAnew(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *lagging) {
		w.gone = true
		w.say(ledger.LinkUp, "n1")
		w.pass(2)
		w.a.lag.behind(true, 1, 2, time.Hour) // what would be signed now came too late again
		w.show()
		w.run(time.Second)
		w.save()
		w.expect("before", nil, 1, 0, 0)
		w.gone = false
		w.start()
		w.run(time.Second)
		w.show()
		w.run(time.Second)
		w.expect("after", []string{"link.up n1"}, 0, 1, 0)
	})
}

// On a disk that can't be written nothing is signed anew: a restart would find the one
// before.
func TestNothingIsSignedAnewOnAFullDisk(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *lagging) {
		w.gone = true
		w.say(ledger.LinkUp, "n1")
		w.pass(2)
		w.say(ledger.LinkUp, "n2") // reserves seqs of the view's epoch
		w.gone, w.disk.full = false, true
		w.show()
		w.run(3 * time.Second)
		w.expect("full", nil, 2, 0, 0)
		w.disk.full = false
		w.run(time.Minute)
		w.show()
		w.run(time.Second)
		if got := w.words(); len(got) != 2 || got[0] == got[1] || w.a.out.waiting() != 0 {
			t.Errorf("with room again: the ledger has %q, %d wait", got, w.a.out.waiting())
		}
	})
}
