package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// signer signs records in one author's name.
type signer struct {
	key    *keys.PrivateKey
	author string
	ledger ledger.Hash
	seq    atomic.Uint64
}

// presign signs n records on all cores, outside of what is timed. The authors
// take turns, and each one's seqs ascend: the window of the rules is 1,024.
func presign(signers []*signer, n, size int) ([][]byte, error) {
	text := make([]byte, size)
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	first := make([]uint64, len(signers))
	for i, s := range signers {
		first[i] = s.seq.Add(uint64((n+len(signers)-1-i)/len(signers))) - uint64((n+len(signers)-1-i)/len(signers))
	}
	out := make([][]byte, n)
	errs := make([]error, runtime.GOMAXPROCS(0))
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				s := signers[i%len(signers)]
				epoch, seq := uint64(0), first[i%len(signers)]+uint64(i/len(signers))
				var err error
				out[i], err = ledger.Sign(s.key, ledger.Payload{Author: s.author, Ledger: s.ledger, Type: ledger.TypeRecord, Epoch: &epoch, Seq: &seq},
					ledger.Record{Text: string(text)})
				if err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// cell is what one cell of the table measured.
type cell struct {
	Operations  int           `json:"operations"`
	Elapsed     time.Duration `json:"elapsed_ns"`
	PerSecond   float64       `json:"per_second"`
	P50         float64       `json:"p50_ms"`
	P99         float64       `json:"p99_ms"`
	GeneratorUS float64       `json:"generator_cpu_us"` // CPU time of the load generator for one operation
	ServersUS   float64       `json:"servers_cpu_us"`   // of all servers for one operation
	Elections   uint64        `json:"elections"`        // terms that began meanwhile: 0, or the load starves the leader
}

// conn is one client's keep-alive connection: HTTP/1.1, written and read
// without a goroutine between.
type conn struct {
	address string
	c       net.Conn
	r       *bufio.Reader
	head    []byte
}

// dialTimeout bounds a dial, requestTimeout a whole exchange.
const (
	dialTimeout    = 5 * time.Second
	requestTimeout = 35 * time.Second
)

func dial(address string) (*conn, error) {
	c, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	return newConn(address, c), nil
}

func newConn(address string, c net.Conn) *conn {
	return &conn{address: address, c: c, r: bufio.NewReaderSize(c, 4<<10)}
}

// discard reads an answer that must be a success.
func discard(response *http.Response) error {
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d", response.Request.URL, response.StatusCode)
	}
	_, err := io.Copy(io.Discard, response.Body)
	return err
}

// answer is what a submission got.
type answer struct {
	status     int
	retryAfter time.Duration
	body       []byte // of anything but a success
}

// submit posts one statement and reads the answer.
func (c *conn) submit(envelope []byte, query string) (answer, error) {
	if err := c.c.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return answer{}, err
	}
	c.head = append(c.head[:0], "POST /v1/statements"...)
	c.head = append(c.head, query...)
	c.head = append(c.head, " HTTP/1.1\r\nHost: "...)
	c.head = append(c.head, c.address...)
	c.head = append(c.head, "\r\nContent-Type: application/cose\r\nContent-Length: "...)
	c.head = strconv.AppendInt(c.head, int64(len(envelope)), 10)
	c.head = append(c.head, "\r\n\r\n"...)
	buffers := net.Buffers{c.head, envelope}
	if _, err := buffers.WriteTo(c.c); err != nil {
		return answer{}, err
	}
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		a.retryAfter = time.Duration(seconds) * time.Second
	}
	if a.status == http.StatusOK {
		_, err = io.Copy(io.Discard, response.Body)
		return a, err
	}
	a.body, err = io.ReadAll(io.LimitReader(response.Body, 4<<10))
	return a, err
}

// drive has so many clients submit the statements, each its next one as soon
// as it has its answer, until the time is over or all are sent. Every answer
// must be an acknowledgement.
func drive(ctx context.Context, address string, clients int, statements [][]byte, warm, limit time.Duration) (*cell, error) {
	var next atomic.Int64
	latencies := make([][]time.Duration, clients)
	errs := make([]error, clients)
	conns := make([]*conn, clients)
	for i := range conns {
		var err error
		if conns[i], err = dial(address); err != nil {
			return nil, err
		}
		defer conns[i].c.Close()
	}
	begin := time.Now().Add(warm)
	end := begin.Add(limit)
	var cpuBegin time.Duration
	timer := time.AfterFunc(warm, func() { cpuBegin = ownCPU() })
	defer timer.Stop()
	var last atomic.Int64 // when the last counted answer came, since begin
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				sent := time.Now()
				n := int(next.Add(1)) - 1
				if n >= len(statements) || sent.After(end) {
					return
				}
				a, err := conns[i].submit(statements[n], "")
				if err == nil && a.status != http.StatusOK {
					err = fmt.Errorf("status %d: %.300s", a.status, a.body)
				}
				if err != nil {
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
		return nil, fmt.Errorf("submit: %w", err)
	}
	return newCell(latencies, time.Duration(last.Load()), ownCPU()-cpuBegin)
}

func newCell(latencies [][]time.Duration, elapsed, cpu time.Duration) (*cell, error) {
	var all []time.Duration
	for _, list := range latencies {
		all = append(all, list...)
	}
	if len(all) == 0 || elapsed <= 0 {
		return nil, errors.New("nothing was measured")
	}
	return &cell{
		Operations: len(all), Elapsed: elapsed, PerSecond: float64(len(all)) / elapsed.Seconds(),
		P50: millis(quantile(all, 0.50)), P99: millis(quantile(all, 0.99)),
		GeneratorUS: float64(cpu.Microseconds()) / float64(len(all)),
	}, nil
}
