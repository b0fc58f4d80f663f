package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/freeport"

	"github.com/quorate/quorate/test/stagehand"
)

const (
	liarName       = "r4"
	replicas       = 4
	quorateProgram = "quorate"
)

// scene is a ledger of three honest replicas and a liar, each a process, in a
// directory of its own.
type scene struct {
	*stagehand.Scene
	founding
	genesis    ledger.Hash
	entry      []byte
	members    []*member // r1 to r4
	people     map[string]*keys.File
	recoveries uint64 // the generation that statements are for
	heads      *heads
}

// member is one replica: its process, and where it is.
type member struct {
	name      string
	peer, api string
	program   string
	process   *stagehand.Process
	files     int // descriptors once it was ready
}

func (m *member) url() string { return "http://" + m.api }

func (m *member) running() bool { return m.process != nil }

// founding is what tells one scene's ledger from another's.
type founding struct {
	fourth    string // the program of r4
	operators string // of the ceremony, in YAML
	policy    string // likewise
}

// ofReplicas is the founding of a scene of which a replica is the liar.
var ofReplicas = founding{
	fourth:    "liar",
	operators: "[{name: aurora}, {name: borealis}, {name: cirrus}, {name: delta, sponsor: aurora}]",
	policy:    "{max_skew_millis: 3000, tick_millis: 2000}",
}

// found makes keys and genesis, with a new ledger's usual policy but a tick and
// a skew that suit a test.
func found(ctx context.Context, bin, dir string, r *stagehand.Report, f founding) (*scene, error) {
	house, err := stagehand.NewScene(r, bin, dir)
	if err != nil {
		return nil, err
	}
	s := &scene{Scene: house, founding: f, people: map[string]*keys.File{}}
	var ceremony strings.Builder
	fmt.Fprintf(&ceremony, "origin: example.com/byzantine\noperators: %s\ncouncil: [keys/alice.pub, keys/bob.pub, keys/carol.pub]\npolicy: %s\nreplicas:\n", f.operators, f.policy)
	for _, g := range [][2]string{{"alice", "aurora"}, {"bob", "borealis"}, {"carol", "cirrus"}} {
		if err := s.keygen(ctx, "governor", g[0], g[1]); err != nil {
			return nil, err
		}
	}
	port, err := freeport.Find(2 * replicas)
	if err != nil {
		return nil, err
	}
	for i, operator := range []string{"aurora", "borealis", "cirrus", "delta"} {
		m := &member{name: fmt.Sprintf("r%d", i+1), peer: fmt.Sprintf("127.0.0.1:%d", port+i), api: fmt.Sprintf("127.0.0.1:%d", port+replicas+i), program: quorateProgram}
		if m.name == liarName {
			m.program = f.fourth
		}
		if err := s.keygen(ctx, "replica", m.name, operator, "--peer", m.peer, "--api", m.url()); err != nil {
			return nil, err
		}
		s.members = append(s.members, m)
		fmt.Fprintf(&ceremony, "  - {public: keys/%s.pub}\n", m.name)
	}
	if err := os.WriteFile(filepath.Join(dir, "ceremony.yaml"), []byte(ceremony.String()), 0o600); err != nil {
		return nil, err
	}
	if _, err := s.Quorate(ctx, "init", "--ceremony", "ceremony.yaml", "--out", "ledger"); err != nil {
		return nil, err
	}
	if s.entry, err = os.ReadFile(filepath.Join(dir, "ledger", "genesis.cbor")); err != nil {
		return nil, err
	}
	_, s.genesis, err = ledger.ParseGenesis(s.entry)
	s.heads = newHeads(s)
	return s, err
}

func (s *scene) keygen(ctx context.Context, role, name, operator string, more ...string) error {
	args := append([]string{"keygen", role, name, "--operator", operator, "--out", "keys", "--insecure-plain"}, more...)
	if _, err := s.Quorate(ctx, args...); err != nil {
		return err
	}
	file, err := keys.ReadFile(filepath.Join(s.Dir, "keys", name+".key"), nil)
	s.people[name] = file
	return err
}

// start starts a replica; its log goes to a file.
func (s *scene) start(m *member) (err error) {
	args := []string{"--config", filepath.Join("ledger", m.name+".yaml")}
	if m.program == quorateProgram {
		args = append([]string{"server"}, args...)
	}
	m.process, err = s.Start(m.name, m.program, args...)
	return err
}

// end sends a signal to a replica and waits until its process is gone.
func (s *scene) end(m *member, sig os.Signal) error {
	if !m.running() {
		return nil
	}
	process := m.process
	m.process = nil
	if err := process.End(sig, stopLimit); errors.Is(err, stagehand.ErrLate) {
		return err
	}
	return nil
}

// gone says whether a process that should run has ended by itself.
func (m *member) gone() (error, bool) {
	if !m.running() {
		return nil, false
	}
	err, gone := m.process.Gone()
	if gone {
		m.process = nil
	}
	return err, gone
}

func (s *scene) startAll(ctx context.Context) error {
	for _, m := range s.members {
		if err := s.start(m); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, m := range s.members {
		if err := s.Await(ctx, m.name+" is ready", func() bool {
			status, err := s.status(ctx, m)
			return err == nil && status.Ready && status.Certified > 0
		}); err != nil {
			return err
		}
		m.files = m.process.OpenFiles()
	}
	return nil
}

// stopAll ends every process and looks at what is left.
func (s *scene) stopAll() {
	for _, m := range s.honest() {
		if err, ended := m.gone(); ended {
			s.Fail("%s is no longer running: %v", m.name, err)
		} else if m.running() && m.files > 0 {
			if now := m.process.OpenFiles(); now > m.files+moreFiles {
				s.Fail("%s has %d descriptors open, %d at the start", m.name, now, m.files)
			}
		}
	}
	for _, m := range s.members {
		if err := s.end(m, syscall.SIGTERM); err != nil {
			s.Fail("%v", err)
		}
	}
	s.Leftovers()
	s.HTTP.CloseIdleConnections()
}

func (s *scene) member(name string) *member {
	for _, m := range s.members {
		if m.name == name {
			return m
		}
	}
	panic("no member " + name)
}

func (s *scene) liar() *member { return s.member(liarName) }

// honest lists the three others, or all four where no replica lies.
func (s *scene) honest() []*member {
	if s.fourth == quorateProgram {
		return s.members
	}
	return s.members[:replicas-1]
}

func (s *scene) status(ctx context.Context, m *member) (*client.Status, error) {
	var status client.Status
	return &status, s.GetJSON(ctx, m.url()+"/v1/status", &status)
}

// client is a verifying client of these replicas, in this order; trust is where
// it keeps what it verified, "" for nowhere.
func (s *scene) client(trust string, of ...*member) (*client.Client, error) {
	o := client.Options{Genesis: s.genesis, TrustDir: trust}
	for _, m := range of {
		o.Servers = append(o.Servers, m.url())
	}
	return client.New(o)
}

// record is a statement of a governor.
func (s *scene) record(author, text string) []byte {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	envelope, err := ledger.Sign(s.people[author].Key, ledger.Payload{Author: author, Generation: s.recoveries, Ledger: s.genesis, Type: ledger.TypeRecord,
		Nonce: nonce, Expires: uint64(time.Now().Add(time.Hour).UnixMilli())}, ledger.Record{Text: text})
	if err != nil {
		panic(err) // our own shape
	}
	return envelope
}

// submit submits a record at one replica and says how long it took to be
// certified, as checked by the client itself.
func (s *scene) submit(ctx context.Context, m *member, author, text string) (time.Duration, error) {
	c, err := s.client("", m)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, censorWithin) // the slowest of lies
	defer cancel()
	begin := time.Now()
	envelopes := [][]byte{s.record(author, text)}
	for {
		answer, err := c.Submit(ctx, envelopes, client.WaitCertified)
		if err == nil && answer.Verified {
			return time.Since(begin), nil
		}
		if ctx.Err() != nil {
			return time.Since(begin), fmt.Errorf("not certified after %.1f s: %w", time.Since(begin).Seconds(), err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lead makes a replica the leader, through the operator's socket of whoever
// leads.
func (s *scene) lead(ctx context.Context, to *member) error {
	return s.Await(ctx, to.name+" leads", func() bool {
		for _, m := range s.members {
			if !m.running() {
				continue
			}
			status, err := s.status(ctx, m)
			if err != nil || status.Role != "leader" {
				continue
			}
			if m == to && status.Ready {
				return true
			}
			if m != to {
				o := client.NewOperatorClient(filepath.Join(s.Dir, "ledger", m.name, "operator.sock"))
				_ = o.Transfer(ctx, to.name)
				o.Close()
			}
		}
		return false
	})
}

// leader is who leads in the eyes of the honest replicas, "" for nobody.
func (s *scene) leader(ctx context.Context) string {
	for _, m := range s.honest() {
		if status, err := s.status(ctx, m); err == nil && m.running() && status.Role == "leader" {
			return m.name
		}
	}
	for _, m := range s.honest() {
		if status, err := s.status(ctx, m); err == nil && m.running() && status.Leader != "" {
			return status.Leader
		}
	}
	return ""
}

// tell is a request to the liar's control socket.
func (s *scene) tell(ctx context.Context, method, path string, q url.Values, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://liar"+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	answer, err := stagehand.Unix(filepath.Join(s.Dir, "ledger", liarName, "liar.sock"), stagehand.Patience).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("liar: %s %s: %s", method, path, bytes.TrimSpace(b))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// lie makes the liar tell a lie, from now on.
func (s *scene) lie(ctx context.Context, name string, parameters ...string) error {
	return s.tell(ctx, http.MethodPut, "/lie/"+name, pairs(parameters), nil)
}

// truth makes it honest again.
func (s *scene) truth(ctx context.Context) error {
	return s.tell(ctx, http.MethodDelete, "/lie", nil, nil)
}

// do makes the liar do something once, and gives what it says of it.
func (s *scene) do(ctx context.Context, name string, parameters ...string) (string, error) {
	var text string
	err := s.tell(ctx, http.MethodPost, "/do/"+name, pairs(parameters), &text)
	return text, err
}

func pairs(list []string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(list); i += 2 {
		q.Set(list[i], list[i+1])
	}
	return q
}

// deeds is what the liar says that it did.
func (s *scene) deeds(ctx context.Context) string {
	var deeds []struct {
		What  string
		Count int
	}
	if err := s.tell(ctx, http.MethodGet, "/deeds", nil, &deeds); err != nil {
		return err.Error()
	}
	var list []string
	for _, d := range deeds {
		list = append(list, fmt.Sprintf("%s (%d×)", d.What, d.Count))
	}
	return strings.Join(list, "; ")
}

// refusals counts what the guard of a replica refused, by rule.
func (s *scene) refusals(ctx context.Context, m *member) map[string]int {
	b, err := s.Get(ctx, m.url()+"/metrics")
	if err != nil {
		return nil
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(b)) {
		var rule string
		var n float64
		if rest, ok := strings.CutPrefix(line, `quorate_guard_refusals_total{rule="`); ok {
			var number string
			rule, number, _ = strings.Cut(rest, `"} `)
			if _, err := fmt.Sscan(number, &n); err == nil {
				counts[rule] = int(n)
			}
		}
	}
	return counts
}

// counter reads one counter of a replica's metrics; -1 when it is not there.
func (s *scene) counter(ctx context.Context, m *member, name string) float64 {
	b, err := s.Get(ctx, m.url()+"/metrics")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var n float64
			if _, err := fmt.Sscan(rest, &n); err == nil {
				return n
			}
		}
	}
	return -1
}
