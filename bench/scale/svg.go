package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Size of one panel; there is one for each number of people.
const (
	width, height = 760.0, 460.0
	left, right   = 70.0, 40.0
	top, bottom   = 116.0, 56.0
)

// scales place offers and ns in a panel, both logarithmic.
type scales struct {
	above  float64 // height of the panels above
	lo, hi float64 // of ns, as powers of ten
}

func (s scales) x(offers float64) float64 {
	return left + (width-left-right)*(math.Log10(offers)-1)/3
}

func (s scales) y(ns float64) float64 {
	return s.above + height - bottom -
		(height-top-bottom)*(math.Log10(max(ns, math.Pow(10, s.lo)))-s.lo)/(s.hi-s.lo)
}

// draw draws the curves of each run: offers along, ns up, and the reference of
// the same rounds in grey.
func draw(r *report) []byte {
	s := scales{lo: 2, hi: 3} // 100 ns at the bottom
	for _, run := range r.Runs {
		for _, c := range run.Curves {
			for _, p := range c.Points {
				s.hi = max(s.hi, math.Ceil(math.Log10(p.Ns)))
			}
		}
	}
	var b strings.Builder
	all := height * float64(len(r.Runs))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" `+
		`aria-label="Nanoseconds of a decision against live offers">`+"\n", width, all)
	b.WriteString(`<style>text{font:13px sans-serif;fill:#222}.grid{stroke:#ddd}` +
		`polyline{fill:none;stroke-width:2.2}</style>` + "\n")
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" fill="#fff"/>`+"\n", width, all)
	for i, run := range r.Runs {
		s.above = height * float64(i)
		s.panel(&b, run)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// panel draws one run.
func (s scales) panel(b *strings.Builder, r *run) {
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" style="font-size:16px">A decision in process, cold: `+
		`%s people, CPU ns</text>`+"\n", left, s.above+26, html.EscapeString(thousands(r.Users)))
	for e := 1; e <= 4; e++ {
		at := s.x(math.Pow10(e))
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+
			`<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", at, at, s.above+top,
			s.above+height-bottom, at, s.above+height-bottom+18, thousands(int(math.Pow10(e))))
	}
	for e := s.lo; e < s.hi; e++ {
		for _, m := range []float64{1, 2, 5} {
			b.WriteString(level(s.y(m*math.Pow(10, e)), thousands(int(m*math.Pow(10, e)))))
		}
	}
	b.WriteString(level(s.y(math.Pow(10, s.hi)), thousands(int(math.Pow(10, s.hi)))))
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle">live offers</text>`+"\n",
		(left+width-right)/2, s.above+height-14)
	colours := [...]string{"#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad"}
	for i, c := range r.Curves {
		look := pen{colours[i%len(colours)], [...]string{"", "7 4", "2 3", "9 3 2 3"}[i%4]}
		s.legend(b, i, look, c.Name)
		s.line(b, look, c.Points, func(p point) float64 { return p.Ns })
	}
	if len(r.Curves) > 0 {
		look := pen{"#999", ""}
		s.legend(b, len(r.Curves), look, "the reference: "+probeName)
		s.line(b, look, r.Curves[0].Points, func(p point) float64 { return p.Reference })
	}
}

// pen is how a line looks.
type pen struct{ colour, dash string }

// legend names the i-th line, two in a row.
func (s scales) legend(b *strings.Builder, i int, look pen, name string) {
	x, y := left+float64(i%2)*330, s.above+50+float64(i/2)*20
	fmt.Fprintf(b, `<polyline stroke="%s" stroke-dasharray="%s" points="%.0f,%.0f %.0f,%.0f"/>`+
		`<text x="%.0f" y="%.0f">%s</text>`+"\n", look.colour, look.dash, x, y, x+28, y, x+36, y+4,
		html.EscapeString(name))
}

// line draws one curve with its points.
func (s scales) line(b *strings.Builder, look pen, points []point, ns func(point) float64) {
	fmt.Fprintf(b, `<polyline stroke="%s" stroke-dasharray="%s" points="`, look.colour, look.dash)
	for _, p := range points {
		fmt.Fprintf(b, "%.1f,%.1f ", s.x(float64(p.Offers)), s.y(ns(p)))
	}
	b.WriteString(`"/>` + "\n")
	for _, p := range points {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", s.x(float64(p.Offers)),
			s.y(ns(p)), look.colour)
	}
}

// level is one line of the scale.
func level(at float64, text string) string {
	return fmt.Sprintf(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+
		`<text x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n",
		left, width-right, at, at, left-8, at+4, text)
}

// thousands writes a whole number with commas.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
