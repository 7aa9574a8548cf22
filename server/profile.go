package server

import (
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/pprofhandler"

	"tact/server/wire"
)

// Bounds of profiles that look at a stretch of time.
const (
	profileSeconds    = 10
	profileSecondsMax = 60
)

// profile answers GET /debug/pprof/{name}. What it needs of a stretch of time it
// waits for inside its place under the in-flight limit.
func (s *Server) profile(r *request) {
	query, ok := s.query(r, "seconds", "debug")
	if !ok {
		return
	}
	name := string(r.param)
	timed := false
	switch name {
	case "profile", "trace":
		timed = true
	case "heap", "allocs", "goroutine", "mutex", "block", "threadcreate":
	default:
		s.problem(r.ctx, wire.Problem{
			Status: 404, Code: "unknown_profile", Field: "name",
			Detail: "want profile, trace, heap, allocs, goroutine, mutex, block or threadcreate",
		})
		return
	}
	seconds, err := query.GetUint("seconds")
	switch {
	case !query.Has("seconds"):
		seconds = profileSeconds
	case err != nil || seconds < 1 || seconds > profileSecondsMax || !timed:
		s.wrongParameter(r, "seconds", "want 1 to 60, and only for profile and trace")
		return
	}
	debug, err := query.GetUint("debug")
	if query.Has("debug") && (err != nil || debug > 2 || timed) {
		s.wrongParameter(r, "debug", "want 0, 1 or 2, and not for profile and trace")
		return
	}
	if timed {
		if !s.profiling.CompareAndSwap(false, true) {
			s.problem(r.ctx, wire.Problem{
				Status: 409, Code: "busy", Detail: "another profile is being taken",
			})
			return
		}
		defer s.profiling.Store(false)
		query.SetUint("seconds", seconds)
	}
	pprofhandler.PprofHandler(r.ctx)
	if r.ctx.Response.StatusCode() != fasthttp.StatusOK {
		s.problem(r.ctx, wire.Problem{
			Status: 409, Code: "busy", Detail: "the profile could not be taken now",
		})
	}
}

func (s *Server) wrongParameter(r *request, field, detail string) {
	s.problem(r.ctx, wire.Problem{
		Status: 400, Code: wire.CodeInvalidValue, Field: field, Detail: detail,
	})
}
