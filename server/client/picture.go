package client

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Picture is what a server did between two samples. Rates are per second of
// the time between them.
type Picture struct {
	Seconds   float64 `json:"seconds"` // between the samples
	Revision  int     `json:"revision"`
	Users     int     `json:"users"`
	InFlight  int     `json:"in_flight"`
	Decisions float64 `json:"decisions_per_second"`
	Lines     float64 `json:"lines_per_second"` // users, events and outcomes
	Waited    float64 `json:"waited_share"`     // of the live decisions; 0..1
	Kept      float64 `json:"kept_share"`       // of the plain requests, answered from memory; 0..1

	Routes  []RoutePicture `json:"routes"`  // those that were called, busiest first
	Results []Share        `json:"results"` // what placements got, most frequent first
	Groups  []Share        `json:"groups"`  // decisions by group of the person, by number

	Commits  Latency `json:"commits"`
	Lag      int     `json:"lag_frames"` // appended and not durable
	Resident int64   `json:"resident_bytes"`
	Heap     int64   `json:"heap_bytes"`
	GC       float64 `json:"gc_cycles_per_second"`
	GCCores  float64 `json:"gc_cpu_cores"`
	CPU      float64 `json:"cpu_cores"` // seconds of processor a second
	DiskFree int64   `json:"disk_free_bytes"`
	DiskFull bool    `json:"disk_full"`
}

// RoutePicture is one operation.
type RoutePicture struct {
	Route   string  `json:"route"`
	Rate    float64 `json:"per_second"`
	Errors  float64 `json:"errors_per_second"` // answers of status 4xx and 5xx
	Latency Latency `json:"latency"`
}

// Latency is read from a histogram with fixed bounds: a quantile is the upper
// bound of the bucket it lies in, in seconds; 0 without observations.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
}

// Share is a named part of a rate.
type Share struct {
	Name string  `json:"name"`
	Rate float64 `json:"per_second"`
}

// NewPicture compares two samples of one server, the older one first. A counter
// that has gone back, as after a restart, counts from 0.
func NewPicture(before, after Sample, between time.Duration) Picture {
	d := difference{before, after, max(between.Seconds(), 1e-3)}
	p := Picture{
		Seconds: d.seconds, Revision: int(after["tact_revision"]), Users: int(after["tact_users"]),
		InFlight:  int(after[`tact_http_in_flight{class="all"}`]),
		Decisions: d.sum("tact_decisions_total", ""),
		Lines:     d.sum("tact_lines_total", ""),
		Lag:       int(after["tact_durable_lag_frames"]),
		Heap:      int64(after["go_memstats_heap_inuse_bytes"]),
		GC:        d.rate("go_gc_duration_seconds_count"),
		GCCores:   d.rate("go_gc_cpu_seconds_total"),
		CPU:       d.rate("process_cpu_seconds_total"),
		DiskFree:  int64(after["tact_disk_free_bytes"]), DiskFull: after["tact_disk_full"] > 0,
	}
	if live := d.sum("tact_decisions_total", `mode="live"`); live > 0 {
		p.Waited = min(d.sum("tact_decisions_waited_total", "")/live, 1)
	}
	given := d.sum("tact_kept_answers_total", `result="given"`)
	if all := given + d.sum("tact_kept_answers_total", `result="judged"`); all > 0 {
		p.Kept = given / all
	}
	for series, v := range after {
		if strings.HasPrefix(series, "tact_resident_bytes") {
			p.Resident += int64(v)
		}
	}
	p.Routes = d.routes()
	p.Results = d.shares("tact_placements_total", "result")
	p.Groups = d.shares("tact_decisions_total", "group")
	slices.SortFunc(p.Results, func(a, b Share) int { return cmp.Compare(b.Rate, a.Rate) })
	slices.SortFunc(p.Groups, func(a, b Share) int {
		x, _ := strconv.Atoi(a.Name)
		y, _ := strconv.Atoi(b.Name)
		return cmp.Compare(x, y)
	})
	p.Commits = d.latency("tact_commit_seconds", "")
	return p
}

// difference is what happened between two samples.
type difference struct {
	before, after Sample
	seconds       float64
}

func (d difference) grown(series string) float64 {
	now, then := d.after[series], d.before[series]
	if now < then {
		return now
	}
	return now - then
}

func (d difference) rate(series string) float64 { return d.grown(series) / d.seconds }

// sum adds up the rates of a family's series that hold a text.
func (d difference) sum(family, holds string) float64 {
	var n float64
	for series := range d.after {
		if strings.HasPrefix(series, family+"{") && strings.Contains(series, holds) {
			n += d.rate(series)
		}
	}
	return n
}

// shares adds up a family's rates by the value of a label; parts without any
// are left out.
func (d difference) shares(family, name string) []Share {
	by := make(map[string]float64)
	for series := range d.after {
		if strings.HasPrefix(series, family+"{") {
			by[label(series, name)] += d.rate(series)
		}
	}
	var out []Share
	for value, rate := range by {
		if rate > 0 {
			out = append(out, Share{value, rate})
		}
	}
	slices.SortFunc(out, func(a, b Share) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (d difference) routes() []RoutePicture {
	by := make(map[string]*RoutePicture)
	const family = "tact_http_requests_total{"
	for series := range d.after {
		rate := d.rate(series)
		if !strings.HasPrefix(series, family) || rate == 0 {
			continue
		}
		method, route := label(series, "method"), label(series, "route")
		p := by[method+" "+route]
		if p == nil {
			p = &RoutePicture{Route: method + " " + route}
			p.Latency = d.latency("tact_http_request_seconds",
				`method="`+method+`",route="`+route+`",`)
			by[p.Route] = p
		}
		p.Rate += rate
		if status := label(series, "status"); status == "4xx" || status == "5xx" {
			p.Errors += rate
		}
	}
	out := make([]RoutePicture, 0, len(by))
	for _, p := range by {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b RoutePicture) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), strings.Compare(a.Route, b.Route))
	})
	return out
}

// latency reads the quantiles of a histogram's growth. labels is what stands
// before its le.
func (d difference) latency(family, labels string) Latency {
	type bucket struct{ bound, n float64 }
	var buckets []bucket
	prefix := family + "_bucket{" + labels + `le="`
	for series := range d.after {
		text, ok := strings.CutPrefix(series, prefix)
		if !ok {
			continue
		}
		bound, err := strconv.ParseFloat(strings.TrimSuffix(text, `"}`), 64)
		if err == nil {
			buckets = append(buckets, bucket{bound, d.grown(series)})
		}
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.bound, b.bound) })
	if len(buckets) == 0 || buckets[len(buckets)-1].n == 0 {
		return Latency{}
	}
	total := buckets[len(buckets)-1].n
	at := func(q float64) float64 {
		last := 0.0
		for _, b := range buckets {
			if !math.IsInf(b.bound, 1) {
				last = b.bound
			}
			if b.n >= q*total {
				return last // beyond the last bound: at least that
			}
		}
		return last
	}
	return Latency{P50: at(0.5), P99: at(0.99), P999: at(0.999)}
}
