package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// policyRequest reads the arguments of policy.change: policy=@FILE (JSON or
// YAML, whole), or changes of the current policy by path, such as
// quota=4096, rules.node.admit.threshold=3 or protection.window_ticks=24.
func policyRequest(given map[string]any, dir string, current func() (*ledger.Policy, error)) (*request, error) {
	policy, err := editPolicy(given, dir, current)
	if err != nil {
		return nil, err
	}
	raw, err := canon.Marshal(map[string]any{"policy": *policy})
	if err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	return &request{Action: actionPolicyChange, Args: raw}, nil
}

func editPolicy(given map[string]any, dir string, current func() (*ledger.Policy, error)) (*ledger.Policy, error) {
	if value, whole := given["policy"]; whole {
		if len(given) > 1 {
			return nil, usage("give policy alone, or single fields", "policy and single fields exclude each other")
		}
		return wholePolicy(value, dir)
	}
	if len(given) == 0 {
		return nil, usage("say e.g. quota=4096 or rules.node.admit.threshold=3", "policy.change names no change")
	}
	policy, err := current()
	if err != nil {
		return nil, err
	}
	changed := *policy
	changed.Rules = maps.Clone(policy.Rules)
	if policy.Protection != nil {
		protection := *policy.Protection
		changed.Protection = &protection
	}
	if policy.Keys != nil {
		rules := *policy.Keys
		changed.Keys = &rules
	}
	for _, path := range sortedKeys(given) {
		text, ok := asText(given[path])
		if !ok {
			return nil, usage("give a number or names", "%s: not a single value", path)
		}
		if err := setPolicy(&changed, path, text); err != nil {
			return nil, usage("quorate list policy shows the fields", "%w", err)
		}
	}
	return &changed, nil
}

func wholePolicy(value any, dir string) (*ledger.Policy, error) {
	text, isText := value.(string)
	var doc any = value
	if isText {
		path, err := fileOf("policy", text, dir, "a policy file")
		if err != nil {
			return nil, err
		}
		var file struct {
			Policy  any `yaml:"policy"`
			Version any `yaml:"version"` // list policy prints it; it is not part of the policy
		}
		if err := readYAML(path, &file); err != nil {
			return nil, err
		}
		doc = file.Policy
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	raw, err = canonical(raw)
	if err != nil {
		return nil, err
	}
	var policy ledger.Policy
	if err := canon.Unmarshal(raw, &policy); err != nil {
		return nil, usage("quorate list policy --output json gives a whole one", "policy: %w", err)
	}
	return &policy, nil
}

// canonical gives the canonical form of plain JSON.
func canonical(raw []byte) ([]byte, error) {
	var v any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return canon.Marshal(wholeNumbers(v))
}

// wholeNumbers replaces the numbers of decoded JSON by uint64 where they fit;
// the canonical encoder refuses the others.
func wholeNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			v[k] = wholeNumbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = wholeNumbers(item)
		}
	case json.Number:
		if n, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	}
	return v
}

func setPolicy(p *ledger.Policy, path, text string) error {
	number := map[string]*uint64{
		"closed_retention_millis": &p.ClosedRetentionMillis, "epoch_millis": &p.EpochMillis,
		"grace_epochs": &p.GraceEpochs, "key_epochs": &p.KeyEpochs, "max_head_age_millis": &p.MaxHeadAgeMillis,
		"max_skew_millis": &p.MaxSkewMillis, "proposal_lifetime_millis": &p.ProposalLifetimeMillis,
		"quota": &p.Quota, "tick_millis": &p.TickMillis,
	}
	if field, ok := number[path]; ok {
		return setNumber(field, path, text)
	}
	if name, ok := strings.CutPrefix(path, protectionPrefix); ok {
		return setProtection(p, name, path, text)
	}
	if name, ok := strings.CutPrefix(path, keysPrefix); ok {
		return setKeys(p, name, path, text)
	}
	rest, ok := strings.CutPrefix(path, "rules.")
	cut := strings.LastIndexByte(rest, '.')
	if !ok || cut < 0 {
		return fmt.Errorf("%s: the policy has no such field", path)
	}
	action, field := rest[:cut], rest[cut+1:]
	rule, ok := p.Rules[action]
	if !ok && action == ledger.ActionRevoke {
		rule, ok = p.Rules["node.remove"] // which holds until it has one of its own
	}
	if !ok {
		return fmt.Errorf("%s: there is no action %q", path, action)
	}
	var err error
	switch field {
	case "threshold":
		err = setNumber(&rule.Threshold, path, text)
	case "delay_millis":
		err = setNumber(&rule.DelayMillis, path, text)
	case "vetoers":
		rule.Vetoers = nil
		if text != "" {
			rule.Vetoers = strings.Split(text, ",")
			slices.Sort(rule.Vetoers)
		}
	default:
		err = fmt.Errorf("%s: a rule has threshold, delay_millis and vetoers", path)
	}
	p.Rules[action] = rule
	return err
}

// keysPrefix is how the fields of the policy's rules of keys are named.
const keysPrefix = "keys."

// setKeys changes one field of the rules of keys. A policy that names none has the
// default ones, of which the change then makes the policy's own.
func setKeys(p *ledger.Policy, name, path, text string) error {
	if p.Keys == nil {
		own := ledger.DefaultKeys()
		p.Keys = &own
	}
	if name == "backup_roles" {
		p.Keys.BackupRoles = []string{}
		if text != "" {
			p.Keys.BackupRoles = strings.Split(text, ",")
			slices.Sort(p.Keys.BackupRoles)
		}
		return nil
	}
	field, ok := keysFields(p.Keys)[name]
	if !ok {
		return fmt.Errorf("%s: the rules of keys have no such field", path)
	}
	return setNumber(field, path, text)
}

// keysFields are the numbers of the rules of keys by their names in JSON.
func keysFields(k *ledger.Keys) map[string]*uint64 {
	return map[string]*uint64{
		"late_epochs": &k.LateEpochs, "replica_key_epochs": &k.ReplicaKeyEpochs, "retention_epochs": &k.RetentionEpochs,
		"rotate_epochs": &k.RotateEpochs, "test_epochs": &k.TestEpochs,
	}
}

// protectionPrefix is how the fields of the policy's protection are named.
const protectionPrefix = "protection."

// setProtection changes one field of the protection. A policy that names none
// has the default one, of which the change then makes a policy's own.
func setProtection(p *ledger.Policy, name, path, text string) error {
	if p.Protection == nil {
		own := p.Protects()
		p.Protection = &own
	}
	field, ok := protectionFields(p.Protection)[name]
	if !ok {
		return fmt.Errorf("%s: the protection has no such field", path)
	}
	return setNumber(field, path, text)
}

// protectionFields are the fields of a protection by their names in JSON.
func protectionFields(p *ledger.Protection) map[string]*uint64 {
	v := reflect.ValueOf(p).Elem()
	fields := make(map[string]*uint64, v.NumField())
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if field, ok := v.Field(i).Addr().Interface().(*uint64); ok {
			fields[name] = field
		}
	}
	return fields
}

func setNumber(field *uint64, path, text string) error {
	n, err := strconv.ParseUint(text, 10, 53)
	if err != nil {
		return fmt.Errorf("%s: want a whole number, got %q", path, text)
	}
	*field = n
	return nil
}
