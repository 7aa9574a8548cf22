package server

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tact/engine/definition"
)

// queue is a server that answers one decision behind the other, in a fixed time,
// and takes no more than admission lets in. It has no clock but its own.
type queue struct {
	a        admission
	each     int64   // nanoseconds of a decision
	waiting  []int64 // when they came
	free     int64   // when the next can begin
	answered []int64 // when those that were answered in time had come
	bound    int64
}

// to answers what is done by a time.
func (q *queue) to(now int64) {
	for len(q.waiting) > 0 {
		ends := max(q.free, q.waiting[0]) + q.each
		if ends > now {
			return
		}
		came := q.waiting[0]
		q.waiting, q.free = q.waiting[1:], ends
		q.a.finish(ends, ends-came)
		if ends-came <= q.bound {
			q.answered = append(q.answered, came)
		}
	}
}

// load sends perSecond decisions from a time on, and gives the share of capacity
// that was answered in time of those that came.
func (q *queue) load(from int64, length time.Duration, perSecond float64) float64 {
	n, before := int(perSecond*length.Seconds()), len(q.answered)
	for i := range n {
		at := from + int64(float64(i)/perSecond*1e9)
		q.to(at)
		if int64(len(q.waiting)) < q.a.limit.Load() {
			q.waiting = append(q.waiting, at)
		}
	}
	q.to(from + int64(length))
	could := min(perSecond, 1e9/float64(q.each)) * length.Seconds()
	return float64(len(q.answered)-before) / could
}

// Goodput under overload, and that it is over when the overload is.
func TestAdmission(t *testing.T) {
	f := func(each time.Duration, times, goodput float64) {
		t.Helper()
		t.Run(fmt.Sprint(each, times), func(t *testing.T) {
			q := &queue{each: int64(each), bound: int64(time.Second)}
			q.a.init(1024)
			capacity := 1 / each.Seconds()
			if got := q.load(0, 2*time.Second, 0.8*capacity); got < 0.99 {
				t.Errorf("before: goodput %.3f", got)
			}
			if got := q.load(2e9, 5*time.Second, times*capacity); got < goodput {
				t.Errorf("goodput %.3f of the capacity, want %.3f", got, goodput)
			}
			q.load(7e9, 2*time.Second, capacity/2) // recovers
			if got := q.load(9e9, 2*time.Second, capacity/2); got < 0.99 {
				t.Errorf("after: goodput %.3f", got)
			}
			if got := q.a.limit.Load(); got != 1024 {
				t.Errorf("the limit is %d afterwards", got)
			}
		})
	}
	for _, each := range []time.Duration{
		50 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 10 * time.Millisecond,
	} {
		f(each, 2, 0.95)
		f(each, 5, 0.90)
	}
	f(50*time.Microsecond, 10, 0.80)
	f(time.Millisecond, 10, 0.80)
	// Before the queue is known to stand, 1,024 have come: at 10 ms each they are 10 s.
	f(10*time.Millisecond, 10, 0.50)
}

// A burst that the server can answer is not refused, nor are decisions that wait
// for something else than each other for less than the target; one stretch in which
// all stood still changes nothing.
func TestAdmissionLeavesWhatIsNoQueue(t *testing.T) {
	f := func(name string, least time.Duration, stretches int, want int64) {
		t.Helper()
		a := &admission{}
		a.init(1024)
		for i := range int64(stretches) {
			now := (i + 1) * int64(stretch)
			for range 3 * stretchCount {
				a.finish(now, int64(least))
			}
			a.finish(now, int64(least))
		}
		if got := a.limit.Load(); got != want {
			t.Errorf("%s: limit %d, want %d", name, got, want)
		}
	}
	f("quick", time.Millisecond, 100, 1024)
	f("slow", 90*time.Millisecond, 100, 1024)
	f("one stretch", 300*time.Millisecond, 1, 1024)
	f("a queue", 300*time.Millisecond, 3, leastLimit)
}

// While far more is asked than the server can answer, and half of it with no time to
// wait for the disk, nobody is given more than the cap allows.
func TestOverloadKeepsCaps(t *testing.T) {
	r := start(t, Options{ServiceTime: time.Millisecond, InFlight: 24})
	files := append(testFiles(), definition.File{Name: "cap.yaml", Content: []byte(
		"{kind: cap, id: c, scope: person, per: offer, count_on: decision, " +
			"window: {rolling: 1d}, limit: 3}\n",
	)})
	if status, body, _ := r.do(ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json", body: bundleOf(t, files),
	}); status != 200 {
		t.Fatalf("publish: %d %s", status, body)
	}
	const users, callers, each = 12, 48, 60
	for user := range users {
		if status, body := r.post("/v1/users", fmt.Sprintf(`{"user_id":"u%d"}`, user)); status != 200 {
			t.Fatal(status, body)
		}
	}
	var granted [users]atomic.Int64
	var refused, answered atomic.Int64
	request := func(user, timeout int) string {
		return plainText(plainHead, fmt.Sprintf(`{"user":{"user_id":"u%d"},"timeout_us":%d,`+
			`"placements":[{"placement_id":"home"}]}`, user, timeout))
	}
	count := func(user int, reply string) {
		switch {
		case strings.HasPrefix(reply, "503 "):
			refused.Add(1)
		case !strings.HasPrefix(reply, "200 "):
			t.Errorf("user %d: %s", user, reply)
		default:
			answered.Add(1)
			if strings.Contains(reply, `"items":[`) {
				granted[user].Add(1)
			}
		}
	}
	var all sync.WaitGroup
	for k := range callers {
		d := r.dialog()
		all.Go(func() {
			for i := range each {
				user := (k*7 + i) % users
				reply, _ := d.ask(request(user, 1+999_999*(i%2)))
				count(user, reply)
			}
		})
	}
	all.Wait()
	if refused.Load() == 0 || answered.Load() == 0 {
		t.Errorf("%d refused, %d answered: no overload", refused.Load(), answered.Load())
	}
	d := r.dialog()
	for user := range users {
		for range 4 { // what the cap has left is given when there is time
			reply, _ := d.ask(request(user, 1_000_000))
			count(user, reply)
		}
		if n := granted[user].Load(); n > 3 {
			t.Errorf("user %d was given %d contacts of 3", user, n)
		}
	}
}
