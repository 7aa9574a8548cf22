package definition

import (
	"slices"
	"strings"
	"testing"
)

// Each text gives exactly these faults: place, document, field, message and
// suggestion.
func TestFaults(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		if got := wrong(text); !slices.Equal(got, want) {
			t.Errorf("%s\n got %s\nwant %s", text,
				strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}

	// The dialect.
	f("a: &x 1\nb: *x\nc: !!str 1\n<<: {a: 1}\n? k\n: v\n",
		"f.yaml:1:4: anchors (&) are not part of the dialect",
		"f.yaml:2:4: aliases (*) are not part of the dialect",
		"f.yaml:3:4: tags (!) are not part of the dialect",
		"f.yaml:4:1: merge keys (<<) are not part of the dialect",
		"f.yaml:5:1: explicit keys (?) are not part of the dialect")
	f("%YAML 1.1\n---\nkind: layer\nid: a\n",
		"f.yaml:1:1: directives (%) are not part of the dialect")
	f("kind: layer\nid: a\nowner: b\nowner: c\n",
		"f.yaml:4:1: layer/a: owner: the key stands twice, first at 3:1")
	f("kind: layer\nid: a\n1: b\n", "f.yaml:3:1: layer/a: a key is text: put 1 in quotes")
	f("kind: layer\nid: a\nowner: 1.10\n", "f.yaml:3:8: layer/a: owner: text is expected, "+
		"not the number 1.10: put it in quotes")
	f("kind: layer\nid: 017\n", "f.yaml:2:5: layer: id: the number 017 starts with 0 "+
		"(octal elsewhere): quote it if it is text")
	f("kind: layer\nid: a\nlabels: {a: 0o17, b: 0x1F, c: 1_000, d: .inf, e: -.NaN, f: +5}\n",
		"f.yaml:3:13: layer/a: labels.a: the number 0o17 is not decimal: write it in digits, "+
			"or quote it",
		"f.yaml:3:22: layer/a: labels.b: the number 0x1F is not decimal: write it in digits, "+
			"or quote it",
		"f.yaml:3:31: layer/a: labels.c: the number 1_000 has underscores: write it without, "+
			"or quote it",
		"f.yaml:3:41: layer/a: labels.d: .inf is not part of the dialect",
		"f.yaml:3:50: layer/a: labels.e: -.NaN is not part of the dialect",
		"f.yaml:3:60: layer/a: labels.f: the number +5 is not written as in JSON: "+
			"quote it if it is text")
	f("kind: layer\nid: a\nowner: True\ndescription: ~\n",
		"f.yaml:3:8: layer/a: owner: True is not part of the dialect: write true, false or null, "+
			"or quote it",
		"f.yaml:4:14: layer/a: description: ~ is not part of the dialect: write true, false or "+
			"null, or quote it")
	f("kind: offer\nid: [a\n", "f.yaml:2:5: not YAML: sequence end token ']' not found")
	f("kind: la\xffyer\n", "f.yaml:1:9: broken UTF-8")
	f("kind: 高\x01\n", "f.yaml:1:8: control character U+0001")
	f("hello", `f.yaml:1:1: a document is a map with kind and id, not "hello"`)
	f("kind: layer\nid: a\n---\nkind: [x\n---\nkind: layr\nid: b\n",
		"f.yaml:4:7: not YAML: sequence end token ']' not found",
		`f.yaml:6:7: kind: "layr" is not a kind (did you mean layer?)`)

	// Every document.
	f("id: a\n", "f.yaml:1:1: kind: is required")
	f("kind: layer\n", "f.yaml:1:1: layer: id: is required")
	f("kind: layer\nid: A\n", `f.yaml:2:5: layer: id: "A" is not an id: a-z, 0-9, _ and -, `+
		"at most 64, starting with a letter or digit")
	f("kind: layer\nid: a\nnmae: b\nname: {english: c, zh: 1}\n",
		"f.yaml:3:1: layer/a: nmae: unknown key (did you mean name?)",
		`f.yaml:4:8: layer/a: name.english: "english" is not a language, such as en or zh-CN`,
		"f.yaml:4:24: layer/a: name.zh: text is expected, not the number 1: put it in quotes")
	f("kind: layer\nid: a\n---\nkind: layer\nid: a\n",
		`f.yaml:5:5: layer/a: id: layer "a" is defined twice; the first stands at f.yaml:1:1`)
	f("kind: workspace\nid: a\n---\nkind: workspace\nid: b\n",
		"f.yaml:5:5: workspace/b: id: a set has one workspace; the first stands at f.yaml:1:1")

	// Names that are data.
	f("kind: tag\nid: Order Completed\n---\nkind: tag\nid: 高价值\n")
	f("kind: tag\nid: \"cafe\\u0301\"\n", "f.yaml:2:5: tag: id: \"cafe\u0301\" is not a name: "+
		"it is not in Unicode normal form C")
	f("kind: tag\nid: \"a\\tb\"\n", `f.yaml:2:5: tag: id: "a\tb" is not a name: `+
		"control characters are not allowed")
	f("kind: tag\nid: "+strings.Repeat("高", 65)+"\n", `f.yaml:2:5: tag: id: "`+
		strings.Repeat("高", 64)+`…" is not a name: 1 to 64 characters are expected`)
}

func TestFaultsOfUserKinds(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		if got := wrong(text); !slices.Equal(got, want) {
			t.Errorf("%s\n got %s\nwant %s", text,
				strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	f("kind: attribute\nid: a\ntype: strng\nclass: 1\nvalues: []\n",
		`f.yaml:3:7: attribute/a: type: "strng" is none of bool, int, float, string, date, time, `+
			"list, semver (did you mean string?)",
		"f.yaml:4:8: attribute/a: class: text is expected, not the number 1: put it in quotes",
		"f.yaml:5:9: attribute/a: values: an empty list of values: leave the key out")
	f("kind: attribute\nid: a\ntype: int\nvalues: [\"1\", \"1\"]\n",
		"f.yaml:4:9: attribute/a: values: values belong to an attribute of type string, not int",
		`f.yaml:4:15: attribute/a: values[1]: "1" stands twice`)
	f("kind: tag\nid: a\nttl: 1.5h\n", `f.yaml:3:6: tag/a: ttl: "1.5h" is not a duration: a whole `+
		"number and s, m, h, d or w, from 1s to ten years, such as 90s, 4h, 30d")
	f("kind: event\nid: e\nproperties: {a: {}, b: {type: int, indexd: true}, c: string}\n",
		"f.yaml:3:17: event/e: properties.a.type: is required",
		"f.yaml:3:36: event/e: properties.b.indexd: unknown key (did you mean indexed?)",
		`f.yaml:3:54: event/e: properties.c: a map is expected, not "string"`)
	f("kind: event\nid: e\nproperties:\n" + indexedProperties("abcdefgh"))
	f("kind: event\nid: e\nproperties:\n"+indexedProperties("abcdefghij"),
		"f.yaml:12:27: event/e: properties.i.indexed: at most 8 properties of an event can be "+
			"indexed")
	f("kind: segment\nid: s\n", "f.yaml:1:1: segment/s: members: is required")
	f("kind: segment\nid: s\nmembers: static\ntrack: 1\n",
		"f.yaml:4:8: segment/s: track: true or false is expected, not the number 1")
	f("kind: workspace\nid: w\ntimezone: Asia/Shangai\ncurrency: yuan\nundeclared: drop\n"+
		"zones: [Local, Mars/Olympus]\nconsent_required: [sms, smss]\n",
		`f.yaml:3:11: workspace/w: timezone: "Asia/Shangai" is not a time zone, such as `+
			"Asia/Shanghai",
		`f.yaml:4:11: workspace/w: currency: "yuan" is not a currency, such as CNY`,
		`f.yaml:5:13: workspace/w: undeclared: "drop" is none of keep, reject`,
		`f.yaml:6:9: workspace/w: zones[0]: "Local" is not a time zone, such as Asia/Shanghai`,
		`f.yaml:6:16: workspace/w: zones[1]: "Mars/Olympus" is not a time zone, such as `+
			"Asia/Shanghai",
		`f.yaml:7:25: workspace/w: consent_required[1]: "smss" is none of web, in_app, push, `+
			"email, sms, call, wechat, wecom (did you mean sms?)")
	f("kind: workspace\nid: w\nquiet_hours:\n  channels: [sms]\n  classes: [mandatory]\n"+
		"  windows: [{from: 21:3, until: 24:01}, {from: 08:00, until: 08:00}]\n",
		"f.yaml:5:12: workspace/w: quiet_hours.classes: quiet hours never bind mandatory messages",
		`f.yaml:6:20: workspace/w: quiet_hours.windows[0].from: "21:3" is not a time of day from `+
			"00:00 to 23:59",
		`f.yaml:6:33: workspace/w: quiet_hours.windows[0].until: "24:01" is not a time of day `+
			"from 00:00 to 24:00",
		"f.yaml:6:41: workspace/w: quiet_hours.windows[1]: from and until are the same minute: "+
			"a whole day is 00:00 to 24:00")
}

func indexedProperties(names string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString("  " + string(name) + ": {type: int, indexed: true}\n")
	}
	return b.String()
}

// A list of zones must leave a minute of the day open. Sixteen hours of quiet
// leave eight open; zones twelve hours apart leave none.
func TestZonesLeaveAMinuteOpen(t *testing.T) {
	f := func(zones, missing, windows, want string) {
		t.Helper()
		got := wrong("kind: workspace\nid: w\ntimezone: UTC\nzones: " + zones +
			"\non_missing_timezone: " + missing +
			"\nquiet_hours: {channels: [sms], windows: " + windows + "}\n")
		if strings.Join(got, "\n") != want {
			t.Errorf("%s %s %s: got %q, want %q", zones, missing, windows, got, want)
		}
	}
	const night = `[{from: "18:00", until: "10:00"}]`
	f("[UTC]", "protect", night, "")
	f("[UTC, Pacific/Fiji]", "protect", night, "f.yaml:4:8: workspace/w: zones: no minute of the "+
		"day (in January) is outside the quiet hours of every zone")
	f("[UTC, Pacific/Fiji]", "workspace", night, "")
	f("[UTC]", "workspace", `[{from: "00:00", until: "24:00"}]`, "f.yaml:4:8: workspace/w: zones: "+
		"no minute of the day (in January) is outside the quiet hours of every zone")
	// In winter London is open from 10:00 to 18:00 UTC, Shanghai until 10:00 UTC:
	// not a minute in common, until the day ends half an hour later.
	f("[Europe/London, Asia/Shanghai]", "protect", `[{from: "18:00", until: "10:00"}]`,
		"f.yaml:4:8: workspace/w: zones: no minute of the day (in January) is outside the quiet "+
			"hours of every zone")
	f("[Europe/London, Asia/Shanghai]", "protect", `[{from: "18:30", until: "10:00"}]`, "")
	// Open are the hours 0, 3 and 8: at 0 UTC it is 3 in Nairobi and 8 in Shanghai.
	f("[UTC, Africa/Nairobi, Asia/Shanghai]", "protect", `[{from: "01:00", until: "03:00"}, `+
		`{from: "04:00", until: "08:00"}, {from: "09:00", until: "24:00"}]`, "")
	// New York and Shanghai are 13 hours apart in January, 12 in July.
	f("[America/New_York, Asia/Shanghai]", "protect", `[{from: "22:00", until: "10:00"}]`,
		"f.yaml:4:8: workspace/w: zones: no minute of the day (in July) is outside the quiet "+
			"hours of every zone")
}

func TestFaultsOfOfferKinds(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		if got := wrong(text); !slices.Equal(got, want) {
			t.Errorf("%s\n got %s\nwant %s", text,
				strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	const total = "kind: cap\nid: c\nscope: total\nper: offer\ncount_on: accept\n"
	const person = "kind: cap\nid: c\nscope: person\nper: offer\ncount_on: send\n"
	f(total + "window: {calendar: month}\nlimit: 1000000000000\n")
	f(total+"window: {rolling: 7d}\nlimit: 1000000000001\nmin_gap: 4h\n",
		"f.yaml:7:8: cap/c: limit: a number from 0 to 1000000000000 is expected, "+
			"not 1000000000001")
	f(total+"window: {between: [\"2026-11-02T00:00:00Z\", \"2026-11-01T00:00:00Z\"]}\n"+
		"limit: {attribute: a, default: 1, max: 2}\nsuppress: {after: 0, of: send, for: 1d}\n"+
		"counts_from: history\n",
		"f.yaml:6:19: cap/c: window.between: the window ends before it begins",
		"f.yaml:7:8: cap/c: limit: a total has one limit for everybody, not one of an attribute "+
			"of a person",
		"f.yaml:8:11: cap/c: suppress: suppress belongs to a cap of one person: a total has "+
			"nobody who rejects",
		"f.yaml:8:19: cap/c: suppress.after: a number from 1 to 64 is expected, not 0",
		"f.yaml:8:26: cap/c: suppress.of: a rejection is a reaction: click, accept, convert, "+
			"reject, dismiss or an event",
		"f.yaml:9:14: cap/c: counts_from: counts_from: history needs scope person: events are "+
			"kept by person, and do not say through which identity or device they came")
	f(person+"window: lifetime\nlimit: {attribute: a, default: 3, max: 2}\n"+
		"counts_from: history\n",
		`f.yaml:7:20: cap/c: limit.attribute: there is no attribute "a"`,
		"f.yaml:7:40: cap/c: limit.max: the maximum is below the default",
		"f.yaml:8:14: cap/c: counts_from: counts_from: history reaches back 90 days at most, and "+
			"this window further")
	f(strings.Replace(person, "send", "[order, click, order]", 1)+"window: {rolling: 7d}\n"+
		"limit: 100\n",
		`f.yaml:5:12: cap/c: count_on[0]: there is no event "order"`,
		`f.yaml:5:26: cap/c: count_on[2]: "order" stands twice`)
	f(total+"window: {calendar: day, zone: user, week_start: mon}\nlimit: -1\n",
		"f.yaml:6:9: cap/c: window: a total has one clock: zone workspace or UTC",
		`f.yaml:6:49: cap/c: window.week_start: "mon" is none of sunday, monday, tuesday, `+
			"wednesday, thursday, friday, saturday",
		"f.yaml:7:8: cap/c: limit: a number from 0 to 1000000000000 is expected, not -1")
	f(person + "window: lifetime\nlimit: 0\n")
	f(person+"window: {rolling: 7d, zone: UTC}\nlimit: 1000001\n",
		"f.yaml:6:29: cap/c: window.zone: zone belongs to a calendar window",
		"f.yaml:7:8: cap/c: limit: a number from 0 to 1000000 is expected, not 1000001")
	f(person+"window: {}\nlimit: 1.0\n",
		"f.yaml:6:9: cap/c: window: a window has one of rolling, calendar and between",
		"f.yaml:7:8: cap/c: limit: a whole number is expected, not the number 1.0")
	f(person+"window: lifetme\nlimit: 2\napplies_to: {offers: {ids: [o], idss: []}, "+
		"placements: [p], channels: [fax]}\n",
		`f.yaml:6:9: cap/c: window: "lifetme" is not a window: lifetime, {rolling: 7d} or `+
			"{calendar: day} (did you mean lifetime?)",
		`f.yaml:8:29: cap/c: applies_to.offers.ids[0]: there is no offer "o"`,
		"f.yaml:8:33: cap/c: applies_to.offers.idss: unknown key (did you mean ids?)",
		`f.yaml:8:57: cap/c: applies_to.placements[0]: there is no placement "p"`,
		`f.yaml:8:72: cap/c: applies_to.channels[0]: "fax" is none of web, in_app, push, email, `+
			"sms, call, wechat, wecom")
	f("kind: cap\nid: c\nscope: person\nper: offr\ncount_on: [send, click]\nwindow: lifetime\n"+
		"limit: 1\n",
		`f.yaml:4:6: cap/c: per: "offr" is none of all, offer, offer_group, campaign, channel, `+
			"placement (did you mean offer?)",
		"f.yaml:5:11: cap/c: count_on: contacts (impression, send, delivered), decision and "+
			"reactions do not mix in one cap")

	const offer = "kind: offer\nid: o\nmessage_class: marketing\n"
	const treatments = "treatments: [{id: t, channel: web, content: {type: text, body: a}}]\n"
	f(offer + treatments)
	f(offer+"tretaments: []\n",
		"f.yaml:1:1: offer/o: treatments: is required",
		"f.yaml:4:1: offer/o: tretaments: unknown key (did you mean treatments?)")
	f(offer+"group: a//b\nvalue: -1\npropensity: 1.5\ncontext: {attribute: x}\nholdout: true\n"+
		"eligibility: [a]\nattributes: {a: [1]}\ncaps: [k]\n"+treatments,
		`f.yaml:4:8: offer/o: group: "a//b" is not an offer group: one to 6 ids joined by /`,
		"f.yaml:5:8: offer/o: value: a number from 0 to 1e+12 is expected, not -1",
		"f.yaml:6:13: offer/o: propensity: a number from 0 to 1 is expected, not 1.5",
		`f.yaml:7:22: offer/o: context.attribute: there is no attribute "x"`,
		"f.yaml:8:10: offer/o: holdout: holdout belongs to a transactional offer: marketing is "+
			"always covered, mandatory never",
		"f.yaml:9:14: offer/o: eligibility: a condition tree (a map) is expected, not a list",
		"f.yaml:10:17: offer/o: attributes.a: text, a number, true or false is expected, "+
			"not a list",
		`f.yaml:11:8: offer/o: caps[0]: there is no cap "k"`)
	f(offer+"start: 2026-11-22\nend: 2026-11-22T10:00:00\n"+treatments,
		`f.yaml:4:8: offer/o: start: "2026-11-22" is not a time with a zone, such as `+
			"2026-11-22T10:00:00+08:00",
		`f.yaml:5:6: offer/o: end: "2026-11-22T10:00:00" is not a time with a zone, such as `+
			"2026-11-22T10:00:00+08:00")
	f(offer+"start: 1970-01-01T00:00:00Z\nend: 2200-01-01T00:00:00Z\n"+treatments,
		`f.yaml:4:8: offer/o: start: "1970-01-01T00:00:00Z" is not in the years 1971 to 2199`,
		`f.yaml:5:6: offer/o: end: "2200-01-01T00:00:00Z" is not in the years 1971 to 2199`)
	f(offer+"start: 2026-11-22T10:00:00+08:00\nend: 2026-11-22T02:00:00Z\n"+treatments,
		"f.yaml:5:6: offer/o: end: the end is not after the start")
	f(offer+"treatments:\n- {id: t, channel: web, content: {type: json, body: a}}\n"+
		"- {id: t, channel: web, content: {type: txt, body: \"\"}, locale: chinese}\n",
		`f.yaml:5:53: offer/o: treatments[0].content.body: a map (the body of json) is expected, `+
			`not "a"`,
		`f.yaml:6:8: offer/o: treatments[1].id: treatment "t" stands twice; the first is at `+
			"f.yaml:5:3",
		`f.yaml:6:41: offer/o: treatments[1].content.type: content type "txt" is not supported `+
			"yet: json, text, html are (did you mean text?)",
		`f.yaml:6:65: offer/o: treatments[1].locale: "chinese" is not a language, such as en `+
			"or zh-CN")
	f(offer+"treatments:\n- {id: t, channel: sms, placements: [home], content: {type: text, "+
		"body: a}}\n---\nkind: placement\nid: home\nchannel: web\npolicy: p\n---\n"+
		"kind: decision_policy\nid: p\n",
		"f.yaml:5:38: offer/o: treatments[0].placements[0]: placement home is on channel web, "+
			"the treatment on sms")
}

func TestFaultsOfDecisionKinds(t *testing.T) {
	const base = "kind: offer\nid: o\nmessage_class: marketing\n" +
		"treatments: [{id: t, channel: web, content: {type: text, body: a}}]\n---\n" +
		"kind: decision_policy\nid: p\n---\nkind: layer\nid: l\n---\n" +
		"kind: placement\nid: home\nchannel: web\npolicy: p\n---\n" +
		"kind: experiment\nid: e\nlayer: l\nrange: [0%, 50%]\n" +
		"variants: [{id: v, weight: 1}]\n---\n"
	lines := strings.Count(base, "\n")
	f := func(text string, want ...string) {
		t.Helper()
		var got []string
		_, faults := Load([]File{{Name: "f.yaml", Content: []byte(base + text)}})
		for _, fault := range faults {
			fault.Pos.Line -= lines
			got = append(got, strings.TrimPrefix(fault.String(), "f.yaml:"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\n got %s\nwant %s", text,
				strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	f("kind: layer\nid: other\n")
	f("kind: placement\nid: a\nchannel: web\npolicy: pp\ncount: 21\ncontext: {page: strin}\n",
		`4:9: placement/a: policy: there is no decision_policy "pp" (did you mean p?)`,
		"5:8: placement/a: count: a number from 1 to 20 is expected, not 21",
		`6:17: placement/a: context.page: "strin" is none of bool, int, float, string, date, `+
			"time, list, semver (did you mean string?)")
	f("kind: placement\nid: a\nchannel: web\npolicy: p\ncontext: {page: string}\n---\n"+
		"kind: placement\nid: b\nchannel: web\npolicy: p\ncontext: {page: int}\n",
		"11:17: placement/b: context.page: page is int here and string at placement a: "+
			"a context key has one type")
	f("kind: offer\nid: n\nmessage_class: marketing\ncontext: {attribute: g}\n"+
		"treatments: [{id: t, channel: web, content: {type: text, body: a}}]\n---\n"+
		"kind: attribute\nid: g\ntype: string\n",
		"4:22: offer/n: context.attribute: attribute g is string: an int or a float is expected")
	f("kind: decision_policy\nid: q\ncandidates: {offers: {}}\nranking: {by: product, offers: [o]}\n"+
		"fallback: {offer: oo}\n",
		"3:22: decision_policy/q: candidates.offers: an empty selector: write all, or ids, groups, "+
			"labels, not",
		"4:32: decision_policy/q: ranking.offers: offers does not belong to a ranking by product",
		`5:19: decision_policy/q: fallback.offer: there is no offer "oo" (did you mean o?)`)
	f("kind: decision_policy\nid: q\nranking: {by: order, offers: [o, x, o], value: 1}\n",
		`3:34: decision_policy/q: ranking.offers[1]: there is no offer "x" (did you mean o?)`,
		`3:37: decision_policy/q: ranking.offers[2]: "o" stands twice`,
		"3:48: decision_policy/q: ranking.value: value does not belong to a ranking by order")
	f("kind: decision_policy\nid: q\nfallback: {offer: o, universal: true}\n---\n"+
		"kind: placement\nid: s\nchannel: sms\npolicy: q\n",
		"3:33: decision_policy/q: fallback.universal: a universal fallback is for page channels "+
			"(web, in_app), and placement s is on sms")
	f("kind: decision_policy\nid: q\nfallback: {offer: o, universal: true}\n---\n"+
		"kind: placement\nid: s\nchannel: sms\npolicy: p\n---\n"+
		"kind: experiment\nid: g\nlayer: l\nrange: [50%, 60%]\n"+
		"variants: [{id: v, weight: 1, set: {placements: {s: {policy: q}}}}]\n",
		"3:33: decision_policy/q: fallback.universal: a universal fallback is for page channels "+
			"(web, in_app), and placement s is on sms")
	f("kind: experiment\nid: g\nlayer: l\nrange: [49.99%, 60%]\nvariants: [{id: v, weight: 0}]\n",
		"4:8: experiment/g: range: [49.99%, 60%] overlaps [0%, 50%] of experiment e in layer l",
		"5:11: experiment/g: variants: the weights add up to nothing")
	f("kind: experiment\nid: g\nlayer: m\nrange: [50%, 50%]\ncoverage: 10\nvariants: []\n",
		`3:8: experiment/g: layer: there is no layer "m" (did you mean l?)`,
		"4:8: experiment/g: range: the range [50%, 50%] is empty",
		"5:11: experiment/g: coverage: a percentage is expected, not the number 10: write 10%",
		"6:11: experiment/g: variants: an experiment has at least one variant")
	f("kind: experiment\nid: g\nlayer: l\nrange: [50%, 100.001%]\nvariants:\n"+
		"- {id: v, weight: 1, set: {offers: {o: true, x: false}}}\n"+
		"- {id: v, weight: 1, set: {offers: {o: {treatment: tt}}, placements: {h: {policy: z}}}}\n",
		`4:14: experiment/g: range[1]: "100.001%" is not a percentage from 0% to 100% with at `+
			"most two decimals",
		"6:40: experiment/g: variants[0].set.offers.o: false (not offered) or a map of treatment "+
			"and lever is expected, not true",
		`6:46: experiment/g: variants[0].set.offers.x: there is no offer "x" (did you mean o?)`,
		`7:8: experiment/g: variants[1].id: variant "v" stands twice`,
		`7:52: experiment/g: variants[1].set.offers.o.treatment: offer o has no treatment "tt" `+
			"(did you mean t?)",
		`7:71: experiment/g: variants[1].set.placements.h: there is no placement "h"`,
		`7:83: experiment/g: variants[1].set.placements.h.policy: there is no decision_policy "z" `+
			"(did you mean p?)")
	f("kind: holdout\nid: h\nrange: [0%]\nclasses: [mandatory]\ncovers: none\n",
		"3:8: holdout/h: range: a range has two ends, such as [0%, 50%]",
		"4:10: holdout/h: classes: a holdout never binds mandatory messages",
		`5:9: holdout/h: covers: a map is expected, not "none"`)
	f("kind: test\nid: x\nat: 2026-11-22T10:00:00Z\nuser: {id: u, tag: []}\n"+
		"decide: {placement: hom}\nassign: {e: w, f: v}\nexpect: {offer: o, treatment: u}\n",
		"4:15: test/x: user.tag: unknown key (did you mean tags?)",
		`5:21: test/x: decide.placement: there is no placement "hom" (did you mean home?)`,
		`6:13: test/x: assign.e: experiment e has no variant "w" (did you mean v?)`,
		`6:16: test/x: assign.f: there is no experiment "f" (did you mean e?)`,
		`7:31: test/x: expect.treatment: offer o has no treatment "u" (did you mean t?)`)
	f("kind: tier\nid: rfm\nlevels: [low, high]\n---\nkind: segment\nid: rich\nrule: {tag: a}\n---\n"+
		"kind: segment\nid: list\nmembers: static\n---\n"+
		"kind: test\nid: x\nat: 2026-11-22T10:00:00Z\nuser: {id: u, tiers: {rfm: hihg, rmf: low}, "+
		"segments: [list, rich, lst]}\ndecide: {placement: home}\nexpect: {fallback: o}\n",
		`16:28: test/x: user.tiers.rfm: tier rfm has no level "hihg" (did you mean high?)`,
		`16:34: test/x: user.tiers.rmf: there is no tier "rmf" (did you mean rfm?)`,
		"16:62: test/x: user.segments[1]: segment rich has a rule, which says who is in it",
		`16:68: test/x: user.segments[2]: there is no segment "lst" (did you mean list?)`)
	f("kind: test\nid: x\nat: 2026-11-22T10:00:00Z\nuser: {id: u}\ndecide: {placement: home}\n"+
		"expect: {no_decision: capped, fallback: o}\n",
		"6:9: test/x: expect: exactly one of offer, fallback, no_decision is expected",
		`6:23: test/x: expect.no_decision: "capped" is none of `+strings.Join(reasonCodes(), ", "))
}

// A file that cannot be read hides its documents, so what others say about
// them is not held against them.
func TestUnreadableFileHidesReferences(t *testing.T) {
	_, faults := Load([]File{
		{"a.yaml", []byte("kind: experiment\nid: e\nlayer: l\nrange: [0%, 1%]\n" +
			"variants: [{id: v, weight: 1}]\n")},
		{"b.yaml", []byte("kind: layer\nid: [\n")},
	})
	if len(faults) != 1 || faults[0].Pos.File != "b.yaml" {
		t.Fatal(faults)
	}
}

func TestFaultsOfElements(t *testing.T) {
	f := func(name, typ, want string) {
		t.Helper()
		_, faults := Load([]File{{Name: "f.yaml", Content: []byte("kind: event\nid: e\nproperties:\n  " +
			name + ": {type: " + typ + "}\n")}})
		got := ""
		for _, fault := range faults {
			got += fault.Message
		}
		if got != want {
			t.Errorf("%s %s: got %q, want %q", name, typ, got, want)
		}
	}
	const shape = "a property of the elements of a list is named as items[].price"
	f("items[].a", "int", "")
	f(`"items[]"`, "int", shape)
	f(`"[].a"`, "int", shape)
	f("a[].b[].c", "int", shape)
	f("a]", "int", shape)
	f("items[].a", "date", "a property of the elements of a list is a bool, int, float or string")
}
