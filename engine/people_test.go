package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tact/engine/definition"
)

// node reads a rule as an API body says it.
func ruleNode(t testing.TB, text string) *definition.Node {
	t.Helper()
	n, err := definition.NodeFromJSON([]byte(text), "rule.json")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// idsOf lists people in their order.
func (b *bed) idsOf(p *People) []string {
	b.t.Helper()
	var ids []string
	err := b.e.EachPerson(p, PeoplePos{}, func(_ PeoplePos, id []byte) bool {
		ids = append(ids, string(id))
		return true
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return ids
}

func (b *bed) people(q PeopleQuery) *People {
	b.t.Helper()
	p, err := b.e.People(context.Background(), &q)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// counted is people of a store that nothing changes, counted as well.
func (b *bed) counted(q PeopleQuery) *People {
	b.t.Helper()
	p := b.people(q)
	n, err := b.e.CountPeople(context.Background(), &q)
	if err != nil {
		b.t.Fatal(err)
	}
	if *n != (PeopleCount{At: p.At, Revision: p.Revision, Users: p.Count(), ByDay: p.ByDay()}) {
		b.t.Fatalf("counted %+v, found %d, %d by day", n, p.Count(), p.ByDay())
	}
	return p
}

func (b *bed) fill(n int) {
	b.t.Helper()
	b.apply(func(x *Batch) LineResult {
		for i := range n {
			doc := UserDoc{
				UserID: fmt.Appendf(nil, "u%d", i), BodyHash: 1,
				Attributes: []NamedValue{
					{[]byte("age"), RawValue{Kind: RawNumber, Text: fmt.Append(nil, i)}},
				},
			}
			if i%3 == 0 {
				doc.Tags = []TagDoc{{Name: []byte("complaint_open")}}
			}
			if r := x.User(&doc); r.Err != nil {
				b.t.Fatal(r.Err)
			}
		}
		return x.SegmentMembers([]byte("vip"), [][]byte{[]byte("u1"), []byte("u6")}, nil)
	})
}

func TestPeople(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(20)
	b.want(b.decideReq("stranger", "hero"), "coupon") // leaves a visitor
	f := func(rule, want string) {
		t.Helper()
		p := b.counted(PeopleQuery{Rule: ruleNode(t, rule)})
		ids := b.idsOf(p)
		slices.Sort(ids)
		if got := strings.Join(ids, " "); got != want || p.Count() != uint64(len(ids)) {
			t.Fatalf("%s: %d %s, want %s", rule, p.Count(), got, want)
		}
	}
	f(`{"all":[{"tag":"complaint_open"},{"attribute":"age","gte":10}]}`, "u12 u15 u18")
	f(`{"segment":"vip"}`, "u1 u6")
	f(`{"all":[{"attribute":"age","lt":3},{"not":{"tag":"complaint_open"}}]}`, "u1 u2")
	f(`{"attribute":"first_name","is_set":true}`, "")
	f(`{"all":[{"percent":["0%","100%"],"salt":"x"},{"attribute":"age","in":[3,19,40]}]}`, "u19 u3")
	if n := b.counted(PeopleQuery{}).Count(); n != 20 {
		t.Fatalf("%d of everybody: a visitor is no audience", n)
	}
	vip := b.counted(PeopleQuery{Segment: "vip"})
	if vip.Count() != 2 || vip.Revision != b.e.Revision() || vip.At != b.e.Now() {
		t.Fatalf("%+v", vip)
	}
	all := b.people(PeopleQuery{})
	whole := b.idsOf(all)
	var parts []string
	for from := (PeoplePos{}); len(parts) < len(whole); {
		if err := b.e.EachPerson(all, from, func(pos PeoplePos, id []byte) bool {
			parts, from = append(parts, string(id)), pos.Next()
			return false
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(parts, whole) {
		t.Fatalf("resumed %v, at once %v", parts, whole)
	}
}

// A condition on the request is judged in the one request of the query.
func TestPeopleInContext(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(5)
	rule := ruleNode(t, `{"all":[{"context":"page","is":"home"},{"attribute":"age","lt":2}]}`)
	f := func(want uint64, context ...NamedValue) {
		t.Helper()
		if got := b.counted(PeopleQuery{Rule: rule, Context: context}).Count(); got != want {
			t.Fatalf("%v: %d people, want %d", context, got, want)
		}
	}
	f(0)
	f(2, NamedValue{[]byte("page"), text("home")})
	f(0, NamedValue{[]byte("page"), text("cart")})
}

// What is wrong with a query is refused with its place.
func TestPeopleProblems(t *testing.T) {
	b := newBed(t, testDefinitions)
	f := func(q PeopleQuery, code, field string) {
		t.Helper()
		_, err := b.e.People(context.Background(), &q)
		var p *Problem
		if _, again := b.e.CountPeople(context.Background(), &q); again == nil ||
			err == nil || again.Error() != err.Error() {
			t.Fatalf("%+v: counted: %v, found: %v", q, again, err)
		}
		if !errors.As(err, &p) || p.Code != code || p.Field != field {
			t.Fatalf("%+v: %v, want %s at %s", q, err, code, field)
		}
	}
	rule := func(text string) PeopleQuery { return PeopleQuery{Rule: ruleNode(t, text)} }
	f(rule(`{"all":[{"tag":"complaint_open"},{"attribute":"agee","is":1}]}`), "bad_rule",
		"rule.all[1].attribute")
	f(rule(`{"attribute":"age","is":"old"}`), "bad_rule", "rule.is")
	f(rule(`{"segment":"nobody"}`), "bad_rule", "rule.segment")
	f(rule(`{"attribute":"first_name","matches":"(a+)+$("}`), "bad_rule", "rule.matches")
	deep := ruleNode(t, `{"tag":"complaint_open"}`)
	for range 40 { // deeper than a body can be
		deep = &definition.Node{Kind: definition.NodeMap, Keys: []definition.Key{{Name: "not", Value: deep}}}
	}
	f(PeopleQuery{Rule: deep}, "bad_rule", "rule"+strings.Repeat(".not", 32))
	wide := `{"any":[` + strings.Repeat(`{"tag":"complaint_open"},`, 10_000) +
		`{"tag":"complaint_open"}]}`
	f(rule(wide), "bad_rule", "rule.any[9999]")
	f(PeopleQuery{Segment: "nobody"}, "unknown_segment", "segment")
	f(PeopleQuery{Segment: "vip", Rule: ruleNode(t, `{"segment":"vip"}`)}, "two_questions",
		"segment")
	f(PeopleQuery{Now: -1}, "bad_time", "now")
	f(PeopleQuery{Context: []NamedValue{{[]byte("pagee"), text("x")}}}, "unknown_field",
		"context.pagee")
	f(PeopleQuery{Context: []NamedValue{{[]byte("page"), RawValue{Kind: RawBool}}}}, "wrong_type",
		"context.page")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.e.People(ctx, &PeopleQuery{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
