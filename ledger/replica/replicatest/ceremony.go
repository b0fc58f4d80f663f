// Package replicatest makes ledgers and clusters of replicas for tests: keys
// from seeds, real disks, real TLS on loopback. Nothing in it is for
// production.
package replicatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sort"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/test/freeport"
)

// Principal is a governor or a recovery holder with its private key.
type Principal struct {
	Name, Operator string
	Key            *keys.PrivateKey
}

// Identity is a replica's keys, and what the ledger records of it.
type Identity struct {
	Record      ledger.Replica
	Key         *keys.PrivateKey
	Certificate tls.Certificate
}

// Ceremony is a founded ledger with every private key: three governors (alice,
// bob, carol) of three operators, a recovery set of three holders, threshold 2
// everywhere, and n replicas r1 to rn.
type Ceremony struct {
	Genesis  *ledger.Genesis
	Entry    []byte
	Hash     ledger.Hash
	Council  []Principal
	Recovery []Principal
	Replicas []*Identity
	LogKey   *replica.LogKey
}

// Operators are those of every ceremony.
var Operators = []string{"op-a", "op-b", "op-c", "op-d"}

// NewCeremony founds a ledger. Each change may alter genesis before it is
// hashed.
func NewCeremony(t testing.TB, n int, changes ...func(*ledger.Genesis)) *Ceremony {
	t.Helper()
	c := &Ceremony{LogKey: &replica.LogKey{Ed25519: [32]byte{1}, MLDSA44: [32]byte{2}}}
	for i, name := range []string{"alice", "bob", "carol"} {
		c.Council = append(c.Council, Principal{name, Operators[i], Key(t)})
		c.Recovery = append(c.Recovery, Principal{"holder-" + name, Operators[i], Key(t)})
	}
	for i := range n {
		c.Replicas = append(c.Replicas, NewIdentity(t, fmt.Sprintf("r%d", i+1), Operators[i%len(Operators)]))
	}
	g := &ledger.Genesis{
		Created: uint64(time.Now().UnixMilli()), Format: ledger.Format, Origin: "example.com/quorate/test",
		Log: c.LogKey.Public("example.com/quorate/test"), Policy: ledger.DefaultPolicy(3),
		Recovery: &ledger.Recovery{Threshold: 2},
	}
	for _, name := range Operators {
		o := ledger.Operator{Name: name}
		if name == "op-d" {
			o.Sponsor = "op-a"
		}
		g.Operators = append(g.Operators, o)
	}
	for i := range c.Council {
		g.Council = append(g.Council, ledger.Member{Name: c.Council[i].Name, Operator: c.Council[i].Operator, Public: c.Council[i].Key.Public().Bytes()})
		g.Recovery.Holders = append(g.Recovery.Holders, ledger.Holder{Name: c.Recovery[i].Name, Public: c.Recovery[i].Key.Public().Bytes()})
	}
	for _, r := range c.Replicas {
		g.Replicas = append(g.Replicas, r.Record)
	}
	sort.Slice(g.Replicas, func(i, j int) bool { return g.Replicas[i].Name < g.Replicas[j].Name })
	for _, change := range changes {
		change(g)
	}
	entry, err := g.Entry()
	if err != nil {
		t.Fatalf("found ledger: %v", err)
	}
	c.Genesis, c.Entry, c.Hash = g, entry, ledger.LeafHash(entry)
	return c
}

// Key makes a key.
func Key(t testing.TB) *keys.PrivateKey {
	t.Helper()
	k, err := keys.Generate()
	if err != nil {
		t.Fatalf("generate key: %v", err)
	}
	return k
}

// NewIdentity makes a replica's keys and finds it a free port on loopback.
func NewIdentity(t testing.TB, name, operator string) *Identity {
	t.Helper()
	i := &Identity{Key: Key(t), Certificate: Certificate(t, name)}
	pin, err := replica.CertificatePin(i.Certificate)
	if err != nil {
		t.Fatalf("pin certificate: %v", err)
	}
	i.Record = ledger.Replica{
		Cosigner: i.Key.Cosigner44().Public(), Name: name, Operator: operator,
		Peer: freeport.Address(t), Public: i.Key.Public().Bytes(), TLSPin: pin,
	}
	return i
}

// Rekeyed is the same replica with new keys, at the same place.
func (i *Identity) Rekeyed(t testing.TB) *Identity {
	t.Helper()
	fresh := NewIdentity(t, i.Record.Name, i.Record.Operator)
	fresh.Record.Peer = i.Record.Peer
	fresh.Record.API = i.Record.API
	return fresh
}

// Certificate makes a self-signed one.
func Certificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("generate TLS key: %v", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatalf("make certificate: %v", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
