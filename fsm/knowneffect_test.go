package fsm

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Every effect that the rules name is known, or a watch for it is refused.
func TestEveryEffectIsKnown(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	constant := regexp.MustCompile(`(?m)^\s+Effect\w+\s+= "([^"]+)"`)
	found := 0
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range constant.FindAllSubmatch(source, -1) {
			found++
			if !KnownEffect(string(match[1])) {
				t.Errorf("%s: the effect %s is not known", name, match[1])
			}
		}
	}
	if found < 10 || KnownEffect("ballad") {
		t.Errorf("found %d effects", found)
	}
}
