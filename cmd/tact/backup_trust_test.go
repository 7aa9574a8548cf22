package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// backupsOf makes a data folder and a folder with one full and some incremental backups
// of it.
func backupsOf(t *testing.T, root string, incremental int) (data, dir string, names []string) {
	t.Helper()
	data, dir = filepath.Join(root, "data"), filepath.Join(root, "backups")
	r := start(t, nil, "demo", "--users", "50", "--data", data, "--listen", "127.0.0.1:0")
	r.wait(r.stdout, "serving at")
	r.end(syscall.SIGTERM)
	for range 1 + incremental {
		if out, logs, code := tact(t, "backup", data, "--to", dir, "--ring-dir", ""); code != exitOK {
			t.Fatalf("exit code %d: %s%s", code, out, logs)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "0*"))
	if err != nil || len(names) != 1+incremental {
		t.Fatal(names, err)
	}
	return data, dir, names
}

// flip changes one bit in the middle of a file, and again changes it back.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		b[len(b)/2] ^= 4
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// One wrong bit in any file of any backup: verify names the file and ends with the code of
// damage, and so does a restore of what needs it. Nothing is left where it was refused.
func TestVerifyBackups(t *testing.T) {
	root := t.TempDir()
	_, dir, _ := backupsOf(t, root, 2)
	out, logs, code := tact(t, "backup", "verify", dir)
	if code != exitOK || !strings.Contains(out, "ok: all that has ended is whole") {
		t.Fatalf("exit code %d: %s%s", code, out, logs)
	}
	files, err := filepath.Glob(filepath.Join(dir, "0*", "*"))
	if err != nil || len(files) < 12 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		flip(t, file)
		out, _, code := tact(t, "backup", "verify", dir, "--json")
		var v verification
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitDamaged || v.OK {
			t.Errorf("%s: verify: exit code %d, %v: %s", file, code, err, out)
		}
		if !strings.Contains(out, filepath.Base(file)) {
			t.Errorf("%s: verify does not name it: %s", file, out)
		}
		to := filepath.Join(root, "no", "data")
		if _, logs, code := tact(t, "restore", dir, "--to", to, "--caps", "trust"); code != exitDamaged ||
			!strings.Contains(logs, filepath.Base(file)) {
			t.Errorf("%s: restore: exit code %d: %s", file, code, logs)
		}
		if _, err := os.Stat(filepath.Dir(to)); err == nil {
			t.Errorf("%s: a refused restore has left a folder", file)
		}
		flip(t, file)
	}
}

// A link of a chain is gone, or a manifest is damaged: what is named is what is wrong, and
// what can still be restored is told.
func TestBackupChainIsTold(t *testing.T) {
	root := t.TempDir()
	_, dir, names := backupsOf(t, root, 3)
	aside := filepath.Join(root, "aside")
	if err := os.Rename(names[1], aside); err != nil {
		t.Fatal(err)
	}
	out, _, code := tact(t, "backup", "list", dir)
	if code != exitOK || strings.Count(out, "NOT RESTORABLE") != 2 ||
		!strings.Contains(out, "goes on from backup 000002, which is missing") {
		t.Errorf("list: exit code %d: %s", code, out)
	}
	to := filepath.Join(root, "again")
	_, logs, code := tact(t, "restore", dir, "--to", to, "--caps", "trust")
	if code != exitDamaged || !strings.Contains(logs, "backup 000002, which is missing") {
		t.Errorf("restore: exit code %d: %s", code, logs)
	}
	if err := os.Rename(aside, names[1]); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(names[3], "manifest.json")
	flip(t, manifest)
	if _, logs, code := tact(t, "restore", dir, "--to", to, "--caps", "trust"); code != exitDamaged ||
		!strings.Contains(logs, manifest) {
		t.Errorf("the newest: exit code %d: %s", code, logs)
	}
	var all listing
	out, _, _ = tact(t, "backup", "list", dir, "--json")
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 4 || all[3].Restorable {
		t.Fatalf("%v: %s", err, out)
	}
	_, logs, code = tact(t, "restore", dir, "--to", to, "--caps", "trust",
		"--at", all[1].Until.Format(stampLayout))
	if code != exitOK || !strings.Contains(logs, "warning: ") || !strings.Contains(logs, manifest) {
		t.Errorf("between: exit code %d: %s", code, logs)
	}
}

// A good restore, and the first start of what it has made, warn of nothing.
func TestGoodRestoreIsQuiet(t *testing.T) {
	root := t.TempDir()
	_, dir, _ := backupsOf(t, root, 1)
	for _, caps := range []string{"protect", "trust"} {
		data := filepath.Join(root, caps)
		_, logs, code := tact(t, "restore", dir, "--to", data, "--caps", caps)
		if code != exitOK || strings.Contains(logs, "WARN") || strings.Contains(logs, "corrupt") {
			t.Errorf("restore --caps %s: exit code %d: %s", caps, code, logs)
		}
		r := start(t, nil, "serve", "--data", data, "--listen", "127.0.0.1:0", "--ring-dir", "")
		r.wait(r.stdout, "serving at")
		r.end(syscall.SIGTERM)
		if logs := r.stderr.String(); strings.Contains(logs, "WARN") ||
			!strings.Contains(logs, "an older copy of itself") {
			t.Errorf("serve after --caps %s: %s", caps, logs)
		}
	}
}

// Where a restore was killed no command takes the folder for an empty one; the next
// restore begins anew.
func TestKilledRestore(t *testing.T) {
	root := t.TempDir()
	_, dir, _ := backupsOf(t, root, 0)
	data := filepath.Join(root, "again")
	left := filepath.Join(data, "store.restoring", "store", "creating")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"serve", "--data", data, "--listen", "127.0.0.1:0"},
		{"demo", "--data", data, "--listen", "127.0.0.1:0"},
		{"doctor", data},
		{"upgrade", data},
		{"mark", data, "--caps", "trust"},
		{"backup", data, "--to", filepath.Join(root, "more")},
	} {
		if _, logs, code := tact(t, args...); code != exitFailure ||
			!strings.Contains(logs, filepath.Join(data, "store.restoring")) {
			t.Errorf("%v: exit code %d: %s", args, code, logs)
		}
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: something was made", entries, err)
	}
	_, logs, code := tact(t, "restore", dir, "--to", data, "--caps", "trust")
	if code != exitOK || !strings.Contains(logs, "cut short is removed") {
		t.Errorf("exit code %d: %s", code, logs)
	}
	if _, err := os.Stat(filepath.Dir(filepath.Dir(left))); err == nil {
		t.Error("what the killed restore has left is there")
	}
}

// Folders that cannot be meant are refused by name, with what to do, and stay as they are.
func TestRestoreRefusesFolders(t *testing.T) {
	root := t.TempDir()
	data, dir, names := backupsOf(t, root, 0)
	empty, full := filepath.Join(root, "empty"), filepath.Join(root, "full")
	file := filepath.Join(full, "file")
	for _, err := range []error{
		os.Mkdir(empty, 0o700), os.Mkdir(full, 0o700), os.WriteFile(file, nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f := func(from, to, says string) {
		t.Helper()
		_, logs, code := tact(t, "restore", from, "--to", to, "--caps", "trust")
		if code != exitFailure || !strings.Contains(logs, says) {
			t.Errorf("from %s to %s: exit code %d: %s; want %q", from, to, code, logs, says)
		}
	}
	other := filepath.Join(root, "other")
	f(dir, data, data+" holds a store already")
	f(dir, full, file+" is no part of a data folder")
	f(dir, file, file+" is a file")
	f(dir, dir, dir+" is not empty")
	f(dir, filepath.Join(dir, "again"), "a folder of backups: name a folder outside of it")
	f(empty, other, empty+" holds no backups")
	f(data, other, data+" is a data folder")
	f(names[0], other, "is one backup: name the folder that it lies in, "+dir)
	f(root, other, "name one of "+dir)
	f(filepath.Join(root, "none"), other, "no such file")
	// What an operator has put aside in it does not make a folder another.
	aside := filepath.Join(root, "aside")
	if err := os.MkdirAll(filepath.Join(aside, "store.broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, logs, code := tact(t, "restore", dir, "--to", aside, "--caps", "trust"); code != exitOK {
		t.Errorf("beside a store that was put aside: exit code %d: %s", code, logs)
	}
	if err := os.Remove(filepath.Join(names[0], "manifest.json")); err != nil {
		t.Fatal(err)
	}
	f(dir, other, "being written, or was cut short")
	if _, err := os.Stat(other); err == nil {
		t.Error("a refused restore has left a folder")
	}
}
