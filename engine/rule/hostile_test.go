package rule

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"tact/engine/definition"
)

// allocated is how many bytes a call takes, given back or not; the least of three.
func allocated(f func()) uint64 {
	least := ^uint64(0)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// A rule that is wrong, too large or meant to hurt is refused with the place named,
// and costs no more memory than so many times its text and a fixed part.
func TestHostileRules(t *testing.T) {
	names := testNames()
	names.Rules = map[string]*Tree{"wide": mustParse(t, `{"any":[`+
		strings.Repeat(`{"tag":"churn"},`, 6_000)+`{"tag":"churn"}]}`)}
	const perByte, fixed = 256, 4 << 20 // a list of numbers: two bytes a value
	f := func(text, want string) {
		t.Helper()
		got := ""
		bytes := allocated(func() {
			n, err := definition.NodeFromJSON([]byte(text), "rule.json")
			if err != nil {
				got = err.Error()
				return
			}
			tree, faults := Parse(n, names, "rule")
			if tree != nil || len(faults) == 0 {
				got = "taken"
				return
			}
			got = fmt.Sprintf("%v %s: %s", faults[0].Pos, faults[0].Field, faults[0].Message)
		})
		if !strings.Contains(got, want) {
			t.Errorf("%.80s\n got %.300s\nwant %s", text, got, want)
		}
		if bound := uint64(perByte*len(text) + fixed); bytes > bound {
			t.Errorf("%.80s: %d bytes of text took %d bytes, more than %d", text, len(text), bytes, bound)
		}
	}
	many := func(one string, n int) string { return strings.Repeat(one+",", n-1) + one }
	f(`{"attribute":"agee","gte":18}`, `1:14 rule.attribute: there is no attribute "agee"`)
	f(`{"attribute":"age","gtee":18}`, `1:20 rule.gtee: unknown key "gtee"`)
	f(`{"tags":"churn"}`, `1:2 rule.tags: unknown condition "tags"`)
	f(`{"event":"order","sum":{"gte":1},"of":"sku"}`, `rule.of: "sku" is a string: an int or a float`)
	f(`{"all":[{"tag":"churn"},{"attribute":"age","gte":"18"}]}`,
		`1:50 rule.all[1].gte: "age" is an int: a whole number is expected, not "18"`)
	f(`{"attribute":"subscribed","is":1}`, `1:32 rule.is: "subscribed" is a bool: true or false`)
	f(`{"any":[`+many(`{"tag":"churn"}`, 10_000)+`]}`, `: the rule has more than 10000 conditions`)
	f(`{"any":[`+many(`{"tag":"churn"}`, 200_000)+`]}`, `any[87380].tag: too many values and keys`)
	f(`{"any":[`+many(`{"segment":"wide"}`, 2)+`]}`,
		`1:39 rule.any[1].segment: with its segments the rule has more than 10000 conditions`)
	f(`{"any":[`+many(`{"segment":"wide"}`, 9_000)+`]}`,
		`1:39 rule.any[1].segment: with its segments the rule has more than 10000 conditions`)
	f(`{"any":[`+many(`{"x":1}`, 9_000)+`]}`, `1:10 rule.any[0].x: unknown condition "x"`)
	f(strings.Repeat(`{"not":`, 5_000)+`{"tag":"churn"}`+strings.Repeat(`}`, 5_000), `nested deeper than 32 levels`)
	f(`{"attribute":"age","in":[`+many("1", 100_001)+`]}`,
		`1:25 rule.in: the lists of a rule have at most 100000 values: use a static segment`)
	f(`{"attribute":"age","months_since":{"in":[`+many("1", 50_000)+`]}}`, `"age" is an int`)
	f(`{"attribute":"birthday","months_since":{"in":[`+many("1", 50_000)+`]}}`,
		`rule.months_since.in: the rule has more than 10000 conditions`)
	pattern := func(p string) string { return `{"attribute":"city","matches":"` + p + `"}` }
	f(pattern(`((((`), `1:31 rule.matches: not a regular expression: missing closing )`)
	f(pattern(`(a*)*b(`), `rule.matches: not a regular expression`)
	f(pattern(strings.Repeat(`a`, 257)), `rule.matches: a regular expression has at most 256 bytes`)
	f(pattern(`((a{1,100}){1,100}){1,100}`), `rule.matches: not a regular expression: invalid repeat`)
	f(pattern(`(\\pL{1,100}){1,10}`), `rule.matches: the regular expression is too large`)
	f(pattern(`(?i)(`+strings.Repeat(`\\pL|`, 40)+`x){1000}`),
		`rule.matches: the regular expression is too large`)
	f(pattern(strings.Repeat(`(`, 120)+strings.Repeat(`)`, 120)+`{1000}`), `rule.matches: `)
}

// A regular expression that is taken costs a decision no more than it may: the
// longest value that is looked at, through the largest expression, without an
// allocation.
func TestHostilePatternsAtWork(t *testing.T) {
	value := []byte(strings.Repeat("a", MaxMatched))
	for _, p := range []string{`(a*)*b`, `(a|aa)+$b`, `(.*)(.*)(.*)(.*)(.*)[^a]`, `(a{1,40}){1,10}b`} {
		test := compile(mustParse(t, `{"attribute":"city","matches":"`+p+`"}`).rule.leaf).test
		for range 3 { // the matcher keeps its memory
			test.string(value)
		}
		if n := testing.AllocsPerRun(5, func() { test.string(value) }); n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", p, n)
		}
		if test.string(append(value, 'b')) {
			t.Errorf("%s looks at more than %d bytes", p, MaxMatched)
		}
	}
}
