package synth

import (
	"strconv"

	"tact/engine"
	"tact/storage"
)

// person is what several parts of a profile depend on.
type person struct {
	d      draw
	zh     bool
	woman  bool
	city   *city
	family int
	spend  int // yuan in a lifetime
	level  int // member level, 0..3
	hasApp bool
}

// orderSpend is what an order costs, about, in yuan: orders_total is never less than
// the orders among a person's events.
const orderSpend = 180

// storyUser fills r.user with a customer of the shop.
func (r *Reader) storyUser(index int) {
	t := r.p.t
	w := person{d: r.draw(index, drawProfile)}
	d := &w.d
	w.zh, w.woman, w.hasApp = d.chance(780), d.chance(530), d.chance(720)
	if w.zh {
		w.city = &t.cities[t.cityPick.pick(d)]
	} else {
		w.city = &t.cities[t.chinese+t.abroadPick.pick(d)]
	}
	// Most spend little: the smaller of two draws, cubed, is close to a power law.
	share := min(d.below(1000), d.below(1000))
	w.spend = share*share/1000*share/25 + orderSpend*r.storyOrders(index)
	for _, floor := range []int{800, 4000, 15000} {
		if w.spend >= floor {
			w.level++
		}
	}
	r.storyNames(&w)
	r.storyAttributes(&w)
	r.storyTags(&w)
	c := r.draw(index, drawContact)
	r.storyContacts(&w, &c, index)
}

func (r *Reader) storyNames(w *person) {
	t, d := r.p.t, &w.d
	given, family := t.menEn, t.familyEn
	switch {
	case w.zh && w.woman:
		given, family = t.womenZh, t.familyZh
	case w.zh:
		given, family = t.menZh, t.familyZh
	case w.woman:
		given = t.womenEn
	}
	w.family = d.below(len(family))
	name := given[d.below(len(given))]
	if !d.chance(60) { // six in a hundred never gave a name: messages need their default
		r.attribute("first_name", engine.RawString, name)
		r.attribute("last_name", engine.RawString, family[w.family])
	}
	language, locale := "en", "en-GB"
	if w.zh {
		language, locale = "zh", "zh-CN"
	}
	r.attribute("language", engine.RawString, r.join(language))
	r.user.Locale, r.user.HasLocale = r.join(locale), true
	if !d.chance(40) { // and four in a hundred have no zone: quiet hours protect them
		r.user.Timezone, r.user.HasTimezone = w.city.zone, true
	}
}

func (r *Reader) storyAttributes(w *person) {
	t, d := r.p.t, &w.d
	if !d.chance(20) {
		gender := "male"
		if w.woman {
			gender = "female"
		}
		r.attribute("gender", engine.RawString, r.join(gender))
	}
	year := 2010 - (d.below(34)+d.below(34))*6/7
	month, day := 1+d.below(12), 1+d.below(28)
	if !d.chance(80) {
		r.attribute("birthday", engine.RawString, r.date(year, month, day))
	}
	r.attribute("city", engine.RawString, w.city.name)
	r.attribute("member_since", engine.RawString,
		r.date(2018+d.below(8), 1+d.below(12), 1+d.below(28)))
	if w.hasApp {
		r.attribute("app_version", engine.RawString, t.versions[t.versionPick.pick(d)])
	}
	r.user.Attributes = append(r.user.Attributes, engine.NamedValue{
		Name: r.join("app_installed"), Value: engine.RawValue{Kind: engine.RawBool, Bool: w.hasApp},
	})
	r.attribute("lifetime_value", engine.RawNumber, r.hundredths(w.spend*100+d.below(100)))
	r.attribute("orders_total", engine.RawNumber, r.number(w.spend/orderSpend))
	r.attribute("member_points", engine.RawNumber, r.number(w.spend*2+d.below(500)))
	// A model's output, made up: likelier for those who buy, never 0 or 1.
	r.attribute("coupon_propensity", engine.RawNumber,
		r.hundredths(2+d.below(20)+min(w.spend/200, 40)))
	first := t.categoryPick.pick(d)
	from := len(r.list)
	r.list = append(r.list, t.categories[first])
	if d.chance(550) {
		r.list = append(r.list, t.categories[(first+1+d.below(len(t.categories)-1))%
			len(t.categories)])
	}
	r.user.Attributes = append(r.user.Attributes, engine.NamedValue{
		Name:  r.join("favourite_categories"),
		Value: engine.RawValue{Kind: engine.RawList, List: r.list[from:len(r.list):len(r.list)]},
	})
}

func (r *Reader) storyTags(w *person) {
	t, d := r.p.t, &w.d
	label := func(perMille int, name string) {
		if d.chance(perMille) {
			r.user.Tags = append(r.user.Tags, engine.TagDoc{Name: r.join(name)})
		}
	}
	value := func(name string, is []byte) {
		r.user.Tags = append(r.user.Tags, engine.TagDoc{Name: r.join(name), Is: is})
	}
	vip := 2
	if w.level == 3 {
		vip = 700
	}
	label(vip, "vip")
	label(15, "complaint_open")
	label(300, "price_sensitive")
	label(120, "night_owl")
	label(220, "parent")
	label(90, "student")
	label(3, "employee")
	label(350, "newsletter")
	if w.city.tier > 0 {
		value("city_tier", t.tiers[w.city.tier-1])
	}
	value("member_level", t.levels[w.level])
	if band := d.below(10); band < 9 { // a tenth has no band yet
		value("price_band", t.bands[min(band/5+w.level/2, 2)])
	}
}

// storyContacts fills identities, addresses, consents and the blacklist.
func (r *Reader) storyContacts(w *person, d *draw, index int) {
	id := string(r.number(index + 1))
	if d.chance(850) {
		name := r.p.t.pinyin
		if !w.zh {
			name = r.p.t.familyEn
		}
		email := r.join(lower(name[w.family]), ".", id, "@example.com")
		r.identity("email", email)
		r.address("email", email)
	}
	if w.zh && d.chance(600) {
		r.identity("wechat_unionid", r.join("o6_demo", id))
	}
	if w.hasApp {
		r.identity("device", r.join("device-", id))
		r.address("push", r.join("token-", id))
	}
	if d.chance(930) {
		prefix := "+861390"
		if !w.zh {
			prefix = "+447700"
		}
		r.address("sms", r.join(prefix, strconv.Itoa(10_000_000 + index%90_000_000)[1:]))
	}
	r.consent(d, "sms", 620)
	r.consent(d, "email", 480)
	r.consent(d, "push", 550)
	if d.chance(20) {
		r.user.Blacklist = append(r.user.Blacklist, r.join("sms"))
		if d.chance(250) {
			r.user.Blacklist = append(r.user.Blacklist, r.join("call"))
		}
	}
	r.user.HasBlacklist = len(r.user.Blacklist) > 0
}

func lower(name []byte) string {
	return string(append([]byte{name[0] | 0x20}, name[1:]...))
}

func (r *Reader) identity(kind string, value []byte) {
	r.user.Identities = append(r.user.Identities,
		engine.IdentityRef{Type: r.join(kind), Value: value})
}

func (r *Reader) address(channel string, value []byte) {
	from := len(r.list)
	r.list = append(r.list, value)
	r.user.Addresses = append(r.user.Addresses, engine.AddressDoc{
		Channel: r.join(channel), Values: r.list[from:len(r.list):len(r.list)],
	})
}

// consents were asked for at one moment of early 2026; one in twenty said no.
func (r *Reader) consent(d *draw, channel string, perMille int) {
	at := storage.UnixMsec(1_767_600_000_000 + int64(d.below(90*86_400))*1000)
	granted := d.chance(perMille)
	if !granted && !d.chance(50) {
		return
	}
	r.user.Consents = append(r.user.Consents, engine.ConsentDoc{
		Purpose: r.join("marketing"), Channel: r.join(channel), Source: r.join("app"),
		Granted: granted, At: at,
	})
}

// Segments are the static segments of the story, in the order of the bits that
// InSegments returns.
func Segments() []string { return []string{"vip_upload", "spring_buyers", "churn_risk", "staff"} }

// InSegments says in which of Segments the person at index is, bit per segment.
func (p *Population) InSegments(index int) uint8 {
	d := newDraw(p.o.Seed, uint64(index), drawSegments)
	var in uint8
	for bit, perMille := range []int{35, 120, 180, 4} {
		if d.chance(perMille) {
			in |= 1 << bit
		}
	}
	return in
}
