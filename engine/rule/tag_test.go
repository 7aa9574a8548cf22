package rule

import (
	"testing"

	"tact/storage"
)

// Who holds a tag that became another holds that one, with its own value; of
// several the tag itself counts before those it was.
func TestFormerTags(t *testing.T) {
	now := storage.UnixSec(moment(t, "2026-11-22T12:00:00Z") / 1000)
	f := func(rule string, want bool, tags ...storage.TagValue) {
		t.Helper()
		got := holds(t, mustParse(t, rule), person(t, &storage.Patch{TagsAdd: tags}), nil)
		if got != want {
			t.Errorf("%s with %+v: %v", rule, tags, got)
		}
	}
	f(`{"tag":"churn"}`, true, storage.TagValue{ID: 4})
	f(`{"tag":"churn"}`, false, storage.TagValue{ID: 4, Expires: now})
	f(`{"not":{"tag":"churn"}}`, false, storage.TagValue{ID: 4, Expires: now + 1})
	f(`{"tag":"city_tier","is":"2"}`, true, storage.TagValue{ID: 7, Value: 2})
	f(`{"tag":"city_tier","is":"2"}`, false, storage.TagValue{ID: 2, Value: 1},
		storage.TagValue{ID: 7, Value: 2})
	f(`{"tag":"city_tier","is":"2"}`, true, storage.TagValue{ID: 2, Value: 1, Expires: now},
		storage.TagValue{ID: 7, Value: 2})
	f(`{"safety":true,"tag":"city_tier","is_not":"1"}`, true, storage.TagValue{ID: 5, Value: 2})
}

// The levels of a tier are ordered as the document lists them, whatever their ids.
func TestTier(t *testing.T) {
	f := func(rule string, level storage.Name, want bool) {
		t.Helper()
		p := &storage.Patch{}
		if level != 0 {
			p.TagsAdd = []storage.TagValue{{ID: 6, Value: level}}
		}
		if got := holds(t, mustParse(t, rule), person(t, p), nil); got != want {
			t.Errorf("%s at %d: %v", rule, level, got)
		}
	}
	const low, mid, high, gone = 3, 1, 4, 9
	f(`{"tier":"rfm","gte":"mid"}`, low, false)
	f(`{"tier":"rfm","gte":"mid"}`, mid, true)
	f(`{"tier":"rfm","gte":"mid"}`, high, true)
	f(`{"tier":"rfm","gt":"mid","lte":"high"}`, mid, false)
	f(`{"tier":"rfm","lt":"high"}`, low, true)
	f(`{"tier":"rfm","in":["low","high"]}`, high, true)
	f(`{"tier":"rfm","not_in":["low","high"]}`, mid, true)
	f(`{"tier":"rfm","gte":"low"}`, 0, false) // nothing known is no level
	f(`{"tier":"rfm","is_not":"low"}`, 0, true)
	f(`{"safety":true,"tier":"rfm","is_not":"low"}`, 0, false)
	f(`{"safety":true,"tier":"rfm","is_not":"low"}`, mid, true)
	f(`{"tier":"rfm","gte":"low"}`, gone, false) // a level that the model has no more
	f(`{"tier":"rfm","is_set":true}`, gone, true)
	g := func(rule, en, zh string) {
		t.Helper()
		tree := mustParse(t, rule)
		if got := tree.Explain(nil, nil, "en"); got != en {
			t.Errorf("got %s, want %s", got, en)
		}
		if got := tree.Explain(nil, nil, "zh"); got != zh {
			t.Errorf("got %s, want %s", got, zh)
		}
	}
	g(`{"tier":"rfm","gte":"mid"}`, `tier rfm ≥ mid`, `分层 rfm ≥ mid`)
	g(`{"not":{"tier":"rfm","in":["low","high"]}}`, `tier rfm is not in [low, high]`,
		`分层 rfm 不属于 [low, high]`)
	g(`{"tier":"rfm","is_set":false}`, `tier rfm has no value`, `分层 rfm 无值`)
}

func TestFaultsOfTags(t *testing.T) {
	f := func(rule, want string) {
		t.Helper()
		_, faults := Parse(mustNode(t, rule), testNames(), "rule")
		if len(faults) != 1 {
			t.Fatalf("%s: %+v", rule, faults)
		}
		if got := faults[0].Field + ": " + faults[0].Message + " -> " +
			faults[0].Suggest; got != want {
			t.Errorf("%s:\n got %s\nwant %s", rule, got, want)
		}
	}
	f(`{"tag":"leaving"}`, `rule.tag: the tag "leaving" is "churn" now -> `)
	f(`{"tier":"rf","is":"low"}`, `rule.tier: there is no tier "rf" -> rfm`)
	f(`{"tier":"rfm","is":"lov"}`, `rule.is: "lov" is no level of the tier "rfm" -> low`)
	f(`{"tier":"rfm","gte":3}`, `rule.gte: a level is expected, not the number 3 -> `)
	f(`{"tier":"rfm","contains":"low"}`, `rule.contains: unknown key "contains" -> `)
	f(`{"tier":"rfm"}`, `rule: a comparison is missing, such as is, in, gte or is_set -> `)
}
