package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tact/engine"
)

// dialog is one connection on which requests are asked one behind the other.
type dialog struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

func (r *running) dialog() *dialog {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return &dialog{r.t, c, bufio.NewReader(c)}
}

// answer reads one reply, head and body, and whether the connection goes on.
func (d *dialog) answer() (text string, open bool) {
	d.t.Helper()
	res, err := http.ReadResponse(d.in, nil)
	if err != nil {
		return err.Error(), false
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, res.StatusCode, res.Proto, res.ContentLength)
	_ = res.Header.Write(&b)
	return b.String() + string(body), !res.Close
}

// ask sends a text and reads one reply.
func (d *dialog) ask(text string) (string, bool) {
	d.t.Helper()
	if _, err := io.WriteString(d.c, text); err != nil {
		return err.Error(), false
	}
	return d.answer()
}

// plainHead is a head that a client sends again and again.
const plainHead = decideLine + "Host: x\r\nUser-Agent: test\r\nAuthorization: Bearer " + testKey +
	"\r\nContent-Type: application/json\r\n"

func plainText(head, body string) string {
	return head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body
}

// asked is a dry run at a fixed time: equal requests have equal replies.
func asked(user string) string {
	return `{"user":{"user_id":"` + user + `"},"placements":[{"placement_id":"home"}],` +
		`"mode":"preview","revision":1,"now":"2026-01-02T03:04:05Z"}`
}

// counting makes the server count the decisions that are not plain.
func (r *running) counting() *atomic.Int64 {
	n := &atomic.Int64{}
	r.server.routes[0].handle = func(s *Server, q *request) {
		n.Add(1)
		s.decide(q)
	}
	return n
}

// noneInFlight waits until every place under the limit has been given back.
func (r *running) noneInFlight() {
	r.t.Helper()
	for until := time.Now().Add(20 * time.Second); r.server.inFlight.Load() != 0; {
		if time.Now().After(until) {
			r.t.Fatalf("%d requests still in flight", r.server.inFlight.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

// The third request with the same head is plain, and so is every one behind it.
func TestPlainDecisions(t *testing.T) {
	r := start(t, Options{})
	whole := r.counting()
	r.publish()
	d := r.dialog()
	want, _ := d.ask(plainText(plainHead, asked("ann")))
	if !strings.HasPrefix(want, "200 ") {
		t.Fatal(want)
	}
	for i := range 20 {
		got, open := d.ask(plainText(plainHead, asked("ann")))
		if got != want || !open {
			t.Fatalf("%d: %s\nwant %s", i, got, want)
		}
	}
	// A longer and a shorter body have the same head; whole ones still go between.
	for _, user := range []string{strings.Repeat("long", 25), "a"} {
		if got, _ := d.ask(plainText(plainHead, asked(user))); !strings.Contains(got, user) {
			t.Fatal(got)
		}
	}
	if got, _ := d.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	if got, _ := d.ask(plainText(plainHead, asked("ann"))); got != want {
		t.Fatal(got)
	}
	if n := whole.Load(); n != 2 {
		t.Errorf("%d decisions of 24 were not plain, want 2", n)
	}
	if text := r.metrics(); !strings.Contains(text,
		`tact_http_requests_total{method="POST",route="/v1/decide",status="2xx"} 24`) {
		t.Error("plain decisions are not counted")
	}
	r.noneInFlight()
}

// variants are requests near a plain one.
func variants() []string {
	body := asked("ann")
	list := []string{
		plainText(plainHead, body), plainText(plainHead, asked("bob")),
		plainText(plainHead, body), plainText(plainHead, body), // the usual ones
		plainText(plainHead, `{}`), plainText(plainHead, `{"user":7}`), plainText(plainHead, ""),
		plainText(plainHead, `{"user":{"user_id":"u"},"placements":[{"placement_id":"nowhere"}]}`),
		plainText(plainHead, strings.Repeat(" ", 5000)+body), // longer than the decisions' limit
		plainText(strings.Replace(plainHead, testKey, "another-key-of-some-length", 1), body),
		plainText(strings.Replace(plainHead, "json", "yaml", 1), body),
		plainText(plainHead+"Content-Encoding: gzip\r\n", body),
		plainText(plainHead+"Connection: close\r\n", body),
		plainText(plainHead+"Connection: keep-alive\r\n", body),
		plainText(strings.Replace(plainHead, "/v1/decide", "/v1/decide?x=1", 1), body),
		plainText(strings.Replace(plainHead, "HTTP/1.1", "HTTP/1.0", 1), body),
		plainHead + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n",
			len(body), body),
		plainHead + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
		plainHead + fmt.Sprintf("content-length:%03d\r\n\r\n", len(body)) + body,
		plainHead + "Content-Length: x\r\n\r\n" + body,
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
		"\r\n",
	}
	return list
}

// Every request on a connection is answered as it is on one of its own, whatever
// came before it, in however many pieces it comes, with however much behind it.
func TestPlainIsAsWhole(t *testing.T) {
	for name, after := range map[string]int{"alone": 1 << 30, "lent": 1} {
		t.Run(name, func(t *testing.T) { plainIsAsWhole(t, after) })
	}
}

func plainIsAsWhole(t *testing.T, lendAfter int) {
	r := start(t, Options{DecideBytes: 4000, lendAfter: lendAfter})
	r.publish()
	list := variants()
	type reply struct {
		text string
		open bool
	}
	want := make([]reply, len(list)-1)
	for i := range want {
		want[i].text, want[i].open = r.dialog().ask(list[i])
	}
	if want[0].text == want[1].text || !strings.HasPrefix(want[9].text, "401") {
		t.Fatalf("the requests are not what they should be: %v", want)
	}
	random := rand.New(rand.NewPCG(7, 7))
	for round := range 60 {
		var order []int
		var text []byte
		for open := true; open && len(order) < 12; {
			i := random.IntN(len(want))
			if random.IntN(2) == 0 {
				i = random.IntN(4)
			}
			order, open = append(order, i), want[i].open
			text = append(text, list[i]...)
		}
		d := r.dialog()
		piecemeal := round%3 == 1 // else one by one, or all at once
		if round%3 != 0 {
			go d.send(text, piecemeal, uint64(round))
		}
		for k, i := range order {
			if round%3 == 0 {
				if _, err := io.WriteString(d.c, list[i]); err != nil {
					t.Fatal(err)
				}
			}
			if got, open := d.answer(); got != want[i].text || open != want[i].open {
				t.Fatalf("round %d, %v, request %d (%.60q) answered\n%s\nwant\n%s",
					round, order, k, list[i], got, want[i].text)
			}
		}
		_ = d.c.Close()
	}
	r.alive()
	r.noneInFlight()
}

// send writes a text, in pieces of random length or at once.
func (d *dialog) send(text []byte, piecemeal bool, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	for len(text) > 0 {
		n := len(text)
		if piecemeal {
			n = min(n, 1+random.IntN(400))
		}
		if _, err := d.c.Write(text[:n]); err != nil {
			return // the server has ended it
		}
		text = text[n:]
	}
}

// A head is not trusted for what was answered to another one.
func TestOnlyTheHeadThatWasAnsweredIsTrusted(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	good := plainText(plainHead, asked("ann"))
	wrong := strings.Replace(good, testKey, "another-key-of-some-length", 1)
	d := r.dialog()
	f := func(text, want string) {
		t.Helper()
		if got, _ := d.ask(text); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(good, "200")
	for range 3 {
		f(wrong, "401")
		if _, err := io.WriteString(d.c, good[:40]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Millisecond) // mostly enough for the server to read the piece
		f(good[40:], "200")
		f(wrong, "401")
		f(good, "200")
		f(good, "200")
	}
}

// A plain decision meets the in-flight limit like any other, and a panic in one
// is an answer.
func TestPlainLimits(t *testing.T) {
	r := start(t, Options{InFlight: 1})
	whole := r.counting()
	r.publish()
	d := r.dialog()
	text := plainText(plainHead, asked("ann"))
	f := func(want string, wantOpen bool) {
		t.Helper()
		if got, open := d.ask(text); !strings.HasPrefix(got, want) || open != wantOpen {
			t.Errorf("%s, open %v: want %s, %v", got, open, want, wantOpen)
		}
	}
	for range 5 {
		f("200", true)
	}
	r.noneInFlight()
	r.server.inFlight.Add(1)
	f("503", true)
	r.server.inFlight.Add(-1)
	f("200", true)
	if n := whole.Load(); n != 2 {
		t.Fatalf("%d decisions were not plain", n)
	}
	e := r.server.engine
	r.server.engine = nil
	if got, _ := d.ask(text); !strings.HasPrefix(got, "500") {
		t.Error(got)
	}
	r.server.engine = e
	if got, open := d.ask(text); open {
		t.Errorf("the connection went on after a panic: %s", got)
	}
	r.alive()
	r.noneInFlight()
}

// A connection that is closed while a plain decision is answered is closed behind
// the reply; one that is closed before decides nothing.
func TestCloseWaitsForThePlainReply(t *testing.T) {
	under := &counted{}
	c := &conn{Conn: closing{under}, begun: time.Now(), slack: time.Second}
	c.state.Store(connBusy)
	for range 2 {
		if err := c.Close(); err != nil || under.closes != 0 {
			t.Fatalf("closed %d times, %v, while a decision was answered", under.closes, err)
		}
	}
	c.state.Store(connFree)
	if err := c.Close(); err != nil || under.closes != 1 {
		t.Fatalf("closed %d times, %v", under.closes, err)
	}
	text := plainText(plainHead, "{}")
	c.server = &Server{opts: Options{DecideBytes: 100}}
	c.seen.read([]byte(text))
	c.trust()
	if answered, err := c.plainly([]byte(text)); answered || err == nil {
		t.Errorf("a closed connection answered: %v, %v", answered, err)
	}
}

// A plain decision under way when the server shuts down is answered, and its
// connection does not hold the server up.
func TestShutdownAnswersThePlain(t *testing.T) {
	r := start(t, Options{ServiceTime: 300 * time.Millisecond})
	whole := r.counting()
	r.publish()
	d := r.dialog()
	text := plainText(plainHead, asked("ann"))
	for range 3 {
		if got, _ := d.ask(text); !strings.HasPrefix(got, "200") {
			t.Fatal(got)
		}
	}
	if n := whole.Load(); n != 2 {
		t.Fatalf("%d decisions were not plain", n)
	}
	r.noneInFlight()
	if _, err := io.WriteString(d.c, text); err != nil {
		t.Fatal(err)
	}
	for r.server.inFlight.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.answer(); !strings.HasPrefix(got, "200") {
		t.Errorf("the decision under way was answered %q", got)
	}
	if got, open := d.ask(text); open {
		t.Errorf("the connection goes on: %s", got)
	}
}

type closing struct{ *counted }

func (c closing) Close() error { c.closes++; return nil }

// A plain decision adds no allocation to those of the engine.
func TestPlainAllocations(t *testing.T) {
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
	c := &conn{Conn: &counted{}, begun: time.Now(), slack: time.Hour, plain: plain{server: r.server}}
	text := []byte(plainText(plainHead, string(body)))
	c.seen.read(text)
	c.trust()
	whole := testing.AllocsPerRun(200, func() {
		if answered, err := c.plainly(text); !answered || err != nil {
			t.Fatalf("%v %v", answered, err)
		}
	})
	if whole > alone && !raceEnabled {
		t.Errorf("%v allocations, %v of them in the engine", whole, alone)
	}
}

// Whatever is taken for a plain request is one to another reader of HTTP too, with
// the same head and body.
func FuzzHead(f *testing.F) {
	for _, text := range variants() {
		f.Add([]byte(text), []byte(plainText(plainHead, "{}")))
		f.Add([]byte(text), []byte(text+text))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var h head
		h.read(first)
		if len(h.text) == 0 {
			return
		}
		a, errA := http.ReadRequest(bufio.NewReader(bytes.NewReader(first)))
		if errA != nil {
			return // it is not trusted: nobody answers it with a decision
		}
		if a.TransferEncoding != nil || a.ContentLength < 0 {
			return
		}
		same(t, a, h.body(first))
		body := h.body(second)
		if body == nil {
			return
		}
		b, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(second)))
		if err != nil {
			t.Fatalf("%q is no request: %v", second, err)
		}
		same(t, b, body)
		a.Header.Del("Content-Length")
		b.Header.Del("Content-Length")
		if fmt.Sprint(a.Method, a.URL, a.Proto, a.Host, a.Header) !=
			fmt.Sprint(b.Method, b.URL, b.Proto, b.Host, b.Header) {
			t.Errorf("%q and %q have other heads", first, second)
		}
	})
}

func same(t *testing.T, req *http.Request, body []byte) {
	t.Helper()
	want, err := io.ReadAll(req.Body)
	if err != nil || !bytes.Equal(want, body) {
		t.Errorf("the body is %q, %v; taken for %q", want, err, body)
	}
}
