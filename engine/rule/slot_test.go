package rule

import (
	"testing"

	"tact/engine/definition"
	"tact/storage"
)

// What the slot tells is judged as a text of the context: missing is not a value.
func TestSlot(t *testing.T) {
	f := func(want bool, rule string, ctx []ContextValue) {
		t.Helper()
		if got := holds(t, mustParse(t, rule), &Who{}, ctx); got != want {
			t.Errorf("%s: %v, want %v", rule, got, want)
		}
	}
	cart := SlotContext("cart", definition.ChannelWeb)
	f(true, `{"context":"placement","in":["home_hero","cart"]}`, cart)
	f(false, `{"context":"placement","in":["home_hero","cart"]}`, nil)
	f(false, `{"context":"placement","is_not":"cart"}`, cart)
	f(true, `{"context":"placement","is_not":"cart"}`, nil)
	f(true, `{"context":"channel","is":"web"}`, cart)
	f(false, `{"context":"channel","not_in":["web","sms"]}`, cart)
	f(true, `{"safety":true,"not":{"context":"channel","is":"sms"}}`, cart)
	f(false, `{"safety":true,"not":{"context":"channel","is":"sms"}}`, nil)
	f(true, `{"context":"placement","starts_with":"ca"}`, cart)
	f(true, `{"context":"placement","is_set":true}`, cart)
}

// A tree holds anywhere when Naive says so in one of the slots.
func TestAnywhere(t *testing.T) {
	slots := [][]ContextValue{
		SlotContext("cart", definition.ChannelWeb), SlotContext("daily_sms", definition.ChannelSMS),
	}
	read := 0
	one := func(seed uint64, tree *Tree, w *Who) {
		t.Helper()
		want := false
		for _, slot := range slots {
			want = want || tree.Naive(w, slot)
		}
		any := tree.Anywhere(slots)
		if got := any.Naive(w, nil); got != want {
			t.Fatalf("seed %d, %s: %v, want %v", seed, tree.Explain(nil, nil, ""), got, want)
		}
		if tree.ReadsSlot() {
			if read++; any.ReadsSlot() || tree.Anywhere(nil).Naive(w, slots[0]) {
				t.Fatalf("seed %d, %s: still asks for a slot", seed, tree.Explain(nil, nil, ""))
			}
		}
	}
	for seed := range uint64(20 * effort()) {
		d := newDraw(seed)
		patches := make([]*storage.Patch, 50)
		for i := range patches {
			patches[i] = d.patch()
		}
		for _, profile := range people(t, patches...) {
			one(seed, mustParse(t, d.rule(3)), &Who{ID: []byte("u1"), Profile: profile, Now: d.now})
		}
	}
	if read < 50 {
		t.Fatalf("%d trees asked for the slot", read)
	}
}

func TestSlotFaultsAndWords(t *testing.T) {
	fault := func(want, rule string, names *Names) {
		t.Helper()
		_, faults := Parse(mustNode(t, rule), names, "rule")
		if len(faults) != 1 || faults[0].Message != want {
			t.Errorf("%s: %+v, want %q", rule, faults, want)
		}
	}
	fault(`"home_heros" is no value of "placement"`, `{"context":"placement","is":"home_heros"}`,
		testNames())
	fault(`"webb" is no value of "channel"`, `{"context":"channel","in":["webb"]}`, testNames())
	fault(`there is no placement that a rule could name`, `{"context":"placement","is":"a"}`,
		&Names{})
	_, faults := Parse(mustNode(t, `{"context":"placement","is":"home_heros"}`), testNames(), "rule")
	if faults[0].Suggest != "home_hero" {
		t.Errorf("suggestion %q", faults[0].Suggest)
	}
	tree := mustParse(t, `{"context":"placement","in":["cart","home_hero"]}`)
	sms := SlotContext("daily_sms", definition.ChannelSMS)
	say := func(want, lang string) {
		t.Helper()
		if got := tree.Explain(&Who{}, sms, lang); got != want {
			t.Errorf("%s", got)
		}
	}
	say(`context placement in ["cart", "home_hero"]: refused by `+
		`«context placement in ["cart", "home_hero"]»`, "en")
	say(`上下文 placement 属于 [“cart”, “home_hero”]:不满足,因为 `+
		`「上下文 placement 属于 [“cart”, “home_hero”]」`, "zh")
}
