package ledger

import (
	"encoding/binary"
	"fmt"
	"strings"
)

type checkpointCase struct {
	name, result string
	note         []byte
}

// checkpointCases are notes of h, judged under w.now: four active replicas,
// threshold 3, and r05 joining.
func checkpointCases(w *world, h Head) []checkpointCase {
	var cases []checkpointCase
	add := func(name, result string, note []byte) { cases = append(cases, checkpointCase{name, result, note}) }
	signed := func(signers ...string) *Checkpoint { return w.sign(h, signers...) }
	withLog := signed("r01", "r02", "r03")
	withLog.LogLines = w.log.Sign(h, 1_700_000_005)
	whole := string(withLog.Note())
	add("three of four, with the log's lines", "certified", withLog.Note())
	add("all four", "certified", signed("r01", "r02", "r03", "r04").Note())
	slim := signed("r01", "r02", "r04")
	for i := range slim.Cosignatures {
		slim.Cosignatures[i] = slim.Cosignatures[i].WithoutMLDSA44()
	}
	add("ML-DSA-65 lines alone", "certified", slim.Note())
	add("with a witness's line", "certified", append(slim.Note(), (noteLine("witness.test/w", [4]byte{1, 2, 3, 4}, make([]byte, 72))+"\n")...))
	add("with a line of an unknown key of the log", "certified", []byte(strings.Replace(string(slim.Note()), "\n\n", "\n\n"+noteLine(worldOrigin, [4]byte{1}, make([]byte, 64))+"\n", 1)))
	add("two of four", "short", signed("r01", "r02").Note())
	add("no line at all", "short", signed().Note())
	add("the joining replica does not count", "short", signed("r01", "r02", "r05").Note())
	add("a key that is not the replica's does not count", "short", signed("r01", "r02", "r03:other").Note())
	add("a replica with two keys counts once", "short", signed("r01", "r01:other", "r02").Note())
	add("a stranger does not count", "short", signed("r01", "r02", "stranger").Note())

	moved := signed("r01", "r02", "r03")
	moved.Head.Root[0] ^= 1
	add("lines of another root", "bad_signature", moved.Note())
	moved = signed("r01", "r02", "r03")
	moved.Head.Size++
	add("lines of another size", "bad_signature", moved.Note())
	late := signed("r01", "r02", "r03", "r04")
	late.Cosignatures[3].Time++
	add("another time than was signed", "bad_signature", late.Note())
	swapped := signed("r01", "r02", "r03", "r04")
	swapped.Cosignatures[0].MLDSA65, swapped.Cosignatures[1].MLDSA65 = swapped.Cosignatures[1].MLDSA65, swapped.Cosignatures[0].MLDSA65
	add("signatures of two replicas swapped", "bad_signature", swapped.Note())
	bad44 := signed("r01", "r02", "r03", "r04")
	bad44.Cosignatures[3].MLDSA44[9] ^= 1
	add("one wrong ML-DSA-44 line among four", "bad_signature", bad44.Note())
	badLog := signed("r01", "r02", "r03")
	other := Head{Origin: h.Origin, Size: h.Size, Root: Hash{1}}
	badLog.LogLines = w.log.Sign(other, 1_700_000_005)[:1]
	add("the log's Ed25519 line of another head", "bad_signature", badLog.Note())
	badLog.LogLines = w.log.Sign(other, 1_700_000_005)[1:]
	add("the log's ML-DSA-44 line of another head", "bad_signature", badLog.Note())
	wrongPurpose := signed("r01", "r02", "r03")
	name := CosignerName(h.Origin, "r03")
	wrongPurpose.Cosignatures[2].MLDSA65 = testKey("r03").Sign(h.message44(name, wrongPurpose.Cosignatures[2].Time))
	add("ML-DSA-65 signature of the message for ML-DSA-44", "bad_signature", wrongPurpose.Note())

	elsewhere := Head{Origin: "ledger.test/other", Size: h.Size, Root: h.Root}
	add("another origin", "other_origin", w.sign(elsewhere, "r01", "r02", "r03").Note())

	lines := strings.SplitAfter(whole, "\n") // 3 of text, 1 empty, 2 of the log, 6 of replicas
	join := func(order ...int) []byte {
		var b strings.Builder
		for _, i := range order {
			b.WriteString(lines[i])
		}
		return []byte(b.String())
	}
	add("a cosignature twice", "malformed", join(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 9))
	add("a cosignature twice, apart", "malformed", join(0, 1, 2, 3, 6, 7, 8, 9, 6, 7))
	add("replicas out of order", "malformed", join(0, 1, 2, 3, 8, 9, 6, 7, 10, 11))
	add("the log's lines last", "malformed", join(0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 4, 5))
	add("ML-DSA-65 before ML-DSA-44", "malformed", join(0, 1, 2, 3, 7, 6, 8, 9, 10, 11))
	add("an ML-DSA-44 line alone", "malformed", join(0, 1, 2, 3, 6, 7, 8, 9, 10))
	add("the ML-DSA-44 line of another replica", "malformed", join(0, 1, 2, 3, 6, 9, 10, 11))
	add("an extension line", "malformed", join(0, 1, 2, 2, 3, 6, 7, 8, 9, 10, 11))
	add("no root", "malformed", join(0, 1, 3, 6, 7))
	add("empty", "malformed", nil)
	add("no line feed at the end", "malformed", []byte(strings.TrimSuffix(whole, "\n")))
	add("an empty line at the end", "malformed", []byte(whole+"\n"))
	replace := func(name, old, new string) {
		add(name, "malformed", []byte(strings.Replace(whole, old, new, 1)))
	}
	replace("size with a leading zero", "\n3\n", "\n03\n")
	replace("size with a plus", "\n3\n", "\n+3\n")
	replace("size 0", "\n3\n", "\n0\n")
	replace("size 2^53", "\n3\n", "\n9007199254740992\n")
	replace("carriage returns", "\n3\n", "\r\n3\r\n")
	replace("a hyphen for the em dash", "— ", "- ")
	replace("two spaces", "— ", "—  ")
	replace("root in base64url", lines[2], strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(lines[2]))
	replace("a name with a space", "/replica/r01", "/replica/r 01")
	replace("a replica's name in capitals", "/replica/r01", "/replica/R01")
	zeroTime := signed("r01", "r02", "r03")
	zeroTime.Cosignatures[0].Time = 0
	add("time 0", "malformed", zeroTime.Note())
	twoTimes := signed("r01")
	k := testKey("r01")
	second := Cosign(w.hash, k, k.Cosigner44(), "r01", h, 1_800_000_000)
	note := twoTimes.Head.Body()
	note = fmt.Appendf(note, "\n%s\n%s\n", noteLine(name, second.ID44, timedSignature(second.Time, second.MLDSA44)),
		noteLine(name, twoTimes.Cosignatures[0].ID65, timedSignature(twoTimes.Cosignatures[0].Time, twoTimes.Cosignatures[0].MLDSA65)))
	add("the two lines of a replica have different times", "malformed", note)
	cut := signed("r01")
	cut.Cosignatures[0].MLDSA65 = cut.Cosignatures[0].MLDSA65[1:]
	add("a signature of 3,308 bytes", "malformed", cut.Note())
	tooMany := signed()
	for i := range 129 {
		tooMany.OtherLines = append(tooMany.OtherLines, noteLine("witness.test/w", [4]byte(binary.BigEndian.AppendUint32(nil, uint32(i))), make([]byte, 72)))
	}
	add("129 lines", "malformed", tooMany.Note())
	return cases
}
