package server

import (
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"

	"tact/engine"
	"tact/server/wire"
)

// retryAfter is the Retry-After of 429 and 503, in seconds, where the engine does
// not know better.
const retryAfter = "1"

// statusOf is the table from the engine's problem classes to status codes.
func statusOf(c engine.ProblemClass) int {
	switch c {
	case engine.ProblemInvalid:
		return fasthttp.StatusUnprocessableEntity
	case engine.ProblemMissing:
		return fasthttp.StatusNotFound
	case engine.ProblemConflict:
		return fasthttp.StatusConflict
	case engine.ProblemGone:
		return fasthttp.StatusGone
	case engine.ProblemStale:
		return fasthttp.StatusConflict
	case engine.ProblemFull:
		return fasthttp.StatusInsufficientStorage
	case engine.ProblemBusy:
		return fasthttp.StatusServiceUnavailable
	case engine.ProblemForbidden:
		return fasthttp.StatusForbidden
	case engine.ProblemDamaged:
		return fasthttp.StatusInternalServerError
	case engine.ProblemTooMany:
		return fasthttp.StatusTooManyRequests
	}
	return fasthttp.StatusInternalServerError
}

// statusOfCode is the table from faults of a body to status codes: 422 when the
// shape is right and a value is not, else 400.
func statusOfCode(code string) int {
	switch code {
	case wire.CodeInvalidValue, wire.CodeNumber:
		return fasthttp.StatusUnprocessableEntity
	}
	return fasthttp.StatusBadRequest
}

// fault answers with what is wrong with a body.
func (s *Server) fault(ctx *fasthttp.RequestCtx, f *wire.Fault) {
	s.problem(ctx, wire.Problem{
		Status: statusOfCode(f.Code), Code: f.Code, Field: f.Field, Detail: f.Detail,
	})
}

// fail answers with an error of the engine.
func (s *Server) fail(ctx *fasthttp.RequestCtx, err error) {
	route := ""
	if p := (*engine.Problem)(nil); !errors.As(err, &p) || p.Class == engine.ProblemDamaged {
		route = s.routeOf(ctx)
	}
	p, retry := s.problemOf(err, route)
	s.problem(ctx, p)
	if after := retryHeader(p.Status, retry); after != "" {
		ctx.Response.Header.Set("Retry-After", after)
	}
}

// problemOf tells the caller of an error of the engine, and after how many seconds
// to try again, 0 for no more than the status says. What is not the caller's fault
// is logged, and the caller learns no more than that, or that it is damage.
func (s *Server) problemOf(err error, route string) (wire.Problem, int64) {
	var p *engine.Problem
	if !errors.As(err, &p) {
		p = engine.Damaged(err)
	}
	if p != nil {
		if p.Class == engine.ProblemDamaged {
			s.log.Error("request met damage", "route", route, "error", err)
		}
		return wire.Problem{
			Status: statusOf(p.Class), Code: p.Code, Field: p.Field, Detail: p.Detail,
		}, p.RetryAfter
	}
	s.log.Error("request failed", "route", route, "error", err)
	return wire.Problem{Status: 500, Code: "internal", Detail: "see the server's log"}, 0
}

// retryHeader is the Retry-After of a status, empty for none.
func retryHeader(status int, seconds int64) string {
	switch {
	case seconds > 0:
		return strconv.FormatInt(seconds, 10)
	case status == fasthttp.StatusTooManyRequests || status == fasthttp.StatusServiceUnavailable:
		return retryAfter
	}
	return ""
}

// routeOf names the route of a request for the log: a path may name a person.
func (s *Server) routeOf(ctx *fasthttp.RequestCtx) string {
	path := ctx.Request.URI().PathOriginal()
	if route, _, _ := s.find(ctx.Method(), path); route != nil {
		return route.Method + " " + route.Path
	}
	return "unknown"
}

// lineError is fail for one line of a bulk body.
func (s *Server) lineError(err error) wire.LineError {
	var p *engine.Problem
	if errors.As(err, &p) {
		return wire.LineError{Code: p.Code, Field: p.Field, Detail: p.Detail}
	}
	s.log.Error("line failed", "error", err)
	return wire.LineError{Code: "internal", Detail: "see the server's log"}
}

// problem answers with a problem document.
func (s *Server) problem(ctx *fasthttp.RequestCtx, p wire.Problem) {
	p.Title = fasthttp.StatusMessage(p.Status)
	ctx.SetStatusCode(p.Status)
	ctx.SetContentType("application/problem+json")
	if after := retryHeader(p.Status, 0); after != "" {
		ctx.Response.Header.Set("Retry-After", after)
	}
	ctx.Response.SetBodyRaw(wire.AppendProblem(nil, &p))
}
