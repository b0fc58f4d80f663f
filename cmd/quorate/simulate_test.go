package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/freeport"
)

// devLedger runs a development ledger of one replica until the test ends.
func devLedger(t *testing.T) (*app, string) {
	t.Helper()
	port := freeport.Take(t, devPeerOffset+1)
	dir := filepath.Join(t.TempDir(), "run")
	a := &app{in: nil, out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }, now: time.Now, output: "text"}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- a.dev(ctx, &devFlags{dir: dir, port: port, replicas: 1, logLevel: "error"}, false)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("dev: %v", err)
		}
	})
	return a, "http://" + devAddress(port)
}

// TestSimulateHereAndThere: the effect that is derived here from every entry is
// the one that an honest server tells, records and words alike.
func TestSimulateHereAndThere(t *testing.T) {
	a, server := devLedger(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var l *link
	for {
		var err error
		if l, err = a.connect(ctx, &serverFlags{servers: []string{server}}); err == nil {
			if err = l.reach(ctx, 1); err == nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	defer l.Close()
	head, err := l.synced(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		action, code string
		args         map[string]any
	}{
		{"operator.add", "ok", map[string]any{"name": "fjord", "sponsor": "aurora"}},
		{"council.change", "ok", map[string]any{"remove": "carol"}},
		{"ledger.freeze", "ok", map[string]any{"reason": "drill"}},
		{"node.remove", "unknown_node", map[string]any{"name": "nobody"}},
		{"replica.remove", "last_replica", map[string]any{"name": "r0"}},
	} {
		r, err := readArguments(test.action, test.args, "")
		if err != nil {
			t.Fatal(err)
		}
		body := &ledger.Propose{Action: r.Action, Args: r.Args}
		here, err := l.simulateHere(ctx, head, body, "alice", nil)
		if err != nil {
			t.Fatal(err)
		}
		there, err := l.simulateThere(ctx, r.Action, r.Args, "alice")
		if err != nil {
			t.Fatal(err)
		}
		if here.Code != test.code {
			t.Errorf("%s: got %s (%s), want %s", test.action, here.Code, here.Detail, test.code)
		}
		if here.Code != there.Code || !reflect.DeepEqual(here.Words, there.Words) && len(here.Words)+len(there.Words) > 0 {
			t.Errorf("%s: here %s %q, there %s %q", test.action, here.Code, here.Words, there.Code, there.Words)
		}
		compareChanges(t, test.action, here.Changes, there.Changes)
	}
}

// compareChanges leaves meta out: its stamps may differ by when each was asked.
func compareChanges(t *testing.T, action string, here, there []client.Change) {
	t.Helper()
	byKey := func(list []client.Change) map[string][2]string {
		m := map[string][2]string{}
		for _, c := range list {
			if c.Key != "meta" {
				m[c.Key] = [2]string{compact(c.Before), compact(c.After)}
			}
		}
		return m
	}
	if x, y := byKey(here), byKey(there); !reflect.DeepEqual(x, y) {
		t.Errorf("%s: here %v, there %v", action, x, y)
	}
}

func compact(raw json.RawMessage) string {
	out, err := canonical(raw)
	if err != nil {
		return ""
	}
	return string(out)
}

func TestStaleHeadIsSaid(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for age, want := range map[time.Duration]string{30 * time.Second: "", time.Minute: "", 10 * time.Minute: "10m0s"} {
		if got := staleness(&client.Head{Signed: uint64(now.Add(-age).Unix())}, now); got != want {
			t.Errorf("a head of %s is called %q, want %q", age, got, want)
		}
	}
	var out bytes.Buffer
	(&review{Effect: &effect{Code: "ok", Stale: "10m0s"}}).effectText(&out)
	if !strings.Contains(out.String(), "WARNING") {
		t.Errorf("no warning in %q", out.String())
	}
}
