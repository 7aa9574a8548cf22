package server

import (
	"context"
	"errors"
	"strconv"
	"time"

	"tact/engine"
	"tact/server/wire"
)

// Bounds of questions about segments.
const (
	maxWaitSeconds = 30
	maxWaiting     = 64 // requests for changes that wait; more are answered at once
)

// segmentRoutes are the operations on segments.
func segmentRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/v1/segments", class: classQuick, handle: (*Server).segments},
		{Method: "POST", Path: "/v1/segments:count", class: classBulk, handle: (*Server).segmentCount},
		{
			Method: "POST", Path: "/v1/segments:overlap", class: classBulk,
			handle: (*Server).segmentOverlap,
		},
		{
			Method: "POST", Path: "/v1/segments/{id}/members", class: classBulk,
			handle: (*Server).segmentMembers,
		},
		{
			Method: "PUT", Path: "/v1/segments/{id}/members", class: classBulk,
			handle: (*Server).segmentReplace,
		},
		{
			Method: "DELETE", Path: "/v1/segments/{id}/members", class: classBulk,
			handle: (*Server).segmentEmpty,
		},
		{
			Method: "POST", Path: "/v1/segments/{id}/members:fill", class: classBulk,
			handle: (*Server).segmentFill,
		},
		{
			Method: "GET", Path: "/v1/segments/{id}/changes", class: classQuick,
			handle: (*Server).segmentChanges,
		},
		{
			Method: "GET", Path: "/v1/segments/{id}/growth", class: classQuick,
			handle: (*Server).segmentGrowth,
		},
		{Method: "GET", Path: "/v1/segments/{id}", class: classQuick, handle: (*Server).segment},
	}
}

// segmentID reads the segment of the path.
func (s *Server) segmentID(r *request) (string, bool) {
	id, ok := unescape(nil, r.param)
	if !ok || len(id) > 128 {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: "id",
			Detail: "must have 1 to 128 bytes, percent-encoded",
		})
		return "", false
	}
	return string(id), true
}

// segments answers GET /v1/segments.
func (s *Server) segments(r *request) {
	query, ok := s.query(r, "after", "limit")
	if !ok {
		return
	}
	limit, ok := s.number(r, query, "limit", 1000)
	if !ok {
		return
	}
	list, more := s.engine.Segments(string(query.Peek("after")), int(limit))
	reply(r.ctx, wire.AppendSegments(nil, list, more))
}

// segment answers GET /v1/segments/{id}.
func (s *Server) segment(r *request) {
	if _, ok := s.query(r); !ok {
		return
	}
	id, ok := s.segmentID(r)
	if !ok {
		return
	}
	v, err := s.engine.Segment(id)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	reply(r.ctx, wire.AppendSegment(nil, v))
}

// segmentCount answers POST /v1/segments:count.
func (s *Server) segmentCount(r *request) {
	body, ok := s.bulkBody(r)
	if !ok {
		return
	}
	var q wire.SegmentQuery
	if fault := r.work.decoder.Count(body, &q); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTime)
	defer cancel()
	p, err := s.engine.CountPeople(ctx, &engine.PeopleQuery{
		Rule: q.Source.Rule, Segment: q.Source.Segment, Now: q.Source.At, Context: q.Context,
	})
	if err != nil {
		s.failQuery(r, err)
		return
	}
	reply(r.ctx, wire.AppendCount(nil, &wire.SegmentCount{
		At: int64(p.At), Revision: p.Revision, Users: p.Users, ByDay: p.ByDay,
	}))
}

// failQuery is fail for a question that may take too long.
func (s *Server) failQuery(r *request, err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		s.problem(r.ctx, wire.Problem{
			Status: 503, Code: "deadline", Detail: "the question takes longer than " + queryTime.String(),
		})
		return
	}
	s.fail(r.ctx, err)
}

// segmentOverlap answers POST /v1/segments:overlap.
func (s *Server) segmentOverlap(r *request) {
	body, ok := s.bulkBody(r)
	if !ok {
		return
	}
	var q wire.OverlapQuery
	if fault := r.work.decoder.Overlap(body, &q); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTime)
	defer cancel()
	o, err := s.engine.SegmentOverlap(ctx, q.Segments, q.Query.Now)
	if err != nil {
		s.failQuery(r, err)
		return
	}
	reply(r.ctx, wire.AppendOverlap(nil, o))
}

// segmentGrowth answers GET /v1/segments/{id}/growth.
func (s *Server) segmentGrowth(r *request) {
	query, ok := s.query(r, "per")
	if !ok {
		return
	}
	per := string(query.Peek("per"))
	switch per {
	case "":
		per = "hour"
	case "hour", "day":
	default:
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: "per", Detail: "must be hour or day",
		})
		return
	}
	id, ok := s.segmentID(r)
	if !ok {
		return
	}
	points, err := s.engine.Growth(id, per == "day")
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	reply(r.ctx, wire.AppendGrowth(nil, id, per, points))
}

// segmentFill answers POST /v1/segments/{id}/members:fill.
func (s *Server) segmentFill(r *request) {
	body, ok := s.bulkBody(r)
	if !ok {
		return
	}
	id, ok := s.segmentID(r)
	if !ok {
		return
	}
	var q wire.SegmentQuery
	if fault := r.work.decoder.Fill(body, &q); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	fill, err := s.engine.BeginFill(id)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTime)
	defer cancel()
	p, err := s.fillPeople(ctx, &q)
	if err != nil {
		s.failQuery(r, err)
		return
	}
	fill.AddPeople(p)
	s.commitFill(r, fill, q.Mode, p.ByDay())
}

// fillPeople finds who a fill is about.
func (s *Server) fillPeople(ctx context.Context, q *wire.SegmentQuery) (*engine.People, error) {
	if q.Members == nil {
		return s.engine.SourcePeople(ctx, &q.Source)
	}
	return s.engine.ReadOrdinals(q.Members, "members")
}

func (s *Server) commitFill(
	r *request, fill *engine.Fill, mode engine.FillMode, byDay uint64,
) {
	out, err := fill.Commit(mode, s.opts.CommitTimeout)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.ctx.Response.Header.Set("Tact-Durability", "strict")
	n := int(fill.Count())
	reply(r.ctx, wire.AppendMembersEnd(nil, &wire.MembersEnd{Lines: n, Result: out, ByDay: byDay}))
}

// segmentEmpty answers DELETE /v1/segments/{id}/members.
func (s *Server) segmentEmpty(r *request) {
	id, ok := s.segmentID(r)
	if !ok {
		return
	}
	fill, err := s.engine.BeginFill(id)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	s.commitFill(r, fill, engine.FillReplace, 0)
}

// segmentReplace answers PUT /v1/segments/{id}/members.
func (s *Server) segmentReplace(r *request) { s.uploadMembers(r, engine.FillReplace) }

// segmentChanges answers GET /v1/segments/{id}/changes.
func (s *Server) segmentChanges(r *request) {
	query, ok := s.query(r, "after", "limit", "wait")
	if !ok {
		return
	}
	limit, ok := s.number(r, query, "limit", 10_000)
	if !ok {
		return
	}
	wait, ok := s.number(r, query, "wait", maxWaitSeconds)
	if !ok {
		return
	}
	id, ok := s.segmentID(r)
	if !ok {
		return
	}
	sub, err := s.engine.Subscribe([]string{id}, string(query.Peek("after")))
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	out, err := s.nextChanges(r, sub, int(limit), time.Duration(wait)*time.Second)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.ctx.SetContentType(ndjson)
	r.ctx.Response.SetBodyRaw(wire.AppendChanges(nil, &out))
}

// nextChanges reads, and waits without a place among the requests in flight. Of
// more than maxWaiting that want to wait, and when the server drains, nobody does.
func (s *Server) nextChanges(
	r *request, sub *engine.Subscription, limit int, wait time.Duration,
) (engine.Changes, error) {
	out, err := sub.Next(context.Background(), limit, 0)
	if err != nil || wait == 0 || len(out.List) > 0 || out.More {
		return out, err
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > maxWaiting || !r.held {
		return out, nil
	}
	r.held = false
	s.inFlight.Add(-1)
	until := time.Now().Add(wait)
	for err == nil && len(out.List) == 0 && !out.More && !s.draining.Load() {
		left := time.Until(until)
		if left <= 0 {
			break
		}
		out, err = sub.Next(context.Background(), limit, min(left, time.Second))
	}
	return out, err
}

// modeOf reads how an upload is meant.
func (s *Server) modeOf(r *request) (engine.FillMode, bool) {
	query, ok := s.query(r, "mode")
	if !ok {
		return 0, false
	}
	switch string(query.Peek("mode")) {
	case "", "add":
		return engine.FillAdd, true
	case "remove":
		return engine.FillRemove, true
	}
	s.problem(r.ctx, wire.Problem{
		Status: 400, Code: wire.CodeInvalidValue, Field: "mode",
		Detail: "must be add or remove; " + strconv.Quote("PUT") + " replaces",
	})
	return 0, false
}
