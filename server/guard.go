package server

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"tact/server/wire"
)

// Bounds of what is read of a body that nobody wants, so that the client sees
// the reply and not a reset connection.
const (
	maxDrain  = 16 << 20 // twice the largest body that is taken
	drainWait = 250 * time.Millisecond
)

// bodyConfig gives each route its time for the body. With a body limit of one
// byte, fasthttp hands a longer body over as a stream before it has read it.
func (s *Server) bodyConfig(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	c := fasthttp.RequestConfig{MaxRequestBodySize: s.opts.DecideBytes}
	path, _, _ := bytes.Cut(h.RequestURI(), []byte("?"))
	switch {
	case bytes.HasPrefix(path, []byte("/v1/definitions")),
		string(path) == "/v1/eligibility:query", string(path) == "/v1/decide:batch",
		bytes.HasPrefix(path, []byte("/v1/segments/")) && !isBulk(h.ContentType()) &&
			!isCSV(h.ContentType()):
		c.ReadTimeout, c.WriteTimeout = s.opts.UploadTimeout, s.opts.UploadTimeout
	case bytes.HasPrefix(path, []byte("/v1/tags/")) && !isCSV(h.ContentType()):
		c.ReadTimeout, c.WriteTimeout = s.opts.UploadTimeout, s.opts.UploadTimeout
	case isBulk(h.ContentType()), isCSV(h.ContentType()):
		c.MaxRequestBodySize, c.ReadTimeout, c.WriteTimeout = 1, s.opts.BulkIdle, s.opts.BulkIdle
	}
	return c
}

// handle answers one request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	r := s.requests.Get().(*request)
	r.ctx = ctx
	defer s.done(r, began)
	defer s.recover(ctx)
	if detail := badFraming(&ctx.Request.Header); detail != "" {
		ctx.SetConnectionClose()
		s.problem(ctx, wire.Problem{Status: 400, Code: "bad_framing", Detail: detail})
		return
	}
	path, _, _ := bytes.Cut(ctx.Request.Header.RequestURI(), []byte("?"))
	route, param, allow := s.find(ctx.Method(), path)
	if route == nil {
		s.noRoute(ctx, allow)
		return
	}
	r.route, r.param = route, param
	if !route.Open && !s.keyFits(ctx.Request.Header.Peek("Authorization")) {
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
		s.problem(ctx, wire.Problem{
			Status: 401, Code: "unauthorized", Detail: "send Authorization: Bearer KEY",
		})
		return
	}
	if s.enter(r) {
		route.handle(s, r)
	}
}

// done gives back what the request held, and counts it. A reply that streams
// does both at its own end.
func (s *Server) done(r *request, began time.Time) {
	s.observe(r.route, r.ctx.Response.StatusCode(), began, time.Now())
	if !r.streams {
		s.drain(r)
		s.leave(r)
	}
}

// observe counts an answer.
func (s *Server) observe(route *Route, status int, began, ended time.Time) {
	took := ended.Sub(began)
	s.metrics.observe(route, status, took)
	if route == &s.routes[0] && status == fasthttp.StatusOK {
		s.admission.finish(int64(ended.Sub(s.begun)), int64(took))
	}
}

func (s *Server) recover(ctx *fasthttp.RequestCtx) {
	if v := recover(); v != nil {
		p := s.panicked(v, s.routeOf(ctx))
		ctx.Response.Reset()
		ctx.SetConnectionClose()
		s.problem(ctx, p)
	}
}

// panicked logs a panic in a handler and gives what the caller learns of it.
func (s *Server) panicked(v any, route string) wire.Problem {
	s.log.Error("panic in a handler", "panic", v, "route", route, "stack", string(debug.Stack()))
	return wire.Problem{Status: 500, Code: "internal", Detail: "see the server's log"}
}

func (s *Server) noRoute(ctx *fasthttp.RequestCtx, allow string) {
	if allow == "" {
		s.problem(ctx, wire.Problem{Status: 404, Code: "unknown_path", Detail: "there is no such path"})
		return
	}
	ctx.Response.Header.Set("Allow", allow)
	s.problem(ctx, wire.Problem{
		Status: 405, Code: "method_not_allowed", Detail: "the path knows " + allow,
	})
}

// enter takes a place under the limits of the route's class.
func (s *Server) enter(r *request) bool {
	if r.route.class == classOpen {
		return true
	}
	limit := int64(s.opts.InFlight)
	if r.route == &s.routes[0] {
		limit = s.admission.limit.Load()
	}
	if s.inFlight.Add(1) > limit {
		s.inFlight.Add(-1)
		s.problem(r.ctx, wire.Problem{
			Status: 503, Code: "overloaded", Detail: "too many requests in flight",
		})
		return false
	}
	bulk := r.route.class == classBulk || isBulk(r.ctx.Request.Header.ContentType())
	if bulk && s.bulk.Add(1) > int64(s.opts.Bulk) {
		s.bulk.Add(-1)
		s.inFlight.Add(-1)
		s.problem(r.ctx, wire.Problem{
			Status: 429, Code: "too_many_bulk_requests",
			Detail: "too many bulk requests at the same time",
		})
		return false
	}
	r.held, r.bulk = true, bulk
	return true
}

// leave gives the place and the buffers back.
func (s *Server) leave(r *request) {
	if r.bulk {
		s.bulk.Add(-1)
	}
	if r.held {
		s.inFlight.Add(-1)
	}
	w := &r.work
	if cap(w.body) > maxKept || cap(w.reply) > maxKept {
		return
	}
	r.ctx, r.route, r.param = nil, nil, nil
	w.source = bodyReader{}
	r.held, r.bulk, r.streams = false, false, false
	s.requests.Put(r)
}

// keyFits compares in a time that does not depend on where the bytes differ.
func (s *Server) keyFits(header []byte) bool {
	const scheme = "Bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(string(header[:len(scheme)]), scheme) {
		return false
	}
	return subtle.ConstantTimeCompare(header[len(scheme):], s.key) == 1
}

// badFraming says why a request's bounds or path could be read in two ways by
// two servers; empty when they cannot.
func badFraming(h *fasthttp.RequestHeader) string {
	if p := h.Protocol(); string(p) != "HTTP/1.1" && string(p) != "HTTP/1.0" {
		return "the protocol must be HTTP/1.1 or HTTP/1.0"
	}
	path, _, _ := bytes.Cut(h.RequestURI(), []byte("?"))
	if !plainPath(path) {
		return "the path must begin with a slash and have no empty, . or .. segment"
	}
	length, coding := framing(h.RawHeaders())
	switch {
	case coding > 0 && length > 0:
		return "Content-Length and Transfer-Encoding exclude each other"
	case coding > 0 && h.ContentLength() != -1:
		return "the only transfer encoding is chunked"
	}
	return ""
}

// plainPath says whether a path is as every proxy would leave it.
func plainPath(path []byte) bool {
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	for rest := path[1:]; len(rest) > 0; {
		segment, tail, more := bytes.Cut(rest, []byte("/"))
		switch string(segment) {
		case "", ".", "..":
			return false
		}
		if more && len(tail) == 0 {
			return false
		}
		rest = tail
	}
	return bytes.IndexByte(path, '\\') < 0 && bytes.IndexByte(path, '#') < 0
}

// framing counts the headers that say where a body ends.
func framing(raw []byte) (length, coding int) {
	const lengthName, codingName = "content-length", "transfer-encoding"
	for len(raw) > 0 {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		raw = rest
		if len(line) == 0 {
			continue
		}
		switch line[0] | 0x20 {
		case 'c':
			if named(line, lengthName) {
				length++
			}
		case 't':
			if named(line, codingName) {
				coding++
			}
		}
	}
	return length, coding
}

func named(line []byte, name string) bool {
	if len(line) <= len(name) || line[len(name)] != ':' {
		return false
	}
	for i := range len(name) {
		c := line[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// drain reads what is left of a body. When that is more than a little, the
// connection is closed behind the reply: its bytes must not be taken for the
// next request.
func (s *Server) drain(r *request) {
	ctx, buf := r.ctx, r.work.rest[:]
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return
	}
	n, err := stream.Read(buf)
	if err == nil {
		_ = ctx.Conn().SetReadDeadline(time.Now().Add(drainWait))
	}
	for err == nil && n < maxDrain {
		var more int
		more, err = stream.Read(buf)
		n += more
	}
	if !errors.Is(err, io.EOF) {
		ctx.SetConnectionClose()
	}
}

// drainConn reads what a client still sends after a request that could not be
// read: a connection closed with bytes unread is reset, and the reply lost.
func (s *Server) drainConn(ctx *fasthttp.RequestCtx) {
	c := ctx.Conn()
	_ = c.SetReadDeadline(time.Now().Add(drainWait))
	var buf [4096]byte
	for n := 0; n < maxDrain; {
		more, err := c.Read(buf[:])
		if err != nil {
			return
		}
		n += more
	}
}

// refuseUnread answers a request that could not be read.
func (s *Server) refuseUnread(ctx *fasthttp.RequestCtx, err error) {
	p := wire.Problem{Status: 400, Code: "bad_request", Detail: "the request is not valid HTTP/1.1"}
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		p = wire.Problem{Status: 431, Code: "header_too_large", Detail: "the header exceeds 16 KiB"}
	case errors.As(err, &timeout) && timeout.Timeout():
		p = wire.Problem{Status: 408, Code: "timeout", Detail: "the request came too slowly"}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		p = wire.Problem{Status: 413, Code: "too_large", Detail: "the body is too large"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		p = wire.Problem{Status: 400, Code: wire.CodeTruncated, Detail: "the body ends too early"}
	}
	if p.Status != 408 {
		s.drainConn(ctx)
	}
	ctx.SetConnectionClose()
	s.problem(ctx, p)
	s.metrics.observe(nil, p.Status, 0)
}
