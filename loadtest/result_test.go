package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// Shares that are merged are the whole: counts and histograms are sums.
func TestMergeIsTheSum(t *testing.T) {
	address := serve(t, fine)
	var shares []*Result
	for i := range 3 {
		o := quick(address)
		o.Share = Share{i + 1, 3}
		var b bytes.Buffer
		if err := perform(t, o).WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		r, err := ReadResult(&b)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, r)
	}
	merged, err := Merge([]*Result{shares[2], shares[0], shares[1]})
	if err != nil {
		t.Fatal(err)
	}
	run := measured(t, merged)
	if run.Intended != 200 || run.Issued != 200 || run.Good != 200 || run.Latency.Count != 200 ||
		run.Health.Lateness.Count != 200 || run.Status["200"] != 200 || len(merged.Shares) != 3 {
		t.Errorf("merged %+v", run)
	}
	sum, windows := newHistogram(), int64(0)
	for _, r := range shares {
		h, err := r.Runs[0].Latency.histogram()
		if err != nil {
			t.Fatal(err)
		}
		if dropped := sum.Merge(h); dropped != 0 {
			t.Fatalf("%d dropped", dropped)
		}
	}
	h, err := run.Latency.histogram()
	if err != nil || !h.Equals(sum) {
		t.Errorf("the histogram is not the sum: %v", err)
	}
	for _, w := range run.Windows {
		windows += w.Count
	}
	if windows != 200 {
		t.Errorf("windows hold %d", windows)
	}
	for _, why := range merged.Void {
		if strings.Contains(why, "missing") {
			t.Error(why)
		}
	}
	part, err := Merge(shares[:2])
	if err != nil || !strings.Contains(strings.Join(part.Void, " "), "1 of 3 shares are missing") {
		t.Errorf("void %v: %v", part.Void, err)
	}
	mergeFaults(t, shares)
}

func mergeFaults(t *testing.T, shares []*Result) {
	t.Helper()
	other := *shares[1]
	other.Plan.Seed = 9
	whole := *shares[1]
	whole.Shares = nil
	for _, bad := range [][]*Result{
		nil, {shares[0], shares[0]}, {shares[0], &other}, {shares[0], &whole}, {&whole},
	} {
		if _, err := Merge(bad); !errors.Is(err, ErrMerge) {
			t.Errorf("merged: %v", err)
		}
	}
	broken := *shares[1]
	run := *broken.Runs[0]
	run.Latency.Histogram = run.Latency.Histogram[:20]
	broken.Runs = []*Run{&run}
	if _, err := Merge([]*Result{shares[0], &broken}); err == nil {
		t.Error("a broken histogram is merged")
	}
}

// A tally is the same after it was written and read.
func TestTallyRoundTrip(t *testing.T) {
	before := healthy()
	before.serverCPU, before.status[429] = time.Second, 3
	record(before.part("decide"), time.Millisecond)
	record(before.refused, time.Millisecond)
	r := &Result{}
	run := r.add("x", 1000, before)
	text, err := json.Marshal(run)
	if err != nil {
		t.Fatal(err)
	}
	var read Run
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	after, err := read.tally()
	if err != nil {
		t.Fatal(err)
	}
	again := (&Result{}).add("x", 1000, after)
	if !reflect.DeepEqual(run, again) {
		t.Errorf("%+v\n%+v", run, again)
	}
}

func TestReadResultRefuses(t *testing.T) {
	for _, text := range []string{
		"", "{}", "[]", `{"format":"other"}`, `{"format":"tact-loadtest/1","runs":[null]}`,
	} {
		if _, err := ReadResult(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Whatever the bytes, reading and merging give a result or an error.
func FuzzReadResult(f *testing.F) {
	r := newResult(&Options{Share: Share{1, 1}})
	r.add("measured", 10, healthy())
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"format":"tact-loadtest/1","runs":[{}],"shares":[{"index":1,"of":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ReadResult(bytes.NewReader(text))
		if err != nil {
			return
		}
		if merged, err := Merge([]*Result{r}); err == nil {
			r = merged
		}
		// The reader of a report may be shown an error, never a crash.
		_ = r.WriteHTML(io.Discard)
		_ = r.WriteText(io.Discard)
	})
}

// reports are results of every kind of page.
func reports(t *testing.T) map[string]*Result {
	t.Helper()
	all := map[string]*Result{}
	begin := func(name string) *Result {
		o := quick("http://127.0.0.1:1")
		o.Flags = []string{`--expect=<script>alert("x")</script>`}
		o.Key = "secret-key"
		if err := o.withDefaults(); err != nil {
			t.Fatal(err)
		}
		all[name] = newResult(&o)
		return all[name]
	}
	r := begin("rate")
	r.add("measured", 1000, healthy())
	r.add("floor", 1000, healthy())
	r.Floor = &FloorResult{ReplyBytes: 300, Rows: floorRows(
		[][2]*tally{{healthy(), healthy()}}, healthy(), healthy())}
	r = begin("search")
	for _, rate := range []float64{1000, 2000, 1500} {
		r.add("step", rate, healthy()).Verdict = "passed"
	}
	r.Search = &SearchResult{SLO: "p99<1ms", Best: 2000, End: "x"}
	r = begin("overload")
	r.add("2× capacity", 1000, healthy())
	r.Overload = &OverloadResult{Capacity: 500, Rows: []OverloadRow{{Times: 2}}}
	r = begin("void")
	bad := healthy()
	bad.stolen = 0.5
	r.add("measured", 1000, bad)
	begin("empty").add("measured", 1, newTally())
	for _, r := range all {
		r.conclude()
	}
	return all
}

// The page needs nothing beside it, shows no key, and what it was told is text.
func TestReportIsSelfContained(t *testing.T) {
	outside := regexp.MustCompile(`(?i)<(script|link|img|iframe|object|embed|base)|` +
		`(src|href|action)\s*=|url\(|@import|//[a-z]`)
	for name, r := range reports(t) {
		var b bytes.Buffer
		if err := r.WriteHTML(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		page := b.String()
		text := strings.ReplaceAll(page, "http://127.0.0.1:1", "")
		if found := outside.FindString(text); found != "" {
			t.Errorf("%s: the page reaches out: %q", name, found)
		}
		if strings.Contains(page, "secret-key") || strings.Contains(page, "NaN") {
			t.Errorf("%s: a key or NaN is shown", name)
		}
		if void := strings.Contains(page, "Void:"); void != (len(r.Void) > 0) {
			t.Errorf("%s: void banner %v, faults %q", name, void, r.Void)
		}
		if name == "rate" && (strings.Count(page, "<polyline") < 2 ||
			!strings.Contains(page, "99.9 %") || !strings.Contains(page, "&lt;script&gt;")) {
			t.Errorf("%s: curves or conditions are missing", name)
		}
		svgIsWellFormed(t, name, page)
		var lines bytes.Buffer
		if err := r.WriteText(&lines); err != nil || lines.Len() == 0 {
			t.Errorf("%s: no text: %v", name, err)
		}
	}
}

func svgIsWellFormed(t *testing.T, name, page string) {
	t.Helper()
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1) {
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// A JSON result says everything a page says, and nothing of the key.
func TestResultHoldsItsConditions(t *testing.T) {
	var b bytes.Buffer
	if err := reports(t)["rate"].WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"kernel":"`, `"go":"go`, `"seed":1`, `"histogram":"HISTF`, `"lateness":`, `"void":[]`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(b.String(), "secret-key") {
		t.Error("the key is in the result")
	}
}

func TestOptionFaults(t *testing.T) {
	f := func(change func(o *Options)) {
		t.Helper()
		o := quick("http://127.0.0.1:1")
		change(&o)
		if _, err := Perform(context.Background(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("error %v", err)
		}
	}
	f(func(o *Options) { o.Mode = "x" })
	f(func(o *Options) { o.Rate = -1 })
	f(func(o *Options) { o.Arrivals = "x" })
	f(func(o *Options) { o.Duration = time.Hour })
	f(func(o *Options) { o.Rate, o.Duration = 1e6, time.Minute })
	f(func(o *Options) { o.Share = Share{3, 2} })
	f(func(o *Options) { o.Share, o.Mode = Share{1, 2}, Search })
	f(func(o *Options) { o.Burst = Burst{2, time.Second, time.Millisecond} })
	f(func(o *Options) { o.Timeout = time.Hour })
	f(func(o *Options) { o.Scenario.Name = "x" })
	f(func(o *Options) {
		o.Mode, o.Floor = Soak, func(context.Context, int) (s FloorServer, err error) { return }
	})
}

// With a floor both servers are asked the same, in turns.
func TestFloor(t *testing.T) {
	address := serve(t, func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString(strings.Repeat("x", 123)) })
	o := quick(address)
	o.Rounds = 2
	stopped := false
	o.Floor = func(_ context.Context, replyBytes int) (FloorServer, error) {
		if replyBytes != 123 {
			t.Errorf("floor of %d bytes", replyBytes)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return FloorServer{}, err
		}
		life, end := io.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- ServeFloor(l, replyBytes, life) }()
		return FloorServer{Address: l.Addr().String(), Stop: func() error {
			stopped = true
			return errors.Join(end.Close(), <-ended)
		}}, nil
	}
	r := perform(t, o)
	if !stopped || r.Floor == nil || len(r.Runs) != 2 {
		t.Fatalf("stopped %v, floor %+v", stopped, r.Floor)
	}
	// On a busy machine rounds are left out, or none is sound: then all are shown.
	rounds := r.Floor.Rounds + r.Floor.LateRounds
	if want := rounds < 2; want != (len(r.Void) > 0) || rounds > 12 {
		t.Errorf("%d rounds, %d void: %v", rounds, r.Floor.VoidRounds, r.Void)
	}
	if rounds == 0 {
		rounds = r.Floor.VoidRounds
	}
	n := int64(100 * rounds)
	for _, run := range r.Runs {
		if run.Issued != n || run.Good != n || run.ReplyBytes != n*123 {
			t.Errorf("%s: issued %d, good %d, bytes %d", run.Label, run.Issued, run.Good, run.ReplyBytes)
		}
	}
	for _, row := range r.Floor.Rows {
		if n := len(row.Pairs); row.Ratio <= 0 || n != rounds && n != r.Floor.Rounds || row.Min > row.Median || row.Median > row.Max {
			t.Errorf("%+v", row)
		}
	}
}

// A round in which one side was measured badly counts for neither; sound rounds are
// not spoiled by it.
func TestVoidRoundsAreLeftOut(t *testing.T) {
	late := healthy()
	for range 20 {
		record(late.lateness, 150*time.Microsecond)
	}
	starved := healthy()
	starved.issued = 900
	p := &floorPairs{}
	p.judge([2]*tally{healthy(), starved})
	if len(p.shown()) != 1 || len(p.sound)+len(p.late) != 0 {
		t.Fatalf("%d shown, %d sound", len(p.shown()), len(p.sound))
	}
	p.judge([2]*tally{healthy(), healthy()})
	p.judge([2]*tally{starved, healthy()})
	p.judge([2]*tally{late, late})
	if len(p.sound) != 1 || len(p.late) != 1 || len(p.void) != 2 || len(p.shown()) != 2 ||
		len(p.why) != 2 || p.enough(2) {
		t.Fatalf("%d sound, %d late, %d void, %q", len(p.sound), len(p.late), len(p.void), p.why)
	}
	f := &FloorResult{Rounds: 1, LateRounds: 1, VoidRounds: 2, VoidWhy: p.why}
	for _, part := range []string{"rounds: 1; 1 for figures after sending alone, and 2 left out", "sent late", "did not keep up"} {
		if text := f.rounds(); !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// A report of late rounds does not say that the generator was on time.
func TestReportSaysLate(t *testing.T) {
	f := func(late int, void []string, want bool) {
		t.Helper()
		r := &Result{Floor: &FloorResult{Rounds: 1, LateRounds: late, Void: void}, Void: void}
		var text, page strings.Builder
		if err := errors.Join(r.WriteText(&text), r.WriteHTML(&page)); err != nil {
			t.Fatal(err)
		}
		const part = "was late in 4 of 5 rounds"
		if strings.Contains(text.String(), part) != want || strings.Contains(page.String(), part) != want {
			t.Errorf("%d late, void %v: %s", late, void, text.String())
		}
		if on := strings.Contains(page.String(), "was on time"); on != (late == 0 && len(void) == 0) {
			t.Errorf("%d late, void %v: on time %v", late, void, on)
		}
	}
	f(4, nil, true)
	f(0, nil, false)
	f(4, []string{"spoilt"}, false)
}
