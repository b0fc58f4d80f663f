package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
)

const origin = "example.com/quorate/sim"

// principal is a governor with its private key.
type principal struct {
	name, operator string
	key            *keys.PrivateKey
}

// identity is a replica's keys and what the ledger records of it.
type identity struct {
	record      ledger.Replica
	key         *keys.PrivateKey
	certificate tls.Certificate
	generation  int // of its keys, counted from 0
}

// founding is a founded ledger with every private key. All keys come from their
// names, so that a replay has the same ones.
type founding struct {
	entry    []byte
	hash     ledger.Hash
	genesis  *ledger.Genesis
	council  []principal
	replicas []*identity
	logKey   *replica.LogKey
}

func seedOf(name string) [32]byte { return sha256.Sum256([]byte("sim " + name)) }

func keyOf(name string) *keys.PrivateKey { return keys.FromSeed(seedOf(name)) }

var operators = []string{"op-a", "op-b", "op-c", "op-d"}

// found makes a ledger of n replicas, with four governors of four operators.
func found(t testing.TB, n int) *founding {
	t.Helper()
	f := &founding{logKey: &replica.LogKey{Ed25519: seedOf("log 25519"), MLDSA44: seedOf("log 44")}}
	g := &ledger.Genesis{
		Created: uint64(time.Now().UnixMilli()), Format: ledger.Format, Origin: origin,
		Log: f.logKey.Public(origin), Policy: ledger.DefaultPolicy(len(operators)),
	}
	g.Policy.MaxSkewMillis = maxSkew
	lives := ledger.DefaultKeys()
	lives.ReplicaKeyEpochs = replicaKeyEpochs
	g.Policy.Keys = &lives
	for i, name := range []string{"alice", "bob", "carol", "dave"} {
		p := principal{name, operators[i], keyOf(name)}
		f.council = append(f.council, p)
		g.Operators = append(g.Operators, ledger.Operator{Name: operators[i]})
		g.Council = append(g.Council, ledger.Member{Name: name, Operator: p.operator, Public: p.key.Public().Bytes()})
	}
	for i := range n {
		f.replicas = append(f.replicas, newIdentity(t, i, 0))
		g.Replicas = append(g.Replicas, f.replicas[i].record)
	}
	entry, err := g.Entry()
	if err != nil {
		t.Fatalf("found ledger: %v", err)
	}
	f.genesis, f.entry, f.hash = g, entry, ledger.LeafHash(entry)
	return f
}

// numberOf is the place of a name like r3 among all, counted from 0.
func numberOf(name string) int {
	var number int
	_, _ = fmt.Sscanf(name, "r%d", &number)
	return number - 1
}

// newIdentity makes the keys of a generation of replica i, counted from 0.
func newIdentity(t testing.TB, i, generation int) *identity {
	t.Helper()
	name := fmt.Sprintf("r%d", i+1)
	one := &identity{generation: generation, key: keyOf(fmt.Sprint(name, " ", generation)), certificate: certificate(t, fmt.Sprint(name, " tls ", generation))}
	pin, err := replica.CertificatePin(one.certificate)
	if err != nil {
		t.Fatalf("pin certificate: %v", err)
	}
	one.record = ledger.Replica{
		Cosigner: one.key.Cosigner44().Public(), Name: name, Operator: operators[i%len(operators)],
		Peer: fmt.Sprintf("10.0.0.%d:7400", i+1), Public: one.key.Public().Bytes(), TLSPin: pin,
	}
	return one
}

// certificate makes a self-signed one of Ed25519, whose handshakes all have the
// same length.
func certificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	seed := seedOf(name)
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sim"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatalf("make certificate: %v", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
