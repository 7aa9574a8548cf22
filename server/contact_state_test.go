package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

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
		`{"user":{"user_id":"ann"},"placements":[{"key":"k","placement_id":"home"}]}`)
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
