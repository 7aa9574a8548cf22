package loadtest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed report.html
var reportPage string

// page is what the report shows.
type page struct {
	R           *Result
	What        string
	Percentiles template.HTML
	Steps       template.HTML
	Time        template.HTML
	Facts       [][2]string
}

// WriteHTML writes the result as one page that needs nothing beside it: no
// script, no font, no picture from elsewhere.
func (r *Result) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"ns": short, "duration": func(d time.Duration) string { return short(int64(d)) },
		"count":   grouped,
		"rate":    func(x float64) string { return grouped(int64(math.Round(x))) + "/s" },
		"percent": func(x float64) string { return strconv.FormatFloat(100*x, 'f', 1, 64) + " %" },
		"thin":    thinMark, "figure": figure, "rounds": (*FloorResult).rounds,
		"late": (*Result).late,
	}).Parse(reportPage)
	if err != nil {
		return err
	}
	p := &page{R: r, What: r.what(), Facts: r.facts()}
	if err := p.plots(r); err != nil {
		return err
	}
	return t.Execute(w, p)
}

// plots chooses what is worth a picture: the measured run and its floor, or the
// steps of a search, or the multiples of an overload.
func (p *page) plots(r *Result) (err error) {
	var shown []*Run
	var names []string
	var steps []*Run
	for _, run := range r.Runs {
		switch {
		case run.Verdict != "":
			steps = append(steps, run)
		case run.Label == "measured" || run.Label == "floor" ||
			r.Overload != nil && strings.HasSuffix(run.Label, "capacity") && len(shown) < 3:
			shown, names = append(shown, run), append(names, run.Label)
		}
		if run.Label == "measured" && len(run.Windows) > 1 && r.Floor == nil {
			p.Time = windowPlot("latency over time", run)
		}
	}
	if len(steps) > 0 {
		slices.SortStableFunc(steps, func(a, b *Run) int { return int(a.Rate - b.Rate) })
		p.Steps = stepPlot("latency by rate", steps)
		best := steps[0]
		for _, run := range steps {
			if run.Verdict == string(passed) {
				best = run
			}
		}
		shown, names = []*Run{best}, []string{best.Label}
	}
	if len(shown) > 0 {
		p.Percentiles, err = percentilePlot("latency by percentile", shown, names)
	}
	return err
}

// thinMark stars a percentile that has too few samples.
func thinMark(d Distribution, name string) string {
	thin := false
	for _, p := range percentiles() {
		thin = thin || p.name == d.Thin
		if p.name == name && thin {
			return "*"
		}
	}
	return ""
}

// what is one line about the test.
func (r *Result) what() string {
	p := &r.Plan
	switch p.Mode {
	case Saturate:
		return fmt.Sprintf("saturation by %d connections, scenario %s", p.Connections, p.Scenario.Name)
	case Step, Search, Overload:
		return fmt.Sprintf("%s, %s arrivals, scenario %s", p.Mode, p.Arrivals, p.Scenario.Name)
	}
	rate := p.Rate
	for _, run := range r.Runs {
		if run.Label == "measured" {
			rate = run.Rate
		}
	}
	return fmt.Sprintf("%s: %.0f %s arrivals a second for %v, scenario %s", p.Mode, rate,
		p.Arrivals, p.Duration, p.Scenario.Name)
}

// facts are the conditions, without which the figures say nothing.
func (r *Result) facts() [][2]string {
	m, p := &r.Machine, &r.Plan
	scenario, err := json.Marshal(p.Scenario)
	if err != nil {
		scenario = []byte(err.Error())
	}
	facts := [][2]string{
		{"machine", fmt.Sprintf("%d × %s, %.1f GiB", m.CPUs, m.CPU, float64(m.Memory)/(1<<30))},
		{"system", fmt.Sprintf("%s, kernel %s, %s", m.System, m.Kernel, m.Go)},
		{"build", r.Commit},
		{"command", strings.Join(r.Flags, " ")},
		{"scenario", string(scenario)},
		{"connections", strconv.Itoa(p.Connections)},
		{"requests a connection", "no end: kept alive"},
		{"seed", strconv.FormatUint(p.Seed, 10)},
	}
	if p.Churn > 0 {
		facts[6][1] = strconv.Itoa(p.Churn)
	}
	if w := r.WarmUp; w != nil && len(w.Windows) > 0 {
		text := fmt.Sprintf("%v, median of the last window %s",
			time.Duration(len(w.Windows))*warmUpWindow, short(w.Windows[len(w.Windows)-1]))
		if !w.Flat {
			text += ", not flat: the longest warm-up was over"
		}
		facts = append(facts, [2]string{"warm-up", text})
	}
	if s := r.Slow; s != nil {
		facts = append(facts, [2]string{"slow clients", fmt.Sprintf(
			"%d: %d requests begun, %d answered, %d closed by the server",
			s.Clients, s.Begun, s.Answered, s.Closed)})
	}
	for _, s := range r.Shares {
		facts = append(facts, [2]string{"share", fmt.Sprintf("%d of %d", s.Index, s.Of)})
	}
	return facts
}

// grouped writes n with a comma between groups of three digits.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// late says that latencies since the due time are not to be believed, though those
// after sending are; empty when that is not so.
func (r *Result) late() string {
	if f := r.Floor; f != nil && f.LateRounds > 0 && len(f.Void) == 0 {
		return fmt.Sprintf("the generator was late in %d of %d rounds: its lateness is in the latencies "+
			"since the due time, and only those after sending count", f.LateRounds, f.Rounds+f.LateRounds)
	}
	return ""
}

// rounds says how many rounds count, and why others do not.
func (f *FloorResult) rounds() string {
	if f.LateRounds+f.VoidRounds == 0 {
		return fmt.Sprintf("rounds: %d, none left out", f.Rounds)
	}
	return fmt.Sprintf("rounds: %d; %d for figures after sending alone, and %d left out, both sides "+
		"of each: %s", f.Rounds, f.LateRounds, f.VoidRounds, strings.Join(f.VoidWhy, "; "))
}

// WriteText writes the result for a terminal.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, run := range r.Runs {
		r.textOf(&b, run)
	}
	if f := r.Floor; f != nil {
		fmt.Fprintf(&b, "\nratio to a bare server with replies of %d bytes, in turns\n", f.ReplyBytes)
		for _, row := range f.Rows {
			fmt.Fprintf(&b, "  %-20s %10s / %10s = %5.2f  (pairs %.2f … %.2f … %.2f)\n", row.Name,
				figure(row.Own, row.Unit), figure(row.Floor, row.Unit), row.Ratio, row.Min,
				row.Median, row.Max)
		}
		fmt.Fprintf(&b, "  %s\n", f.rounds())
		if late := r.late(); late != "" {
			fmt.Fprintf(&b, "LATE: %s\n", late)
		}
	}
	if s := r.Search; s != nil {
		fmt.Fprintf(&b, "\nhighest rate under %s: %.0f/s, %.0f %% of the saturation %.0f/s (%s)\n",
			s.SLO, s.Best, 100*s.OfSaturation, s.Saturation, s.End)
		if s.Knee > 0 {
			fmt.Fprintf(&b, "knee: %.0f/s\n", s.Knee)
		}
	}
	if o := r.Overload; o != nil {
		fmt.Fprintf(&b, "\ncapacity %.0f/s\n", o.Capacity)
		for _, row := range o.Rows {
			fmt.Fprintf(&b, "  %4g×: goodput %.0f/s = %.0f %%, %d refused, %d never answered, recovery %s\n",
				row.Times, row.Goodput, 100*row.OfCapacity, row.Refused, row.NeverAnswered,
				short(row.RecoveryNanos))
		}
	}
	if r.Drift > 0 {
		fmt.Fprintf(&b, "p99 of the last quarter over the first: %.2f\n", r.Drift)
	}
	if s := r.Slow; s != nil {
		fmt.Fprintf(&b, "slow clients: %d, %d requests begun, %d answered, %d closed by the server\n",
			s.Clients, s.Begun, s.Answered, s.Closed)
	}
	for _, why := range r.Void {
		fmt.Fprintf(&b, "VOID: %s\n", why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Result) textOf(b *strings.Builder, run *Run) {
	l, h := &run.Latency, &run.Health
	fmt.Fprintf(b, "%s: %.0f/s", run.Label, h.PerSec)
	if run.Rate > 0 {
		fmt.Fprintf(b, " of %.0f/s (%.1f %%)", run.Rate, 100*h.Achieved)
	}
	if run.Verdict != "" {
		fmt.Fprintf(b, ", %s", run.Verdict)
	}
	if run.Cut {
		b.WriteString(", cut short")
	}
	fmt.Fprintf(b, "\n  latency   p50 %s  p90 %s  p99 %s  p99.9 %s%s  max %s  (%s samples)\n",
		short(l.P50), short(l.P90), short(l.P99), short(l.P999), thinMark(*l, "p99.9"), short(l.Max),
		grouped(l.Count))
	fmt.Fprintf(b, "  replies   %s good, %s timeouts, %s broken", grouped(run.Good),
		grouped(run.Timeouts), grouped(run.Broken))
	for _, status := range slices.Sorted(maps.Keys(run.Status)) {
		fmt.Fprintf(b, ", %s: %s", status, grouped(run.Status[status]))
	}
	if run.Unexpected > 0 {
		fmt.Fprintf(b, ", %s without the expected text", grouped(run.Unexpected))
	}
	fmt.Fprintf(b, "\n  generator %s, %s dropped, %s waited, stolen %s\n", latenessText(run),
		grouped(run.Dropped), grouped(run.Waited), stolenText(h.Stolen))
	if run.PerReply > 0 {
		fmt.Fprintf(b, "  server    %s CPU a reply\n", short(int64(run.PerReply)))
	}
}

func latenessText(run *Run) string {
	if run.Closed {
		return "in a closed loop"
	}
	l := &run.Health.Lateness
	return fmt.Sprintf("lateness p50 %s p99 %s max %s", short(l.P50), short(l.P99), short(l.Max))
}

// figure writes a value with its unit.
func figure(x float64, unit string) string {
	if unit == "ns" {
		return short(int64(x))
	}
	return grouped(int64(math.Round(x))) + unit
}

func stolenText(share float64) string {
	if share < 0 {
		return "unknown"
	}
	return strconv.FormatFloat(100*share, 'f', 1, 64) + " %"
}
