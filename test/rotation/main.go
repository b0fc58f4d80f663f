// Command rotation leaves a fleet alone while its keys change: real replicas and agents
// that rotate by themselves, speak all the time, and are hurt at fixed epochs. In the end
// it judges from the export that nothing was lost at a boundary, nothing accepted outside
// a key's range, and nobody late without an alarm. It exits 1 when anything was not as
// DESIGN.md says.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/quorate/quorate/test/spacetest"
)

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "where the programs quorate and observer are")
	flag.Uint64Var(&o.epochs, "epochs", defaultEpochs, "how many epochs to run for")
	flag.DurationVar(&o.every, "every", time.Second, "how often each agent speaks")
	flag.DurationVar(&o.epoch, "epoch", defaultEpoch, "how long an epoch is")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory")
	flag.Parse()
	if o.epochs < leastEpochs || o.epochs > mostEpochs || o.every < 100*time.Millisecond || o.epoch < leastEpoch || o.epoch > longestEpoch {
		fmt.Fprintf(os.Stderr, "rotation: -epochs takes %d to %d, -every 100ms or more, -epoch %s to %s\n", leastEpochs, mostEpochs, leastEpoch, longestEpoch)
		os.Exit(1)
	}
	_, inside := spacetest.Inside()
	var why error
	if !inside {
		var code int
		if code, why = within(); why == nil {
			os.Exit(code)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if !run(ctx, os.Stdout, o, why) {
		fmt.Fprintln(os.Stderr, "rotation: FAILED")
		os.Exit(1)
	}
}
