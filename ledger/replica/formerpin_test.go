package replica_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A liar rotates to the TLS pin that another has just left: the rules allow that, since
// they look at the pins in use. The other shows its former certificate for a while, and
// what it says under it is its own word still.
func TestALiarThatTakesAFormerPinSpeaksForNobody(t *testing.T) {
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		cfg.Limits.PinLinger = 10 * time.Minute // the former one is shown for half of it
		cfg.Rotation.Off = true
	}, rotating)
	honest := c.Leader()
	at := slices.Index(c.Nodes, honest)
	other, liar := c.Nodes[(at+1)%4], c.Nodes[(at+2)%4]
	former, seat := honest.Replica.FirstCertificate(), honest.Record.KeyID()
	c.Submit(honest, replica.WaitCertified, c.Record(c.Council[0], "before"))
	nextEpoch(c, honest)
	if err := honest.Replica.MakeNextKey(); err != nil {
		t.Fatal(err)
	}
	rotated(t, c, honest.Record.Name)
	if err := liar.Replica.TakePin(honest.Record.TLSPin); err != nil {
		t.Fatal(err)
	}
	rotated(t, c, liar.Record.Name)

	key, server := keyOf(t, other, honest.Record.Name)
	if server != seat {
		t.Fatalf("it is known as %s", server)
	}
	var word []byte
	other.Await("its word under its new key", func(replica.Status) bool {
		var err error
		word, err = other.Replica.NewestCosignature(key)
		return err == nil
	})
	ask := func(path string, body []byte) (bool, string) {
		status, answer, err := other.Replica.Ask(former, path, body)
		if err != nil {
			t.Fatal(err)
		}
		return status == http.StatusOK, answer
	}
	if taken, answer := ask("/cosignature", word); !taken {
		t.Errorf("its own cosignature, under the certificate that it shows: %s", answer)
	}
	_, successor := keyOf(t, other, other.Record.Name)
	handing, err := json.Marshal(map[string]ledger.Hash{"to": successor})
	if err != nil {
		t.Fatal(err)
	}
	if taken, answer := ask("/handing", handing); !taken && c.Leader() == honest {
		t.Errorf("it leads, and hands on: %s", answer)
	}
}
