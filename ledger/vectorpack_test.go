package ledger

import "testing"

// The vectors of FORMAT.md section 18.

type packVectors struct {
	About   string       `json:"about"`
	Strings []string     `json:"strings"` // what the texts are shortened by
	Genesis hexBytes     `json:"genesis"`
	Cases   []packVector `json:"cases"`
}

type packVector struct {
	Name     string `json:"name"`
	File     string `json:"file"`
	Holds    bool   `json:"holds"`
	Size     uint64 `json:"size,omitempty"`
	Endorsed uint64 `json:"endorsed,omitempty"` // milliseconds
}

func makePacks(t testing.TB) packVectors {
	v := packVectors{About: "Join packs (FORMAT.md section 18), checked with nothing but the genesis hash. endorsed is when the council's threshold had endorsed the head; how old that may be is not looked into."}
	genesis, cases := packCases(t)
	v.Genesis = genesis[:]
	for _, c := range cases {
		made := packVector{Name: c.name, File: string(c.file), Holds: c.why == "", Endorsed: c.endorsed}
		if made.Holds {
			report, err := verifyPack(c.file, genesis)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			made.Size = report.Head.Size
		}
		v.Cases = append(v.Cases, made)
	}
	var texts []*string
	for i := range v.Cases {
		texts = append(texts, &v.Cases[i].File)
	}
	v.Strings = shorten(texts...)
	return v
}

func checkPacks(t *testing.T, v packVectors) {
	sorts := map[string]int{"holds": 0, "refused": 0}
	for _, c := range v.Cases {
		report, err := verifyPack(lengthen(t, c.File, v.Strings), Hash(v.Genesis))
		if (err == nil) != c.Holds {
			t.Errorf("%s: want it to hold: %t; got %v", c.Name, c.Holds, err)
			continue
		}
		if !c.Holds {
			sorts["refused"]++
			continue
		}
		sorts["holds"]++
		if report.Head.Size != c.Size || report.Endorsed != c.Endorsed {
			t.Errorf("%s: size %d, endorsed %d", c.Name, report.Head.Size, report.Endorsed)
		}
	}
	wants(t, sorts)
}
