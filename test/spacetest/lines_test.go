package spacetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain is also where the copy of this program within namespaces begins.
func TestMain(m *testing.M) {
	dir, inside := Inside()
	if !inside {
		os.Exit(m.Run())
	}
	err := withinLines(dir)
	if err == nil {
		err = withinParted()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
}

// The lines of places delay what leaves them, lose their share of it, and keep the
// order of the rest; and the places reach each other by nothing else.
func TestLines(t *testing.T) {
	if tool := Missing("ip", "tc"); tool != "" {
		t.Skipf("%s is missing; make chaos-tools installs it", tool)
	}
	dir, lock, err := Folder()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	defer lock.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := Command(dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("this machine gives no namespaces: %v", err)
	}
	err = cmd.Wait()
	text := strings.TrimSpace(out.String())
	if why, skipped := strings.CutPrefix(text, skipPrefix); skipped {
		t.Skip(why)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	t.Log(text)
}

const (
	skipPrefix  = "SKIPPED: "
	testDelay   = 40 * time.Millisecond
	testLoss    = 0.2
	testPackets = 2_000
	testEnds    = 200 // that all of them are lost does not happen
	testLimit   = 60 * time.Second
)

func withinLines(dir string) (err error) {
	skip := func(err error) error {
		fmt.Printf("%s%v\n", skipPrefix, err)
		os.Exit(1)
		return err
	}
	if _, err := Furnish(dir); err != nil {
		return skip(err)
	}
	places := map[string]string{"one": "10.77.1.1", "two": "10.77.1.2"}
	lines, err := NewLines(Line{Delay: testDelay, Loss: testLoss}, places)
	if err != nil {
		return skip(err)
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	from, err := listenIn("one", places["one"])
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := listenIn("two", places["two"])
	if err != nil {
		return err
	}
	defer to.Close()
	got := make(chan error, 1)
	var received int
	go func() {
		var err error
		received, err = receive(to)
		got <- err
	}()
	if err := send(from, to.LocalAddr()); err != nil {
		return err
	}
	if err := <-got; err != nil {
		return err
	}
	share, most := 1-float64(received)/testPackets, 1.0 // a busy machine's queues drop some more
	if lines.How == "tun" {
		most = testLoss * 2 // what is counted is ours alone
		passed, lost, _ := lines.Packets()
		share = float64(lost) / float64(passed+lost)
		if passed+lost < testPackets/4 {
			return fmt.Errorf("%d packets were seen of %d", passed+lost, testPackets)
		}
	}
	if share < testLoss/2 || share >= most {
		return fmt.Errorf("%.3f of the packets were lost, want %.3f", share, testLoss)
	}
	fmt.Printf("by %s: %d of %d came, ", lines.How, received, testPackets)
	return nil
}

// withinParted looks whether lines that are parted carry nothing from side to side, and
// everything else.
func withinParted() (err error) {
	places := map[string]string{"west": "10.77.2.1", "east": "10.77.2.2", "also-east": "10.77.2.3"}
	lines, err := NewLines(Line{Parts: true}, places)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	conns := map[string]*net.UDPConn{}
	for space, address := range places {
		if conns[space], err = listenIn(space, address); err != nil {
			return err
		}
		defer conns[space].Close()
	}
	// A packet that is to arrive is sent again until it has; by then one that was sent
	// before it over the same line has been dropped, if it ever will be.
	said := 0
	arrives := func(from, to string) error {
		said++
		word := fmt.Sprintf("%d from %s", said, from)
		for begin := time.Now(); time.Since(begin) < testLimit; {
			if _, err := conns[from].WriteTo([]byte(word), conns[to].LocalAddr()); err != nil {
				return err
			}
			if err := conns[to].SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			b := make([]byte, 64)
			n, _, err := conns[to].ReadFrom(b)
			if err == nil && string(b[:n]) == word {
				return nil
			}
			if err == nil && !strings.HasSuffix(string(b[:n]), "from "+from) {
				return fmt.Errorf("%s got %q, which was to be cut off", to, b[:n])
			}
		}
		return fmt.Errorf("%q did not come to %s", word, to)
	}
	for _, all := range [][2]string{{"west", "east"}, {"east", "west"}, {"east", "also-east"}} {
		if err := arrives(all[0], all[1]); err != nil {
			return fmt.Errorf("before: %w", err)
		}
	}
	if err := lines.Part([]string{places["west"]}, []string{places["east"], places["also-east"]}); err != nil {
		return err
	}
	for range 3 {
		for _, cut := range [][2]string{{"west", "east"}, {"east", "west"}, {"west", "also-east"}} {
			if _, err := conns[cut[0]].WriteTo([]byte("lost from "+cut[0]), conns[cut[1]].LocalAddr()); err != nil {
				return err
			}
		}
	}
	for begin := time.Now(); lines.Parted() < 9; time.Sleep(time.Millisecond) {
		if time.Since(begin) > testLimit {
			return fmt.Errorf("%d packets of 9 were cut off", lines.Parted())
		}
	}
	// Whoever is on one side still hears its own.
	for _, same := range [][2]string{{"east", "also-east"}, {"also-east", "east"}} {
		if err := arrives(same[0], same[1]); err != nil {
			return fmt.Errorf("parted: %w", err)
		}
	}
	lines.Mend()
	for _, all := range [][2]string{{"west", "east"}, {"east", "west"}} {
		if err := arrives(all[0], all[1]); err != nil {
			return fmt.Errorf("mended: %w", err)
		}
	}
	if err := lines.Part([]string{"10.77.9.9"}); err == nil {
		return errors.New("a place that there is not was put on a side")
	}
	return nil
}

// listenIn opens a UDP socket in a place.
func listenIn(space, address string) (*net.UDPConn, error) {
	type result struct {
		conn *net.UDPConn
		err  error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // the thread ends in the space
		if err := enter(space); err != nil {
			made <- result{nil, err}
			return
		}
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(address), Port: 7000})
		made <- result{conn, err}
	}()
	r := <-made
	return r.conn, r.err
}

// send sends numbered packets with their time, and then ends.
func send(from *net.UDPConn, to net.Addr) error {
	for i := range testPackets + testEnds {
		b := binary.BigEndian.AppendUint64(nil, uint64(min(i, testPackets)))
		b = binary.BigEndian.AppendUint64(b, uint64(time.Now().UnixNano()))
		if _, err := from.WriteTo(b, to); err != nil {
			return err
		}
		if i%20 == 0 {
			time.Sleep(time.Millisecond) // the devices' queues are short
		}
	}
	return nil
}

// receive counts until an end, and wants every packet late enough and in order.
func receive(to *net.UDPConn) (count int, err error) {
	if err := to.SetReadDeadline(time.Now().Add(testLimit)); err != nil {
		return 0, err
	}
	b := make([]byte, 64)
	for last := -1; ; count++ {
		n, err := to.Read(b)
		if err != nil {
			return count, err
		}
		if n != 16 {
			return count, fmt.Errorf("a packet of %d bytes", n)
		}
		number := int(binary.BigEndian.Uint64(b))
		if number == testPackets {
			return count, nil
		}
		if number <= last {
			return count, fmt.Errorf("packet %d came after %d", number, last)
		}
		last = number
		if took := time.Duration(time.Now().UnixNano() - int64(binary.BigEndian.Uint64(b[8:]))); took < testDelay {
			return count, fmt.Errorf("packet %d came after %s, before %s were over", number, took, testDelay)
		}
	}
}
