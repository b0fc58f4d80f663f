package ledger

import (
	"fmt"
	"testing"
)

// The vectors of FORMAT.md section 17.

type protectionVectors struct {
	About    string          `json:"about"`
	Offences []offenceVector `json:"offences"`
	Draws    []drawVector    `json:"draws"`
}

type offenceVector struct {
	Name     string     `json:"name"`
	Kind     string     `json:"kind"`
	Exhibits []hexBytes `json:"exhibits"`
	Quota    uint64     `json:"quota"`
	Offence  string     `json:"offence,omitempty"` // none: it proves nothing
}

type drawVector struct {
	Name      string       `json:"name"`
	Seed      hexBytes     `json:"seed"`
	Subject   string       `json:"subject"`
	Operator  string       `json:"operator"`
	Stables   []drawStable `json:"stables"`
	Limit     int          `json:"limit"`
	Attestors uint64       `json:"attestors"`
	Drawn     []drawnOne   `json:"drawn"`
}

type drawStable struct {
	Operator string   `json:"operator"`
	Nodes    []string `json:"nodes"`
}

type drawnOne struct {
	Operator string `json:"operator"`
	Node     string `json:"node"`
	Attests  bool   `json:"attests"`
}

func makeProtection(t testing.TB) protectionVectors {
	v := protectionVectors{About: "Evidence and draws (FORMAT.md section 17). An offence is what exhibits prove, as key id/epoch/kind/space/seq or counter/matter/subject; without one they prove nothing. Of a draw, drawn are the monitors of subject, which belongs to operator, by operator; attests says whether each attests in a window with this seed."}
	for _, c := range judged(t) {
		one := offenceVector{Name: c.name, Kind: c.kind, Quota: judgedQuota}
		for _, x := range c.exhibits {
			one.Exhibits = append(one.Exhibits, x.Envelope)
		}
		if c.offence != "" {
			one.Offence = c.exhibits[0].KeyID.String() + c.offence
		}
		v.Offences = append(v.Offences, one)
	}
	for i, size := range []struct{ operators, nodes, limit int }{{1, 1, 32}, {4, 2, 32}, {25, 4, 32}, {40, 3, 32}, {12, 9, 5}} {
		d := drawVector{
			Name: fmt.Sprintf("%d of %d operators with %d nodes each", size.limit, size.operators, size.nodes),
			Seed: hash([]byte{byte(i)}), Subject: "n-000-000", Operator: "op-000", Limit: size.limit, Attestors: 6,
		}
		stables := fleet(size.operators, size.nodes)
		for _, s := range stables {
			d.Stables = append(d.Stables, drawStable(s))
		}
		d.Drawn = drawnBy(d)
		v.Draws = append(v.Draws, d)
	}
	return v
}

func drawnBy(d drawVector) []drawnOne {
	stables := make([]Stable, len(d.Stables))
	for i, s := range d.Stables {
		stables[i] = Stable(s)
	}
	drawn := []drawnOne{}
	monitors := Draw(Hash(d.Seed), d.Subject, d.Operator, stables, d.Limit)
	for _, m := range monitors {
		drawn = append(drawn, drawnOne{m.Operator, m.Node, Attests(Hash(d.Seed), m.Node, d.Attestors, uint64(len(monitors)))})
	}
	return drawn
}

func checkProtection(t *testing.T, v protectionVectors) {
	sorts := map[string]int{"proven": 0, "nothing": 0, "drawn": 0, "attests": 0, "attests not": 0}
	for _, c := range v.Offences {
		exhibits := make([]*Statement, len(c.Exhibits))
		for i, x := range c.Exhibits {
			s, err := ParseStatement(x)
			if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			exhibits[i] = s
		}
		o, err := Judge(c.Kind, exhibits, c.Quota)
		switch {
		case c.Offence == "":
			sorts["nothing"]++
			if err == nil {
				t.Errorf("%s: proves %s", c.Name, o.Key())
			}
		case err != nil || o.Key() != c.Offence:
			t.Errorf("%s: %v, %v", c.Name, o, err)
		default:
			sorts["proven"]++
		}
	}
	for _, d := range v.Draws {
		got := drawnBy(d)
		if fmt.Sprint(got) != fmt.Sprint(d.Drawn) {
			t.Errorf("%s: drawn %v", d.Name, got)
		}
		for _, m := range got {
			sorts["drawn"]++
			if m.Attests {
				sorts["attests"]++
			} else {
				sorts["attests not"]++
			}
		}
	}
	wants(t, sorts)
}
