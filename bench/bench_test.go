package bench

import (
	"bytes"
	"context"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// small runs workloads at sizes that show that they work, not what they cost.
func small(t *testing.T, ctx context.Context, only string) *Document {
	t.Helper()
	d, err := Run(ctx, Options{
		Users: 1000, Window: time.Millisecond, Quick: true, Within: time.Hour, Folder: t.TempDir(),
		Only: regexp.MustCompile(only),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWorkloads(t *testing.T) {
	d := small(t, context.Background(),
		`^(decide/(hot|live-cold|tags|nothing-eligible|unknown-users|ten-caps|cap-exhausted|request-to-reply)|`+
			`audience/.*|ingest/.*|mixed/.*|publish/known.*|memory/.*|http/(16|batch)|start-up)$`)
	if d.Done != d.Planned || d.Done != len(d.Figures) || d.Cut != "" {
		t.Errorf("%d of %d workloads, %d figures, cut: %q", d.Done, d.Planned, len(d.Figures), d.Cut)
	}
	for i := range d.Figures {
		f := &d.Figures[i]
		if strings.HasPrefix(f.Name, "http/") {
			if f.Missing == "" {
				t.Error("a figure over HTTP without a server")
			}
			continue
		}
		if f.Count == nil && len(f.Pairs) < 5 {
			t.Errorf("%s: %d pairs", f.Name, len(f.Pairs))
		}
		for _, p := range f.Pairs {
			if p.Own <= 0 || f.Reference != "" && p.Reference <= 0 {
				t.Errorf("%s: pair %+v", f.Name, p)
			}
		}
		if infinite(f.Value()) {
			t.Errorf("%s: value %v", f.Name, f.Value())
		}
		if strings.HasSuffix(f.Name, "-under-backup") {
			// Each turn is some decisions or a batch at least, after a backup has begun.
			n, err := strconv.Atoi(f.Conditions[besideBackups])
			if err != nil || n < 5*decisionsAtOnce {
				t.Errorf("%s: %d beside backups: %v", f.Name, n, err)
			}
		}
	}
	var page bytes.Buffer
	if err := d.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"http://", "https://", "<script", "NaN", "%!"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
}

// Law 3: a run that is stopped says what it did.
func TestCutShort(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	o := Options{
		Users: 1000, Window: time.Millisecond, Quick: true, Within: time.Hour, Folder: t.TempDir(),
		Only: regexp.MustCompile("^decide/(hot|cold)$"),
		Progress: func(done, planned int, _ string) {
			if planned > 0 && done == 1 {
				cancel()
			}
		},
	}
	d, err := Run(ctx, o)
	if err != nil || d.Done != 1 || d.Planned != 2 || d.Cut != "interrupted" {
		t.Errorf("%v, %d of %d, cut %q", err, d.Done, d.Planned, d.Cut)
	}
}

// On a machine that is too slow a quick run ends in time: figures have fewer pairs,
// three at least, and say so; what has not begun is not called measured.
func TestWithin(t *testing.T) {
	o := Options{Pairs: 50, Window: time.Millisecond, Within: 2 * time.Minute}
	f := func(passed time.Duration, workloads int, want time.Duration, ok bool) {
		t.Helper()
		left, runs := o.share(passed, workloads)
		if left != want || runs != ok {
			t.Errorf("%v of %d: %v, %v; want %v, %v", passed, workloads, left, runs, want, ok)
		}
	}
	f(0, 40, 6*time.Second, true)
	f(time.Minute, 10, 12*time.Second, true)
	f(2*time.Minute, 4, 1, true)
	f(3*time.Minute, 4, 1, true)
	f(3*time.Minute+1, 4, 1, false)
	wait := func(n int) (float64, error) { time.Sleep(5 * time.Millisecond); return float64(n), nil }
	measured := func(patience time.Duration) *Figure {
		x := &trial{own: wait, reference: wait, clock: clockWall, fixed: true}
		if err := o.measure(context.Background(), x, patience); err != nil {
			t.Fatal(err)
		}
		return &x.figure
	}
	if x := measured(1); len(x.Pairs) != 3 || x.Conditions["pairs"] != "3 of 50, then the time was over" {
		t.Errorf("%d pairs, conditions %v", len(x.Pairs), x.Conditions)
	}
	if x := measured(0); len(x.Pairs) != 50 || x.Conditions["pairs"] != "" {
		t.Errorf("without a bound %d pairs, conditions %v", len(x.Pairs), x.Conditions)
	}
	d := &Document{}
	var err error
	o = Options{
		Users: 1000, Window: time.Millisecond, Within: 1, Folder: t.TempDir(),
		Only: regexp.MustCompile("^decide/(hot|cold)$"),
	}
	if d, err = Run(context.Background(), o); err != nil || d.Done != 0 || d.Planned != 2 ||
		d.Cut == "" || len(d.Figures) != 2 || d.Figures[0].Missing == "" {
		t.Errorf("%v: %+v", err, d)
	}
	var text bytes.Buffer
	if err := d.WriteText(&text); err != nil || !strings.Contains(text.String(), "cut short") {
		t.Errorf("%v: %s", err, text.String())
	}
}

// A table names what its ratios are multiples of.
func TestRatiosAreNamed(t *testing.T) {
	d := pairs([]float64{2, 2, 2, 2, 2}, []float64{1, 1, 1, 1, 1})
	var text, page bytes.Buffer
	if err := errors.Join(d.WriteText(&text), d.WriteHTML(&page)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "ratio to") || !strings.Contains(text.String(), "probe") ||
		!strings.Contains(page.String(), "× probe") {
		t.Errorf("%s\n%s", text.String(), page.String())
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Users: 5}, {Pairs: 4}, {Window: time.Hour}, {Only: regexp.MustCompile("nonsense")},
	} {
		if d, err := Run(context.Background(), o); err == nil || d != nil {
			t.Errorf("%+v was run", o)
		}
	}
}

// pairs makes a document of one figure.
func pairs(own, reference []float64) *Document {
	f := Figure{Name: "x", Unit: "ns", Reference: "probe"}
	for i := range own {
		f.Pairs = append(f.Pairs, Pair{Own: own[i], Reference: reference[i]})
	}
	return &Document{Format: formatVersion, Figures: []Figure{f}}
}

func TestCompare(t *testing.T) {
	ones := []float64{1, 1, 1, 1, 1}
	f := func(before, after []float64, want Verdict) {
		t.Helper()
		got := Compare(pairs(before, ones), pairs(after, ones))
		if len(got) != 1 || got[0].Verdict != want {
			t.Errorf("%v to %v: %+v, want %s", before, after, got, want)
		}
	}
	f([]float64{10, 11, 10, 12, 11}, []float64{10, 12, 11, 11, 10}, NoDifference)
	f([]float64{10, 11, 10, 12, 11}, []float64{20, 21, 22, 21, 20}, Slower)
	f([]float64{10, 11, 10, 12, 11}, []float64{5, 6, 5, 6, 5}, Faster)
	f([]float64{10, 11, 10, 12, 90}, []float64{5, 60, 5, 6, 50}, NoDifference)

	// The machine became twice as slow, and with it the reference: no difference.
	twice := pairs([]float64{20, 22, 20, 24, 22}, []float64{2, 2, 2, 2, 2})
	if got := Compare(pairs([]float64{10, 11, 10, 12, 11}, ones), twice); got[0].Verdict != NoDifference {
		t.Errorf("a slower machine: %+v", got)
	}
	missing := pairs(ones, ones)
	missing.Figures[0].Missing = "stolen"
	if got := Compare(pairs(ones, ones), missing); got[0].Verdict != Unmeasured {
		t.Errorf("not measured: %+v", got)
	}
	other := pairs(ones, ones)
	other.Figures[0].Name = "y"
	got := Compare(pairs(ones, ones), other)
	if len(got) != 2 || got[0].Verdict != OnlyBefore || got[1].Verdict != OnlyAfter {
		t.Errorf("other names: %+v", got)
	}
}

func TestFigure(t *testing.T) {
	f := pairs([]float64{30, 10, 20}, []float64{10, 10, 10}).Figures[0]
	f.Target = &Target{"one", 1}
	if f.Value() != 1 || f.Median() != 2 || !f.Reached() {
		t.Errorf("least %v, median %v", f.Value(), f.Median())
	}
	f.Missing = "stolen"
	if f.Reached() {
		t.Error("a figure that was not measured reached its target")
	}
	if !math.IsNaN(new(Figure).Value()) {
		t.Error("a figure of nothing has a value")
	}
}

// The references do the work they are named for.
func TestReferences(t *testing.T) {
	p := newProbe(1000, 100, 1)
	want := uint64(0)
	for _, h := range p.order {
		for i := range p.rows {
			if p.rows[i][0] == h {
				want += h + p.rows[i][9]
			}
		}
	}
	if n, err := p.run(100); n != 100 || err != nil || p.sum != want {
		t.Errorf("probe: %v %v, sum %d, want %d", n, err, p.sum, want)
	}
	b := NewBandwidth(3, 640)
	if _, err := b.run(1); err != nil {
		t.Fatal(err)
	}
	for i := range b.out {
		if b.out[i] != b.operands[0][i]&b.operands[1][i]&b.operands[2][i] {
			t.Fatalf("word %d of the AND is wrong", i)
		}
	}
	log, err := newAppendLog(t.TempDir(), 10, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer log.close()
	if n, err := log.run(25); n != 30 || err != nil {
		t.Errorf("log: %v %v", n, err)
	}
	if info, err := log.file.Stat(); err != nil || info.Size() != 3000 {
		t.Errorf("log: %v %v", info, err)
	}
}

// What is read is what was written; what is not a document is refused.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"format":1,"figures":[{"name":"x","unit":"ns","pairs":[{"own":1,"reference":2}]}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"figures":[{"name":"x"},{"name":"x"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		_ = Compare(d, d)
		var out bytes.Buffer
		if err := d.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
		again, err := Read(&out)
		if err != nil || len(again.Figures) != len(d.Figures) {
			t.Fatalf("read back: %v", err)
		}
		if err := d.WriteHTML(&out); err != nil {
			t.Fatal(err)
		}
	})
}
