package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
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
	D      *Document
	Facts  [][2]string
	Rows   []row
	Curves []template.HTML
	Flames []row
}

// row is one line of the table.
type row struct {
	F                 *Figure
	Own, Ratio, Range string
	Times             string // what Ratio is a multiple of; "" = it has none
	Target, Verdict   string
	Allocs            string
	Strip             template.HTML
}

// WriteHTML writes the document as one page that needs nothing beside it: no
// script, no font, no picture from elsewhere. Profiles are links to files that lie
// where the document does.
func (d *Document) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Parse(reportPage)
	if err != nil {
		return err
	}
	p := &page{D: d, Facts: d.facts()}
	for i := range d.Figures {
		r := newRow(&d.Figures[i])
		p.Rows = append(p.Rows, r)
		if r.F.Profile != "" {
			p.Flames = append(p.Flames, r)
		}
	}
	if c := d.curves(); len(c) > 0 {
		p.Curves = append(p.Curves, drawCurves("live offers", "own time / two-miss probe", c))
	}
	return t.Execute(w, p)
}

func (d *Document) facts() [][2]string {
	facts := [][2]string{
		{"machine", fmt.Sprintf("%d × %s, %.1f GiB", d.Machine.CPUs, d.Machine.CPU,
			float64(d.Machine.Memory)/(1<<30))},
		{"kernel, Go", d.Machine.Kernel + ", " + d.Machine.Go},
		{"build", d.Build},
		{"command", "tact bench " + strings.Join(d.Flags, " ")},
		{"people, seed", strconv.Itoa(d.Users) + ", " + strconv.FormatUint(d.Seed, 10)},
		{"begun, took", d.Started.Format(time.RFC3339) + ", " + d.Took.Round(time.Second).String()},
		{"workloads", fmt.Sprintf("%d of %d", d.Done, d.Planned)},
	}
	if d.Cut != "" {
		facts = append(facts, [2]string{"cut short", d.Cut})
	}
	return facts
}

func newRow(f *Figure) row {
	r := row{F: f}
	switch own := f.own(); {
	case f.Count != nil:
		r.Own = number(*f.Count) + " " + f.Unit
	case len(own) > 0:
		r.Own = number(own[0]) + " " + f.Unit
		r.Range = "median " + number(median(own)) + ", to " + number(own[len(own)-1])
	}
	if ratios := f.ratios(); f.Reference != "" && len(ratios) > 0 {
		r.Ratio, r.Times = number(ratios[0]), f.Reference
		r.Range = "median " + number(median(ratios)) + ", to " + number(ratios[len(ratios)-1])
		r.Strip = strip(ratios)
	}
	if f.Allocs != nil {
		r.Allocs = strconv.FormatFloat(*f.Allocs, 'f', 2, 64)
	}
	if f.Target != nil {
		r.Target = f.Target.Name
		r.Verdict = "missed"
		if f.Reached() {
			r.Verdict = "reached"
		}
	}
	if f.Missing != "" {
		r.Verdict = "not measured: " + f.Missing
	}
	return r
}

// number writes three digits.
func number(v float64) string {
	if infinite(v) {
		return "–"
	}
	return strconv.FormatFloat(v, 'g', max(3, len(strconv.FormatInt(int64(v), 10))), 64)
}

// strip draws the pairs as ticks between their least and greatest.
func strip(rising []float64) template.HTML {
	lo, hi := rising[0], rising[len(rising)-1]
	var b strings.Builder
	b.WriteString(`<svg class="strip" viewBox="0 0 120 14" role="img"` +
		` aria-label="spread of the pairs">`)
	for _, v := range rising {
		x := 4.0
		if hi > lo {
			x += 112 * (v - lo) / (hi - lo)
		}
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="2" y2="12"/>`, x, x)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// curve is a line of figures over X.
type curve struct {
	name string
	at   [][2]float64
}

func (d *Document) curves() []curve {
	var out []curve
	for i := range d.Figures {
		f := &d.Figures[i]
		if f.Curve == "" || f.Missing != "" || infinite(f.Value()) {
			continue
		}
		k := slices.IndexFunc(out, func(c curve) bool { return c.name == f.Curve })
		if k < 0 {
			out = append(out, curve{name: f.Curve})
			k = len(out) - 1
		}
		out[k].at = append(out[k].at, [2]float64{f.X, f.Value()})
	}
	for _, c := range out {
		slices.SortFunc(c.at, func(a, b [2]float64) int { return int(a[0] - b[0]) })
	}
	return out
}

// Size of a plot in its own units, which the page scales.
const (
	plotWide, plotHigh = 720.0, 300.0
	plotLeft, plotFoot = 70.0, 40.0
	plotTop            = 20.0
	plotName           = 18.0 // a line with the name of a curve, above them all
)

// drawCurves draws lines over a logarithmic x from 0, their names above them. Lines
// differ in dashes too, so that a printed page can be read.
func drawCurves(xTitle, yTitle string, curves []curve) template.HTML {
	loX, hiX, hiY := math.Inf(1), 0.0, 0.0
	for _, c := range curves {
		for _, p := range c.at {
			loX, hiX, hiY = min(loX, p[0]), max(hiX, p[0]), max(hiY, p[1])
		}
	}
	if hiX <= loX {
		hiX = loX * 10
	}
	step := math.Pow(10, math.Floor(math.Log10(max(hiY, 1e-9))))
	for hiY/step < 3 {
		step /= 2
	}
	top := step * math.Ceil(hiY/step)
	x := func(v float64) float64 {
		return plotLeft + (plotWide-plotLeft-20)*math.Log(v/loX)/math.Log(hiX/loX)
	}
	head := plotTop + plotName*float64(len(curves))
	foot := head + plotHigh - plotTop - plotFoot // where y is 0
	y := func(v float64) float64 { return foot - (foot-head)*v/top }
	esc := template.HTMLEscapeString
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="plot" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`,
		plotWide, foot+plotFoot, esc(yTitle+" over "+xTitle))
	for v := 0.0; v <= top*1.001; v += step {
		fmt.Fprintf(&b, `<line class="grid" x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f"/>`+
			`<text x="%.0f" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft, plotWide-20, y(v), y(v), plotLeft-6, y(v)+4, number(v))
	}
	for v := loX; v <= hiX*1.001; v *= 10 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
			x(v), foot+16, number(v))
	}
	fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="middle">%s</text>`+
		`<text x="2" y="12">%s</text>`,
		(plotLeft+plotWide)/2, foot+plotFoot-6, esc(xTitle), esc(yTitle))
	for i, c := range curves {
		fmt.Fprintf(&b, `<polyline class="c%d" points="`, i%4)
		for _, p := range c.at {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(p[0]), y(p[1]))
		}
		b.WriteString(`"/>`)
		line := plotTop + plotName*float64(i) + 6
		fmt.Fprintf(&b, `<line class="c%d" x1="%.0f" x2="%.0f" y1="%.0f" y2="%.0f"/>`+
			`<text x="%.0f" y="%.0f">%s</text>`, i%4, plotLeft, plotLeft+30, line, line,
			plotLeft+36, line+4, esc(c.name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // every text in it was escaped above
}

// infinite says that a value is none that can be written.
func infinite(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

// WriteText writes the document for a terminal.
func (d *Document) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %14s %8s  %-22s %s\n",
		"workload", "own, least", "ratio", "spread", "ratio to; target")
	for i := range d.Figures {
		r := newRow(&d.Figures[i])
		verdict := r.Target
		if r.Verdict != "" {
			verdict = strings.TrimSpace(r.Target + ": " + r.Verdict)
		}
		if r.Target == "" {
			verdict = r.Verdict
		}
		if r.Times != "" && verdict != "" {
			verdict = "; " + verdict
		}
		verdict = r.Times + verdict
		fmt.Fprintf(&b, "%-28s %14s %8s  %-22s %s\n", r.F.Name, r.Own, r.Ratio, r.Range, verdict)
	}
	b.WriteString("ratio: own time over the time of what stands behind it, the least of the pairs; " +
		"spread: of the ratios,\nor of the times where there is no ratio\n")
	fmt.Fprintf(&b, "%d of %d workloads, %d people, %s, %d CPUs, %s\n", d.Done, d.Planned, d.Users,
		d.Took.Round(time.Second), d.Machine.CPUs, d.Build)
	if d.Cut != "" {
		fmt.Fprintf(&b, "cut short: %s\n", d.Cut)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
