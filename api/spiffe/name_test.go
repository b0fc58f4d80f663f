package spiffe

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestNames(t *testing.T) {
	for _, row := range []struct {
		text         string
		ok, isDomain bool
	}{
		{"spiffe://mesh.example/quorate/r1", true, false},
		{"spiffe://mesh.example", true, true},
		{"spiffe://mesh.example/", false, false},
		{"spiffe://Mesh.example/r1", false, false},
		{"spiffe://mesh.example/a//b", false, false},
		{"spiffe://mesh.example/*", false, false},
		{"mesh.example", false, false},
		{"https://mesh.example/r1", false, false},
		{"", false, false},
		{"spiffe://mesh.example/" + strings.Repeat("a", maxNameBytes), false, false},
	} {
		var n Name
		if err := n.UnmarshalText([]byte(row.text)); (err == nil) != row.ok || n.TrustDomain() != row.isDomain {
			t.Errorf("%.60q: %v, trust domain %v", row.text, err, n.TrustDomain())
		}
	}
}

func TestAddresses(t *testing.T) {
	for text, ok := range map[string]bool{
		"unix:///run/spire/sockets/agent.sock": true,
		"tcp://127.0.0.1:8081":                 true,
		"unix://run/spire/agent.sock":          false, // a host named run
		"unix:run/agent.sock":                  false,
		"unix:///":                             false,
		"/run/spire/sockets/agent.sock":        false,
		"tcp://192.0.2.1:8081":                 false,
		"tcp://localhost:8081":                 false,
		"https://127.0.0.1:8081":               false,
		"":                                     false,
	} {
		if err := new(Address).UnmarshalText([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNobodyIsNoAuthorisation(t *testing.T) {
	if _, err := new(Source).ClientTLS(nil); err == nil {
		t.Error("a client takes any server")
	}
}

// FuzzName: what is taken as a name matches itself, or the ids of its trust
// domain, and nothing of another one.
func FuzzName(f *testing.F) {
	f.Add("spiffe://mesh.example/quorate/r1")
	f.Add("spiffe://mesh.example")
	f.Add("spiffe://mesh.example/..")
	f.Fuzz(func(t *testing.T, text string) {
		var n Name
		if n.UnmarshalText([]byte(text)) != nil {
			return
		}
		match, err := matcher([]Name{n})
		if err != nil {
			t.Fatal(err)
		}
		id := spiffeid.RequireFromString(text)
		if n.TrustDomain() {
			if id, err = spiffeid.FromSegments(id.TrustDomain(), "x"); err != nil {
				t.Fatal(err)
			}
		}
		if err := match(id); err != nil {
			t.Error(err)
		}
		if match(spiffeid.RequireFromString("spiffe://"+id.TrustDomain().Name()+"x"+id.Path())) == nil {
			t.Error("another trust domain matches")
		}
	})
}

// FuzzAddress: what is taken as an address names a socket of this machine.
func FuzzAddress(f *testing.F) {
	f.Add("unix:///run/spire/sockets/agent.sock")
	f.Add("tcp://127.0.0.1:8081")
	f.Add("unix://host/path")
	f.Add("uniX:/0")
	f.Fuzz(func(t *testing.T, text string) {
		var a Address
		if a.UnmarshalText([]byte(text)) == nil && !strings.HasPrefix(strings.ToLower(text), "unix:///") && !strings.HasPrefix(strings.ToLower(text), "tcp://") {
			t.Errorf("%q is taken", text)
		}
	})
}
