package server

import (
	"bytes"
	_ "embed" // openapi.json
	"strconv"
	"strings"

	process "github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"tact/engine"
	"tact/server/wire"
)

// document describes the API; a test keeps it equal to Routes.
//
//go:embed openapi.json
var document []byte

// Bounds of GET /v1/revisions.
const (
	defaultRevisions = 50
	maxRevisions     = 1000
)

// author names who publishes: the holder of the one key.
const author = "admin"

// whom reads whom /v1/users/{id} names: a user id, or with ?identity=TYPE the value of
// an identity.
func (s *Server) whom(r *request) (p engine.PersonRef, ok bool) {
	args, ok := s.query(r, "identity")
	if !ok {
		return p, false
	}
	return s.whomBy(r, args)
}

// whomBy is whom, of a request whose query has been read.
func (s *Server) whomBy(r *request, args *fasthttp.Args) (p engine.PersonRef, ok bool) {
	id, ok := s.pathParam(r, "id")
	if !ok {
		return p, false
	}
	if !args.Has("identity") {
		return engine.PersonRef{UserID: id}, true
	}
	typ := optional(args, "identity")
	if len(typ) == 0 {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: "identity",
			Detail: "must be a type of identities",
		})
		return p, false
	}
	return engine.PersonRef{Identity: engine.IdentityRef{Type: typ, Value: id}}, true
}

// user answers GET /v1/users/{id}.
func (s *Server) user(r *request) {
	whom, ok := s.whom(r)
	if !ok {
		return
	}
	view, err := s.engine.UserOf(whom)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.work.reply = wire.AppendUser(r.work.reply[:0], view)
	reply(r.ctx, r.work.reply)
}

// contactState answers GET /v1/users/{id}/contact-state.
func (s *Server) contactState(r *request) {
	args, ok := s.query(r, "identity", "offer")
	if !ok {
		return
	}
	whom, ok := s.whomBy(r, args)
	if !ok {
		return
	}
	view, err := s.engine.ContactStateOf(whom, args.Peek("offer"))
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.work.reply = wire.AppendContactState(r.work.reply[:0], view)
	reply(r.ctx, r.work.reply)
}

// pathParam decodes the parameter of the path: 1 to 128 bytes.
func (s *Server) pathParam(r *request, name string) ([]byte, bool) {
	r.work.body = r.work.body[:0]
	out, ok := unescape(r.work.body, r.param)
	r.work.body = out
	if ok && len(out) >= 1 && len(out) <= 128 {
		return out, true
	}
	s.problem(r.ctx, wire.Problem{
		Status: 400, Code: wire.CodeInvalidValue, Field: name,
		Detail: "must have 1 to 128 bytes, percent-encoded",
	})
	return nil, false
}

// unescape appends the bytes of a percent-encoded path segment. A plus sign
// stands for itself.
func unescape(dst, src []byte) ([]byte, bool) {
	for i := 0; i < len(src); i++ {
		if src[i] != '%' {
			dst = append(dst, src[i])
			continue
		}
		if i+2 >= len(src) {
			return dst, false
		}
		n, err := strconv.ParseUint(string(src[i+1:i+3]), 16, 8)
		if err != nil {
			return dst, false
		}
		dst = append(dst, byte(n))
		i += 2
	}
	return dst, true
}

// stats answers GET /v1/stats, filtered by offer and variant.
func (s *Server) stats(r *request) {
	query, ok := s.query(r, "offer", "variant")
	if !ok {
		return
	}
	offer, variant := query.Peek("offer"), query.Peek("variant")
	rows := s.engine.Stats()
	kept := rows[:0:0]
	for i := range rows {
		if len(offer) > 0 && string(offer) != rows[i].OfferID ||
			len(variant) > 0 && string(variant) != rows[i].Variant {
			continue
		}
		kept = append(kept, rows[i])
	}
	r.work.reply = wire.AppendStats(r.work.reply[:0], kept)
	reply(r.ctx, r.work.reply)
}

// totals answers GET /v1/totals.
func (s *Server) totals(r *request) {
	if _, ok := s.query(r); !ok {
		return
	}
	r.work.reply = wire.AppendTotals(r.work.reply[:0], s.engine.Totals())
	reply(r.ctx, r.work.reply)
}

// nodes answers GET /v1/nodes.
func (s *Server) nodes(r *request) {
	if _, ok := s.query(r); !ok {
		return
	}
	r.work.reply = wire.AppendNodes(r.work.reply[:0], s.engine.Nodes())
	reply(r.ctx, r.work.reply)
}

// query refuses parameters that the route does not know.
func (s *Server) query(r *request, known ...string) (*fasthttp.Args, bool) {
	args := r.ctx.QueryArgs()
	for name := range args.All() {
		found := false
		for _, k := range known {
			found = found || string(name) == k
		}
		if !found {
			s.problem(r.ctx, wire.Problem{
				Status: 400, Code: "unknown_parameter",
				Field:  strings.ToValidUTF8(string(name[:min(len(name), 64)]), ""),
				Detail: "the query knows " + strings.Join(known, ", "),
			})
			return nil, false
		}
		if len(args.PeekMultiBytes(name)) > 1 {
			s.problem(r.ctx, wire.Problem{
				Status: 400, Code: wire.CodeInvalidValue, Field: string(name), Detail: "is given twice",
			})
			return nil, false
		}
	}
	return args, true
}

// number reads a parameter of the query: from 1 to hi; 0 when it is absent.
func (s *Server) number(r *request, args *fasthttp.Args, name string, hi uint64) (uint64, bool) {
	text := args.Peek(name)
	if len(text) == 0 {
		return 0, true
	}
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil || n < 1 || n > hi {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: name,
			Detail: "must be from 1 to " + strconv.FormatUint(hi, 10),
		})
		return 0, false
	}
	return n, true
}

// segmentMembers answers POST /v1/segments/{id}/members.
func (s *Server) segmentMembers(r *request) {
	mode, ok := s.modeOf(r)
	if !ok {
		return
	}
	if kind := r.ctx.Request.Header.ContentType(); isBulk(kind) || isCSV(kind) {
		s.uploadMembers(r, mode)
		return
	}
	if !s.wantJSON(r) {
		return
	}
	body, ok := s.readBody(r, s.opts.DefinitionBytes)
	if !ok {
		return
	}
	segment, ok := s.segmentID(r)
	if !ok {
		return
	}
	var m wire.Members
	if fault := r.work.decoder.Members(body, &m); fault != nil {
		s.fault(r.ctx, fault)
		return
	}
	batch := s.engine.Begin()
	res := batch.SegmentMembers([]byte(segment), m.Add, m.Remove)
	if res.Status == engine.LineRejected {
		s.fail(r.ctx, res.Err)
		return
	}
	if err := batch.Commit(s.opts.CommitTimeout); err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.ctx.Response.Header.Set("Tact-Durability", "strict")
	r.work.reply = wire.AppendResult(r.work.reply[:0], res)
	reply(r.ctx, r.work.reply)
}

// bundle reads the body of check and publish.
func (s *Server) bundle(r *request) (b wire.Bundle, ok bool) {
	if !s.wantJSON(r) {
		return b, false
	}
	body, ok := s.readBody(r, s.opts.DefinitionBytes)
	if !ok {
		return b, false
	}
	if fault := r.work.decoder.Bundle(body, &b); fault != nil {
		s.fault(r.ctx, fault)
		return b, false
	}
	return b, true
}

// check answers POST /v1/definitions:check. Faults are the answer, not an error.
func (s *Server) check(r *request) {
	b, ok := s.bundle(r)
	if !ok {
		return
	}
	faults, tests := s.engine.Check(b.Files)
	reply(r.ctx, wire.AppendCheck(nil, faults, tests))
}

// publish answers PUT /v1/definitions.
func (s *Server) publish(r *request) {
	match, ok := s.ifMatch(r)
	if !ok {
		return
	}
	b, ok := s.bundle(r)
	if !ok {
		return
	}
	view, faults, tests, err := s.engine.Publish(b.Files, author, b.Note, match)
	switch {
	case err != nil:
		s.fail(r.ctx, err)
	case len(faults) > 0:
		s.problem(r.ctx, wire.Problem{
			Status: 422, Code: "definition_faults", Faults: faults, Tests: tests,
			Detail: strconv.Itoa(len(faults)) + " faults; nothing was changed",
		})
	case view.Number == 0:
		s.problem(r.ctx, wire.Problem{
			Status: 422, Code: "tests_failed", Tests: tests,
			Detail: "a test document fails; nothing was changed",
		})
	default:
		setTag(r.ctx, view.Number)
		reply(r.ctx, wire.AppendPublished(nil, &view, tests))
	}
}

// ifMatch reads the revision that must be in force; 0 = any.
func (s *Server) ifMatch(r *request) (uint32, bool) {
	tag := r.ctx.Request.Header.Peek("If-Match")
	if len(tag) == 0 || string(tag) == "*" {
		return 0, true
	}
	if n := len(tag); n > 2 && tag[0] == '"' && tag[n-1] == '"' {
		if rev, err := strconv.ParseUint(string(tag[1:n-1]), 10, 32); err == nil && rev > 0 {
			return uint32(rev), true
		}
	}
	s.problem(r.ctx, wire.Problem{
		Status: 400, Code: wire.CodeInvalidValue, Field: "If-Match",
		Detail: `must be one entity tag, as "12"`,
	})
	return 0, false
}

func setTag(ctx *fasthttp.RequestCtx, revision uint32) {
	ctx.Response.Header.Set("ETag", strconv.Quote(strconv.FormatUint(uint64(revision), 10)))
}

// definitions answers GET /v1/definitions.
func (s *Server) definitions(r *request) {
	query, ok := s.query(r, "revision")
	if !ok {
		return
	}
	n, ok := s.number(r, query, "revision", 1<<32-1)
	if !ok {
		return
	}
	revision := uint32(n)
	if revision == 0 {
		// Read once: a publish between the two calls must not mix them.
		if revision = s.engine.Revision(); revision == 0 {
			reply(r.ctx, wire.AppendFiles(nil, 0, nil))
			return
		}
	}
	files, err := s.engine.RevisionFiles(revision)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	setTag(r.ctx, revision)
	reply(r.ctx, wire.AppendFiles(nil, revision, files))
}

// revisions answers GET /v1/revisions, newest first.
func (s *Server) revisions(r *request) {
	query, ok := s.query(r, "limit")
	if !ok {
		return
	}
	n, ok := s.number(r, query, "limit", maxRevisions)
	if !ok {
		return
	}
	if n == 0 {
		n = defaultRevisions
	}
	list, err := s.engine.Revisions(int(n))
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	reply(r.ctx, wire.AppendRevisions(nil, list))
}

// restore answers POST /v1/revisions/{n}:restore.
func (s *Server) restore(r *request) {
	n, err := strconv.ParseUint(string(r.param), 10, 32)
	if err != nil || n == 0 {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: wire.CodeInvalidValue, Field: "n", Detail: "must be a revision's number",
		})
		return
	}
	match, ok := s.ifMatch(r)
	if !ok {
		return
	}
	view, err := s.engine.Rollback(uint32(n), author, match)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	setTag(r.ctx, view.Number)
	reply(r.ctx, wire.AppendPublished(nil, &view, nil))
}

// health says that the process answers.
func (s *Server) health(r *request) {
	reply(r.ctx, []byte(`{"status":"ok"}`))
}

// ready says whether the server should get traffic.
func (s *Server) ready(r *request) {
	ok, reasons := s.engine.Ready()
	if s.draining.Load() {
		ok, reasons = false, append(reasons, "shutting down")
	}
	if ok {
		reply(r.ctx, wire.AppendReady(nil, s.engine.Notes()))
		return
	}
	s.problem(r.ctx, wire.Problem{
		Status: 503, Code: "not_ready", Detail: strings.Join(reasons, "; "),
	})
}

// writeMetrics answers GET /metrics in the Prometheus text format.
func (s *Server) writeMetrics(r *request) {
	var b bytes.Buffer
	s.metrics.write(&b, s.inFlight.Load(), s.bulk.Load(), s.admission.limit.Load())
	s.engine.WriteMetrics(&b)
	process.WriteProcessMetrics(&b)
	r.ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
	r.ctx.Response.SetBodyRaw(b.Bytes())
}

// openAPI answers GET /openapi.json.
func (s *Server) openAPI(r *request) {
	r.ctx.SetContentType("application/json")
	r.ctx.Response.SetBodyRaw(document)
}
