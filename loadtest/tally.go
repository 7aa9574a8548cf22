package loadtest

import (
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Histograms hold nanoseconds up to longest, to three digits.
const (
	longest   = 10 * time.Minute
	precision = 3
)

func newHistogram() *hdr.Histogram { return hdr.New(1, int64(longest), precision) }

func record(h *hdr.Histogram, d time.Duration) {
	// The one error is a value out of range, which the bounds exclude.
	_ = h.RecordValue(int64(min(max(d, 1), longest)))
}

// tally is what a phase counted. Sums of tallies are tallies of the sum of
// their loads: that is what merge and interleaved rounds do.
type tally struct {
	span time.Duration // length of the schedule
	took time.Duration // until its last arrival was issued, at least span unless cut short

	// bound is what lateness is judged by, where replies are counted and not timed; 0:
	// the measured p99.
	bound time.Duration

	closed   bool  // closed loop: arrivals follow replies
	cut      bool  // ended before its time
	intended int64 // arrivals that were due
	issued   int64 // arrivals that got a connection or a place in the waiting line
	dropped  int64 // arrivals that found the waiting line full
	waited   int64 // arrivals that stood in the waiting line

	sent        int64 // requests put on a connection
	answered    int64 // whole replies of any status
	good        int64 // 2xx within the bound
	unexpected  int64 // 2xx decisions without the expected text
	reconnected int64 // requests sent again because the server had closed an idle connection
	replyBytes  int64 // of bodies
	status      map[int]int64
	timeouts    int64 // no reply in time; of these
	unsent      int64 // were still waiting for a connection
	broken      int64 // no connection, or it broke

	latency  *hdr.Histogram // 2xx, and what was never answered at no less than the timeout
	after    *hdr.Histogram // the same, without the lateness of the generator
	refused  *hdr.Histogram // replies of another status
	lateness *hdr.Histogram // of the generator itself: issue after due
	parts    map[string]*hdr.Histogram
	windows  []window

	open      []int64 // requests under way at the start of each window
	stolen    float64 // share of CPU time taken by other machines; < 0: unknown
	ownCPU    time.Duration
	serverCPU time.Duration // < 0: unknown
}

// window is a part of a phase by due time.
type window struct {
	latency *hdr.PackedHistogram
	failed  int64 // refused or never answered
	good    int64
}

func newTally() *tally {
	return &tally{
		status: map[int]int64{}, parts: map[string]*hdr.Histogram{},
		latency: newHistogram(), after: newHistogram(),
		refused: newHistogram(), lateness: newHistogram(), stolen: -1, serverCPU: -1,
	}
}

func newWindows(n int) []window {
	w := make([]window, n)
	for i := range w {
		w[i].latency = hdr.NewPacked(1, int64(longest), precision)
	}
	return w
}

// failures are requests that got no 2xx.
func (t *tally) failures() int64 {
	n := t.timeouts + t.broken
	for status, count := range t.status {
		if status < 200 || status > 299 {
			n += count
		}
	}
	return n
}

func (t *tally) requests() int64 { return t.answered + t.timeouts + t.broken }

// achieved is the rate of issued arrivals over the intended one; 1 where there
// is no intended rate.
func (t *tally) achieved() float64 {
	if t.closed || t.intended == 0 || t.took == 0 {
		return 1
	}
	return float64(t.issued) / float64(t.intended) * float64(t.span) / float64(max(t.took, t.span))
}

// perSecond is a count over the length of the phase.
func (t *tally) perSecond(n int64) float64 {
	seconds := max(t.took, t.span).Seconds()
	if seconds == 0 {
		return 0
	}
	return float64(n) / seconds
}

func (t *tally) part(name string) *hdr.Histogram {
	h := t.parts[name]
	if h == nil {
		h = newHistogram()
		t.parts[name] = h
	}
	return h
}

// merge adds what another load counted. together says that both ran at the same
// time, as shares of one schedule do; else they ran one after the other.
func (t *tally) merge(o *tally, together bool) {
	if together {
		t.span, t.took = max(t.span, o.span), max(t.took, o.took)
	} else {
		t.span, t.took = t.span+o.span, t.took+o.took
	}
	t.closed = t.closed || o.closed
	t.cut = t.cut || o.cut
	t.intended += o.intended
	t.issued += o.issued
	t.dropped += o.dropped
	t.waited += o.waited
	t.mergeReplies(o)
	t.stolen = max(t.stolen, o.stolen)
	t.ownCPU += o.ownCPU
	switch {
	case together:
		t.serverCPU = max(t.serverCPU, o.serverCPU)
	case o.serverCPU >= 0:
		t.serverCPU = max(t.serverCPU, 0) + o.serverCPU
	}
	if together {
		t.mergeWindows(o)
	} else {
		t.windows, t.open = append(t.windows, o.windows...), append(t.open, o.open...)
	}
}

func (t *tally) mergeReplies(o *tally) {
	t.sent += o.sent
	t.answered += o.answered
	t.good += o.good
	t.unexpected += o.unexpected
	t.reconnected += o.reconnected
	t.replyBytes += o.replyBytes
	t.timeouts += o.timeouts
	t.unsent += o.unsent
	t.broken += o.broken
	for status, n := range o.status {
		t.status[status] += n
	}
	t.latency.Merge(o.latency)
	t.after.Merge(o.after)
	t.refused.Merge(o.refused)
	t.lateness.Merge(o.lateness)
	for name, h := range o.parts {
		t.part(name).Merge(h)
	}
}

func (t *tally) mergeWindows(o *tally) {
	for i := range o.windows {
		if i == len(t.windows) {
			t.windows = append(t.windows, newWindows(1)...)
		}
		t.windows[i].latency.Merge(o.windows[i].latency)
		t.windows[i].failed += o.windows[i].failed
		t.windows[i].good += o.windows[i].good
	}
	for i := range o.open {
		if i == len(t.open) {
			t.open = append(t.open, 0)
		}
		t.open[i] += o.open[i]
	}
}

// recorder counts the replies of some of the connections.
type recorder struct {
	mu    sync.Mutex
	tally *tally
	kinds [maxKinds]*hdr.Histogram
	busy  *hdr.Histogram // due in a burst
	calm  *hdr.Histogram // due between bursts
}

// outcome is how a request ended.
type outcome struct {
	status  int           // 0: never answered
	latency time.Duration // since it was due
	after   time.Duration // since the pacer gave it away
	late    bool          // never answered in time, else the connection broke
	unsent  bool
	good    bool
	wrong   bool
	kind    uint8
	size    int
	due     time.Duration
	window  int
	burst   bool
}

func (r *recorder) record(o outcome, bursts bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tally
	ok := o.status >= 200 && o.status <= 299
	switch {
	case o.status > 0:
		t.answered++
		t.status[o.status]++
		t.replyBytes += int64(o.size)
	case o.late:
		t.timeouts++
	default:
		t.broken++
	}
	if o.unsent {
		t.unsent++
	}
	if o.good {
		t.good++
	}
	if o.wrong {
		t.unexpected++
	}
	if len(t.windows) > 0 {
		w := &t.windows[min(o.window, len(t.windows)-1)]
		if !ok {
			w.failed++
		}
		if o.good {
			w.good++
		}
		if ok || o.status == 0 {
			_ = w.latency.RecordValue(int64(min(max(o.latency, 1), longest)))
		}
	}
	if o.status > 0 && !ok {
		record(t.refused, o.latency)
		return
	}
	record(t.latency, o.latency)
	record(t.after, o.after)
	record(histogramAt(&r.kinds[o.kind]), o.latency)
	if bursts {
		if o.burst {
			record(histogramAt(&r.busy), o.latency)
		} else {
			record(histogramAt(&r.calm), o.latency)
		}
	}
}

func histogramAt(h **hdr.Histogram) *hdr.Histogram {
	if *h == nil {
		*h = newHistogram()
	}
	return *h
}
