package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// raw sends bytes on a connection of its own, ends its writing side, and gives
// every reply that comes back until the server closes.
func (r *running) raw(text string) []string {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		return nil
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return nil
	}
	in := bufio.NewReader(c)
	var replies []string
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return replies
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return append(replies, fmt.Sprintf("%d broken %v", res.StatusCode, err))
		}
		replies = append(replies, fmt.Sprintf("%d %s %s", res.StatusCode,
			res.Header.Get("Content-Type"), body))
	}
}

// alive fails the test when the server does not answer any more.
func (r *running) alive() {
	r.t.Helper()
	if status, _, _ := r.do(ask{method: "GET", path: "/healthz"}); status != 200 {
		r.t.Fatalf("the server is not well: %d", status)
	}
}

func TestBadBodies(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	f := func(path, body string, status int, code string) {
		t.Helper()
		a := ask{method: "POST", path: path, kind: "application/json", body: body}
		if strings.HasSuffix(path, "definitions") {
			a.method = "PUT"
		}
		got, reply, _ := r.do(a)
		if got != status || !strings.Contains(reply, `"code":"`+code+`"`) {
			t.Errorf("%s %.60q: got %d %s, want %d %s", path, body, got, reply, status, code)
		}
	}
	const p = `"placements":[{"placement_id":"home"}]`
	f("/v1/decide", ``, 400, "truncated")
	f("/v1/decide", `{`+p+`,"x":1}`, 400, "unknown_field")
	f("/v1/decide", `{"placements":7}`, 400, "wrong_type")
	f("/v1/decide", `{`+p, 400, "truncated")
	f("/v1/decide", `{`+p+`,"context":{"a":`+strings.Repeat(`[`, 40), 400, "too_deep")
	f("/v1/decide", `{`+p+`,"request_id":"`+"\xff"+`"}`, 400, "invalid_utf8")
	f("/v1/decide", `{`+p+`,"dedupe":"x"}`, 422, "invalid_value")
	f("/v1/decide", `{`+p+`,"request_id":"`+strings.Repeat("x", 64<<10)+`"}`, 413, "too_large")
	f("/v1/decide", strings.Repeat("[", 1<<20), 413, "too_large")
	f("/v1/users", `{"user_id":"u","attributes":{"a":1},"age":3}`, 400, "unknown_field")
	f("/v1/users", `[]`, 400, "wrong_type")
	f("/v1/users", `{"user_id":"`+strings.Repeat("x", 1<<20)+`"}`, 413, "too_large")
	f("/v1/events", `{"user_id":"u"}`, 400, "missing_field")
	f("/v1/outcomes", `{"outcome":"click"}`, 400, "missing_field")
	f("/v1/definitions", `{"files":7}`, 400, "wrong_type")
	f("/v1/definitions", strings.Repeat(" ", 9<<20), 413, "too_large")
	a := ask{method: "POST", path: "/v1/decide", kind: "text/plain", body: "{}"}
	if status, _, _ := r.do(a); status != 415 {
		t.Errorf("text/plain: %d", status)
	}
	a.kind, a.header = "application/json", map[string]string{"Content-Encoding": "gzip"}
	if status, _, _ := r.do(a); status != 415 {
		t.Errorf("packed decide: %d", status)
	}
	r.alive()
}

// Random bytes and damaged documents: always a problem document or a good
// answer, never a stop, and no memory kept.
func TestRandomBodies(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	seed := uint64(20261122)
	rng := rand.New(rand.NewPCG(seed, 1))
	documents := []ask{
		{path: "/v1/decide", body: `{"user":{"user_id":"u"},"placements":[{"placement_id":"home"}]}`},
		{path: "/v1/users", body: `{"user_id":"u","attributes":{"first_name":"x"},"tags":["a"]}`},
		{path: "/v1/events", body: `{"user_id":"u","event":"visit","properties":{"a":[1,{"b":2}]}}`},
		{path: "/v1/outcomes", body: `{"event_id":"e","outcome":"click","tracking_token":"abc"}`},
	}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 600 {
		a := documents[rng.IntN(len(documents))]
		a.method, a.kind = "POST", "application/json"
		body := []byte(a.body)
		switch rng.IntN(3) {
		case 0:
			body = make([]byte, rng.IntN(2000))
			for i := range body {
				body[i] = byte(rng.Uint32())
			}
		case 1:
			body = body[:rng.IntN(len(body))]
		case 2:
			for range 1 + rng.IntN(4) {
				body[rng.IntN(len(body))] = byte(rng.Uint32())
			}
		}
		a.body = string(body)
		if status, reply, _ := r.do(a); status >= 500 {
			t.Fatalf("seed %d: %s %q: %d %s", seed, a.path, body, status, reply)
		}
	}
	r.alive()
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func TestFraming(t *testing.T) {
	r := start(t, Options{})
	const head = " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + testKey +
		"\r\nContent-Type: application/json\r\n"
	const second = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	// One refusal, and nothing behind it is taken for a request.
	f := func(text, want string) {
		t.Helper()
		got := r.raw(text + second)
		if len(got) != 1 || !strings.HasPrefix(got[0], want) ||
			!strings.Contains(got[0], "application/problem+json") {
			t.Errorf("%.60q: got %q, want one %s", text, got, want)
		}
	}
	f("POST /v1/decide"+head+"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400")
	f("POST /v1/decide"+head+"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}", "400")
	f("POST /v1/decide"+head+"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400")
	f("POST /v1/decide"+head+"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "400")
	f("GET /v1/../healthz"+head+"\r\n", "400")
	f("GET //healthz"+head+"\r\n", "400")
	f("GET /healthz/"+head+"\r\n", "400")
	f("GET /healthz/."+head+"\r\n", "400")
	f("GET http://x/healthz"+head+"\r\n", "400")
	f("GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", "400")
	f("GET /healthz"+head+"X: "+strings.Repeat("y", 20<<10)+"\r\n\r\n", "431")
	f("nonsense\r\n\r\n", "400")
	// A path that only looks like one is no path.
	for _, path := range []string{"/%68ealthz", "/healthz%2f", "/v1/users/a/b"} {
		if got := r.raw("GET " + path + head + "\r\n"); len(got) != 1 ||
			!strings.HasPrefix(got[0], "404") {
			t.Errorf("%s: %q", path, got)
		}
	}
	// A body that nobody reads does not become the next request.
	body := strings.Repeat("x", 1<<20)
	got := r.raw("POST /v1/nowhere" + head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) +
		body + second)
	if len(got) != 2 || !strings.HasPrefix(got[0], "404") || !strings.HasPrefix(got[1], "200") {
		t.Errorf("a body that was drained: %.300q", got)
	}
	got = r.raw("POST /v1/nowhere" + head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + second)
	if len(got) > 1 {
		t.Errorf("a broken chunk was followed by: %q", got)
	}
	got = r.raw("POST /v1/nowhere" + head + "Content-Length: 9000\r\n\r\n" + body[:9000] + second)
	if len(got) != 2 || !strings.HasPrefix(got[1], "200") {
		t.Errorf("the connection was not kept: %q", got)
	}
	r.alive()
}

func TestCutBodies(t *testing.T) {
	r := start(t, Options{ReadTimeout: 300 * time.Millisecond})
	head := "POST /v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + testKey + "\r\n"
	line := func(i int) string { return fmt.Sprintf("{\"user_id\":\"cut%d\"}\n", i) }
	lines := line(1) + line(2) + line(3)
	one := head + "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n" + line(9)
	if got := r.raw(one); len(got) != 1 || !strings.HasPrefix(got[0], "400") {
		t.Errorf("one document cut: %q", got)
	}
	f := func(text string) {
		t.Helper()
		got := r.raw(text)
		if len(got) != 1 || !strings.HasPrefix(got[0], "200") ||
			strings.Count(got[0], `"applied"`) != 2 || !strings.Contains(got[0],
			`{"line":3,"status":"rejected","error":{"code":"truncated"`) {
			t.Errorf("%q", got)
		}
	}
	const many = "Content-Type: application/x-ndjson\r\n"
	f(head + many + "Content-Length: 500\r\n\r\n" + lines[:len(lines)-3])
	f(head + many + "Content-Length: 500\r\n\r\n" + lines[:len(lines)-1])
	f(head + many + "Transfer-Encoding: chunked\r\n\r\n" +
		fmt.Sprintf("%x\r\n%s", len(lines), lines[:len(lines)-3]))
	for i, known := range []bool{true, true, false} {
		status, _, _ := r.do(ask{
			method: "GET", path: fmt.Sprintf("/v1/users/cut%d", i+1), template: "/v1/users/{id}",
		})
		if known != (status == 200) {
			t.Errorf("line %d: %d", i+1, status)
		}
	}
	r.alive()
}

func TestBulk(t *testing.T) {
	r := start(t, Options{LineBytes: 1000, UnpackedBytes: 1 << 20})
	var body strings.Builder
	for i := 1; i <= 2500; i++ {
		switch {
		case i == 7:
			body.WriteString("{\"user_id\":\"b7\",\"x\":1}\r\n")
		case i == 8:
			body.WriteString("\n")
		case i == 9:
			body.WriteString(`{"user_id":"` + strings.Repeat("x", 200_000) + "\"}\n")
		default:
			fmt.Fprintf(&body, "{\"user_id\":\"b%d\"}\n", i)
		}
	}
	text := strings.TrimSuffix(body.String(), "\n")
	check := func(coding, packed string) {
		t.Helper()
		a := ask{method: "POST", path: "/v1/users", kind: "application/x-ndjson", body: packed}
		if coding != "" {
			a.header = map[string]string{"Content-Encoding": coding}
		}
		status, reply, _ := r.do(a)
		results := strings.Split(strings.TrimSpace(reply), "\n")
		if status != 200 || len(results) != 2499 || strings.Count(reply, `"applied"`) != 2497 {
			t.Fatalf("%s: %d, %d results", coding, status, len(results))
		}
		const rejected = `{"line":%d,"status":"rejected","error":{"code":%q`
		if !strings.Contains(results[6], fmt.Sprintf(rejected, 7, "unknown_field")) ||
			!strings.Contains(results[7], fmt.Sprintf(rejected, 9, "too_large")) ||
			results[2498] != `{"line":2500,"status":"applied"}` {
			t.Errorf("%s: %s %s %s", coding, results[6], results[7], results[2498])
		}
	}
	check("", text)
	check("gzip", gzipped(t, text))
	check("zstd", zstdPacked(t, text))
	a := ask{method: "POST", path: "/v1/users", kind: "application/x-ndjson", body: text}
	a.header = map[string]string{"Content-Encoding": "br"}
	if status, _, _ := r.do(a); status != 415 {
		t.Errorf("br: %d", status)
	}
	a.header = map[string]string{"Content-Encoding": "gzip"}
	if status, _, _ := r.do(a); status != 400 {
		t.Errorf("not gzip at all: %d", status)
	}
	a.body = gzipped(t, text)
	a.body = a.body[:len(a.body)/2] + strings.Repeat("\x00", 40)
	if status, reply, _ := r.do(a); status != 200 || !strings.Contains(reply, `"bad_encoding"`) {
		t.Errorf("damaged gzip: %d %.200s", status, reply)
	}
	// A bomb: 64 MiB of blank lines in a few KiB.
	a.body = gzipped(t, strings.Repeat("\n", 64<<20))
	if status, reply, _ := r.do(a); status != 200 || !strings.Contains(reply, `"too_large"`) {
		t.Errorf("bomb: %d %.200s", status, reply)
	}
	r.alive()
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstdPacked(t *testing.T, text string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

// The same key with the same body is applied once; in a bulk body the line
// number belongs to the key.
func TestIdempotencyKey(t *testing.T) {
	r := start(t, Options{})
	send := func(kind, body, want string) {
		t.Helper()
		_, reply, _ := r.do(ask{
			method: "POST", path: "/v1/users", kind: kind, body: body,
			header: map[string]string{"Idempotency-Key": `"k1"`},
		})
		if !strings.Contains(reply, want) {
			t.Errorf("%s: got %s, want %s", body, reply, want)
		}
	}
	send("application/json", `{"user_id":"a"}`, `"applied"`)
	send("application/json", `{"user_id":"a"}`, `"duplicate"`)
	bulk := "{\"user_id\":\"a\"}\n{\"user_id\":\"a\"}\n"
	send("application/x-ndjson", bulk, `{"line":2,"status":"applied"}`)
	send("application/x-ndjson", bulk, `{"line":1,"status":"duplicate"}`)
	status, _, _ := r.do(ask{
		method: "POST", path: "/v1/users", kind: "application/json", body: `{"user_id":"a"}`,
		header: map[string]string{"Idempotency-Key": strings.Repeat("k", 200)},
	})
	if status != 400 {
		t.Errorf("long key: %d", status)
	}
}

// A slow sender is cut off; the places it held come back.
func TestLimits(t *testing.T) {
	r := start(t, Options{
		ReadTimeout: 200 * time.Millisecond, BulkIdle: 1500 * time.Millisecond, Bulk: 1,
	})
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+
		testKey+"\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	// A byte now and then keeps the place, however slow the machine is.
	silent := make(chan struct{})
	go func() {
		for {
			select {
			case <-silent:
				return
			case <-time.After(50 * time.Millisecond):
				_, _ = io.WriteString(c, " ")
			}
		}
	}()
	for until := time.Now().Add(20 * time.Second); r.server.bulk.Load() == 0; {
		if time.Now().After(until) {
			t.Fatal("the slow sender has no place")
		}
		time.Sleep(time.Millisecond)
	}
	a := ask{
		method: "POST", path: "/v1/users", kind: "application/x-ndjson",
		body: "{\"user_id\":\"a\"}\n",
	}
	status, _, header := r.do(a)
	if status != 429 || header.Get("Retry-After") == "" {
		t.Errorf("beside another bulk request: %d, Retry-After %q", status, header.Get("Retry-After"))
	}
	close(silent)
	for until := time.Now().Add(20 * time.Second); status != 200 && time.Now().Before(until); {
		status, _, _ = r.do(a)
	}
	if status != 200 {
		t.Errorf("after the slow sender: %d", status)
	}
	if n := r.server.inFlight.Load(); n != 0 {
		t.Errorf("%d requests still in flight", n)
	}
}

// What comes late of a body that was given up is not taken for a request.
func TestGivenUpBody(t *testing.T) {
	r := start(t, Options{})
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	packed := gzipped(t, strings.Repeat("{\"user_id\":\"g\"}\n", 500))
	damaged := packed[:len(packed)/2] + strings.Repeat("\x00", 600)
	if _, err := fmt.Fprintf(c, "POST /v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/x-ndjson\r\nContent-Encoding: gzip\r\nContent-Length: 5000\r\n\r\n%s",
		testKey, damaged); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(body), `"bad_encoding"`) {
		t.Fatalf("%v: %.300s", err, body)
	}
	// The server may have closed already: then the write fails, which is as good.
	_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if res, err := http.ReadResponse(in, nil); err == nil {
		t.Errorf("the rest of the body was answered: %d", res.StatusCode)
	}
	r.alive()
}
