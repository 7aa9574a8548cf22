package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// plan and apply name what is removed, changed and new; definitions brings back
// what was published, byte for byte.
func TestDefinitionsOfAServer(t *testing.T) {
	data := t.TempDir()
	files := shop("---\nkind: tag\nid: b\n---\nkind: tag\nid: c # stays\n")
	r := start(t, nil, "serve", "--data", data, "--config", folder(t, files),
		"--listen", "127.0.0.1:0")
	address := strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	run := func(want int, args ...string) string {
		t.Helper()
		out, logs, code := tact(t, append(args, "--address", address, "--data", data)...)
		if code != want {
			t.Fatalf("%v: exit code %d, want %d\n%s%s", args, code, want, out, logs)
		}
		return out
	}
	next := folder(t, map[string]string{
		"shop.yaml": files["shop.yaml"] + "owner: me\n",
		"new.yaml":  "kind: tag\nid: a\n---\nkind: tag\nid: d\n",
	})
	text, err := os.ReadFile(filepath.Join(next, "shop.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "kind: tag\nid: b\n---\n", "# gone\n", 1)
	if err := os.WriteFile(filepath.Join(next, "shop.yaml"), []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	const lines = "- tag/b\n~ tag/c\n+ tag/a\n+ tag/d\n1 document removed, 1 changed, 2 new, "
	f := func(what, got string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %s, want it with %q", what, got, part)
			}
		}
	}
	f("plan", run(exitOK, "plan", next), "against revision 1\n", lines)
	f("plan", run(exitOK, "plan", next, "--json"), `"against":1`, `"removed":["tag/b"]`,
		`"added":["tag/a","tag/d"]`, `"changed":["tag/c"]`)
	broken := folder(t, shop("---\nkind: offer\nid: x\n"))
	if out := run(exitDefinitions, "plan", broken); strings.Contains(out, "removed") {
		t.Errorf("a plan with faults: %s", out)
	}
	f("apply", run(exitOK, "apply", next), "published revision 2\n", lines)
	f("apply", run(exitOK, "apply", next), "published revision 3\n",
		"0 documents removed, 0 changed, 0 new, ")
	f("apply", run(exitOK, "apply", "--revision", "1"), "published revision 4", "- tag/a\n", "+ tag/b\n")
	f("revisions", run(exitOK, "definitions", "--revisions"), "4\t2", "\trestores 1", "\n1\t")
	f("text", run(exitOK, "definitions", "--revision", "2"), "# new.yaml, revision 2\n", "id: c # stays")

	back := filepath.Join(t.TempDir(), "back")
	f("definitions", run(exitOK, "definitions", back, "--revision", "2"), "revision 2: 2 files in "+back)
	for _, name := range []string{"shop.yaml", "new.yaml"} {
		got, err := os.ReadFile(filepath.Join(back, name))
		want, _ := os.ReadFile(filepath.Join(next, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s came back as %q, %v", name, got, err)
		}
	}
	run(exitFailure, "definitions", back) // something lies there
	run(exitUsage, "definitions", back, "--revisions")
	run(exitFailure, "definitions", "--revision", "99")
	f("apply", run(exitOK, "apply", back), "+ tag/a\n")
}
