package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tact/engine"
	"tact/engine/definition"
)

const pageRequest = `{"request_id":"5f0f6a0e-9a55-4a49-8f1e-1c7d2b5a7f10",` +
	`"user":{"user_id":"u-000000042","identities":[{"type":"device","value":"d-99"}]},` +
	`"placements":[{"key":"hero","placement_id":"home_hero","count":2,"block":["brand_story"]},` +
	`{"key":"side","placement_id":"home_side","policy_id":"side"}],` +
	`"context":{"page":"home","device":"ios","amount":129.5,"new":true,"tags":["a","b"]},` +
	`"dedupe":"offer_group","explain":"winners","timeout_us":15000}`

func TestDecide(t *testing.T) {
	var d Decoder
	var req engine.DecideRequest
	if fault := d.Decide([]byte(pageRequest), &req); fault != nil {
		t.Fatal(fault)
	}
	got := fmt.Sprintf("%s|%s|%s=%s|%s %s %s %d %s %s|%s %s %s %d|%d %d %d %v", req.RequestID,
		req.UserID, req.Identities[0].Type, req.Identities[0].Value,
		req.Placements[0].Key, req.Placements[0].PlacementID, req.Placements[0].PolicyID,
		req.Placements[0].Count, req.Placements[0].Allow, req.Placements[0].Block,
		req.Placements[1].Key, req.Placements[1].PlacementID, req.Placements[1].PolicyID,
		req.Placements[1].Count, req.Dedupe, req.Explain, len(req.Context), req.Timeout)
	want := "5f0f6a0e-9a55-4a49-8f1e-1c7d2b5a7f10|u-000000042|device=d-99|" +
		"hero home_hero  2 [] [brand_story]|side home_side side 0|1 1 5 15ms"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if string(req.Context[2].Value.Text) != "129.5" || !req.Context[3].Value.Bool ||
		string(req.Context[4].Value.List[1]) != "b" {
		t.Errorf("context: %v", req.Context)
	}
}

func TestDecideRareMembers(t *testing.T) {
	src := `{"placements":[{"placement_id":"p"}],"mode":"preview","revision":7,` +
		`"inline_profile":{"attributes":{"age":3},"tags":["vip"]},"include":[],` +
		`"force":{"assign":{"hero_copy":"bold"}},"now":"2026-11-22T02:00:01.5Z"}`
	var d Decoder
	var req engine.DecideRequest
	if fault := d.Decide([]byte(src), &req); fault != nil {
		t.Fatal(fault)
	}
	at := time.Date(2026, 11, 22, 2, 0, 1, 5e8, time.UTC).UnixMilli()
	if req.Mode != engine.ModePreview || req.Revision != 7 || int64(req.Now) != at ||
		req.Inline == nil || string(req.Inline.Tags[0].Name) != "vip" ||
		string(req.Assign[0].Value.Text) != "bold" || string(req.Placements[0].Key) != "p" {
		t.Errorf("got %+v", req)
	}
	if fault := d.Decide([]byte(pageRequest), &req); fault != nil || req.Inline != nil ||
		req.Revision != 0 || len(req.Assign) != 0 || req.Now != 0 {
		t.Errorf("the request before shows through: %v %+v", fault, req)
	}
}

func TestDecideFaults(t *testing.T) {
	f := func(src, code, field string) {
		t.Helper()
		var d Decoder
		var req engine.DecideRequest
		checkFault(t, src, d.Decide([]byte(src), &req), code, field)
	}
	const p = `"placements":[{"placement_id":"p"}]`
	f(`{}`, CodeMissingField, "placements")
	f(`[]`, CodeWrongType, "")
	f(`{"placements":[]}`, CodeMissingField, "placements")
	f(`{"placements":[{}]}`, CodeMissingField, "placements[0].placement_id")
	f(`{"placements":[{"placement_id":"a"},{"placement_id":"a"}]}`, CodeInvalidValue,
		"placements[1].key")
	f(`{"placements":[{"placement_id":7}]}`, CodeWrongType, "placements[0].placement_id")
	f(`{"placements":[{"placement_id":""}]}`, CodeInvalidValue, "placements[0].placement_id")
	f(`{"placements":[{"placement_id":"a","count":21}]}`, CodeNumber, "placements[0].count")
	f(`{"placements":[{"placement_id":"a","count":1.5}]}`, CodeWrongType, "placements[0].count")
	f(`{"placements":[{"placement_id":"a","block":["b",1]}]}`, CodeWrongType,
		"placements[0].block[1]")
	f(`{"placements":[`+strings.Repeat(`{"placement_id":"p"},`, 65)+`{}]}`, CodeInvalidValue,
		"placements[1].key")
	f(`{`+p+`,"placement":1}`, CodeUnknownField, "placement")
	f(`{`+p+`,"user":{"id":"u"}}`, CodeUnknownField, "user.id")
	f(`{`+p+`,"user":"u"}`, CodeWrongType, "user")
	f(`{`+p+`,"user":{"identities":[{"type":"a"}]}}`, CodeMissingField, "user.identities[0].value")
	f(`{`+p+`,"dedupe":"offers"}`, CodeInvalidValue, "dedupe")
	f(`{`+p+`,"mode":"dry_run","revision":3}`, CodeInvalidValue, "revision")
	f(`{`+p+`,"include":["x"]}`, CodeInvalidValue, "include")
	f(`{`+p+`,"timeout_us":0}`, CodeNumber, "timeout_us")
	f(`{`+p+`,"timeout_us":9007199254740993}`, CodeNumber, "timeout_us")
	f(`{`+p+`,"now":"yesterday"}`, CodeInvalidValue, "now")
	f(`{`+p+`,"force":{"assign":{"e":1}}}`, CodeWrongType, "force.assign.e")
	f(`{`+p+`,"inline_profile":{"user_id":"u"}}`, CodeUnknownField, "inline_profile.user_id")
	f(`{`+p+`,"context":{"a":1,"a":2}}`, CodeDuplicate, "context.a")
	f(`{`+p+`,"context":`+strings.Repeat(`{"a":`, 40), CodeTooDeep,
		"context"+strings.Repeat(".a", 31))
	f(`{`+p+`} x`, CodeTrailingBytes, "")
	f(`{`+p, CodeTruncated, "placements")
}

func checkFault(t *testing.T, src string, got *Fault, code, field string) {
	t.Helper()
	switch {
	case got == nil:
		t.Errorf("%q was accepted", src)
	case got.Code != code || got.Field != field:
		t.Errorf("%q: got %s field %q, want %s field %q", src, got.Code, got.Field, code, field)
	case got.Detail == "" || !strings.HasPrefix(got.Error(), code):
		t.Errorf("%q: %v says too little", src, got)
	}
}

const userLine = `{"user_id":"u1","identities":[{"type":"email","value":"a@example.com"}],
 "attributes":{"first_name":"小雨","gender":null,"n":3},"tags":["vip",{"tag":"city_tier","is":"1"}],
 "tags_remove":["old"],
 "consents":[{"purpose":"marketing","channel":"sms","granted":true,"at":"2026-01-02T03:04:05Z",
 "source":"app"}],"blacklist":["call"],"timezone":"Asia/Shanghai","locale":null,
 "addresses":{"email":"a@example.com","sms":null,"push":["t1","t2"]}}`

func TestUser(t *testing.T) {
	var d Decoder
	var doc engine.UserDoc
	if fault := d.User([]byte(userLine), &doc); fault != nil {
		t.Fatal(fault)
	}
	got := fmt.Sprintf("%s %s %s|%s %d %s|%s %s|%v %s|%s %s %v %d|%v %s|%v %s|%v %q|%s%s %s%s %s%s",
		doc.UserID, doc.Identities[0].Type, doc.Identities[0].Value,
		doc.Attributes[0].Value.Text, doc.Attributes[1].Value.Kind, doc.Attributes[2].Name,
		doc.Tags[0].Name, doc.Tags[1].Is, doc.TagsSet, doc.TagsRemove,
		doc.Consents[0].Purpose, doc.Consents[0].Source, doc.Consents[0].Granted,
		int64(doc.Consents[0].At), doc.HasBlacklist, doc.Blacklist, doc.HasTimezone, doc.Timezone,
		doc.HasLocale, doc.Locale, doc.Addresses[0].Channel, doc.Addresses[0].Values,
		doc.Addresses[1].Channel, doc.Addresses[1].Values,
		doc.Addresses[2].Channel, doc.Addresses[2].Values)
	want := `u1 email a@example.com|小雨 0 n|vip 1|false [old]|marketing app true 1767323045000|` +
		`true [call]|true Asia/Shanghai|true ""|email[a@example.com] sms[] push[t1 t2]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	f := func(src, code, field string) {
		t.Helper()
		checkFault(t, src, d.User([]byte(src), &doc), code, field)
	}
	f(`{}`, CodeMissingField, "user_id")
	f(`{"user_id":"u","tags":["a"],"tags_set":[]}`, CodeInvalidValue, "tags_set")
	f(`{"user_id":"u","tags":[1]}`, CodeWrongType, "tags[0]")
	f(`{"user_id":"u","tags":[{"is":"x"}]}`, CodeMissingField, "tags[0].tag")
	f(`{"user_id":"u","consents":[{"purpose":"p","channel":"c"}]}`, CodeMissingField,
		"consents[0].granted")
	f(`{"user_id":"u","addresses":{"email":5}}`, CodeWrongType, "addresses.email")
	f(`{"user_id":"u","blacklist":null}`, CodeWrongType, "blacklist")
	f(`{"user_id":"u","tag":[]}`, CodeUnknownField, "tag")
	f(`{"user_id":"u","attributes":{"a":{"b":1,"b":2}}}`, CodeDuplicate, "attributes.a.b")
}

func TestEvent(t *testing.T) {
	src := `{"event_id":"e1","user_id":"u1","event":"order_completed",
 "occurred_at":"2026-11-20T09:30:00+08:00",
 "properties": {"amount": 129.0, "big": 9007199254740993, "items": [ {"sku": "s 1"} ], "l":["a"] } }`
	var d Decoder
	var doc engine.EventDoc
	if fault := d.Event([]byte(src), &doc); fault != nil {
		t.Fatal(fault)
	}
	raw := `{"amount":129.0,"big":9007199254740993,"items":[{"sku":"s 1"}],"l":["a"]}`
	if string(doc.Raw) != raw {
		t.Errorf("raw: %s", doc.Raw)
	}
	if len(doc.Properties) != 4 || string(doc.Properties[1].Value.Text) != "9007199254740993" ||
		string(doc.Properties[2].Value.Text) != `[{"sku":"s 1"}]` ||
		string(doc.Properties[3].Value.List[0]) != "a" || int64(doc.OccurredAt) != 1763602200000+31536000000 {
		t.Errorf("got %+v", doc)
	}
	f := func(src, code, field string) {
		t.Helper()
		checkFault(t, src, d.Event([]byte(src), &doc), code, field)
	}
	f(`{"user_id":"u"}`, CodeMissingField, "event")
	f(`{"event":"e"}`, CodeMissingField, "user_id")
	f(`{"event":"e","user_id":"u","properties":[]}`, CodeWrongType, "properties")
	f(`{"event":"e","user_id":"u","properties":{"a":1`, CodeTruncated, "properties.a")
}

// What EventBehind reads stays as it is while lines are read behind it, refused ones too.
func TestEventBehind(t *testing.T) {
	var d, alone Decoder
	var docs [200]engine.EventDoc
	want := make([]string, len(docs))
	for i := range docs {
		src := fmt.Appendf(nil, `{"event_id":"e\u0031%d","user_id":"u\n%d","event":"\u4e0b\u5355",`+
			`"identities":[{"type":"email","value":"a\t%d"}],`+
			`"properties":{"s": "x\"%d", "l":["a%d","\u0062"], "n":%d}}`, i, i, i, i, i, i)
		var doc engine.EventDoc
		if fault := alone.Event(src, &doc); fault != nil {
			t.Fatal(fault)
		}
		want[i] = fmt.Sprintf("%+v", doc)
		read := d.EventBehind
		if i == 0 {
			read = d.Event
		}
		if fault := read(src, &docs[i]); fault != nil {
			t.Fatal(fault)
		}
		var refused engine.EventDoc
		if fault := d.EventBehind(src[:len(src)-1-i%20], &refused); fault == nil {
			t.Fatal("a cut line is taken")
		}
	}
	for i := range docs {
		if got := fmt.Sprintf("%+v", docs[i]); got != want[i] {
			t.Errorf("line %d: %s, want %s", i, got, want[i])
		}
	}
}

func TestOutcome(t *testing.T) {
	var d Decoder
	var doc engine.OutcomeDoc
	src := `{"event_id":"o1","tracking_token":"tok","outcome":"convert","value":12.5}`
	if fault := d.Outcome([]byte(src), &doc); fault != nil || doc.Value != 12.5 || !doc.HasValue ||
		string(doc.Token) != "tok" {
		t.Errorf("%v %+v", fault, doc)
	}
	src = `{"event_id":"o1","decision_id":"00","key":"hero","offer_id":"x","outcome":"click"}`
	if fault := d.Outcome([]byte(src), &doc); fault != nil || doc.HasValue ||
		string(doc.Placement) != "hero" {
		t.Errorf("%v %+v", fault, doc)
	}
	f := func(src, code, field string) {
		t.Helper()
		checkFault(t, src, d.Outcome([]byte(src), &doc), code, field)
	}
	f(`{"tracking_token":"t"}`, CodeMissingField, "outcome")
	f(`{"outcome":"click"}`, CodeMissingField, "tracking_token")
	f(`{"outcome":"click","tracking_token":"t","decision_id":"d"}`, CodeInvalidValue, "decision_id")
	f(`{"outcome":"c","tracking_token":"t","value":9007199254740993}`, CodeNumber, "value")
	f(`{"outcome":"c","tracking_token":"t","value":1e999}`, CodeNumber, "value")
	f(`{"outcome":"c","tracking_token":"t","value":"1"}`, CodeWrongType, "value")
}

func TestMembersAndBundle(t *testing.T) {
	var d Decoder
	var m Members
	if fault := d.Members([]byte(`{"add":["a","b"],"remove":[]}`), &m); fault != nil ||
		string(m.Add[1]) != "b" || len(m.Remove) != 0 {
		t.Errorf("%v %s", fault, m)
	}
	checkFault(t, "members", d.Members([]byte(`{"ad":[]}`), &m), CodeUnknownField, "ad")
	in := []definition.File{{Name: "a.yaml", Content: []byte("kind: tag\nid: \"x\"\n")}}
	out := AppendFiles(nil, 3, in)
	src := strings.Replace(string(out), `"revision":3`, `"note":"n"`, 1)
	var b Bundle
	if fault := d.Bundle([]byte(src), &b); fault != nil || b.Note != "n" ||
		string(b.Files[0].Content) != string(in[0].Content) || b.Files[0].Name != "a.yaml" {
		t.Errorf("%v %+v", fault, b)
	}
	f := func(src, code, field string) {
		t.Helper()
		checkFault(t, src, d.Bundle([]byte(src), &b), code, field)
	}
	f(`{"note":"x"}`, CodeMissingField, "files")
	f(`{"files":[{"name":"a"}]}`, CodeMissingField, "files[0].content")
	f(`{"files":[{"name":"a","content":""},{"name":"a","content":""}]}`, CodeInvalidValue,
		"files[1].name")
}

// FuzzDecoders: no input makes a decoder panic, and a cut input is never accepted.
func FuzzDecoders(f *testing.F) {
	f.Add([]byte(pageRequest), 10)
	f.Add([]byte(userLine), 40)
	f.Add([]byte(`{"event":"e","user_id":"u","properties":{"a":[1, 2]}}`), 20)
	f.Add([]byte(`{"files":[{"name":"a","content":"b"}]}`), 9)
	f.Fuzz(func(t *testing.T, src []byte, cut int) {
		var d Decoder
		var req engine.DecideRequest
		var user engine.UserDoc
		var event engine.EventDoc
		var outcome engine.OutcomeDoc
		var m Members
		var b Bundle
		all := func(src []byte) [6]*Fault {
			return [6]*Fault{
				d.Decide(src, &req), d.User(src, &user), d.Event(src, &event),
				d.Outcome(src, &outcome), d.Members(src, &m), d.Bundle(src, &b),
			}
		}
		whole := all(src)
		if cut < 0 || cut >= len(src) || src[len(src)-1] != '}' {
			return
		}
		part := all(src[:cut])
		for i := range whole {
			if whole[i] == nil && part[i] == nil {
				t.Errorf("decoder %d accepts %q and its start %q", i, src, src[:cut])
			}
		}
	})
}

func TestDecideDoesNotAllocate(t *testing.T) {
	src := []byte(pageRequest)
	escaped := []byte(strings.Replace(pageRequest, `"home"`, `"h\u00f6me"`, 1))
	var d Decoder
	var req engine.DecideRequest
	n := testing.AllocsPerRun(200, func() {
		if d.Decide(src, &req) != nil || d.Decide(escaped, &req) != nil {
			t.Fatal("refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkEvent reads a line of 140 bytes with two properties.
func BenchmarkEvent(b *testing.B) {
	src := []byte(`{"event_id":"bench-1234567","user_id":"user-123456","event":"event_3",` +
		`"occurred_at":"2026-11-20T09:30:00Z","properties":{"amount":12345,"sku":"a-77"}}`)
	var d Decoder
	var doc engine.EventDoc
	b.ReportAllocs()
	for b.Loop() {
		if fault := d.Event(src, &doc); fault != nil {
			b.Fatal(fault)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	src := []byte(pageRequest)
	var d Decoder
	var req engine.DecideRequest
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if d.Decide(src, &req) != nil {
			b.Fatal("refused")
		}
	}
}
