package server

import (
	"iter"

	"github.com/valyala/fasthttp"

	"tact/engine"
	"tact/server/wire"
)

// maxLogged bounds the limit of a reading of the event log; without one there is
// no end but that of the log.
const maxLogged = 1 << 31

// eventLog answers GET /v1/events: events and outcomes as the event log has them.
func (s *Server) eventLog(r *request) {
	args, ok := s.query(r, "from", "until", "event", "user_id", "limit", "after")
	if !ok {
		return
	}
	q := engine.EventsQuery{Event: optional(args, "event"), UserID: optional(args, "user_id")}
	limit, ok := s.number(r, args, "limit", maxLogged)
	if !ok || !s.instant(r, args, "from", &q.From) || !s.instant(r, args, "until", &q.Until) {
		return
	}
	if args.Has("after") {
		q.Follow = &engine.EventsFollow{After: optional(args, "after"), Limit: int64(limit)}
		limit = 0 // the engine's: it ends where one can go on
	}
	all, err := s.engine.Events(&q)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	next, stop := iter.Pull2(all)
	lines := &eventLines{next: next, limit: int64(limit), follow: q.Follow}
	s.streamLines(r, lines.piece, stop)
}

// optional is a parameter of the query, nil when it is absent. It stays valid when
// the request has gone.
func optional(args *fasthttp.Args, name string) []byte {
	if !args.Has(name) {
		return nil
	}
	return append([]byte{}, args.Peek(name)...)
}

// instant reads a parameter of the query that is a time; 0 when it is absent.
func (s *Server) instant(
	r *request, args *fasthttp.Args, name string, to *int64,
) bool {
	if !args.Has(name) {
		return true
	}
	ms, ok := wire.ParseTime(args.Peek(name))
	if !ok || ms <= 0 {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: name,
			Detail: "must be a time with zone, as 2026-11-22T10:00:00Z",
		})
		return false
	}
	*to = ms
	return true
}

// eventLines gives the event log line by line.
type eventLines struct {
	next  func() (*engine.LoggedEvent, error, bool)
	limit int64 // 0: none
	end   wire.EventsEnd

	follow *engine.EventsFollow // nil: another reading does not go on
}

func (l *eventLines) piece(dst []byte) ([]byte, bool, error) {
	for len(dst) < pieceBytes {
		if l.limit > 0 && l.end.Events == l.limit {
			l.end.Limited = true
			return wire.AppendEventsEnd(dst, &l.end), true, nil
		}
		v, err, more := l.next()
		switch {
		case !more:
			if l.follow != nil {
				l.end.Cursor, l.end.Limited = l.follow.Next, l.follow.More
			}
			return wire.AppendEventsEnd(dst, &l.end), true, nil
		case err != nil:
			return dst, true, err
		case v.Unreadable:
			l.end.Unreadable++
		default:
			dst = wire.AppendLoggedEvent(dst, v)
			l.end.Events++
		}
	}
	return dst, false, nil
}
