package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// loaded is what the tests read of a result.
type loaded struct {
	Format string   `json:"format"`
	Flags  []string `json:"flags"`
	Void   []string `json:"void"`
	Runs   []struct {
		Label  string           `json:"label"`
		Issued int64            `json:"issued"`
		Status map[string]int64 `json:"status"`
	} `json:"runs"`
	Floor *struct {
		ReplyBytes int   `json:"reply_bytes"`
		Rows       []any `json:"rows"`
		Rounds     int   `json:"rounds"`
		LateRounds int   `json:"late_rounds"`
		VoidRounds int   `json:"void_rounds"`
	} `json:"floor"`
}

// target answers decisions that carry the key.
func target(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/decide" || r.Header.Get("Authorization") != "Bearer a-key" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		_, _ = w.Write([]byte(`{"placements":{}}`))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// loadOnce runs a short test and reads its result, which a busy machine may have
// made void: the exit code says so.
func loadOnce(t *testing.T, args ...string) loaded {
	t.Helper()
	stdout, stderr, code := tact(t, append([]string{"loadtest", "--json"}, args...)...)
	var r loaded
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in %q, stderr %q", err, stdout, stderr)
	}
	if want := min(len(r.Void), 1); code != want || r.Format != "tact-loadtest/1" {
		t.Errorf("exit code %d, void %q, format %q", code, r.Void, r.Format)
	}
	return r
}

func TestLoadtestSharesAndMerge(t *testing.T) {
	address, dir := target(t), t.TempDir()
	a, b := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json")
	for i, out := range []string{a, b} {
		r := loadOnce(t, "--address", address, "--key", "a-key", "--rate", "1000", "--duration", "300ms",
			"--warm-up", "-1s", "--timeout", "20s", "--share", []string{"1/2", "2/2"}[i], "--out", out)
		if len(r.Runs) != 1 || r.Runs[0].Issued != 150 || r.Runs[0].Status["200"] != 150 {
			t.Errorf("share %d: %+v", i+1, r.Runs)
		}
		if text := strings.Join(r.Flags, " "); strings.Contains(text, "a-key") ||
			!strings.Contains(text, "--rate=1000") {
			t.Errorf("flags %s", text)
		}
	}
	page := filepath.Join(dir, "report.html")
	stdout, _, _ := tact(t, "loadtest", "merge", a, b, "--json", "--html", page)
	var merged loaded
	if err := json.Unmarshal([]byte(stdout), &merged); err != nil {
		t.Fatal(err)
	}
	if len(merged.Runs) != 1 || merged.Runs[0].Issued != 300 || merged.Runs[0].Status["200"] != 300 {
		t.Errorf("merged %+v", merged.Runs)
	}
	text, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(text), "<svg") || strings.Contains(string(text), "a-key") {
		t.Errorf("report of %d bytes: %v", len(text), err)
	}
	if _, stderr, code := tact(t, "loadtest", "merge", a, a); code != exitFailure ||
		!strings.Contains(stderr, "twice") {
		t.Errorf("merge of one share with itself: exit code %d, %s", code, stderr)
	}
}

func TestLoadtestFloor(t *testing.T) {
	r := loadOnce(t, "--address", target(t), "--key", "a-key", "--rate", "500", "--duration", "400ms",
		"--warm-up", "-1s", "--timeout", "20s", "--floor", "--rounds", "2")
	if r.Floor == nil || r.Floor.ReplyBytes != len(`{"placements":{}}`) || len(r.Floor.Rows) < 6 {
		t.Fatalf("floor %+v", r.Floor)
	}
	rounds := r.Floor.Rounds + r.Floor.LateRounds // on a busy machine some are left out; all are shown when none counts
	if rounds == 0 {
		rounds = r.Floor.VoidRounds
	}
	if n := int64(100 * rounds); len(r.Runs) != 2 || n == 0 || r.Runs[0].Issued != n ||
		r.Runs[1].Issued != n {
		t.Errorf("runs %+v", r.Runs)
	}
}

// A test that Ctrl-C ends shows what it measured by then.
func TestLoadtestInterrupted(t *testing.T) {
	r := start(t, nil, "loadtest", "--json", "--address", target(t), "--key", "a-key", "--rate", "200",
		"--duration", "1m", "--warm-up", "2s")
	if _, ok := r.stderr.line("warm-up"); !ok {
		t.Fatalf("no warm-up in %q", r.stderr)
	}
	time.Sleep(200 * time.Millisecond)
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-r.ended
	var got loaded
	if err := json.Unmarshal([]byte(r.stdout.String()), &got); err != nil {
		t.Fatalf("%v in %q", err, r.stdout)
	}
	if code := r.cmd.ProcessState.ExitCode(); code != exitInterrupted || len(got.Runs) != 1 ||
		got.Runs[0].Issued > 12_000/2 {
		t.Errorf("exit code %d, runs %+v", code, got.Runs)
	}
}

func TestLoadtestWrongUse(t *testing.T) {
	f := func(want int, says string, args ...string) {
		t.Helper()
		stdout, stderr, code := tact(t, append([]string{"loadtest"}, args...)...)
		if code != want || stdout != "" || !strings.Contains(stderr, says) {
			t.Errorf("%v: exit code %d, %q %q", args, code, stdout, stderr)
		}
	}
	f(exitUsage, "--allow-remote", "--address", "192.0.2.1:80")
	f(exitUsage, "mode", "--mode", "x")
	f(exitUsage, "slo", "--slo", "1ms")
	f(exitUsage, "share", "--share", "3/2")
	f(exitUsage, "rate", "--rate", "fast")
	f(exitUsage, "hard maximum", "--duration", "20m")
	f(exitUsage, "hard maximum", "--rate", "1000000", "--duration", "5m")
	f(exitUsage, "scenario", "--scenario", "x")
	f(exitUsage, "unknown flag", "--x")
	f(exitUnreachable, "no server", "--address", "127.0.0.1:1", "--duration", "1s")
	f(exitUsage, "nowhere", "--log", "/nowhere.ndjson", "--address", target(t))
	stdout, _, _ := tact(t, "loadtest", "--help")
	if strings.Contains(stdout, "Serve one reply") || !strings.Contains(stdout, "merge") {
		t.Error("help shows the bare server, or no merge")
	}
}
