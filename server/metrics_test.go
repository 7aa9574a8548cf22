package server

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestMetricsTellWhatHappened(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.post("/v1/users", `{"user_id":"ann","attributes":{"first_name":"Ann"}}`)
	r.post("/v1/users", `{"user_id":"ann","tags":7}`)
	r.post("/v1/events", `{"event_id":"e1","user_id":"ann","event":"visit"}`)
	r.post("/v1/events", `{"event_id":"e1","user_id":"ann","event":"visit"}`)
	for _, mode := range []string{"live", "dry_run", "live"} {
		status, body := r.post("/v1/decide",
			`{"user":{"user_id":"ann"},"placements":[{"key":"a","placement_id":"home"}],"mode":"`+mode+`"}`)
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	r.post("/v1/decide",
		`{"user":{"user_id":"ann"},"placements":[{"key":"a","placement_id":"home","block":["hello"]}]}`)
	text := r.metrics()
	f := func(pattern string) {
		t.Helper()
		if !regexp.MustCompile(`(?m)^` + pattern + `$`).MatchString(text) {
			t.Errorf("no line is %s", pattern)
		}
	}
	f(`tact_decisions_total\{group="\d+",mode="live"\} 3`)
	f(`tact_decisions_total\{group="\d+",mode="dry_run"\} 1`)
	f(`tact_placements_total\{result="items"\} 3`)
	f(`tact_placements_total\{result="blocked_by_request"\} 1`)
	f(`tact_lines_total\{kind="user",status="applied"\} 1`)
	f(`tact_lines_total\{kind="event",status="applied"\} 1`)
	f(`tact_lines_total\{kind="event",status="duplicate"\} 1`)
	f(`tact_http_decision_limit 1024`)
	f(`tact_group_rows\{group="0"\} \d+`)
	f(`tact_commit_seconds_bucket\{le="\+Inf"\} [1-9]\d*`)
	f(`tact_resident_bytes\{part="rows"\} [1-9]\d*`)
	f(`go_gc_cpu_seconds_total .*`)
	f(`process_cpu_seconds_total .*`)
}

func (r *running) metrics() string {
	r.t.Helper()
	status, text, _ := r.do(ask{method: "GET", path: "/metrics"})
	if status != 200 {
		r.t.Fatalf("metrics: %d", status)
	}
	return text
}

// A panel that asks for a series the server does not have shows nothing, for ever.
func TestDashboardAsksForWhatIsThere(t *testing.T) {
	raw, err := os.ReadFile("../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	r := start(t, Options{})
	r.publish()
	r.post("/v1/decide", `{"placements":[{"key":"a","placement_id":"home"}]}`)
	text := r.metrics()
	names := regexp.MustCompile(`\b(tact|go|process)_[a-z0-9_]+`)
	part := regexp.MustCompile(`_(bucket|sum|count)$`)
	shown := map[string]bool{}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, name := range names.FindAllString(target.Expr, -1) {
				shown[part.ReplaceAllString(name, "")] = true
				if !strings.Contains(text, "\n"+name+"{") && !strings.Contains(text, "\n"+name+" ") {
					t.Errorf("panel %q asks for %s, which /metrics does not have", p.Title, name)
				}
			}
		}
	}
	// And nothing of ours is told that nobody is shown.
	for _, line := range regexp.MustCompile(`(?m)^tact_[a-z0-9_]+`).FindAllString(text, -1) {
		if name := part.ReplaceAllString(line, ""); !shown[name] {
			shown[name] = true
			t.Errorf("no panel shows %s", name)
		}
	}
}

// A metric that a page of the documentation names is there, under that name.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.post("/v1/decide", `{"placements":[{"key":"a","placement_id":"home"}]}`)
	text := r.metrics()
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatal(pages, err)
	}
	names := regexp.MustCompile("`(tact_[a-z0-9_]+)[`{]")
	told := 0
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range names.FindAllStringSubmatch(string(raw), -1) {
			told++
			if !strings.Contains(text, "\n# TYPE "+found[1]+" ") {
				t.Errorf("%s names %s, which /metrics does not have", page, found[1])
			}
		}
	}
	if told < 40 {
		t.Errorf("only %d names were found", told)
	}
}

func TestProfile(t *testing.T) {
	r := start(t, Options{})
	f := func(query string, want int) {
		t.Helper()
		status, body, _ := r.do(ask{
			method: "GET", path: "/debug/pprof/" + query, template: "/debug/pprof/{name}",
		})
		if status != want || status == 200 && len(body) == 0 {
			t.Errorf("%s: %d, %d bytes", query, status, len(body))
		}
	}
	f("heap", 200)
	f("goroutine?debug=1", 200)
	f("profile?seconds=1", 200)
	f("trace?seconds=1", 200)
	f("nonsense", 404)
	f("cmdline", 404)
	f("profile?seconds=0", 400)
	f("profile?seconds=61", 400)
	f("profile?seconds=x", 400)
	f("heap?seconds=3", 400)
	f("heap?debug=3", 400)
	f("heap?gc=1", 400)
	if n := r.server.inFlight.Load(); n != 0 {
		t.Errorf("%d requests still in flight", n)
	}
}
