package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/test/stagehand"
)

// What the ledger itself warns of: each story that gives it a reason waits until it does,
// looks as a person would, and waits until it is over.

// warns waits until the ledger warns of somebody or something in an alarm of a kind, and
// demands that quorate list alarms and quorate status say so.
func (h *house) warns(ctx context.Context, kind, name string) error {
	began := time.Now()
	if err := h.awaitsAlarm(ctx, kind, name, true); err != nil {
		return err
	}
	list := h.Command(ctx, "list", "alarms", "--output", "json")
	if err := list.Failed(); err != nil {
		return err
	}
	var got client.Alarms
	if err := json.Unmarshal([]byte(list.Out), &got); err != nil {
		return fmt.Errorf("list alarms: %w: %.300s", err, list.Out)
	}
	h.Demand(names(&got, kind, name), "list alarms does not tell of %s and %s: %s", kind, name, sentence(list.Out))
	status := h.Command(ctx, "status")
	if err := status.Failed(); err != nil {
		return err
	}
	h.Demand(strings.Contains(status.Out, kind) && strings.Contains(status.Out, name), "status does not tell of %s and %s: %s", kind, name, sentence(status.Out))
	h.Says("alarm", "%s names %.24s, %.1f s later: quorate list alarms and status say so", kind, name, time.Since(began).Seconds())
	return nil
}

// calms waits until no alarm of that kind names them any more.
func (h *house) calms(ctx context.Context, kind, name string) error {
	began := time.Now()
	err := h.awaitsAlarm(ctx, kind, name, false)
	if err == nil {
		h.Says("alarm", "%s names %.24s no more, %.1f s later", kind, name, time.Since(began).Seconds())
	}
	return err
}

func (h *house) awaitsAlarm(ctx context.Context, kind, name string, on bool) error {
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	var last *client.Alarms
	var failed error
	err = stagehand.Await(ctx, patience, fmt.Sprintf("%s names %s: %v", kind, name, on), func() bool {
		last, failed = c.Alarms(ctx, client.Read{Consistency: client.Certified})
		return failed == nil && names(last, kind, name) == on
	})
	if err != nil {
		return fmt.Errorf("%w: %+v, %v", err, last, failed)
	}
	return nil
}

func names(list *client.Alarms, kind, name string) bool {
	return slices.ContainsFunc(list.Alarms, func(a client.Alarm) bool { return a.Kind == kind && slices.Contains(a.Names, name) })
}

// quiet demands that an alarm of a kind names nobody.
func (h *house) quiet(ctx context.Context, kind string) error {
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Alarms(ctx, client.Read{Consistency: client.Certified})
	if err == nil {
		h.Demand(!slices.ContainsFunc(list.Alarms, func(a client.Alarm) bool { return a.Kind == kind }), "%s is on already: %+v", kind, list.Alarms)
	}
	return err
}
