package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tact/server/client"
)

func TestTop(t *testing.T) {
	data := t.TempDir()
	r := start(t, nil, "serve", "--data", data, "--config", folder(t, shop("")),
		"--listen", "127.0.0.1:0")
	r.wait(r.stdout, "serving at ")
	from := []string{"top", "--data", data, "--every", "100ms", "--count"}
	out, logs, code := tact(t, append(from, "2", "--json")...)
	if code != exitOK {
		t.Fatalf("exit code %d: %s%s", code, out, logs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), out)
	}
	var p client.Picture
	decodeJSON(t, lines[1], &p)
	if p.Seconds <= 0 || p.Heap <= 0 || p.Revision != 1 {
		t.Errorf("picture: %+v", p)
	}
	out, _, code = tact(t, append(from, "1")...)
	if code != exitOK || !strings.Contains(out, "GET /metrics") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if _, _, code = tact(t, "top", "--every", "1ms"); code != exitUsage {
		t.Errorf("a pause of 1 ms: exit code %d", code)
	}
	// The data folder says where the server is while it runs, also to a load test; an
	// end in order takes that away.
	out, logs, code = tact(t, "loadtest", "--data", data, "--duration", "200ms", "--warm-up", "-1s",
		"--rate", "50", "--timeout", "30s", "--placements", "nowhere")
	if code != exitFailure || !strings.Contains(logs, "no reply was good: of 10 requests 10 with") {
		t.Errorf("load test without good replies: exit code %d, %s%s", code, out, logs)
	}
	where := filepath.Join(data, addressFile)
	if text, err := os.ReadFile(where); err != nil || !strings.HasPrefix(string(text), "http://127.0.0.1:") {
		t.Errorf("%q, %v", text, err)
	}
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-r.ended
	if _, err := os.Stat(where); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
	_, logs, code = tact(t, "top", "--address", "127.0.0.1:1", "--data", data, "--count", "1")
	if code != exitUnreachable || !strings.Contains(logs, "no server answers") {
		t.Errorf("without a server: exit code %d, %s", code, logs)
	}
}
