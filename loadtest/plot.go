package loadtest

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// short writes nanoseconds with three digits and a unit.
func short(ns int64) string {
	d := time.Duration(ns)
	unit, name := time.Second, "s"
	switch {
	case d < time.Microsecond:
		return strconv.FormatInt(ns, 10) + " ns"
	case d < time.Millisecond:
		unit, name = time.Microsecond, "µs"
	case d < time.Second:
		unit, name = time.Millisecond, "ms"
	}
	x := float64(d) / float64(unit)
	digits := 2
	if x >= 100 {
		digits = 0
	} else if x >= 10 {
		digits = 1
	}
	return strconv.FormatFloat(x, 'f', digits, 64) + " " + name
}

// point is a place on a plot, in its own units.
type point struct{ x, y float64 }

// curve is one line of a plot.
type curve struct {
	name   string
	points []point
}

// axis turns values into positions and says where marks stand. Positions are
// shares of the plot's side, 0 to 1.
type axis struct {
	title string
	marks []mark
	place func(v float64) float64
}

type mark struct {
	at   float64 // value
	text string
}

// Size of a plot in its own units, which the page scales.
const (
	plotWidth, plotHeight = 720.0, 320.0
	plotLeft, plotRight   = 78.0, 16.0
	plotTop, plotBottom   = 30.0, 46.0
)

// plot draws curves as SVG. Lines differ in colour and in dashes, so that a
// printed page without colour can be read.
func plot(title string, x, y axis, curves []curve) template.HTML {
	var b strings.Builder
	esc := template.HTMLEscapeString
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`,
		plotWidth, plotHeight, esc(title))
	px := func(v float64) float64 {
		return plotLeft + (plotWidth-plotLeft-plotRight)*min(max(x.place(v), 0), 1)
	}
	py := func(v float64) float64 {
		return plotHeight - plotBottom -
			(plotHeight-plotTop-plotBottom)*min(max(y.place(v), 0), 1)
	}
	for _, m := range x.marks {
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`,
			px(m.at), px(m.at), plotTop, plotHeight-plotBottom)
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
			px(m.at), plotHeight-plotBottom+16, esc(m.text))
	}
	for _, m := range y.marks {
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`,
			plotLeft, plotWidth-plotRight, py(m.at), py(m.at))
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft-6, py(m.at)+4, esc(m.text))
	}
	fmt.Fprintf(&b, `<text class="axis" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
		(plotLeft+plotWidth-plotRight)/2, plotHeight-8, esc(x.title))
	fmt.Fprintf(&b, `<text class="axis" x="4" y="18">%s</text>`, esc(y.title))
	legend := plotWidth - plotRight
	for i := len(curves) - 1; i >= 0; i-- {
		c := curves[i]
		legend -= 8*float64(len([]rune(c.name))) + 12
		fmt.Fprintf(&b, `<line class="c%d" x1="%.1f" x2="%.1f" y1="14" y2="14"/>`,
			i, legend-26, legend-4)
		fmt.Fprintf(&b, `<text x="%.1f" y="18">%s</text>`, legend, esc(c.name))
		legend -= 30
		fmt.Fprintf(&b, `<polyline class="c%d" points="`, i)
		for _, p := range c.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", px(p.x), py(p.y))
		}
		b.WriteString(`"/>`)
	}
	b.WriteString("</svg>")
	// Every text in it was escaped above.
	return template.HTML(b.String())
}

// latencyAxis is logarithmic, from a power of ten below the least value to one
// above the greatest.
func latencyAxis(curves []curve) axis {
	lo, hi := math.Inf(1), 0.0
	for _, c := range curves {
		for _, p := range c.points {
			if p.y > 0 {
				lo, hi = min(lo, p.y), max(hi, p.y)
			}
		}
	}
	if hi == 0 {
		lo, hi = 1e3, 1e6
	}
	from, to := math.Floor(math.Log10(lo)), math.Ceil(math.Log10(hi))
	to = max(to, from+1)
	a := axis{title: "latency", place: func(v float64) float64 {
		return (math.Log10(max(v, 1)) - from) / (to - from)
	}}
	for e := from; e <= to; e++ {
		a.marks = append(a.marks, mark{math.Pow(10, e), powerOfTen(int(e))})
	}
	return a
}

// powerOfTen names 10^e nanoseconds.
func powerOfTen(e int) string {
	units := []string{"ns", "µs", "ms", "s"}
	unit := min(max(e, 0)/3, len(units)-1)
	return strconv.FormatFloat(math.Pow(10, float64(e-3*unit)), 'g', -1, 64) + " " + units[unit]
}

// percentileAxis spreads the tail: each nine has the same width.
func percentileAxis(nines float64) axis {
	a := axis{title: "percentile", place: func(v float64) float64 {
		return -math.Log10(max(1-v/100, 1e-12)) / nines
	}}
	for _, m := range []mark{
		{0, "0"},
		{50, "50 %"},
		{90, "90 %"},
		{99, "99 %"},
		{99.9, "99.9 %"},
		{99.99, "99.99 %"},
		{99.999, "99.999 %"},
		{99.9999, "99.9999 %"},
	} {
		if a.place(m.at) <= 1+1e-9 {
			a.marks = append(a.marks, m)
		}
	}
	return a
}

// linearAxis goes from 0 to a round number above hi.
func linearAxis(title string, hi float64) axis {
	step := math.Pow(10, math.Floor(math.Log10(max(hi, 1e-9)/2)))
	for hi/step > 8 {
		step *= 2
	}
	top := step * math.Ceil(hi/step)
	a := axis{title: title, place: func(v float64) float64 { return v / top }}
	for v := 0.0; v <= top*1.0001; v += step {
		a.marks = append(a.marks, mark{v, strconv.FormatFloat(v, 'g', 6, 64)})
	}
	return a
}

// percentileCurve reads a histogram at 40 places a nine, to its last sample.
func percentileCurve(name string, h *hdr.Histogram) curve {
	c := curve{name: name}
	n := h.TotalCount()
	if n == 0 {
		return c
	}
	for i := 0; ; i++ {
		rest := math.Pow(10, -float64(i)/40)
		if rest < 1/float64(n) {
			break
		}
		p := 100 * (1 - rest)
		c.points = append(c.points, point{p, float64(h.ValueAtQuantile(p))})
	}
	c.points = append(c.points, point{100 * (1 - 1/float64(n)), float64(h.Max())})
	return c
}

// percentilePlot shows distributions to the last nine that any of them has.
func percentilePlot(title string, runs []*Run, names []string) (template.HTML, error) {
	var curves []curve
	nines := 1.0
	for i, run := range runs {
		h, err := run.Latency.histogram()
		if err != nil {
			return "", err
		}
		if h.TotalCount() == 0 {
			continue
		}
		nines = max(nines, math.Log10(float64(h.TotalCount())))
		curves = append(curves, percentileCurve(names[i], h))
	}
	return plot(title, percentileAxis(nines), latencyAxis(curves), curves), nil
}

// windowPlot shows percentiles over the time of a run.
func windowPlot(title string, run *Run) template.HTML {
	curves := []curve{{name: "p50"}, {name: "p99"}, {name: "max"}}
	each := float64(run.Span) / 1e9 / float64(max(len(run.Windows), 1))
	for i, w := range run.Windows {
		if w.Count == 0 {
			continue
		}
		at := (float64(i) + 0.5) * each
		for c, v := range []int64{w.P50, w.P99, w.Max} {
			curves[c].points = append(curves[c].points, point{at, float64(v)})
		}
	}
	return plot(title, linearAxis("seconds", float64(run.Span)/1e9), latencyAxis(curves), curves)
}

// stepPlot shows percentiles over rate; the runs must be in order of rate. Void
// steps are left out; without two others there is nothing to show.
func stepPlot(title string, runs []*Run) template.HTML {
	curves := []curve{{name: "p50"}, {name: "p99"}, {name: "p99.9"}}
	hi := 1.0
	for _, run := range runs {
		if run.Verdict == string(voided) {
			continue
		}
		hi = max(hi, run.Rate)
		for c, v := range []int64{run.Latency.P50, run.Latency.P99, run.Latency.P999} {
			curves[c].points = append(curves[c].points, point{run.Rate, float64(v)})
		}
	}
	if len(curves[0].points) < 2 {
		return ""
	}
	return plot(title, linearAxis("arrivals a second", hi), latencyAxis(curves), curves)
}
