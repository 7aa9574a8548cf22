package loadtest

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fasthttp"
)

// phase is one stretch of load on a pool: a warm-up window, a step of a search,
// the measured run. It begins with no request under way and ends so.
type phase struct {
	pool     *pool
	schedule schedule
	share    Share
	pacers   int
	closed   bool  // closed loop: every connection asks again once it is answered
	limit    int64 // arrivals of a closed loop
	first    int64 // number of the first arrival: phases ask of different users
	bound    time.Duration
	expect   []byte
	windows  int
	pids     []int // of the server, for its CPU; none: not known
	progress func(elapsed, whole time.Duration)

	began       time.Time
	until       atomic.Bool // the closed loop has ended
	issued      atomic.Int64
	sent        atomic.Int64
	dropped     atomic.Int64
	waited      atomic.Int64
	reconnected atomic.Int64
	open        atomic.Int64
	recorders   []recorder
	opened      []int64 // requests under way at the start of each window
}

// replied is a reply as the connection saw it.
type replied struct {
	kind  uint8
	reply *fasthttp.Response
	at    time.Time
}

func (ph *phase) since() time.Duration { return time.Since(ph.began) }

// run makes the load and waits for its last reply, at most one timeout after
// the last request. A cancelled ctx ends the load early; what was measured by
// then is given, marked as cut.
func (ph *phase) run(ctx context.Context) (*tally, error) {
	ph.recorders = make([]recorder, min(runtime.NumCPU(), 8))
	for i := range ph.recorders {
		ph.recorders[i].tally = newTally()
		ph.recorders[i].tally.windows = newWindows(ph.windows)
	}
	ph.opened = make([]int64, ph.windows)
	before, err := ph.sample()
	if err != nil {
		return nil, err
	}
	ended := ph.watchProgress()
	defer ended()
	ph.began = time.Now()
	var lateness *hdr.Histogram
	var took time.Duration
	if ph.closed {
		lateness = newHistogram()
		ph.loop(ctx)
	} else if lateness, took, err = ph.pace(ctx); err != nil {
		return nil, err
	}
	ph.drain()
	if ph.closed {
		took = ph.since() // the replies that were still to come are counted too
	}
	after, err := ph.sample()
	if err != nil {
		return nil, err
	}
	t := ph.sum()
	t.lateness, t.took, t.cut = lateness, took, ctx.Err() != nil
	if ph.closed {
		t.span, t.intended = took, t.issued
	} else if t.cut {
		due := ph.schedule
		due.length = took
		t.span, t.intended = took, due.count(ph.share)
	}
	stolen, _, ok := after.machine.Since(before.machine)
	if t.stolen = stolen; !ok {
		t.stolen = -1 // no tick passed
	}
	t.ownCPU = after.own - before.own
	if len(ph.pids) > 0 {
		t.serverCPU = after.server - before.server
	}
	return t, nil
}

// sum gathers what the connections counted.
func (ph *phase) sum() *tally {
	t := newTally()
	t.windows = newWindows(ph.windows)
	for i := range ph.recorders {
		r := &ph.recorders[i]
		t.mergeReplies(r.tally)
		t.mergeWindows(r.tally)
		for kind, h := range r.kinds {
			if h != nil {
				t.part(ph.pool.target.kinds[kind]).Merge(h)
			}
		}
		for name, h := range map[string]*hdr.Histogram{"in bursts": r.busy, "between bursts": r.calm} {
			if h != nil {
				t.part(name).Merge(h)
			}
		}
	}
	t.closed, t.span = ph.closed, ph.schedule.length
	t.issued, t.sent, t.dropped = ph.issued.Load(), ph.sent.Load(), ph.dropped.Load()
	t.issued -= t.dropped
	t.intended = ph.intended()
	t.waited, t.reconnected = ph.waited.Load(), ph.reconnected.Load()
	t.open = ph.opened
	return t
}

// intended counts the arrivals of this share.
func (ph *phase) intended() int64 {
	if ph.closed {
		return 0
	}
	return ph.schedule.count(ph.share)
}

// pace runs the pacers, each on a thread of its own, and gives how late they
// were and when the last arrival was issued.
func (ph *phase) pace(ctx context.Context) (*hdr.Histogram, time.Duration, error) {
	var wg sync.WaitGroup
	late := make([]*hdr.Histogram, ph.pacers)
	last := make([]time.Duration, ph.pacers)
	errs := make([]error, ph.pacers)
	first, stride := ph.share.stride()
	for i := range ph.pacers {
		late[i] = newHistogram()
		c := ph.schedule.cursor(first+int64(i)*stride, stride*int64(ph.pacers))
		wg.Go(func() { last[i], errs[i] = ph.pacer(ctx, c, late[i], i == 0) })
	}
	wg.Wait()
	took := time.Duration(0)
	for i := range ph.pacers {
		if i > 0 {
			late[0].Merge(late[i])
		}
		took = max(took, last[i])
	}
	return late[0], took, errors.Join(errs...)
}

// pacer issues the arrivals of one cursor on time and tells how late it was.
func (ph *phase) pacer(
	ctx context.Context, c *cursor, late *hdr.Histogram, watch bool,
) (last time.Duration, err error) {
	if err := bindPacer(); err != nil {
		return 0, err
	}
	window := -1
	for {
		index, due, ok := c.next()
		if !ok {
			due = ph.schedule.length // the phase lasts to its end, also when nothing is due
		}
		at := ph.began.Add(due)
		for time.Until(at) > 0 {
			nap(at)
			if ctx.Err() != nil {
				return ph.since(), nil
			}
		}
		if !ok {
			return last, nil
		}
		last = ph.since()
		record(late, last-due)
		for w := ph.window(due); watch && window < w; {
			window++
			ph.opened[window] = ph.open.Load()
		}
		ph.issued.Add(1)
		ph.open.Add(1)
		ph.pool.issue(job{ph, ph.first + index, 0, due, last})
	}
}

// window is the part of the phase to which a due time belongs.
func (ph *phase) window(due time.Duration) int {
	if ph.windows == 0 {
		return -1
	}
	return min(int(due*time.Duration(ph.windows)/ph.schedule.length), ph.windows-1)
}

// loop makes every connection ask as fast as it is answered, until the end of
// the phase or its limit of requests.
func (ph *phase) loop(ctx context.Context) {
	p := ph.pool
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, l := range idle {
		p.release(l, ph)
	}
	end := time.NewTimer(ph.schedule.length)
	defer end.Stop()
	full := time.NewTicker(5 * time.Millisecond)
	defer full.Stop()
	for ph.issued.Load() < ph.limit {
		select {
		case <-full.C:
			continue
		case <-end.C:
		case <-ctx.Done():
		}
		break
	}
	ph.until.Store(true)
}

// follow gives the next job of a closed loop.
func (ph *phase) follow() (job, bool) {
	if !ph.closed || ph.until.Load() {
		return job{}, false
	}
	share, stride := ph.share.stride()
	n := ph.issued.Add(1)
	if n > ph.limit {
		ph.issued.Add(-1)
		return job{}, false
	}
	ph.open.Add(1)
	now := ph.since()
	return job{ph, ph.first + share + (n-1)*stride, 0, now, now}, true
}

// drain waits until no request is under way: the pool ends each in time.
func (ph *phase) drain() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ph.open.Load() > 0 {
		<-tick.C
	}
}

// watchProgress reports how far the phase is, ten times a second.
func (ph *phase) watchProgress() (end func()) {
	if ph.progress == nil {
		return func() {}
	}
	began := time.Now()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				ph.progress(min(time.Since(began), ph.schedule.length), ph.schedule.length)
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// replied records a reply and says whether it was a 2xx.
func (ph *phase) replied(l *line, j job, r replied) bool {
	o := ph.outcome(l, j)
	o.kind, o.status, o.size = r.kind, r.reply.StatusCode(), len(r.reply.Body())
	o.latency = r.at.Sub(ph.began) - j.due
	o.after = r.at.Sub(ph.began) - j.issued
	ok := o.status >= 200 && o.status <= 299
	o.good = ok && o.latency <= ph.bound
	o.wrong = ok && len(ph.expect) > 0 && l.pool.target.decides(r.kind) &&
		!bytes.Contains(r.reply.Body(), ph.expect)
	ph.recorder(l).record(o, ph.schedule.burst.Every > 0)
	return ok
}

// unanswered records a request that got no reply, at no less than the timeout.
func (ph *phase) unanswered(l *line, j job, late bool) {
	o := ph.outcome(l, j)
	o.late, o.latency = late, max(ph.since()-j.due, l.pool.timeout)
	o.after = max(ph.since()-j.issued, l.pool.timeout)
	ph.recorder(l).record(o, ph.schedule.burst.Every > 0)
}

// unsent records a request whose time was over before a connection was free, and
// ends its arrival.
func (ph *phase) unsent(l *line, j job) {
	o := ph.outcome(l, j)
	o.kind = l.pool.target.kind(j.index, j.step)
	o.late, o.unsent, o.latency = true, true, max(ph.since()-j.due, l.pool.timeout)
	o.after = max(ph.since()-j.issued, l.pool.timeout)
	ph.recorder(l).record(o, ph.schedule.burst.Every > 0)
	ph.open.Add(-1)
}

func (ph *phase) outcome(l *line, j job) outcome {
	return outcome{
		kind: l.kind, due: j.due, window: ph.window(j.due), burst: ph.schedule.burst.in(j.due),
	}
}

func (ph *phase) recorder(l *line) *recorder { return &ph.recorders[l.id%len(ph.recorders)] }
