package replica

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// The keys of one replica, which rotates them by itself (DESIGN.md, "Its own
// rotation"). The first is the configuration's and stays where it is; those after
// it are key files in the folder keys, and a file ring-LINE says which is which.

const (
	ringFile = "ring-" // and the id of the line, shortened: the keys of this replica
	keysDir  = "keys"  // ID.key: key files of those after the first
)

// ringName is the file of a line. A key file that is exchanged, and put back, finds
// its own ring again.
func ringName(line ledger.Hash) string { return ringFile + line.String()[:16] }

// keyFile is where the secret of a later key is.
func keyFile(id ledger.Hash) string { return filepath.Join(keysDir, id.String()[:16]+".key") }

// keyFileName is the form of what newKey writes, before and after it is linked:
// the folder may hold what is not ours.
var keyFileName = regexp.MustCompile(`^([0-9a-f]{16}\.key|\.new-[0-9]+)$`)

// ringRecord is the file ring-LINE.
type ringRecord struct {
	Active ledger.Hash  `json:"active"` // that the newest certified state names
	Keys   []ringKey    `json:"keys"`   // in the order of their use
	Line   ledger.Hash  `json:"line"`   // the first one's id: the replica's server
	Next   *ledger.Hash `json:"next,omitempty"`
	Said   []byte       `json:"said,omitempty"` // the envelope that announces next
}

// ringKey is one key: its public halves, by which this replica knows its own
// signatures, stay when its secret is gone.
type ringKey struct {
	Cosigner []byte  `json:"cosigner"`
	Ended    *uint64 `json:"ended,omitempty"` // the epoch in which another took its place
	File     string  `json:"file,omitempty"`  // none: the configuration's, or destroyed
	Public   []byte  `json:"public"`
}

func (k ringKey) id() ledger.Hash { return sha256.Sum256(k.Public) }

// identity is a key whose secret is here.
type identity struct {
	id          ledger.Hash
	key         *keys.PrivateKey
	c44         *keys.Cosigner44
	certificate tls.Certificate
	pin         ledger.Hash
}

// ring is one immutable version of the keys.
type ring struct {
	record ringRecord
	held   []*identity // in the order of record.Keys, without those that are destroyed
}

// newLine is the ring of a configured key that has no file: it was seated under
// it, or never rotated.
func newLine(first *identity) *ring {
	return &ring{record: ringRecord{Active: first.id, Keys: []ringKey{first.public()}, Line: first.id}, held: []*identity{first}}
}

// openRing takes the ring that is on the disk. The directory is locked by now: who
// had it before may have changed the ring to the last.
func (r *Replica) openRing() error {
	g, err := r.readRing()
	if err != nil {
		return err
	}
	r.ring.Store(g)
	r.wire.show(g.certificates())
	return nil
}

// readRing reads the keys of this replica; those that it holds already it keeps.
func (r *Replica) readRing() (*ring, error) {
	was := r.ring.Load()
	g := &ring{}
	name := ringName(r.id)
	if had, err := r.files.readChecked(name, &g.record); err != nil {
		return nil, err
	} else if !had {
		return newLine(was.identity(r.id)), nil
	}
	if g.record.Line != r.id {
		return nil, &FileError{File: name, Reason: "it is of another line"}
	}
	for _, one := range g.record.Keys {
		if one.File == "" && one.id() != r.id {
			continue
		}
		held := was.identity(one.id())
		if held == nil {
			var err error
			held, err = r.cfg.readKey(r.files.path(one.File), one.id())
			used := one.id() == g.record.Active || g.record.Next != nil && one.id() == *g.record.Next
			if err != nil && !used {
				r.log.Warn("the secret of a former key can't be read; it goes on without", "key", one.id().String(), "error", err)
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		g.held = append(g.held, held)
	}
	if g.active() == nil || g.record.Next != nil && g.next() == nil {
		return nil, &FileError{File: name, Reason: "a key in use has no file"}
	}
	return g, nil
}

func (c *Config) readKey(path string, id ledger.Hash) (*identity, error) {
	file, err := keys.ReadFile(path, c.Rotation.passphrase)
	if err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	if ledger.Hash(file.Key.ID()) != id {
		return nil, &FileError{File: filepath.Join(keysDir, filepath.Base(path)), Reason: "it is another key than the ring says"}
	}
	certificate, err := certificateOf(file.Key, c.Name)
	if err != nil {
		return nil, err
	}
	return newIdentity(file.Key, certificate)
}

func newIdentity(key *keys.PrivateKey, certificate tls.Certificate) (*identity, error) {
	pin, err := CertificatePin(certificate)
	if err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	return &identity{id: ledger.Hash(key.ID()), key: key, c44: key.Cosigner44(), certificate: certificate, pin: pin}, nil
}

func (i *identity) public() ringKey {
	return ringKey{Cosigner: i.c44.Public(), Public: i.key.Public().Bytes()}
}

// identity gives a key whose secret is here, or nil.
func (g *ring) identity(id ledger.Hash) *identity {
	for _, one := range g.held {
		if one.id == id {
			return one
		}
	}
	return nil
}

func (g *ring) active() *identity { return g.identity(g.record.Active) }

// next is the key that is announced, or is to be; nil when there is none.
func (g *ring) next() *identity {
	if g.record.Next == nil {
		return nil
	}
	return g.identity(*g.record.Next)
}

// knows says whether a key is or was of this ring.
func (g *ring) knows(id ledger.Hash) bool {
	return slices.ContainsFunc(g.record.Keys, func(k ringKey) bool { return k.id() == id })
}

// in gives the key under which this replica is active in an authority, or nil.
func (g *ring) in(a ledger.Authority) *identity {
	for _, one := range g.held {
		if isActive(a, one.id) {
			return one
		}
	}
	return nil
}

// with gives the ring that a record with further or fewer secrets makes.
func (g *ring) with(record ringRecord, held ...*identity) *ring {
	made := &ring{record: record}
	for _, one := range append(slices.Clone(g.held), held...) {
		if slices.ContainsFunc(record.Keys, func(k ringKey) bool {
			return k.id() == one.id && (k.File != "" || one.id == record.Line)
		}) {
			made.held = append(made.held, one)
		}
	}
	return made
}

// certificates are what this replica shows with a ring: the active key's, whichever
// a peer asks for, and, while it can't know whether the ledger has taken the next
// one over, that in turn.
func (g *ring) certificates() *ownCertificates {
	own := &ownCertificates{use: &g.active().certificate, named: map[string]*tls.Certificate{}}
	for _, one := range g.held {
		own.named[pinHint(one.pin)] = &one.certificate
	}
	if next := g.next(); next != nil {
		own.maybe = &next.certificate
	}
	return own
}

// changeRing makes a ring durable, and then uses it.
func (r *Replica) changeRing(g *ring) error {
	if err := r.files.replaceChecked(ringName(g.record.Line), g.record); err != nil {
		r.doubtful.Store(true)
		return err
	}
	r.doubtful.Store(false)
	r.ring.Store(g)
	r.wire.know(g.certificates())
	return nil
}

// settleRing goes on with the ring that is on the disk after a write of it failed:
// the new one may have got its name before that.
func (r *Replica) settleRing() error {
	if !r.doubtful.Load() {
		return nil
	}
	g, err := r.readRing()
	if err != nil {
		return err
	}
	return r.changeRing(g) // a name that is read may not be durable
}

// dropUnnamed destroys the file of a key whose ring could not be written, unless the
// ring on the disk names it all the same.
func (r *Replica) dropUnnamed(id ledger.Hash, file string) error {
	g, err := r.readRing()
	if err != nil {
		r.swept = false
		return err
	}
	if g.knows(id) {
		return nil
	}
	return r.dropFile(file)
}

// dropFile destroys a key file that the ring does not name, or no more; what the disk
// refuses now is looked for at each step.
func (r *Replica) dropFile(file string) error {
	err := r.files.destroy(file)
	if err != nil {
		r.swept = false
	}
	return err
}

// checkLines refuses to begin a new line with a key to which this replica rotated
// by itself.
func (r *Replica) checkLines() error {
	all, err := readDirNames(r.files.dir)
	if err != nil {
		return err
	}
	for _, name := range all {
		if !strings.HasPrefix(name, ringFile) || strings.HasSuffix(name, ".tmp") || name == ringName(r.id) {
			continue
		}
		var record ringRecord
		if _, err := r.files.readChecked(name, &record); err != nil {
			return err
		}
		if slices.ContainsFunc(record.Keys, func(k ringKey) bool { return k.id() == r.id }) {
			return fmt.Errorf("this replica rotated to the configured key by itself: configure its first one, %s", record.Line)
		}
	}
	return nil
}

// inUse says whether the certified state has this replica under the ring's active key.
func (r *Replica) inUse(g *ring) bool {
	sealed := r.shell.certified.Load()
	if sealed == nil {
		return false
	}
	me, ok := sealed.state.Replica(r.cfg.Name)
	return ok && me.Server() == r.id && me.KeyID() == g.record.Active
}

// sweepKeys destroys, once after a start and after a failure to, the key files that the
// ring does not name: a crash came before the ring did, so nothing was signed with them,
// they ended, or they are of a line that ended with replica.rekey. It waits until the certified state has this
// replica under the key in use: a ring that got lost would look like a new line.
func (r *Replica) sweepKeys() error {
	g := r.ring.Load()
	if r.swept || !r.inUse(g) {
		return nil
	}
	named := map[string]bool{keyFile(r.id): true} // the configured one, if it is kept here
	for _, one := range g.record.Keys {
		named[one.File] = true
	}
	names, err := readDirNames(r.files.path(keysDir))
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(keysDir, name)
		if named[path] || !keyFileName.MatchString(name) {
			continue
		}
		if err := r.files.destroy(path); err != nil {
			return err
		}
		r.log.Info("key file without a ring destroyed", "file", path)
	}
	r.swept = true
	return nil
}

// newKey makes a key file, and reads it back as a start does.
func (r *Replica) newKey() (*identity, string, error) {
	key, err := keys.Generate()
	if err != nil {
		return nil, "", err
	}
	id := ledger.Hash(key.ID())
	name := keyFile(id)
	operator := ""
	if me, ok := r.shell.now.Load().state.Replica(r.cfg.Name); ok {
		operator = me.Operator
	}
	file := &keys.File{Name: r.cfg.Name, Role: fsm.RoleReplica, Operator: operator, Created: int64(r.now()), Key: key}
	if r.cfg.Rotation.Passphrase == nil {
		err = keys.WriteInsecureFile(r.files.path(name), file)
	} else if passphrase, failed := r.cfg.Rotation.Passphrase(); failed != nil {
		err = failed
	} else {
		var options []keys.Option
		if factor := r.cfg.Rotation.WorkFactor; factor > 0 {
			options = append(options, keys.WorkFactor(factor))
		}
		err = keys.WriteFile(r.files.path(name), file, passphrase, options...)
	}
	if err != nil {
		return nil, "", err
	}
	// Crash here: a file that no ring names; after the next start it is destroyed.
	if err := r.cfg.Hooks.rotation("file"); err != nil {
		return nil, "", err
	}
	made, err := r.cfg.readKey(r.files.path(name), id)
	if err != nil {
		return nil, "", errors.Join(err, r.dropFile(name))
	}
	return made, name, nil
}

// The validity of a certificate is without meaning: the ledger pins its key.
var (
	certificateFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	certificateUntil = time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)
)

// certificateOf makes the TLS certificate of a key that this replica rotated to.
// Its private key is derived from the same seed (HKDF-SHA-256), so it rotates
// alongside and is on no disk; the certificate is made anew at each start, its pin
// is the key's.
func certificateOf(key *keys.PrivateKey, name string) (tls.Certificate, error) {
	seed := key.Seed()
	defer keys.WipeBytes(seed[:])
	for n := range 8 { // a scalar beyond the order of the curve is as likely as 1 in 2^32
		scalar, err := hkdf.Key(sha256.New, seed[:], nil, fmt.Sprintf("quorate/tls-key/v1 %d", n), 32)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("derive TLS key: %w", err)
		}
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
		keys.WipeBytes(scalar)
		if err != nil {
			continue
		}
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("make TLS certificate: %w", err)
		}
		template := &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: certificateFrom, NotAfter: certificateUntil, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("make TLS certificate: %w", err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
	}
	return tls.Certificate{}, errors.New("derive TLS key: no scalar")
}

// ownSignature says whether one of this replica's keys, present or past, made a
// cosignature.
func (r *Replica) ownSignature(s cosigned) bool {
	branch := ledger.Branch(r.genesis, r.generation.Load())
	return slices.ContainsFunc(r.ring.Load().record.Keys, func(k ringKey) bool {
		me := ledger.AuthorityReplica{Name: r.cfg.Name, Public: k.Public, Cosigner: k.Cosigner}
		return s.Verify(branch, s.head, me) == nil
	})
}
