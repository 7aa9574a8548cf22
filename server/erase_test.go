package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Erasure over HTTP: the receipt, that it is given again, that nobody is served any
// more, the purge, and bad input.
func TestErase(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	const js, nd = "application/json", "application/x-ndjson"
	send := func(method, path, template, kind, body string, status int, part string) string {
		t.Helper()
		got, reply, _ := r.do(ask{method: method, path: path, template: template, kind: kind, body: body})
		if got != status || !strings.Contains(reply, part) {
			t.Fatalf("%s %s: got %d %s, want %d with %s", method, path, got, reply, status, part)
		}
		return reply
	}
	user := func(i int) string {
		return fmt.Sprintf(`{"user_id":"u %d","identities":[{"type":"email","value":"e%d@example.com"}],`+
			`"attributes":{"first_name":"Ann"},"tags":["vip","new"],"consents":[{"purpose":"marketing",`+
			`"channel":"sms","granted":true,"source":"app"}],"addresses":{"sms":"+861"}}`, i, i)
	}
	for i := range 5 {
		send("POST", "/v1/users", "", js, user(i), 200, "applied")
	}
	send("POST", "/v1/events", "", nd, `{"event_id":"e1","user_id":"u 1","event":"seen"}`, 200, "applied")
	const one = "/v1/users/{id}"
	reply := send("DELETE", "/v1/users/u%201", one, "", "", 200, `"removed":{"identities":1,`+
		`"attributes":1,"addresses":1,"tags":2,"segments":0,"tracked_segments":0,"consents":1,`+
		`"events":1,"event_sums":1,"reservations":0,"cap_counters":0,"request_ids":0}`)
	if strings.Contains(reply, "u 1") || strings.Contains(reply, "before") {
		t.Fatal(reply)
	}
	var receipt struct{ Receipt string }
	if err := json.Unmarshal([]byte(reply), &receipt); err != nil {
		t.Fatal(err)
	}
	send("GET", "/v1/users/u%201", one, "", "", 404, "user_not_found")
	again := send("DELETE", "/v1/users/u%201", one, "", "", 200, receipt.Receipt)
	if !strings.Contains(again, `"before":true`) {
		t.Fatal(again)
	}
	send("DELETE", "/v1/users/nobody", one, "", "", 404, "user_not_found")
	send("DELETE", "/v1/users/a%00b", one, "", "", 422, "bad_id")
	send("DELETE", "/v1/users/u1?now=1", one, "", "", 400, "unknown_parameter")
	reply = send("POST", "/v1/users:erase", "", js, `{"users":[{"user_id":"u 0"},{"identities":[`+
		`{"type":"email","value":"E2@example.com"}]},{"user_id":"nobody"},{"user_id":"u 0"}]}`, 200, "")
	if strings.Count(reply, `"removed"`) != 3 || strings.Count(reply, "user_not_found") != 1 ||
		strings.Count(reply, `"before":true`) != 1 {
		t.Fatal(reply)
	}
	send("GET", "/v1/users/u%202", one, "", "", 404, "user_not_found")
	send("GET", "/v1/users/u%203", one, "", "", 200, "e3@example.com")
	const of = "/v1/erasures/{receipt}"
	send("POST", "/v1/erasures:purge", "", "", "", 200, "purged")
	send("GET", "/v1/erasures/"+receipt.Receipt, of, "", "", 200, `"request_ids":0,"log_events":1,`+
		`"log_decisions":0,"log_changes":`)
	send("GET", "/v1/erasures/"+strings.Repeat("0", 32), of, "", "", 404, "unknown_receipt")
	ledger := send("GET", "/v1/erasures", "", "", "", 200, `{"done":true,"erasures":3,"store":"`)
	if strings.Count(ledger, `"purged_at"`) != 3 || !strings.Contains(ledger, receipt.Receipt) {
		t.Fatal(ledger)
	}
	send("GET", "/v1/erasures?from=1", "/v1/erasures", "", "", 400, "unknown_parameter")
	send("GET", "/v1/erasures/xyz", of, "", "", 422, "bad_id")
	for _, bad := range []string{
		`{}`, `{"users":[{}]}`, `{"users":[{"user_id":"a","identities":[{"type":"a","value":"b"}]}]}`,
		`{"users":[{"user_id":""}]}`, `{"users":[{"id":"a"}]}`,
		`{"users":[` + strings.Repeat(`{"user_id":"a"},`, 1000) + `{"user_id":"a"}]}`,
	} {
		got, reply := r.post("/v1/users:erase", bad)
		if got != 400 && got != 422 {
			t.Errorf("%.60s: %d %s", bad, got, reply)
		}
	}
	// The identity and the id are free: whoever comes with them is another person.
	send("POST", "/v1/users", "", js, `{"user_id":"u 9","identities":[{"type":"email",`+
		`"value":"e1@example.com"}]}`, 200, "applied")
	send("POST", "/v1/events", "", nd, `{"event_id":"e1","user_id":"u 1","event":"seen"}`, 200, "applied")
	reply = send("GET", "/v1/users/u%201", one, "", "", 200, `"attributes":{}`)
	if strings.Count(reply, `"event":`) != 1 {
		t.Fatal(reply)
	}
	if err := r.engine.CheckStore(); err != nil {
		t.Fatal(err)
	}
}

// Somebody known by an identity alone, or by one beside a user id, is told of, exported
// and erased by it; one that leads to nobody is said to.
func TestPeopleByIdentity(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	const one, all = "/v1/users/{id}", "/v1/users/{id}/export"
	f := func(method, path, template string, status int, parts ...string) {
		t.Helper()
		got, reply, _ := r.do(ask{method: method, path: path, template: template})
		for _, part := range parts {
			if got != status || !strings.Contains(reply, part) {
				t.Errorf("%s %s: %d %s, want %d and %s", method, path, got, reply, status, part)
			}
		}
		if strings.Contains(reply, `\u0000`) {
			t.Errorf("%s %s: %s", method, path, reply)
		}
	}
	r.post("/v1/users", `{"identities":[{"type":"device","value":"d 1"}],"attributes":{"age":33}}`)
	r.post("/v1/events", `{"event_id":"e","identities":[{"type":"device","value":"d 1"}],"event":"seen"}`)
	r.post("/v1/users", `{"user_id":"ann","identities":[{"type":"email","value":"ann@example.com"}]}`)
	f("GET", "/v1/users/d%201?identity=device", one, 200, `{"visitor":false,"identities":[{"type":"device"`)
	f("GET", "/v1/users/ANN@example.com?identity=email", one, 200, `"user_id":"ann"`)
	f("GET", "/v1/users/d%201/export?identity=device", all, 200, `"age":33`, `"events":[{"event_id":"e"`,
		`"events":1,`)
	f("GET", "/v1/users/d%201", one, 404, "user_not_found")
	f("GET", "/v1/users/d%201?identity=", one, 400, `"field":"identity"`)
	f("GET", "/v1/users/d%201?identities=device", one, 400, "unknown_parameter")
	for _, bad := range []string{"d2?identity=device", "d%201?identity=email", "x?identity=never"} {
		value, query, _ := strings.Cut(bad, "?")
		f("GET", "/v1/users/"+bad, one, 404, "user_not_found", `"field":"identity"`)
		f("GET", "/v1/users/"+value+"/export?"+query, all, 404, "user_not_found")
		f("DELETE", "/v1/users/"+bad, one, 404, "user_not_found")
	}
	f("DELETE", "/v1/users/d%201?identity=device", one, 200, `"attributes":1`)
	f("GET", "/v1/users/d%201/export?identity=device", all, 404, "user_not_found")
	f("DELETE", "/v1/users/d%201?identity=device", one, 200, `"before":true`)
	f("DELETE", "/v1/users/ann@example.com?identity=email", one, 200, `"identities":1`)
	f("GET", "/v1/users/ann", one, 404, "user_not_found")
}

// What an export tells is what the receipt of the erasure counts, kind by kind, and
// nothing of it is told afterwards.
func TestExportIsWhatErasureRemoves(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	const one, nd = "/v1/users/{id}", "application/x-ndjson"
	get := func(method, path, template string, status int) (v map[string]any, reply string) {
		t.Helper()
		got, reply, _ := r.do(ask{method: method, path: path, template: template})
		if got != status {
			t.Fatalf("%s %s: %d %s", method, path, got, reply)
		}
		if err := json.Unmarshal([]byte(reply), &v); err != nil {
			t.Fatal(err)
		}
		return v, reply
	}
	r.post("/v1/users", `{"user_id":"ann","identities":[{"type":"email","value":"ann@example.com"},`+
		`{"type":"device","value":"d1"}],"attributes":{"first_name":"Ann","age":33},"tags":["vip"],`+
		`"consents":[{"purpose":"marketing","channel":"sms","granted":true,"source":"app"}],`+
		`"addresses":{"sms":"+861","push":["a","b"]},"timezone":"Asia/Shanghai","locale":"zh-CN"}`)
	r.post("/v1/segments/chosen/members", `{"add":["ann"]}`)
	for i := range 70 {
		r.do(ask{method: "POST", path: "/v1/events", kind: nd, body: fmt.Sprintf(
			`{"event_id":"e%d","user_id":"ann","event":"seen %d","properties":{"note":"n%d"}}`, i, i%3, i)})
	}
	for i := range 2 {
		r.post("/v1/decide", fmt.Sprintf(`{"request_id":"r%d","user":{"user_id":"ann"},"placements":[`+
			`{"key":"k","placement_id":"home"}]}`, i))
	}
	// Bounded records of decisions are there when a later write of the person is.
	r.post("/v1/users", `{"user_id":"ann","attributes":{"age":34}}`)
	v, reply := get("GET", "/v1/users/ann/export", "/v1/users/{id}/export", 200)
	user := v["user"].(map[string]any)
	size := func(of map[string]any, name string) int {
		switch list := of[name].(type) {
		case []any:
			return len(list)
		case map[string]any:
			n := 0
			for _, values := range list {
				if all, ok := values.([]any); ok && name == "addresses" {
					n += len(all)
				} else {
					n++
				}
			}
			return n
		}
		return 0
	}
	held := v["held"].(map[string]any)
	for kind, n := range map[string]int{
		"identities": size(user, "identities"), "attributes": size(user, "attributes"),
		"addresses": size(user, "addresses"), "tags": size(user, "tags"),
		"segments": size(user, "segments"), "consents": size(user, "consents"),
		"events": size(user, "events"), "tracked_segments": size(v, "tracked_segments"),
		"event_sums": size(v, "event_sums"), "reservations": size(v, "reservations"),
		"cap_counters": size(v, "cap_counters"), "request_ids": size(v, "request_ids"),
	} {
		if held[kind] != float64(n) {
			t.Errorf("%s: held says %v, the export lists %d", kind, held[kind], n)
		}
	}
	if size(v, "events") != 70 || size(v, "decisions") != 2 || !strings.Contains(reply, `"note":"n69"`) {
		t.Errorf("%d events, %d decisions", size(v, "events"), size(v, "decisions"))
	}
	removed, _ := get("DELETE", "/v1/users/ann", one, 200)
	if fmt.Sprint(removed["removed"]) != fmt.Sprint(held) {
		t.Errorf("removed %v, held %v", removed["removed"], held)
	}
	get("GET", "/v1/users/ann/export", "/v1/users/{id}/export", 404)
	if err := r.engine.Purge(time.Minute); err != nil {
		t.Fatal(err)
	}
	after, _ := get("GET", "/v1/erasures/"+removed["receipt"].(string), "/v1/erasures/{receipt}", 200)
	counts := after["removed"].(map[string]any)
	if counts["log_events"] != 70.0 || counts["log_decisions"] != 2.0 {
		t.Errorf("%v", counts)
	}
	_, reply, _ = r.do(ask{method: "GET", path: "/v1/events"})
	if strings.Contains(reply, "ann") || !strings.Contains(reply, `"unreadable":70`) {
		t.Errorf("the log tells of the person: %.500s", reply)
	}
}
