package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"tact/engine"
	"tact/engine/definition"
)

// tagged is a server with 3,000 people and a few tags.
type tagged struct{ *running }

const taggedPeople = 3000

func startTagged(t *testing.T) *tagged {
	t.Helper()
	r := &tagged{start(t, Options{})}
	yaml := "kind: tag\nid: vip\nnamespace: brand\nowner: crm\ndescription: {en: VIP, zh: 贵宾}\n" +
		"---\nkind: tag\nid: city\nvalues: [north, south]\nttl: 30d\n" +
		"---\nkind: tier\nid: rfm\nlevels: [low, high]\n"
	status, body, _ := r.do(ask{
		method: "PUT", path: "/v1/definitions", kind: "application/json",
		body: bundleOf(t, []definition.File{{Name: "t.yaml", Content: []byte(yaml)}}),
	})
	if status != 200 {
		t.Fatalf("publish: %d %s", status, body)
	}
	var lines strings.Builder
	for i := range taggedPeople {
		fmt.Fprintf(&lines, "{\"user_id\":\"u%d\",\"tiers\":{\"rfm\":\"low\"}}\n", i)
	}
	r.do(ask{method: "POST", path: "/v1/users", kind: "application/x-ndjson", body: lines.String()})
	return r
}

func (r *tagged) members(query, kind, body string, header map[string]string) (int, string) {
	r.t.Helper()
	status, reply, _ := r.do(ask{
		method: "POST", path: "/v1/tags/" + query, template: "/v1/tags/{id}/members", kind: kind,
		body: body, header: header,
	})
	return status, reply
}

func (r *tagged) count(name string) string {
	r.t.Helper()
	_, body, _ := r.do(ask{method: "GET", path: "/v1/tags/" + name, template: "/v1/tags/{id}"})
	return body
}

func (r *tagged) want(got, part string) {
	r.t.Helper()
	if !strings.Contains(got, part) {
		r.t.Errorf("got %s, want it with %s", got, part)
	}
}

// A list of ids: unknown ones are rejected one by one; the same key again applies
// nothing twice, another body under it is told.
func TestTagList(t *testing.T) {
	r := startTagged(t)
	var ids []string
	for i := range 2500 {
		ids = append(ids, fmt.Sprintf("%q", fmt.Sprint("u", i)))
	}
	list := `{"add":["nobody",` + strings.Join(ids, ",") + `],"remove":["u1","u2"]}`
	key := map[string]string{"Idempotency-Key": "k1"}
	_, body := r.members("brand%2Fvip/members?source=model", "application/json", list, key)
	r.want(body, `"applied":2502,"duplicates":0,"rejected":1,`+
		`"errors":[{"field":"add[0]","code":"user_not_found"`)
	r.want(r.count("brand%2Fvip"), `"holders":2498`)
	_, body = r.members("brand%2Fvip/members?source=model", "application/json", list, key)
	r.want(body, `"applied":0,"duplicates":2502,"rejected":1`)
	_, body = r.members("brand%2Fvip/members", "application/json", `{"add":["nobody","u0"]}`, key)
	r.want(body, `"rejected":2`)
	r.want(body, `{"field":"add[1]","code":"id_reused"`)
	_, body, _ = r.do(ask{method: "GET", path: "/v1/users/u1", template: "/v1/users/{id}"})
	r.want(body, `"tags":[]`)
	r.want(body, `"ended":"cleared","ended_by":"model"`)
	_, body, _ = r.do(ask{method: "GET", path: "/v1/users/u5", template: "/v1/users/{id}"})
	r.want(body, `"source":"model"`)
	f := func(status int, query, kind, list, part string) {
		t.Helper()
		got, body := r.members(query, kind, list, nil)
		if got != status || !strings.Contains(body, part) {
			t.Errorf("%s: got %d %s, want %d with %s", query, got, body, status, part)
		}
	}
	f(404, "brand%2Fvup/members", "application/json", `{}`, `did you mean`)
	f(415, "city/members", "text/plain", `x`, `unsupported_media_type`)
	f(400, "city/members?action=put", "text/csv", `x`, `"field":"action"`)
	f(400, "city/members?action=remove&is=north", "text/csv", `x`, `"field":"action"`)
	f(400, "city/members?expires_at=soon", "text/csv", `x`, `"field":"expires_at"`)
	f(400, "city/members?ttl=5s&ttl=6s", "text/csv", `x`, `"field":"ttl"`)
	f(422, "city/members?is=west", "text/csv", `x`, `not a value of this tag`)
	f(422, "city/members?is=north&ttl=1y", "text/csv", `x`, `"field":"tag.ttl"`)
	f(422, "city/members?source=rumour&is=north", "text/csv", `x`, `none of manual`)
	f(422, "city/members?action=remove", "application/json", `{"add":["u1"]}`, `"field":"add"`)
}

// A CSV file is read as it comes, with one result a line; sent again after a cut
// it goes on where it ended.
func TestTagCSV(t *testing.T) {
	r := startTagged(t)
	var file strings.Builder
	file.WriteString("\ufeffuser_id,is,expires_at\r\n")
	for i := range taggedPeople {
		fmt.Fprintf(&file, "u%d,%s,\r\n", i, [...]string{"north", "south"}[i%2])
	}
	whole := file.String()
	key := map[string]string{"Idempotency-Key": "f"}
	cut := strings.LastIndex(whole[:len(whole)/2], "\n") + 1
	status, body := r.members("city/members", "text/csv", whole[:cut], key)
	if n := strings.Count(body, `"applied"`); status != 200 || n < 1000 {
		t.Fatalf("%d: %d applied of the first half", status, n)
	}
	half := strings.Count(body, `"applied"`)
	_, body = r.members("city/members", "text/csv", whole, key)
	if n := strings.Count(body, `"duplicate"`); n != half {
		t.Errorf("%d duplicates, want %d", n, half)
	}
	if n := strings.Count(body, `"applied"`); n != taggedPeople-half {
		t.Errorf("%d applied, want %d", n, taggedPeople-half)
	}
	r.want(r.count("city"), `"ttl_seconds":2592000,"holders":3000,`+
		`"values":[{"value":"north","holders":1500},{"value":"south","holders":1500}]`)
	_, body = r.members("city/members?is=south", "text/csv",
		"user_id,expires_at\nu0,2099-01-01T00:00:00Z\nnobody,\nu2\n\"u4\",soon\n\"u6\"\"\n", nil)
	for i, part := range []string{
		`{"line":2,"status":"applied"}`, `"line":3,"status":"rejected","error":{"code":"user_not_found"`,
		`"line":4,"status":"rejected","error":{"code":"invalid_csv"`,
		`"line":5,"status":"rejected","error":{"code":"invalid_value","field":"expires_at"`,
		`"line":6,"status":"rejected","error":{"code":"invalid_csv"`,
	} {
		if lines := strings.Split(body, "\n"); !strings.Contains(lines[i], part) {
			t.Errorf("line %d: %s, want %s", i, lines[i], part)
		}
	}
	_, body, _ = r.do(ask{method: "GET", path: "/v1/users/u0", template: "/v1/users/{id}"})
	r.want(body, `"is":"south","expires_at":"2099-01-01T00:00:00.000Z"`)
	_, body = r.members("city/members?action=remove", "text/csv", "user_id\nu0\nu1\n", nil)
	r.want(body, `{"line":3,"status":"applied"}`)
	r.want(r.count("city"), `"holders":2998`)
	for _, header := range []string{"id\nu0\n", "user_id,user_id\nu0,u0\n", "is\nnorth\n", "\"u\nu0\n"} {
		_, body = r.members("city/members?is=north", "text/csv", header, nil)
		if strings.Count(body, "\n") != 1 || !strings.Contains(body, `"line":1,"status":"rejected"`) {
			t.Errorf("%q: %s", header, body)
		}
	}
}

// A key belongs to the person and the whole question: the query is part of it, the
// place in the body is not.
func TestTagKey(t *testing.T) {
	r := startTagged(t)
	r.members("brand%2Fvip/members", "application/json", `{"add":["u1","u2","u3"]}`, nil)
	f := func(query, kind, body, key, part string) {
		t.Helper()
		_, got := r.members(query, kind, body, map[string]string{"Idempotency-Key": key})
		r.want(got, part)
	}
	const csv, list = "text/csv", "application/json"
	const vip, city = "brand%2Fvip/members", "city/members"
	f(vip, csv, "user_id\nu1\n", "a", `"status":"applied"`)
	f(vip, csv, "user_id\nu1\n", "a", `"status":"duplicate"`)
	f(vip, csv, "user_id\nu9\nu1\n", "a", `{"line":3,"status":"duplicate"}`)
	f(vip+"?action=remove", csv, "user_id\nu1\n", "a", `"code":"id_reused"`)
	f(vip+"?ttl=1d", csv, "user_id\nu1\n", "a", `"code":"id_reused"`)
	f(vip+"?source=model", csv, "user_id\nu1\n", "a", `"code":"id_reused"`)
	f(city+"?is=north", csv, "user_id\nu1\n", "a", `"code":"id_reused"`)
	f(city, csv, "user_id,is\nu1,north\n", "b", `"status":"applied"`)
	f(city, csv, "user_id,is\nu1,south\n", "b", `"code":"id_reused"`)
	f(city, csv, "user_id,is\nu5,north\nu1,south\n", "b", `"code":"id_reused"`)
	f(vip, list, `{"add":["u1"]}`, "c", `"applied":1`)
	f(vip, list, `{"add":["u1"]}`, "c", `"duplicates":1`)
	f(vip+"?ttl=1d", list, `{"add":["u1"]}`, "c", `"code":"id_reused"`)
	f(vip, list, `{"add":["u2","u1"]}`, "c", `{"field":"add[1]","code":"id_reused"`)
	f(vip, list, `{"remove":["u1"]}`, "c", `{"field":"remove[0]","code":"id_reused"`)
	f(vip, list, `{"add":["u1"],"remove":["u1"]}`, "c", `"applied":0,"duplicates":0,"rejected":2`)
	f(vip, list, `{"add":["u3"],"remove":["u3"]}`, "d", `"applied":2`)
	f(vip, list, `{"add":["u3"],"remove":["u3"]}`, "d", `"duplicates":2`)
}

// A bitmap is checked whole before anything is changed.
func TestTagBitmap(t *testing.T) {
	r := startTagged(t)
	set := roaring64.New()
	people, err := r.engine.People(t.Context(), &engine.PeopleQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range people.Groups {
		for _, o := range g.Ords.ToArray()[:20] {
			set.Add(uint64(g.Group)<<32 | uint64(o))
		}
	}
	n := set.GetCardinality()
	var raw bytes.Buffer
	if _, err := set.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	send := func(query string, data []byte, key string) (int, string) {
		t.Helper()
		crc := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
		header := map[string]string{
			"Tact-Crc32c": fmt.Sprintf("%08x", crc), "Tact-Ordinals": r.engine.OrdinalMap(),
		}
		if key != "" {
			header["Idempotency-Key"] = key
		}
		return r.members(query, "application/octet-stream", string(data), header)
	}
	// Broken containers: every cut and every flipped byte is refused or is another
	// bitmap; nothing may panic.
	for i := range raw.Len() {
		if status, body := send("brand%2Fvip/members?action=remove", raw.Bytes()[:i],
			""); status != 422 {
			t.Fatalf("cut at %d: %d %s", i, status, body)
		}
	}
	if status, body := r.members("brand%2Fvip/members", "application/octet-stream", raw.String(),
		map[string]string{"Tact-Crc32c": "00000000"}); status != 422 {
		t.Errorf("%d %s", status, body)
	}
	beyond := roaring64.New()
	beyond.Add(1<<32 | 5_000_000)
	var wide bytes.Buffer
	if _, err := beyond.WriteTo(&wide); err != nil {
		t.Fatal(err)
	}
	_, body := send("brand%2Fvip/members", wide.Bytes(), "")
	r.want(body, "group 1 has no ordinal 5000000")
	r.want(r.count("brand%2Fvip"), `"holders":0`)

	want := func(query, key, part string) {
		t.Helper()
		status, body := send(query, raw.Bytes(), key)
		if status != 200 || !strings.Contains(body, part) {
			t.Errorf("%s: %d %s, want %s", query, status, body, part)
		}
	}
	want("brand%2Fvip/members", "b", fmt.Sprintf(`"applied":%d,"duplicates":0`, n))
	want("brand%2Fvip/members", "b", fmt.Sprintf(`"applied":0,"duplicates":%d`, n))
	r.want(r.count("brand%2Fvip"), fmt.Sprintf(`"holders":%d`, n))
	want("brand%2Fvip/members?action=remove", "", fmt.Sprintf(`"applied":%d`, n))
	want("city/members?is=south", "", fmt.Sprintf(`"applied":%d`, n))
	_, all, _ := r.do(ask{method: "GET", path: "/v1/tags"})
	var list struct {
		Tags []struct {
			Tag, Tier string
			Holders   uint64
			Values    []struct {
				Value   string
				Holders uint64
			}
		}
	}
	if err := json.Unmarshal([]byte(all), &list); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(list.Tags)
	if want := fmt.Sprintf("[{brand/vip  0 []} {city  %d [{north 0} {south %d}]} "+
		"{ rfm 3000 [{low 3000} {high 0}]}]", n, n); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, all, _ = r.do(ask{method: "GET", path: "/v1/tags?namespace=brand"})
	r.want(all, `{"tags":[{"tag":"brand/vip","namespace":"brand","owner":"crm",`+
		`"description":{"en":"VIP","zh":"贵宾"},"declared":true,"holders":0}]}`)
}
