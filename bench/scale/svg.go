package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Size of the picture.
const (
	width, height = 760.0, 440.0
	left, right   = 70.0, 40.0
	top, bottom   = 96.0, 56.0
)

// draw draws the curves: offers along, logarithmic; ns up, logarithmic.
func draw(r *report) []byte {
	most := 1000.0
	for _, c := range r.Curves {
		for _, p := range c.Points {
			most = max(most, p.Ns)
		}
	}
	lo, hi := 2.0, math.Ceil(math.Log10(most)) // 100 ns at the bottom
	x := func(offers float64) float64 {
		return left + (width-left-right)*(math.Log10(offers)-1)/3
	}
	y := func(ns float64) float64 {
		return height - bottom - (height-top-bottom)*(math.Log10(max(ns, 100))-lo)/(hi-lo)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" `+
		`aria-label="Nanoseconds of a decision against live offers">`+"\n", width, height)
	b.WriteString(`<style>text{font:13px sans-serif;fill:#222}.grid{stroke:#ddd}` +
		`polyline{fill:none;stroke-width:2.2}</style>` + "\n")
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%.0f" y="22" style="font-size:16px">A decision in process, cold: `+
		`%s people, CPU ns</text>`+"\n", left, html.EscapeString(thousands(r.Users)))
	for e := 1; e <= 4; e++ {
		at := x(math.Pow10(e))
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+
			`<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", at, at, top, height-bottom, at,
			height-bottom+18, thousands(int(math.Pow10(e))))
	}
	for e := lo; e < hi; e++ {
		for _, m := range []float64{1, 2, 5} {
			b.WriteString(level(y(m*math.Pow(10, e)), thousands(int(m*math.Pow(10, e)))))
		}
	}
	b.WriteString(level(y(math.Pow(10, hi)), thousands(int(math.Pow(10, hi)))))
	fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">live offers</text>`+"\n",
		(left+width-right)/2, height-14)
	colours := [...]string{"#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#555"}
	for i, c := range r.Curves {
		colour, dash := colours[i%len(colours)], [...]string{"", "7 4", "2 3", "9 3 2 3"}[i%4]
		lx, ly := left+float64(i%2)*330, 46+float64(i/2)*20
		fmt.Fprintf(&b, `<polyline stroke="%s" stroke-dasharray="%s" points="%.0f,%.0f %.0f,%.0f"/>`+
			`<text x="%.0f" y="%.0f">%s</text>`+"\n", colour, dash, lx, ly, lx+28, ly, lx+36, ly+4,
			html.EscapeString(c.Name))
		fmt.Fprintf(&b, `<polyline stroke="%s" stroke-dasharray="%s" points="`, colour, dash)
		for _, p := range c.Points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(float64(p.Offers)), y(p.Ns))
		}
		b.WriteString(`"/>` + "\n")
		for _, p := range c.Points {
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x(float64(p.Offers)),
				y(p.Ns), colour)
		}
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
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
