package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
)

// What a replica says of its own key is what /v1/status has, to the last field, and what
// the client reads.
func TestOwnKeyInStatus(t *testing.T) {
	id, next := ledger.Hash{1}, ledger.Hash{2}
	hex := func(first string) string { return first + strings.Repeat("0", 62) }
	for name, row := range map[string]struct {
		says *replica.KeyStatus
		want *client.ReplicaKey
		json string
	}{
		"not on the ledger": {nil, nil, `null`},
		"in force": {&replica.KeyStatus{ID: id, Since: 3, Age: 4, Due: 50, Late: 60}, &client.ReplicaKey{ID: hex("01"), Since: 3, Age: 4, Due: 50, Late: 60},
			`{"id":"` + hex("01") + `","since":3,"age":4,"due":50,"late":60}`},
		"of the first epoch, for ever": {&replica.KeyStatus{ID: id}, &client.ReplicaKey{ID: hex("01")}, `{"id":"` + hex("01") + `","since":0,"age":0}`},
		"late, with a successor": {&replica.KeyStatus{ID: id, Age: 70, Due: 50, Late: 60, Next: &next, Off: true}, &client.ReplicaKey{ID: hex("01"), Age: 70, Due: 50, Late: 60, Next: hex("02"), Off: true},
			`{"id":"` + hex("01") + `","since":0,"age":70,"due":50,"late":60,"next":"` + hex("02") + `","off":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.status.Key = presentOwnKey(row.says)
			ts := newServer(t, f, Config{})
			answer, err := http.Get(ts.URL + "/v1/status")
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			var status struct{ Key *json.RawMessage }
			if err := json.Unmarshal(body, &status); err != nil {
				t.Fatal(err)
			}
			got := "null"
			if status.Key != nil {
				got = string(*status.Key)
			}
			if got != row.json {
				t.Errorf("key %s, want %s", got, row.json)
			}
			read, err := newClient(t, f.world, "", ts.URL).Status(short(t))
			if err != nil || (read.Key == nil) != (row.want == nil) || read.Key != nil && *read.Key != *row.want {
				t.Errorf("the client reads %+v, %v; want %+v", read.Key, err, row.want)
			}
		})
	}
}
