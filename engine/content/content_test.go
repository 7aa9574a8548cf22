package content

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tact/engine/definition"
)

// The variables of the tests: one of every type, and texts.
func variables() []struct {
	path  string
	kind  definition.AttrType
	value Value
} {
	type variable = struct {
		path  string
		kind  definition.AttrType
		value Value
	}
	text := func(path, s string) variable {
		v := Value{Set: true, Kind: definition.TypeString, Bytes: []byte(s)}
		return variable{path, definition.TypeString, v}
	}
	number := func(path string, kind definition.AttrType, bits uint64) variable {
		return variable{path, kind, Value{Set: true, Kind: kind, Num: bits}}
	}
	noon := time.Date(2026, 11, 22, 12, 5, 9, 7e6, time.UTC).UnixMilli()
	return []variable{
		text("user.id", "u1"),
		text("user.first_name", "小雨"),
		text("user.bad", "a<b>&\"'\x00\x1b\r\n\t\xff\u2028\u0085z"),
		text("user.empty", ""),
		text("user.高价值", "是"),
		text("user.Order No", "77"),
		text("user.day", "2015-07-17"),
		{"user.missing", definition.TypeString, Value{}},
		number("user.yes", definition.TypeBool, 1),
		number("user.no", definition.TypeBool, 0),
		number("user.int", definition.TypeInt, 7),
		number("user.least", definition.TypeInt, 1<<63),
		number("user.zero", definition.TypeInt, 0),
		number("user.float", definition.TypeFloat, math.Float64bits(19.9)),
		number("user.whole", definition.TypeFloat, math.Float64bits(100)),
		number("user.nan", definition.TypeFloat, math.Float64bits(math.NaN())),
		number("user.birthday", definition.TypeDate, 9618), // 1996-05-02
		number("user.far", definition.TypeDate, 1<<62),
		number("user.seen", definition.TypeTime, uint64(noon)),
		number("user.list", definition.TypeList, 0),
		text("user.version", "1.10.0"),
		text("context.page", "home"),
		text("user.long", strings.Repeat("长a ", 10_000)),
		text("user.huge", strings.Repeat("x", MaxOutput+1)),
		text("user.quotes", strings.Repeat("<", MaxOutput/2)),
	}
}

func resolveTest(path string) (Source, bool) {
	for i, v := range variables() {
		if v.path == path {
			return Source{Space: SpaceUserAttr, ID: uint32(i), Type: v.kind}, true
		}
	}
	return Source{}, false
}

func valuesOf(t *Template) []Value {
	all := variables()
	values := make([]Value, len(t.Sources()))
	for i, s := range t.Sources() {
		values[i] = all[s.ID].value
	}
	return values
}

func stringNode(s string) *definition.Node {
	return &definition.Node{Kind: definition.NodeString, Text: s}
}

func mapNode(pairs ...any) *definition.Node {
	n := &definition.Node{Kind: definition.NodeMap}
	for i := 0; i < len(pairs); i += 2 {
		value, ok := pairs[i+1].(*definition.Node)
		if !ok {
			value = stringNode(pairs[i+1].(string))
		}
		n.Keys = append(n.Keys, definition.Key{Name: pairs[i].(string), Value: value})
	}
	return n
}

func mustCompile(t testing.TB, kind string, body *definition.Node) *Template {
	t.Helper()
	tpl, faults := Compile(definition.Content{Type: kind, Body: body}, resolveTest)
	if len(faults) > 0 {
		t.Fatalf("faults: %+v", faults)
	}
	return tpl
}

func rendered(t testing.TB, kind, template string) string {
	t.Helper()
	body := stringNode(template)
	if kind == "json" {
		body = mapNode("t", template)
	}
	tpl := mustCompile(t, kind, body)
	got, err := tpl.Append([]byte("keep"), valuesOf(tpl), &Scratch{})
	if err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	return strings.TrimPrefix(string(got), "keep")
}

// Golden values of the Liquid reference, shopify.dev/docs/api/liquid/filters and
// shopify.github.io/liquid/filters, each from the page of its filter.
func TestLiquidReference(t *testing.T) {
	f := func(template, want string) {
		t.Helper()
		if got := rendered(t, "text", template); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
	}
	f(`{{ -17 | abs }}`, "17")
	f(`{{ "-19.86" | abs }}`, "19.86")
	f(`{{ "/my/fancy/url" | append: ".html" }}`, "/my/fancy/url.html")
	f(`{{ 4 | at_least: 5 }} {{ 4 | at_least: 3 }}`, "5 4")
	f(`{{ 4 | at_most: 5 }} {{ 4 | at_most: 3 }}`, "4 3")
	f(`{{ "title" | capitalize }} {{ "my GREAT title" | capitalize }}`, "Title My great title")
	f(`{{ 1.2 | ceil }} {{ 2.0 | ceil }} {{ 183.357 | ceil }} {{ "3.5" | ceil }}`, "2 2 184 4")
	f(`{{ "2015-07-17" | date: "%a, %b %d, %y" }}`, "Fri, Jul 17, 15")
	f(`{{ "2015-07-17" | date: "%Y" }}`, "2015")
	f(`{{ user.missing | default: 2.99 }}`, "2.99")
	f(`{{ user.empty | default: 2.99 }}`, "2.99")
	f(`{{ false | default: true }} {{ false | default: true, allow_false: true }}`, "true false")
	f(`{{ 16 | divided_by: 4 }} {{ 5 | divided_by: 3 }} {{ 20 | divided_by: 7 }}`, "4 1 2")
	f(`{{ 20 | divided_by: 7.0 }}`, "2.857142857142857")
	f(`{{ "Parker Moore" | downcase }} {{ "apple" | downcase }}`, "parker moore apple")
	f(`{{ "Have you read 'James & the Giant Peach'?" | escape }}`,
		"Have you read &#39;James &amp; the Giant Peach&#39;?")
	f(`{{ "1 < 2 & 3" | escape_once }} {{ "1 &lt; 2 &amp; 3" | escape_once }}`,
		"1 &lt; 2 &amp; 3 1 &lt; 2 &amp; 3")
	f(`{{ 1.2 | floor }} {{ 2.0 | floor }} {{ 183.357 | floor }}`, "1 2 183")
	f(`{{ "          So much room for activities          " | lstrip }}!`,
		"So much room for activities          !")
	f(`{{ 4 | minus: 2 }} {{ 16 | minus: 4 }} {{ 183.357 | minus: 12 }}`, "2 12 171.357")
	f(`{{ 3 | modulo: 2 }} {{ 24 | modulo: 7 }} {{ 183.357 | modulo: 12 }}`, "1 3 3.357")
	f("{{ 'Hello\nthere' | newline_to_br }}", "Hello<br />\nthere")
	f(`{{ 4 | plus: 2 }} {{ 183.357 | plus: 12 }}`, "6 195.357")
	f(`{{ "apples, oranges, and bananas" | prepend: "Some fruit: " }}`,
		"Some fruit: apples, oranges, and bananas")
	f(`{{ "I strained to see the train through the rain" | remove: "rain" }}`,
		"I sted to see the t through the ")
	f(`{{ "I strained to see the train through the rain" | remove_first: "rain" }}`,
		"I sted to see the train through the rain")
	f(`{{ "Take my protein pills and put my helmet on" | replace: "my", "your" }}`,
		"Take your protein pills and put your helmet on")
	f(`{{ "Take my protein pills and put my helmet on" | replace_first: "my", "your" }}`,
		"Take your protein pills and put my helmet on")
	f(`{{ 1.2 | round }} {{ 2.7 | round }} {{ 183.357 | round: 2 }}`, "1 3 183.36")
	f(`{{ "          So much room for activities          " | rstrip }}!`,
		"          So much room for activities!")
	f(`{{ "Ground control to Major Tom." | size }}`, "28")
	f(`{{ "Liquid" | slice: 0 }} {{ "Liquid" | slice: 2 }} {{ "Liquid" | slice: 2, 5 }}`, "L q quid")
	f(`{{ "Liquid" | slice: -3, 2 }}`, "ui")
	f(`{{ "          So much room for activities          " | strip }}!`,
		"So much room for activities!")
	f(`{{ "Have <em>you</em> read <strong>Ulysses</strong>?" | strip_html }}`,
		"Have you read Ulysses?")
	f(`{{ 3 | times: 2 }} {{ 24 | times: 7 }} {{ 183.357 | times: 12 }}`, "6 168 2200.284")
	f(`{{ "Ground control to Major Tom." | truncate: 20 }}`, "Ground control to...")
	f(`{{ "Ground control to Major Tom." | truncate: 25, ", and so on" }}`,
		"Ground control, and so on")
	f(`{{ "Ground control to Major Tom." | truncate: 20, "" }}`, "Ground control to Ma")
	f(`{{ "Ground control to Major Tom." | truncatewords: 3 }}`, "Ground control to...")
	f(`{{ "Ground control to Major Tom." | truncatewords: 3, "--" }}`, "Ground control to--")
	f(`{{ "Ground control to Major Tom." | truncatewords: 3, "" }}`, "Ground control to")
	f(`{{ "Parker Moore" | upcase }} {{ "APPLE" | upcase }}`, "PARKER MOORE APPLE")
	f(`{{ "%27Stop%21%27+said+Fred" | url_decode }}`, "'Stop!' said Fred")
	f(`{{ "john@liquid.com" | url_encode }} {{ "Tetsuro Takara" | url_encode }}`,
		"john%40liquid.com Tetsuro+Takara")
}

// What the reference leaves open, and what is our own.
func TestRules(t *testing.T) {
	f := func(template, want string) {
		t.Helper()
		if got := rendered(t, "text", template); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
	}
	// Variables of every type.
	f(`{{user.id}}|{{ user.int }}|{{ user.float }}|{{ user.whole }}`, "u1|7|19.9|100.0")
	f(`{{ user.yes }}|{{ user.no }}|{{ user.version }}|{{ context.page }}`, "true|false|1.10.0|home")
	f(`{{ user.birthday }}|{{ user.seen }}`, "1996-05-02|2026-11-22 12:05:09 +0000")
	f(`{{ user['Order No'] }}{{ user["first_name"] }}{{ user.高价值 }}`, "77小雨是")
	f(`[{{ user.missing }}{{ nil }}{{ blank }}{{ user.missing | upcase | append: '' }}]`, "[]")
	// White space control, and braces that are no tags.
	f("a  {{- user.id -}} \n b", "au1b")
	f("{{- user.id }} { } }} %} {x", "u1 { } }} %} {x")
	f(`{{ '}}{{' }} {{ "it's" }}`, "}}{{ it's")
	f(`{{ user.int | minus: -3}} {{user.int-}} x`, "10 7x")
	// default
	f(`{{ user.first_name | default: '朋友' }},{{ user.missing | default: '朋友' }}`, "小雨,朋友")
	f(`{{ user.no | default: 'x' }}{{ user.no | default: 'x', allow_false: true }}`, "xfalse")
	f(`{{ user.zero | default: 'x' }}{{ user.missing | default: user.id }}`, "0u1")
	// Characters, not bytes.
	f(`{{ '新客立减二十元' | truncate: 5, '…' }}{{ '新客' | size }}{{ '新客立减' | slice: -2, 1 }}`,
		"新客立减…2立")
	f(`{{ 'éclair ÀÉ' | capitalize }} {{ 'straße' | upcase }}`, "Éclair àé STRAßE")
	f("{{ '\u3000全角 \u3000' | strip }}!", "全角!")
	f(`{{ 'abc' | truncate: 2 }}{{ 'abc' | truncate: 0, '' }}{{ 'abc' | truncate: 3 }}`, "...abc")
	f(`{{ 'abc' | slice: 3 }}{{ 'abc' | slice: -4 }}{{ 'abc' | slice: 1, 99 }}`, "bc")
	f(`{{ 'a  b   c' | truncatewords: 0 }}{{ 'a  b' | truncatewords: 2 }}`, "a...a  b")
	f(`{{ 'abc' | slice: '1', '-0' }}{{ 'abc' | slice: '-2', 5 }}{{ 'abc' | replace: 'b' }}`, "bcac")
	f(`{{ 'aaa' | replace: 'a', 'aa' }} {{ '中文' | replace: '', '-' }}`, "aaaaaa -中-文-")
	f(`{{ 'a%2' | url_decode }}{{ '%zz%41' | url_decode }}{{ '新' | url_encode }}`, "a%2%zzA%E6%96%B0")
	// Numbers.
	f(`{{ user.float | times: 3 }} {{ 0.1 | plus: 0.2 }} {{ 0.3 | divided_by: 0.1 }}`, "59.7 0.3 3.0")
	f(`{{ -7 | divided_by: 2 }} {{ -7 | modulo: 3 }} {{ 7 | modulo: -3 }}`, "-4 2 -2")
	f(`{{ -7.5 | modulo: 2 }} {{ '3 apples' | plus: 1 }} {{ 'x' | plus: 1 }}`, "0.5 4 1")
	f(`{{ 1.005 | round: 2 }} {{ -2.5 | round }} {{ 0.5 | round }} {{ 1250 | round: -2 }}`,
		"1.01 -3 1 1300")
	f(`{{ -1.5 | ceil }} {{ -1.5 | floor }} {{ 0.0001 | ceil }} {{ -0.0001 | floor }}`, "-1 -2 1 -1")
	f(`{{ 12 | plus: '1.5' }} {{ nil | plus: 2 }} {{ true | plus: 2 }}`, "13.5 2 2")
	f(`{{ 9007199254740993.0 | plus: 0.5 }} {{ 0.000001 | times: 0.01 }}`, "9007199254740992.0 1e-08")
	f(`{{ user.int | at_least: 7.5 }} {{ user.least | at_most: 0 }}`, "7.5 -9223372036854775808")
	f(`{{ 1 | plus: '0.0' }} {{ 1 | plus: '-2' }}`, "1.0 -1")
	f(`{{ 4.9 | round: 0 }} {{ 12345678901234567890.0 | divided_by: 10000.0 | floor }}`,
		"5 1234567890123456")
	// json
	f(`{{ user.first_name | json }} {{ user.missing | json }} {{ user.int | json }}`, `"小雨" null 7`)
	f(`{{ user.yes | json }} {{ user.birthday | json }}`, `true "1996-05-02"`)
	// strip_html
	f(`{{ '<script>x<b></script>a<!-- <b> -->b<style>i{}</style>c<d' | strip_html }}`, "abc<d")
	f(`{{ '<script>a<b>c' | strip_html }}{{ '&#x; &amp &a;' | escape_once }}`,
		"ac&amp;#x; &amp;amp &a;")
}

// Arithmetic and rounding against exact fractions: the result is the float64
// nearest to what paper and pencil give.
func TestDecimalModel(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	number := func() (float64, *big.Rat) {
		text := fmt.Sprintf("%.*f", random.IntN(5), (random.Float64()-0.5)*math.Pow10(random.IntN(6)))
		exact, _ := new(big.Rat).SetString(text)
		f, _ := exact.Float64()
		return f, exact
	}
	for range 20_000 {
		x, exactX := number()
		y, exactY := number()
		f := func(filter filter, want *big.Rat) {
			t.Helper()
			c := call{filter: filter}
			got, err := new(render).number(&c, floatValue(x), [2]value{floatValue(y)})
			if nearest, _ := want.Float64(); err != nil || got.float() != nearest {
				t.Fatalf("%v %v: filter %d gives %v %v, want %v", x, y, filter, got.float(), err, nearest)
			}
		}
		f(filterPlus, new(big.Rat).Add(exactX, exactY))
		f(filterMinus, new(big.Rat).Sub(exactX, exactY))
		f(filterTimes, new(big.Rat).Mul(exactX, exactY))

		places := random.IntN(5)
		got, err := roundNumber(floatValue(x), places, roundHalfAway)
		want, _ := new(big.Rat).SetString(exactX.FloatString(places)) // rounds half away from zero
		if nearest, _ := want.Float64(); err != nil || asFloat(got) != nearest {
			t.Fatalf("round %v to %d: %v, want %v", x, places, asFloat(got), nearest)
		}
		up, _ := roundNumber(floatValue(x), 0, roundUp)
		down, _ := roundNumber(floatValue(x), 0, roundDown)
		if float64(up.int()) != math.Ceil(x) || float64(down.int()) != math.Floor(x) {
			t.Fatalf("%v: ceil %d, floor %d", x, up.int(), down.int())
		}
	}
}

func TestDates(t *testing.T) {
	f := func(template, want string) {
		t.Helper()
		tpl := mustCompile(t, "text", stringNode(template))
		scratch := Scratch{Zone: time.FixedZone("CST", 8*3600)}
		got, err := tpl.Append(nil, valuesOf(tpl), &scratch)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q %v, want %q", template, got, err, want)
		}
	}
	// A time is written in the person's zone, a date has none.
	f(`{{ user.seen | date: '%Y年%-m月%-d日 %H:%M' }}`, "2026年11月22日 20:05")
	f(`{{ user.birthday | date: '%m月%d日' }} {{ user.seen }}`, "05月02日 2026-11-22 20:05:09 +0800")
	f(`{{ user.seen | date: '%B %b %h %A %a %j %e %y %% %I %l %p %P %M %S %L' }}`,
		"November Nov Nov Sunday Sun 326 22 26 % 08  8 PM pm 05 09 007")
	f(`{{ user.seen | date: '%F %T %X %R %D %x %z %u %w %s %k' }}`,
		"2026-11-22 20:05:09 20:05:09 20:05 11/22/26 11/22/26 +0800 7 0 1795349109 20")
	f(`{{ user.seen | date: '%c %Z %U %W' }}{{ '2023-01-01' | date: '%U %W' }}`,
		"Sun Nov 22 20:05:09 2026 CST 47 4601 00")
	f(`{{ '2026-11-22 00:30' | date: '%I%p' }} {{ '2026-11-22 12:30' | date: '%I%P' }}`, "12AM 12pm")
	f(`{{ 0 | date: '%F %R' }} {{ '86400' | date: '%F' }}`, "1970-01-01 08:00 1970-01-02")
	f(`{{ '2026-11-22T02:00:01.5Z' | date: '%F %T.%L' }}`, "2026-11-22 02:00:01.500")
	f(`{{ '2026/1/2 3:04' | date: '%e %-e' }}`, " 2 2")
	f(`{{ '2026-11-22 02:00 -0330' | date: '%z %s' }}`, "-0330 1795325400")
	f(`{{ '2026-13-01' | date: '%F' }} {{ '明天' | date: '%F' }}`, "2026-13-01 明天")
	f(`{{ user.day | date: '%d %B' }} {{ user.missing | date: '%F' }}`, "17 July ")
	f(`{{ user.day | date: '' }} {{ user.day | date: user.id }}`, "2015-07-17 u1")
	f(`{{ '2026-11-22x' | date: '%F' }}{{ '2026-11-22 25:00' | date: '%F' }}`,
		"2026-11-22x2026-11-22 25:00")
}

func TestEscaping(t *testing.T) {
	f := func(kind, template, want string) {
		t.Helper()
		if got := rendered(t, kind, template); got != want {
			t.Errorf("%s %s: %q, want %q", kind, template, got, want)
		}
	}
	f("text", `"<{{ user.bad }}>"`, "\"<a<b>&\"'\n\t\uFFFD\u2028z>\"")
	f("html", `<p title="{{ user.bad }}">`,
		"<p title=\"a&lt;b&gt;&amp;&quot;&#39;\n\t\uFFFD\u2028z\">")
	f("json", `"<{{ user.bad }}`,
		`{"t":"\"\u003ca\u003cb\u003e\u0026\"'\u0000\u001b\r\n\t\ufffd\u2028\u0085z"}`)
	// The author's own escaping is not done twice, but only where it is still whole.
	f("html", `{{ user.bad | escape | strip }}`, "a&lt;b&gt;&amp;&quot;&#39;\n\t\uFFFD\u2028z")
	f("html", `{{ '<' | escape }}{{ '&lt;<' | escape_once }}{{ '<' | escape | append: '<' }}`,
		"&lt;&lt;&lt;&amp;lt;&lt;")
	f("html", `{{ '<' | escape | url_decode }}{{ '<' | escape | default: '<' }}`, "&amp;lt;&amp;lt;")
	f("html", "{{ user.bad | newline_to_br | slice: 0 }}", "a")
	f("html", "{{ '<\n' | newline_to_br }}{{ '<' | json }}{{ '%3C' | url_decode }}",
		"&lt;<br />\n&quot;\\u003c&quot;&lt;")
	f("html", "<b>{{ user.first_name | upcase }}</b>", "<b>小雨</b>")
}

func TestJSONBody(t *testing.T) {
	body := mapNode(
		"title", "{{ user.first_name | default: '朋友' }},新客立减 20 元",
		"link", "/coupon?u={{ user.id | url_encode }}&x=1",
		"{{ key }}", "\n",
		"deep", mapNode("n", &definition.Node{}),
		"list", &definition.Node{Kind: definition.NodeList, List: []*definition.Node{
			{Kind: definition.NodeBool, Bool: true},
			{Kind: definition.NodeInt, Int: -5, Text: "-5"},
			{Kind: definition.NodeFloat, Float: 1.5, Text: "1.50"},
			stringNode("{{ user.id }}{{ user.first_name }}"),
		}},
	)
	tpl := mustCompile(t, "json", body)
	got, err := tpl.Append(nil, valuesOf(tpl), &Scratch{})
	want := `{"title":"小雨,新客立减 20 元","link":"/coupon?u=u1\u0026x=1","{{ key }}":"\n",` +
		`"deep":{"n":null},"list":[true,-5,1.5,"u1小雨"]}`
	if err != nil || string(got) != want {
		t.Errorf("%s %v\nwant %s", got, err, want)
	}
	// Each variable once, in order of first use.
	sources := tpl.Sources()
	if len(sources) != 2 || sources[0].ID != 1 || sources[1].ID != 0 {
		t.Errorf("sources %+v", sources)
	}
}

func TestStatic(t *testing.T) {
	f := func(kind string, body *definition.Node, want string, ok bool) {
		t.Helper()
		tpl := mustCompile(t, kind, body)
		got, static := tpl.Static()
		if static != ok || string(got) != want {
			t.Errorf("%q %v, want %q %v", got, static, want, ok)
		}
		if ok && len(tpl.Sources()) > 0 {
			t.Errorf("%+v", tpl.Sources())
		}
	}
	f("text", stringNode("立减 20 元!"), "立减 20 元!", true)
	f("text", stringNode(""), "", true)
	f("text", stringNode("a{{ 'b' | upcase }}c{{ 1 | plus: 1 }}"), "aBc2", true)
	f("html", stringNode("<b>{{ '<' }}{{ '<\n' | newline_to_br }}"), "<b>&lt;&lt;<br />\n", true)
	f("json", mapNode("a", "x{{ '\"' }}"), `{"a":"x\""}`, true)
	f("json", mapNode(), `{}`, true)
	f("text", stringNode("{{ user.id }}"), "", false)
	f("text", stringNode("{{ 'a' | append: user.id }}"), "", false)
	f("text", stringNode("{{ 0 | date: '%F' }}"), "", false) // depends on the zone
}

func TestFaults(t *testing.T) {
	f := func(template, message, suggest string) {
		t.Helper()
		body := stringNode(template)
		body.Pos = definition.Pos{File: "a.yaml", Line: 7, Column: 3}
		tpl, faults := Compile(definition.Content{
			Type: "json", Body: mapNode("a", mapNode("b", body)),
		}, resolveTest)
		if tpl != nil || len(faults) != 1 {
			t.Fatalf("%s: %+v", template, faults)
		}
		got := faults[0]
		if !strings.Contains(got.Message, message) || got.Suggest != suggest ||
			got.Field != "body.a.b" || got.Pos != body.Pos {
			t.Errorf("%s: %+v", template, got)
		}
	}
	f("{{ user.id | upcas }}", `in {{ user.id | upcas }}: unknown filter "upcas"`, "upcase")
	f("{{ user.id | uppercase }}", `unknown filter`, "upcase")
	f("{{ user.id | trim }}", `unknown filter`, "strip")
	f("{{ user.id | urlencode }}", `unknown filter`, "url_encode")
	f("{{ user.id | frobnicate_everything }}", `unknown filter`, "")
	f("{{ user.nam }}", `unknown variable "user.nam"`, "")
	f("{{ first_name }}", `unknown variable "first_name"`, "user.first_name")
	f("{{ page }}", `unknown variable`, "context.page")
	f("{{ user.list }}", "is a list", "")
	f("{{ user.id[0] }}", "only a name in quotes", "")
	f("{{ user.id", "'{{' is not closed", "")
	f("{{ user.id }", "unexpected '}'", "")
	f("{{ 'a }}", "the text after ' is not closed", "")
	f("{{ }}", "needs a variable", "")
	f("{{ ${x} }}", "unexpected '$'", "")
	f("{{ user.id || 'x' }}", "unexpected '|'", "")
	f("{{ user.id | default '朋友' }}", "filter default takes 1 argument, not 0", "")
	f("{{ user.id | default: ‘朋友’ }}", "full-width '‘'", "'")
	f("{{ user.id | default\uff1a'x' }}", "full-width '\uff1a'", ":")
	f("{{ user.id | replace: 'x'\uff0c'y' }}", "full-width '\uff0c'", ",")
	f("{{ user\u3002id }}", "full-width '\u3002'", ".")
	f("{{ user.id \uff5c upcase }}", "full-width '\uff5c'", "|")
	f("{{ user.id | default: 'x', 'y' }}", "filter default takes 1 argument", "")
	f("{{ user.id | truncate: 1.5 }}", "argument 1 must be a whole number", "")
	f("{{ user.id | truncate: 1, 'y', 2 }}", "takes 0 to 2 arguments", "")
	f("{{ user.id | upcase: 1 }}", "takes no argument", "")
	f("{{ user.id | replace }}", "takes 1 to 2 arguments, not 0", "")
	f("{{ user.id | default: 'x', size: 2 }}", `no option "size"`, "")
	f("{{ user.id | default: 'x', allow_false: 2 }}", "must be true or false", "")
	f("{{ user.int | plus: 'x' }}", "argument 1 must be a number", "")
	f("{{ user.int | plus: '3 apples' }}", "argument 1 must be a number", "")
	f("{{ user.int | plus: user.seen }}", "argument 1 must be a number", "")
	f("{{ user.int | divided_by: 0 }}", "division by zero", "")
	f("{{ user.int | modulo: 0.0 }}", "division by zero", "")
	f("{{ user.birthday | plus: 1 }}", "not a number", "")
	f("{{ user.seen | date: '%Q' }}", `unknown directive "%Q"`, "")
	f("{{ user.seen | date: '%年' }}", `unknown directive "%年"`, "")
	f("{{ user.seen | date: '50%' }}", `unknown directive "%"`, "")
	f("{{ 'now' | date: '%Y' }}", "no clock", "")
	f("{{ 99999999999999999999 }}", "out of range", "")
	f("{{ 9223372036854775807 | plus: 1 }}", "out of range", "")
	f("{{ 1. }}", "digit is missing", "")
	f("{% if user.id %}x{% endif %}", "tag {% if %} is not supported yet", "")
	f("a {%- assign x = 1 -%}", "tag {% assign %} is not supported yet", "")
	f("a {%", "are not supported yet", "")
	f("\xff", "not valid UTF-8", "")
	f("{{ user.id"+strings.Repeat("| upcase", maxFilters+1)+"}}", "more than 16 filters", "")

	// Everything at once, and a full-width colon.
	_, faults := Compile(definition.Content{
		Type: "text",
		Body: stringNode("{{ a }} {{ user.id }} {{ b | c }} {{ user.id | default\uff1a1 }}"),
	}, resolveTest)
	if len(faults) != 3 || faults[2].Suggest != ":" {
		t.Errorf("%+v", faults)
	}
	long := mapNode("a", mapNode("b", strings.Repeat("x", MaxOutput)))
	_, faults = Compile(definition.Content{Type: "json", Body: long}, resolveTest)
	if len(faults) != 1 || faults[0].Message != string(errTooLong) || faults[0].Field != "body" {
		t.Errorf("%+v", faults)
	}
	many := mapNode("a", strings.Repeat("{{ x }}", 10_000), "b", strings.Repeat("{{ y }}", 9))
	_, faults = Compile(definition.Content{Type: "json", Body: many}, resolveTest)
	if len(faults) != maxTags+1 {
		t.Errorf("%d faults", len(faults))
	}
	_, faults = Compile(definition.Content{Type: "jsn"}, resolveTest)
	if len(faults) != 1 || faults[0].Suggest != "json" || faults[0].Field != "type" {
		t.Errorf("%+v", faults)
	}
	for _, kind := range []string{"json", "text", "html"} {
		if _, faults = Compile(definition.Content{Type: kind}, resolveTest); len(faults) != 1 {
			t.Errorf("%s without a body: %+v", kind, faults)
		}
	}
	deep := mapNode()
	for range 100 {
		deep = mapNode("a", deep)
	}
	_, faults = Compile(definition.Content{Type: "json", Body: deep}, resolveTest)
	if len(faults) != 1 {
		t.Errorf("deep: %+v", faults)
	}
}

func TestRefusals(t *testing.T) {
	f := func(kind, template string, want error) {
		t.Helper()
		tpl := mustCompile(t, kind, stringNode(template))
		scratch := Scratch{}
		got, err := tpl.Append([]byte("keep"), valuesOf(tpl), &scratch)
		if !errors.Is(err, ErrRender) || err != want || string(got) != "keep" {
			t.Errorf("%s: %.20q %v", template, got, err)
		}
		if cap(scratch.text) > keepScratch {
			t.Errorf("%s: keeps %d bytes", template, cap(scratch.text))
		}
	}
	f("text", "x{{ user.int | divided_by: user.zero }}", errDivision)
	f("text", "{{ 1.5 | modulo: user.zero }}", errDivision)
	f("text", "{{ user.least | abs }}", errRange)
	f("text", "{{ user.least | minus: 1 }}", errRange)
	f("text", "{{ user.least | divided_by: -1 }}", errRange)
	f("text", "{{ user.least | times: 2 }}", errRange)
	f("text", "{{ user.nan }}", errRange)
	f("text", "{{ user.far }}", errRange)
	f("text", "{{ user.missing | default: user.seen | plus: 1 }}", errNotOne)
	f("text", "{{ user.id | truncate: user.first_name }}", errInteger)
	f("text", "{{ user.id | slice: 0, user.float }}", errInteger)
	f("text", "{{ user.id | truncatewords: user.missing }}", errInteger)
	f("text", "{{ user.huge | truncate: 3 }}", errTooLong)
	f("text", "{{ user.long }}{{ user.long }}", errTooLong)
	f("text", "{{ user.long | append: user.long }}", errTooLong)
	f("text", "{{ user.long | replace: '', user.long }}", errTooLong)
	f("text", "{{ user.quotes | escape | escape }}", errTooLong)
	f("html", "{{ user.quotes }}", errTooLong)
	f("text", strings.Repeat("{{ user.long | upcase | downcase | truncate: 3 }}", 10), errWork)

	// A replacement stops at the limit, not after writing gigabytes.
	var r render
	long := bytes.Repeat([]byte("a"), MaxOutput)
	if _, err := r.replaced(long, []byte("a"), long, -1); err != errTooLong {
		t.Errorf("replaced: %v", err)
	}
	if len(r.text) > 3*MaxOutput {
		t.Errorf("replaced: %d bytes written", len(r.text))
	}

	tpl := mustCompile(t, "text", stringNode("{{ user.id }}"))
	if _, err := tpl.Append(nil, nil, &Scratch{}); err != errValues {
		t.Errorf("no values: %v", err)
	}
	list := []Value{{Set: true, Kind: definition.TypeList}}
	if _, err := tpl.Append(nil, list, &Scratch{}); err != errKind {
		t.Errorf("list: %v", err)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	f := func(kind, template string) {
		t.Helper()
		body := stringNode(template)
		if kind == "json" {
			body = mapNode("t", template)
		}
		tpl := mustCompile(t, kind, body)
		values, scratch, dst := valuesOf(tpl), &Scratch{}, make([]byte, 0, MaxOutput)
		if _, err := tpl.Append(dst, values, scratch); err != nil {
			t.Fatal(err)
		}
		allocations := testing.AllocsPerRun(100, func() {
			if _, err := tpl.Append(dst, values, scratch); err != nil {
				t.Fatal(err)
			}
		})
		if allocations != 0 {
			t.Errorf("%s %s: %v allocations", kind, template, allocations)
		}
	}
	for _, s := range shapes() {
		arguments := []string{": user.int", ": user.int, user.first_name"}[max(s.max, 1)-1]
		if s.filter == filterDate {
			arguments = ": '%Y-%m-%d %B %z'"
		}
		if s.filter == filterSlice {
			arguments = ": -2, user.int"
		}
		if s.max == 0 {
			arguments = ""
		}
		for _, kind := range []string{"json", "html", "text"} {
			for _, v := range []string{"first_name", "bad", "int", "float", "missing", "day"} {
				f(kind, "a {{ user."+v+" | "+s.name+arguments+" }} b")
			}
		}
	}
	f("json", "{{ user.float | times: 3.3 | divided_by: 0.7 | round: 2 | append: '元' | truncate: 5 }}")
	f("text", "{{ user.seen | date: '%F' }}{{ '-12.5 ' | plus: user.version }}")
	f("text", "{{ user.int | divided_by: user.float }}")
}

func TestAppendJSONString(t *testing.T) {
	f := func(raw string) {
		t.Helper()
		var back string
		got := AppendJSONString(nil, []byte(raw))
		if err := json.Unmarshal(got, &back); err != nil || back != strings.ToValidUTF8(raw, "\uFFFD") {
			t.Errorf("%q: %s %v", raw, got, err)
		}
		want, _ := json.Marshal(raw)
		if !bytes.Equal(got, want) && !isOurs(raw) {
			t.Errorf("%q: %s, encoding/json %s", raw, got, want)
		}
	}
	for c := range rune(0x300) {
		f(fmt.Sprintf("a%cb", c))
	}
	f("")
	f("\xff\u2028\u2029\U0001F600小雨\"\\</script>")
}

// isOurs names what encoding/json writes otherwise: \b and \f in short, and
// the delete and C1 controls as they are.
func isOurs(raw string) bool {
	return strings.ContainsFunc(raw, func(r rune) bool {
		return r == '\b' || r == '\f' || r >= 0x7f && r < 0xa0
	})
}

// adversary gives every variable the same hostile bytes.
func adversary(tpl *Template, raw []byte, bits uint64) []Value {
	values := make([]Value, len(tpl.Sources()))
	for i, s := range tpl.Sources() {
		values[i] = Value{Set: bits>>(i&63)&1 == 0, Kind: s.Type, Num: bits, Bytes: raw}
	}
	return values
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		"{{ user.id | default: 'x', allow_false: true }}", "{{- user['a b'] -}} {%",
		"{{ -1.5 | round: 2 }}",
		"{{ user.seen | date: '%-d%' }}", "{{ user.float | times: 3.3 | slice: -1, 2 }}", "{{‘",
		"{{ user.bad | replace: '', user.bad | strip_html | escape_once | truncatewords: 2 }}",
	} {
		f.Add(seed, []byte("<&\x00"), uint64(3))
	}
	f.Fuzz(func(t *testing.T, template string, raw []byte, bits uint64) {
		for _, kind := range []string{"text", "html", "json"} {
			body := stringNode(template)
			if kind == "json" {
				body = mapNode(template, template)
			}
			tpl, faults := Compile(definition.Content{Type: kind, Body: body}, resolveTest)
			if (tpl == nil) != (len(faults) > 0) {
				t.Fatalf("template %v, faults %+v", tpl, faults)
			}
			if tpl == nil {
				for _, fault := range faults {
					if len(fault.Message) > 1000 && len(template) < 200 {
						t.Fatalf("long message %q", fault.Message)
					}
				}
				continue
			}
			got, err := tpl.Append(nil, adversary(tpl, raw, bits), &Scratch{})
			if err != nil && !errors.Is(err, ErrRender) || len(got) > MaxOutput {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if err == nil && kind == "json" && !json.Valid(got) {
				t.Fatalf("not JSON: %q", got)
			}
		}
	})
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("a\x00\"\\<&>\xff\u2028"), uint64(1))
	f.Add([]byte("' onclick='x"), uint64(0))
	f.Add([]byte("</script>&amp;\r\nBcc: x"), uint64(math.MaxUint64))
	type target struct {
		kind, pipe string
		*Template
	}
	var targets []target
	add := func(pipe string) {
		for _, kind := range [...]string{"json", "html", "text"} {
			template := "{{ user.id }}{{ user.bad" + pipe + " }}"
			body := stringNode(template)
			if kind == "json" {
				body = mapNode("a", "{{ user.id }}", "b", "x"+template)
			}
			targets = append(targets, target{kind, pipe, mustCompile(f, kind, body)})
		}
	}
	// Every filter alone, behind an escape, and before a line break filter.
	for _, s := range shapes() {
		pipe := "| " + s.name + [...]string{"", ": user.first_name", ": user.id, user.int"}[s.max]
		add(pipe)
		add("| escape " + pipe)
		add(pipe + "| newline_to_br")
	}
	scratch := &Scratch{}
	f.Fuzz(func(t *testing.T, raw []byte, bits uint64) {
		for _, to := range targets {
			got, err := to.Append(nil, adversary(to.Template, raw, bits), scratch)
			if err != nil && !errors.Is(err, ErrRender) {
				t.Fatal(err)
			}
			if err == nil {
				checkSafe(t, to.kind, to.pipe, got)
			}
		}
	})
}

// checkSafe holds what law 1 promises for a message of substituted values only.
func checkSafe(t *testing.T, kind, pipe string, got []byte) {
	t.Helper()
	if kind == "json" {
		var message map[string]string
		if err := json.Unmarshal(got, &message); err != nil || len(message) != 2 {
			t.Fatalf("%s: %v: %q", pipe, err, got)
		}
		if bytes.ContainsAny(got, "<>&") {
			t.Fatalf("%s: not safe in a page: %q", pipe, got)
		}
		return
	}
	for _, r := range string(got) {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			t.Fatalf("%s: %s: control character %q", kind, pipe, r)
		}
	}
	if kind == "html" {
		plain := strings.ReplaceAll(string(got), "<br />", "")
		if strings.ContainsAny(plain, "<>\"'") {
			t.Fatalf("%s: markup: %.200q", pipe, got)
		}
	}
}
