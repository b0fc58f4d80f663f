package main

import (
	"bytes"
	"fmt"
	"net/url"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// As many nodes as a decision may admit are proposed at one time: the question for the
// proposal's tables fits a URL, which the server reads up to 8,192 bytes of arguments.
func TestBaseOfAWholeFleetFitsAURL(t *testing.T) {
	var args struct {
		Joins []ledger.Hash `json:"joins"`
	}
	for i := range ledger.MaxJoins {
		args.Joins = append(args.Joins, ledger.LeafHash(fmt.Append(nil, "join ", i)))
	}
	raw, err := canon.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	action, asked, err := baseQuestion(&request{Action: "node.admit", Args: raw})
	if err != nil || action != "node.admit" {
		t.Fatalf("%s: %v", action, err)
	}
	if n := len(url.QueryEscape(string(asked))); n > 8_192 {
		t.Errorf("the question for %d joins is %d bytes long", ledger.MaxJoins, n)
	}
	// What depends on its arguments is asked with them.
	one := canon.Raw(`{"name":"n1"}`)
	if _, asked, err := baseQuestion(&request{Action: "node.remove", Args: one}); err != nil || !bytes.Equal(asked, one) {
		t.Errorf("node.remove is asked with %s: %v", asked, err)
	}
}
