package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"tact/engine"
	"tact/engine/definition"
)

const testKey = "test-key-0123456789"

// running is a server over a real engine in a folder of its own.
type running struct {
	t      *testing.T
	engine *engine.Engine
	server *Server
	addr   string
	client *http.Client
	doc    *openapi3.T
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	return startWith(t, o, engine.Options{})
}

func startWith(t *testing.T, o Options, of engine.Options) *running {
	t.Helper()
	return startIn(t, t.TempDir(), o, of)
}

// startIn starts a server on the store in dir.
func startIn(t *testing.T, dir string, o Options, of engine.Options) *running {
	t.Helper()
	e, err := engine.Open(dir, of)
	if err != nil {
		t.Fatal(err)
	}
	o.AdminKey = testKey
	s, err := New(e, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	r := &running{
		t: t, engine: e, server: s, addr: l.Addr().String(), doc: loadDocument(t),
		client: &http.Client{Transport: &http.Transport{DisableCompression: true}},
	}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
	})
	return r
}

// ask is one request of a test. Template is the path as in the document, when
// it differs from Path.
type ask struct {
	method, path, template string
	kind                   string
	body                   string
	header                 map[string]string
	noKey                  bool
}

// do sends a request and checks the reply against the OpenAPI document.
func (r *running) do(a ask) (int, string, http.Header) {
	r.t.Helper()
	req, err := http.NewRequest(a.method, "http://"+r.addr+a.path, strings.NewReader(a.body))
	if err != nil {
		r.t.Fatal(err)
	}
	if !a.noKey {
		req.Header.Set("Authorization", "Bearer "+testKey)
	}
	if a.kind != "" {
		req.Header.Set("Content-Type", a.kind)
	}
	for k, v := range a.header {
		req.Header.Set(k, v)
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", a.method, a.path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", a.method, a.path, err)
	}
	if a.method != "HEAD" {
		if err := r.conforms(a, res, body); err != nil {
			r.t.Errorf("%s %s answered %d, which the document does not know: %v\n%s",
				a.method, a.path, res.StatusCode, err, body)
		}
	}
	return res.StatusCode, string(body), res.Header
}

func (r *running) post(path, body string) (int, string) {
	r.t.Helper()
	status, reply, _ := r.do(ask{method: "POST", path: path, kind: "application/json", body: body})
	return status, reply
}

// conforms checks status, content type and body against the document.
func (r *running) conforms(a ask, res *http.Response, body []byte) error {
	template := a.template
	if template == "" {
		template, _, _ = strings.Cut(a.path, "?")
	}
	item := r.doc.Paths.Value(template)
	if item == nil || item.GetOperation(a.method) == nil {
		if res.StatusCode == 404 || res.StatusCode == 405 || res.StatusCode == 400 {
			return visit(r.doc.Components.Schemas["Problem"], body)
		}
		return fmt.Errorf("no operation")
	}
	answer := item.GetOperation(a.method).Responses.Value(fmt.Sprint(res.StatusCode))
	if answer == nil {
		return fmt.Errorf("no such status")
	}
	name, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	media := answer.Value.Content[name]
	if media == nil {
		return fmt.Errorf("no such content type %q", name)
	}
	for header := range answer.Value.Headers {
		if header == "Retry-After" && res.Header.Get(header) == "" {
			return fmt.Errorf("no header %s", header)
		}
	}
	switch name {
	case "text/plain", "application/octet-stream", "application/vnd.apache.parquet":
		return nil
	case "application/x-ndjson":
		lines := "LineResult"
		if named, ok := media.Schema.Value.Extensions["x-line"]; ok {
			lines = fmt.Sprint(named)
		}
		for line := range bytes.SplitSeq(bytes.TrimSpace(body), []byte("\n")) {
			if err := visit(r.doc.Components.Schemas[lines], line); err != nil {
				return fmt.Errorf("line %s: %w", line, err)
			}
		}
		return nil
	}
	return visit(media.Schema, body)
}

func visit(schema *openapi3.SchemaRef, body []byte) error {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return schema.Value.VisitJSON(v, openapi3.EnableFormatValidation())
}

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsValidAndComplete(t *testing.T) {
	doc := loadDocument(t)
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	inTable := map[string]bool{}
	for _, r := range Routes() {
		inTable[r.Method+" "+r.Path] = true
		item := doc.Paths.Value(r.Path)
		if item == nil || item.GetOperation(r.Method) == nil {
			t.Errorf("%s %s is not in the document", r.Method, r.Path)
			continue
		}
		security := item.GetOperation(r.Method).Security
		if open := security != nil && len(*security) == 0; open != r.Open {
			t.Errorf("%s %s: the document says open=%v", r.Method, r.Path, open)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !inTable[method+" "+path] {
				t.Errorf("%s %s is in the document only", method, path)
			}
		}
	}
}

func testFiles() []definition.File {
	return []definition.File{{Name: "all.yaml", Content: []byte(`kind: workspace
id: default
timezone: UTC
---
kind: attribute
id: first_name
type: string
---
kind: segment
id: vips
members: static
---
kind: offer
id: hello
group: brand
message_class: marketing
treatments:
  - id: web
    channel: web
    placements: [home]
    content: {type: json, body: {title: "{{ user.first_name | default: 'you' }}"}}
---
kind: decision_policy
id: home
candidates: {offers: {groups: [brand]}}
ranking: {by: order, offers: [hello]}
---
kind: placement
sticky: none
id: home
channel: web
policy: home
context: {page: string}
`)}}
}

func bundleOf(t *testing.T, files []definition.File) string {
	t.Helper()
	type file struct {
		Name    string `json:"name"`
		Content string `json:"content"`
	}
	out := struct {
		Note  string `json:"note"`
		Files []file `json:"files"`
	}{Note: "a note"}
	for _, f := range files {
		out.Files = append(out.Files, file{f.Name, string(f.Content)})
	}
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (r *running) publish() {
	r.t.Helper()
	status, body, _ := r.do(ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json",
		body: bundleOf(r.t, testFiles()),
	})
	if status != 200 {
		r.t.Fatalf("publish: %d %s", status, body)
	}
}

// The whole story over HTTP; every reply is checked against the document by do.
func TestStory(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	want := func(status int, part string, a ask) (string, http.Header) {
		t.Helper()
		got, body, header := r.do(a)
		if got != status || !strings.Contains(body, part) {
			t.Errorf("%s %s: got %d %s, want %d with %s", a.method, a.path, got, body, status, part)
		}
		return body, header
	}
	get := func(path, template string) ask { return ask{method: "GET", path: path, template: template} }
	post := func(path, body string) ask {
		return ask{method: "POST", path: path, kind: "application/json", body: body}
	}
	want(200, `"status":"applied"`, post("/v1/users",
		`{"user_id":"ü/1","attributes":{"first_name":"小雨"},"consents":[{"purpose":"marketing",`+
			`"channel":"sms","granted":true}],"addresses":{"email":"a@example.com"}}`))
	want(200, `"first_name":"小雨"`, get("/v1/users/%C3%BC%2F1", "/v1/users/{id}"))
	want(404, `"code"`, get("/v1/users/nobody", "/v1/users/{id}"))
	const state = "/v1/users/{id}/contact-state"
	want(200, `"caps":[`, get("/v1/users/%C3%BC%2F1/contact-state", state))
	want(404, `"user_not_found"`, get("/v1/users/nobody/contact-state", state))
	want(200, `"consents":[{"purpose":"marketing","channel":"sms","granted":true,`,
		get("/v1/users/%C3%BC%2F1/contact-state", state))
	want(404, `"unknown_offer"`, get("/v1/users/%C3%BC%2F1/contact-state?offer=nothing", state))
	want(404, `"field":"identity"`, get("/v1/users/x/contact-state?identity=crm", state))
	want(400, `"field":"identity"`, get("/v1/users/x/contact-state?identity=", state))
	want(400, `"unknown_parameter"`, get("/v1/users/%C3%BC%2F1/contact-state?of=a", state))
	want(200, `"status":"applied"`, post("/v1/events",
		`{"event_id":"e1","user_id":"ü/1","event":"visit","properties":{"a": [1]}}`))
	want(200, `"status":"duplicate"`, post("/v1/events",
		`{"event_id":"e1","user_id":"ü/1","event":"visit","properties":{"a": [1]}}`))
	body, header := want(200, `"title":"小雨"`, post("/v1/decide", `{"request_id":"r1",`+
		`"user":{"user_id":"ü/1"},"placements":[{"key":"k","placement_id":"home"}],"explain":"all"}`))
	if header.Get("Tact-Durability") == "" {
		t.Error("no Tact-Durability")
	}
	var decision struct {
		ID         string `json:"decision_id"`
		Placements map[string]struct {
			Items []struct {
				Token string `json:"tracking_token"`
			} `json:"items"`
		} `json:"placements"`
	}
	if err := json.Unmarshal([]byte(body), &decision); err != nil || len(decision.ID) != 32 {
		t.Fatalf("%v: %s", err, body)
	}
	outcome := `{"event_id":"o1","outcome":"click","tracking_token":"` +
		decision.Placements["k"].Items[0].Token + `"}`
	want(200, `"applied"`, post("/v1/outcomes", outcome))
	want(200, `"duplicate"`, post("/v1/outcomes", outcome))
	want(422, `"code"`, post("/v1/outcomes", `{"event_id":"o2","outcome":"click","tracking_token":"x"}`))
	want(200, `"what":"click"`, get("/v1/stats?offer=hello", ""))
	want(200, `"rows":[]`, get("/v1/stats?offer=other", ""))
	want(400, `"unknown_parameter"`, get("/v1/stats?of=other", ""))
	want(200, `"first_slot":0`, get("/v1/nodes", ""))
	want(200, `{"totals":[`, get("/v1/totals", ""))
	members := post("/v1/segments/vips/members", `{"add":["ü/1"]}`)
	members.template = "/v1/segments/{id}/members"
	want(200, `"applied"`, members)
	want(200, `"segments":["vips"]`, get("/v1/users/%C3%BC%2F1", "/v1/users/{id}"))
	want(422, `placement`, post("/v1/decide", `{"placements":[{"placement_id":"none"}]}`))
	want(200, `"ok"`, get("/healthz", ""))
	want(200, `true`, get("/readyz", ""))
	want(200, `tact_http_requests_total{method="POST",route="/v1/decide",status="2xx"} 1`,
		get("/metrics", ""))
	want(200, `"openapi": "3.1.0"`, get("/openapi.json", ""))
}

func TestDefinitions(t *testing.T) {
	r := start(t, Options{})
	put := func(body, match string, status int, part string) http.Header {
		t.Helper()
		a := ask{method: "PUT", path: "/v1/definitions", kind: "application/json", body: body}
		if match != "" {
			a.header = map[string]string{"If-Match": match}
		}
		got, reply, header := r.do(a)
		if got != status || !strings.Contains(reply, part) {
			t.Errorf("publish: got %d %s, want %d with %s", got, reply, status, part)
		}
		return header
	}
	if status, body, _ := r.do(ask{method: "GET", path: "/v1/definitions"}); status != 200 ||
		!strings.Contains(body, `"revision":0`) {
		t.Errorf("nothing published: %d %s", status, body)
	}
	good := bundleOf(t, testFiles())
	if tag := put(good, "", 200, `"revision":1`).Get("ETag"); tag != `"1"` {
		t.Errorf("ETag %s", tag)
	}
	put(good, `"7"`, 409, `"stale_revision"`)
	put(good, `W/"1"`, 400, `If-Match`)
	put(good, `"1"`, 200, `"revision":2`)
	put(`{"files":[{"name":"a.yaml","content":"kind: offr\nid: x\n"}]}`, "", 422, `"line":1`)
	if status, body := r.post("/v1/definitions:check",
		`{"files":[{"name":"a.yaml","content":"kind: offr\n"}]}`); status != 200 ||
		!strings.Contains(body, `"ok":false`) {
		t.Errorf("check: %d %s", status, body)
	}
	restore := ask{
		method: "POST", path: "/v1/revisions/1:restore", template: "/v1/revisions/{n}:restore",
	}
	if status, body, _ := r.do(restore); status != 200 || !strings.Contains(body, `"restores":1`) {
		t.Errorf("restore: %d %s", status, body)
	}
	restore.path = "/v1/revisions/99:restore"
	if status, body, _ := r.do(restore); status != 404 {
		t.Errorf("restore of nothing: %d %s", status, body)
	}
	if status, body, _ := r.do(ask{method: "GET", path: "/v1/revisions?limit=2"}); status != 200 ||
		strings.Count(body, `"revision":`) != 2 || !strings.Contains(body, `"a note"`) {
		t.Errorf("revisions: %d %s", status, body)
	}
	status, body, _ := r.do(ask{method: "GET", path: "/v1/definitions?revision=1"})
	if status != 200 || !strings.Contains(body, "kind: workspace") {
		t.Errorf("definitions: %d %s", status, body)
	}
}

func TestMethodsAndKeys(t *testing.T) {
	r := start(t, Options{})
	for _, route := range Routes() {
		path := strings.NewReplacer("{id}", "x", "{n}", "1", "{name}", "heap").Replace(route.Path)
		status, _, header := r.do(ask{method: "PATCH", path: path})
		if status != 405 || !strings.Contains(header.Get("Allow"), route.Method) {
			t.Errorf("PATCH %s: %d, Allow %q", path, status, header.Get("Allow"))
		}
		a := ask{method: route.Method, path: path, template: route.Path, noKey: true}
		status, _, header = r.do(a)
		if route.Open && status != 200 || !route.Open && status != 401 {
			t.Errorf("%s %s without a key: %d", route.Method, path, status)
		}
		if status == 401 && header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: no WWW-Authenticate", path)
		}
		for _, key := range []string{"Bearer x", "Bearer " + testKey + "x", "Basic " + testKey, testKey} {
			a.header = map[string]string{"Authorization": key}
			if status, _, _ := r.do(a); !route.Open && status != 401 {
				t.Errorf("%s %s with %q: %d", route.Method, path, key, status)
			}
		}
	}
	if status, body, _ := r.do(ask{method: "HEAD", path: "/healthz"}); status != 200 || body != "" {
		t.Errorf("HEAD: %d %q", status, body)
	}
	if status, _, _ := r.do(ask{method: "GET", path: "/v2/decide"}); status != 404 {
		t.Errorf("unknown path: %d", status)
	}
}

func TestOptions(t *testing.T) {
	_, err := New(nil, Options{AdminKey: "short", Bulk: -1, ReadTimeout: -1})
	if err == nil {
		t.Fatal("bad options were accepted")
	}
	for _, part := range []string{"admin key", "bulk", "read timeout"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}

// Not ready comes first, a request in flight is answered, then nothing listens.
func TestShutdown(t *testing.T) {
	r := start(t, Options{DrainDelay: 1500 * time.Millisecond})
	done := make(chan error, 1)
	go func() { done <- r.server.Shutdown(context.Background()) }()
	deadline := time.Now().Add(1200 * time.Millisecond)
	status := 0
	for status != 503 && time.Now().Before(deadline) {
		status, _, _ = r.do(ask{method: "GET", path: "/readyz"})
	}
	if status != 503 {
		t.Errorf("ready while draining: %d", status)
	}
	if status, _, _ := r.do(ask{method: "GET", path: "/healthz"}); status != 200 {
		t.Errorf("not alive while draining: %d", status)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", r.addr); err == nil {
		_ = c.Close()
		t.Error("the server still listens")
	}
}

// A shutdown that comes before Serve, or beside its beginning, ends it.
func TestShutdownBeforeServe(t *testing.T) {
	r := start(t, Options{})
	for i := range 200 {
		s, err := New(r.engine, Options{AdminKey: testKey})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		serve := func() { ended <- s.Serve(l) }
		if i%4 != 0 {
			go serve()
		}
		if i%4 == 2 {
			runtime.Gosched()
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			go serve()
		}
		if err := <-ended; err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
	}
}
