package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/ledger/keys"
)

// judgedAnswers is what became of the answers to a restoring's requests.
type judgedAnswers struct {
	*keys.Judged
	own []string // restore.key, and the requests whose answers are sealed to it
}

// judge opens the answers with restore.key, for a purpose: those that are given for a
// test restore nothing.
func (a *app) judge(b *keys.Backup, r *backupRecord, dir, passphraseFile string, answers []string, purpose string) (*judgedAnswers, error) {
	path := filepath.Join(dir, restoreFile)
	file, err := a.readKey(path, passphraseFile)
	if err != nil {
		return nil, err
	}
	defer file.Wipe()
	if file.Role != roleRestore && file.Role != roleTest || file.Identity == "" {
		return nil, refused("name the directory into which quorate key restore wrote the requests", "%s is the key of a %s, not of a restoring", path, file.Role)
	}
	if file.Role == roleTest && purpose != keys.TestPurpose {
		return nil, notForTest(path)
	}
	recipient, err := keys.RecipientOf(file.Identity)
	if err != nil {
		return nil, err
	}
	answers = a.once(answers)
	if len(answers) > keys.MaxShares {
		return nil, refused("give each answer once", "there are %d answers, at most %d", len(answers), keys.MaxShares)
	}
	judged, ids := &judgedAnswers{own: []string{path}}, map[string][32]byte{}
	for _, s := range b.Shares {
		path := filepath.Join(dir, s.Holder+requestFile)
		raw, err := readBounded(path, keys.MaxEnvelope)
		if err != nil {
			continue // not here any more: then the sealing binds
		}
		request, err := keys.ParseShareRequest(raw)
		if err != nil || request.Recipient != recipient || request.Holder != s.Holder {
			continue // not of this restoring
		}
		if request.Purpose == keys.TestPurpose && purpose != keys.TestPurpose {
			return nil, notForTest(path)
		}
		ids[s.Holder], judged.own = request.ID, append(judged.own, path)
	}
	var list []keys.Answer
	for _, path := range answers {
		content, err := readBounded(path, 2*keys.MaxSealedShare)
		if err != nil {
			return nil, refused("check --answers", "read %s: %w", path, err)
		}
		list = append(list, keys.Answer{File: path, Content: content})
	}
	judged.Judged = b.Judge(list, file.Identity, r.entry(), ids)
	return judged, nil
}

func notForTest(path string) error {
	return refused("quorate key verify-backup opens the backup with them; to have the key, ask again with --purpose restore, in another directory",
		"the shares were asked for to test the backup, says %s: their holders gave none to restore the key", path)
}

// once gives each path once, in their order.
func (a *app) once(paths []string) []string {
	seen := map[string]bool{}
	var list []string
	for _, path := range paths {
		whole, err := filepath.Abs(path)
		if err != nil {
			whole = filepath.Clean(path)
		}
		if seen[whole] {
			a.note("note: %s is named twice, and counts once", clean(path))
			continue
		}
		seen[whole], list = true, append(list, path)
	}
	return list
}

// openJudged opens the backup with what is good, or says what is missing.
func openJudged(b *keys.Backup, r *backupRecord, j *keys.Judged) (*keys.File, error) {
	file, err := b.Open(j.Good)
	switch {
	case err == nil:
		return file, nil
	case errors.Is(err, keys.ErrTooFewShares):
		return nil, tooFew(b, j)
	case errors.Is(err, keys.ErrMismatch), errors.Is(err, keys.ErrShares):
		return nil, refused(newRestore, "the shares are the recorded ones and do not open it: whoever made this backup (%s) recorded shares of something else: %w", r.entry(), err)
	}
	return nil, err
}

// tooFew names each wrong answer, then says how many are missing, and whose.
func tooFew(b *keys.Backup, j *keys.Judged) error {
	var text strings.Builder
	for _, bad := range j.Bad {
		fmt.Fprintf(&text, "%s\n", clean(bad.Error()))
	}
	missing := int(b.Threshold) - len(j.Good)
	verb, shares := "are", "shares"
	if missing == 1 {
		verb = "is"
	}
	if len(j.Good) == 1 {
		shares = "share"
	}
	have := "have"
	if len(j.Missing) == 1 {
		have = "has"
	}
	wrongly := ""
	if len(j.Bad) > 0 {
		wrongly = " (or answered wrongly, above)"
	}
	fmt.Fprintf(&text, "%d good %s of %d needed: %d %s missing; %s %s not answered%s", len(j.Good), shares, b.Threshold, missing, verb, strings.Join(j.Missing, ", "), have, wrongly)
	return refused("send the requests of the missing ones to them: quorate key share REQUEST --key KEY --out FILE", "%s", text.String())
}

func judgedText(w io.Writer, j *keys.Judged) {
	for i, holder := range j.Holders {
		fmt.Fprintf(w, "%-12s good (%s)\n", holder, clean(j.Files[i]))
	}
	for _, bad := range j.Bad {
		fmt.Fprintf(w, "%-12s %s\n", clean(orText(bad.Holder, "?")), clean(bad.Error()))
	}
}
