package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// traffic is what the TCP connections of a process carried, payload of TCP: TLS
// is in it, the headers of TCP and IP are not.
type traffic struct{ sent, received uint64 }

// The kernel's, <linux/sock_diag.h>, <linux/inet_diag.h> and <linux/tcp.h>.
const (
	netlinkSockDiag = 4
	sockDiagFamily  = 20
	inetDiagInfo    = 2

	diagInode         = 68 // in inet_diag_msg, which is 72 bytes long
	diagBytes         = 72
	infoBytesAcked    = 120 // in tcp_info
	infoBytesReceived = 128
)

// socketTraffic asks the kernel for every TCP connection of this network
// namespace, by inode.
func socketTraffic() (map[uint64]traffic, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for connections: %w", err)
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 5}); err != nil {
		return nil, err
	}
	all := map[uint64]traffic{}
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		if err := dumpSockets(fd, family, all); err != nil {
			return nil, fmt.Errorf("ask the kernel for connections: %w", err)
		}
	}
	return all, nil
}

func dumpSockets(fd int, family byte, all map[uint64]traffic) error {
	const requestBytes = syscall.NLMSG_HDRLEN + 56
	request := make([]byte, requestBytes)
	binary.NativeEndian.PutUint32(request, requestBytes)
	binary.NativeEndian.PutUint16(request[4:], sockDiagFamily)
	binary.NativeEndian.PutUint16(request[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	body := request[syscall.NLMSG_HDRLEN:]
	body[0], body[1], body[2] = family, syscall.IPPROTO_TCP, 1<<(inetDiagInfo-1)
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0)) // in whatever state
	if err := syscall.Sendto(fd, request, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := syscall.Recvfrom(fd, buffer, 0)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case syscall.NLMSG_DONE:
				return nil
			case syscall.NLMSG_ERROR:
				return errors.New("it does not tell")
			}
			addSocket(m.Data, all)
		}
	}
}

func addSocket(data []byte, all map[uint64]traffic) {
	if len(data) < diagBytes {
		return
	}
	inode := uint64(binary.NativeEndian.Uint32(data[diagInode:]))
	for rest := data[diagBytes:]; len(rest) >= 4; {
		length, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if length < 4 || length > len(rest) {
			return
		}
		if info := rest[4:length]; kind == inetDiagInfo && len(info) >= infoBytesReceived+8 {
			all[inode] = traffic{binary.NativeEndian.Uint64(info[infoBytesAcked:]), binary.NativeEndian.Uint64(info[infoBytesReceived:])}
		}
		rest = rest[min((length+3)&^3, len(rest)):]
	}
}

// socketsOf are the inodes of a process's sockets.
func socketsOf(pid int) map[uint64]bool {
	found := map[uint64]bool{}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		if text, ok := strings.CutPrefix(target, "socket:["); ok {
			if inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64); err == nil {
				found[inode] = true
			}
		}
	}
	return found
}

// meter is what a process has used up to a moment.
type meter struct {
	at      time.Time
	cpu     time.Duration
	sockets map[uint64]traffic // its own
	written uint64             // bytes, to files and sockets
}

// meters reads those of many processes. Without the kernel's word on
// connections, traffic is missing.
func meters(list []*talker) []meter {
	children := make([]*process, len(list))
	for i, t := range list {
		children[i] = t.process
	}
	return metersOf(children)
}

func metersOf(children []*process) []meter {
	all, _ := socketTraffic()
	var out []meter
	for _, p := range children {
		m := meter{at: time.Now(), cpu: p.processorTime(), sockets: map[uint64]traffic{}, written: p.written()}
		for inode := range socketsOf(p.cmd.Process.Pid) {
			if s, ok := all[inode]; ok {
				m.sockets[inode] = s
			}
		}
		out = append(out, m)
	}
	return out
}

// carriedSince is bytes sent and received. Connections that ended meanwhile are not
// counted.
func (m meter) carriedSince(before meter) (sent, received float64) {
	for inode, s := range m.sockets {
		was := before.sockets[inode]
		sent += float64(s.sent - was.sent)
		received += float64(s.received - was.received)
	}
	return sent, received
}

// since is a core's share in percent, and bytes sent and received a second.
func (m meter) since(before meter) (share, sent, received float64) {
	seconds := m.at.Sub(before.at).Seconds()
	sent, received = m.carriedSince(before)
	return 100 * (m.cpu - before.cpu).Seconds() / seconds, sent / seconds, received / seconds
}
