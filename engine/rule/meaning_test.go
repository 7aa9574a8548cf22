package rule

import (
	"strings"
	"testing"
	"time"

	"tact/storage"
)

func attr(id storage.Name, v storage.Value) *storage.Patch {
	return &storage.Patch{Attrs: []storage.AttrValue{{ID: id, Value: v}}}
}

// person is somebody at noon UTC of 22 November 2026.
func person(t testing.TB, p *storage.Patch) *Who {
	t.Helper()
	return &Who{
		ID: []byte("u1"), Profile: people(t, p)[0], Zone: time.UTC,
		Now: moment(t, "2026-11-22T12:00:00Z"),
	}
}

// Law 1: every positive comparison over something missing is false. The tests
// below have the rest of it.
func TestMissingIsNotAValue(t *testing.T) {
	nobody := &Who{Now: moment(t, "2026-11-22T12:00:00Z")}
	for _, atom := range positives() {
		if holds(t, mustParse(t, atom), nobody, nil) {
			t.Errorf("%s holds for a person of whom nothing is known", atom)
		}
	}
}

func positives() []string {
	return []string{
		`{"attribute":"age","is":18}`, `{"attribute":"age","in":[18]}`, `{"attribute":"age","gt":1}`,
		`{"attribute":"age","gte":1}`, `{"attribute":"age","lt":99}`, `{"attribute":"age","lte":99}`,
		`{"attribute":"age","between":[0,99]}`, `{"attribute":"price","lt":1e9}`,
		`{"attribute":"city","starts_with":"a"}`, `{"attribute":"city","ends_with":"a"}`,
		`{"attribute":"city","contains":"a"}`, `{"attribute":"city","matches":".*"}`,
		`{"attribute":"city","is":""}`, `{"attribute":"subscribed","is":false}`,
		`{"attribute":"interests","contains":"a"}`, `{"attribute":"interests","in":["a"]}`,
		`{"attribute":"app","lt":"99"}`, `{"attribute":"birthday","before":"2030-01-01"}`,
		`{"attribute":"birthday","years_since":{"lt":200}}`,
		`{"attribute":"birthday","months_since":{"gte":-99}}`,
		`{"attribute":"birthday","anniversary":{"before":"182d","after":"182d"}}`,
		`{"attribute":"joined","within_last":"99w"}`, `{"attribute":"joined","within_next":"99w"}`,
		`{"attribute":"age","is_set":true}`, `{"tag":"churn"}`, `{"tag":"city_tier"}`,
		`{"tier":"rfm","gte":"low"}`, `{"tier":"rfm","is_set":true}`,
		`{"tag":"city_tier","in":["1","2","3"]}`, `{"segment":"uploaded"}`,
		`{"percent":["0%","100%"],"salt":"s"}`, `{"context":"page","contains":"a"}`,
		`{"context":"hour","gte":-1}`,
	}
}

// is_not, not_in and not over something missing are true.
func TestMissingNegativeIsTrue(t *testing.T) {
	nobody := &Who{Now: moment(t, "2026-11-22T12:00:00Z")}
	negatives := []string{
		`{"attribute":"age","is_not":18}`, `{"attribute":"age","not_in":[18,19]}`,
		`{"attribute":"city","is_not":"a","fold":true}`, `{"attribute":"interests","not_in":["a"]}`,
		`{"tag":"city_tier","is_not":"1"}`, `{"tag":"city_tier","not_in":["1"]}`,
		`{"context":"page","is_not":"home"}`, `{"attribute":"birthday","years_since":{"is_not":3}}`,
		`{"attribute":"age","is_set":false}`,
	}
	for _, atom := range positives() {
		negatives = append(negatives, `{"not":`+atom+`}`)
	}
	for _, atom := range negatives {
		if !holds(t, mustParse(t, atom), nobody, nil) {
			t.Errorf("%s does not hold for a person of whom nothing is known", atom)
		}
	}
}

// "not tagged X" holds for a person with no tags, and again when a tag expired.
func TestNotTagged(t *testing.T) {
	tree := mustParse(t, `{"not":{"tag":"churn"}}`)
	now := storage.UnixSec(moment(t, "2026-11-22T12:00:00Z") / 1000)
	f := func(want bool, tags ...storage.TagValue) {
		t.Helper()
		if got := holds(t, tree, person(t, &storage.Patch{TagsAdd: tags}), nil); got != want {
			t.Errorf("%+v: %v", tags, got)
		}
	}
	f(true)
	f(true, storage.TagValue{ID: 3})
	f(false, storage.TagValue{ID: 1})
	f(false, storage.TagValue{ID: 1, Expires: now + 1})
	f(true, storage.TagValue{ID: 1, Expires: now})
}

// is_set asks for a value: an empty text is one, a value of another type than
// the declared one is none.
func TestIsSet(t *testing.T) {
	f := func(name string, id storage.Name, v storage.Value, want bool) {
		t.Helper()
		who := person(t, attr(id, v))
		if got := holds(t, mustParse(t, `{"attribute":"`+name+`","is_set":true}`), who,
			nil); got != want {
			t.Errorf("%s = %+v: %v", name, v, got)
		}
	}
	f("city", 4, text(storage.KindString, ""), true)
	f("city", 4, val(storage.KindInt, 1), false)
	f("age", 1, val(storage.KindInt, 0), true)
	f("age", 1, text(storage.KindString, "18"), false)
	f("price", 2, val(storage.KindInt, 3), true)
	f("interests", 8, listValue(), true)
	f("app", 9, text(storage.KindSemver, "1.x"), false)
	f("birthday", 6, val(storage.KindDate, dayMax+1), false)
	f("joined", 7, val(storage.KindTime, 1<<60), false)
	f("joined", 7, val(storage.KindTime, 0), true)
}

// safety: true asks for every value the rule names, whatever the rule says.
func TestSafetyAsksForAll(t *testing.T) {
	tree := mustParse(t, `{"safety":true,"any":[{"attribute":"subscribed","is":true},
		{"attribute":"age","gte":18},{"not":{"attribute":"city","is":"x"}}]}`)
	if !tree.Safety() {
		t.Error("not a safety rule")
	}
	yes, age := val(storage.KindBool, 1), val(storage.KindInt, 3)
	city := text(storage.KindString, "y")
	f := func(want bool, values ...storage.AttrValue) {
		t.Helper()
		who := person(t, &storage.Patch{Attrs: values})
		if got := holds(t, tree, who, nil); got != want {
			t.Errorf("%+v: %v", values, got)
		}
		if got := holds(t, tree.Known(), who, nil); got != want {
			t.Errorf("known of %+v: %v", values, got)
		}
	}
	f(false)
	f(false, storage.AttrValue{ID: 5, Value: yes})
	f(false, storage.AttrValue{ID: 1, Value: age}, storage.AttrValue{ID: 5, Value: yes})
	f(true, storage.AttrValue{ID: 1, Value: age}, storage.AttrValue{ID: 4, Value: city},
		storage.AttrValue{ID: 5, Value: yes})
}

// A label tag is always known; an enum tag without a value is unknown.
func TestSafetyOfTags(t *testing.T) {
	f := func(rule string, want bool, tags ...storage.TagValue) {
		t.Helper()
		if got := holds(t, mustParse(t, rule), person(t, &storage.Patch{TagsAdd: tags}),
			nil); got != want {
			t.Errorf("%s with %+v: %v", rule, tags, got)
		}
	}
	f(`{"safety":true,"not":{"tag":"churn"}}`, true)
	f(`{"safety":true,"not":{"segment":"uploaded"}}`, true)
	f(`{"safety":true,"tag":"city_tier","is_not":"1"}`, false)
	f(`{"safety":true,"tag":"city_tier","is_not":"1"}`, true, storage.TagValue{ID: 2, Value: 2})
	f(`{"safety":true,"tag":"city_tier","is_not":"1"}`, false, storage.TagValue{ID: 2})
	f(`{"tag":"city_tier","is_not":"1"}`, true, storage.TagValue{ID: 2})
}

// safety of the context: what a request did not say is unknown.
func TestSafetyOfContext(t *testing.T) {
	tree := mustParse(t, `{"safety":true,"not":{"context":"page","is":"home"}}`)
	nobody := &Who{}
	if holds(t, tree, nobody, nil) {
		t.Error("holds without a page")
	}
	if !holds(t, tree, nobody, []ContextValue{{1, text(storage.KindString, "cart")}}) {
		t.Error("does not hold on the cart page")
	}
}

// An attribute of class sensitive makes the rule that names it a safety rule.
func TestSensitiveIsSafety(t *testing.T) {
	tree := mustParse(t,
		`{"any":[{"attribute":"age","gte":0},{"not":{"attribute":"illness","is":"yes"}}]}`)
	both := &storage.Patch{Attrs: []storage.AttrValue{
		{ID: 1, Value: val(storage.KindInt, 18)}, {ID: 10, Value: text(storage.KindString, "no")},
	}}
	if !tree.Safety() || holds(t, tree, person(t, attr(1, val(storage.KindInt, 18))), nil) ||
		!holds(t, tree, person(t, both), nil) {
		t.Error("a sensitive attribute did not ask for all values")
	}
	if mustParse(t, `{"attribute":"age","gte":0}`).Safety() {
		t.Error("a rule without sensitive attributes is a safety rule")
	}
}

// Law 2: what a safety part asks for is asked outside of every not.
func TestSafetyIsNeverNegated(t *testing.T) {
	nobody := &Who{}
	someone := person(t, attr(1, val(storage.KindInt, 30)))
	for _, rule := range []string{
		`{"not":{"safety":true,"attribute":"age","lt":18}}`,
		`{"not":{"any":[{"safety":true,"attribute":"age","lt":18},{"tag":"churn"}]}}`,
		`{"not":{"not":{"not":{"safety":true,"attribute":"age","lt":18}}}}`,
		`{"safety":true,"not":{"attribute":"age","lt":18}}`,
		`{"any":[{"segment":"uploaded"},{"not":{"safety":true,"attribute":"age","lt":18}}]}`,
	} {
		tree := mustParse(t, rule)
		if holds(t, tree, nobody, nil) {
			t.Errorf("%s holds for a person of unknown age", rule)
		}
		if !holds(t, tree, someone, nil) {
			t.Errorf("%s does not hold at 30", rule)
		}
	}
	// Beside an unsafe alternative only the safe one asks.
	tree := mustParse(t,
		`{"any":[{"tag":"complaint"},{"safety":true,"not":{"attribute":"age","lt":18}}]}`)
	if !holds(t, tree, person(t, &storage.Patch{TagsAdd: []storage.TagValue{{ID: 3}}}), nil) {
		t.Error("the unsafe alternative asks for a value")
	}
}

// What a rule says of texts, lists, numbers and versions.
func TestComparisons(t *testing.T) {
	f := func(id storage.Name, v storage.Value, comparison string, want bool) {
		t.Helper()
		name := [...]string{1: "age", 2: "price", 4: "city", 8: "interests", 9: "app"}[id]
		rule := `{"attribute":"` + name + `",` + comparison + `}`
		if got := holds(t, mustParse(t, rule), person(t, attr(id, v)), nil); got != want {
			t.Errorf("%s of %q: %v", rule, v.Bytes, got)
		}
	}
	str := func(s string) storage.Value { return text(storage.KindString, s) }
	ver := func(s string) storage.Value { return text(storage.KindSemver, s) }
	f(4, str("Straße"), `"is":"STRAßE","fold":true`, true)
	f(4, str("\u212Aelvin"), `"in":["kelvin","x"],"fold":true`, true)
	f(4, str("\u212Aelvin"), `"starts_with":"KEL","fold":true`, true)
	f(4, str("xSAM"), `"ends_with":"ſam","fold":true`, true)
	f(4, str("x"), `"ends_with":"xx","fold":true`, false)
	f(4, str("aab"), `"contains":"ab"`, true)
	f(4, str("aAB"), `"contains":"ab","fold":true`, true)
	f(4, str("上海市"), `"starts_with":"上海"`, true)
	f(4, str("ABC"), `"matches":"^b"`, false)
	f(4, str("ABC"), `"matches":"b","fold":true`, true)
	f(4, str("ABC"), `"matches":"b"`, false)
	f(4, str(strings.Repeat("a", 400)), `"matches":"a{300}"`, true)
	f(4, str("v"), `"is":"v","is_not":"w","in":["u","v"]`, true)
	f(1, val(storage.KindInt, 25), `"between":[18,25]`, true)
	f(1, val(storage.KindInt, 26), `"between":[18,25]`, false)
	f(1, val(storage.KindInt, 9223372036854775807), `"gt":9223372036854775807`, false)
	f(1, val(storage.KindInt, -9223372036854775808), `"lt":-9223372036854775808`, false)
	f(2, floatValue(0.1), `"gt":0.1`, false)
	f(2, floatValue(0.1), `"gte":0.1`, true)
	f(2, val(storage.KindInt, 0), `"is":-0.0`, true)
	f(8, listValue("a", "Bb"), `"contains":"bb","fold":true`, true)
	f(8, listValue("a", "Bb"), `"contains":"bb"`, false)
	f(8, listValue("a", "b"), `"in":["b","c"]`, true)
	f(8, listValue("a", "b"), `"not_in":["b","c"]`, false)
	f(8, storage.Value{Kind: storage.KindList, Bytes: []byte{1, 'x', 9, 'a'}}, `"in":["a"]`, false)
	f(9, ver("1.10"), `"gt":"1.9.9"`, true)
	f(9, ver("1.10.0"), `"is":"1.10"`, true)
	f(9, ver("1.10.0-beta.11"), `"gt":"1.10.0-beta.2"`, true)
	f(9, ver("1.10.0-beta"), `"lt":"1.10.0"`, true)
	f(9, ver("1.10.0-1"), `"lt":"1.10.0-a"`, true)
	f(9, ver("2.0.0+build"), `"in":["1","2.0.0"]`, true)
	f(9, ver("01.0"), `"lt":"99"`, false)
}

func TestExplain(t *testing.T) {
	rule := `{"safety":true,"all":[
		{"attribute":"birthday","years_since":{"gte":18}},
		{"any":[{"context":"page","in":["home","cart"]},{"not":{"tag":"complaint"}},
			{"attribute":"city","starts_with":"上海","is_not":"x","fold":true}]},
		{"not":{"all":[{"segment":"uploaded"},{"tag":"city_tier","not_in":["1","2"]}]}},
		{"not":{"attribute":"joined","within_last":"30d"}},
		{"attribute":"birthday","anniversary":{"before":"3d"}},
		{"percent":["0%","12.5%"],"salt":"autumn"}]}`
	f := func(who *Who, lang, want string) {
		t.Helper()
		if got := mustParse(t, rule).Explain(who, nil, lang); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	f(nil, "en", `birthday with ≥ 18 years since it and `+
		`(context page in ["home", "cart"] or not tagged complaint or `+
		`city starts with "上海" (any case) and city is not "x" (any case)) and `+
		`not (in segment uploaded and tag city_tier is not in [1, 2]) and `+
		`joined not (within the last 30 days) and birthday from 3 days before to 0 days after its anniversary and `+
		`in [0%, 12.5%) of salt autumn and birthday has a value and context page has a value and `+
		`city has a value and tag city_tier has a value and joined has a value`)
	f(nil, "zh-CN", `birthday 距今 ≥ 18 年 且 `+
		`(上下文 page 属于 [“home”, “cart”] 或 无标签 complaint 或 `+
		`city 开头是 “上海”(不分大小写) 且 city 不是 “x”(不分大小写)) 且 `+
		`非 (在人群 uploaded 且 标签 city_tier 不属于 [1, 2]) 且 `+
		`joined 非(在最近 30 天 内) 且 birthday 周年日前 3 天 至后 0 天 且 `+
		`属于 [0%, 12.5%) 分桶 autumn 且 birthday 有值 且 上下文 page 有值 且 `+
		`city 有值 且 标签 city_tier 有值 且 joined 有值`)

	verdict := func(rule string, who *Who, lang, want string) {
		t.Helper()
		if got := mustParse(t, rule).Explain(who, nil, lang); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	child := person(t, attr(6, date(t, "2015-01-01")))
	adult := `{"attribute":"birthday","years_since":{"gte":18}}`
	verdict(adult, child, "en",
		`birthday with ≥ 18 years since it: refused by «birthday with ≥ 18 years since it»`)
	verdict(adult, &Who{}, "zh", `birthday 距今 ≥ 18 年:不满足,因为 「birthday 距今 ≥ 18 年」(缺值)`)
	verdict(`{"not":{"any":[{"tag":"churn"},`+adult+`]}}`, child, "en",
		`not (tagged churn or birthday with ≥ 18 years since it): holds`)
	verdict(`{"not":{"any":[{"tag":"churn"},{"not":`+adult+`}]}}`, child, "zh",
		`非 (有标签 churn 或 birthday 非(距今 ≥ 18 年)):不满足,因为 「birthday 距今 ≥ 18 年」`)
	verdict(`{"any":[{"tag":"churn"},{"segment":"uploaded"}]}`, child, "en",
		`tagged churn or in segment uploaded: refused by «tagged churn» and «in segment uploaded»`)
}
