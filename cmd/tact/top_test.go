package main

import (
	"strings"
	"testing"

	"tact/server/client"
)

func TestTop(t *testing.T) {
	data := t.TempDir()
	r := start(t, nil, "serve", "--data", data, "--config", folder(t, shop("")),
		"--listen", "127.0.0.1:0")
	address := strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	from := []string{"top", "--address", address, "--data", data, "--every", "100ms", "--count"}
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
}
