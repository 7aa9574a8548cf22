package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"tact/engine/definition"
)

// allocated is how many bytes the process takes while f runs, given back or not:
// of the server, and of the client and the checks of the test beside it.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Rules and bitmaps that are wrong, too large or meant to hurt are refused wherever
// they come in, with the place named, in bounded memory; nothing is changed.
func TestBadRulesAndBitmaps(t *testing.T) {
	r := start(t, Options{})
	r.publish()
	r.fill(600) // eight of the first group are named below
	state := func() string {
		_, everybody := r.post("/v1/segments:count", `{"rule":{}}`)
		_, vips := r.post("/v1/segments:count", `{"segment":"vips"}`)
		var a, b struct {
			Revision int `json:"config_version"`
			Users    int
		}
		if json.Unmarshal([]byte(everybody), &a) != nil || json.Unmarshal([]byte(vips), &b) != nil {
			t.Fatalf("%s %s", everybody, vips)
		}
		return fmt.Sprint(a, b)
	}
	before := state()
	f := func(a ask, want string) {
		t.Helper()
		a.kind = "application/json"
		var status int
		var reply string
		bytes := allocated(func() { status, reply, _ = r.do(a) })
		if status < 400 || status >= 500 || !strings.Contains(reply, want) {
			t.Errorf("%s %.90s: %d %.300s; want %s", a.path, a.body, status, reply, want)
		}
		if bound := uint64(600*len(a.body) + 16<<20); bytes > bound {
			t.Errorf("%s %.90s: %d bytes took %d, more than %d", a.path, a.body, len(a.body), bytes, bound)
		}
		if now := state(); now != before {
			t.Fatalf("%s %.90s changed something: %s, before %s", a.path, a.body, now, before)
		}
	}
	post := func(path, body string) ask { return ask{method: "POST", path: path, body: body} }
	for text, field := range badRules() {
		want := `"field":"` + field
		f(post("/v1/segments:count", `{"rule":`+text+`}`), want)
		f(post(queryPath, `{"rule":`+text+`,"format":"count"}`), want)
		fill := post("/v1/segments/vips/members:fill", `{"rule":`+text+`,"mode":"replace"}`)
		fill.template = "/v1/segments/{id}/members:fill"
		f(fill, want)
		f(publishOf(t, "kind: segment\nid: bad\nrule: "+text), `segment/bad`)
		f(publishOf(t, offerWith(text)), `offer/bad`)
	}
	f(publishOf(t, "kind: segment\nid: a\nrule: {segment: b}\n---\nkind: segment\nid: b\nrule: "+
		"{any: [{segment: c}]}\n---\nkind: segment\nid: c\nrule: {not: {segment: a}}"), `"field":"rule`)
	bitmaps := r.badBitmaps()
	if status, reply := r.post(queryPath, bitmaps["good"]); status != 200 {
		t.Fatalf("%d %s", status, reply)
	}
	delete(bitmaps, "good")
	for name, body := range bitmaps {
		for path, template := range map[string]string{
			queryPath: "", "/v1/segments/vips/members:fill": "/v1/segments/{id}/members:fill",
		} {
			a := post(path, body)
			a.template = template
			f(a, `"field":"members.roaring"`)
			if t.Failed() {
				t.Fatal("the bitmap with " + name)
			}
		}
	}
	r.alive()
}

// badRules are rules with the field that is wrong.
func badRules() map[string]string {
	many := func(one string, n int) string { return strings.Repeat(one+",", n-1) + one }
	name := func(comparison string) string { return `{"attribute":"first_name",` + comparison + `}` }
	return map[string]string{
		`{"attribute":"first_nam","is":"x"}`:                     "rule.attribute",
		name(`"iz":"x"`):                                         "rule.iz",
		name(`"is":5`):                                           "rule.is",
		name(`"gte":"a"`):                                        "rule.gte",
		`{"all":[{"segment":"vips"},{"segment":"vip"}]}`:         "rule.all[1].segment",
		`{"any":[` + many(`{"segment":"vips"}`, 10_000) + `]}`:   "rule.any[9999]",
		`{"any":[` + many(`{"x":1}`, 3_000) + `]}`:               "rule.any[0].x",
		name(`"in":[` + many(`"a"`, 100_001) + `]`):              "rule.in",
		name(`"matches":"((a{1,100}){1,100}){1,100}"`):           "rule.matches",
		name(`"matches":"(((("`):                                 "rule.matches",
		name(`"matches":"` + strings.Repeat("(a|b)*", 60) + `"`): "rule.matches",
		name(`"matches":"` + strings.Repeat("(", 99) + strings.Repeat(")", 99) + `{1000}"`): "rule.matches",
	}
}

func offerWith(rule string) string {
	return "kind: offer\nid: bad\nmessage_class: marketing\neligibility: " + rule +
		"\ntreatments: [{id: w, channel: web, placements: [home], content: {type: text, body: x}}]"
}

// publishOf publishes a document beside those of the test.
func publishOf(t *testing.T, document string) ask {
	files := append(testFiles(), definition.File{Name: "bad.yaml", Content: []byte(document)})
	return ask{method: "PUT", path: "/v1/definitions", body: bundleOf(t, files)}
}

// badBitmaps are bodies with bitmaps that are broken, with the right sum; "good" is
// the bitmap that they were.
func (r *running) badBitmaps() map[string]string {
	_, _, header := r.do(ask{
		method: "POST", path: queryPath, kind: "application/json",
		body: `{"rule":{},"format":"roaring"}`,
	})
	body := func(data []byte) string {
		sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
		return fmt.Sprintf(`{"members":{"ordinals":%q,"crc32c":"%08x","roaring":%q}}`,
			header.Get("Tact-Ordinals"), sum, base64.StdEncoding.EncodeToString(data))
	}
	// groups u64 | group u32 | cookie u32 | containers u32 | key u16 | cardinality-1 u16 |
	// offset u32 | ordinals u16 each                                     little-endian
	good := roaring64.BitmapOf(0, 2, 4, 5, 7)
	data, err := good.MarshalBinary()
	if err != nil || len(data) != 38 {
		r.t.Fatal(len(data), err)
	}
	with := func(at int, change ...byte) string {
		broken := slices.Clone(data)
		copy(broken[at:], change)
		return body(broken)
	}
	return map[string]string{
		"good":                  body(data),
		"cut":                   body(data[:len(data)-1]),
		"nothing":               body(nil),
		"more behind":           body(append(slices.Clone(data), 0)),
		"too many groups":       with(0, 0xFF, 0xFF, 0xFF, 0xFF),
		"groups alone":          body([]byte{0, 0, 0, 0, 1, 0, 0, 0}),
		"no such group":         with(8, 99),
		"no cookie":             with(12, 1, 2, 3, 4),
		"too many containers":   with(16, 0xFF, 0xFF, 0xFF, 0x7F),
		"no such ordinals":      with(20, 0, 0x10),
		"too many ordinals":     with(22, 0xFF, 0xFF),
		"too few ordinals":      with(22, 1, 0),
		"ordinals out of order": with(28, 9, 0),
		"an ordinal twice":      with(30, 0, 0),
	}
}
