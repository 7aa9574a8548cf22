package client

import (
	"strings"
	"testing"
	"time"
)

func TestParseMetrics(t *testing.T) {
	f := func(text, series string, want float64) {
		t.Helper()
		s, err := ParseMetrics([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := s[series]; !ok || got != want {
			t.Errorf("%s: %v %v, want %v", series, got, ok, want)
		}
	}
	f("# HELP a b\n# TYPE a counter\na 1\n", "a", 1)
	f("a{x=\"1\"} 2.5e3 1700000000000\n", `a{x="1"}`, 2500)
	f("a{x=\"} \\\" 7\",y=\"b c\"} 3", `a{x="} \" 7",y="b c"}`, 3)
	f("a_bucket{le=\"+Inf\"} 4\n", `a_bucket{le="+Inf"}`, 4)
	f("a 1\na 2\n", "a", 2)

	bad := func(text string) {
		t.Helper()
		if s, err := ParseMetrics([]byte(text)); err == nil {
			t.Errorf("%q was read as %v", text, s)
		}
	}
	bad("a\n")
	bad("a{x=\"1\" 2\n")
	bad("a one\n")
	bad(" {} \n")
	bad("a 1\n" + strings.Repeat("x", 2<<20))
}

// What is read is bounded and never panics.
func FuzzParseMetrics(f *testing.F) {
	f.Add([]byte("a{b=\"c\"} 1\n# x\nd 2"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseMetrics(text)
		if err != nil {
			return
		}
		_ = NewPicture(s, s, time.Second)
	})
}

func TestPicture(t *testing.T) {
	read := func(text string) Sample {
		t.Helper()
		s, err := ParseMetrics([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const route = `method="POST",route="/v1/decide"`
	before := read(`tact_decisions_total{group="0",mode="live"} 10
tact_decisions_total{group="2",mode="live"} 0
tact_decisions_waited_total{cause="no_lease"} 0
tact_http_requests_total{` + route + `,status="2xx"} 100
tact_http_request_seconds_bucket{` + route + `,le="0.001"} 100
tact_http_request_seconds_bucket{` + route + `,le="0.005"} 100
tact_http_request_seconds_bucket{` + route + `,le="+Inf"} 100
`)
	after := read(`tact_decisions_total{group="0",mode="live"} 30
tact_decisions_total{group="2",mode="live"} 20
tact_decisions_waited_total{cause="no_lease"} 9
tact_decisions_waited_total{cause="counter"} 1
tact_placements_total{result="items"} 30
tact_placements_total{result="capped_user"} 10
tact_http_requests_total{` + route + `,status="2xx"} 140
tact_http_requests_total{` + route + `,status="4xx"} 2
tact_http_request_seconds_bucket{` + route + `,le="0.001"} 130
tact_http_request_seconds_bucket{` + route + `,le="0.005"} 139
tact_http_request_seconds_bucket{` + route + `,le="+Inf"} 142
tact_resident_bytes{part="rows"} 5
tact_resident_bytes{part="slabs"} 7
`)
	p := NewPicture(before, after, 2*time.Second)
	if p.Decisions != 20 || p.Waited != 0.25 || p.Resident != 12 {
		t.Errorf("decisions %v, waited %v, resident %v", p.Decisions, p.Waited, p.Resident)
	}
	if len(p.Routes) != 1 || p.Routes[0].Rate != 21 || p.Routes[0].Errors != 1 {
		t.Errorf("routes %+v", p.Routes)
	}
	// 42 new ones: 30 within 1 ms, 39 within 5 ms, 3 beyond every bound.
	if l := p.Routes[0].Latency; l != (Latency{P50: 0.001, P99: 0.005, P999: 0.005}) {
		t.Errorf("latency %+v", l)
	}
	if len(p.Results) != 2 || p.Results[0] != (Share{"items", 15}) {
		t.Errorf("results %+v", p.Results)
	}
	if len(p.Groups) != 2 || p.Groups[1] != (Share{"2", 10}) {
		t.Errorf("groups %+v", p.Groups)
	}
	// A restarted server counts from 0 again.
	if p = NewPicture(after, before, time.Second); p.Decisions != 10 {
		t.Errorf("after a restart: %v", p.Decisions)
	}
}
