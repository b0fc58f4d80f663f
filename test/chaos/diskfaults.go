package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/api/client"
)

// powerCut: acknowledged means durable.
func powerCut(_ context.Context, h *harm) error {
	if h.noDisks != nil {
		return &skipError{"the replicas have no disks of their own"}
	}
	if err := h.cutPower(h.members); err != nil {
		return err
	}
	return h.startAll()
}

// tornTail: what a crash leaves half written is dropped, and comes back from
// Raft's log.
func tornTail(ctx context.Context, h *harm) error {
	m := h.members[h.chance.IntN(len(h.members))]
	tail := filepath.Join(m.dir, "archive", "tail")
	// A tail that was just replaced has no record that could be torn.
	if err := await(ctx, "a tail of some length", func(context.Context) error {
		info, err := os.Stat(tail)
		if err == nil && info.Size() < 16<<10 {
			err = fmt.Errorf("it has %d bytes", info.Size())
		}
		return err
	}); err != nil {
		return err
	}
	if err := m.kill(); err != nil {
		return err
	}
	whole, err := os.ReadFile(tail)
	if err != nil {
		return err
	}
	torn := 1 + h.chance.IntN(40)
	if err := os.Truncate(tail, int64(len(whole)-torn)); err != nil {
		return err
	}
	if err := h.start(m); err != nil {
		return err
	}
	h.note("%s lost %d of %d bytes of its tail", m.name, torn, len(whole))
	well, err := h.wellOrEnded(ctx, m)
	if err != nil || well {
		return err
	}
	// A tail that was replaced and not appended to has no last record to lose: the
	// loss is damage, and must be refused rather than dropped.
	h.note("and called it damage")
	return os.WriteFile(tail, whole, 0o644)
}

// wellOrEnded waits until a member is ready or its process has ended.
func (c *cluster) wellOrEnded(ctx context.Context, m *member) (well bool, err error) {
	err = await(ctx, m.name+" to be well or to give up", func(ctx context.Context) error {
		if !m.running() {
			return nil
		}
		s, err := c.statusOf(ctx, m)
		if err != nil {
			return err
		}
		if well = s.Ready; !well && len(s.Alarms) == 0 {
			return fmt.Errorf("it is %s", s.Role)
		}
		return nil
	})
	return well, err
}

// ioError: after a failed fsync nobody knows what the disk holds. Under Raft's
// log the replica stops; under the history it leads no more and says so. In
// neither case it tries again and acknowledges.
func ioError(ctx context.Context, h *harm) error {
	m, err := h.faultyLeader(ctx)
	if err != nil {
		return err
	}
	where := []string{"log", "archive"}[h.chance.IntN(2)]
	if err := m.order("fail " + where); err != nil {
		return err
	}
	if err := await(ctx, m.name+" to notice", func(ctx context.Context) error {
		if !m.running() {
			return nil
		}
		s, err := h.statusOf(ctx, m)
		if err == nil && (where == "log" || s.Role == "leader" || len(s.Alarms) == 0) {
			err = fmt.Errorf("it is %s, with alarms %v", s.Role, s.Alarms)
		}
		return err
	}); err != nil {
		return err
	}
	h.note("of the %s of %s", where, m.name)
	if s, err := h.statusOf(ctx, m); err == nil {
		for _, alarm := range s.Alarms {
			if strings.HasPrefix(alarm, "halted") {
				return fmt.Errorf("%s takes a failed disk for a foreign history: %s", m.name, alarm)
			}
		}
	}
	return h.some(ctx, 10)
}

// fullDisk: a replica whose disk is full refuses writes and answers reads, the
// others go on, and it recovers without a restart once there is room.
func fullDisk(ctx context.Context, h *harm) error {
	if h.noDisks != nil {
		return &skipError{"the replicas have no disks of their own"}
	}
	m, _, err := h.leader(ctx)
	if err != nil {
		return err
	}
	if err := m.fill(); err != nil {
		return err
	}
	defer func() { _ = m.drain() }()
	pid := m.pid()
	if err := h.some(ctx, 10); err != nil {
		return err
	}
	rest(ctx, hurtFor)
	cl, err := h.clientOf(m)
	if err != nil {
		return err
	}
	defer cl.Close()
	if _, err := cl.CurrentEpoch(ctx, client.Read{}); err != nil {
		return fmt.Errorf("%s does not answer a read while its disk is full: %w", m.name, err)
	}
	if err := m.drain(); err != nil {
		return err
	}
	if err := h.settle(ctx); err != nil {
		return fmt.Errorf("%s had a full disk: %w", m.name, err)
	}
	if !m.running() || m.pid() != pid {
		return fmt.Errorf("%s did not live through a full disk", m.name)
	}
	h.note("%s lived through it", m.name)
	return nil
}

// neverWrong reads all that is known from a member. It may refuse, it may not
// give other bytes.
func (c *cluster) neverWrong(ctx context.Context, m *member) error {
	cl, err := c.clientOf(m)
	if err != nil {
		return err
	}
	defer cl.Close()
	for from := uint64(0); from < c.known.size; from += client.MaxEntriesPage {
		to := min(from+client.MaxEntriesPage, c.known.size)
		reading, cancel := context.WithTimeout(ctx, opTimeout/5) // a refusal is tried again until then
		var wrong error
		_, _ = readEntries(reading, cl, from, to, func(e *client.Entry) error { // a refusal is right
			if sha256.Sum256(e.Entry) != c.known.sums[e.Seq] {
				wrong = fmt.Errorf("%s serves other bytes as entry %d", m.name, e.Seq)
			}
			return wrong
		})
		cancel()
		if wrong != nil {
			return wrong
		}
	}
	return nil
}
