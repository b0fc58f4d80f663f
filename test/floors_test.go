// Package test holds the checks that no single room can make: that
// dependencies run one way down the floors of the house, and that the house is
// in order.
package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/quorate/quorate/"

// floors gives each room its floor. A package imports only packages on lower
// floors, so two rooms of one floor know nothing of each other. A new package
// must be named here first.
var floors = map[string]int{
	"ledger/canon":   0, // below keys, whose files are canonical JSON
	"ledger/keys":    1,
	"ledger":         2,
	"ledger/archive": 3,
	"fsm":            3,
	"gossip":         3,
	"ledger/replica": 4,
	"ledger/audit":   4,
	"gossip/mesh":    4,
	"api/client":     4,
	"api/spiffe":     4,
	"api":            5,
	"gossip/agent":   5,
	"cmd/quorate":    6,
}

// Above every room are what tests stand on, then packages of helpers for tests,
// whose names end in test, then what lives under test/. No room may use them
// but in its tests.
const (
	groundFloor = 7 // of testGround
	helperFloor = 8
	testFloor   = 9
)

// testGround knows no room of ours.
var testGround = []string{"test/freeport", "test/secretscan", "test/stagehand"}

// pureRooms import nothing that reads a clock, a disk, a network or chance, and
// nothing that schedules.
var pureRooms = []string{"ledger", "ledger/canon", "fsm", "gossip"}

// impure are import paths barred from the pure rooms; a path that ends in a
// slash bars everything below it. sync/atomic stays allowed.
var impure = []string{
	"time", "os", "os/", "net", "net/", "math/rand", "math/rand/v2", "crypto/rand",
	"log", "log/", "sync", "context", "io/ioutil", "syscall", "unsafe", "testing",
}

// soleImporters name the one room (and what is below it) that may import a
// library, so that the library can be exchanged in one place.
var soleImporters = map[string]string{
	"github.com/cloudflare/circl": "ledger/keys",
	"github.com/libp2p":           "gossip/mesh",
	"github.com/hashicorp/raft":   "ledger/replica",
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath, Dir            string
	GoFiles                    []string
	TestGoFiles, XTestGoFiles  []string
	Imports                    []string
	TestImports, XTestImports  []string
	IgnoredGoFiles, EmbedFiles []string
}

func (p *pkg) room() string { return strings.TrimPrefix(p.ImportPath, module) }

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags", "hashicorpmetrics", "-json", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

func floorOf(room string) (int, bool) {
	switch {
	case slices.Contains(testGround, room):
		return groundFloor, true
	case room != "test" && strings.HasSuffix(room, "test"):
		return helperFloor, true
	case room == "test" || strings.HasPrefix(room, "test/"):
		return testFloor, true
	}
	floor, ok := floors[room]
	return floor, ok
}

// breaches lists everything that packages do against the floors.
func breaches(packages []pkg) []string {
	var found []string
	rooms := 0
	for _, p := range packages {
		floor, known := floorOf(p.room())
		if !known {
			found = append(found, fmt.Sprintf("%s is on no floor: give it one in DESIGN.md and in test/floors_test.go", p.room()))
			continue
		}
		if floor < testFloor {
			rooms++
		}
		for _, path := range p.Imports {
			found = append(found, importBreaches(p.room(), floor, path)...)
		}
		found = append(found, soleImporterBreaches(p)...)
	}
	if rooms == 0 {
		found = append(found, "no package was found: nothing was checked")
	}
	return found
}

func importBreaches(room string, floor int, path string) []string {
	var found []string
	if other, ours := strings.CutPrefix(path, module); ours {
		if below, known := floorOf(other); known && below >= floor {
			found = append(found, fmt.Sprintf("%s (floor %d) imports %s (floor %d)", room, floor, other, below))
		}
	}
	if slices.Contains(pureRooms, room) {
		for _, bad := range impure {
			if path == bad || strings.HasSuffix(bad, "/") && strings.HasPrefix(path, bad) {
				found = append(found, fmt.Sprintf("%s is pure, and imports %s", room, path))
			}
		}
	}
	return found
}

// soleImporterBreaches looks at tests too: what a test imports pins a library
// as firmly as code does. What lives under test/ may be as independent as it
// likes.
func soleImporterBreaches(p pkg) []string {
	if floor, _ := floorOf(p.room()); floor == testFloor {
		return nil
	}
	var found []string
	for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		for library, room := range soleImporters {
			within := p.room() == room || strings.HasPrefix(p.room(), room+"/")
			if strings.HasPrefix(path, library) && !within {
				found = append(found, fmt.Sprintf("%s imports %s, which only %s may", p.room(), path, room))
			}
		}
	}
	return found
}

func TestDependenciesRunDownTheFloors(t *testing.T) {
	packages := listPackages(t)
	for _, b := range breaches(packages) {
		t.Error(b)
	}
	t.Logf("%d packages checked", len(packages))
}

// The checker is shown houses that are out of order, so that its silence on
// ours means something.
func TestBreachesAreFound(t *testing.T) {
	room := func(name string, imports ...string) pkg { return pkg{ImportPath: module + name, Imports: imports} }
	for _, c := range []struct {
		name  string
		house []pkg
		want  string // part of the only breach; "" for none
	}{
		{"in order", []pkg{room("fsm", module+"ledger", "errors", "sync/atomic"), room("ledger", module+"ledger/canon")}, ""},
		{"nothing found", nil, "no package was found"},
		{"only tests found", []pkg{room("test/thirdparty")}, "no package was found"},
		{"upwards", []pkg{room("ledger/archive", module+"ledger/replica")}, "ledger/archive (floor 3) imports ledger/replica (floor 4)"},
		{"sideways", []pkg{room("fsm", module+"ledger/archive")}, "fsm (floor 3) imports ledger/archive (floor 3)"},
		{"a room that imports a test", []pkg{room("api", module+"test/thirdparty")}, "imports test/thirdparty (floor 9)"},
		{"a room that imports helpers for tests", []pkg{room("api", module+"ledger/replica/replicatest")}, "(floor 8)"},
		{"helpers for tests that import a room", []pkg{room("api"), room("ledger/replica/replicatest", module+"ledger/replica", "time")}, ""},
		{"unknown room", []pkg{room("ledger"), room("ledger/utils")}, "ledger/utils is on no floor"},
		{"clock", []pkg{room("fsm", "time")}, "fsm is pure, and imports time"},
		{"disk", []pkg{room("ledger/canon", "os/exec")}, "ledger/canon is pure, and imports os/exec"},
		{"network", []pkg{room("gossip", "net/http")}, "gossip is pure, and imports net/http"},
		{"chance", []pkg{room("ledger", "math/rand/v2")}, "ledger is pure, and imports math/rand/v2"},
		{"scheduling", []pkg{room("fsm", "sync")}, "fsm is pure, and imports sync"},
		{"context", []pkg{room("fsm", "context")}, "fsm is pure, and imports context"},
		{"logging", []pkg{room("fsm", "log/slog")}, "fsm is pure, and imports log/slog"},
		{"impure where it may be", []pkg{room("ledger/archive", "time", "os", "sync")}, ""},
		{"circl outside keys", []pkg{room("fsm", "github.com/cloudflare/circl/sign/mldsa/mldsa65")}, "which only ledger/keys may"},
		{"circl in keys", []pkg{room("ledger/keys", "github.com/cloudflare/circl/sign/mldsa/mldsa65")}, ""},
		{"libp2p outside mesh", []pkg{room("gossip/agent", "github.com/libp2p/go-libp2p-pubsub")}, "which only gossip/mesh may"},
		{"circl in a test", []pkg{{ImportPath: module + "fsm", XTestImports: []string{"github.com/cloudflare/circl/hpke"}}}, "which only ledger/keys may"},
	} {
		got := breaches(c.house)
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
