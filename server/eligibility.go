package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"tact/engine"
	"tact/server/wire"
)

// Bounds of a bulk question.
const (
	queryTime   = time.Minute // for judging everybody, before the first byte
	cursorEvery = 10_000      // people between two lines with a cursor
)

// eligibility answers POST /v1/eligibility:query.
func (s *Server) eligibility(r *request) {
	body, ok := s.bulkBody(r)
	if !ok {
		return
	}
	var q wire.Eligibility
	if fault := r.work.decoder.Eligibility(body, &q); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	if q.HasUsers {
		s.offersForUsers(r, &q)
		return
	}
	s.usersFor(r, &q)
}

// bulkBody reads the JSON body of a bulk question.
func (s *Server) bulkBody(r *request) ([]byte, bool) {
	if !s.wantJSON(r) {
		return nil, false
	}
	return s.readBody(r, s.opts.DefinitionBytes)
}

// offersForUsers answers which offers each of a list of users may be given.
func (s *Server) offersForUsers(r *request, q *wire.Eligibility) {
	x, err := s.engine.Eligibility(&engine.EligibilityQuery{
		Offers: q.Offers, Placement: q.Query.Placement, Channel: q.Query.Channel,
		Gates: q.Query.Gates, Context: q.Query.Context,
	})
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	var verdicts []engine.OfferVerdict
	end := wire.BulkEnd{}
	at := -1
	s.streamReply(r, ndjson, false, func(dst []byte) ([]byte, bool, error) {
		if at < 0 {
			at = 0
			dst = append(wire.AppendBulkHead(dst, &wire.BulkHead{
				At: int64(x.At), Revision: x.Revision, Users: uint64(len(q.Users)),
			}), '\n')
		}
		for ; at < len(q.Users) && len(dst) < pieceBytes; at++ {
			var known bool
			var err error
			id := q.Users[at]
			verdicts, known, err = x.User(id, verdicts[:0])
			switch {
			case err != nil:
				end.Failed++
				dst = wire.AppendBulkError(dst, id, s.lineError(err))
			case !known:
				end.Unknown++
				dst = wire.AppendBulkError(dst, id, unknownUser())
			default:
				end.Users++
				dst = wire.AppendEligible(dst, id, verdicts, q.Explain)
			}
		}
		if at < len(q.Users) {
			return dst, false, nil
		}
		return wire.AppendBulkEnd(dst, &end), true, nil
	})
}

func unknownUser() wire.LineError {
	return wire.LineError{Code: "user_not_found", Field: "user_id", Detail: "nobody has this id"}
}

// usersFor answers for whom a rule, a segment or an offer is.
func (s *Server) usersFor(r *request, q *wire.Eligibility) {
	columns, err := s.engine.Export(q.Attributes, q.Tags)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	if q.Format == wire.FormatCount && len(q.Cursor) == 0 {
		s.count(r, q)
		return
	}
	a, from, err := s.audience(&q.Population)
	if err == nil && q.Limit > 0 {
		err = a.Kept() // what is left would be out of reach
	}
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	head := s.head(a, from)
	switch q.Format {
	case wire.FormatCount:
		r.work.reply = wire.AppendBulkHead(r.work.reply[:0], head)
		reply(r.ctx, r.work.reply)
	case wire.FormatRoaring:
		s.replyRoaring(r, a, head)
	case wire.FormatParquet:
		s.replyParquet(r, a, columns, head)
	default:
		p := &peopleLines{
			server: s, a: a, from: from, head: head, columns: columns, limit: q.Limit,
			ids: q.Format == wire.FormatIDs,
		}
		s.streamReply(r, ndjson, true, p.next)
	}
}

// count answers how many people there are, and keeps nothing.
func (s *Server) count(r *request, q *wire.Eligibility) {
	query, err := s.audienceQuery(&q.Population)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTime)
	defer cancel()
	p, reason, err := s.engine.FindPeople(ctx, query)
	if err != nil {
		s.fail(r.ctx, inTime(err))
		return
	}
	r.work.reply = wire.AppendBulkHead(r.work.reply[:0], &wire.BulkHead{
		At: int64(p.At), Revision: p.Revision, Users: p.Count(), Reason: reason, Groups: p.Groups,
	})
	reply(r.ctx, r.work.reply)
}

// audienceQuery checks what came with a population.
func (s *Server) audienceQuery(p *wire.Population) (*engine.AudienceQuery, error) {
	if p.Members != nil {
		members, err := s.engine.ReadOrdinals(p.Members, "members")
		if err != nil {
			return nil, err
		}
		p.Query.Members = members
	}
	return &p.Query, nil
}

// audience finds the people of a query or of a cursor.
func (s *Server) audience(p *wire.Population) (*engine.Audience, engine.PeoplePos, error) {
	if len(p.Cursor) > 0 {
		return s.engine.AudienceAt(p.Cursor)
	}
	query, err := s.audienceQuery(p)
	if err != nil {
		return nil, engine.PeoplePos{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTime)
	defer cancel()
	a, err := s.engine.Audience(ctx, query)
	return a, engine.PeoplePos{}, inTime(err)
}

// inTime turns the end of a question's time into a problem.
func inTime(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &engine.Problem{
			Class: engine.ProblemBusy, Code: "deadline",
			Detail: fmt.Sprintf("judging everybody took more than %v", queryTime),
		}
	}
	return err
}

// head describes an audience.
func (s *Server) head(a *engine.Audience, from engine.PeoplePos) *wire.BulkHead {
	return &wire.BulkHead{
		At: int64(a.At), Revision: a.Revision, Users: a.Count(), Reason: a.Reason,
		Cursor: a.AppendCursor(nil, from), Groups: a.Groups, Ordinals: s.engine.OrdinalMap(),
	}
}

// peopleLines gives people as lines of ids, or of ids with columns.
type peopleLines struct {
	server  *Server
	a       *engine.Audience
	from    engine.PeoplePos
	head    *wire.BulkHead
	columns *engine.Exporter
	ids     bool
	limit   int64
	given   int
}

func (p *peopleLines) next(dst []byte) ([]byte, bool, error) {
	if p.head != nil {
		dst = append(wire.AppendBulkHead(dst, p.head), '\n')
		p.head = nil
	}
	whole := true
	take := func(pos engine.PeoplePos) bool {
		p.from = pos.Next()
		p.given++
		if p.given%cursorEvery == 0 {
			dst = wire.AppendCursorLine(dst, p.a.AppendCursor(nil, p.from))
		}
		whole = len(dst) < pieceBytes && (p.limit == 0 || int64(p.given) < p.limit)
		return whole
	}
	var err error
	if p.ids {
		err = p.server.engine.EachPerson(p.a.People, p.from,
			func(pos engine.PeoplePos, id []byte) bool {
				dst = wire.AppendID(dst, id)
				return take(pos)
			})
	} else {
		p.columns.Each(p.a.People, p.from,
			func(pos engine.PeoplePos, id []byte, cells []engine.Cell) bool {
				dst = wire.AppendPerson(dst, id, p.columns.Columns, cells)
				return take(pos)
			})
	}
	if err != nil {
		return dst, true, err
	}
	end := wire.BulkEnd{Users: p.given}
	switch {
	case whole:
		p.a.Done()
	case p.limit == 0 || int64(p.given) < p.limit:
		return dst, false, nil
	default:
		end.Cursor = p.a.AppendCursor(nil, p.from)
	}
	return wire.AppendBulkEnd(dst, &end), true, nil
}

// describe puts the head of a reply that is no JSON into its headers.
func (s *Server) describe(r *request, head *wire.BulkHead) {
	h := &r.ctx.Response.Header
	h.Set("Tact-At", time.UnixMilli(head.At).UTC().Format("2006-01-02T15:04:05.000Z"))
	setCount(h, "Tact-Config-Version", uint64(head.Revision))
	setCount(h, "Tact-Users", head.Users)
	h.Set("Tact-Ordinals", head.Ordinals)
	h.SetBytesV("Tact-Cursor", head.Cursor)
	if n := head.ByDay(); n > 0 {
		setCount(h, "Tact-By-Day", n)
	}
	if head.Reason != "" {
		h.Set("Tact-Reason", head.Reason)
	}
	var positions []byte
	for i := range head.Groups {
		if i > 0 {
			positions = append(positions, ' ')
		}
		positions = strconv.AppendUint(positions, head.Groups[i].Position, 10)
	}
	h.SetBytesV("Tact-Positions", positions)
}

// replyRoaring answers with the bitmap of the people's ordinals. It is made
// whole: its sum stands in a header in front of it.
func (s *Server) replyRoaring(r *request, a *engine.Audience, head *wire.BulkHead) {
	data, crc, err := a.AppendRoaring(r.work.reply[:0])
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	a.Done()
	r.work.reply = data
	s.describe(r, head)
	r.ctx.Response.Header.Set("Tact-Crc32c", fmt.Sprintf("%08x", crc))
	r.ctx.SetContentType("application/octet-stream")
	r.ctx.Response.SetBodyRaw(data)
}

// replyParquet answers with a Parquet file.
func (s *Server) replyParquet(
	r *request, a *engine.Audience, columns *engine.Exporter, head *wire.BulkHead,
) {
	file := wire.NewParquet(head, columns.Columns)
	s.describe(r, head)
	from := engine.PeoplePos{}
	const kind = "application/vnd.apache.parquet"
	s.streamReply(r, kind, true, func(dst []byte) ([]byte, bool, error) {
		var err error
		whole, n := true, 0
		columns.Each(a.People, from, func(
			pos engine.PeoplePos, id []byte, cells []engine.Cell,
		) bool {
			from = pos.Next()
			err = file.Add(id, cells)
			n++
			whole = err == nil && n < cursorEvery
			return whole
		})
		if err == nil && whole {
			a.Done()
			err = file.Close()
		}
		return file.Take(dst), whole, err
	})
}

// ordinals answers GET /v1/ordinals: what the ordinals of bitmaps mean.
func (s *Server) ordinals(r *request) {
	from, ok := s.firstOrdinal(r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTime)
	defer cancel()
	p, err := s.engine.People(ctx, &engine.PeopleQuery{})
	if err != nil {
		s.fail(r.ctx, inTime(err))
		return
	}
	head := &wire.BulkHead{
		At: int64(p.At), Revision: p.Revision, Users: p.Count(), Groups: p.Groups,
		Ordinals: s.engine.OrdinalMap(),
	}
	n := 0
	s.streamReply(r, ndjson, true, func(dst []byte) ([]byte, bool, error) {
		if head != nil {
			dst = append(wire.AppendBulkHead(dst, head), '\n')
			head = nil
		}
		whole := true
		err := s.engine.EachPerson(p, from, func(pos engine.PeoplePos, id []byte) bool {
			dst, from = wire.AppendOrdinal(dst, pos.Ordinal(), id), pos.Next()
			n++
			whole = len(dst) < pieceBytes
			return whole
		})
		if err == nil && whole {
			dst = wire.AppendBulkEnd(dst, &wire.BulkEnd{Users: n})
		}
		return dst, whole, err
	})
}

// firstOrdinal reads the parameter `from`.
func (s *Server) firstOrdinal(r *request) (engine.PeoplePos, bool) {
	from, ok := engine.PeoplePos{}, true
	for name, value := range r.ctx.QueryArgs().All() {
		n, err := strconv.ParseUint(string(value), 10, 64)
		place, fits := engine.PosOf(n)
		if string(name) != "from" || err != nil || !fits {
			ok = false
			break
		}
		from = place
	}
	if !ok {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: "unknown_parameter", Field: "from",
			Detail: "the only parameter is from, an ordinal",
		})
	}
	return from, ok
}
