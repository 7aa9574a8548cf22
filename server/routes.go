package server

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"
)

// class says which limit a route falls under.
type class uint8

const (
	classOpen  class = iota // health and documentation: no limit
	classQuick              // one answer: the in-flight limit
	classBulk               // a large body: the bulk limit besides
)

// Route is one operation. Path is written as in the OpenAPI document: {name}
// stands for one segment, or for what stands before a colon.
type Route struct {
	Method string
	Path   string
	Open   bool // needs no key

	class  class
	handle func(s *Server, r *request)
	prefix string // of Path, before the parameter
	suffix string // behind it
	param  bool
}

// request is what a handler works on. It is used again after the reply.
type request struct {
	ctx   *fasthttp.RequestCtx
	route *Route
	param []byte // of the path, as it came
	work  work
	held  bool // it has a place under the in-flight limit
	bulk  bool // it has a place under the bulk limit
	// streams: the reply is produced while it is written, and gives the request
	// back at its end.
	streams bool
}

// Routes lists every operation of the API, most frequent first.
func Routes() []Route {
	routes := []Route{
		{Method: "POST", Path: "/v1/decide", class: classQuick, handle: (*Server).decide},
		{Method: "POST", Path: "/v1/outcomes", class: classQuick, handle: (*Server).outcomes},
		{Method: "POST", Path: "/v1/events", class: classQuick, handle: (*Server).events},
		{Method: "GET", Path: "/v1/events", class: classBulk, handle: (*Server).eventLog},
		{Method: "POST", Path: "/v1/users", class: classQuick, handle: (*Server).users},
		{Method: "GET", Path: "/v1/users/{id}", class: classQuick, handle: (*Server).user},
		{Method: "DELETE", Path: "/v1/users/{id}", class: classQuick, handle: (*Server).eraseUser},
		{Method: "GET", Path: "/v1/users/{id}/export", class: classBulk, handle: (*Server).exportUser},
		{Method: "POST", Path: "/v1/users:erase", class: classBulk, handle: (*Server).eraseUsers},
		{Method: "GET", Path: "/v1/erasures", class: classBulk, handle: (*Server).erasures},
		{Method: "GET", Path: "/v1/erasures/{receipt}", class: classQuick, handle: (*Server).erasure},
		{Method: "POST", Path: "/v1/erasures:purge", class: classBulk, handle: (*Server).purge},
		{
			Method: "GET", Path: "/v1/users/{id}/contact-state", class: classQuick,
			handle: (*Server).contactState,
		},
		{
			Method: "POST", Path: "/v1/eligibility:query", class: classBulk,
			handle: (*Server).eligibility,
		},
		{Method: "POST", Path: "/v1/decide:batch", class: classBulk, handle: (*Server).decideBatch},
		{Method: "GET", Path: "/v1/ordinals", class: classBulk, handle: (*Server).ordinals},
		{Method: "GET", Path: "/v1/stats", class: classQuick, handle: (*Server).stats},
		{
			Method: "POST", Path: "/v1/tags/{id}/members", class: classBulk,
			handle: (*Server).tagMembers,
		},
		{Method: "GET", Path: "/v1/tags", class: classQuick, handle: (*Server).tags},
		{Method: "GET", Path: "/v1/tags/{id}", class: classQuick, handle: (*Server).tag},
		{
			Method: "POST", Path: "/v1/lists/{id}/entries", class: classBulk,
			handle: (*Server).listEntries,
		},
		{Method: "GET", Path: "/v1/lists", class: classQuick, handle: (*Server).lists},
		{Method: "POST", Path: "/v1/definitions:check", class: classBulk, handle: (*Server).check},
		{Method: "PUT", Path: "/v1/definitions", class: classBulk, handle: (*Server).publish},
		{Method: "GET", Path: "/v1/definitions", class: classQuick, handle: (*Server).definitions},
		{Method: "GET", Path: "/v1/totals", class: classQuick, handle: (*Server).totals},
		{Method: "GET", Path: "/v1/nodes", class: classQuick, handle: (*Server).nodes},
		{Method: "GET", Path: "/v1/revisions", class: classQuick, handle: (*Server).revisions},
		{
			Method: "POST", Path: "/v1/revisions/{n}:restore", class: classQuick,
			handle: (*Server).restore,
		},
		{Method: "GET", Path: "/healthz", Open: true, handle: (*Server).health},
		{Method: "GET", Path: "/readyz", Open: true, handle: (*Server).ready},
		{Method: "GET", Path: "/metrics", handle: (*Server).writeMetrics},
		{Method: "GET", Path: "/debug/pprof/{name}", class: classQuick, handle: (*Server).profile},
		{Method: "GET", Path: "/openapi.json", Open: true, handle: (*Server).openAPI},
	}
	routes = append(routes, segmentRoutes()...)
	routes = append(routes, backupRoutes()...)
	for i := range routes {
		r := &routes[i]
		before, rest, ok := strings.Cut(r.Path, "{")
		if ok {
			_, r.suffix, _ = strings.Cut(rest, "}")
			r.param = true
		}
		r.prefix = before
	}
	return routes
}

// matches compares a raw path with the route's and gives the parameter.
func (r *Route) matches(path []byte) (param []byte, ok bool) {
	if !r.param {
		return nil, string(path) == r.prefix
	}
	if len(path) <= len(r.prefix)+len(r.suffix) || string(path[:len(r.prefix)]) != r.prefix ||
		string(path[len(path)-len(r.suffix):]) != r.suffix {
		return nil, false
	}
	param = path[len(r.prefix) : len(path)-len(r.suffix)]
	return param, bytes.IndexByte(param, '/') < 0
}

// find gives the route of a method and raw path. When only the path is known,
// allow lists its methods. HEAD is answered where GET is.
func (s *Server) find(method, path []byte) (route *Route, param []byte, allow string) {
	for i := range s.routes {
		r := &s.routes[i]
		p, ok := r.matches(path)
		if !ok {
			continue
		}
		if string(method) == r.Method || r.Method == "GET" && string(method) == "HEAD" {
			return r, p, ""
		}
		if allow != "" {
			allow += ", "
		}
		allow += r.Method
		if r.Method == "GET" {
			allow += ", HEAD"
		}
	}
	return nil, nil, allow
}
