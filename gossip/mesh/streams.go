package mesh

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// service is one protocol of request and answer. A request is its length in four
// bytes, big endian, and so many bytes; an answer begins with one more byte: 0,
// or 1 for a refusal, which says no more. One exchange a stream, within timeout
// from its first byte to its last, so that dribbling gains nothing.
type service struct {
	name     protocol.ID
	request  int // most bytes
	response int
	timeout  time.Duration
	rate     *allowance[peer.ID]
	busy     *gauge[peer.ID]
	internal bool // carries no control message
	answer   func(from Member, s network.Stream, request []byte) ([]byte, error)
}

const (
	answered byte = iota
	refused
)

func (m *Mesh) makeServices() {
	m.probes = &service{
		name: ProtocolProbe, request: MaxProbeBytes, response: MaxProbeBytes, timeout: probeTimeout,
		rate: newAllowance[peer.ID](probesPerPeer, probesPerPeerBurst, maxTrackedPeers),
		busy: newGauge[peer.ID](maxProbesAtOnce, maxProbesAtOncePeer),
		answer: func(from Member, _ network.Stream, request []byte) ([]byte, error) {
			return m.config.Judge.Probe(from, request)
		},
	}
	shared := *m.probes // one allowance for both
	shared.name = ProtocolShared
	m.shared = &shared
	m.syncs = &service{
		name: ProtocolSync, request: MaxSyncRequestBytes, response: MaxSyncResponseBytes, timeout: syncTimeout,
		rate: newAllowance[peer.ID](syncsPerPeer, syncsPerPeerBurst, maxTrackedPeers),
		busy: newGauge[peer.ID](maxSyncsAtOnce, maxSyncsAtOncePeer),
		answer: func(from Member, _ network.Stream, request []byte) ([]byte, error) {
			return m.config.Judge.Sync(from, request)
		},
	}
	m.exchanges = &service{
		name: ProtocolPeers, request: maxExchangeBytes, response: maxExchangeBytes, timeout: exchangeTimeout,
		rate:     newAllowance[peer.ID](exchangesPerPeer, exchangesPeerBurst, maxTrackedPeers),
		busy:     newGauge[peer.ID](maxExchangesAtOnce, 1),
		internal: true,
		answer:   m.answerExchange,
	}
}

// serve answers one stream.
func (m *Mesh) serve(v *service, s network.Stream) {
	from := s.Conn().RemotePeer()
	_ = s.SetDeadline(time.Now().Add(v.timeout))
	outcome := m.serveWithin(v, from, s)
	m.metrics.streams.WithLabelValues(string(v.name), outcome).Inc()
	if outcome == "answered" || outcome == "refused" {
		_ = s.Close()
		return
	}
	_ = s.Reset()
}

// serveWithin says how it went: answered, refused, standing, rate, busy or broken.
func (m *Mesh) serveWithin(v *service, from peer.ID, s network.Stream) string {
	member, ok := m.admitted(from)
	switch {
	case !ok:
		return "standing"
	case !v.rate.allow(from, time.Now()):
		return "rate"
	case !v.busy.enter(from):
		return "busy"
	}
	defer v.busy.leave(from)
	request, err := readFrame(s, v.request)
	if err != nil {
		return "broken"
	}
	m.observe(v, Received, from, request)
	response, err := v.answer(member, s, request)
	if err != nil || len(response) > v.response {
		if _, err := s.Write([]byte{refused}); err != nil {
			return "broken"
		}
		return "refused"
	}
	m.observe(v, Sent, from, response)
	if err := writeFrame(s, []byte{answered}, response); err != nil {
		return "broken"
	}
	return "answered"
}

// ask sends request to a peer over the connection that there is, and gives its
// answer.
func (m *Mesh) ask(ctx context.Context, h *host, v *service, to peer.ID, request []byte) ([]byte, error) {
	response, err := m.askWithin(ctx, h, v, to, request)
	outcome := "answered"
	switch {
	case errors.Is(err, ErrRefused):
		outcome = "refused"
	case err != nil:
		outcome = "broken"
	}
	m.metrics.asked.WithLabelValues(string(v.name), outcome).Inc()
	return response, err
}

func (m *Mesh) askWithin(ctx context.Context, h *host, v *service, to peer.ID, request []byte) ([]byte, error) {
	if len(request) > v.request {
		return nil, ErrTooLarge
	}
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	s, err := h.open(ctx, to, v.name)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = s.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() }) // cancelled by the caller
	defer stop()
	m.observe(v, Sent, to, request)
	response, err := exchange(s, v, request)
	if err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("ask %s: %w", v.name, err)
	}
	_ = s.Close()
	m.observe(v, Received, to, response)
	return response, nil
}

func exchange(s network.Stream, v *service, request []byte) ([]byte, error) {
	if err := writeFrame(s, greet(v.name), request); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	if err := readGreeting(s, v.name); err != nil {
		return nil, err
	}
	var status [1]byte
	if _, err := io.ReadFull(s, status[:]); err != nil {
		return nil, err
	}
	if status[0] != answered {
		return nil, ErrRefused
	}
	return readFrame(s, v.response)
}

func (m *Mesh) observe(v *service, direction Direction, p peer.ID, data []byte) {
	if m.config.Observe != nil {
		key, _ := keyOf(p)
		m.config.Observe(Frame{Direction: direction, Channel: string(v.name), Peer: ed25519.PublicKey(key), Internal: v.internal, Verdict: Accept, Data: data})
	}
}

// readFrame reads a frame of at most limit bytes. Memory grows with what arrives
// and not with what the length promises.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if uint64(size) > uint64(limit) {
		return nil, ErrTooLarge
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return nil, err
	}
	if len(data) < int(size) {
		return nil, io.ErrUnexpectedEOF
	}
	return data, nil
}

// writeFrame writes what goes before a frame, and the frame, at once.
func writeFrame(w io.Writer, before, data []byte) error {
	frame := make([]byte, 0, len(before)+4+len(data))
	frame = binary.BigEndian.AppendUint32(append(frame, before...), uint32(len(data)))
	_, err := w.Write(append(frame, data...))
	return err
}
