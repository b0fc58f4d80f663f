package replica

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
)

// raftLogger gives hclog's interface to a slog.Logger.
type raftLogger struct {
	log  *slog.Logger
	name string
	args []any
	// stopping, when set, says that this replica is on its way out: that peers
	// are out of reach is then no news, they may be stopping with it.
	stopping *atomic.Bool
}

func newRaftLogger(l *slog.Logger, name string) hclog.Logger {
	return &raftLogger{log: l.With("part", name), name: name}
}

// raftLogger is newRaftLogger for what stops with the replica.
func (r *Replica) raftLogger(name string) hclog.Logger {
	return &raftLogger{log: r.log.With("part", name), name: name, stopping: &r.stopping}
}

// ofPeers begin what Raft says when it can't reach a peer, or a peer hung up.
var ofPeers = []string{
	"failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries",
	"failed to start pipeline replication to", "failed to send snapshot to", "failed to make requestVote RPC",
	"failed to contact", "failed to flush response", "failed to accept connection",
}

// farewell says whether a message only tells that peers go while we do.
func (l *raftLogger) farewell(msg string) bool {
	return l.stopping != nil && l.stopping.Load() &&
		slices.ContainsFunc(ofPeers, func(begin string) bool { return strings.HasPrefix(msg, begin) })
}

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace, hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}

func (l *raftLogger) emit(level slog.Level, msg string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if l.name == "transport" && strings.HasPrefix(msg, "failed to decode incoming command") || l.farewell(msg) {
		level = slog.LevelDebug // a peer that hung up, in the middle of nothing
		if !l.log.Enabled(context.Background(), level) {
			return
		}
	}
	plain := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case hclog.Format:
			plain[i] = fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
		case error, fmt.Stringer:
			plain[i] = fmt.Sprint(v)
		default:
			plain[i] = a
		}
	}
	l.log.Log(context.Background(), level, msg, plain...)
}

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	l.emit(slogLevel(level), msg, args)
}
func (l *raftLogger) Trace(string, ...any)          {}
func (l *raftLogger) Debug(msg string, args ...any) { l.emit(slog.LevelDebug, msg, args) }
func (l *raftLogger) Info(msg string, args ...any)  { l.emit(slog.LevelInfo, msg, args) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.emit(slog.LevelWarn, msg, args) }
func (l *raftLogger) Error(msg string, args ...any) { l.emit(slog.LevelError, msg, args) }
func (l *raftLogger) IsTrace() bool                 { return false }
func (l *raftLogger) IsDebug() bool                 { return l.enabled(slog.LevelDebug) }
func (l *raftLogger) IsInfo() bool                  { return l.enabled(slog.LevelInfo) }
func (l *raftLogger) IsWarn() bool                  { return l.enabled(slog.LevelWarn) }
func (l *raftLogger) IsError() bool                 { return l.enabled(slog.LevelError) }
func (l *raftLogger) enabled(level slog.Level) bool {
	return l.log.Enabled(context.Background(), level)
}
func (l *raftLogger) ImpliedArgs() []any             { return l.args }
func (l *raftLogger) Name() string                   { return l.name }
func (l *raftLogger) Named(name string) hclog.Logger { return l.ResetNamed(l.name + "." + name) }
func (l *raftLogger) SetLevel(hclog.Level)           {}
func (l *raftLogger) GetLevel() hclog.Level          { return hclog.Info }

func (l *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{log: l.log.With(args...), name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...), stopping: l.stopping}
}

func (l *raftLogger) ResetNamed(name string) hclog.Logger {
	return &raftLogger{log: l.log, name: name, args: l.args, stopping: l.stopping}
}

func (l *raftLogger) StandardLogger(o *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(o), "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{l} }

type lineWriter struct{ l *raftLogger }

func (w lineWriter) Write(b []byte) (int, error) {
	w.l.Info(string(b))
	return len(b), nil
}
