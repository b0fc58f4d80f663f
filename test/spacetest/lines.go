package spacetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// A Line is how a place hangs on the others, and what befalls each packet that
// leaves it.
type Line struct {
	Delay time.Duration
	Loss  float64 // of all packets, each by itself
	Parts bool    // Part will be called: this program passes every packet on, whatever the kernel has
}

// Lines are places whose lines are bad. Where the kernel has netem, it makes
// them so on the veth pairs of the hub; where it has not, each place hangs on a
// TUN device instead, and this program does to its packets what netem would:
// drop by chance, keep the others for the delay, in order, at most lineQueue at
// once.
type Lines struct {
	How  string // "netem", or "tun" where the kernel has none
	line Line

	devices map[netip.Addr]*device // tun: by address; written before forwarding begins
	ended   atomic.Bool
	wait    sync.WaitGroup
	sides   atomic.Pointer[map[netip.Addr]int] // while they are parted

	passed, lost, crowded, parted atomic.Int64
	late, latest                  atomic.Int64 // nanoseconds beyond the delay: of all, and of the latest
}

const (
	lineQueue   = 1_000 // as netem's limit
	packetBytes = 2_048 // above the devices' MTU of 1,500
)

type device struct {
	ip   netip.Addr
	file *os.File
	line Line
	out  chan packet
}

type packet struct {
	due  time.Time
	data []byte
	to   *device
}

// NewLines makes places by address, space by space, and the hub. The addresses
// are of 10.77.0.0/16; HubAddress stays free.
func NewLines(line Line, places map[string]string) (*Lines, error) {
	l := &Lines{How: "netem", line: line, devices: map[netip.Addr]*device{}}
	if line.Parts || !hasNetem() {
		l.How = "tun"
	}
	if err := l.hub(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	for space, address := range places {
		if err := l.plug(space, address); err != nil {
			return nil, errors.Join(fmt.Errorf("place %s: %w", space, err), l.Close())
		}
	}
	for _, d := range l.devices {
		l.wait.Go(func() { l.read(d) })
		l.wait.Go(func() { l.send(d) })
	}
	return l, nil
}

// Packets is how many packets were passed on, and how many were lost by chance
// or because a line was full. With netem nobody here counts: 0.
func (l *Lines) Packets() (passed, lost, crowded int64) {
	return l.passed.Load(), l.lost.Load(), l.crowded.Load()
}

// Part cuts the lines between sides, each a list of addresses: nothing that one side
// sends arrives at another, and nobody is told. Whoever is on no side has all lines.
// It takes the place of an earlier Part, and wants Line.Parts.
func (l *Lines) Part(sides ...[]string) error {
	if !l.line.Parts {
		return errors.New("these lines are not made to be parted")
	}
	of := map[netip.Addr]int{}
	for i, side := range sides {
		for _, text := range side {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				return err
			}
			if _, twice := of[ip]; twice || l.devices[ip] == nil {
				return fmt.Errorf("%s is on two sides, or nowhere", ip)
			}
			of[ip] = i
		}
	}
	l.sides.Store(&of)
	return nil
}

// Mend ends what Part began.
func (l *Lines) Mend() { l.sides.Store(nil) }

// Parted is how many packets were for another side.
func (l *Lines) Parted() int64 { return l.parted.Load() }

// apart says whether two places are on different sides.
func (l *Lines) apart(from, to netip.Addr) bool {
	sides := l.sides.Load()
	if sides == nil {
		return false
	}
	a, on := (*sides)[from]
	b, also := (*sides)[to]
	return on && also && a != b
}

// Late is how much later than it should a packet was passed on, on the mean and at
// worst: what a busy machine adds to the delay. With netem nobody here counts: 0.
func (l *Lines) Late() (mean, worst time.Duration) {
	return time.Duration(l.late.Load() / max(l.passed.Load(), 1)), time.Duration(l.latest.Load())
}

// Close takes the lines away; the places end with the run's namespaces.
func (l *Lines) Close() error {
	l.ended.Store(true)
	var errs []error
	for _, d := range l.devices {
		errs = append(errs, d.file.Close())
	}
	l.wait.Wait()
	return errors.Join(errs...)
}

// hasNetem tries it on the loopback device of the run's own namespace.
func hasNetem() bool {
	if Tool("", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms") != nil {
		return false
	}
	return Tool("", "tc", "qdisc", "del", "dev", "lo", "root") == nil
}

func (l *Lines) hub() error {
	if l.How == "netem" {
		return Hub()
	}
	if err := Tool("", "ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	return l.tun("", HubAddress, Line{}) // what leaves the hub is delayed by nobody
}

func (l *Lines) plug(space, address string) error {
	if l.How == "netem" {
		loss := strconv.FormatFloat(l.line.Loss*100, 'f', -1, 64) + "%"
		return errors.Join(Plug(space, address), Tool("", "ip", "netns", "exec", space, "tc", "qdisc", "replace", "dev", "eth0", "root", "netem",
			"delay", strconv.FormatInt(l.line.Delay.Milliseconds(), 10)+"ms", "loss", loss, "limit", strconv.Itoa(lineQueue)))
	}
	if err := Tool("", "ip", "netns", "add", space); err != nil {
		return err
	}
	if err := Tool("", "ip", "-n", space, "link", "set", "lo", "up"); err != nil {
		return err
	}
	return l.tun(space, address, l.line)
}

// tun makes a device eth0 in a space, "" for the run's own, and gives it its
// address.
func (l *Lines) tun(space, address string, line Line) error {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	file, err := openTUN(space)
	if err != nil {
		return err
	}
	l.devices[ip] = &device{ip: ip, file: file, line: line, out: make(chan packet, lineQueue)}
	var in []string
	if space != "" {
		in = []string{"-n", space}
	}
	return errors.Join(
		Tool("", "ip", append(in, "addr", "add", address+"/"+strconv.Itoa(prefixBits), "dev", tunName)...),
		Tool("", "ip", append(in, "link", "set", tunName, "up")...),
	)
}

const tunName = "eth0"

// The kernel's, <linux/if_tun.h>.
const (
	tunSetInterface = 0x400454ca
	tunPackets      = 0x1001 // IFF_TUN | IFF_NO_PI
)

// openTUN makes the device in a space's network, which the thread visits for it.
func openTUN(space string) (*os.File, error) {
	type result struct {
		fd  int
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends where it is
		if space != "" {
			if err := enter(space); err != nil {
				made <- result{0, err}
				return
			}
		}
		fd, err := makeTUN()
		made <- result{fd, err}
	}()
	r := <-made
	if r.err != nil {
		return nil, r.err
	}
	return os.NewFile(uintptr(r.fd), "/dev/net/tun"), nil
}

func enter(space string) error {
	f, err := os.Open("/run/netns/" + space)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := syscall.RawSyscall(sysSetns, f.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		return fmt.Errorf("enter %s: %w", space, errno)
	}
	return nil
}

func makeTUN() (int, error) {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	var request struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], tunName)
	request.flags = tunPackets
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), tunSetInterface, uintptr(unsafe.Pointer(&request))); errno != 0 {
		_ = syscall.Close(fd)
		return 0, fmt.Errorf("make a TUN device: %w", errno)
	}
	return fd, nil
}

// read takes the packets that leave a place.
func (l *Lines) read(from *device) {
	defer close(from.out)
	for {
		data := make([]byte, packetBytes)
		n, err := from.file.Read(data)
		if err != nil {
			return
		}
		to := l.devices[destination(data[:n])]
		if to == nil {
			continue // for nobody here, or not IPv4
		}
		if l.apart(from.ip, to.ip) {
			l.parted.Add(1)
			continue
		}
		if rand.Float64() < from.line.Loss {
			l.lost.Add(1)
			continue
		}
		select {
		case from.out <- packet{time.Now().Add(from.line.Delay), data[:n], to}:
		default:
			l.crowded.Add(1)
		}
	}
}

// send passes them on when their time has come.
func (l *Lines) send(from *device) {
	for p := range from.out {
		if wait := time.Until(p.due); wait > 0 && !l.ended.Load() {
			time.Sleep(wait)
		}
		if _, err := p.to.file.Write(p.data); err == nil {
			late := int64(time.Since(p.due))
			l.passed.Add(1)
			l.late.Add(late)
			for worst := l.latest.Load(); late > worst && !l.latest.CompareAndSwap(worst, late); worst = l.latest.Load() {
			}
		}
	}
}

// destination is whom an IPv4 packet is for.
func destination(data []byte) netip.Addr {
	if len(data) < 20 || data[0]>>4 != 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(data[16:20]))
}
