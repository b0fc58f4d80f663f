package ledger

import "bytes"

// RecordSize is how many bytes the fields of a record have; 0 stands for none.
type RecordSize struct{ Digest, Media, Name, Text int }

// RecordSize is DecodeBody[Record] for whoever wants to know no more than the
// sizes: it copies nothing of a plain text. The statement came from
// ParseStatement, so that its body is canonical.
func (s *Statement) RecordSize() (RecordSize, error) {
	if size, ok := plainRecordSize(s.Payload.Body); ok {
		return size, nil
	}
	r, err := DecodeBody[Record](s)
	return RecordSize{Digest: len(r.Digest), Media: len(r.Media), Name: len(r.Name), Text: len(r.Text)}, err
}

// plainRecordSize reads a canonical object that is a record of texts without
// escapes. Where it is anything else, the general codec has to read it.
func plainRecordSize(body []byte) (size RecordSize, ok bool) {
	if bytes.IndexByte(body, '\\') >= 0 {
		return size, false
	}
	r := plainReader{rest: body}
	r.want("{")
	for i, field := range [...]struct {
		key  string
		size *int
	}{{`"digest":"`, &size.Digest}, {`"media":"`, &size.Media}, {`"name":"`, &size.Name}, {`"text":"`, &size.Text}} {
		before := r.rest
		if len(before) < len(body)-1 && !r.has(",") || !r.has(field.key) {
			r.rest = before
			continue
		}
		length := bytes.IndexByte(r.rest, '"')
		if length <= 0 { // an empty one has to be left out
			return size, false
		}
		text := r.rest[:length]
		r.rest = r.rest[length+1:]
		if *field.size = length; i == 0 {
			digest := make([]byte, payloadText.DecodedLen(length))
			if _, err := payloadText.Decode(digest, text); err != nil {
				return size, false
			}
			size.Digest = len(digest)
		}
	}
	r.want("}")
	return size, !r.bad && len(r.rest) == 0
}
