package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"tact/engine/definition"
)

// Lists over HTTP: the four bodies, removal, bad input that leaves nothing
// behind, and what a person's view says. Replies are checked against the
// document by do.
func TestLists(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	send := func(query, kind, body string, status int, part string) {
		t.Helper()
		got, reply, _ := r.do(ask{
			method: "POST", path: "/v1/lists/unsubscribed/entries" + query, kind: kind, body: body,
			template: "/v1/lists/{id}/entries",
		})
		if got != status || !strings.Contains(reply, part) {
			t.Errorf("%s %q: got %d %s, want %d with %s", query, body[:min(len(body), 80)], got, reply, status, part)
		}
	}
	const nd, text, raw = "application/x-ndjson", "text/plain", "application/octet-stream"
	sum := sha256.Sum256([]byte("b@example.com"))
	send("", nd, `{"kind":"email","value":" A@Example.com "}`+"\n\n"+
		`{"kind":"phone","value":"0086 138-0000-0000"}`+"\r\n"+
		`{"kind":"email","sha256":"`+hex.EncodeToString(sum[:])+`"}`, 200, `"lines":3,"added":3`)
	send("?kind=email", text, "a@example.com\nb@example.com\n", 200, `"lines":2,"added":0`)
	send("?kind=email&encoding=sha256", text, hex.EncodeToString(sum[:]), 200, `"added":0`)
	send("?kind=email", raw, string(sum[:]), 200, `"added":0,"removed":0`)
	send("?kind=user", text, "u1", 200, `"added":1`)
	// Bad input names the line and leaves nothing.
	send("", nd, `{"kind":"email","value":"c@example.com"}`+"\n"+`{"kind":"mail","value":"x"}`,
		422, `lines[2].kind`)
	send("", nd, `{"kind":"email"}`, 422, `lines[1].value`)
	send("", nd, `{"kind":"email","value":"x","sha256":"y"}`, 422, `lines[1].value`)
	send("?kind=email&encoding=sha256", text, "abc", 422, `lines[1].sha256`)
	send("?kind=email", text, strings.Repeat("x", 513), 422, `lines[1].value`)
	send("?kind=email", raw, "abc", 422, "32 bytes")
	send("?kind=email&encoding=md5", text, "abc", 400, "encoding")
	send("?kind=email&remove=yes", text, "abc", 400, "remove")
	send("?kind=mail", text, "abc", 400, "kind")
	send("?kind=email", nd, "{}", 400, "each line")
	send("?of=email", text, "abc", 400, "unknown_parameter")
	send("?kind=email", text, strings.Repeat("x\n", 65537), 422, "at most 65536")
	if got, reply, _ := r.do(ask{
		method: "POST", path: "/v1/lists/No/entries?kind=email", kind: text, body: "x",
		template: "/v1/lists/{id}/entries",
	}); got != 422 {
		t.Errorf("list No: %d %s", got, reply)
	}
	want := func(path, template, part string) {
		t.Helper()
		got, reply, _ := r.do(ask{method: "GET", path: path, template: template})
		if got != 200 || !strings.Contains(reply, part) {
			t.Errorf("%s: %d %s, want %s", path, got, reply, part)
		}
	}
	want("/v1/lists", "", `{"lists":[{"list_id":"unsubscribed","entries":4,"resident_bytes":`)
	user := ask{method: "POST", path: "/v1/users", kind: "application/json", body: `{"user_id":"u1",` +
		`"addresses":{"email":"B@example.com","sms":"+86 13800000000"},"consents":[{"purpose":` +
		`"marketing","channel":"sms","granted":true,"source":"app","text_version":"2026-02"}]}`}
	if got, reply, _ := r.do(user); got != 200 {
		t.Fatal(got, reply)
	}
	want("/v1/users/u1", "/v1/users/{id}", `"listed":[{"list_id":"unsubscribed","kind":"user",`+
		`"channels":["push","email","sms","call","wechat","wecom"]},{"list_id":"unsubscribed",`+
		`"kind":"email","channels":["email"]},{"list_id":"unsubscribed","kind":"phone",`+
		`"channels":["sms","call"]}]`)
	want("/v1/users/u1", "/v1/users/{id}", `"source":"app","text_version":"2026-02"`)
	send("", nd, `{"kind":"email","value":"b@example.com","remove":true}`, 200, `"removed":1`)
	send("?kind=user&remove=true", text, "u1\nu2", 200, `"removed":1`)
	want("/v1/users/u1", "/v1/users/{id}", `"listed":[{"list_id":"unsubscribed","kind":"phone"`)
}

// Quiet hours over HTTP: what is held says until when, what is dropped does not.
func TestQuietReply(t *testing.T) {
	r := start(t, Options{})
	const quiet = "---\nkind: calendar\nid: always\ndays:\n"
	days := ""
	for year := 2020; year < 2060; year++ {
		days += fmt.Sprintf("  - {from: %d-01-01, until: %d-01-01}\n", year, year+1)
	}
	f := func(when, want string) {
		t.Helper()
		files := testFiles()
		files = append(files, definition.File{Name: "quiet.yaml", Content: []byte(quiet + days +
			"---\nkind: quiet_hours\nid: q\non: [always]\nwhen_hit: " + when + "\n")})
		if status, body, _ := r.do(ask{
			method: "PUT", path: "/v1/definitions", kind: "application/json", body: bundleOf(t, files),
		}); status != 200 {
			t.Fatal(status, body)
		}
		_, body, _ := r.do(ask{
			method: "POST", path: "/v1/decide", kind: "application/json",
			body: `{"user":{"user_id":"u"},"placements":[{"key":"k","placement_id":"home"}]}`,
		})
		if !strings.Contains(body, want) {
			t.Errorf("%s: %s, want %s", when, body, want)
		}
	}
	f("hold", `"no_decision":{"reason":"timezone_unknown","until":"2060-01-01T00:00:00.000Z"}`)
	f("drop", `"no_decision":{"reason":"timezone_unknown"}`)
}
