package definition

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const publishedSchema = "../../docs/schema.json"

func compiledSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:tact:definition", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("urn:tact:definition")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// inSchema tells what the schema has against a document; nil = nothing.
func inSchema(t testing.TB, s *jsonschema.Schema, n *Node) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(n.AppendJSON(nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestSchemaIsPublished(t *testing.T) {
	published, err := os.ReadFile(publishedSchema)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(published, Schema()) {
		t.Fatal("docs/schema.json is not what Schema returns")
	}
}

func TestSchemaTakesTheExample(t *testing.T) {
	s := compiledSchema(t)
	for _, m := range loadExample(t).metas() {
		if err := inSchema(t, s, m.Raw); err != nil {
			t.Errorf("%s/%s: %v", m.Kind, m.ID, err)
		}
	}
}

// Words of the schema are the words of Load.
func TestSchemaWords(t *testing.T) {
	var doc struct {
		Properties struct{ Kind struct{ Enum []string } }
		Defs       map[string]struct{ Enum []string } `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	f := func(name string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: schema %q, code %q", name, got, want)
		}
	}
	f("kind", doc.Properties.Kind.Enum, Supported())
	f("reason", doc.Defs["reason"].Enum, reasonCodes())
	f("channel", doc.Defs["channel"].Enum, channelNames())
	f("class", doc.Defs["class"].Enum, classNames())
	f("type", doc.Defs["type"].Enum, typeNames())
	f("reaction", doc.Defs["reaction"].Enum, countNames()[4:])
}

// wrongShapes are documents that both Load and the schema refuse.
func wrongShapes() []string {
	const meta = "kind: layer\nid: a\n"
	const quiet = "kind: quiet_hours\nid: a\nwindows: [{from: \"21:00\", until: \"08:00\"}]\n"
	const person = "kind: cap\nid: c\nscope: person\nper: offer\ncount_on: send\n"
	const mixed = "kind: cap\nid: c\nscope: person\nper: offer\nwindow: lifetime\nlimit: 1\n"
	const offer = "kind: offer\nid: o\nmessage_class: marketing\n"
	const treatments = "treatments: [{id: t, channel: web, content: {type: text, body: a}}]\n"
	const experiment = "kind: experiment\nid: e\nlayer: l\nrange: [0%, 1%]\n"
	const test = "kind: test\nid: t\nat: 2026-11-22T10:00:00Z\nuser: {id: u}\n" +
		"decide: {placement: p}\n"
	return []string{
		"hello", "[1]", "kind: layr\nid: a\n", "id: a\n", "kind: layer\n", "kind: layer\nid: A b\n",
		"kind: layer\nid: " + strings.Repeat("a", 65) + "\n", meta + "unknown: 1\n",
		meta + "name: 1\n", meta + "name: {english: a}\n", meta + "labels: [a]\n", meta + "owner: \"\"\n",
		"kind: tag\nid: \"a\\nb\"\n", "kind: tag\nid: a\nttl: 5x\n", "kind: tag\nid: a\nvalues: [1]\n",
		"kind: tag\nid: " + strings.Repeat("高", 65) + "\n",
		"kind: attribute\nid: a\n", "kind: attribute\nid: a\ntype: text\n",
		"kind: attribute\nid: a\ntype: int\nvalues: [a]\n",
		"kind: attribute\nid: a\ntype: string\nvalues: [a, a]\n",
		"kind: event\nid: a\nproperties: [a]\n", "kind: event\nid: a\nproperties: {a: int}\n",
		"kind: segment\nid: a\n", "kind: segment\nid: a\nmembers: dynamic\n",
		"kind: workspace\nid: a\nquiet_hours: {channels: [sms]}\n",
		"kind: workspace\nid: a\nquiet_hours: {channels: [sms], windows: [{from: 9:00}]}\n",
		"kind: calendar\nid: a\n", "kind: calendar\nid: a\ndays: []\n",
		"kind: calendar\nid: a\ndays: [{from: 2026-01-01}]\n",
		"kind: calendar\nid: a\ndays: [{date: 2026-1-1}]\n",
		"kind: calendar\nid: a\ndays: [{date: 2026-01-01, until: 2026-01-02}]\n",
		"kind: calendar\nid: a\nsource: \"\"\ndays: [{date: 2026-01-01}]\n",
		"kind: quiet_hours\nid: a\n", "kind: quiet_hours\nid: a\nwindows: []\n",
		"kind: quiet_hours\nid: a\non: []\n", "kind: quiet_hours\nid: a\non: [a/b/c]\n",
		quiet + "applies_to: {}\n", quiet + "applies_to: {message_classes: [mandatory]}\n",
		quiet + "when_hit: wait\n", quiet + "segment: [a]\n",
		"kind: quiet_hours\nid: a\nwindows: [{from: \"21:00\", until: \"08:00\", days: []}]\n",
		"kind: quiet_hours\nid: a\nwindows: [{from: \"21:00\", until: \"08:00\", days: [mon]}]\n",
		"kind: workspace\nid: a\nzones: []\n", "kind: workspace\nid: a\nlocale: chinese\n",
		"kind: workspace\nid: a\ncurrency: rmb\n",
		person + "window: lifetime\n", person + "window: 7d\nlimit: 1\n",
		person + "window: {}\nlimit: 1\n", person + "window: {rolling: 7d, zone: UTC}\nlimit: 1\n",
		person + "window: {rolling: 7d, calendar: day}\nlimit: 1\n",
		person + "window: lifetime\nlimit: -1\n", person + "window: lifetime\nlimit: 1.5\n",
		person + "window: lifetime\nlimit: 1\napplies_to: {}\n",
		person + "window: lifetime\nlimit: 1\napplies_to: {offers: {}}\n",
		person + "window: lifetime\nlimit: 1\napplies_to: {offers: none}\n",
		person + "window: lifetime\nlimit: 1\napplies_to: {channels: [fax]}\n",
		person + "window: {between: [a, b]}\nlimit: 1\n",
		person + "window: {rolling: 7d, between: [a, b]}\nlimit: 1\n",
		person + "window: lifetime\nlimit: {attribute: a}\n",
		person + "window: lifetime\nlimit: 1000001\n",
		person + "window: lifetime\nlimit: 1\nsuppress: {after: 1, of: send, for: 1d}\n",
		person + "window: lifetime\nlimit: 1\nsuppress: {after: 0, of: click, for: 1d}\n",
		person + "window: lifetime\nlimit: {amount: 5, currency: CNY}\n",
		person + "window: lifetime\nlimit: 5\nspends: cost\n",
		"kind: cap\nid: c\nscope: total\nper: all\ncount_on: send\nwindow: lifetime\n" +
			"limit: {amount: 5, currency: yuan}\n",
		"kind: cap\nid: c\nscope: total\nper: all\ncount_on: send\nwindow: lifetime\n" +
			"limit: {amount: \"5,00\", currency: CNY}\n",
		mixed + "count_on: [send, order]\n",
		mixed + "count_on: [send, click]\n", mixed + "count_on: [send, decision]\n",
		"kind: cap\nid: c\nscope: total\nper: offer\ncount_on: send\nlimit: 1\n" +
			"window: {calendar: day, zone: user}\n",
		offer, offer + "treatments: []\n", offer + treatments + "group: a//b\n",
		offer + treatments + "cost: a\n", offer + treatments + "cost: {amount: 5}\n",
		offer + treatments + "value: a\n", offer + treatments + "value: -1\n",
		offer + treatments + "propensity: 2\n", offer + treatments + "holdout: true\n",
		offer + treatments + "start: tomorrow\n", offer + treatments + "eligibility: yes\n",
		offer + treatments + "attributes: {a: {b: c}}\n", offer + treatments + "caps: a\n",
		offer + "treatments: [{id: t, channel: web, content: {type: json, body: a}}]\n",
		offer + "treatments: [{id: t, channel: web, content: {type: text, body: {a: b}}}]\n",
		offer + "treatments: [{id: t, channel: web}]\n",
		"kind: placement\nid: p\nchannel: web\n",
		"kind: placement\nid: p\nchannel: web\npolicy: q\ncount: 0\n",
		"kind: placement\nid: p\nchannel: web\npolicy: q\ncontext: {a: text}\n",
		"kind: placement\nid: p\nchannel: web\npolicy: q\ncontext: {placement: string}\n",
		"kind: placement\nid: p\nchannel: web\npolicy: q\ncontext: {channel: string}\n",
		"kind: decision_policy\nid: p\ncandidates: all\n",
		"kind: decision_policy\nid: p\nranking: {by: order}\n",
		"kind: decision_policy\nid: p\nranking: {by: order, offers: [], value: 1}\n",
		"kind: decision_policy\nid: p\nranking: {by: product, offers: []}\n",
		"kind: decision_policy\nid: p\nfallback: o\n", "kind: decision_policy\nid: p\nexploration: 0\n",
		experiment, experiment + "variants: []\n", experiment + "variants: [{id: v}]\n",
		experiment + "variants: [{id: v, weight: -1}]\n",
		experiment + "variants: [{id: v, weight: 1, set: {offers: {o: true}}}]\n",
		experiment + "variants: [{id: v, weight: 1, set: {offers: {o: {}}}}]\n",
		experiment + "variants: [{id: v, weight: 1, set: {placements: {p: q}}}]\n",
		"kind: experiment\nid: e\nlayer: l\nvariants: [{id: v, weight: 1}]\nrange: [0, 1]\n",
		"kind: holdout\nid: h\n", "kind: holdout\nid: h\nrange: [0%]\n",
		"kind: holdout\nid: h\nrange: [0%, 101%]\n", "kind: holdout\nid: h\nrange: [00%, 1%]\n",
		"kind: holdout\nid: h\nrange: [0%, 1.234%]\n",
		"kind: holdout\nid: h\nrange: [0%, 1%]\nclasses: [mandatory]\n",
		test, test + "expect: {}\n", test + "expect: {offer: o, no_decision: capped_user}\n",
		test + "expect: {no_decision: capped}\n", test + "expect: {no_decision: error, treatment: t}\n",
		"kind: test\nid: t\nat: now\nuser: {id: u}\ndecide: {placement: p}\nexpect: {offer: o}\n",
		"kind: test\nid: t\nat: 2026-11-22T10:00:00Z\nuser: {}\ndecide: {placement: p}\n" +
			"expect: {offer: o}\n",
	}
}

func TestSchemaRefusesWhatLoadRefuses(t *testing.T) {
	s := compiledSchema(t)
	f := func(text string) {
		t.Helper()
		docs, faults, whole := readYAML(File{Name: "f.yaml", Content: []byte(text)})
		if !whole || len(docs) != 1 || len(faults) > 0 {
			t.Fatalf("%s: not one document: %v", text, faults)
		}
		refused := slices.DeleteFunc(wrong(text), func(fault string) bool {
			return strings.Contains(fault, ": there is no ")
		})
		if len(refused) == 0 {
			t.Errorf("Load takes\n%s", text)
		}
		if inSchema(t, s, docs[0]) == nil {
			t.Errorf("the schema takes\n%s", text)
		}
	}
	for _, text := range wrongShapes() {
		f(text)
	}
	for _, c := range unsupported() {
		f(c.text)
	}
}

// Condition trees of the atoms that are supported, and of those that are not.
func TestSchemaOfTrees(t *testing.T) {
	s := compiledSchema(t)
	f := func(tree string, want bool) {
		t.Helper()
		n, err := NodeFromJSON([]byte(`{"kind":"experiment","id":"e","layer":"l",`+
			`"range":["0%","1%"],"variants":[{"id":"v","weight":1}],"targeting":`+tree+`}`), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := inSchema(t, s, n); (err == nil) != want {
			t.Errorf("%s: %v, want %v", tree, err, want)
		}
	}
	f(`{"all":[]}`, true)
	f(`{"safety":true,"note":"n","id":"i","any":[{"not":{"tag":"t"}},{"tag":"t","in":["a"]}]}`, true)
	f(`{"attribute":"a","is":1,"is_not":"b","in":[1],"not_in":[true],"fold":true}`, true)
	f(`{"attribute":"a","gt":1,"gte":1,"lt":1,"lte":1,"between":[1,2]}`, true)
	f(`{"attribute":"a","starts_with":"a","ends_with":"b","contains":"c","matches":"d"}`, true)
	f(`{"attribute":"a","is_set":false}`, true)
	f(`{"attribute":"a","before":"2026-01-01","after":"2026-01-01"}`, true)
	f(`{"attribute":"a","within_last":"30d","within_next":"1h"}`, true)
	f(`{"attribute":"a","years_since":{"gte":18},"months_since":{"between":[1,2]}}`, true)
	f(`{"attribute":"a","anniversary":{"before":"3d","after":"0d"}}`, true)
	f(`{"attribute":"a","is":{"offer":"category"}}`, true)
	f(`{"context":"page","in":["home"]}`, true)
	f(`{"segment":"s"}`, true)
	f(`{"percent":["0%","10%"],"salt":"x"}`, true)
	f(`{"percent":["0%","10%"]}`, false)
	f(`{"any":[]}`, false)
	f(`{"attribute":"a","in":[]}`, false)
	f(`{}`, false)
	f(`{"attribute":"a"}`, false)
	f(`{"attribute":"a","iz":1}`, false)
	f(`{"attribute":"a","tag":"t","is":"x"}`, false)
	f(`{"all":{}}`, false)
	f(`{"segment":"s","is":1}`, false)
	f(`{"tier":"t","is":"a"}`, true)
	f(`{"tier":"t","gte":"a","not_in":["b"]}`, true)
	f(`{"tier":"t","contains":"a"}`, false)
	f(`{"event":"e"}`, true)
	f(`{"event":"e","count":{"gte":2},"within":"30d","where":[{"property":"p","is":true}]}`, true)
	f(`{"event":"e","sum":{"gte":2},"of":"p","window":{"calendar":"week","zone":"user"}}`, true)
	f(`{"event":"e","distinct":"day","count":{"gte":2}}`, true)
	f(`{"event":"e","distinct":{"gte":2},"of":"p","window":"lifetime"}`, true)
	f(`{"event":"e","last":{"within_last":"3d"}}`, true)
	f(`{"event":"e","window":{"between":["2026-01-01T00:00:00Z","2026-02-01T00:00:00Z"]}}`, true)
	f(`{"event":"e","within":"1d","window":"lifetime"}`, false)
	f(`{"event":"e","count":2}`, false)
	f(`{"event":"e","offers":"all"}`, false)
	f(`{"outcome":"click"}`, true)
	f(`{"outcome":"click","offers":{"ids":["o"],"groups":["a/b"]},"count":{"lt":3}}`, true)
	f(`{"outcome":"clik"}`, false)
	f(`{"outcome":"click","where":[{"property":"p","is":1}]}`, false)
	f(`{"sequence":[]}`, false)
	f(`{"sequence":[{"event":"a"},{"outcome":"click"}],"within":"7d","without":{"event":"c"}}`, true)
	f(`{"sequence":[{"event":"a"},{"event":"b"}]}`, false)
	f(`{"not_seen_for":"7d"}`, true)
	f(`{"not_seen_for":7}`, false)
	f(`[]`, false)
}
