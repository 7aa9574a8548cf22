package rule

import (
	"fmt"
	"strings"
	"testing"

	"tact/engine/definition"
)

// wantFaults parses a rule in the eligibility of an offer and compares what is
// wrong with it: "line:column field: message -> suggestion".
func wantFaults(t *testing.T, rule string, want ...string) {
	t.Helper()
	names := testNames()
	names.Offer = mustNode(t, `{"category":"coupon","worth":12.5,"deep":{}}`)
	tree, faults := Parse(mustNode(t, rule), names, "eligibility")
	var got []string
	for _, f := range faults {
		line := fmt.Sprintf("%d:%d %s: %s", f.Pos.Line, f.Pos.Column, f.Field, f.Message)
		if f.Suggest != "" {
			line += " -> " + f.Suggest
		}
		got = append(got, line)
	}
	if tree != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\n got %s\nwant %s", rule,
			strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// Law 7: the exact place, field, message and suggestion of every fault.
func TestEveryFaultAtOnce(t *testing.T) {
	f := func(rule string, want ...string) { t.Helper(); wantFaults(t, rule, want...) }
	f(`{"tier":"x"}`, `1:9 eligibility.tier: there is no tier "x"`)
	f(`{"attribute":"agee","gte":18}`,
		`1:14 eligibility.attribute: there is no attribute "agee" -> age`)
	f(`{"attrbute":"age","gte":18}`,
		`1:2 eligibility.attrbute: unknown condition "attrbute" -> attribute`)
	f("{\"all\":[{\"tag\":\"chrun\"},\n {\"attribute\":\"age\",\"gtee\":18},\n "+
		"{\"segment\":\"friend\"}]}",
		`1:16 eligibility.all[0].tag: there is no tag "chrun" -> churn`,
		`2:21 eligibility.all[1].gtee: unknown key "gtee" -> gte`,
		`3:13 eligibility.all[2].segment: there is no segment "friend" -> friends`)
	f(`{"attribute":"gender","in":["femal","male"]}`,
		`1:29 eligibility.in[0]: "femal" is no value of "gender" -> female`)
	f(`{"attribute":"age","gt":"18"}`,
		`1:25 eligibility.gt: "age" is an int: a whole number is expected, not "18"`)
	f(`{"attribute":"age","starts_with":"1"}`,
		`1:34 eligibility.starts_with: "age" is an int, which has no starts_with`)
	f(`{"attribute":"city","within_last":"30d"}`,
		`1:35 eligibility.within_last: "city" is a string, which has no within_last`)
	f(`{"attribute":"birthday","within_last":"36h"}`,
		`1:39 eligibility.within_last: a date is compared by whole days, such as 30d or 2w`)
	f(`{"attribute":"birthday","within_last":"1 month"}`,
		`1:39 eligibility.within_last: "1 month" is not a duration: a whole number and s, m, h, d or w, `+
			`from 1s to ten years, such as 90s, 4h, 30d`)
	f(`{"attribute":"birthday","before":"2026-02-30"}`,
		`1:34 eligibility.before: "birthday" is a date: a date such as 2026-11-22 `+
			`is expected, not "2026-02-30"`)
	f(`{"attribute":"birthday","years_since":{"gte":18.5}}`,
		`1:46 eligibility.years_since.gte: a whole number is expected, not the number 18.5`)
	f(`{"attribute":"birthday","years_since":18}`,
		`1:39 eligibility.years_since: a comparison such as {gte: 18} is expected, not the number 18`)
	f(`{"attribute":"birthday","anniversary":{"befor":"3d"}}`,
		`1:40 eligibility.anniversary.befor: unknown key "befor" -> before`)
	f(`{"attribute":"birthday","anniversary":{"before":"183d"}}`,
		`1:49 eligibility.anniversary.before: at most 182d on each side of an anniversary`)
	f(`{"attribute":"joined","in":["2026-11-22","2026-11-22T00:00:00Z"]}`,
		`1:28 eligibility.in: dates and times do not mix in one comparison`)
	f(`{"attribute":"age","between":[25,18]}`,
		`1:30 eligibility.between: 25 comes after 18: nothing is between them`)
	f(`{"attribute":"age","in":[]}`,
		`1:25 eligibility.in: a list of values is expected, not an empty one`)
	f(`{"attribute":"age","gte":1,"fold":true}`,
		`1:1 eligibility: fold ignores the case of strings; "age" is an int`)
}

// The faults of conditions on events.
func TestFaultsOfEvents(t *testing.T) {
	f := func(rule string, want ...string) { t.Helper(); wantFaults(t, rule, want...) }
	f(`{"event":"ordr"}`, `1:10 eligibility.event: there is no event "ordr" -> order`)
	f(`{"event":"order","where":[{"property":"sk","is":"a"}]}`,
		`1:39 eligibility.where[0].property: the event "order" has no property "sk" -> sku`)
	f(`{"event":"order","where":[{"property":"note","is":"a"}]}`,
		`1:39 eligibility.where[0].property: the property "note" is not indexed: only indexed ones `+
			`are kept for rules`)
	f(`{"event":"order","where":[{"property":"items[].category","is":"a"}]}`,
		`1:39 eligibility.where[0].property: the event "order" has no property "items[].category": `+
			`what is asked of the elements of a list is declared by that name`)
	f(`{"event":"*","where":[{"property":"sku","is":"a"}]}`,
		`1:22 eligibility.where: where needs the name of one event`)
	f(`{"event":"order","sum":{"gte":3}}`, `1:24 eligibility.sum: sum needs of: PROPERTY`)
	f(`{"event":"order","sum":{"gte":3},"of":"sku"}`,
		`1:39 eligibility.of: "sku" is a string: an int or a float is expected`)
	f(`{"event":"order","count":2}`,
		`1:26 eligibility.count: a comparison such as {gte: 2} is expected, not the number 2`)
	f(`{"event":"order","count":{"gte":2},"sum":{"gte":2},"of":"qty"}`,
		`1:1 eligibility: one of count, sum, min, max, avg, first, last, distinct is expected, not `+
			`count and sum`)
	f(`{"event":"order","within":"30d","window":"lifetime"}`,
		`1:42 eligibility.window: within and window do not stand together`)
	f(`{"event":"order","window":{"calendar":"fortnight"}}`,
		`1:39 eligibility.window.calendar: one of hour, day, week, month, quarter, year is expected, `+
			`not "fortnight"`)
	f(`{"outcome":"clik"}`, `1:12 eligibility.outcome: there is no outcome "clik" -> click`)
	f(`{"outcome":"click","offers":{"ids":["cupon"]}}`,
		`1:37 eligibility.offers.ids[0]: there is no offer "cupon" -> coupon`)
	f(`{"sequence":[{"event":"order"}],"within":"3d"}`,
		`1:13 eligibility.sequence: a list of 2 to 8 events is expected, not 1`)
	f(`{"sequence":[{"event":"order"},{"event":"visit","count":{"gte":2}}],"within":"3d"}`,
		`1:49 eligibility.sequence[1].count: unknown key "count"`)
	f(`{"not_seen_for":"a week"}`, `1:17 eligibility.not_seen_for: "a week" is not a duration: a `+
		`whole number and s, m, h, d or w, from 1s to ten years, such as 90s, 4h, 30d`)
}

func TestFaultsOfTexts(t *testing.T) {
	f := func(rule string, want ...string) { t.Helper(); wantFaults(t, rule, want...) }
	f(`{"attribute":"app","gte":"one"}`,
		`1:26 eligibility.gte: "one" is not a version, such as 1.10 or 2.0.0-beta.1`)
	f(`{"attribute":"app","gte":1.10}`,
		`1:26 eligibility.gte: "app" is a semver: a version in quotes, such as "1.10", `+
			`is expected, not the number 1.10`)
	f(`{"attribute":"city","matches":"("}`,
		`1:31 eligibility.matches: not a regular expression: missing closing ) in (`)
	f(`{"attribute":"city","matches":"(a{500}){3}"}`,
		`1:31 eligibility.matches: not a regular expression: invalid repeat count in {3}`)
	f(`{"attribute":"city","matches":"(abc){333}"}`,
		`1:31 eligibility.matches: the regular expression is too large: at most 1000 steps`)
	f(`{"attribute":"city","matches":"`+strings.Repeat("a", 257)+`"}`,
		`1:31 eligibility.matches: a regular expression has at most 256 bytes`)
	f(`{"tag":"churn","is":"1"}`,
		`1:21 eligibility.is: the tag "churn" is a label without values: it is held or not`)
	f(`{"tag":"city_tier","is":"4"}`,
		`1:25 eligibility.is: "4" is no value of the tag "city_tier" -> 1`)
	f(`{"percent":["0%","10%"]}`,
		`1:1 eligibility: percent needs a salt: rules with one salt draw the same people`)
	f(`{"percent":["10%","10.00%"],"salt":"s"}`,
		`1:12 eligibility.percent: the range [10%, 10.00%] is empty`)
	f(`{"percent":["0%","100.01%"],"salt":"s"}`,
		`1:18 eligibility.percent[1]: "100.01%" is not a percentage from 0% to 100% `+
			`with at most two decimals`)
	f(`{"context":"pag","is":"home"}`,
		`1:12 eligibility.context: no placement declares the context key "pag" -> page`)
	f(`{"context":"born","within_last":"36h"}`,
		`1:33 eligibility.within_last: a date is compared by whole days, such as 30d or 2w`)
}

func TestFaultsOfShape(t *testing.T) {
	f := func(rule string, want ...string) { t.Helper(); wantFaults(t, rule, want...) }
	f(`{"any":[]}`, `1:8 eligibility.any: any of nothing never holds`)
	f(`{"not":[]}`, `1:8 eligibility.not: a condition such as {tag: NAME} is expected, not a list`)
	f(`{"tag":"churn","segment":"uploaded"}`,
		`1:1 eligibility: a condition names one thing; this one names tag and segment: `+
			`join them with all or any`)
	f(`{"all":[],"saftey":true}`, `1:11 eligibility.saftey: unknown key "saftey" -> safety`)
	f(`{"safety":true}`,
		`1:1 eligibility: a condition names one of all, any, not, attribute, tag, `+
			`segment, percent, context, tier, event, outcome, sequence, not_seen_for`)
	f(`{"attribute":"city","is":{"offer":"categry"}}`,
		`1:35 eligibility.is.offer: the offer has no attribute "categry" -> category`)
	f(`{"attribute":"age","is":{"offer":"category"}}`,
		`1:34 eligibility.is.offer: "age" is an int: a whole number is expected, not "coupon"`)
	f(`{"attribute":"city","is":{"offer":"deep"}}`,
		`1:35 eligibility.is.offer: the offer's attribute "deep" is a map, not a single value`)
	f(`{"attribute":"age"}`,
		`1:1 eligibility: a comparison is missing, such as is, in, gte or is_set`)
	f(`[]`, `1:1 eligibility: a condition such as {tag: NAME} is expected, not a list`)
}

// {offer: NAME} is the value of the offer whose rule this is.
func TestOfferValue(t *testing.T) {
	names := testNames()
	names.Offer = mustNode(t, `{"category":"coupon","worth":12.5}`)
	f := func(rule, same string) {
		t.Helper()
		a, faults := Parse(mustNode(t, rule), names, "")
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		b := mustParse(t, same)
		if got, want := a.Explain(nil, nil, ""), b.Explain(nil, nil, ""); got != want {
			t.Errorf("%s is %s, not %s", rule, got, want)
		}
	}
	f(`{"attribute":"city","is":{"offer":"category"}}`, `{"attribute":"city","is":"coupon"}`)
	f(`{"attribute":"city","in":["x",{"offer":"category"}]}`,
		`{"attribute":"city","in":["x","coupon"]}`)
	f(`{"attribute":"city","in":{"offer":"category"}}`, `{"attribute":"city","in":["coupon"]}`)
	f(`{"attribute":"price","gte":{"offer":"worth"}}`, `{"attribute":"price","gte":12.5}`)
	_, faults := Parse(mustNode(t, `{"attribute":"city","is":{"offer":"category"}}`), testNames(),
		"rule")
	if len(faults) != 1 || faults[0].Field != "rule.is.offer" {
		t.Errorf("outside of an offer: %+v", faults)
	}
}

// The bounds of a tree: depth, conditions, values.
func TestBounds(t *testing.T) {
	f := func(n *definition.Node, want string) {
		t.Helper()
		_, faults := Parse(n, testNames(), "rule")
		got := ""
		if len(faults) > 0 {
			got = faults[0].Message
		}
		if got != want || len(faults) > 1 {
			t.Errorf("got %q and %d faults, want %q", got, len(faults), want)
		}
	}
	deep := mustNode(t, `{"tag":"churn"}`)
	for range MaxDepth - 1 {
		deep = &definition.Node{Kind: definition.NodeMap, Keys: []definition.Key{{
			Name:  "not",
			Value: deep,
		}}}
	}
	f(deep, "")
	deep = &definition.Node{Kind: definition.NodeMap, Keys: []definition.Key{{
		Name:  "not",
		Value: deep,
	}}}
	f(deep, "the rule is nested deeper than 32 levels")
	many := func(n int) *definition.Node {
		list := &definition.Node{Kind: definition.NodeList}
		for range n {
			list.List = append(list.List, mustNode(t, `{"tag":"churn"}`))
		}
		return &definition.Node{Kind: definition.NodeMap, Keys: []definition.Key{{
			Name:  "any",
			Value: list,
		}}}
	}
	f(many(MaxNodes-1), "")
	f(many(MaxNodes), "the rule has more than 10000 conditions")
	values := mustNode(t, `{"attribute":"age","in":[1`+strings.Repeat(",1", MaxValues-1)+`]}`)
	f(values, "")
	values.Get("in").List = append(values.Get("in").List, values.Get("in").List[0])
	f(values, "the lists of a rule have at most 100000 values: use a static segment")
}

// The empty rule in all its forms.
func TestEmptyRule(t *testing.T) {
	for _, n := range []*definition.Node{nil, {}, mustNode(t, `{}`), mustNode(t, `{"all":[]}`)} {
		tree, faults := Parse(n, nil, "rule")
		if len(faults) > 0 || !tree.Empty() || !holds(t, tree, &Who{}, nil) {
			t.Errorf("%+v: %+v", n, faults)
		}
	}
	if !True().Known().Empty() {
		t.Error("nothing asked is not empty")
	}
}

func FuzzParse(f *testing.F) {
	d := newDraw(1)
	for range 50 {
		f.Add([]byte(d.rule(3)))
	}
	f.Add([]byte(`{"all":[{"attribute":"birthday","anniversary":{"before":"3d"}},{"event":"x"}]}`))
	f.Add([]byte(`{"attribute":"city","matches":"((a*)*)*"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := definition.NodeFromJSON(b, "rule.json")
		if err != nil {
			return
		}
		tree, faults := Parse(n, testNames(), "rule")
		if (tree == nil) != (len(faults) > 0) {
			t.Fatalf("a tree and faults: %+v", faults)
		}
		for _, f := range faults {
			if f.Message == "" || !strings.HasPrefix(f.Field, "rule") {
				t.Fatalf("fault without a message or field: %+v", f)
			}
		}
		if tree == nil {
			return
		}
		who := &Who{ID: []byte("u"), Now: 1_700_000_000_000}
		b2 := NewBuilder(nil)
		c, err := b2.Cond(tree)
		if err != nil {
			return
		}
		var user [PageWords]uint64
		p := b2.Program()
		p.EvalUser(who, 0, user[:])
		request := make([]uint64, p.RequestWords)
		p.EvalRequest(nil, request)
		if c.Holds(rowOf(user, request)) != tree.Naive(who, nil) {
			t.Fatal("bits and naive disagree")
		}
		tree.Explain(who, nil, "zh")
	})
}
