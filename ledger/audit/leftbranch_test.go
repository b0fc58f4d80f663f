package audit

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// A source shows a head of the branch that a recovery left, and with it the link
// that left it: whoever has the link refuses the head.
func TestHeadOfTheBranchThatWasLeft(t *testing.T) {
	b, err := os.ReadFile("../../test/vectors/recover-with-test-keys.json")
	must(t, err)
	var v struct {
		Genesis     string
		Strings     []string
		Links       []string
		Checkpoints []struct{ Name, Note string }
	}
	must(t, json.Unmarshal(b, &v))
	whole := func(s string) []byte {
		return []byte(regexp.MustCompile(`\$\d+\$`).ReplaceAllStringFunc(s, func(place string) string {
			n, err := strconv.Atoi(place[1 : len(place)-1])
			must(t, err)
			return v.Strings[n]
		}))
	}
	raw, err := hex.DecodeString(v.Genesis)
	must(t, err)
	src := &memory{files: map[string][]byte{}}
	for i, link := range v.Links {
		src.files[fmt.Sprintf("authority/%d", i)] = whole(link)
	}
	shown := 0
	for _, c := range v.Checkpoints {
		switch c.Name {
		case "a head of the branch that was left, by the lost ones", "a head of the branch that was left, by all three":
			shown++
			src.files["checkpoint"] = whole(c.Note)
			if _, err := readHead(t.Context(), src, ledger.Hash(raw)); !errors.Is(err, ledger.ErrLeftBranch) {
				t.Errorf("%s: %v", c.Name, err)
			}
		case "the head from which it goes on, by two of three lost or not":
			shown++
			src.files["checkpoint"] = whole(c.Note)
			if _, err := readHead(t.Context(), src, ledger.Hash(raw)); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
		}
	}
	if shown != 3 {
		t.Fatalf("%d of the three heads are in the vectors", shown)
	}
}
