package loadtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Format names the shape of a Result; another shape has another name.
const Format = "tact-loadtest/1"

// Result is everything about one test: conditions, what was measured, and
// whether it may be believed.
type Result struct {
	Format  string    `json:"format"`
	Started time.Time `json:"started"`
	Machine Machine   `json:"machine"`
	Commit  string    `json:"commit,omitempty"`
	Flags   []string  `json:"flags"`
	Plan    Plan      `json:"plan"`

	WarmUp   *WarmUp         `json:"warm_up,omitempty"`
	Runs     []*Run          `json:"runs"`
	Search   *SearchResult   `json:"search,omitempty"`
	Overload *OverloadResult `json:"overload,omitempty"`
	Floor    *FloorResult    `json:"floor,omitempty"`
	Slow     *SlowResult     `json:"slow_clients,omitempty"`
	Drift    float64         `json:"drift,omitempty"` // soak: p99 of the last quarter over the first
	Shares   []Share         `json:"shares,omitempty"`

	// Void says why the result must not be believed; empty: it may be.
	Void []string `json:"void"`
}

// Machine is where the test ran: the generator, and on loopback the server too.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_bytes"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	System string `json:"system"`
}

// Plan is what was asked for.
type Plan struct {
	Address     string        `json:"address"`
	Mode        Mode          `json:"mode"`
	Rate        float64       `json:"rate"`
	Load        float64       `json:"load,omitempty"`
	Arrivals    Arrivals      `json:"arrivals"`
	Duration    time.Duration `json:"duration_ns"`
	Burst       Burst         `json:"burst"`
	SLO         string        `json:"slo,omitempty"`
	Connections int           `json:"connections"`
	Churn       int           `json:"churn"`
	Timeout     time.Duration `json:"timeout_ns"`
	Seed        uint64        `json:"seed"`
	Scenario    Scenario      `json:"scenario"`
}

// WarmUp is what came before: windows of half a second until three medians in a
// row agree.
type WarmUp struct {
	Windows []int64 `json:"p50_ns"`
	Flat    bool    `json:"flat"`
	Failed  int64   `json:"failed"`
}

// Run is one phase and its figures.
type Run struct {
	Label   string  `json:"label"`
	Rate    float64 `json:"rate,omitempty"` // intended arrivals a second of all shares
	Closed  bool    `json:"closed_loop"`    // latency is then service time, without waiting
	Cut     bool    `json:"cut_short"`
	Span    int64   `json:"span_ns"`
	Took    int64   `json:"took_ns"`
	Verdict string  `json:"verdict,omitempty"` // of a step: passed, failed, void
	Why     string  `json:"why,omitempty"`

	Intended    int64            `json:"intended"`
	Issued      int64            `json:"issued"`
	Dropped     int64            `json:"dropped"`
	Waited      int64            `json:"waited"`
	Sent        int64            `json:"sent"`
	Answered    int64            `json:"answered"`
	Good        int64            `json:"good"`
	Unexpected  int64            `json:"unexpected"`
	Reconnected int64            `json:"reconnected"`
	ReplyBytes  int64            `json:"reply_bytes"`
	Status      map[string]int64 `json:"status"`
	Timeouts    int64            `json:"timeouts"`
	Unsent      int64            `json:"unsent"`
	Broken      int64            `json:"broken"`

	Latency  Distribution            `json:"latency"`
	Refused  Distribution            `json:"refused"`
	Parts    map[string]Distribution `json:"parts,omitempty"`
	Windows  []Window                `json:"windows,omitempty"`
	Health   Health                  `json:"health"`
	OwnCPU   int64                   `json:"generator_cpu_ns"`
	Server   int64                   `json:"server_cpu_ns"` // -1: unknown
	PerReply float64                 `json:"server_cpu_ns_a_reply,omitempty"`
	Void     []string                `json:"void"`
}

// Health is what the generator says of itself.
type Health struct {
	Achieved float64      `json:"achieved"` // issued over intended rate
	PerSec   float64      `json:"issued_a_second"`
	Lateness Distribution `json:"lateness"`
	Stolen   float64      `json:"stolen"` // share of CPU time; -1: unknown
}

// Window is a part of a run, by due time.
type Window struct {
	Histogram string `json:"histogram"`
	Count     int64  `json:"count"`
	Good      int64  `json:"good"`
	Failed    int64  `json:"failed"`
	Open      int64  `json:"open"` // requests under way when it began
	P50       int64  `json:"p50_ns"`
	P99       int64  `json:"p99_ns"`
	Max       int64  `json:"max_ns"`
}

// Distribution is a histogram and what is mostly asked of it, in nanoseconds.
type Distribution struct {
	Histogram string  `json:"histogram"` // HdrHistogram V2, compressed, base64
	Count     int64   `json:"count"`
	Min       int64   `json:"min_ns"`
	Mean      float64 `json:"mean_ns"`
	P50       int64   `json:"p50_ns"`
	P90       int64   `json:"p90_ns"`
	P99       int64   `json:"p99_ns"`
	P999      int64   `json:"p99.9_ns"`
	P9999     int64   `json:"p99.99_ns"`
	Max       int64   `json:"max_ns"`
	Thin      string  `json:"thin,omitempty"` // the first percentile with too few samples
}

// SearchResult is what a search found.
type SearchResult struct {
	SLO          string  `json:"slo"`
	Best         float64 `json:"best"` // highest rate that passed; 0: none
	End          string  `json:"end"`  // why the search ended
	Saturation   float64 `json:"saturation"`
	OfSaturation float64 `json:"best_of_saturation"`
	Void         bool    `json:"void"` // steps could not be measured: Best is a lower bound
	Knee         float64 `json:"knee"` // rate where p99 doubles; 0: not reached
}

// OverloadResult is goodput at multiples of the capacity.
type OverloadResult struct {
	Capacity float64       `json:"capacity"`
	Rows     []OverloadRow `json:"rows"`
	End      string        `json:"end,omitempty"`
}

// OverloadRow is one multiple.
type OverloadRow struct {
	Times         float64 `json:"times"`
	Goodput       float64 `json:"goodput"`     // 2xx within the bound, a second
	OfCapacity    float64 `json:"of_capacity"` // of what could be had
	Refused       int64   `json:"refused"`
	NeverAnswered int64   `json:"never_answered"`
	RecoveryNanos int64   `json:"recovery_ns"` // at half the capacity, afterwards
	Recovered     bool    `json:"recovered"`
}

// FloorResult compares with a bare server.
type FloorResult struct {
	ReplyBytes int        `json:"reply_bytes"`
	Rows       []FloorRow `json:"rows"`
	Rounds     int        `json:"rounds"`      // that count
	LateRounds int        `json:"late_rounds"` // count for what is "after sending"
	VoidRounds int        `json:"void_rounds"` // left out, both sides of each
	VoidWhy    []string   `json:"void_why,omitempty"`
	Void       []string   `json:"void"`
}

// FloorRow is one figure of both and its ratio: of all rounds together, and the
// least, the middle and the greatest of the pairs.
type FloorRow struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"` // ns or /s
	Own    float64   `json:"own"`
	Floor  float64   `json:"floor"`
	Ratio  float64   `json:"ratio"`
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	Max    float64   `json:"max"`
	Pairs  []float64 `json:"pairs"`
}

// namedPercentile is one of the percentiles shown.
type namedPercentile struct {
	name    string
	percent float64
	samples int64 // fewer say little
}

// percentiles are those shown. A percentile needs about a hundred samples beyond
// it to be worth its name.
func percentiles() []namedPercentile {
	return []namedPercentile{
		{"p50", 50, 200},
		{"p90", 90, 1000},
		{"p99", 99, 10_000},
		{"p99.9", 99.9, 100_000},
		{"p99.99", 99.99, 1_000_000},
		{"max", 100, 1},
	}
}

func distribution(h *hdr.Histogram) (Distribution, error) {
	d := Distribution{Count: h.TotalCount()}
	text, err := h.EncodeV2()
	if err != nil {
		return d, err
	}
	d.Histogram = string(text)
	if d.Count == 0 {
		return d, nil
	}
	d.Min, d.Mean, d.Max = h.Min(), h.Mean(), h.Max()
	p := h.ValueAtPercentilesSlice([]float64{50, 90, 99, 99.9, 99.99})
	d.P50, d.P90, d.P99, d.P999, d.P9999 = p[0], p[1], p[2], p[3], p[4]
	for _, p := range percentiles() {
		if d.Count < p.samples {
			d.Thin = p.name
			break
		}
	}
	return d, nil
}

func (d *Distribution) histogram() (*hdr.Histogram, error) {
	h, err := hdr.Decode([]byte(d.Histogram))
	if err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	if h.TotalCount() != d.Count {
		return nil, fmt.Errorf("histogram holds %d samples and says %d", h.TotalCount(), d.Count)
	}
	return h, nil
}

// add makes a run of a tally. A histogram that cannot be written makes it void.
func (r *Result) add(label string, rate float64, t *tally) *Run {
	run := &Run{
		Label: label, Rate: rate, Closed: t.closed, Cut: t.cut, Span: int64(t.span),
		Took: int64(t.took), Intended: t.intended, Issued: t.issued, Dropped: t.dropped,
		Waited: t.waited, Sent: t.sent, Answered: t.answered, Good: t.good,
		Unexpected: t.unexpected, Reconnected: t.reconnected, ReplyBytes: t.replyBytes,
		Status: map[string]int64{}, Timeouts: t.timeouts, Unsent: t.unsent, Broken: t.broken,
		Parts: map[string]Distribution{}, OwnCPU: int64(t.ownCPU), Server: int64(t.serverCPU),
		PerReply: t.serverCPUPerRequest(), Void: t.faults(),
		Health: Health{
			Achieved: t.achieved(), PerSec: t.perSecond(t.issued),
			Stolen: t.stolen,
		},
	}
	if t.closed {
		run.Rate = 0
	}
	for status, n := range t.status {
		run.Status[strconv.Itoa(status)] = n
	}
	write := func(to *Distribution, h *hdr.Histogram) {
		var err error
		if *to, err = distribution(h); err != nil {
			run.Void = append(run.Void, "a histogram cannot be written: "+err.Error())
		}
	}
	write(&run.Latency, t.latency)
	write(&run.Refused, t.refused)
	write(&run.Health.Lateness, t.lateness)
	for name, h := range t.parts {
		var d Distribution
		write(&d, h)
		run.Parts[name] = d
	}
	for i, w := range t.windows {
		one := Window{
			Count: w.latency.TotalCount(), Good: w.good, Failed: w.failed,
			P50: w.latency.ValueAtPercentile(50), P99: w.latency.ValueAtPercentile(99),
			Max: w.latency.Max(),
		}
		if i < len(t.open) {
			one.Open = t.open[i]
		}
		text, err := w.latency.EncodeV2()
		if err != nil {
			run.Void = append(run.Void, "a histogram cannot be written: "+err.Error())
		}
		one.Histogram = string(text)
		run.Windows = append(run.Windows, one)
	}
	if run.Void == nil {
		run.Void = []string{}
	}
	r.Runs = append(r.Runs, run)
	return run
}

// tally is the inverse of add.
func (run *Run) tally() (*tally, error) {
	t := newTally()
	t.closed, t.cut = run.Closed, run.Cut
	t.span, t.took = time.Duration(run.Span), time.Duration(run.Took)
	t.intended, t.issued, t.dropped = run.Intended, run.Issued, run.Dropped
	t.waited, t.sent, t.answered, t.good = run.Waited, run.Sent, run.Answered, run.Good
	t.unexpected, t.reconnected = run.Unexpected, run.Reconnected
	t.replyBytes, t.timeouts = run.ReplyBytes, run.Timeouts
	t.unsent, t.broken, t.stolen = run.Unsent, run.Broken, run.Health.Stolen
	t.ownCPU, t.serverCPU = time.Duration(run.OwnCPU), time.Duration(run.Server)
	for text, n := range run.Status {
		status, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("status %q: %w", text, err)
		}
		t.status[status] = n
	}
	var err error
	read := func(d Distribution) *hdr.Histogram {
		h, fault := d.histogram()
		if fault != nil {
			err = fault
			return newHistogram()
		}
		return h
	}
	t.latency, t.refused = read(run.Latency), read(run.Refused)
	t.lateness = read(run.Health.Lateness)
	for name, d := range run.Parts {
		t.parts[name] = read(d)
	}
	for _, w := range run.Windows {
		h, fault := hdr.DecodePacked([]byte(w.Histogram))
		if fault != nil {
			return nil, fmt.Errorf("histogram of a window: %w", fault)
		}
		t.windows = append(t.windows, window{h, w.Failed, w.Good})
		t.open = append(t.open, w.Open)
	}
	return t, err
}

// conclude gathers what makes the whole void. A void step of a search or of the
// way to a rate voids only itself.
func (r *Result) conclude() {
	r.Void = []string{}
	if r.Search != nil && r.Search.Void {
		r.Void = append(r.Void, "search: "+r.Search.End)
	}
	for _, run := range r.Runs {
		alone := run.Verdict != "" || run.Label == labelSaturation
		for _, why := range run.Void {
			if !alone {
				r.Void = append(r.Void, run.Label+": "+why)
			}
		}
	}
	if why := r.unanswered(); why != "" {
		r.Void = append(r.Void, why)
	}
}

// unanswered says that no reply of the test was a good one, so that there is nothing
// to believe; empty when there was one, or nothing was asked. A step or a multiple
// beyond what the server bears may have none: the others count with it. A saturation
// counts where it is all there is.
func (r *Result) unanswered() string {
	var asked, good, never, wrong int64
	status := map[string]int64{}
	for _, run := range r.Runs {
		if run.Label == labelFloor || run.Label == labelSaturation && len(r.Runs) > 1 {
			continue
		}
		asked += run.Answered + run.Timeouts + run.Broken
		never += run.Timeouts + run.Broken
		wrong += run.Unexpected
		good -= run.Unexpected
		for code, n := range run.Status {
			status[code] += n
			if strings.HasPrefix(code, "2") {
				good += n
			}
		}
	}
	if asked == 0 || good > 0 {
		return ""
	}
	why := []string{}
	for _, code := range slices.Sorted(maps.Keys(status)) {
		text := fmt.Sprintf("%d with status %s", status[code], code)
		if code == "401" {
			text += " (the key is missing or wrong)"
		}
		why = append(why, text)
	}
	if wrong > 0 {
		why = append(why, fmt.Sprintf("%d of them without the expected text", wrong))
	}
	if never > 0 {
		why = append(why, fmt.Sprintf("%d not answered", never))
	}
	return fmt.Sprintf("no reply was good: of %d requests %s", asked, strings.Join(why, ", "))
}

// Labels of runs that are not judged by themselves.
const (
	labelSaturation = "saturation"
	labelFloor      = "floor"
)

// newResult begins a result with its conditions.
func newResult(o *Options) *Result {
	r := &Result{
		Format: Format, Started: time.Now().UTC(), Machine: thisMachine(), Commit: o.Commit,
		Flags: o.Flags, Runs: []*Run{}, Void: []string{},
		Plan: Plan{
			Address: o.Address, Mode: o.Mode, Rate: o.Rate, Load: o.Load, Arrivals: o.Arrivals,
			Duration: o.Duration, Burst: o.Burst, SLO: o.SLO.String(), Connections: o.Connections,
			Churn: o.Churn, Timeout: o.Timeout, Seed: o.Seed, Scenario: o.Scenario,
		},
	}
	if r.Flags == nil {
		r.Flags = []string{}
	}
	if o.Share.Of > 0 {
		r.Shares = []Share{o.Share}
	}
	return r
}

func thisMachine() Machine {
	m := Machine{
		CPU: "unknown", CPUs: runtime.NumCPU(), Kernel: kernelRelease(), Go: runtime.Version(),
		System: runtime.GOOS + "/" + runtime.GOARCH,
	}
	field := func(file, name string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			return ""
		}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	if cpu := field("/proc/cpuinfo", "model name"); cpu != "" {
		m.CPU = cpu
	}
	var kib int64
	if n, _ := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d kB", &kib); n == 1 {
		m.Memory = kib << 10
	}
	return m
}

// WriteJSON writes the result as one document.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// maxResultBytes bounds what ReadResult takes.
const maxResultBytes = 256 << 20

// ReadResult reads what WriteJSON wrote.
func ReadResult(in io.Reader) (*Result, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxResultBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxResultBytes {
		return nil, fmt.Errorf("result: more than %d bytes", maxResultBytes)
	}
	r := &Result{}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	if r.Format != Format {
		return nil, fmt.Errorf("result: format %q is not %q", r.Format, Format)
	}
	for _, run := range r.Runs {
		if run == nil {
			return nil, fmt.Errorf("result: a run is missing")
		}
	}
	return r, nil
}
