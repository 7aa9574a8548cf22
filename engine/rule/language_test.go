package rule

import (
	"testing"

	"tact/storage"
)

// ann is a person of whom everything is known, in a request that tells everything,
// on Sunday 10 March 2024, 12:00 UTC, which is 08:00 where she lives.
func ann(t *testing.T) (*Who, []ContextValue) {
	t.Helper()
	const now = "2024-03-10T12:00:00Z"
	str := func(s string) storage.Value { return text(storage.KindString, s) }
	who := person(t, &storage.Patch{
		Attrs: []storage.AttrValue{
			{ID: 1, Value: val(storage.KindInt, 30)},
			{ID: 2, Value: floatValue(12.5)},
			{ID: 3, Value: str("female")},
			{ID: 4, Value: str("Shanghai")},
			{ID: 5, Value: val(storage.KindBool, 1)},
			{ID: 6, Value: date(t, "1994-03-12")},
			{ID: 7, Value: val(storage.KindTime, int64(moment(t, "2024-03-09T12:00:00Z")))},
			{ID: 8, Value: listValue("tea", "Books")},
			{ID: 9, Value: text(storage.KindSemver, "2.10.0")},
			{ID: 10, Value: str("none")},
		},
		TagsAdd:     []storage.TagValue{{ID: 1}, {ID: 2, Value: 2}, {ID: 6, Value: 4}},
		SegmentsAdd: []storage.Name{1},
	})
	who.ID, who.Now = []byte("ann"), moment(t, now)
	who.Zone, who.Home = zone(t, "America/New_York"), zone(t, "Europe/Berlin")
	who.Tail, who.Activity = historyOf(t, now,
		"visit 2024-03-01T10:00:00Z",
		"order 2024-03-02T10:00:00Z amount=10 new=true sku=a qty=2 items[].sku=tea|cup items[].price=4|6",
		"order 2024-03-08T10:00:00Z amount=30 sku=b qty=1 due=2024-03-12 items[].sku=tea items[].price=30",
		"click@coupon 2024-03-09T10:00:00Z")
	ctx := []ContextValue{
		{1, str("home")},
		{2, val(storage.KindInt, 9)},
		{3, text(storage.KindSemver, "1.10.0")},
		{4, val(storage.KindBool, 1)},
		{5, val(storage.KindTime, int64(moment(t, "2024-03-10T11:30:00Z")))},
		{6, date(t, "1994-03-12")},
		{7, listValue("zh", "en")},
		{8, floatValue(99.5)},
		SlotValue(PlacementKey, "cart"), SlotValue(ChannelKey, "web"),
	}
	return who, ctx
}

// The rule language, whole: every kind of condition is taken, says what it should
// of somebody of whom all is known and of somebody of whom nothing is, and reads as
// a line in English and in Chinese.
func TestTheWholeLanguage(t *testing.T) {
	who, ctx := ann(t)
	nobody := &Who{ID: []byte("nobody"), Now: who.Now}
	f := func(rule string, her, stranger bool, en, zh string) {
		t.Helper()
		tree := mustParse(t, rule)
		if holds(t, tree, who, ctx) != her || holds(t, tree, nobody, nil) != stranger {
			t.Errorf("%s: %v of Ann, %v of nobody", rule, !her, !stranger)
		}
		for _, w := range []*Who{who, nobody} {
			c := ctx
			if w == nobody {
				c = nil
			}
			if got := tree.Population(c).Holds(w); got != tree.Naive(w, c) {
				t.Errorf("%s: everybody's plan says %v of %s", rule, got, w.ID)
			}
		}
		if got := tree.Explain(nil, nil, "en"); got != en {
			t.Errorf("\n got %s\nwant %s", got, en)
		}
		if got := tree.Explain(nil, nil, "zh-CN"); got != zh {
			t.Errorf("\n got %s\nwant %s", got, zh)
		}
	}
	languageOfAttributes(f)
	languageOfTags(f)
	languageOfEvents(f)
	languageOfRequests(f)
}

type sentence = func(rule string, her, stranger bool, en, zh string)

func languageOfAttributes(f sentence) {
	f(`{"attribute":"subscribed","is":true}`, true, false,
		`subscribed is true`, `subscribed 是 true`)
	f(`{"attribute":"subscribed","is_not":true}`, false, true,
		`subscribed is not true`, `subscribed 不是 true`)
	f(`{"attribute":"age","gte":18,"lt":31}`, true, false,
		`age ≥ 18 and age < 31`, `age ≥ 18 且 age < 31`)
	f(`{"attribute":"age","gt":30}`, false, false, `age > 30`, `age > 30`)
	f(`{"attribute":"age","lte":30}`, true, false, `age ≤ 30`, `age ≤ 30`)
	f(`{"attribute":"age","between":[30,40]}`, true, false,
		`age between 30 and 40`, `age 介于 30 与 40 之间`)
	f(`{"attribute":"age","in":[29,30]}`, true, false, `age in [29, 30]`, `age 属于 [29, 30]`)
	f(`{"attribute":"age","not_in":[29,30]}`, false, true,
		`age is not in [29, 30]`, `age 不属于 [29, 30]`)
	f(`{"attribute":"price","gte":12.5}`, true, false, `price ≥ 12.5`, `price ≥ 12.5`)
	f(`{"attribute":"gender","is":"female"}`, true, false,
		`gender is "female"`, `gender 是 “female”`)
	f(`{"attribute":"city","starts_with":"shang","fold":true}`, true, false,
		`city starts with "shang" (any case)`, `city 开头是 “shang”(不分大小写)`)
	f(`{"attribute":"city","ends_with":"hai"}`, true, false,
		`city ends with "hai"`, `city 结尾是 “hai”`)
	f(`{"attribute":"city","contains":"ngh"}`, true, false,
		`city contains "ngh"`, `city 包含 “ngh”`)
	f(`{"attribute":"city","matches":"^S.*i$"}`, true, false,
		`city matches "^S.*i$"`, `city 匹配 “^S.*i$”`)
	f(`{"attribute":"city","is_set":true}`, true, false, `city has a value`, `city 有值`)
	f(`{"attribute":"city","is_set":false}`, false, true, `city has no value`, `city 无值`)
	f(`{"attribute":"interests","contains":"tea"}`, true, false,
		`interests contains "tea"`, `interests 包含 “tea”`)
	f(`{"attribute":"interests","in":["books","food"],"fold":true}`, true, false,
		`interests in ["books", "food"] (any case)`, `interests 属于 [“books”, “food”](不分大小写)`)
	f(`{"attribute":"interests","not_in":["food"]}`, true, true,
		`interests is not in ["food"]`, `interests 不属于 [“food”]`)
	f(`{"attribute":"app","gte":"2.9"}`, true, false, `app ≥ 2.9`, `app ≥ 2.9`)
	f(`{"attribute":"app","in":["2.10","3"]}`, true, false,
		`app in [2.10, 3]`, `app 属于 [2.10, 3]`)
	f(`{"attribute":"birthday","before":"2000-01-01"}`, true, false,
		`birthday before 2000-01-01`, `birthday 早于 2000-01-01`)
	f(`{"attribute":"birthday","years_since":{"gte":30}}`, false, false,
		`birthday with ≥ 30 years since it`, `birthday 距今 ≥ 30 年`)
	f(`{"attribute":"birthday","months_since":{"is":359}}`, true, false,
		`birthday with 359 months since it`, `birthday 距今 359 个月`)
	f(`{"attribute":"birthday","anniversary":{"before":"3d"}}`, true, false,
		`birthday from 3 days before to 0 days after its anniversary`,
		`birthday 周年日前 3 天 至后 0 天`)
	f(`{"attribute":"joined","after":"2024-03-09T11:59:59Z"}`, true, false,
		`joined after 2024-03-09T11:59:59Z`, `joined 晚于 2024-03-09T11:59:59Z`)
	f(`{"attribute":"joined","is":"2024-03-09"}`, true, false,
		`joined is 2024-03-09`, `joined 是 2024-03-09`)
	f(`{"attribute":"joined","within_last":"36h"}`, true, false,
		`joined within the last 36 hours`, `joined 在最近 36 小时 内`)
	f(`{"attribute":"joined","within_next":"1d"}`, false, false,
		`joined within the next 1 day`, `joined 在未来 1 天 内`)
}

func languageOfTags(f sentence) {
	f(`{"tag":"churn"}`, true, false, `tagged churn`, `有标签 churn`)
	f(`{"not":{"tag":"complaint"}}`, true, true, `not tagged complaint`, `无标签 complaint`)
	f(`{"tag":"city_tier","in":["1","2"]}`, true, false,
		`tag city_tier in [1, 2]`, `标签 city_tier 属于 [1, 2]`)
	f(`{"tag":"city_tier","is_not":"2"}`, false, true,
		`tag city_tier is not 2`, `标签 city_tier 不是 2`)
	f(`{"segment":"uploaded"}`, true, false, `in segment uploaded`, `在人群 uploaded`)
	f(`{"not":{"segment":"friends"}}`, true, true, `not in segment friends`, `不在人群 friends`)
	f(`{"tier":"rfm","gte":"mid"}`, true, false, `tier rfm ≥ mid`, `分层 rfm ≥ mid`)
	f(`{"tier":"rfm","in":["low"]}`, false, false, `tier rfm in [low]`, `分层 rfm 属于 [low]`)
	f(`{"percent":["0%","100%"],"salt":"s"}`, true, true,
		`in [0%, 100%) of salt s`, `属于 [0%, 100%) 分桶 s`)
	f(`{"all":[]}`, true, true, `everybody`, `所有人`)
	f(`{"safety":true,"not":{"attribute":"illness","is":"yes"}}`, true, false,
		`illness is not "yes" and illness has a value`, `illness 不是 “yes” 且 illness 有值`)
}

func languageOfEvents(f sentence) {
	f(`{"event":"order"}`, true, false, `did order`, `有 order`)
	f(`{"not":{"event":"open"}}`, true, true, `never did open`, `从未有 open`)
	f(`{"event":"order","count":{"gte":2},"within":"30d"}`, true, false,
		`order at least 2 times in the last 30 days`, `最近 30 天 order 至少 2 次`)
	f(`{"event":"order","count":{"is":0},"within":"1h"}`, true, true,
		`order exactly 0 times in the last 1 hour`, `最近 1 小时 order 恰好 0 次`)
	f(`{"event":"order","count":{"is":1},"window":{"calendar":"week","zone":"user"}}`, true, false,
		`order exactly 1 time in this calendar week`, `本周 order 恰好 1 次`)
	f(`{"event":"*","count":{"gte":3},"window":"lifetime"}`, true, false,
		`anything at least 3 times`, `任意事件 至少 3 次`)
	f(`{"event":"order","window":{"between":["2024-03-01T00:00:00Z",`+
		`"2024-03-03T00:00:00Z"]}}`, true, false,
		`did order in 2024-03-01T00:00:00Z–2024-03-03T00:00:00Z`,
		`在 2024-03-01T00:00:00Z–2024-03-03T00:00:00Z 之间 有 order`)
	f(`{"event":"order","sum":{"is":40},"of":"amount"}`, true, false,
		`sum of amount of order is 40`, `order 的 amount 合计 是 40`)
	f(`{"event":"order","min":{"is":10},"of":"amount"}`, true, false,
		`least amount of order is 10`, `order 的 amount 最小值 是 10`)
	f(`{"event":"order","max":{"is":36},"of":"items[].price"}`, false, false,
		`greatest items[].price of order is 36`, `order 的 items[].price 最大值 是 36`)
	f(`{"event":"order","avg":{"lt":21},"of":"amount"}`, true, false,
		`average amount of order < 21`, `order 的 amount 平均值 < 21`)
	f(`{"event":"order","first":{"within_last":"30d"}}`, true, false,
		`first order within the last 30 days`, `order 的首次时间 在最近 30 天 内`)
	f(`{"event":"order","last":{"is":"b"},"of":"sku"}`, true, false,
		`last sku of order is "b"`, `order 的 sku 最近一次的值 是 “b”`)
	f(`{"event":"order","last":{"is":"cup"},"of":"items[].sku"}`, false, false,
		`last items[].sku of order is "cup"`, `order 的 items[].sku 最近一次的值 是 “cup”`)
	f(`{"event":"order","first":{"is":"cup"},"of":"items[].sku"}`, true, false,
		`first items[].sku of order is "cup"`, `order 的 items[].sku 首次的值 是 “cup”`)
	f(`{"event":"order","first":{"lt":5},"of":"items[].price"}`, true, false,
		`first items[].price of order < 5`, `order 的 items[].price 首次的值 < 5`)
	f(`{"event":"order","distinct":{"is":2},"of":"sku"}`, true, false,
		`number of different sku of order is 2`, `order 的 sku 不同值个数 是 2`)
	f(`{"event":"order","distinct":{"is":2},"of":"items[].sku"}`, true, false,
		`number of different items[].sku of order is 2`, `order 的 items[].sku 不同值个数 是 2`)
	f(`{"event":"order","distinct":{"gte":3},"of":"items[].price"}`, true, false,
		`number of different items[].price of order ≥ 3`, `order 的 items[].price 不同值个数 ≥ 3`)
	f(`{"event":"order","distinct":"day","count":{"is":2}}`, true, false,
		`number of days with order is 2`, `order 的发生天数 是 2`)
	f(`{"event":"order","where":[{"property":"new","is":true},{"property":"qty",`+
		`"gte":2}]}`, true, false,
		`did order where new is true and qty ≥ 2`, `有 order(其中 new 是 true 且 qty ≥ 2)`)
	f(`{"event":"order","where":[{"property":"items[].sku","in":["cup"]}],`+
		`"count":{"is":1}}`, true, false,
		`order where items[].sku in ["cup"] exactly 1 time`,
		`order(其中 items[].sku 属于 [“cup”]) 恰好 1 次`)
	f(`{"event":"order","where":[{"property":"due","within_next":"3d"}]}`, true, false,
		`did order where due within the next 3 days`, `有 order(其中 due 在未来 3 天 内)`)
	f(`{"outcome":"click","offers":{"groups":["growth"]},"within":"2d"}`, true, false,
		`did click of [growth] in the last 2 days`, `最近 2 天 有 click 于 [growth]`)
	f(`{"sequence":[{"event":"visit"},{"event":"order"}],"within":"7d",`+
		`"without":{"event":"open"}}`, true, false,
		`visit then order within 7 days without open`, `visit 然后 order,在 7 天 内,其间没有 open`)
	f(`{"not_seen_for":"2d"}`, true, true, `not seen for 2 days`, `未活跃满 2 天`)
}

func languageOfRequests(f sentence) {
	f(`{"context":"page","in":["home","cart"]}`, true, false,
		`context page in ["home", "cart"]`, `上下文 page 属于 [“home”, “cart”]`)
	f(`{"context":"placement","is":"cart"}`, true, false,
		`context placement is "cart"`, `上下文 placement 是 “cart”`)
	f(`{"context":"channel","is_not":"sms"}`, true, true,
		`context channel is not "sms"`, `上下文 channel 不是 “sms”`)
	f(`{"context":"os","gte":"1.9.0"}`, true, false, `context os ≥ 1.9.0`, `上下文 os ≥ 1.9.0`)
	f(`{"context":"langs","in":["zh"]}`, true, false,
		`context langs in ["zh"]`, `上下文 langs 属于 [“zh”]`)
	f(`{"context":"total","gt":99}`, true, false, `context total > 99`, `上下文 total > 99`)
	f(`{"context":"hour_of_week","between":[144,167]}`, true, true,
		`context hour_of_week between 144 and 167`, `上下文 hour_of_week 介于 144 与 167 之间`)
	f(`{"context":"at","within_last":"1h"}`, true, false,
		`context at within the last 1 hour`, `上下文 at 在最近 1 小时 内`)
	f(`{"context":"at","is":"2024-03-10"}`, true, false,
		`context at is 2024-03-10`, `上下文 at 是 2024-03-10`)
	f(`{"context":"born","years_since":{"gte":18}}`, true, false,
		`context born with ≥ 18 years since it`, `上下文 born 距今 ≥ 18 年`)
	f(`{"context":"born","anniversary":{"before":"3d"}}`, true, false,
		`context born from 3 days before to 0 days after its anniversary`,
		`上下文 born 周年日前 3 天 至后 0 天`)
	f(`{"context":"born","within_next":"7d"}`, false, false,
		`context born within the next 7 days`, `上下文 born 在未来 7 天 内`)
}
