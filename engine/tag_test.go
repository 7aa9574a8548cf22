package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

const tagDefinitions = `
kind: tag
id: vip
ttl: 1h
---
kind: tag
id: city
values: [north, south]
---
kind: tag
id: guest
namespace: brand_a
owner: crm
description: {en: Guests of brand A, zh: 品牌A访客}
---
kind: tag
id: guest
namespace: brand_b
---
kind: tier
id: rfm
levels: [low, mid, high]
---
kind: offer
message_class: marketing
id: lounge
eligibility: {any: [{tag: vip}, {tag: brand_a/guest}, {tier: rfm, gte: mid}]}
treatments: [{id: w, channel: web, content: {type: json, body: {title: x}}}]
---
kind: offer
message_class: marketing
id: north
eligibility: {tag: city, is: north}
treatments: [{id: w, channel: web, content: {type: json, body: {title: x}}}]
---
kind: placement
sticky: none
id: hero
channel: web
policy: p
---
kind: decision_policy
id: p
candidates: {offers: all}
ranking: {by: order, offers: [lounge, north]}
`

// moveTags moves the tags of the next n people of every group to their new names.
func (b *bed) moveTags(n int) {
	b.t.Helper()
	for i := range b.e.store.Groups() {
		g := b.e.store.Group(storage.GroupID(i))
		g.Lock()
		_, err := b.e.moveTags(g, b.e.snap.Load(), n)
		g.Unlock()
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bed) tag(user string, tags ...TagDoc) {
	b.t.Helper()
	b.user(UserDoc{UserID: []byte(user), Tags: tags})
}

func tagOf(name string) TagDoc { return TagDoc{Name: []byte(name)} }

// tags renders the tags of a person: tag[=value]@source, the levels of models and
// the history.
func (b *bed) tags(user string) string {
	b.t.Helper()
	v, err := b.e.User([]byte(user))
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, t := range v.Tags {
		out = append(out, t.Tag+"="+t.Is+"@"+t.Source)
	}
	for _, t := range v.Tiers {
		out = append(out, "tier "+t.Tag+"="+t.Is+"@"+t.Source)
	}
	for _, h := range v.TagHistory {
		text := h.Tag + h.Tier + "=" + h.Is + "@" + h.Source
		if h.Ended != 0 {
			text += fmt.Sprintf(" %s after %d s by %s", h.How, h.Ended-h.Set, h.By)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// A tag runs out at its second, by the document, by a ttl or by a time of the
// line; before and after the sweep and a restart all say the same.
func TestTagRunsOut(t *testing.T) {
	b := newBed(t, tagDefinitions)
	hero := b.decideReq("u1", "hero")
	end := (b.e.Now()/1000 + 3600) * 1000
	b.tag("u1", tagOf("vip"))
	b.want(hero, "lounge")
	b.m.pass(time.Duration(end-1-b.e.Now()) * time.Millisecond)
	b.want(hero, "lounge")
	wantText(t, b.tags("u1"), "vip=@manual; vip=@manual")
	b.m.pass(time.Millisecond)
	b.want(hero, "none: ineligible")
	const gone = "vip=@manual expired after 3600 s by "
	wantText(t, b.tags("u1"), gone)
	b.e.sweepTags()
	wantText(t, b.tags("u1"), gone)
	b.reopen()
	wantText(t, b.tags("u1"), gone)
	b.want(hero, "none: ineligible")

	b.tag("u1", TagDoc{Name: []byte("vip"), TTL: []byte("30s"), Source: []byte("model")})
	b.tag("u2", TagDoc{Name: []byte("vip"), ExpiresAt: b.e.Now() + 60_000})
	b.m.pass(29 * time.Second)
	b.want(hero, "lounge")
	b.m.pass(time.Second)
	b.want(hero, "none: ineligible")
	b.want(b.decideReq("u2", "hero"), "lounge")
	b.tag("u1", tagOf("vip")) // again, before the sweep
	wantText(t, b.tags("u1"), "vip=@manual; vip=@manual; vip=@model expired after 30 s by ; "+gone)
	if err := b.e.store.Check(); err != nil {
		t.Error(err)
	}
}

// Sources are kept with the tags; tags_set leaves the levels of models alone.
func TestTagSources(t *testing.T) {
	b := newBed(t, tagDefinitions)
	b.user(UserDoc{
		UserID: []byte("u1"), Source: []byte("import"),
		Tags:  []TagDoc{{Name: []byte("city"), Is: []byte("south")}, tagOf("brand_a/guest")},
		Tiers: []TierDoc{{[]byte("rfm"), []byte("low")}},
	})
	b.want(b.decideReq("u1", "hero"), "lounge")
	b.user(UserDoc{
		UserID: []byte("u1"), Source: []byte("rule"), TagsSet: true,
		Tags: []TagDoc{{Name: []byte("city"), Is: []byte("north")}},
	})
	b.want(b.decideReq("u1", "hero"), "north")
	b.user(UserDoc{
		UserID: []byte("u1"), Source: []byte("model"),
		Tiers: []TierDoc{{[]byte("rfm"), []byte("high")}},
	})
	b.want(b.decideReq("u1", "hero"), "lounge")
	wantText(t, b.tags("u1"), "city=north@rule; tier rfm=high@model; rfm=high@model; "+
		"city=north@rule; rfm=low@import replaced after 0 s by model; "+
		"brand_a/guest=@import cleared after 0 s by rule; "+
		"city=south@import replaced after 0 s by rule")
	b.user(UserDoc{UserID: []byte("u1"), Tiers: []TierDoc{{Tier: []byte("rfm")}}})
	b.want(b.decideReq("u1", "hero"), "north")
	f := func(doc UserDoc, want string) {
		t.Helper()
		doc.UserID = []byte("u1")
		r := b.apply(func(x *Batch) LineResult { return x.User(&doc) })
		var p *Problem
		if !errors.As(r.Err, &p) || p.Code+" "+p.Field != want {
			t.Errorf("got %v, want %s", r.Err, want)
		}
	}
	f(UserDoc{Source: []byte("rumour")}, "unknown_value source")
	f(UserDoc{Tiers: []TierDoc{{[]byte("rfm"), []byte("top")}}}, "unknown_value tiers.rfm")
	f(UserDoc{Tiers: []TierDoc{{[]byte("rf"), []byte("low")}}}, "unknown_tier tiers.rf")
	f(UserDoc{Tags: []TagDoc{{Name: []byte("vip"), TTL: []byte("1y")}}}, "wrong_type tags[0].ttl")
	f(UserDoc{Tags: []TagDoc{{Name: []byte("vip"), ExpiresAt: 1}}},
		"out_of_range tags[0].expires_at")
	f(UserDoc{Tags: []TagDoc{tagOf("\x00rfm")}}, "bad_name tags[0]")
	f(UserDoc{Tags: []TagDoc{{
		Name: []byte("vip"), ExpiresAt: b.e.Now() + 60_000, TTL: []byte("1d"),
	}}}, "wrong_type tags[0].ttl")
}

// A tag that became another is held as that one by the very first decision after
// the publish; its holders move behind it, across a crash, with value, source and
// end; a rule that still names it is refused.
func TestTagsMerge(t *testing.T) {
	b := newBed(t, tagDefinitions)
	const n = 300
	for i := range n {
		b.tag(fmt.Sprint("u", i), TagDoc{
			Name: []byte("brand_a/guest"), TTL: []byte("1d"), Source: []byte("import"),
		})
	}
	b.tag("both", tagOf("brand_a/guest"), TagDoc{Name: []byte("brand_b/guest")})
	merged := strings.Replace(strings.Replace(tagDefinitions,
		"kind: tag\nid: guest\nnamespace: brand_b\n",
		"kind: tag\nid: guest\nformerly: [brand_a/guest, brand_b/guest]\n", 1),
		"kind: tag\nid: guest\nnamespace: brand_a\nowner: crm\n"+
			"description: {en: Guests of brand A, zh: 品牌A访客}\n---\n", "", 1)
	_, faults, _, err := b.e.Publish(testFiles(merged), "test", "", 0)
	if err != nil || len(faults) != 1 || !strings.Contains(faults[0].Message,
		`the tag "brand_a/guest" is "guest" now`) {
		t.Fatalf("%v %v", faults, err)
	}
	merged = strings.Replace(merged, "{tag: brand_a/guest}", "{tag: guest}", 1)
	b.publish(merged)
	users := append([]string{"both"}, "u0", "u7", "u299")
	check := func() {
		t.Helper()
		for _, u := range users {
			b.want(b.decideReq(u, "hero"), "lounge")
		}
	}
	check()
	for range 2 { // a part of the way, then the machine stops
		b.moveTags(9)
		check()
		b.reopen()
		check()
	}
	b.user(UserDoc{UserID: []byte("u7"), TagsRemove: [][]byte{[]byte("guest")}})
	b.want(b.decideReq("u7", "hero"), "none: ineligible")
	users = slices.DeleteFunc(users, func(u string) bool { return u == "u7" })
	b.e.sweepTags()
	check()
	for _, name := range []string{"brand_a/guest", "brand_b/guest"} {
		id, _ := b.e.store.Lookup(storage.DictTag, name)
		for i := range b.e.store.Groups() {
			g := b.e.store.Group(storage.GroupID(i))
			g.Lock()
			if left := slices.Collect(g.Holders(id)); len(left) != 0 {
				t.Errorf("%d hold %s", left, name)
			}
			g.Unlock()
		}
	}
	wantText(t, b.tags("u0"),
		"guest=@import; guest=@import; brand_a/guest=@import merged after 0 s by ")
	v, err := b.e.User([]byte("u0"))
	if err != nil || v.Tags[0].Expires == 0 {
		t.Errorf("the end was lost: %+v, %v", v.Tags, err)
	}
	b.tag("new", tagOf("brand_a/guest")) // a caller who does not know yet
	wantText(t, b.tags("new"), "guest=@manual; guest=@manual")
	if err := b.e.store.Check(); err != nil {
		t.Error(err)
	}
}

// A tag does not become one of another kind, or one without its values.
func TestMergeKeepsValues(t *testing.T) {
	b := newBed(t, tagDefinitions)
	f := func(old, now, want string) {
		t.Helper()
		_, faults, _, err := b.e.Publish(testFiles(strings.Replace(tagDefinitions, old, now, 1)),
			"test", "", 0)
		got := fmt.Sprint(err)
		if len(faults) > 0 {
			got = faults[0].Doc + " " + faults[0].Field + ": " + faults[0].Message
		}
		if got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	f("kind: tag\nid: guest\nnamespace: brand_b",
		"kind: tag\nid: label\nformerly: [vip]",
		`tag/label formerly: the tag "vip" is still defined, at test.yaml:2:1`)
	f("kind: tag\nid: guest\nnamespace: brand_b",
		"kind: tag\nid: label\nformerly: [x]\n---\nkind: tag\nid: other\nformerly: [x]",
		`tag/other formerly: the tag "x" became "label" already, at test.yaml:16:1`)
	f("kind: tag\nid: guest\nnamespace: brand_b",
		"kind: tag\nid: label\nvalues: [a]\nformerly: [brand_b/guest]",
		`tag/label formerly: of "brand_b/guest" and "label" one is a label and one has values`)
	f("namespace: brand_b", "namespace: brand_a",
		`tag/brand_a/guest id: tag "brand_a/guest" is defined twice; the first stands at `+
			`test.yaml:10:1`)
	rest := strings.NewReplacer("{tag: city, is: north}", "{tag: place, is: north}")
	_, faults, _, _ := b.e.Publish(testFiles(rest.Replace(strings.Replace(tagDefinitions,
		"id: city\nvalues: [north, south]", "id: place\nvalues: [north]\nformerly: [city]", 1))),
		"test", "", 0)
	if len(faults) != 1 ||
		faults[0].Message != `the tag "city" has the value "south", which "place" has not` {
		t.Errorf("%v", faults)
	}
}

// A value that a later document of a tag has no more is still held, counted among
// the holders, and shown as undeclared.
func TestCountsOfADroppedValue(t *testing.T) {
	const one = "kind: tag\nid: city\nvalues: [north, south, west]\n"
	b := newBed(t, one)
	for i := range 8 {
		b.tag(fmt.Sprint("u", i), TagDoc{
			Name: []byte("city"), Is: []byte([]string{"north", "south", "west", "west"}[i%4]),
		})
	}
	b.publish("kind: tag\nid: city\nvalues: [north, south]\n")
	c, err := b.e.TagCount([]byte("city"))
	want := []TagValueCount{{"north", 2, true}, {"south", 2, true}, {"west", 4, false}}
	if err != nil || c.Holders != 8 || !slices.Equal(c.Values, want) {
		t.Errorf("%+v, %v", c, err)
	}
	if n := b.people(PeopleQuery{Rule: ruleNode(t, `{"tag":"city"}`)}).Count(); n != c.Holders {
		t.Errorf("%d have it, %d are counted", n, c.Holders)
	}
}

// In the second of its end a tag is not held: not in an export, and it is not
// moved to the tag that it became.
func TestTagEndsInItsSecond(t *testing.T) {
	b := newBed(t, "kind: tag\nid: old\n")
	b.tag("u", TagDoc{Name: []byte("old"), TTL: []byte("10s")})
	held := func(name string) bool {
		x, err := b.e.Export(nil, [][]byte{[]byte(name)})
		if err != nil {
			t.Fatal(err)
		}
		var got bool
		x.Each(b.people(PeopleQuery{}), PeoplePos{}, func(_ PeoplePos, _ []byte, c []Cell) bool {
			got = c[0].Value.Num == 1
			return true
		})
		return got
	}
	v, err := b.e.User([]byte("u"))
	if err != nil || !held("old") {
		t.Fatalf("not held: %v", err)
	}
	end := storage.UnixMsec(v.Tags[0].Expires) * 1000
	b.m.pass(time.Duration(end-b.e.clock.Now()) * time.Millisecond)
	if held("old") {
		t.Error("exported in the second of its end")
	}
	b.publish("kind: tag\nid: new\nformerly: [old]\n")
	b.moveTags(9)
	if _, err = b.e.User([]byte("u")); err != nil || strings.Contains(b.tags("u"), "new=") {
		t.Errorf("moved in the second of its end: %s, %v", b.tags("u"), err)
	}
}
