package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
)

// The state of a cap names the decisions of its uses; the reply is checked against
// the document.
func TestContactStateNamesDecisions(t *testing.T) {
	r := start(t, Options{})
	files := testFiles()
	files = append(files, definition.File{Name: "cap.yaml", Content: []byte(
		"{kind: cap, id: c, scope: person, per: offer, count_on: impression, " +
			"window: {rolling: 1d}, limit: 3}\n",
	)})
	if status, body, _ := r.do(ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json", body: bundleOf(t, files),
	}); status != 200 {
		t.Fatalf("publish: %d %s", status, body)
	}
	post := func(path, body string) string {
		t.Helper()
		status, reply, _ := r.do(ask{
			method: "POST", path: path, kind: "application/json", body: body,
		})
		if status != 200 {
			t.Fatalf("%s: %d %s", path, status, reply)
		}
		return reply
	}
	post("/v1/users", `{"user_id":"ann"}`)
	var decided struct {
		ID         string `json:"decision_id"`
		Placements map[string]struct {
			Items []struct {
				Token string `json:"tracking_token"`
			} `json:"items"`
		} `json:"placements"`
	}
	reply := post("/v1/decide",
		`{"user":{"user_id":"ann"},"timeout_us":1000000,"placements":[{"key":"k","placement_id":"home"}]}`)
	if err := json.Unmarshal([]byte(reply), &decided); err != nil ||
		len(decided.Placements["k"].Items) != 1 {
		t.Fatal(err, reply)
	}
	post("/v1/outcomes", fmt.Sprintf(`{"tracking_token":%q,"outcome":"impression","event_id":"o"}`,
		decided.Placements["k"].Items[0].Token))
	status, body, _ := r.do(ask{
		method: "GET", path: "/v1/users/ann/contact-state", template: "/v1/users/{id}/contact-state",
	})
	if want := `"decision_ids":["` + decided.ID + `"]`; status != 200 || !strings.Contains(body, want) {
		t.Fatalf("%d %s, want %s", status, body, want)
	}
}

// A person is found by an identity, and the state has the gates before the caps.
func TestContactStateByIdentity(t *testing.T) {
	r := start(t, Options{})
	now := time.Now().UTC()
	day := func(n int) string { return now.AddDate(0, 0, n).Format(time.DateOnly) }
	files := testFiles()
	files = append(files, definition.File{Name: "quiet.yaml", Content: []byte(
		"{kind: calendar, id: long, days: [{from: " + day(-3) + ", until: " + day(4) +
			"}]}\n---\n" +
			"{kind: quiet_hours, id: q, applies_to: {channels: [sms], placements: [home]}, " +
			"on: [long], when_hit: drop}\n---\n" +
			"{kind: quiet_hours, id: p, applies_to: {channels: [push]}, on: [long]}\n",
	)})
	put := ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json", body: bundleOf(t, files),
	}
	if status, body, _ := r.do(put); status != 200 {
		t.Fatalf("publish: %d %s", status, body)
	}
	post := func(path, template, kind, body string) {
		t.Helper()
		status, reply, _ := r.do(ask{
			method: "POST", path: path, template: template, kind: kind, body: body,
		})
		if status != 200 {
			t.Fatalf("%s: %d %s", path, status, reply)
		}
	}
	const consent = `{"purpose":"marketing","channel":"sms","granted":%t,` +
		`"at":"2026-01-0%dT00:00:00.000Z","source":"app","text_version":"v%d"}`
	post("/v1/users", "", "application/json", `{"identities":[{"type":"crm","value":"7"}],`+
		`"timezone":"Asia/Shanghai","blacklist":["call"],"addresses":{"sms":"+8613800000000"},"consents":[`+
		fmt.Sprintf(consent, true, 1, 1)+","+fmt.Sprintf(consent, false, 2, 2)+`]}`)
	post("/v1/lists/gone/entries", "/v1/lists/{id}/entries", "application/x-ndjson",
		`{"kind":"phone","value":"+86 138 0000 0000"}`)
	status, body, _ := r.do(ask{
		method: "GET", path: "/v1/users/7/contact-state?identity=crm",
		template: "/v1/users/{id}/contact-state",
	})
	_, got, _ := strings.Cut(body, `"timezone"`)
	want := `:"Asia/Shanghai","consents":[` + fmt.Sprintf(consent, false, 2, 2) +
		`],"blacklist":["call"],` +
		`"listed":[{"list_id":"gone","kind":"phone","channels":["sms","call"]}],` +
		`"quiet_hours":[{"quiet_hours_id":"p","channels":["push"],` +
		`"message_classes":["marketing"],"when_hit":"hold","reason":"quiet_hours",` +
		`"free_at":"` + day(3) + `T16:00:00.000Z"},` +
		`{"quiet_hours_id":"q","channels":["sms"],"placements":["home"],` +
		`"message_classes":["marketing"],"when_hit":"drop","reason":"quiet_hours"}],"caps":[],"protected":[],"lost":[]}`
	if status != 200 || got != want || strings.Contains(body, "user_id") {
		t.Fatalf("%d %s\n got %s\nwant %s", status, body, got, want)
	}
}
