package replica_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// BenchmarkSubmit measures committed statements a second through one leader of
// three replicas in one process: signature, FSM, two fsyncs and TLS included.
func BenchmarkSubmit(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			c := replicatest.Start(b, 3, nil)
			leader := c.Leader()
			view, err := leader.Replica.View(c.Context(), replica.Linearizable)
			if err != nil {
				b.Fatal(err)
			}
			author, epoch := c.Replicas[0], view.State.Epoch()
			envelopes := make([][]byte, b.N)
			for i := range envelopes {
				seq := uint64(i)
				envelopes[i], err = ledger.Sign(author.Key, ledger.Payload{Author: author.Record.Name, Ledger: c.Hash, Type: ledger.TypeRecord, Epoch: &epoch, Seq: &seq},
					ledger.Record{Text: "benchmark"})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			next := make(chan []byte)
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for envelope := range next {
						if _, err := leader.Replica.Submit(c.Context(), [][]byte{envelope}, replica.WaitCommitted); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for _, envelope := range envelopes {
				next <- envelope
			}
			close(next)
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "statements/s")
		})
	}
}
