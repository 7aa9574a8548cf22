package definition

import (
	"slices"
	"testing"
)

func TestMinorUnits(t *testing.T) {
	f := func(amount float64, currency string, want int64) {
		t.Helper()
		if got := MinorUnits(amount, currency); got != want {
			t.Errorf("%v %s: %d, want %d", amount, currency, got, want)
		}
	}
	f(19.99, "CNY", 1999) // 19.99 × 100 is 1998.9999999999998
	f(0.07, "CNY", 7)     // 0.07 × 100 is 7.000000000000001
	f(20, "CNY", 2000)
	f(20.001, "CNY", 2001) // a part of a fen is a whole one
	f(20.4, "JPY", 21)
	f(1.2345, "KWD", 1235)
	f(-3, "CNY", 0)
	f(0, "CNY", 0)
	f(1e300, "CNY", 1e15)
	below := func(amount float64, currency string, want int64) {
		t.Helper()
		if got := WholeMinorUnits(amount, currency); got != want {
			t.Errorf("whole of %v %s: %d, want %d", amount, currency, got, want)
		}
	}
	below(19.99, "CNY", 1999)
	below(0.07, "CNY", 7)
	below(20.009, "CNY", 2000) // a part of a fen is none
	below(20.4, "JPY", 20)
	below(1.2349, "KWD", 1234)
	below(0.009, "CNY", 0)
	below(-3, "CNY", 0)
	below(1e300, "CNY", 1e15)
	for minor := range int64(200_000) {
		f(float64(minor)/100, "CNY", minor)
		below(float64(minor)/100, "CNY", minor)
	}
	g := func(m Money, want string) {
		t.Helper()
		if got := m.String(); got != want {
			t.Errorf("%+v: %q, want %q", m, got, want)
		}
	}
	g(Money{2000, "CNY"}, "20.00")
	g(Money{5, "CNY"}, "0.05")
	g(Money{5, "JPY"}, "5")
	g(Money{12345, "KWD"}, "12.345")
}

func TestBudgets(t *testing.T) {
	const cap = "kind: cap\nid: c\nper: all\nwindow: {calendar: day}\n"
	const total = cap + "scope: total\n"
	set, faults := Load([]File{{Name: "f.yaml", Content: []byte(total + "count_on: accept\nlimit: {amount: \"5000.5\", currency: CNY}\n" +
		"spends: value\n---\nkind: workspace\nid: w\ncurrency: CNY\n---\n" +
		"kind: offer\nid: o\nmessage_class: marketing\ncost: 19.9\n" +
		"treatments: [{id: t, channel: web, content: {type: text, body: a}}]\n---\n" +
		"kind: offer\nid: p\nmessage_class: marketing\ncost: {amount: 300, currency: JPY}\n" +
		"treatments: [{id: t, channel: web, content: {type: text, body: a}}]\n")}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	c := set.Caps[0]
	if c.Limit != 500_050 || c.Currency != "CNY" || !c.SpendsValue {
		t.Errorf("%+v", c)
	}
	if a, b := set.Offers[0].Cost, set.Offers[1].Cost; *a != (Money{1990, "CNY"}) ||
		*b != (Money{300, "JPY"}) {
		t.Errorf("%+v %+v", a, b)
	}
	f := func(text string, want ...string) {
		t.Helper()
		if got := wrong(text); !slices.Equal(got, want) {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
	}
	const money = "limit: {amount: \"5.00\", currency: CNY}\n"
	f(cap+"scope: person\ncount_on: accept\n"+money,
		"f.yaml:7:8: cap/c: limit: a budget in money belongs to a cap of scope total")
	f(total+"count_on: accept\nlimit: {amount: \"5.005\", currency: CNY}\n",
		"f.yaml:7:17: cap/c: limit.amount: an amount in CNY has at most 2 decimals")
	f(total+"count_on: accept\nlimit: {amount: 5e1, currency: CNY}\n",
		"f.yaml:7:17: cap/c: limit.amount: the number 5e1 is no amount, such as 20 or \"20.00\"")
	f(total+"count_on: accept\nlimit: {amount: -5, currency: CNY}\n",
		"f.yaml:7:17: cap/c: limit.amount: the number -5 is no amount, such as 20 or \"20.00\"")
	f(total+"count_on: accept\nlimit: {amount: 10000000001, currency: CNY}\n",
		"f.yaml:7:17: cap/c: limit.amount: an amount of at most 10000000000.00 is expected")
	f(total+"count_on: accept\nlimit: {amount: 99999999999999999999, currency: CNY}\n",
		"f.yaml:7:17: cap/c: limit.amount: the number 99999999999999999999 does not fit 64 bits")
	f(total+"count_on: accept\nlimit: {amount: 5}\n",
		"f.yaml:7:8: cap/c: limit.currency: is required")
	f(total+"count_on: accept\nlimit: 5\nspends: value\n",
		"f.yaml:8:9: cap/c: spends: spends belongs to a budget in money: "+
			"limit: {amount: \"5000.00\", currency: CNY}")
	f(total+"count_on: impression\nspends: value\n"+money,
		"f.yaml:7:9: cap/c: spends: only reactions report a value: count_on: accept or convert")
	f(total+"count_on: accept\nhold: 5m\nspends: value\n"+money,
		"f.yaml:8:9: cap/c: spends: what a decision holds must be known at the decision: "+
			"spends: cost, or no hold")
	f(total+"count_on: accept\nspends: value\n"+money,
		`f.yaml:7:9: cap/c: spends: the value of an outcome is in the workspace's currency, "", `+
			`not in CNY`)
	f("kind: event\nid: order\n---\n"+total+"count_on: order\n"+money,
		"f.yaml:10:8: cap/c: limit: a budget in money counts what offers cost: "+
			"declared events name none")
	f("kind: offer\nid: o\nmessage_class: marketing\ncost: 19.9\n"+
		"treatments: [{id: t, channel: web, content: {type: text, body: a}}]\n",
		`f.yaml:4:7: offer/o: cost: the workspace names no currency: `+
			`write {amount: "20.00", currency: CNY}`)
}
