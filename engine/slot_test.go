package engine

import (
	"context"
	"errors"
	"testing"
)

// A query about people is told the placement and the channel by its context.
func TestPeopleInSlot(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(5)
	placement := b.e.snap.Load().Plan.Placements[0]
	web := placement.Channel.String()
	rule := ruleNode(t, `{"all":[{"context":"placement","is":"`+placement.ID+
		`"},{"context":"channel","is":"`+web+`"},{"attribute":"age","lt":2}]}`)
	f := func(want uint64, context ...NamedValue) {
		t.Helper()
		if got := b.people(PeopleQuery{Rule: rule, Context: context}).Count(); got != want {
			t.Fatalf("%v: %d people, want %d", context, got, want)
		}
	}
	here := NamedValue{[]byte("placement"), text(placement.ID)}
	f(0)
	f(0, NamedValue{[]byte("channel"), text(web)})
	f(2, here)
	f(2, here, NamedValue{[]byte("channel"), text(web)})
	f(0, NamedValue{[]byte("placement"), RawValue{Kind: RawNull}})
	bad := func(code, field string, given ...NamedValue) {
		t.Helper()
		_, err := b.e.People(context.Background(), &PeopleQuery{Context: given})
		var p *Problem
		if !errors.As(err, &p) || p.Code != code || p.Field != field {
			t.Fatalf("%v, want %s at %s", err, code, field)
		}
	}
	bad("unknown_placement", "context.placement", NamedValue{[]byte("placement"), text("nowhere")})
	bad("unknown_channel", "context.channel", NamedValue{[]byte("channel"), text("webb")})
	bad("unknown_channel", "context.channel", here, NamedValue{[]byte("channel"), text("call")})
	bad("wrong_type", "context.channel", NamedValue{[]byte("channel"), RawValue{Kind: RawBool}})
	bad("wrong_type", "context.placement", NamedValue{[]byte("placement"), RawValue{Kind: RawBool}})
}
