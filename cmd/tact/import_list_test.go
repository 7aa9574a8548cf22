package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A file of hashed addresses goes through the command into a server process, is
// there after a restart, keeps people out by their address, and is taken out again.
func TestImportHashedList(t *testing.T) {
	const n = 20_000
	data := filepath.Join(t.TempDir(), "data")
	config := folder(t, map[string]string{"d.yaml": `
kind: workspace
id: default
timezone: UTC
---
{kind: offer, id: ad, message_class: marketing, purpose: news,
 treatments: [{id: t, channel: email, content: {type: text, body: x}}]}
---
{kind: placement, id: mail, channel: email, policy: all}
---
{kind: decision_policy, id: all, candidates: {offers: all}}
`})
	var b strings.Builder
	var raw []byte
	for i := range n {
		sum := sha256.Sum256(fmt.Appendf(nil, "a%d@example.com", i))
		fmt.Fprintf(&b, "%x\n", sum)
		raw = append(raw, sum[:]...)
	}
	hex, bin := filepath.Join(t.TempDir(), "d.txt"), filepath.Join(t.TempDir(), "d.bin")
	for name, content := range map[string][]byte{hex: []byte(b.String()), bin: raw} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve := func() (*running, string) {
		r := start(t, nil, "serve", "--data", data, "--config", config, "--listen", "127.0.0.1:0")
		return r, strings.TrimPrefix(r.wait(r.stdout, "serving at "), "serving at ")
	}
	r, address := serve()
	key, err := readKey(data)
	if err != nil {
		t.Fatal(err)
	}
	send := func(want string, args ...string) {
		t.Helper()
		args = append([]string{
			"import", "--address", address, "--data", data, "--list", "gone", "--kind", "email", "--json",
		}, args...)
		out, logs, code := tact(t, args...)
		if code != exitOK || !strings.Contains(out, want) {
			t.Fatalf("exit %d: %s%s, want %s", code, out, logs, want)
		}
	}
	reason := func(user, email, want string) {
		t.Helper()
		status, body := request(t, "POST", address+"/v1/users", key, fmt.Sprintf(`{"user_id":%q,`+
			`"addresses":{"email":%q},"consents":[{"purpose":"news","channel":"email","granted":true,`+
			`"at":"2026-01-02T03:04:05Z","source":"app","text_version":"v2"}]}`, user, email))
		if status != 200 {
			t.Fatalf("user: %d %s", status, body)
		}
		status, body = request(t, "POST", address+"/v1/decide", key, fmt.Sprintf(
			`{"user":{"user_id":%q},"placements":[{"key":"k","placement_id":"mail"}]}`, user))
		if status != 200 || !strings.Contains(body, want) {
			t.Fatalf("decide for %s: %d %s, want %s", email, status, body, want)
		}
	}
	reason("ann", " A7@Example.com", `"offer_id":"ad"`)
	const given = `"consents":[{"purpose":"news","channel":"email","granted":true,` +
		`"at":"2026-01-02T03:04:05.000Z","source":"app","text_version":"v2"`
	if status, body := request(t, "GET", address+"/v1/users/ann", key, ""); status != 200 ||
		!strings.Contains(body, given) {
		t.Fatalf("consents: %d %s, want %s", status, body, given)
	}
	send(`"values":20000`, "--hashed", hex)
	reason("ann", " A7@Example.com", `"blacklisted"`)
	reason("bob", "b@example.com", `"offer_id":"ad"`)
	send(`"changed":0`, bin)
	if code := r.end(syscall.SIGTERM); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	r, address = serve()
	if status, body := request(t, "GET", address+"/v1/lists", key, ""); status != 200 ||
		!strings.Contains(body, `"entries":20000`) {
		t.Fatalf("lists: %d %s", status, body)
	}
	reason("eve", "a19999@example.com", `"blacklisted"`)
	send(`"changed":20000`, "--remove", bin)
	reason("eve", "a19999@example.com", `"offer_id":"ad"`)
	if code := r.end(syscall.SIGTERM); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
}
