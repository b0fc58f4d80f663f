package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// argumentKind says how a value of key=value is read.
type argumentKind int

const (
	argText    argumentKind = iota
	argName                 // a principal's or operator's name
	argNames                // names with commas
	argBool                 // true or false
	argNumber               // a whole number
	argMembers              // @governor.pub,…
	argReplica              // @replica.pub
	argJoin                 // @f.cose, or a statement id
	argJoins                // @f.cose,…, or statement ids
	argBytes                // base64url
	argKey                  // the id of a key, 64 hex digits
)

// arguments is what each action takes (FORMAT.md section 4). policy.change is
// not among them: policy.go reads it.
var arguments = map[string]map[string]argumentKind{
	"council.change":   {"add": argMembers, "remove": argNames},
	"council.reseat":   {"council": argMembers},
	"epoch.advance":    {},
	"format.upgrade":   {"format": argNumber},
	"key.revoke":       {"from": argNumber, "key": argKey, "reason": argText},
	"ledger.freeze":    {"reason": argText},
	"ledger.unfreeze":  {},
	"log.rekey":        {"ed25519": argBytes, "mldsa44": argBytes},
	"node.admit":       {"joins": argJoins},
	"node.quarantine":  {"name": argName, "reason": argText},
	"node.rekey":       {"from": argNumber, "join": argJoin},
	"node.release":     {"name": argName, "reason": argText},
	"node.remove":      {"from": argNumber, "name": argName},
	"operator.add":     {"name": argName, "sponsor": argName},
	"operator.remove":  {"name": argName},
	"replica.add":      {"replica": argReplica, "peer": argText, "api": argText},
	"replica.rekey":    {"from": argNumber, "replica": argReplica, "peer": argText, "api": argText},
	"replica.remove":   {"cause": argBool, "from": argNumber, "name": argName},
	actionPolicyChange: {},
}

const actionPolicyChange = "policy.change"

// optional are the arguments that may be left out.
var optional = []string{
	"council.change.add", "council.change.remove", "operator.add.sponsor", "replica.remove.cause",
	"replica.add.peer", "replica.add.api", "replica.rekey.peer", "replica.rekey.api",
	"node.rekey.from", "node.remove.from", "replica.rekey.from", "replica.remove.from",
}

// request is a proposal before it is signed.
type request struct {
	Action string
	Args   canon.Raw
	Memo   string
	Joins  [][]byte // the join statements that were given as files
}

// argumentReader turns texts into the args of one action.
type argumentReader struct {
	action string
	args   map[string]any
	peer   string // of a replica
	api    string
	joins  [][]byte
}

// readArguments reads the arguments of an action; paths after @ are taken from
// dir.
func readArguments(action string, given map[string]any, dir string) (*request, error) {
	known, ok := arguments[action]
	if !ok {
		return nil, usage("one of "+strings.Join(ledger.ActionsOf(ledger.Format), ", "), "unknown action %q", action)
	}
	r := &argumentReader{action: action, args: map[string]any{}}
	for _, key := range sortedKeys(given) {
		kind, ok := known[key]
		if !ok {
			return nil, usage(fmt.Sprintf("%s takes %s", action, orText(strings.Join(sortedKeys(known), ", "), "no arguments")),
				"%s has no argument %q", action, key)
		}
		if err := r.read(key, kind, given[key], dir); err != nil {
			return nil, err
		}
	}
	for _, key := range sortedKeys(known) {
		if _, has := given[key]; !has && !slices.Contains(optional, action+"."+key) {
			return nil, usage(fmt.Sprintf("say %s=…", key), "%s needs the argument %q", action, key)
		}
	}
	if err := r.readdress(); err != nil {
		return nil, err
	}
	raw, err := canon.Marshal(r.args)
	if err != nil {
		return nil, fmt.Errorf("encode arguments: %w", err)
	}
	return &request{Action: action, Args: raw, Joins: r.joins}, nil
}

// keyValues reads key=value arguments; a key that stands twice makes a list.
func keyValues(args []string) (map[string]any, error) {
	given := map[string]any{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, usage("write arguments as key=value", "argument %q is not key=value", arg)
		}
		if before, twice := given[key]; twice {
			value = before.(string) + "," + value
		}
		given[key] = value
	}
	return given, nil
}

// read reads one argument. A value that is neither a text nor a list of texts
// comes from a file and is taken as it stands.
func (r *argumentReader) read(key string, kind argumentKind, value any, dir string) error {
	text, ok := asText(value)
	if !ok {
		r.args[key] = value
		return nil
	}
	switch kind {
	case argText:
		switch {
		case key == "peer":
			r.peer = text
		case key == "api":
			r.api = text
		default:
			r.args[key] = text
		}
	case argName:
		if err := ledger.ValidName(text); err != nil {
			return usage("correct it", "%s: %w", key, err)
		}
		r.args[key] = text
	case argNames:
		names := strings.Split(text, ",")
		slices.Sort(names)
		r.args[key] = names
	case argBool:
		if text != "true" && text != "false" {
			return usage("say "+key+"=true", "%s: want true or false, got %q", key, text)
		}
		if text == "true" {
			r.args[key] = true
		}
	case argNumber:
		n, err := strconv.ParseUint(text, 10, 53)
		if err != nil {
			return usage("correct it", "%s: want a whole number, got %q", key, text)
		}
		r.args[key] = n
	case argBytes:
		if _, err := base64.RawURLEncoding.Strict().DecodeString(text); err != nil {
			return usage("quorate operator log-key prints them", "%s: want unpadded base64url", key)
		}
		r.args[key] = text
	case argKey:
		id, err := ledger.ParseHash(strings.ToLower(text))
		if err != nil {
			return usage("quorate list keys and quorate explain key show whole ids", "%s: want the id of a key, 64 hex digits", key)
		}
		r.args[key] = id
	case argMembers:
		return r.members(key, text, dir)
	case argReplica:
		path, err := fileOf(key, text, dir, "the replica's public key file")
		if err != nil {
			return err
		}
		p, err := readPublic(path, fsm.RoleReplica)
		if err != nil {
			return err
		}
		r.args[key] = p
	case argJoin, argJoins:
		return r.readJoins(key, kind, text, dir)
	}
	return nil
}

// readdress puts peer= and api= into the replica, once all is read.
func (r *argumentReader) readdress() error {
	p, ok := r.args["replica"].(*keys.PublicFile)
	if !ok {
		return nil
	}
	replica, err := replicaOf(p, r.peer, r.api)
	if err != nil {
		return err
	}
	r.args["replica"] = replica
	return nil
}

func (r *argumentReader) members(key, text, dir string) error {
	var members []ledger.Member
	for _, item := range strings.Split(text, ",") {
		path, err := fileOf(key, item, dir, "a governor's public key file")
		if err != nil {
			return err
		}
		p, err := readPublic(path, fsm.RoleGovernor)
		if err != nil {
			return err
		}
		members = append(members, memberOf(p))
	}
	slices.SortFunc(members, func(x, y ledger.Member) int { return strings.Compare(x.Name, y.Name) })
	r.args[key] = members
	return nil
}

func (r *argumentReader) readJoins(key string, kind argumentKind, text, dir string) error {
	var ids []ledger.Hash
	for _, item := range strings.Split(text, ",") {
		if !strings.HasPrefix(item, "@") {
			id, err := ledger.ParseHash(item)
			if err != nil {
				return usage("name a join file as "+key+"=@FILE", "%s: %w", key, err)
			}
			ids = append(ids, id)
			continue
		}
		statements, err := readStatements(relativeTo(dir, item[1:]))
		if err != nil {
			return err
		}
		for _, s := range statements {
			if s.Payload.Type != ledger.TypeJoin {
				return usage("make one with quorate join", "%s holds a %s, want a join", item[1:], s.Payload.Type)
			}
			if err := checkJoin(s); err != nil {
				return refused("ask the node's operator for it again", "%s: %w", item[1:], err)
			}
			ids = append(ids, s.ID)
			r.joins = append(r.joins, s.Envelope)
		}
	}
	if kind == argJoin {
		if len(ids) != 1 {
			return usage("name one join", "%s: want one join, got %d", key, len(ids))
		}
		r.args[key] = ids[0]
		return nil
	}
	// Sorted and none twice, so that one set of nodes has one proposal.
	slices.SortFunc(ids, func(x, y ledger.Hash) int { return bytes.Compare(x[:], y[:]) })
	ids = slices.Compact(ids)
	if len(ids) > ledger.MaxJoins {
		return usage("make several proposals", "%s: %d joins, at most %d in one proposal", key, len(ids), ledger.MaxJoins)
	}
	r.args[key] = ids
	return nil
}

// checkJoin checks a join by itself: it is signed by the key that it holds.
func checkJoin(s *ledger.Statement) error {
	body, err := ledger.DecodeBody[ledger.Join](s)
	if err != nil {
		return err
	}
	public, err := keys.ParsePublicKey(body.Public)
	if err != nil {
		return err
	}
	if ledger.Hash(public.ID()) != s.KeyID || !s.Verify(public) {
		return fmt.Errorf("the signature of the join of %s does not verify", body.Name)
	}
	return nil
}

// joinsIn lists the join files of a directory, as an argument.
func joinsIn(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.cose"))
	if err != nil || len(files) == 0 {
		return "", usage("quorate join --out DIR/NAME.cose makes them", "%s holds no *.cose files", dir)
	}
	for i := range files {
		absolute, err := filepath.Abs(files[i])
		if err != nil {
			return "", err
		}
		files[i] = "@" + absolute
	}
	return strings.Join(files, ","), nil
}

func fileOf(key, text, dir, what string) (string, error) {
	if !strings.HasPrefix(text, "@") {
		return "", usage(fmt.Sprintf("name %s as %s=@FILE", what, key), "%s: %q is not @FILE", key, text)
	}
	return relativeTo(dir, text[1:]), nil
}

// asText gives the text of a value of key=value, or of a file where it is a
// text, number, truth value or a list of texts.
func asText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case []any:
		var list []string
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return "", false
			}
			list = append(list, text)
		}
		return strings.Join(list, ","), len(list) > 0
	}
	return "", false
}

// readStatements reads a file of one statement or of a bundle.
func readStatements(path string) ([]*ledger.Statement, error) {
	data, err := readBounded(path, ledger.MaxBundle*ledger.MaxEnvelopeBytes)
	if err != nil {
		return nil, usage("check the path", "read %s: %w", path, err)
	}
	envelopes, err := keys.SplitSequence(data, ledger.MaxBundle)
	if err != nil {
		return nil, refused("a statement file is what quorate propose, approve, join or record wrote with --out", "read %s: %w", path, err)
	}
	var list []*ledger.Statement
	for i, envelope := range envelopes {
		s, err := ledger.ParseStatement(envelope)
		if err != nil {
			return nil, fmt.Errorf("read %s: statement %d: %w", path, i, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// writeStatements writes envelopes as a CBOR sequence to a new file.
func writeStatements(path string, envelopes [][]byte) error {
	return writeNew(path, bytes.Join(envelopes, nil), 0o644)
}

// isFile says whether an argument names a file rather than an id.
func isFile(arg string) bool {
	if _, err := ledger.ParseHash(arg); err == nil {
		return false
	}
	_, err := os.Stat(arg)
	return err == nil || strings.ContainsAny(arg, "./")
}
