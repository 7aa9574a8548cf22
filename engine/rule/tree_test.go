package rule

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tact/storage"
)

// A comparison of a property of the elements of a list holds when it holds for one
// of them; sums take all of them.
func TestElements(t *testing.T) {
	const now = "2024-03-10T12:00:00Z"
	f := func(want bool, rule string, facts ...string) {
		t.Helper()
		if got := ask(t, rule, now, facts...); got != want {
			t.Errorf("%s with %q: %v", rule, facts, got)
		}
	}
	shoes := "order 2024-03-09T10:00:00Z items[].sku=shoes|socks items[].price=80|7.5"
	hats := "order 2024-03-10T10:00:00Z items[].sku=hat items[].price=20"
	none := "order 2024-03-10T11:00:00Z"
	where := func(c string) string {
		return `{"event":"order","where":[{"property":"items[].` + c + `}]}`
	}
	f(true, where(`sku","is":"socks"`), shoes)
	f(false, where(`sku","is":"socks"`), hats)
	f(false, where(`sku","is":"socks"`), none)
	f(true, where(`sku","is_not":"socks"`), none) // none of its elements is
	f(false, where(`sku","is_not":"socks"`), shoes)
	f(true, where(`price","gt":50`), shoes)
	f(true, where(`price","lt":10`), shoes)
	f(false, where(`price","between":[10,50]`), shoes)
	f(true, where(`sku","is_set":true`), hats)
	f(true, where(`sku","is_set":false`), none)
	f(true, `{"event":"order","sum":{"is":107.5},"of":"items[].price"}`, shoes, hats, none)
	f(true, `{"event":"order","max":{"is":80},"of":"items[].price"}`, shoes, hats)
	f(true, `{"event":"order","min":{"is":7.5},"of":"items[].price"}`, shoes, hats)
	f(true, `{"event":"order","avg":{"is":43.75},"of":"items[].price"}`, shoes)
	f(false, `{"event":"order","avg":{"gte":0},"of":"items[].price"}`, none)
}

// Different elements are told apart by value, up to MaxElements of them.
func TestDistinctElements(t *testing.T) {
	const now = "2024-03-10T12:00:00Z"
	f := func(want bool, comparison string, facts ...string) {
		t.Helper()
		rule := `{"event":"order","distinct":{` + comparison + `},"of":"items[].price"}`
		if got := ask(t, rule, now, facts...); got != want {
			t.Errorf("%s with %d facts: %v", rule, len(facts), got)
		}
	}
	f(true, `"is":0`)
	f(true, `"is":0`, "order 2024-03-09T10:00:00Z items[].price=x")
	f(true, `"is":2`, "order 2024-03-09T10:00:00Z items[].price=7.5|7.50|0.75e1|0|-0|x",
		"order 2024-03-09T11:00:00Z items[].price=0.0")
	var many []string
	for i := range 6 {
		words := make([]string, 200)
		for j := range words {
			words[j] = strconv.Itoa(200*i + j)
		}
		many = append(many, fmt.Sprintf("order 2024-03-09T10:00:0%dZ items[].price=%s", i,
			strings.Join(words, "|")))
	}
	f(true, `"is":1000`, many[:5]...)
	f(true, `"gte":1024`, many...)
	f(false, `"gte":1025`, many...) // there are 1,200: more than are told apart
	f(false, `"lte":5000`, many...)
}

// Words of the calendar in where are judged now, not when the event came.
func TestCalendarInWhere(t *testing.T) {
	const booked = "order 2024-03-01T10:00:00Z due=2024-03-12 slot=2024-03-12T09:00:00Z"
	f := func(want bool, now, comparison string) {
		t.Helper()
		rule := `{"event":"order","where":[{"property":` + comparison + `}]}`
		if got := ask(t, rule, now, booked); got != want {
			t.Errorf("%s at %s: %v", rule, now, got)
		}
	}
	const soon = `"due","within_next":"3d"`
	f(false, "2024-03-09T12:00:00Z", soon)
	f(true, "2024-03-10T12:00:00Z", soon)
	f(true, "2024-03-13T03:59:59Z", soon) // 12 March ends at 04:00 UTC in New York
	f(false, "2024-03-13T04:00:00Z", soon)
	f(true, "2024-03-12T10:00:00Z", `"slot","within_last":"2h"`)
	f(false, "2024-03-12T11:00:00Z", `"slot","within_last":"2h"`)
	f(true, "2024-03-12T10:00:00Z", `"slot","is":"2024-03-12"`)
	f(true, "2024-03-12T10:00:00Z", `"due","before":"2024-03-13"`)
}

// The selector of an outcome: ids and groups name, labels narrow, not leaves out.
func TestOutcomeSelector(t *testing.T) {
	f := func(selector, want string) {
		t.Helper()
		got := ""
		for _, offer := range []string{"coupon", "points", "story"} {
			if ask(t, `{"outcome":"click","offers":`+selector+`}`, "2024-03-10T12:00:00Z",
				"click@"+offer+" 2024-03-10T11:00:00Z") {
				got += offer + " "
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", selector, got, want)
		}
	}
	f(`"all"`, "coupon points story ")
	f(`{"labels":{"season":"autumn"}}`, "coupon points ")
	f(`{"labels":{"season":"autumn","kind":"loyal"}}`, "points ")
	f(`{"groups":["growth"],"labels":{"kind":"loyal"}}`, "points ")
	f(`{"groups":["growth"],"ids":["story"],"not":{"ids":["coupon"]}}`, "points story ")
	f(`{"not":{"labels":{"season":"autumn"}}}`, "story ")
	f(`{"not":"all"}`, "")
	f(`{"not":{"not":{"groups":["brand"]}}}`, "story ")
}

// The hour of the week is read on the person's clock, whatever the request says.
func TestHourOfWeek(t *testing.T) {
	f := func(want bool, zoneName, now, comparison string) {
		t.Helper()
		who := &Who{Now: moment(t, now), Zone: zone(t, zoneName)}
		if got := holds(t, mustParse(t, `{"context":`+comparison+`}`), who, nil); got != want {
			t.Errorf("%s in %s at %s: %v", comparison, zoneName, now, got)
		}
	}
	const sunday = "2026-11-22T16:30:00Z" // Monday 00:30 in Shanghai
	f(true, "Asia/Shanghai", sunday, `"hour_of_week","is":0`)
	f(true, "UTC", sunday, `"hour_of_week","is":160`)
	f(true, "UTC", sunday, `"day_of_week","in":[6,7]`)
	f(false, "Asia/Shanghai", sunday, `"day_of_week","in":[6,7]`)
	f(true, "Asia/Kolkata", sunday, `"hour_of_day","between":[22,23]`) // 22:00
	f(false, "UTC", sunday, `"hour_of_day","is_set":false`)
}

// Everything a rule can say of a request: the app's version, language, place.
func TestRequestContext(t *testing.T) {
	str := func(s string) storage.Value { return text(storage.KindString, s) }
	f := func(want bool, rule string, ctx ...ContextValue) {
		t.Helper()
		if got := holds(t, mustParse(t, rule), &Who{}, ctx); got != want {
			t.Errorf("%s: %v", rule, got)
		}
	}
	f(true, `{"context":"os","gte":"1.9.0"}`, ContextValue{3, text(storage.KindSemver, "1.10.0")})
	f(false, `{"context":"os","gte":"1.10.0"}`,
		ContextValue{3, text(storage.KindSemver, "1.10.0-beta.1")})
	f(false, `{"context":"os","lt":"2"}`) // an unknown version is no old one
	f(true, `{"context":"langs","in":["zh","en"]}`, ContextValue{7, listValue("de", "en")})
	f(true, `{"context":"page","in":["home","cart"]}`, ContextValue{1, str("cart")})
	f(true, `{"context":"page","starts_with":"CN-","fold":true}`, ContextValue{1, str("cn-sh")})
}

// The example of the documentation reads well in both languages, and works.
func TestWomenWhoNeverBoughtNew(t *testing.T) {
	rule := `{"all":[{"attribute":"gender","is":"female"},
		{"event":"order","count":{"gte":2},"within":"30d"},
		{"not":{"event":"order","where":[{"property":"new","is":true}]}}]}`
	tree := mustParse(t, rule)
	g := func(lang, want string) {
		t.Helper()
		if got := tree.Explain(nil, nil, lang); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	g("en", `gender is "female" and order at least 2 times in the last 30 days and `+
		`never did order where new is true`)
	g("zh", `gender 是 “female” 且 最近 30 天 order 至少 2 次 且 从未有 order(其中 new 是 true)`)
	f := func(want bool, gender string, facts ...string) {
		t.Helper()
		who := person(t, attr(3, text(storage.KindString, gender)))
		who.Now = moment(t, "2026-11-22T12:00:00Z")
		who.Tail, who.Activity = historyOf(t, "2026-11-22T12:00:00Z", facts...)
		if got := holds(t, tree, who, nil); got != want {
			t.Errorf("%s with %q: %v", gender, facts, got)
		}
	}
	twice := []string{"order 2026-11-01T00:00:00Z new=false", "order 2026-11-20T00:00:00Z"}
	f(true, "female", twice...)
	f(false, "male", twice...)
	f(false, "female", twice[:1]...)
	f(false, "female", append([]string{"order 2025-01-01T00:00:00Z new=true"}, twice...)...)
	f(false, "female", "order 2026-10-23T12:00:00Z", "order 2026-11-20T00:00:00Z")
}

// Every condition a rule can hold is told in the language asked for: no English
// word in a Chinese line, no Han character in an English one, texts of the document
// apart; and the line is one line.
func TestEveryConditionReads(t *testing.T) {
	quoted := regexp.MustCompile(`"[^"]*"|“[^”]*”|\[[^\]]*\]`)
	english := regexp.MustCompile(`\b(and|or|not|is|in|has|held|tagged|segment|context|tier|tag|did|` +
		`never|times|last|next|within|days?|hours?|weeks?|minutes?|seconds?|count|sum|least|` +
		`greatest|average|first|number|years?|months?|since|before|after|contains|matches|starts|` +
		`anniversary|between|everybody|nobody|salt|then|without|seen|anything|value)\b`)
	han := regexp.MustCompile(`\p{Han}`)
	d := newDraw(77)
	for range 4000 {
		tree := mustParse(t, d.rule(2))
		en, zh := tree.Explain(nil, nil, "en"), tree.Explain(nil, nil, "zh")
		if word := han.FindString(quoted.ReplaceAllString(en, "")); word != "" {
			t.Fatalf("%q in %s", word, en)
		}
		if word := english.FindString(quoted.ReplaceAllString(zh, "")); word != "" {
			t.Fatalf("%q in %s", word, zh)
		}
		if strings.ContainsAny(en+zh, "\n\t") {
			t.Fatalf("more than a line: %q", en)
		}
	}
}
