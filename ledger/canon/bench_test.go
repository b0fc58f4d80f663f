package canon

import (
	"encoding/json"
	"testing"
)

// approval is a payload of about 300 bytes, the size of most statements.
type approval struct {
	Author     string   `json:"author"`
	Body       Raw      `json:"body"`
	Epoch      *uint64  `json:"epoch,omitempty"`
	Expires    uint64   `json:"expires,omitempty"`
	Generation uint64   `json:"generation"`
	Ledger     [32]byte `json:"ledger"`
	Nonce      [16]byte `json:"nonce,omitempty"`
	Seq        *uint64  `json:"seq,omitempty"`
	Type       string   `json:"type"`
}

type approvalBody struct {
	Memo     string   `json:"memo,omitempty"`
	Proposal [32]byte `json:"proposal"`
}

func benchApproval(tb testing.TB) (approval, []byte) {
	body, err := Marshal(approvalBody{Memo: "Seen with the operators of the northern ring, as agreed on Tuesday.", Proposal: [32]byte{1, 2, 3}})
	if err != nil {
		tb.Fatal(err)
	}
	a := approval{Author: "alice.north", Body: body, Expires: 1790000000000, Ledger: [32]byte{9}, Nonce: [16]byte{7}, Type: "approve"}
	data, err := Marshal(a)
	if err != nil {
		tb.Fatal(err)
	}
	if len(data) < 280 || len(data) > 340 {
		tb.Fatalf("the payload has %d bytes, not about 300", len(data))
	}
	return a, data
}

func BenchmarkMarshal(b *testing.B) {
	a, data := benchApproval(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Marshal(&a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	_, data := benchApproval(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var a approval
		if err := Unmarshal(data, &a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValid(b *testing.B) {
	_, data := benchApproval(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Valid(data); err != nil {
			b.Fatal(err)
		}
	}
}

// The same payload without the gate, for comparison.
func BenchmarkStandardUnmarshal(b *testing.B) {
	_, data := benchApproval(b)
	b.ReportAllocs()
	for b.Loop() {
		var a struct {
			Author     string          `json:"author"`
			Body       json.RawMessage `json:"body"`
			Expires    uint64          `json:"expires"`
			Generation uint64          `json:"generation"`
			Ledger     string          `json:"ledger"`
			Nonce      string          `json:"nonce"`
			Type       string          `json:"type"`
		}
		if err := json.Unmarshal(data, &a); err != nil {
			b.Fatal(err)
		}
	}
}
