package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// serving starts a server with people p0 … p99 of age 0 … 89 and gives the flags
// that lead to it.
func serving(t *testing.T) []string {
	t.Helper()
	var csv strings.Builder
	csv.WriteString("user_id,attributes.age\n")
	for i := range 100 {
		fmt.Fprintf(&csv, "p%d,%d\n", i, i%90)
	}
	dir := folder(t, map[string]string{"people.csv": csv.String()})
	data := t.TempDir()
	r := start(t, nil, "serve", "--data", data, "--config", folder(t, shop("")),
		"--listen", "127.0.0.1:0")
	flags := []string{
		"--address", strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at "), "--data", data,
	}
	out, logs, code := tact(t, append([]string{
		"import", "--kind", "users", filepath.Join(dir, "people.csv"),
		"--map", "user_id=user_id", "--map", "attributes.age=attributes.age:int",
	}, flags...)...)
	if code != exitOK {
		t.Fatalf("import: exit code %d: %s%s", code, out, logs)
	}
	return flags
}

func TestQuery(t *testing.T) {
	flags := serving(t)
	rule := filepath.Join(folder(t, map[string]string{
		"rule.json": `{"attribute":"age","gte":80}`, "bad.json": `{"attribute":"aged","gte":80}`,
	}), "rule.json")
	f := func(want int, part string, args ...string) string {
		t.Helper()
		out, logs, code := tact(t, append(append([]string{"query"}, args...), flags...)...)
		if code != want || !strings.Contains(out+logs, part) {
			t.Errorf("query %v: exit code %d: %s%s", args, code, out, logs)
		}
		return out
	}
	f(exitOK, "10 people of revision 1", "--rule", rule)
	f(exitOK, `"users":10`, "--rule", rule, "--json")
	f(exitOK, "72 people", "--offer", "hello")
	f(exitOK, "0 people of revision 1", "--offer", "hello", "--channel", "sms")
	f(exitOK, "100 people", "--everybody")
	ids := f(exitOK, "p85\n", "--rule", rule, "--format", "ids")
	if n := strings.Count(ids, "\n"); n != 10 {
		t.Errorf("%d ids: %s", n, ids)
	}
	f(exitOK, `{"user_id":"p85","attributes":{"age":85},"tags":[]}`,
		"--rule", rule, "--format", "ndjson", "--attributes", "age")
	if out := f(exitOK, `{"at":`, "--rule", rule, "--format", "ids", "--limit", "3", "--json"); strings.
		Count(out, "\n") != 4 {
		t.Errorf("limit 3: %s", out)
	}
	dir := folder(t, map[string]string{
		"rule.yaml": "# of age\nall:\n  - attribute: age\n    gte: 80\n  - {not: {attribute: age, is: 85}}\n",
		"bad.yaml":  "attribute: age\ngte: [80\n", "two.yaml": "{attribute: age, gte: 1}\n---\n{}\n",
		"none.yaml": "# nothing\n",
	})
	f(exitOK, "9 people of revision 1", "--rule", filepath.Join(dir, "rule.yaml"))
	f(exitFailure, "bad.yaml:2:", "--rule", filepath.Join(dir, "bad.yaml"))
	f(exitFailure, "two.yaml:3:1: one value is expected", "--rule", filepath.Join(dir, "two.yaml"))
	f(exitFailure, "there is no rule", "--rule", filepath.Join(dir, "none.yaml"))
	f(exitFailure, "(rule.attribute)", "--rule", filepath.Join(filepath.Dir(rule), "bad.json"))
	f(exitFailure, "unknown_segment", "--segment", "none")
	f(exitUsage, "say for whom")
	f(exitUsage, "say for whom", "--rule", rule, "--segment", "x")
	f(exitUsage, "--format", "--everybody", "--format", "xml")
	f(exitUsage, "--context", "--everybody", "--context", "{")
	cmd := exec.Command(os.Getenv("TACT_TEST_BINARY"), append([]string{"query", "--rule", "-"}, flags...)...)
	cmd.Stdin = strings.NewReader(`{"attribute":"age","lt":1}`)
	if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), "2 people") {
		t.Errorf("a rule from stdin: %v %s", err, out)
	}
}

// A count says of how many people a window was answered by calendar day.
func TestByDaySentence(t *testing.T) {
	for n, want := range map[int64]string{
		0: "", 1: "; a window was answered by calendar day of 1 person",
		1200: "; a window was answered by calendar day of 1,200 people",
	} {
		if got := byDay(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestExport(t *testing.T) {
	flags := serving(t)
	dir := t.TempDir()
	export := func(want int, file string, args ...string) (string, string) {
		t.Helper()
		path := filepath.Join(dir, file)
		out, logs, code := tact(t, append(append([]string{"export", path}, args...), flags...)...)
		if code != want {
			t.Errorf("export %s %v: exit code %d: %s%s", file, args, code, out, logs)
		}
		text, err := os.ReadFile(path)
		if want == exitOK && err != nil {
			t.Error(err)
		}
		return string(text), out + logs
	}
	csv, said := export(exitOK, "all.csv", "--everybody", "--attributes", "age")
	if !strings.HasPrefix(csv, "user_id,identity_type,identity_value,age\n") ||
		!strings.Contains(csv, "p85,,,85\n") || strings.Count(csv, "\n") != 101 ||
		!strings.Contains(said, "100 people") {
		t.Errorf("%s%s", csv, said)
	}
	lines, _ := export(exitOK, "some.ndjson", "--offer", "hello", "--gate", "caps,consent,holdout")
	if strings.Count(lines, "\n") != 72 {
		t.Errorf("%s", lines)
	}
	table, said := export(exitOK, "x.parquet", "--everybody", "--attributes", "age", "--json")
	if !strings.HasPrefix(table, "PAR1") || !strings.HasSuffix(table, "PAR1") ||
		!strings.Contains(said, `"users":100`) {
		t.Errorf("%d bytes, %s", len(table), said)
	}
	if bitmap, _ := export(exitOK, "x.roaring", "--everybody"); len(bitmap) < 8 {
		t.Errorf("%d bytes of a bitmap", len(bitmap))
	}
	export(exitUsage, "x", "--everybody")
	export(exitUsage, "x.csv")
	export(exitFailure, "u.json", "--user", "nobody")
	if one, _ := export(exitOK, "p.json", "--user", "p1"); !strings.Contains(one, `"user_id":"p1"`) ||
		!strings.HasSuffix(one, `"decisions":[]}`) {
		t.Errorf("--user: %s", one)
	}
	export(exitFailure, "y.csv", "--everybody", "--attributes", "none")
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 1 {
		t.Errorf("part files left: %v", left)
	}
}

// The event log is written to a file or to stdout; what cannot be read leaves no file.
func TestExportEvents(t *testing.T) {
	flags := serving(t)
	dir := folder(t, map[string]string{
		"events.ndjson": `{"event_id":"e1","user_id":"p1","event":"visit","properties":{"n":1}}` + "\n" +
			`{"event_id":"e2","user_id":"p2","event":"order"}` + "\n",
	})
	if out, logs, code := tact(t, append([]string{
		"import", "--kind", "events", filepath.Join(dir, "events.ndjson"),
	}, flags...)...); code != exitOK {
		t.Fatalf("import: exit code %d: %s%s", code, out, logs)
	}
	file := filepath.Join(dir, "out.ndjson")
	f := func(want int, part, path string, args ...string) {
		t.Helper()
		args = append(append([]string{"export", "--events", path}, args...), flags...)
		out, logs, code := tact(t, args...)
		if code != want || !strings.Contains(out+logs, part) {
			t.Errorf("%v: exit code %d: %s%s", args, code, out, logs)
		}
	}
	f(exitOK, "2 events in "+file, file)
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "\n") != 2 || strings.Contains(string(text), "done") ||
		!strings.Contains(string(text), `{"event_id":"e1","user_id":"p1","event":"visit",`) {
		t.Errorf("%v\n%s", err, text)
	}
	f(exitOK, `"events":1,`, file, "--event", "order", "--json")
	f(exitOK, "the limit ended it", file, "--limit", "1", "--from", "2020-01-01T00:00:00Z")
	f(exitOK, `"event_id":"e2","user_id":"p2"`, "-", "--of", "p2")
	f(exitOK, `"cursor":"`, file, "--after", "start", "--json")
	f(exitOK, "go on with --after ", file, "--after", "start")
	f(exitFailure, "bad_cursor", filepath.Join(dir, "none.ndjson"), "--after", "here")
	none := filepath.Join(dir, "none.ndjson")
	f(exitFailure, "unknown_event", none, "--event", "never")
	f(exitUsage, "--until", none, "--until", "tomorrow")
	f(exitUsage, "ndjson only", filepath.Join(dir, "none.parquet"))
	f(exitUsage, "ndjson only", none, "--format", "csv")
	if left, _ := filepath.Glob(filepath.Join(dir, "none*")); len(left) > 0 {
		t.Errorf("files left: %v", left)
	}
}
