package spiffe

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Address is where a Workload API listens: unix:///path, or tcp://IP:port of
// loopback. UnmarshalText is its only check.
type Address string

// UnmarshalText refuses what no Workload API can be at. The private key comes
// over this connection in the clear, so TCP is for loopback alone.
func (a *Address) UnmarshalText(text []byte) error {
	s := string(text)
	wrong := fmt.Errorf("want unix:///path/to/agent.sock, got %q", s)
	u, err := url.Parse(s)
	if err != nil || workloadapi.ValidateAddress(s) != nil {
		return wrong
	}
	switch u.Scheme {
	case "unix":
		// The address goes to gRPC as it stands, and so must not rest on how
		// url.Parse reads it.
		if !strings.HasPrefix(s, "unix:///") || u.Host != "" || u.Path == "/" || strings.ContainsRune(u.Path, 0) {
			return wrong
		}
	case "tcp":
		if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
			return fmt.Errorf("TCP is for loopback only, since private keys pass there, got %q", s)
		}
	default:
		return wrong
	}
	*a = Address(s)
	return nil
}

// Name is a SPIFFE id, spiffe://trust-domain/path, or a whole trust domain,
// spiffe://trust-domain. UnmarshalText is its only check.
type Name string

// UnmarshalText refuses what is no SPIFFE id.
func (n *Name) UnmarshalText(text []byte) error {
	if len(text) > maxNameBytes {
		return fmt.Errorf("a SPIFFE id has at most %d bytes", maxNameBytes)
	}
	if _, err := spiffeid.FromString(string(text)); err != nil {
		return fmt.Errorf("want spiffe://trust-domain/path or spiffe://trust-domain, got %q (%w)", text, err)
	}
	*n = Name(text)
	return nil
}

// TrustDomain says whether the name is that of a whole trust domain.
func (n Name) TrustDomain() bool {
	id, err := spiffeid.FromString(string(n))
	return err == nil && id.Path() == ""
}

// matcher accepts the ids that one of names stands for.
func matcher(names []Name) (spiffeid.Matcher, error) {
	if len(names) == 0 {
		return nil, errors.New("authorize peers: nobody is named")
	}
	var ids []spiffeid.ID
	var domains []spiffeid.TrustDomain
	for _, n := range names {
		id, err := spiffeid.FromString(string(n))
		if err != nil {
			return nil, fmt.Errorf("authorize %q: %w", n, err)
		}
		if id.Path() == "" {
			domains = append(domains, id.TrustDomain())
		} else {
			ids = append(ids, id)
		}
	}
	return func(id spiffeid.ID) error {
		if slices.Contains(ids, id) || slices.Contains(domains, id.TrustDomain()) {
			return nil
		}
		return fmt.Errorf("%s is not %s", id, oneOf(names))
	}, nil
}

func oneOf(names []Name) string {
	if len(names) == 1 {
		return string(names[0])
	}
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = string(n)
	}
	return "one of " + strings.Join(list, ", ")
}
