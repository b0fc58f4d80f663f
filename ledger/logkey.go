package ledger

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"github.com/quorate/quorate/ledger/keys"
)

// LogSigner makes the log's own lines, which carry no authority and go only on
// certified heads, because third-party tools want a log key.
type LogSigner struct {
	origin  string
	ed25519 ed25519.PrivateKey
	mldsa44 *keys.Cosigner44
}

// NewLogSigner makes the log's keys of their seeds.
func NewLogSigner(origin string, ed25519Seed, mldsa44Seed [32]byte) *LogSigner {
	return &LogSigner{
		origin:  origin,
		ed25519: ed25519.NewKeyFromSeed(ed25519Seed[:]),
		mldsa44: keys.NewCosigner44(mldsa44Seed),
	}
}

// Keys gives the public halves.
func (l *LogSigner) Keys() LogKeys {
	return LogKeys{
		Ed25519: bytes.Clone(l.ed25519.Public().(ed25519.PublicKey)),
		MLDSA44: l.mldsa44.Public(),
	}
}

// Format prints no more than whose key it is, whatever the verb.
func (l *LogSigner) Format(state fmt.State, _ rune) { fmt.Fprintf(state, "log key of %s", l.origin) }

// Sign gives the log's two lines on h, of C2SP types 0x01 and 0x06, the latter
// as a cosignature at unixSeconds, at least 1.
func (l *LogSigner) Sign(h Head, unixSeconds uint64) []string {
	invariant(h.Origin == l.origin, "a log signs heads of its own origin")
	invariant(unixSeconds > 0, "a cosignature has a time")
	public := l.Keys()
	return []string{
		noteLine(l.origin, noteKeyID(l.origin, noteEd25519, public.Ed25519), ed25519.Sign(l.ed25519, h.Body())),
		noteLine(l.origin, noteKeyID(l.origin, noteMLDSA44, public.MLDSA44),
			timedSignature(unixSeconds, l.mldsa44.Sign(h.message44(l.origin, unixSeconds)))),
	}
}

// DistinctLines gives the lines of a note without those whose key has the name and id of
// one before: a note that has both can't be read. Ids have four bytes, and whoever makes
// a key can look for one of a given id.
func DistinctLines(lines []string) []string {
	type key struct {
		name string
		id   [noteKeyIDLen]byte
	}
	seen, distinct := map[key]bool{}, []string{}
	for _, text := range lines {
		line, err := parseSignatureLine(text)
		if k := (key{line.name, line.id}); err == nil && !seen[k] {
			seen[k] = true
			distinct = append(distinct, text)
		}
	}
	return distinct
}

// LogVKey is the log's Ed25519 verifier key (C2SP signed-note).
func LogVKey(origin string, k LogKeys) string { return noteVKey(origin, noteEd25519, k.Ed25519) }

// LogMLDSA44VKey is the log's ML-DSA-44 verifier key.
func LogMLDSA44VKey(origin string, k LogKeys) string { return noteVKey(origin, noteMLDSA44, k.MLDSA44) }

// LogVKeys are the log's verifier keys from a size on.
type LogVKeys struct {
	From             uint64 // size of the first head that bears their lines
	Ed25519, MLDSA44 string
}

// LogVKeys lists the verifier keys that the log has had, the first ones first: it
// is the authority chain that says so, and so outlives them all.
func (c *Chain) LogVKeys() []LogVKeys {
	var list []LogVKeys
	for _, s := range c.steps {
		k := LogVKeys{From: max(s.head.Size, 1), Ed25519: LogVKey(s.authority.Origin, s.authority.Log), MLDSA44: LogMLDSA44VKey(s.authority.Origin, s.authority.Log)}
		if len(list) == 0 || list[len(list)-1].Ed25519 != k.Ed25519 || list[len(list)-1].MLDSA44 != k.MLDSA44 {
			list = append(list, k)
		}
	}
	return list
}

// LogVKeysText is the file log.vkeys: a line for each pair, its size and the two
// verifier keys, apart by a space.
func LogVKeysText(list []LogVKeys) []byte {
	var b bytes.Buffer
	for _, k := range list {
		fmt.Fprintf(&b, "%d %s %s\n", k.From, k.Ed25519, k.MLDSA44)
	}
	return b.Bytes()
}

// CosignerVKey is a replica's ML-DSA-44 verifier key.
func CosignerVKey(origin string, r AuthorityReplica) string {
	return noteVKey(CosignerName(origin, r.Name), noteMLDSA44, r.Cosigner)
}

// TLogPolicy gives the C2SP tlog-policy by which third-party tools count our
// quorum: the log's keys, and the active replicas as a group with the cosign
// threshold. The replicas are no witnesses to submit to; they have URLs because
// some parsers demand one.
func TLogPolicy(a Authority) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "log %s https://%s\n", LogVKey(a.Origin, a.Log), a.Origin)
	fmt.Fprintf(&b, "log %s https://%s\n", LogMLDSA44VKey(a.Origin, a.Log), a.Origin)
	active := a.Active()
	for _, r := range active {
		fmt.Fprintf(&b, "witness replica/%s %s https://%s\n", r.Name, CosignerVKey(a.Origin, r), CosignerName(a.Origin, r.Name))
	}
	fmt.Fprintf(&b, "group replicas %d", CosignThreshold(len(active)))
	for _, r := range active {
		fmt.Fprintf(&b, " replica/%s", r.Name)
	}
	b.WriteString("\nquorum replicas\n")
	return b.Bytes()
}
