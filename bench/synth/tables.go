package synth

import "strings"

// tables hold what people are made of. They are built once for a population
// and only read afterwards. A row is never moved or taken out: positions are
// drawn, so that would change every person of every seed.
type tables struct {
	familyZh, womenZh, menZh [][]byte
	familyEn, womenEn, menEn [][]byte
	pinyin                   [][]byte // of familyZh, same positions
	cities                   []city
	cityPick                 weighted // among the Chinese cities, which come first
	abroadPick               weighted // among the others
	chinese                  int      // how many cities come first
	versions                 [][]byte
	versionPick              weighted
	categories               [][]byte
	pages                    [][]byte
	levels                   [][]byte
	bands                    [][]byte
	tiers                    [][]byte
	coupons                  [][]byte
	topics                   [][]byte
	activities               []activity
	activityPick             weighted
	skuPick                  weighted
	categoryPick             weighted
	hourPick                 weighted
	kindPick                 weighted
	kinds                    []eventKind
}

type city struct {
	name, zone []byte
	tier       int // 1 is the largest; 0 abroad
	weight     int
}

const skus = 500

func words(text string) [][]byte {
	var out [][]byte
	for w := range strings.FieldsSeq(text) {
		out = append(out, []byte(w))
	}
	return out
}

func newTables() *tables {
	t := &tables{
		familyZh: words(`王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙 胡 朱 高 林 何 郭 马 罗 梁 宋 郑 谢 韩
			唐 冯 于 董 萧 程 曹 袁 邓 许 傅 沈 曾 彭 吕`),
		pinyin: words(`wang li zhang liu chen yang zhao huang zhou wu xu sun hu zhu gao lin he
			guo ma luo liang song zheng xie han tang feng yu dong xiao cheng cao yuan deng xu fu
			shen zeng peng lv`),
		womenZh: words(`小雨 欣怡 梓涵 诗涵 雨桐 佳琪 静怡 思琪 梦瑶 晓燕 丽娜 婷婷 雪梅 秀英 若曦 语嫣
			可馨 芷若 海燕 玉兰 婉清 怡君 春华 淑芬`),
		menZh: words(`伟 浩然 子轩 宇航 俊杰 志强 建国 文博 天佑 明哲 一鸣 思远 家豪 振华 国强 晨曦 立新
			嘉懿 博文 永康 海涛 云飞 少华 鹏飞`),
		familyEn: words(`Smith Jones Taylor Brown Williams Wilson Johnson Davies Patel Wright
			Walker White Hall Thompson Green Hughes Edwards Clarke Lee Martin Nguyen Garcia
			Murphy Kelly`),
		womenEn: words(`Olivia Emma Amelia Sophia Isla Ava Mia Grace Emily Chloe Ella Lucy Hannah
			Priya Zoe Nora`),
		menEn: words(`Liam Noah Oliver James Jack Henry Thomas Leo Daniel Samuel Arjun Ethan Max
			Ryan Adam Hugo`),
		versions:   words(`9.4.1 9.4.0 9.3.2 9.2.0 8.9.5 8.4.0 7.12.3 6.0.1`),
		categories: words(`fashion beauty food home digital baby sport books`),
		pages:      words(`home category product cart search account coupons`),
		levels:     words(`bronze silver gold platinum`),
		bands:      words(`low mid high`),
		tiers:      words(`1 2 3 4`),
		coupons:    words(`welcome_20 food_15 beauty_30 free_shipping birthday_50`),
		topics:     words(`delivery refund quality app`),
		activities: activities(),
		kinds:      eventKinds(),
	}
	t.cities, t.chinese = cities()
	t.cityPick = newWeighted(t.chinese, func(i int) int { return t.cities[i].weight })
	t.abroadPick = newWeighted(len(t.cities)-t.chinese,
		func(i int) int { return t.cities[t.chinese+i].weight })
	t.versionPick = zipf(len(t.versions))
	t.activityPick = newWeighted(len(t.activities),
		func(i int) int { return t.activities[i].weight })
	t.skuPick = zipf(skus)
	t.categoryPick = zipf(len(t.categories))
	t.hourPick = newWeighted(24, hourWeight)
	t.kindPick = newWeighted(len(t.kinds), func(i int) int { return t.kinds[i].weight })
	return t
}

// hourWeight is how busy an hour of the day is, in the person's morning,
// lunch break and evening.
func hourWeight(hour int) int {
	switch {
	case hour < 6:
		return 2
	case hour < 9:
		return 8
	case hour >= 12 && hour < 14:
		return 14
	case hour >= 19 && hour < 23:
		return 20
	}
	return 9
}

func cities() (all []city, chinese int) {
	add := func(zone string, tier, weight int, names string) {
		for _, name := range words(names) {
			all = append(all, city{name: name, zone: []byte(zone), tier: tier, weight: weight})
		}
	}
	add("Asia/Shanghai", 1, 60, "上海 北京 深圳 广州")
	add("Asia/Shanghai", 2, 30, "成都 杭州 武汉 重庆 西安 苏州 天津 南京 长沙 郑州")
	add("Asia/Shanghai", 3, 14, "无锡 佛山 合肥 大连 福州 厦门 哈尔滨 济南 温州 南宁 长春 泉州")
	add("Asia/Shanghai", 4, 6, "绵阳 桂林 洛阳 大理 赣州 宜昌 柳州 遵义 曲靖 承德")
	add("Asia/Urumqi", 3, 8, "乌鲁木齐")
	add("Asia/Hong_Kong", 1, 24, "香港")
	chinese = len(all)
	add("Asia/Singapore", 0, 40, "Singapore")
	add("Europe/London", 0, 20, "London Manchester")
	add("America/New_York", 0, 18, "Boston Toronto")
	add("America/Los_Angeles", 0, 16, "Seattle Vancouver")
	add("Australia/Sydney", 0, 14, "Sydney")
	add("Europe/Berlin", 0, 12, "Berlin")
	add("Asia/Tokyo", 0, 12, "Tokyo")
	return all, chinese
}
