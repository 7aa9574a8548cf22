package server

import (
	"bytes"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tact/engine"
	"tact/server/wire"
)

// maxKey is the longest Idempotency-Key.
const maxKey = 128

// kind is what a line of an ingest route is.
type kind uint8

const (
	kindUser kind = iota
	kindEvent
	kindOutcome
	kindTag // of a CSV file
)

func (s *Server) users(r *request)    { s.ingest(r, kindUser) }
func (s *Server) events(r *request)   { s.ingest(r, kindEvent) }
func (s *Server) outcomes(r *request) { s.ingest(r, kindOutcome) }

// ingest answers the three routes that take one document or many lines.
func (s *Server) ingest(r *request, k kind) {
	key, ok := s.idempotencyKey(r, k)
	if !ok {
		return
	}
	bounded, ok := s.wantBounded(r, k)
	if !ok {
		return
	}
	if isBulk(r.ctx.Request.Header.ContentType()) {
		s.ingestLines(r, &lines{kind: k, key: append([]byte(nil), key...), bounded: bounded})
		return
	}
	if !s.wantJSON(r) {
		return
	}
	limit := s.opts.LineBytes
	if k == kindOutcome {
		limit = s.opts.DecideBytes
	}
	body, ok := s.readBody(r, limit)
	if !ok {
		return
	}
	batch := s.engine.Begin()
	res, fault := r.work.apply(batch, k, body, key)
	switch {
	case fault != nil:
		s.fault(r.ctx, fault)
		return
	case res.Status == engine.LineRejected:
		s.fail(r.ctx, res.Err)
		return
	}
	durability, err := commitBatch(batch, bounded, s.opts.CommitTimeout)
	if err != nil {
		s.fail(r.ctx, err)
		return
	}
	r.ctx.Response.Header.Set(durabilityHeader, durability)
	r.work.reply = wire.AppendResult(r.work.reply[:0], res)
	reply(r.ctx, r.work.reply)
}

// How durable what was written is when the reply leaves; a request for events may
// ask for it by the same header.
const (
	durabilityHeader  = "Tact-Durability"
	durabilityStrict  = "strict"
	durabilityBounded = "bounded(50ms)"
)

// wantBounded reads how durable events must be before they are answered: strict
// unless the request says otherwise.
func (s *Server) wantBounded(r *request, k kind) (bounded, ok bool) {
	switch want := string(r.ctx.Request.Header.Peek(durabilityHeader)); {
	case want == "", want == durabilityStrict:
		return false, true
	case k == kindEvent && (want == "bounded" || want == durabilityBounded):
		return true, true
	}
	s.problem(r.ctx, wire.Problem{
		Status: 400, Code: "invalid_durability", Field: durabilityHeader,
		Detail: "strict; of events bounded too, for what may be lost when the power goes",
	})
	return false, false
}

// commitBatch makes a batch durable, and says how durable it is.
func commitBatch(b *engine.Batch, bounded bool, wait time.Duration) (string, error) {
	if bounded {
		return b.CommitBounded(wait)
	}
	return durabilityStrict, b.Commit(wait)
}

// apply decodes one line and adds it to the batch. key is the line's
// idempotency key, or empty.
func (w *work) apply(b *engine.Batch, k kind, line, key []byte) (engine.LineResult, *wire.Fault) {
	switch k {
	case kindUser:
		if fault := w.decoder.User(line, &w.user); fault != nil {
			return engine.LineResult{Status: engine.LineRejected}, fault
		}
		w.user.Key = key
		return b.User(&w.user), nil
	case kindEvent:
		if fault := w.decoder.Event(line, &w.event); fault != nil {
			return engine.LineResult{Status: engine.LineRejected}, fault
		}
		return b.Event(&w.event), nil
	case kindTag:
		return w.tag.apply(b, line)
	}
	if fault := w.decoder.Outcome(line, &w.outcome); fault != nil {
		return engine.LineResult{Status: engine.LineRejected}, fault
	}
	return b.Outcome(&w.outcome), nil
}

// idempotencyKey reads the header of that name, bare or quoted. It belongs to
// users: events and outcomes have ids of their own.
func (s *Server) idempotencyKey(r *request, k kind) ([]byte, bool) {
	key := r.ctx.Request.Header.Peek("Idempotency-Key")
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if k != kindUser && k != kindTag || len(key) == 0 {
		return nil, true
	}
	if len(key) > maxKey {
		s.problem(r.ctx, wire.Problem{
			Status: 400, Code: "invalid_idempotency_key", Field: "Idempotency-Key",
			Detail: "must have at most " + strconv.Itoa(maxKey) + " bytes",
		})
		return nil, false
	}
	return key, true
}

// wantJSON refuses a body that does not say it is JSON.
func (s *Server) wantJSON(r *request) bool {
	if mediaType(r.ctx.Request.Header.ContentType(), "application/json") {
		return true
	}
	detail := "send Content-Type: application/json"
	switch r.route.Path {
	case "/v1/users", "/v1/events", "/v1/outcomes":
		detail += " for one document, application/x-ndjson for many"
	}
	s.problem(r.ctx, wire.Problem{Status: 415, Code: "unsupported_media_type", Detail: detail})
	return false
}

func isBulk(contentType []byte) bool {
	return mediaType(contentType, "application/x-ndjson")
}

// mediaType compares a Content-Type without its parameters.
func mediaType(contentType []byte, want string) bool {
	name := contentType
	if i := bytes.IndexByte(name, ';'); i >= 0 {
		name = bytes.TrimRight(name[:i], " \t")
	}
	return len(name) == len(want) && (string(name) == want || bytes.EqualFold(name, []byte(want)))
}

// reply answers 200 with a JSON body, which is copied.
func reply(ctx *fasthttp.RequestCtx, body []byte) {
	ctx.SetContentType("application/json")
	ctx.Response.SetBody(body)
}
