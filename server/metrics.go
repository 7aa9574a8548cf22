package server

import (
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"
)

// buckets are the upper bounds of the latency histogram, in nanoseconds: dense
// around the goal of a millisecond.
func buckets() [13]int64 {
	return [...]int64{
		50e3, 100e3, 250e3, 500e3, 1e6, 2.5e6, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 1e9,
	}
}

// metrics counts requests by route and status class. Counting is a few atomic
// additions on memory of the route alone.
type metrics struct {
	bounds [13]int64
	routes []routeMetrics // one for each route, and the last for requests without one
	index  map[*Route]int
}

type routeMetrics struct {
	name    string           // as labels
	classes [6]atomic.Uint64 // by status / 100
	buckets [14]atomic.Uint64
	nanos   atomic.Uint64
	_       [64]byte // routes do not share a cache line
}

func newMetrics(routes []Route) *metrics {
	m := &metrics{bounds: buckets(), routes: make([]routeMetrics, len(routes)+1)}
	m.index = make(map[*Route]int, len(routes))
	for i := range routes {
		m.index[&routes[i]] = i
		m.routes[i].name = fmt.Sprintf("method=%q,route=%q", routes[i].Method, routes[i].Path)
	}
	m.routes[len(routes)].name = `method="",route=""`
	return m
}

// observe counts one answer. route is nil for a request that met none.
func (m *metrics) observe(route *Route, status int, took time.Duration) {
	r := &m.routes[len(m.routes)-1]
	if i, ok := m.index[route]; ok {
		r = &m.routes[i]
	}
	r.classes[min(max(status/100, 0), 5)].Add(1)
	r.nanos.Add(uint64(took))
	i := 0
	for i < len(m.bounds) && int64(took) > m.bounds[i] {
		i++
	}
	r.buckets[i].Add(1)
}

// write writes the counters in the Prometheus text format.
func (m *metrics) write(w io.Writer, inFlight, bulk, limit int64) {
	fmt.Fprintln(w, "# HELP tact_http_requests_total Answered requests by route and status class.")
	fmt.Fprintln(w, "# TYPE tact_http_requests_total counter")
	for i := range m.routes {
		r := &m.routes[i]
		for c := range r.classes {
			if n := r.classes[c].Load(); n > 0 {
				fmt.Fprintf(w, "tact_http_requests_total{%s,status=\"%dxx\"} %d\n", r.name, c, n)
			}
		}
	}
	fmt.Fprintln(w, "# HELP tact_http_request_seconds Time in the handler: for a bulk request "+
		"until its reply begins.")
	fmt.Fprintln(w, "# TYPE tact_http_request_seconds histogram")
	for i := range m.routes {
		m.writeHistogram(w, &m.routes[i])
	}
	fmt.Fprintln(w, "# HELP tact_http_in_flight Requests being answered.")
	fmt.Fprintln(w, "# TYPE tact_http_in_flight gauge")
	fmt.Fprintf(w, "tact_http_in_flight{class=\"all\"} %d\n", inFlight)
	fmt.Fprintf(w, "tact_http_in_flight{class=\"bulk\"} %d\n", bulk)
	fmt.Fprintln(w, "# HELP tact_http_decision_limit Requests in flight from which decisions are "+
		"refused: fewer while they queue up.")
	fmt.Fprintln(w, "# TYPE tact_http_decision_limit gauge")
	fmt.Fprintf(w, "tact_http_decision_limit %d\n", limit)
}

func (m *metrics) writeHistogram(w io.Writer, r *routeMetrics) {
	var counts [14]uint64
	var total uint64
	for i := range r.buckets {
		counts[i] = r.buckets[i].Load()
		total += counts[i]
	}
	if total == 0 {
		return
	}
	var sum uint64
	for i, bound := range m.bounds {
		sum += counts[i]
		le := strconv.FormatFloat(float64(bound)/1e9, 'g', -1, 64)
		fmt.Fprintf(w, "tact_http_request_seconds_bucket{%s,le=%q} %d\n", r.name, le, sum)
	}
	fmt.Fprintf(w, "tact_http_request_seconds_bucket{%s,le=\"+Inf\"} %d\n", r.name, total)
	fmt.Fprintf(w, "tact_http_request_seconds_sum{%s} %g\n", r.name, float64(r.nanos.Load())/1e9)
	fmt.Fprintf(w, "tact_http_request_seconds_count{%s} %d\n", r.name, total)
}
