package main

import (
	"fmt"
	"strings"
	"time"

	"tact/server/client"
)

// drawPicture writes a picture as lines of at most 80 columns.
func drawPicture(p *client.Picture) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("revision %d   users %s   in flight %d   cpu %.2f cores   over %.1f s",
		p.Revision, grouped(int64(p.Users)), p.InFlight, p.CPU, p.Seconds)
	line("decisions/s %-10s ingest lines/s %-10s waited for the disk %.1f %%",
		grouped(int64(p.Decisions)), grouped(int64(p.Lines)), 100*p.Waited)
	line("commits p50 %s  p99 %s   frames behind %d   disk free %s%s", span(p.Commits.P50),
		span(p.Commits.P99), p.Lag, bytesText(p.DiskFree), map[bool]string{true: " FULL"}[p.DiskFull])
	line("resident %s   heap %s   gc %.2f/s, %.3f cores   from memory %.0f %%\n",
		bytesText(p.Resident), bytesText(p.Heap), p.GC, p.GCCores, 100*p.Kept)
	line("%-40s %9s %8s %8s %8s", "route", "per s", "errors", "p50 ≤", "p99.9 ≤")
	for i := range p.Routes {
		r := &p.Routes[i]
		line("%-40.40s %9s %8.1f %8s %8s", r.Route, grouped(int64(r.Rate)), r.Errors,
			span(r.Latency.P50), span(r.Latency.P999))
	}
	bars(&b, "placements got", p.Results)
	bars(&b, "decisions by group", p.Groups)
	return b.String()
}

// bars draws the parts of a rate.
func bars(b *strings.Builder, title string, parts []client.Share) {
	var sum float64
	for _, s := range parts {
		sum += s.Rate
	}
	if sum == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, s := range parts {
		fmt.Fprintf(b, "  %-20s %9s %5.1f %% %s\n", s.Name, grouped(int64(s.Rate)), 100*s.Rate/sum,
			strings.Repeat("█", int(30*s.Rate/sum+0.5)))
	}
}

// span writes seconds in the unit that reads best.
func span(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).String()
}

// bytesText writes a size in the unit that reads best.
func bytesText(n int64) string {
	const units = "KMGTP"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
