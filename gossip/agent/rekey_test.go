package agent

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// onDisk has a member's key in a file, as programs have it.
func (m *member) onDisk(t *testing.T) {
	t.Helper()
	m.config.KeyFile = filepath.Join(t.TempDir(), "node.key")
	file := &keys.File{Name: m.name, Role: fsm.RoleNode, Operator: m.operator, Key: m.key}
	if err := keys.WriteInsecureFile(m.config.KeyFile, file); err != nil {
		t.Fatal(err)
	}
	m.key = nil
}

// rekeyed makes another key for a member and has the council put it in force.
func (f *fleet) rekeyed(m *member, o RekeyOptions) *NewKey {
	f.t.Helper()
	made, err := Rekey(m.config, o)
	if err != nil {
		f.t.Fatal(err)
	}
	key := made.File.Key
	join := f.cluster.Sign(replicatest.Principal{Name: m.name, Key: key}, ledger.TypeJoin, ledger.Join{
		Name: m.name, Operator: made.File.Operator, Peer: key.PeerKey().Public().(ed25519.PublicKey), Public: key.Public().Bytes(),
	})
	st, err := ledger.ParseStatement(join)
	if err != nil {
		f.t.Fatal(err)
	}
	// No state knows yet whose the join is; what the action rests on is the node's record.
	view, err := f.cluster.Leader().Replica.View(f.cluster.Context(), replica.Linearizable)
	if err != nil {
		f.t.Fatal(err)
	}
	base, err := view.State.BaseFor("node.remove", canon.Raw(`{"name":"`+m.name+`"}`))
	if err != nil {
		f.t.Fatal(err)
	}
	args, err := canon.Marshal(map[string]any{"join": st.ID})
	if err != nil {
		f.t.Fatal(err)
	}
	f.decideOn(base, "node.rekey", args, join)
	return made
}

// speaks waits until a member speaks under a key: the ledger takes what it signs, at
// once, and nothing troubles it.
func (f *fleet) speaks(m *member, key *keys.PrivateKey) {
	f.t.Helper()
	id := ledger.Hash(key.ID())
	f.await("it has the key in use", []*member{m}, func(m *member) bool { return m.identity.Load().active == id })
	st, err := m.out.sign(ledger.TypeRecord, func(uint64) any { return ledger.Record{Text: "under another key"} })
	if err != nil {
		f.t.Fatalf("%s says nothing: %v; status %+v", m.name, err, m.Status())
	}
	if st.KeyID != id {
		f.t.Errorf("%s signs with %s, want %s", m.name, st.KeyID, id)
	}
	f.cluster.Submit(f.cluster.Leader(), replica.WaitCertified, st.Envelope)
	f.await("it has no trouble with its key", []*member{m}, func(m *member) bool {
		s := m.Status()
		return s.Key != nil && s.Key.Held && s.Key.ID == id.String() && s.Trouble[troubleKey]+s.Trouble[troubleRotation]+s.Trouble[troublePeerKey] == ""
	})
}

// meets waits until two members are connected.
func (f *fleet) meets(m, other *member) {
	f.t.Helper()
	f.await("it meets "+m.name, []*member{other}, func(o *member) bool {
		return slices.ContainsFunc(o.Mesh().Peers(), func(p mesh.Member) bool { return p.Name == m.name })
	})
}

// A node gets another key by decision: while its agent runs, which goes on meanwhile and
// then speaks with it at once; and after all of its keys were lost.
func TestAgentTakesAKeyMadeForIt(t *testing.T) {
	f := newFleet(t, 3, 2, nil, nil)
	m, other := f.agents[0], f.agents[1]
	m.onDisk(t)
	f.start(m)
	f.start(other)
	f.connected(f.agents, 1)
	before, first := m.Mesh(), m.identity.Load().active
	made := f.rekeyed(m, RekeyOptions{})
	if !made.Plain || made.File.Operator != m.operator {
		t.Errorf("the key: plain %v, of %s", made.Plain, made.File.Operator)
	}
	f.speaks(m, made.File.Key)
	f.await("its peer key is another", []*member{m}, func(m *member) bool { return m.Mesh() != before })
	f.meets(m, other)

	// It is found again, and the seqs that it used are not used again.
	m.stop()
	f.start(m)
	f.speaks(m, made.File.Key)

	// All keys are lost, and what remembers them is not.
	m.stop()
	for _, path := range []string{m.config.KeyFile, made.Path} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := New(m.config, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without any key it starts: %v, %v", a, err)
	}
	if _, err := Rekey(m.config, RekeyOptions{Plain: true}); !errors.Is(err, ErrNoOperator) {
		t.Fatalf("of no operator: %v", err)
	}
	again := f.rekeyed(m, RekeyOptions{Plain: true, Operator: m.operator})
	f.start(m)
	f.speaks(m, again.File.Key)
	f.meets(m, other)
	if held := m.identity.Load().held; len(held) != 1 || m.identity.Load().ours(first) {
		t.Errorf("it has %d keys", len(held))
	}
}

// lonely is the configuration of a node whose agent ran, with a key file.
func lonely(t *testing.T, passphrase []byte) (*Config, *keys.File) {
	t.Helper()
	dir := t.TempDir()
	c := &Config{Name: "n1", Dir: filepath.Join(dir, "state"), MemoryDir: filepath.Join(dir, "memory"), KeyFile: filepath.Join(dir, "n1.key"), KeyWorkFactor: 10}
	file := &keys.File{Name: "n1", Role: fsm.RoleNode, Operator: "op-a", Key: keys.FromSeed([keys.SeedSize]byte{1})}
	var err error
	if passphrase == nil {
		err = keys.WriteInsecureFile(c.KeyFile, file)
	} else {
		err = keys.WriteFile(c.KeyFile, file, passphrase, keys.WorkFactor(10))
	}
	if err = errors.Join(err, Prepare(c.Dir, c.MemoryDir, file.Key)); err != nil {
		t.Fatal(err)
	}
	return c, file
}

// shelfOf is where a node's keys are.
func shelfOf(t *testing.T, c *Config) *keyFolder {
	t.Helper()
	s := &keyFolder{folder: folder(newVault(c.Dir).keysDir()), keyFile: c.KeyFile}
	if err := os.MkdirAll(string(s.folder), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// contents is every file below a folder, with what is in it.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		found[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A key is made beside the others and nothing else changes; it may speak at once; a
// second one is refused until the first has been decided on.
func TestRekeyLeavesAllElse(t *testing.T) {
	c, old := lonely(t, nil)
	if _, err := openKeyring(shelfOf(t, c)); err != nil {
		t.Fatal(err)
	}
	before := contents(t, filepath.Dir(c.Dir))
	made, err := Rekey(c, RekeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id := ledger.Hash(made.File.Key.ID())
	after := contents(t, filepath.Dir(c.Dir))
	for path, content := range before {
		if after[path] != content {
			t.Errorf("%s changed", path)
		}
	}
	if n := len(after) - len(before); n != 3 { // the key, its record, and what remembers that beside the disk
		t.Errorf("%d files came", n)
	}
	seqs, err := OpenSeqs(newVault(c.Dir).seqsPath(id), c.MemoryDir, id, Machine())
	if err != nil || seqs.Trouble(0) != nil {
		t.Errorf("the new key may not speak: %v, %v", seqs.Trouble(0), err)
	}
	k, err := openKeyring(shelfOf(t, c))
	if err != nil || k.ring.Active != ledger.Hash(old.Key.ID()) || len(k.ring.Keys) != 1 {
		t.Fatalf("the ring: %+v, %v", k.ring, err)
	}
	look, err := LookAtRing(c)
	if err != nil || look.Waits != made.Path {
		t.Errorf("waits: %q, %v", look.Waits, err)
	}
	var waits *WaitingKeyError
	if _, err := Rekey(c, RekeyOptions{}); !errors.As(err, &waits) || waits.Path != made.Path {
		t.Fatalf("a second one: %v", err)
	}
	f, name, err := k.waiting(id)
	if err != nil || f == nil {
		t.Fatalf("it is not found: %v", err)
	}
	if err := k.adopt(f, name, 3, 0); err != nil {
		t.Fatal(err)
	}
	next, err := Rekey(c, RekeyOptions{})
	if err != nil {
		t.Fatalf("once it is in force: %v", err)
	}
	if err := next.Remove(); err != nil {
		t.Fatal(err)
	}
	if look, err = LookAtRing(c); err != nil || look.Waits != "" {
		t.Errorf("one that was taken back waits: %q, %v", look.Waits, err)
	}
}

// A new key is encrypted as those that are there, or as its maker says.
func TestRekeyEncryptsAsBefore(t *testing.T) {
	c, _ := lonely(t, []byte("right"))
	say := func(text string) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(text), nil }
	}
	before := contents(t, filepath.Dir(c.Dir))
	for name, o := range map[string]RekeyOptions{
		"a wrong passphrase": {Passphrase: say("wrong"), Fresh: say("fresh")},
		"another operator":   {Passphrase: say("right"), Operator: "op-b"},
	} {
		if _, err := Rekey(c, o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	other := *c
	other.Name = "n2"
	var foreign *KeyFileError
	if _, err := Rekey(&other, RekeyOptions{Passphrase: say("right")}); !errors.As(err, &foreign) {
		t.Errorf("for another node: %v", err)
	}
	if after := contents(t, filepath.Dir(c.Dir)); len(after) != len(before) {
		t.Errorf("what is refused leaves files: %d before, %d after", len(before), len(after))
	}
	open := func(made *NewKey, text string) error {
		f, err := keys.ReadFile(made.Path, say(text))
		if err == nil && f.Key.ID() != made.File.Key.ID() {
			err = errors.New("it holds another key")
		}
		return err
	}
	made, err := Rekey(c, RekeyOptions{Passphrase: say("right"), Fresh: say("fresh")})
	if err != nil || made.Plain || open(made, "right") != nil || open(made, "fresh") == nil {
		t.Fatalf("as before: %v, plain %v, %v", err, made.Plain, open(made, "right"))
	}
	if err := made.Remove(); err != nil {
		t.Fatal(err)
	}

	// Nothing is left that says how, and at last nothing that would find the key.
	s := shelfOf(t, c)
	s.ask = say("right")
	if _, err := openKeyring(s); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(c.KeyFile); err != nil {
		t.Fatal(err)
	}
	if made, err = Rekey(c, RekeyOptions{Operator: "op-a", Fresh: say("fresh")}); err != nil || made.Plain || open(made, "fresh") != nil {
		t.Fatalf("afresh: %v", err)
	}
	if err := errors.Join(made.Remove(), os.Remove(filepath.Join(string(s.folder), ringName))); err != nil {
		t.Fatal(err)
	}
	before = contents(t, filepath.Dir(c.Dir))
	if _, err := Rekey(c, RekeyOptions{Operator: "op-a", Fresh: say("fresh")}); !errors.Is(err, ErrNoRing) {
		t.Errorf("without ring and key: %v", err)
	}
	if after := contents(t, filepath.Dir(c.Dir)); len(after) != len(before) {
		t.Errorf("what is refused leaves files: %d before, %d after", len(before), len(after))
	}
}
