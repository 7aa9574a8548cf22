package server

import (
	"strings"
	"testing"

	"tact/engine"
)

// A reply says how durable what it answers for is, and only events may be answered
// before they are on disk.
func TestDurabilityOfReplies(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	f := func(path, kind, body, asked string, status int, want string) {
		t.Helper()
		a := ask{method: "POST", path: path, kind: kind, body: body}
		if asked != "" {
			a.header = map[string]string{durabilityHeader: asked}
		}
		got, text, header := r.do(a)
		if got != status {
			t.Fatalf("%s asked %q: %d %s, want %d", path, asked, got, text, status)
		}
		if status != 200 {
			if !strings.Contains(text, `"invalid_durability"`) {
				t.Errorf("%s asked %q: %s", path, asked, text)
			}
			return
		}
		// A late disk makes a bounded answer a strict one.
		if said := header.Get(durabilityHeader); said != want && said != durabilityStrict {
			t.Errorf("%s asked %q says %q, want %q", path, asked, said, want)
		}
	}
	const (
		document = "application/json"
		many     = "application/x-ndjson"
		user     = `{"user_id":"ann"}`
		bounded  = "bounded(50ms)"
	)
	event := func(id string) string { return `{"event_id":"` + id + `","user_id":"ann","event":"visit"}` }
	f("/v1/users", document, user, "", 200, "strict")
	f("/v1/users", document, user, "strict", 200, "strict")
	f("/v1/users", document, user, "bounded", 400, "")
	f("/v1/users", many, user+"\n", "bounded", 400, "")
	f("/v1/outcomes", document, `{}`, "bounded", 400, "")
	f("/v1/events", document, event("1"), "", 200, "strict")
	f("/v1/events", document, event("2"), "bounded", 200, bounded)
	f("/v1/events", document, event("2"), bounded, 200, bounded)
	f("/v1/events", document, event("3"), "never", 400, "")
	f("/v1/events", many, event("4")+"\n"+event("5")+"\n", "bounded", 200, bounded)
	f("/v1/events", many, event("6")+"\n", "", 200, "strict")
	_, text, _ := r.do(ask{method: "GET", path: "/v1/nodes"})
	if !strings.Contains(text, `"last_end":{"clean":true,"epoch":0`) {
		t.Errorf("%s", text)
	}
}

// On a full disk what is to be stored is refused with 507, one document and a body of
// many lines alike; a decision is given and says that nothing of it is kept. What was
// there already is a repeat: then there is a result for each line.
func TestDurabilityOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	t.Run("with room", func(t *testing.T) {
		r := startIn(t, dir, Options{}, engine.Options{})
		r.publish()
		r.post("/v1/users", `{"user_id":"ann"}`)
		r.post("/v1/events", `{"event_id":"old","user_id":"ann","event":"visit"}`)
	})
	of := engine.Options{}
	of.Storage.MinFree = 1 << 60
	r := startIn(t, dir, Options{}, of)
	f := func(path, kind, body string, status int, part string) {
		t.Helper()
		got, text, header := r.do(ask{method: "POST", path: path, kind: kind, body: body})
		if got != status || !strings.Contains(text, part) {
			t.Errorf("%s: %d %s, want %d with %s", path, got, text, status, part)
		}
		if said := header.Get(durabilityHeader); status == 507 && said != "" {
			t.Errorf("%s: what was refused is called %s", path, said)
		}
	}
	const (
		one  = "application/json"
		many = "application/x-ndjson"
		full = `"code":"disk_full"`
	)
	event := func(id string) string {
		return `{"event_id":"` + id + `","user_id":"ann","event":"visit"}` + "\n"
	}
	f("/v1/users", one, `{"user_id":"bob"}`, 507, full)
	f("/v1/events", one, event("1"), 507, full)
	f("/v1/users", many, `{"user_id":"bob"}`+"\n", 507, full)
	f("/v1/events", many, event("1")+event("2"), 507, full)
	f("/v1/events", many, "{}\n"+event("2"), 507, full)
	f("/v1/events", many, strings.Repeat(event("3"), 5000), 507, "nothing of the body was taken")
	f("/v1/events", many, event("1")+event("old"), 200, `"duplicate"`)
	f("/v1/events", many, "{}\n", 200, `"rejected"`)
	r.alive()
	const decide = `{"user":{"user_id":"ann"},"placements":[{"key":"a","placement_id":"home"}]}`
	for range 3 { // the later ones are read without the HTTP library
		status, text, header := r.do(
			ask{method: "POST", path: "/v1/decide", kind: one, body: decide})
		if said := header.Get(durabilityHeader); status != 200 || said != "none" ||
			!strings.Contains(text, `"not_recorded"`) {
			t.Errorf("a decision: %d %s, durability %q", status, text, said)
		}
	}
}
