package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// This file alone turns errors into HTTP statuses. The codes of the rules are
// fsm's, those of the envelope and of canonical JSON come from ledger/keys and
// ledger/canon; the ones below are the API's own, append-only like the others.
const (
	codeBadRequest       = "bad_request"        // 400: not what the route takes
	codeBadParameter     = "bad_parameter"      // 422: a parameter out of its range
	codeWrongStatement   = "wrong_statement"    // 422: not the type, or the proposal, of this route
	codeNotFound         = "not_found"          // 404
	codeMethodNotAllowed = "method_not_allowed" // 405
	codeUnsupportedMedia = "unsupported_media"  // 415
	codeTooLarge         = "too_large"          // 413
	codeRateLimited      = "rate_limited"       // 429: one address asks too much
	codeBusy             = "busy"               // 429: a queue or bound is full
	codeNotLeader        = "not_leader"         // 409: of the operator's socket: only the leader can do this
	codeNoLeader         = "no_leader"          // 503: no leader, no quorum; nothing was acknowledged
	codeUnknownOutcome   = "unknown_outcome"    // 503: submit the same bytes again
	codeDiskFull         = "disk_full"          // 507: writes are refused, reads go on
	codeStopping         = "stopping"           // 503
	codeHalted           = "halted"             // 503
	codeNotReady         = "not_ready"          // 503: no such state yet
	codeGap              = "gap"                // 503: this replica's history is not whole here
	codeDamaged          = "damaged"            // 500: a file was changed on the disk
	codeTimeout          = "timeout"            // 504: not in the time that was given
	codeInternal         = "internal"           // 500: our own error
)

// Problem is the error answer of every route (RFC 9457).
type Problem struct{ client.Problem }

// GetStatus is huma's.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is huma's.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders is huma's.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{"Cache-Control": {"no-store"}}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", retryAfter(p.RetryAfter))
	}
	return h
}

// retryAfter is in whole seconds, at least one.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(int(math.Max(1, math.Ceil(d.Seconds()))))
}

func newProblem(status int, code, path, detail string) *Problem {
	return &Problem{client.Problem{
		Type: "about:blank", Title: http.StatusText(status),
		Status: status, Code: code, Path: path, Detail: detail,
	}}
}

func notFound(format string, args ...any) *Problem {
	return newProblem(http.StatusNotFound, codeNotFound, "", fmt.Sprintf(format, args...))
}

func badParameter(path, format string, args ...any) *Problem {
	return newProblem(http.StatusUnprocessableEntity, codeBadParameter, path, fmt.Sprintf(format, args...))
}

func (p *Problem) after(d time.Duration) *Problem {
	p.RetryAfter = d
	return p
}

// statusCodes are the codes of what huma and the router refuse by themselves.
var statusCodes = map[int]string{
	http.StatusBadRequest:            codeBadRequest,
	http.StatusNotFound:              codeNotFound,
	http.StatusMethodNotAllowed:      codeMethodNotAllowed,
	http.StatusRequestEntityTooLarge: codeTooLarge,
	http.StatusUnsupportedMediaType:  codeUnsupportedMedia,
	http.StatusUnprocessableEntity:   codeBadParameter,
	http.StatusRequestTimeout:        codeTimeout,
}

// humaError makes a Problem of what huma itself refuses. It drops the values
// that huma would echo.
func humaError(status int, message string, errs ...error) huma.StatusError {
	code, ok := statusCodes[status]
	if !ok {
		code = codeInternal
		if status < http.StatusInternalServerError {
			code = codeBadRequest
		}
	}
	p := newProblem(status, code, "", message)
	for _, err := range errs {
		if detailer, ok := err.(huma.ErrorDetailer); ok {
			d := detailer.ErrorDetail()
			p.Path, p.Detail = d.Location, message+": "+d.Message
			break
		}
	}
	if code == codeInternal {
		p.Detail = "an internal error; the replica's log has it"
	}
	return p
}

// huma's way to choose the error document is this variable.
func init() { huma.NewError = humaError }

// statementProblem refuses bytes that are no statement. where names the
// statement within a bundle, "" for a single one.
func statementProblem(err error, where string) *Problem {
	var s *ledger.StatementError
	if !errors.As(err, &s) {
		return newProblem(http.StatusBadRequest, fsm.NotCOSE.String(), where, err.Error())
	}
	code, ok := fsm.CodeNamed(s.Code)
	if !ok {
		code = fsm.NotCOSE
	}
	return newProblem(verdictStatus(code), s.Code, joinPath(where, s.Path), s.Message+advice(code))
}

// joinPath puts where before path; either may be empty.
func joinPath(where, path string) string {
	if where == "" || path == "" {
		return where + path
	}
	return where + "." + path
}

// advice says what to do about a refusal that needs no state to understand.
func advice(code fsm.Code) string {
	switch code.Class() {
	case fsm.ClassMalformed:
		return "; send COSE_Sign1 statements as FORMAT.md section 3 has them, one after another and nothing else"
	case fsm.ClassTooLarge:
		return "; a payload has at most 32 KiB, a bundle at most 512 statements"
	case fsm.ClassContent:
		return "; make the statement anew: what is signed can't be changed"
	}
	return ""
}

// verdictStatus is the status of a rule's refusal.
func verdictStatus(code fsm.Code) int {
	switch code.Class() {
	case fsm.ClassOK:
		return http.StatusOK
	case fsm.ClassMalformed:
		return http.StatusBadRequest
	case fsm.ClassTooLarge:
		return http.StatusRequestEntityTooLarge
	case fsm.ClassContent, fsm.ClassExpired:
		return http.StatusUnprocessableEntity
	case fsm.ClassAuthor:
		return http.StatusForbidden
	case fsm.ClassUnknown:
		return http.StatusNotFound
	case fsm.ClassConflict, fsm.ClassFrozen:
		return http.StatusConflict
	case fsm.ClassLimit:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}

// problemOf turns whatever a handler fails with into the answer. retry is
// what to say where nobody knows better.
func problemOf(err error, retry time.Duration) *Problem {
	var (
		problem  *Problem
		rejected *RejectedError
		busy     *BusyError
		damage   *archive.DamageError
		gap      *archive.GapError
	)
	unavailable := func(code, detail string) *Problem {
		return newProblem(http.StatusServiceUnavailable, code, "", detail).after(retry)
	}
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &rejected):
		return rejectedProblem(rejected, retry)
	case errors.As(err, &busy):
		return newProblem(http.StatusTooManyRequests, codeBusy, "", "too many submissions are waiting; nothing was looked at, come back later").after(max(busy.RetryAfter, retry))
	case errors.As(err, &damage):
		return newProblem(http.StatusInternalServerError, codeDamaged, damage.File,
			fmt.Sprintf("%s is damaged at offset %d and is not served; ask another replica, and restore this one", damage.File, damage.Offset))
	case errors.As(err, &gap):
		return unavailable(codeGap, fmt.Sprintf("this replica has not yet fetched the entries %d to %d; ask another one", gap.From, gap.To-1))
	case errors.Is(err, ErrNotLeader):
		return newProblem(http.StatusConflict, codeNotLeader, "", "this replica does not lead; ask the leader's own socket, its status names it")
	case errors.Is(err, ErrNoLeader):
		return unavailable(codeNoLeader, "there is no leader with a quorum; nothing was acknowledged; try again, a submission with the same bytes")
	case errors.Is(err, ErrUnknownOutcome):
		return unavailable(codeUnknownOutcome, "the outcome is not known; send the same bytes again, which is safe")
	case errors.Is(err, ErrDiskFull), errors.Is(err, archive.ErrFailed):
		return newProblem(http.StatusInsufficientStorage, codeDiskFull, "", "the replica's disk refused a write; writes are refused and reads go on; use another replica, and free or repair this one's disk").after(retry)
	case errors.Is(err, ErrHalted):
		return unavailable(codeHalted, "this replica found that its history is not the ledger's and serves no more; use another one")
	case errors.Is(err, ErrStopped), errors.Is(err, archive.ErrClosed):
		return unavailable(codeStopping, "this replica is stopping; use another one")
	case errors.Is(err, ErrNotReady):
		return unavailable(codeNotReady, "this replica has no such state yet; come back, or ask another one")
	case errors.Is(err, ErrNotFound), errors.Is(err, archive.ErrNotFound):
		return notFound("there is no such thing on this ledger, or not yet")
	case errors.Is(err, context.DeadlineExceeded):
		return newProblem(http.StatusGatewayTimeout, codeTimeout, "", "not done in the time that was given; send the same bytes again, which is safe").after(retry)
	case errors.Is(err, context.Canceled):
		return unavailable(codeStopping, "the request was given up")
	}
	return newProblem(http.StatusInternalServerError, codeInternal, "", "an internal error; the replica's log has it")
}

// rejectedProblem tells of the first statement that the rules refuse, and
// lists the verdict of each.
func rejectedProblem(e *RejectedError, retry time.Duration) *Problem {
	for i, v := range e.Verdicts {
		if v.Code == fsm.OK || v.Code == fsm.BundleRejected {
			continue // another statement of the bundle is the cause
		}
		path := v.Path
		if len(e.Verdicts) > 1 {
			path = joinPath(statementAt(i), v.Path)
		}
		detail := v.Detail
		if detail == "" {
			detail = v.Code.Meaning()
		}
		p := newProblem(verdictStatus(v.Code), v.Code.String(), path, detail)
		p.Statements = statementResults(e.Verdicts, nil)
		if v.Code == fsm.HandoverPending {
			p.RetryAfter = retry // the next seal settles it
		}
		return p
	}
	return newProblem(http.StatusInternalServerError, codeInternal, "", "refused without a verdict")
}

// statementAt names a statement of a bundle in a path.
func statementAt(i int) string { return "statements[" + strconv.Itoa(i) + "]" }
