package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tact/engine"
	"tact/engine/definition"
	"tact/storage"
)

// lending starts a server that lends a connection after its first plain decision.
func lending(t *testing.T, o Options) *running {
	t.Helper()
	o.lendAfter = 1
	return start(t, o)
}

// lent waits until so many connections are in loops.
func (r *running) lent(n int64) {
	r.t.Helper()
	for until := time.Now().Add(20 * time.Second); r.server.loops.lent.Load() != n; {
		if time.Now().After(until) {
			r.t.Fatalf("%d connections are lent, want %d", r.server.loops.lent.Load(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// lend asks until the dialog's connection is lent, the only one.
func (d *dialog) lend(r *running, text string) (want string) {
	d.t.Helper()
	for range 3 {
		if want, _ = d.ask(text); !strings.HasPrefix(want, "200") {
			d.t.Fatal(want)
		}
	}
	r.lent(1)
	return want
}

// A lent connection answers plain decisions, is given back for whatever is not
// plain, and is lent again.
func TestLoopAnswers(t *testing.T) {
	r := lending(t, Options{})
	whole := r.counting()
	r.publish()
	d := r.dialog()
	text := plainText(plainHead, asked("ann"))
	want := d.lend(r, text)
	for range 20 {
		if got, open := d.ask(text); got != want || !open {
			t.Fatalf("%s\nwant %s", got, want)
		}
	}
	r.lent(1)
	if n := whole.Load(); n != 2 {
		t.Errorf("%d decisions were not plain", n)
	}
	for range 3 {
		if got, _ := d.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "200") {
			t.Fatal(got)
		}
		r.lent(0)
		for range 16 {
			if got, _ := d.ask(text); got != want {
				t.Fatal(got)
			}
		}
		r.lent(1)
	}
	// In two pieces, and two at once.
	half := len(text) / 2
	if _, err := io.WriteString(d.c, text[:half]); err != nil {
		t.Fatal(err)
	}
	r.lent(0)
	if got, _ := d.ask(text[half:] + text); got != want {
		t.Fatal(got)
	}
	if got, _ := d.answer(); got != want {
		t.Fatal(got)
	}
	_ = d.c.Close()
	r.noneInFlight()
}

// Limits, panics and the end of the client's side are met in a loop as elsewhere.
func TestLoopLimits(t *testing.T) {
	r := lending(t, Options{InFlight: 1})
	r.publish()
	d := r.dialog()
	text := plainText(plainHead, asked("ann"))
	d.lend(r, text)
	r.noneInFlight()
	r.server.inFlight.Add(1)
	if got, open := d.ask(text); !strings.HasPrefix(got, "503") || !open {
		t.Error(got, open)
	}
	r.server.inFlight.Add(-1)
	d.lend(r, text)
	e := r.server.engine
	r.server.engine = nil
	if got, _ := d.ask(text); !strings.HasPrefix(got, "500") {
		t.Error(got)
	}
	r.server.engine = e
	if got, open := d.ask(text); open {
		t.Errorf("the connection went on after a panic: %s", got)
	}
	r.lent(0)
	d = r.dialog()
	d.lend(r, text)
	_ = d.c.Close()
	r.lent(0)
	r.alive()
	r.noneInFlight()
}

// A connection that is idle in a loop ends at its time.
func TestLoopIdle(t *testing.T) {
	r := lending(t, Options{IdleTimeout: 300 * time.Millisecond})
	r.publish()
	d := r.dialog()
	d.lendOrEnd(plainText(plainHead, asked("ann")))
	if _, err := d.in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the idle connection read %v", err)
	}
	r.lent(0)
}

// lendOrEnd asks as lend does, where a slow machine may see the connection end.
func (d *dialog) lendOrEnd(text string) {
	for range 3 {
		if _, open := d.ask(text); !open {
			return
		}
	}
}

// Lent connections do not hold a shutdown up, and what is under way is answered.
func TestLoopShutdown(t *testing.T) {
	r := lending(t, Options{})
	r.publish()
	text := plainText(plainHead, asked("ann"))
	list := make([]*dialog, 20)
	for i := range list {
		list[i] = r.dialog()
		for range 3 {
			if got, _ := list[i].ask(text); !strings.HasPrefix(got, "200") {
				t.Fatal(got)
			}
		}
	}
	r.lent(int64(len(list)))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	r.lent(0)
	for _, d := range list {
		if got, open := d.ask(text); open {
			t.Fatalf("a connection goes on: %s", got)
		}
	}
}

// Closing lent connections while they are asked tears no reply.
func TestLoopCloseWhileAsked(t *testing.T) {
	r := lending(t, Options{})
	r.publish()
	text := plainText(plainHead, asked("ann"))
	var all sync.WaitGroup
	for range 16 {
		d := r.dialog()
		all.Go(func() {
			for {
				got, open := d.ask(text)
				if !open {
					return
				}
				if !strings.HasPrefix(got, "200 ") && !strings.HasPrefix(got, "503 ") {
					t.Errorf("answered %s", got)
					return
				}
			}
		})
	}
	for until := time.Now().Add(20 * time.Second); r.server.loops.lent.Load() < 16; {
		if time.Now().After(until) {
			t.Fatal("connections are not lent")
		}
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	r.noneInFlight()
}

// A client that does not read takes a reply in pieces, and no loop waits for it.
func TestLoopSlowClient(t *testing.T) {
	r := lending(t, Options{})
	r.publish()
	c, peer := pair(t)
	o := &loan{fd: -1}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	long := []byte(strings.Repeat("0123456789", 5<<19))
	var failed error
	if err := raw.Control(func(fd uintptr) {
		o.fd = int(fd)
		failed = o.reply(&conn{begun: time.Now()}, long, time.Now())
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if len(o.rest) == 0 || len(o.rest) == len(long) {
		t.Fatalf("%d of %d bytes are left", len(o.rest), len(long))
	}
	go func() { _, _ = c.Write(o.rest); _ = c.Close() }()
	got, err := io.ReadAll(peer)
	if err != nil || string(got) != string(long) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// pair gives both ends of a connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = a.Close(), b.Close(), l.Close() })
	return a, b
}

// A decision that waits for the disk lets the loop go on with others: all of them
// are answered although each one waits.
func TestLoopWaits(t *testing.T) {
	r := startWith(t, Options{lendAfter: 1}, engine.Options{Storage: storage.Options{RingDir: ""}})
	files := append(testFiles(), definition.File{Name: "cap.yaml", Content: []byte(
		"{kind: cap, id: c, scope: person, per: offer, count_on: impression, " +
			"window: {rolling: 1d}, limit: 3}\n",
	)})
	if status, body, _ := r.do(ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json", body: bundleOf(t, files),
	}); status != 200 {
		t.Fatalf("publish: %d %s", status, body)
	}
	const callers, each = 12, 8
	decide := func(k, i int) string {
		return plainText(plainHead, fmt.Sprintf(
			`{"user":{"user_id":"u%d-%d"},"placements":[{"placement_id":"home"}],"timeout_us":100000}`, k, i))
	}
	var all sync.WaitGroup
	for k := range callers {
		d := r.dialog()
		for i := range each {
			r.post("/v1/users", fmt.Sprintf(`{"user_id":"u%d-%d"}`, k, i))
		}
		all.Go(func() {
			for i := range 2 * each {
				got, open := d.ask(decide(k, i%each))
				if !strings.HasPrefix(got, "200") || !open {
					t.Errorf("%d %d: %s", k, i, got)
					return
				}
			}
		})
	}
	all.Wait()
	waited := uint64(0)
	for _, n := range r.engine.Waited() {
		waited += n
	}
	if waited == 0 {
		t.Error("no decision waited")
	}
	r.noneInFlight()
}
