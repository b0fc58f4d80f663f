// Command etcdload puts values into etcd with its own Go client and prints what
// it measured as JSON. It is a module of its own, so that the ledger's modules
// know nothing of etcd's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// putsPerConnection is how many clients share one gRPC connection: more
// connections measured slower at 64 and 256 clients, fewer too.
const putsPerConnection = 16

// cell has the fields of the table's cells, as test/bench reads them.
type cell struct {
	Operations  int           `json:"operations"`
	Elapsed     time.Duration `json:"elapsed_ns"`
	PerSecond   float64       `json:"per_second"`
	P50         float64       `json:"p50_ms"`
	P99         float64       `json:"p99_ms"`
	GeneratorUS float64       `json:"generator_cpu_us"`
}

func main() {
	endpoints := flag.String("endpoints", "", "URLs, with commas")
	clients := flag.Int("clients", 1, "puts under way at once")
	size := flag.Int("size", 3072, "bytes of a value")
	warm := flag.Duration("warm", 500*time.Millisecond, "not counted")
	limit := flag.Duration("for", 4*time.Second, "counted")
	each := flag.Int("per-connection", putsPerConnection, "clients that share a connection")
	probe := flag.Bool("probe", false, "only look whether every node serves")
	flag.Parse()
	if err := run(strings.Split(*endpoints, ","), *clients, *size, *each, *warm, *limit, *probe); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(endpoints []string, clients, size, each int, warm, limit time.Duration, probe bool) error {
	leader, err := findLeader(endpoints)
	if err != nil || probe {
		return err
	}
	var conns []*clientv3.Client
	for range (clients + each - 1) / each {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{leader}, DialTimeout: 5 * time.Second})
		if err != nil {
			return err
		}
		defer c.Close()
		conns = append(conns, c)
	}
	measured, err := drive(conns, clients, size, warm, limit)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(measured)
}

// findLeader asks every node, and gives the one that leads.
func findLeader(endpoints []string) (string, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second})
	if err != nil {
		return "", err
	}
	defer c.Close()
	leader := ""
	for _, endpoint := range endpoints {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		status, err := c.Status(ctx, endpoint)
		cancel()
		if err != nil {
			return "", err
		}
		if status.Leader == status.Header.MemberId {
			leader = endpoint
		}
	}
	if leader == "" {
		return "", errors.New("no node leads")
	}
	return leader, nil
}

func drive(conns []*clientv3.Client, clients, size int, warm, limit time.Duration) (*cell, error) {
	value := make([]byte, size)
	for i := range value {
		value[i] = 'a' + byte(i%26)
	}
	text := string(value)
	ctx, cancel := context.WithTimeout(context.Background(), warm+limit+30*time.Second)
	defer cancel()
	// The first put of a connection dials.
	for _, c := range conns {
		if _, err := c.Put(ctx, "bench/warm", text); err != nil {
			return nil, err
		}
	}
	begin := time.Now().Add(warm)
	end := begin.Add(limit)
	run := fmt.Sprintf("bench/%d/", begin.UnixNano())
	latencies := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var cpuBegin time.Duration
	timer := time.AfterFunc(warm, func() { cpuBegin = ownCPU() })
	defer timer.Stop()
	var next, last atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for {
				sent := time.Now()
				if sent.After(end) {
					return
				}
				if _, err := conns[i%len(conns)].Put(ctx, fmt.Sprintf("%s%09d", run, next.Add(1)), text); err != nil {
					errs[i] = err
					return
				}
				now := time.Now()
				if sent.After(begin) {
					latencies[i] = append(latencies[i], now.Sub(sent))
					last.Store(max(last.Load(), int64(now.Sub(begin))))
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return sum(latencies, time.Duration(last.Load()), ownCPU()-cpuBegin)
}

func sum(latencies [][]time.Duration, elapsed, cpu time.Duration) (*cell, error) {
	all := slices.Concat(latencies...)
	if len(all) == 0 || elapsed <= 0 {
		return nil, errors.New("nothing was measured")
	}
	slices.Sort(all)
	at := func(q float64) float64 {
		i := int(math.Ceil(q*float64(len(all)))) - 1
		return float64(all[max(i, 0)].Microseconds()) / 1000
	}
	return &cell{Operations: len(all), Elapsed: elapsed, PerSecond: float64(len(all)) / elapsed.Seconds(), P50: at(0.50), P99: at(0.99),
		GeneratorUS: float64(cpu.Microseconds()) / float64(len(all))}, nil
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
