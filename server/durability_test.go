package server

import (
	"strings"
	"testing"
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
