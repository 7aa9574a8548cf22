package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tact/bench"
)

func TestBench(t *testing.T) {
	dir := t.TempDir()
	file, page := filepath.Join(dir, "a.json"), filepath.Join(dir, "a.html")
	out, logs, code := tact(t, "bench", "--quick", "--within", "1h", "--users", "1000", "--window", "1ms",
		"--only", "^(decide/hot|http/16)$", "--out", file, "--html", page, "--profiles", dir)
	if code != exitOK || !strings.Contains(out, "2 of 2 workloads") {
		t.Fatalf("exit code %d: %s%s", code, out, logs)
	}
	d, err := readDocument(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Figures {
		if f := &d.Figures[i]; f.Missing != "" && f.Stolen == 0 || len(f.Pairs) < 5 {
			t.Errorf("%s: %d pairs, %s", f.Name, len(f.Pairs), f.Missing)
		}
	}
	for _, name := range []string{page, filepath.Join(dir, "decide-hot.pprof")} {
		if info, err := os.Stat(name); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range d.Figures {
		d.Figures[i].Missing = "" // others may have taken too much of the processor
	}
	measured := filepath.Join(dir, "b.json")
	f, err := os.Create(measured)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.WriteJSON(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	out, logs, code = tact(t, "bench", "compare", measured, measured, "--strict", "--json")
	var changes []bench.Change
	decodeJSON(t, out, &changes)
	if code != exitOK || len(changes) != 2 || changes[0].Verdict != bench.NoDifference ||
		changes[1].Verdict != bench.NoDifference {
		t.Errorf("exit code %d: %s%s", code, out, logs)
	}
	again := filepath.Join(dir, "b.html")
	if _, logs, code = tact(t, "bench", "report", file, "--out", again); code != exitOK {
		t.Errorf("exit code %d: %s", code, logs)
	}
	nowhere := filepath.Join(dir, "none", "at all")
	for _, flag := range []string{"--profiles", "--out", "--html", "--folder"} {
		_, logs, code := tact(t, "bench", "--quick", "--only", "decide/hot", flag, nowhere)
		if code != exitUsage || strings.Contains(logs, "1 of 1") || !strings.Contains(logs, nowhere) {
			t.Errorf("%s %s: exit code %d: %s", flag, nowhere, code, logs)
		}
	}
	if _, _, code = tact(t, "bench", "--only", "("); code != exitUsage {
		t.Errorf("a bad expression: exit code %d", code)
	}
	if _, _, code = tact(t, "bench", "report", page); code != exitFailure {
		t.Errorf("a page as a document: exit code %d", code)
	}
}
