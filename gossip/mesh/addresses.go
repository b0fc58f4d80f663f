package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/quorate/quorate/ledger/canon"
)

// contact is what is known of how to reach one member. Addresses are only hints:
// whoever answers at one must hold the member's key.
type contact struct {
	rank    [8]byte  // by a secret of this process: nobody knows whom we choose
	own     []string // announced by the member over its own connection
	heard   []string // told by others, newest first
	proven  string   // where we reached it last
	failed  int      // dials in a row
	nextTry time.Time
}

// book holds the contacts of members, and only of members.
type book struct {
	secret [32]byte

	mu       sync.Mutex
	contacts map[string]*contact // by peer key
}

func newBook(secret [32]byte) *book { return &book{secret: secret, contacts: map[string]*contact{}} }

// of is the contact of key; nil if the book is full. It requires b.mu.
func (b *book) of(key ed25519.PublicKey) *contact {
	c := b.contacts[string(key)]
	if c == nil && len(b.contacts) < maxBookMembers {
		sum := sha256.Sum256(append(b.secret[:], key...))
		c = &contact{rank: [8]byte(sum[:8])}
		b.contacts[string(key)] = c
	}
	return c
}

// keep forgets all but members.
func (b *book) keep(member func(key ed25519.PublicKey) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.contacts, func(key string, _ *contact) bool { return !member(ed25519.PublicKey(key)) })
}

// announced notes what a member says of itself.
func (b *book) announced(key ed25519.PublicKey, addresses []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.of(key); c != nil && len(addresses) > 0 {
		if !slices.Equal(c.own, addresses) {
			c.failed, c.nextTry = 0, time.Time{}
		}
		c.own = addresses
	}
}

// told notes what others say of a member.
func (b *book) told(key ed25519.PublicKey, addresses []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.of(key)
	if c == nil {
		return
	}
	for _, address := range addresses {
		if slices.Contains(c.heard, address) || slices.Contains(c.own, address) {
			continue
		}
		c.heard = slices.Insert(c.heard, 0, address)
	}
	c.heard = c.heard[:min(len(c.heard), maxHearsayAddresses)]
}

// reached and missed note how a dial went.
func (b *book) reached(key ed25519.PublicKey, address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.of(key); c != nil {
		c.failed, c.nextTry = 0, time.Time{}
		if address != "" {
			c.proven = address
		}
	}
}

func (b *book) missed(key ed25519.PublicKey, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.of(key); c != nil {
		c.nextTry = now.Add(backoff(c.failed))
		c.failed++
	}
}

// backoff doubles with each failure, and is spread so that those who lost one
// peer at one time don't come back at one time.
func backoff(failed int) time.Duration {
	wait := backoffLast
	if failed < 16 {
		wait = min(backoffLast, backoffFirst<<failed)
	}
	return wait/2 + rand.N(wait)
}

// addresses are where to dial m: proven, configured, its own words, others'.
func (b *book) addresses(m Member) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	add := func(addresses ...string) {
		for _, address := range addresses {
			if isAddress(address) && !slices.Contains(all, address) {
				all = append(all, address)
			}
		}
	}
	c := b.contacts[string(m.Peer)]
	if c != nil && c.proven != "" {
		add(c.proven)
	}
	add(m.Addresses[:min(len(m.Addresses), maxConfiguredAddress)]...)
	if c != nil {
		add(c.own...)
		add(c.heard...)
	}
	return all
}

// turn says whether m may be dialled again, and its rank among those to choose.
func (b *book) turn(m Member, now time.Time) (rank [8]byte, may bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.of(m.Peer)
	if c == nil {
		return rank, false
	}
	known := len(m.Addresses)+len(c.own)+len(c.heard) > 0 || c.proven != ""
	return c.rank, known && !now.Before(c.nextTry)
}

// hints are what the peer protocol exchanges, in canonical JSON.
type hints struct {
	Addresses []string      `json:"addresses"` // of the speaker; ":port" is at the address that it is seen at
	Members   []memberHints `json:"members"`
}

type memberHints struct {
	Addresses []string `json:"addresses"`
	Peer      []byte   `json:"peer"`
}

// share picks members at random and says where they are, as they said themselves
// or as we reached them; never what was only heard.
func (b *book) share(member func(key ed25519.PublicKey) bool) []memberHints {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []memberHints{}
	for key, c := range b.contacts { // in random order, which is wanted
		addresses := slices.Clone(c.own)
		if c.proven != "" && !slices.Contains(addresses, c.proven) {
			addresses = append(addresses, c.proven)
		}
		if len(addresses) == 0 || !member(ed25519.PublicKey(key)) {
			continue
		}
		addresses = addresses[:min(len(addresses), maxAnnouncedAddress)]
		if list = append(list, memberHints{addresses, []byte(key)}); len(list) == maxExchangeMembers {
			break
		}
	}
	return list
}

func (h *hints) encode() ([]byte, error) {
	for {
		frame, err := canon.Marshal(h)
		if err != nil || len(frame) <= maxExchangeBytes || len(h.Members) == 0 {
			return frame, err
		}
		h.Members = h.Members[:len(h.Members)/2]
	}
}

// parseHints refuses what is not canonical or exceeds the bounds. Single
// addresses that are of no use are left out later.
func parseHints(frame []byte) (*hints, error) {
	if len(frame) > maxExchangeBytes {
		return nil, ErrTooLarge
	}
	var h hints
	if err := canon.Unmarshal(frame, &h); err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	if len(h.Addresses) > maxAnnouncedAddress || len(h.Members) > maxExchangeMembers {
		return nil, ErrTooLarge
	}
	for _, m := range h.Members {
		if len(m.Addresses) > maxAnnouncedAddress || len(m.Peer) != ed25519.PublicKeySize {
			return nil, ErrTooLarge
		}
	}
	return &h, nil
}

// usable keeps addresses that may be dialled. A loopback address means something
// only to whom it reaches over loopback.
func usable(addresses []string, from netip.Addr) []string {
	var kept []string
	for _, address := range addresses {
		if len(address) > 0 && address[0] == ':' && from.IsValid() {
			address = net.JoinHostPort(from.String(), address[1:])
		}
		if !isAddress(address) {
			continue
		}
		host, _, _ := net.SplitHostPort(address)
		ip, err := netip.ParseAddr(host)
		if err == nil && (ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() && !from.IsLoopback()) {
			continue
		}
		kept = append(kept, address)
	}
	return kept
}

// isAddress says whether address is host:port, of bounded length.
func isAddress(address string) bool {
	if len(address) > maxAddressBytes {
		return false
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return false
	}
	for _, r := range host {
		if r <= ' ' || r > '~' || r == '/' {
			return false
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// listenMultiaddr reads ip:port; port 0 is any.
func listenMultiaddr(address string) (multiaddr.Multiaddr, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q is not ip:port: %w", address, err)
	}
	return tcpMultiaddr(at)
}

func tcpMultiaddr(at netip.AddrPort) (multiaddr.Multiaddr, error) {
	ip, family := at.Addr().Unmap(), "ip4"
	if ip.Is6() {
		family = "ip6"
	}
	return multiaddr.NewMultiaddr(fmt.Sprintf("/%s/%s/tcp/%d", family, ip.WithZone(""), at.Port()))
}

// resolve turns host:port into what is dialled, in order, names by DNS.
func resolve(ctx context.Context, addresses []string) []multiaddr.Multiaddr {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var all []multiaddr.Multiaddr
	add := func(at netip.AddrPort) {
		if m, err := tcpMultiaddr(at); err == nil {
			all = append(all, m)
		}
	}
	for _, address := range addresses {
		if at, err := netip.ParseAddrPort(address); err == nil {
			add(at)
			continue
		}
		host, port, _ := net.SplitHostPort(address)
		n, _ := strconv.ParseUint(port, 10, 16)
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			continue
		}
		for _, ip := range ips[:min(len(ips), maxConfiguredAddress)] {
			add(netip.AddrPortFrom(ip, uint16(n)))
		}
	}
	return all
}
