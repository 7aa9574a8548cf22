package server

import (
	"bytes"
	"testing"

	"github.com/valyala/fasthttp"

	"tact/engine"
)

func TestPanicIsAnAnswer(t *testing.T) {
	r := start(t, Options{})
	for i := range r.server.routes {
		if r.server.routes[i].Path == "/v1/stats" {
			r.server.routes[i].handle = func(*Server, *request) { panic("planted") }
		}
	}
	for range 3 {
		if status, body, _ := r.do(ask{method: "GET", path: "/v1/stats"}); status != 500 {
			t.Errorf("%d %s", status, body)
		}
	}
	r.alive()
	if n := r.server.inFlight.Load(); n != 0 {
		t.Errorf("%d requests still in flight", n)
	}
}

func TestPlainPath(t *testing.T) {
	f := func(path string, want bool) {
		t.Helper()
		if got := plainPath([]byte(path)); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
	f("/v1/users/a%2Fb", true)
	f("/", true)
	f("/a/.b/..c", true)
	f("", false)
	f("*", false)
	f("//", false)
	f("/a//b", false)
	f("/a/./b", false)
	f("/a/..", false)
	f("/a/", false)
	f(`/a\b`, false)
	f("/a#b", false)
}

func TestUnescape(t *testing.T) {
	f := func(in, want string, ok bool) {
		t.Helper()
		got, good := unescape(nil, []byte(in))
		if good != ok || ok && string(got) != want {
			t.Errorf("%q: %q %v", in, got, good)
		}
	}
	f("a+b%20%C3%bc%2f", "a+b ü/", true)
	f("%", "", false)
	f("a%2", "", false)
	f("%zz", "", false)
	f("%+1", "", false)
}

// One route for each operation, found by what the client writes.
func TestFind(t *testing.T) {
	s := &Server{routes: Routes()}
	f := func(method, path, want, param string) {
		t.Helper()
		route, p, _ := s.find([]byte(method), []byte(path))
		if route == nil || route.Path != want || string(p) != param {
			t.Errorf("%s %s: %v %q", method, path, route, p)
		}
	}
	f("POST", "/v1/decide", "/v1/decide", "")
	f("GET", "/v1/users/a", "/v1/users/{id}", "a")
	f("HEAD", "/v1/users/a", "/v1/users/{id}", "a")
	f("POST", "/v1/segments/s/members", "/v1/segments/{id}/members", "s")
	f("POST", "/v1/definitions:check", "/v1/definitions:check", "")
	f("POST", "/v1/revisions/12:restore", "/v1/revisions/{n}:restore", "12")
	for _, path := range []string{"/v1/users/", "/v1/users/a/b", "/v1/segments//members", "/v1"} {
		if route, _, allow := s.find([]byte("GET"), []byte(path)); route != nil || allow != "" {
			t.Errorf("%s: %v %s", path, route, allow)
		}
	}
}

// The server adds no allocation to those of the engine
// (fasthttp reuses its own from request to request).
func TestDecideAllocations(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	body := []byte(`{"user":{"user_id":"u"},"placements":[{"placement_id":"home"}],"mode":"dry_run"}`)
	var req engine.DecideRequest
	var out engine.Decision
	w := &work{}
	if fault := w.decoder.Decide(body, &req); fault != nil {
		t.Fatal(fault)
	}
	alone := testing.AllocsPerRun(200, func() {
		if err := r.engine.Decide(&req, &out); err != nil {
			t.Fatal(err)
		}
	})
	var ctx fasthttp.RequestCtx
	ctx.Init(&fasthttp.Request{}, nil, nil)
	in := bytes.NewReader(body)
	whole := testing.AllocsPerRun(200, func() {
		ctx.Request.Reset()
		ctx.Response.Reset()
		ctx.Request.Header.SetMethod("POST")
		ctx.Request.Header.SetProtocol("HTTP/1.1")
		ctx.Request.SetRequestURI("/v1/decide")
		ctx.Request.Header.SetContentType("application/json")
		ctx.Request.Header.Set("Authorization", "Bearer "+testKey)
		in.Reset(body)
		ctx.Request.SetBodyStream(in, len(body))
		r.server.handle(&ctx)
		if ctx.Response.StatusCode() != 200 {
			t.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
		}
	})
	if whole > alone && !raceEnabled {
		t.Errorf("%v allocations, %v of them in the engine", whole, alone)
	}
}
