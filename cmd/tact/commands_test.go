package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tact/engine"
	"tact/server/client"
)

func TestUsage(t *testing.T) {
	f := func(want int, args ...string) {
		t.Helper()
		out, logs, code := tact(t, args...)
		if code != want {
			t.Errorf("tact %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want,
				out, logs)
		}
	}
	f(exitOK)
	f(exitOK, "version")
	f(exitOK, "serve", "--help")
	f(exitUsage, "nonsense")
	f(exitUsage, "serve", "--nonsense")
	f(exitUsage, "serve")
	f(exitUsage, "serve", "--data", "x", "--listen", "nonsense")
	f(exitUsage, "check")
	f(exitUsage, "apply")
	f(exitUsage, "apply", "x", "--revision", "1")
	f(exitUsage, "apply", "x")
	f(exitUsage, "import", "x", "--kind", "offers")
	f(exitFailure, "check", "a folder that is not there")
	f(exitUsage, "top", "--data", t.TempDir())
	f(exitUsage, "loadtest", "--data", t.TempDir())
	f(exitUsage, "doctor")
	f(exitUnreachable, "apply", "--revision", "1", "--key", "k", "--address", freeAddress(t))
}

// What is wrong is told with what to do about it, and a wrong start makes nothing.
func TestMessagesSayWhatToDo(t *testing.T) {
	f := func(part string, args ...string) {
		t.Helper()
		if _, logs, code := tact(t, args...); code == exitOK || !strings.Contains(logs, part) {
			t.Errorf("tact %s: exit code %d: %s", strings.Join(args, " "), code, logs)
		}
	}
	nowhere := filepath.Join(t.TempDir(), "none")
	f("tact doctor DIR", "doctor")
	f("name the data folder of a server", "top", "--data", nowhere)
	f("start one with tact serve", "top", "--key", "k", "--address", "127.0.0.1:1")
	f("start one with tact serve", "loadtest", "--address", "127.0.0.1:1")
	f("nothing was made", "serve", "--data", nowhere, "--config", nowhere, "--listen", "127.0.0.1:0")
	if _, err := os.Stat(nowhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", nowhere, err)
	}
	flags := serving(t)
	f("the key is not this server's", append([]string{"top", "--key", "wrong"}, flags...)...)
}

func TestVersionJSON(t *testing.T) {
	out, _, _ := tact(t, "version", "--json")
	var v version
	decodeJSON(t, out, &v)
	if v.Go == "" || v.Version == "" {
		t.Errorf("version: %+v", v)
	}
}

func TestCheck(t *testing.T) {
	good := folder(t, shop(`---
kind: test
id: adult
at: "2026-11-22T10:00:00Z"
user: {id: u, attributes: {age: 20}}
decide: {placement: home}
expect: {offer: hello}
`))
	out, logs, code := tact(t, "check", good)
	if code != exitOK || out != "ok: 1 file, 1 test passed\n" {
		t.Errorf("exit code %d: %s%s", code, out, logs)
	}

	missing := folder(t, shop(`---
kind: segment
id: fresh
rule: {all: [{tag: newcomer}, {attribute: score, gte: 0.5}, {event: signup, within: 7d}]}
`))
	if _, _, code := tact(t, "check", missing); code == exitOK {
		t.Error("undeclared names pass")
	}
	for range 2 { // the second time there is nothing to declare
		if out, logs, code := tact(t, "check", missing, "--declare"); code != exitOK {
			t.Errorf("exit code %d: %s%s", code, out, logs)
		}
	}
	text, err := os.ReadFile(filepath.Join(missing, "declared.yaml"))
	if err != nil || strings.Count(string(text), "kind: ") != 3 ||
		!strings.Contains(string(text), "id: \"score\"\ntype: float\n") {
		t.Errorf("%v: %s", err, text)
	}

	bad := folder(t, shop(`---
kind: placement
id: cart
chanel: web
policy: al
`))
	out, _, code = tact(t, "check", bad)
	file := filepath.Join(bad, "shop.yaml")
	for _, want := range []string{
		file + ":25:1: placement/cart", `(did you mean "channel"?)`,
		file + ":26:9: placement/cart policy: ", `(did you mean "all"?)`, " faults\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if code != exitDefinitions {
		t.Errorf("exit code %d, want %d", code, exitDefinitions)
	}

	failing := folder(t, shop(`---
kind: test
id: child
at: "2026-11-22T10:00:00Z"
user: {id: u, attributes: {age: 9}}
decide: {placement: home}
expect: {offer: hello}
`))
	out, _, code = tact(t, "check", failing)
	for _, want := range []string{"test/child failed\n", "  expected ", "  got      ", "ineligible"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if code != exitDefinitions {
		t.Errorf("exit code %d, want %d", code, exitDefinitions)
	}
	out, _, _ = tact(t, "check", failing, "--json")
	var r report
	decodeJSON(t, out, &r)
	if r.OK || len(r.Tests) != 1 || r.Tests[0].Passed {
		t.Errorf("report: %+v", r)
	}
}

func TestServeTwice(t *testing.T) {
	data, config := filepath.Join(t.TempDir(), "data"), folder(t, shop(""))
	args := []string{"serve", "--data", data, "--config", config, "--listen", "127.0.0.1:0"}

	r := start(t, nil, args...)
	address := strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	key := strings.Fields(r.wait(r.stdout, "admin key"))[2]
	info, err := os.Stat(filepath.Join(data, keyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
	if held, _ := readKey(data); held != key {
		t.Errorf("the file holds %q, printed was %q", held, key)
	}
	ask := func(address, key string) int {
		status, _ := request(t, "POST", address+"/v1/decide", key,
			`{"user":{"user_id":"u"},"placements":[{"key":"p","placement_id":"home"}]}`)
		return status
	}
	if got := ask(address, key); got != 200 {
		t.Errorf("decide: status %d", got)
	}
	if got := ask(address, "a-wrong-admin-key"); got != 401 {
		t.Errorf("decide with a wrong key: status %d", got)
	}
	if code := r.end(syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d after SIGTERM\n%s", code, r.stderr)
	}

	r = start(t, nil, args...)
	address = strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	if strings.Contains(r.stdout.String(), key) {
		t.Error("the second start prints the key again")
	}
	if got := ask(address, key); got != 200 {
		t.Errorf("decide after a restart: status %d", got)
	}
	r.end(syscall.SIGTERM)

	r = start(t, []string{keyVariable + "=another-admin-key"}, args...)
	address = strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	if a, b := ask(address, "another-admin-key"), ask(address, key); a != 200 || b != 401 {
		t.Errorf("with %s: status %d, and %d with the file's key", keyVariable, a, b)
	}
	if code := r.end(syscall.SIGINT); code != exitInterrupted {
		t.Errorf("exit code %d after SIGINT", code)
	}
}

// A key that others may read is no key.
func TestServeRefusesAnOpenKey(t *testing.T) {
	data := folder(t, map[string]string{keyFile: "not-a-secret-key\n"})
	if err := os.Chmod(filepath.Join(data, keyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	_, logs, code := tact(t, "serve", "--data", data, "--listen", "127.0.0.1:0")
	if code != exitFailure || !strings.Contains(logs, "chmod 600") {
		t.Errorf("exit code %d: %s", code, logs)
	}
}

func TestServeFaultyConfig(t *testing.T) {
	config := folder(t, shop("---\nkind: offer\nid: x\n"))
	out, logs, code := tact(t, "serve", "--data", t.TempDir(), "--config", config,
		"--listen", "127.0.0.1:0")
	if code != exitDefinitions || !strings.Contains(out, "shop.yaml:23:1: offer/x") {
		t.Errorf("exit code %d: %s%s", code, out, logs)
	}
}

func TestApplyAndRollback(t *testing.T) {
	config := folder(t, shop(""))
	data := t.TempDir()
	r := start(t, nil, "serve", "--data", data, "--config", config, "--listen", "127.0.0.1:0")
	address := strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	shown := func() string {
		t.Helper()
		key, err := readKey(data)
		if err != nil {
			t.Fatal(err)
		}
		_, body := request(t, "POST", address+"/v1/decide", key,
			`{"user":{"user_id":"u"},"placements":[{"key":"p","placement_id":"home"}]}`)
		var reply struct {
			Placements map[string]struct {
				Items []struct{ Content string }
			}
		}
		decodeJSON(t, body, &reply)
		if items := reply.Placements["p"].Items; len(items) > 0 {
			return items[0].Content
		}
		return ""
	}
	server := []string{"--address", address, "--data", data}
	apply := func(want int, args ...string) string {
		t.Helper()
		out, logs, code := tact(t, append(append([]string{"apply"}, args...), server...)...)
		if code != want {
			t.Fatalf("apply %v: exit code %d, want %d\n%s%s", args, code, want, out, logs)
		}
		return out
	}
	if got := shown(); got != "" {
		t.Fatalf("a person without age sees %q", got)
	}
	open := shop("")
	open["shop.yaml"] = strings.Replace(open["shop.yaml"],
		"eligibility: {attribute: age, gte: 18}\n", "", 1)
	if out := apply(exitOK, folder(t, open)); !strings.Contains(out, "revision 2") {
		t.Errorf("apply: %s", out)
	}
	if got := shown(); got != "hello" {
		t.Errorf("after apply: %q", got)
	}
	broken := folder(t, shop("---\nkind: offer\nid: x\n"))
	if out := apply(exitDefinitions, broken); !strings.Contains(out, "shop.yaml:23:1: offer/x") {
		t.Errorf("apply of a broken folder: %s", out)
	}
	if got := shown(); got != "hello" {
		t.Errorf("after a refused apply: %q", got)
	}
	if out := apply(exitOK, "--revision", "1"); !strings.Contains(out, "revision 3") {
		t.Errorf("rollback: %s", out)
	}
	if got := shown(); got != "" {
		t.Errorf("after the rollback: %q", got)
	}
	apply(exitFailure, "--revision", "99")
}

func TestImport(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("who,years\n")
	for i := range 500 {
		fmt.Fprintf(&csv, "p%d,%d\n", i, i%90)
	}
	csv.WriteString("broken,many\n")
	dir := folder(t, map[string]string{"people.csv": csv.String()})
	data := t.TempDir()
	r := start(t, nil, "serve", "--data", data, "--config", folder(t, shop("")),
		"--listen", "127.0.0.1:0")
	address := strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	out, logs, code := tact(t, "import", "--kind", "users", filepath.Join(dir, "people.csv"),
		"--map", "user_id=who", "--map", "attributes.age=years:int", "--address", address,
		"--data", data, "--json")
	var done struct{ Applied, Rejected int }
	decodeJSON(t, out, &done)
	if code != exitFailure || done.Applied != 500 || done.Rejected != 1 ||
		!strings.Contains(logs, "1 line rejected") {
		t.Errorf("exit code %d: %s%s", code, out, logs)
	}
	key, err := readKey(data)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := request(t, "GET", address+"/v1/users/p77", key, ""); status != 200 ||
		!strings.Contains(body, `"age":77`) {
		t.Errorf("read back: status %d: %s", status, body)
	}
}

func TestDoctor(t *testing.T) {
	data := t.TempDir()
	if _, logs, code := tact(t, "doctor", data); code != exitFailure ||
		!strings.Contains(logs, "holds no store") {
		t.Errorf("an empty folder: exit code %d: %s", code, logs)
	}
	r := start(t, nil, "demo", "--users", "300", "--data", data, "--listen", "127.0.0.1:0")
	r.wait(r.stdout, "serving at")
	if _, logs, code := tact(t, "doctor", data); code != exitFailure {
		t.Errorf("a store in use: exit code %d: %s", code, logs)
	}
	r.end(syscall.SIGTERM)
	out, logs, code := tact(t, "doctor", data, "--json")
	var d struct {
		OK    bool `json:"ok"`
		Users int  `json:"users"`
	}
	decodeJSON(t, out, &d)
	if code != exitOK || !d.OK || d.Users != 300 {
		t.Errorf("exit code %d: %s%s", code, out, logs)
	}
	for round := range 2 { // nothing has changed by looking
		out, logs, code := tact(t, "doctor", data)
		if code != exitOK || !strings.Contains(out, "300 users, revision 1") ||
			!strings.Contains(out, "nothing is damaged") {
			t.Errorf("look %d: exit code %d: %s%s", round, code, out, logs)
		}
	}
	ringOfNobody(t, data)
	upgradeAndBack(t, data)
	marked(t, data)
	damaged(t, data)
	if _, logs, code := tact(t, "upgrade", data); code != exitDamaged {
		t.Errorf("upgrade of a damaged store: exit code %d: %s", code, logs)
	}
}

// ringOfNobody lays a ring that no store has: doctor says so, and how to remove it, and
// leaves it. A folder of rings that is not there is said too.
func ringOfNobody(t *testing.T, data string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "tact-"+strings.Repeat("0f", 16))
	if err := os.WriteFile(path, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	out, logs, code := tact(t, "doctor", data, "--ring-dir", dir)
	if code != exitOK || !strings.Contains(out, path+"  5,000 bytes, made ") ||
		!strings.Contains(out, "`rm` one only when no data folder has its store") {
		t.Errorf("exit code %d: %s%s", code, out, logs)
	}
	out, _, code = tact(t, "doctor", data, "--ring-dir", dir, "--json")
	var d diagnosis
	decodeJSON(t, out, &d)
	if code != exitOK || len(d.Rings) != 1 || d.Rings[0].File != path || d.Rings[0].Bytes != 5000 {
		t.Errorf("exit code %d: %s", code, out)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	out, _, code = tact(t, "doctor", data, "--ring-dir", filepath.Join(dir, "none"))
	if code != exitOK || !strings.Contains(out, "rings  ") || !strings.Contains(out, "not looked at") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// upgradeAndBack upgrades, and puts the checkpoint back.
func upgradeAndBack(t *testing.T, data string) {
	out, logs, code := tact(t, "upgrade", data, "--json")
	var up upgraded
	decodeJSON(t, out, &up)
	if code != exitOK || up.Users != 300 || up.Revision != 1 {
		t.Fatalf("upgrade: exit code %d: %s%s", code, out, logs)
	}
	store := filepath.Join(data, "store")
	if err := errors.Join(os.RemoveAll(store), os.Rename(up.Checkpoint, store)); err != nil {
		t.Fatal(err)
	}
	out, logs, code = tact(t, "doctor", data)
	if code != exitDamaged || !strings.Contains(out, "300 users, revision 1") ||
		!strings.Contains(out, "REFUSED  older-copy") || strings.Contains(out, "DAMAGE") {
		t.Errorf("the checkpoint: exit code %d: %s%s", code, out, logs)
	}
}

// marked says that the store is an older copy: doctor notes it, the next start minds it
// once, and the one after it does not.
func marked(t *testing.T, data string) {
	t.Helper()
	for _, args := range [][]string{{data}, {data, "--caps", "lift"}, {data, "--caps", "x"}} {
		if out, logs, code := tact(t, append([]string{"mark"}, args...)...); code != exitUsage {
			t.Errorf("mark %v: exit code %d: %s%s", args, code, out, logs)
		}
	}
	if _, logs, code := tact(t, "mark", t.TempDir(), "--caps", "protect"); code != exitFailure ||
		!strings.Contains(logs, "holds no store") {
		t.Errorf("mark of nothing: exit code %d: %s", code, logs)
	}
	if out, logs, code := tact(t, "mark", data, "--caps", "protect"); code != exitOK {
		t.Fatalf("mark: exit code %d: %s%s", code, out, logs)
	}
	protected := func() bool {
		e, err := engine.Open(storeFolder(data), engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		return strings.Contains(strings.Join(e.Notes(), ""), "caps: protected")
	}
	if out, _, _ := tact(t, "doctor", data); !strings.Contains(out, "put back as it was earlier") {
		t.Errorf("doctor does not tell the mark: %s", out)
	}
	if !protected() {
		t.Error("the start minds no mark")
	}
}

// damaged flips a bit in the MANIFEST: doctor and a start say so, with an exit code
// of its own.
func damaged(t *testing.T, data string) {
	manifests, err := filepath.Glob(filepath.Join(data, "store", "db", "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatal(manifests, err)
	}
	for _, name := range manifests {
		b, err := os.ReadFile(name)
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(name, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out, logs, code := tact(t, "doctor", data, "--json")
	var d diagnosis
	decodeJSON(t, out, &d)
	if code != exitDamaged || d.OK || len(d.Findings) != 1 ||
		!strings.HasPrefix(d.Findings[0].File, "db/MANIFEST-") || d.Findings[0].WayBack == "" || d.Figures != nil ||
		len(d.Unknown) == 0 || strings.Contains(out, `"users"`) {
		t.Errorf("exit code %d: %s%s", code, out, logs)
	}
	if out, logs, code = tact(t, "doctor", data); code != exitDamaged ||
		!strings.Contains(out, "DAMAGE") || !strings.Contains(out, "way back") ||
		!strings.Contains(out, "content  unknown") || strings.Contains(out+logs, ".go:") {
		t.Errorf("exit code %d: %s%s", code, out, logs)
	}
	_, logs, code = tact(t, "serve", "--data", data, "--listen", "127.0.0.1:0")
	if code != exitDamaged || !strings.Contains(logs, "tact doctor") {
		t.Errorf("a start: exit code %d: %s", code, logs)
	}
	_, logs, code = tact(t, "backup", data, "--to", t.TempDir(), "--ring-dir", "")
	if code != exitDamaged || !strings.Contains(logs, "tact doctor") {
		t.Errorf("a backup: exit code %d: %s", code, logs)
	}
	var exit *exitError
	err = remoteError(t.Context(), fmt.Errorf("erase: %w", &client.Error{Status: 500, Code: "damaged"}))
	if !errors.As(err, &exit) || exit.code != exitDamaged {
		t.Errorf("damage that a server tells: %v", err)
	}
}
