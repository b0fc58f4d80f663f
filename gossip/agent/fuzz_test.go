package agent

import (
	"bytes"
	"errors"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
)

// Whatever a configuration file holds, it is read or refused with its name.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("name: n1\ndir: d\nkey_file: k\ngenesis: " + string(bytes.Repeat([]byte("ab"), 32)) + "\ngossip:\n  listen: 127.0.0.1:1\n"))
	f.Add([]byte("name: [1]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("agent.yaml", data)
		var wrong *ConfigError
		if err != nil && !errors.As(err, &wrong) {
			t.Fatalf("error %v is no *ConfigError", err)
		}
		if err == nil && c.Check() != nil {
			t.Fatalf("a configuration was read that does not hold: %v", c.Check())
		}
	})
}

// Whatever a peer sends is refused, or encodes to the same bytes again.
func FuzzParseSyncFrames(f *testing.F) {
	for _, frame := range []any{
		&syncRequest{From: 7, Links: 1}, &syncRequest{State: 9, After: "node/x"},
		&syncResponse{Entries: [][]byte{{1}}, Head: []byte("h"), Links: [][]byte{{2}}},
		&syncResponse{Entries: [][]byte{}, Head: []byte{}, Links: [][]byte{}, State: &statePage{
			Proof: [][]byte{}, Records: []stateEntry{{Key: "meta", Value: []byte("{}")}}, Seal: []byte{3}, Size: 4}},
	} {
		b, err := canon.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseSyncRequest(data); err == nil {
			same(t, data, r)
		}
		if r, err := parseSyncResponse(data); err == nil {
			same(t, data, r)
		}
	})
}

func same(t *testing.T, data []byte, frame any) {
	t.Helper()
	again, err := canon.Marshal(frame)
	if err != nil || !bytes.Equal(again, data) {
		t.Fatalf("%q encodes to %q, %v", data, again, err)
	}
}
