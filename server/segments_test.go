package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tact/engine/definition"
)

const segmentDefinitions = `
{kind: attribute, id: age, type: int}
---
{kind: event, id: order}
---
{kind: segment, id: vip, members: static, track: true}
---
{kind: segment, id: list, members: static}
---
{kind: segment, id: adults, rule: {attribute: age, gte: 18}}
---
{kind: segment, id: buyers, rule: {event: order, within: 1d}, track: true}
`

// segmentServer serves people u0 to u19, aged by their number.
func segmentServer(t *testing.T) *running {
	t.Helper()
	r := start(t, Options{})
	files := []definition.File{{Name: "all.yaml", Content: []byte(segmentDefinitions)}}
	body := bundleOf(t, files)
	if status, text, _ := r.do(ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json", body: body,
	}); status != 200 {
		t.Fatal(text)
	}
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "{\"user_id\":\"u%d\",\"attributes\":{\"age\":%d}}\n", i, i)
	}
	r.do(ask{method: "POST", path: "/v1/users", kind: ndjson, body: b.String()})
	return r
}

const segmentPath = "/v1/segments/{id}"

// segmentDo asks for one segment's sub-resource.
func (r *running) segmentDo(method, path, kind, body string) (int, string) {
	r.t.Helper()
	template := segmentPath
	if _, rest, ok := strings.Cut(strings.TrimPrefix(path, "/v1/segments/"), "/"); ok {
		rest, _, _ = strings.Cut(rest, "?")
		template += "/" + rest
	}
	status, reply, _ := r.do(ask{
		method: method, path: path, template: template, kind: kind, body: body,
	})
	return status, reply
}

// Lists, replacements, snapshots and set operations over HTTP; what is unknown is
// told by line; the same again changes nothing.
func TestSegmentMembers(t *testing.T) {
	r := segmentServer(t)
	f := func(method, path, kind, body string, status int, parts ...string) {
		t.Helper()
		got, reply := r.segmentDo(method, path, kind, body)
		if got != status {
			t.Fatalf("%s %s: %d %s", method, path, got, reply)
		}
		for _, part := range parts {
			if !strings.Contains(reply, part) {
				t.Fatalf("%s %s: %s lacks %s", method, path, reply, part)
			}
		}
	}
	const members = "/v1/segments/vip/members"
	const js = "application/json"
	f("POST", members, js, `{"add":["u1","u2"]}`, 200)
	f("POST", members, js, `{"add":["u3","nobody"]}`, 404, `"field":"add[1]"`)
	f("POST", members, ndjson, "{\"user_id\":\"u3\"}\n\"u4\"\n\"ghost\"\n{\"user\":1}\n\"u4\"\n", 200,
		`{"line":3,"status":"rejected","error":{"code":"user_not_found"`, `{"line":4,"status":"rejected"`,
		`{"status":"applied","added":2,"removed":0,"users":4,"lines":5,"unknown":1,"rejected":1}`)
	f("POST", members+"?mode=remove", "text/csv", "user_id,name\nu1,Ann\n\"u2\",\"B, C\"\nu9\n", 200,
		`{"status":"applied","added":0,"removed":2,"users":2,"lines":3,"unknown":0,"rejected":0}`)
	f("PUT", members, "text/csv", "u5\nu6\nu5\n", 200, `"added":2,"removed":2,"users":2,"lines":3`)
	f("PUT", members, "text/csv", "u5\nu6\nu5\n", 200, `"added":0,"removed":0,"users":2`)
	f("PUT", members, "text/csv", "\xef\xbb\xbfuser_id\nu5\nu6\n", 200,
		`"added":0,"removed":0,"users":2,"lines":2,"unknown":0`)
	f("PUT", members, "text/csv", "\xef\xbb\xbf\"u5\"\nu6\n", 200,
		`"added":0,"removed":0,"users":2,"lines":2,"unknown":0`)
	f("GET", "/v1/segments/vip", "", "", 200, `"segment_id":"vip","kind":"static","track":true,"users":2`)
	f("POST", members+":fill", js, `{"segment":"adults"}`, 200, `"added":2,"removed":2,"users":2`)
	f("POST", members+":fill", js, `{"rule":{"attribute":"age","lt":3},"mode":"add"}`, 200,
		`"added":3,"removed":0,"users":5`)
	f("POST", members+":fill", js, `{"difference":["vip","adults"]}`, 200, `"removed":2,"users":3`)
	f("POST", members+":fill", js, `{"union":["vip","adults"],"intersection":["vip"]}`, 422,
		`"two_questions"`)
	f("POST", members+":fill", js, `{"union":["vip","x"]}`, 404, `"field":"union[1]"`)
	f("POST", members+":fill", js, `{"rule":{"attribute":"agee","lt":3}}`, 422, `"field":"rule.attribute"`)
	f("POST", members+":fill", js, `{"members":{"ordinals":"x","roaring":"AA==","crc32c":"00000000"}}`,
		409, `"other_ordinals"`)
	f("GET", "/v1/segments/vip", "", "", 200, `"users":3`)
	f("PUT", members, js, `{}`, 415)
	f("POST", "/v1/segments/adults/members", "text/csv", "u1\n", 409, `"dynamic_segment"`)
	f("POST", "/v1/segments/adults/members", js, `{"add":["u1"]}`, 409, `"dynamic_segment"`)
	f("POST", "/v1/segments/nope/members", js, `{"add":["u1"]}`, 404, `"unknown_segment"`)
	f("PUT", "/v1/segments/nope/members", "text/csv", "u1\n", 404, `"unknown_segment"`)
	f("POST", members+"?mode=replace", "text/csv", "u1\n", 400, `"mode"`)
	f("DELETE", members, "", "", 200, `"removed":3,"users":0`)
	f("GET", "/v1/segments/nope", "", "", 404)
}

// A list that replaces the members and has a line that cannot be read, or of
// which nobody is known, changes nothing and says which line; to add, it may.
func TestReplaceRefusesMalformedLists(t *testing.T) {
	r := segmentServer(t)
	const path = "/v1/segments/list/members"
	if status, reply := r.segmentDo("PUT", path, "text/csv", "u1\nu2\n"); status != 200 {
		t.Fatal(reply)
	}
	long := strings.Repeat("x", 2<<20)
	f := func(method, kind, body string, users int, parts ...string) {
		t.Helper()
		_, reply := r.segmentDo(method, path, kind, body)
		for _, part := range parts {
			if !strings.Contains(reply, part) {
				t.Fatalf("%.300s lacks %s", reply, part)
			}
		}
		want := fmt.Sprintf(`"users":%d`, users)
		if _, text := r.segmentDo("GET", "/v1/segments/list", "", ""); !strings.Contains(text, want) {
			t.Fatalf("%s lacks %s", text, want)
		}
	}
	const refused = "nobody was moved: line "
	f("PUT", "text/csv", long, 2, `{"status":"rejected","error":{"code":"too_large"`, refused+"1: ",
		`"lines":1,"unknown":0,"rejected":1}`)
	f("PUT", "text/csv", "u1\n"+long+"\nu3\n", 2, refused+"2: ", `"lines":3,"unknown":0,"rejected":1}`)
	f("PUT", ndjson, "{\"user\":1}\n{\"user\":2}\n7\n", 2, refused+"1: ",
		`"lines":3,"unknown":0,"rejected":3}`)
	f("PUT", ndjson, "\"u1\"\n\"u2\"\n{\"user_id\":\"u3\"\n", 2, refused+"3: ", `"rejected":1}`)
	f("PUT", "text/csv", "u1\n\"u2\n", 2, refused+"2: ", `"lines":2,"unknown":0,"rejected":1}`)
	f("PUT", "text/csv", "user_id;name\nu1;Ann\nu2;Bo\n", 2,
		`{"status":"rejected","error":{"code":"user_not_found"`, refused+"1: ", `"unknown":3`)
	f("PUT", "text/csv", "user_id\nghost\n", 2, refused+"2: ")
	f("POST", ndjson, "{\"user\":1}\n\"u3\"\n\"ghost\"\n", 3, `"status":"applied","added":1`,
		`"lines":3,"unknown":1,"rejected":1}`)
	f("POST", "text/csv", long+"\nu4\n", 4, `"status":"applied","added":1`, `"lines":2`, `"rejected":1}`)
	f("PUT", "text/csv", "ghost\nu5\n", 1, `"status":"applied","added":1,"removed":4`, `"unknown":1`)
	f("PUT", "text/csv", "user_id\n", 0, `"status":"applied","added":0,"removed":1`)
}

// A list that is cut moves nobody.
func TestCutUploadMovesNobody(t *testing.T) {
	r := segmentServer(t)
	body := gzipped(t, strings.Repeat("u1\nu2\n", 10_000))
	_, reply, _ := r.do(ask{
		method: "PUT", path: "/v1/segments/list/members", template: segmentPath + "/members",
		kind: "text/csv", body: body[:len(body)-9], header: map[string]string{"Content-Encoding": "gzip"},
	})
	if !strings.Contains(reply, `"truncated"`) {
		t.Fatal(reply)
	}
	if _, text := r.segmentDo("GET", "/v1/segments/list", "", ""); !strings.Contains(text, `"users":0`) {
		t.Fatal(text)
	}
}

// Counts, the matrix and the list agree with the people there are.
func TestSegmentQuestions(t *testing.T) {
	r := segmentServer(t)
	f := func(path, body string, status int, parts ...string) {
		t.Helper()
		got, reply := r.post(path, body)
		if got != status {
			t.Fatalf("%s: %d %s", body, got, reply)
		}
		for _, part := range parts {
			if !strings.Contains(reply, part) {
				t.Fatalf("%s: %s lacks %s", body, reply, part)
			}
		}
	}
	f("/v1/segments:count", `{"segment":"adults"}`, 200, `"users":2}`)
	f("/v1/segments:count", `{"rule":{"attribute":"age","lt":7},"at":"2030-01-01T00:00:00Z"}`, 200,
		`"at":"2030-01-01T00:00:00`, `"users":7}`)
	f("/v1/segments:count", `{"rule":{"any":[{"attribute":"age","is":"x"}]}}`, 422, `"rule.any[0].is"`)
	f("/v1/segments:count", `{}`, 400)
	f("/v1/segments:overlap", `{"segments":["adults","buyers"]}`, 200, `"users":[[2,0],[0,0]]`)
	f("/v1/segments:overlap", `{"segments":["adults","byers"]}`, 404, `"segments[1]"`)
	f("/v1/segments:overlap", `{"segments":[]}`, 422)
	_, reply, _ := r.do(ask{method: "GET", path: "/v1/segments?limit=3"})
	if !strings.Contains(reply, `"more":true`) || strings.Count(reply, "segment_id") != 3 {
		t.Fatal(reply)
	}
	_, reply, _ = r.do(ask{method: "GET", path: "/v1/segments?after=buyers"})
	if strings.Contains(reply, "buyers") || strings.Count(reply, "segment_id") != 2 {
		t.Fatal(reply)
	}
}

// Who entered and left is read with a cursor, waiting for it; growth has points.
func TestSegmentChanges(t *testing.T) {
	r := segmentServer(t)
	read := func(query string) (changes []map[string]any, cursor string) {
		t.Helper()
		status, reply := r.segmentDo("GET", "/v1/segments/buyers/changes?"+query, "", "")
		if status != 200 {
			t.Fatal(status, reply)
		}
		for line := range strings.SplitSeq(strings.TrimSpace(reply), "\n") {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			if c, ok := m["cursor"]; ok {
				cursor = c.(string)
				continue
			}
			changes = append(changes, m)
		}
		return changes, cursor
	}
	none, cursor := read("after=latest")
	if len(none) != 0 {
		t.Fatal(none)
	}
	order := func(user string) {
		t.Helper()
		body := fmt.Sprintf(`{"event_id":"e-%s","user_id":%q,"event":"order"}`, user, user)
		if status, reply := r.post("/v1/events", body); status != 200 {
			t.Fatal(reply)
		}
	}
	order("u3")
	var got []map[string]any
	for range 20 { // the back-fill may still be under way
		var more []map[string]any
		more, cursor = read("wait=5&after=" + cursor)
		if got = append(got, more...); len(got) > 0 {
			break
		}
	}
	if len(got) != 1 || got[0]["user_id"] != "u3" || got[0]["change"] != "entered" {
		t.Fatal(got)
	}
	order("u4")
	if got, _ = read("wait=5&limit=10&after=" + cursor); len(got) != 1 || got[0]["user_id"] != "u4" {
		t.Fatal(got)
	}
	for _, bad := range []struct {
		path   string
		status int
	}{
		{"/v1/segments/buyers/changes?after=x", 422},
		{"/v1/segments/buyers/changes?wait=31", 400},
		{"/v1/segments/buyers/changes?from=1", 400},
		{"/v1/segments/adults/changes", 409},
		{"/v1/segments/nope/changes", 404},
		{"/v1/segments/adults/growth", 409},
		{"/v1/segments/buyers/growth?per=week", 400},
		{"/v1/segments/buyers/growth", 200},
		{"/v1/segments/buyers/growth?per=day", 200},
	} {
		if status, reply := r.segmentDo("GET", bad.path, "", ""); status != bad.status {
			t.Errorf("%s: %d %s", bad.path, status, reply)
		}
	}
}
