package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A running server is backed up, in full and then what happened since; the copy is
// restored, found whole by doctor and served without more. One wrong byte is refused.
func TestBackupAndRestore(t *testing.T) {
	root := t.TempDir()
	data, again := filepath.Join(root, "data"), filepath.Join(root, "again")
	dir := filepath.Join(root, "backups")
	r := start(t, nil, "demo", "--users", "200", "--data", data, "--listen", "127.0.0.1:0")
	r.wait(r.stdout, "serving at")
	r.end(syscall.SIGTERM)
	if out, logs, code := tact(t, "backup", data, "--to", dir, "--ring-dir", ""); code != exitOK ||
		!strings.Contains(out, "-full (the first in this folder)") {
		t.Fatalf("exit code %d: %s%s", code, out, logs)
	}
	r = start(t, nil, "serve", "--data", data, "--listen", "127.0.0.1:0", "--backup-dir", dir)
	address := strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	out, logs, code := tact(t, "backup", "--address", address, "--data", data)
	if code != exitOK || !strings.Contains(out, "-incremental") {
		t.Fatalf("exit code %d: %s%s", code, out, logs)
	}
	if _, logs, code := tact(t, "backup", "--address", address, "--data", data, "--to", root); code !=
		exitFailure || !strings.Contains(logs, dir) {
		t.Errorf("into another folder: exit code %d: %s", code, logs)
	}
	r.end(syscall.SIGTERM)
	if out, _, code := tact(t, "backup", "list", dir); code != exitOK ||
		strings.Count(out, "\n") != 3 {
		t.Errorf("exit code %d: %s", code, out)
	}
	if _, _, code := tact(t, "restore", dir, "--to", again); code != exitUsage {
		t.Errorf("without --caps: exit code %d", code)
	}
	for round := range 2 {
		_, logs, code := tact(t, "restore", dir, "--to", again, "--caps", "protect")
		if want := []int{exitOK, exitFailure}[round]; code != want {
			t.Fatalf("round %d: exit code %d: %s", round, code, logs)
		}
	}
	if out, _, code := tact(t, "doctor", again); code != exitOK ||
		!strings.Contains(out, "200 users") ||
		!strings.Contains(out, "nothing: the next start does protect to the caps") {
		t.Errorf("doctor: exit code %d: %s", code, out)
	}
	r = start(t, nil, "serve", "--data", again, "--listen", "127.0.0.1:0")
	r.wait(r.stdout, "serving at")
	r.end(syscall.SIGTERM)
	names, err := filepath.Glob(filepath.Join(dir, "*-full", "rows-*"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(names[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	more := filepath.Join(root, "more")
	_, logs, code = tact(t, "restore", dir, "--to", more, "--caps", "trust")
	if code != exitDamaged || !strings.Contains(logs, "rows-0001") {
		t.Errorf("a wrong byte: exit code %d: %s", code, logs)
	}
	if _, err := os.Stat(storeFolder(more)); err == nil {
		t.Error("a refused restore has left a store")
	}
}

// A data folder that is not there, or is empty, is not backed up, and stays as it is.
func TestBackupOfNothing(t *testing.T) {
	dir := t.TempDir()
	for _, data := range []string{filepath.Join(dir, "none"), dir} {
		to := filepath.Join(dir, "backups")
		if _, logs, code := tact(t, "backup", data, "--to", to); code != exitFailure ||
			!strings.Contains(logs, "holds no store") {
			t.Errorf("%s: exit code %d: %s", data, code, logs)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is there: %v", left, err)
	}
}
