package engine

import (
	"slices"
	"sort"
	"strings"
	"time"
)

// The oracle of TestCapOptions: what docs/caps.md says of a cap, as plain lists of
// uses and whole seconds. It shares no code with the engine.

// optCap is one cap with all its options.
type optCap struct {
	id, scope, per string
	offers         []string // that it applies to; nil = all
	channels       []string
	placements     []string
	classes        []string
	exempt         []string
	countOn        []string

	rolling     int64
	unit        string // of a calendar window; "" = none
	every       int
	zone        string
	weekStart   time.Weekday
	from, until int64 // of a window between two times

	limit, most int
	byAttribute bool
	gap         int64
	after       int // rejections from which on it is suppressed; 0 = never
	of          []string
	life        int64
	hold, grace int64
	history     bool
}

// optOffer is an offer of the world.
type optOffer struct{ id, group, campaign, class string }

func optOffers() []optOffer {
	return []optOffer{
		{"a", "g/h", "k1", "marketing"},
		{"b", "g", "k1", "marketing"},
		{"m", "g/h/i", "k2", "mandatory"},
		{"t", "other", "", "transactional"},
	}
}

// optPerson is a person: the zone "" is not known, allowed -1 not set.
type optPerson struct {
	id, zone string
	allowed  int
}

// optItem is what a live decision gave.
type optItem struct {
	person             *optPerson
	offer              optOffer
	placement, channel string
	identity, device   string
	token              []byte
	granted, expires   int64
	reserved, gone     bool
	held               []optKey // not confirmed yet
	taken              []string // caps that have counted it
	counted            []string // outcomes
	grace              int64
}

// optKey is one counter.
type optKey struct {
	cap *optCap
	dim string
}

type optUse struct {
	person string // "" of a total
	key    optKey
	at     int64
	reject bool
}

type optOracle struct {
	caps    []*optCap
	zone    string
	zones   []string
	protect bool
	items   []*optItem
	uses    []optUse
	floor   int64
	places  map[string]*time.Location
}

func (c *optCap) counts(on string) bool { return slices.Contains(c.countOn, on) }

func (c *optCap) kind() string {
	switch c.countOn[0] {
	case "impression", "send", "delivered":
		return "contact"
	case "decision":
		return "decision"
	}
	return "reaction"
}

// holds: a decision on the channel holds a use.
func (c *optCap) holds(channel string) bool {
	switch c.kind() {
	case "contact":
		return channel != "web" || c.counts("impression")
	case "reaction":
		return c.scope == "total" && c.hold > 0
	}
	return false
}

func (c *optCap) binds(o optOffer, channel, placement string) bool {
	in := func(list []string, x string) bool { return list == nil || slices.Contains(list, x) }
	return in(c.offers, o.id) && in(c.channels, channel) && in(c.placements, placement) &&
		in(c.classes, o.class) && !slices.Contains(c.exempt, o.class)
}

// keys are the counters of a cap for an item; ok is false when it counts by an
// identity or device that was not named.
func (c *optCap) keys(it *optItem) (keys []optKey, ok bool) {
	if !c.binds(it.offer, it.channel, it.placement) {
		return nil, true
	}
	var dims []string
	switch c.per {
	case "all":
		dims = []string{""}
	case "offer":
		dims = []string{it.offer.id}
	case "offer_group":
		for at := range it.offer.group {
			if it.offer.group[at] == '/' {
				dims = append(dims, it.offer.group[:at])
			}
		}
		dims = append(dims, it.offer.group)
	case "campaign":
		if it.offer.campaign != "" {
			dims = []string{it.offer.campaign}
		}
	case "channel":
		dims = []string{it.channel}
	case "placement":
		dims = []string{it.placement}
	}
	who := map[string]string{"identity": it.identity, "device": it.device}[c.scope]
	if (c.scope == "identity" || c.scope == "device") && who == "" {
		return nil, len(dims) == 0
	}
	for _, dim := range dims {
		keys = append(keys, optKey{c, strings.TrimSuffix(dim+"@"+who, "@")})
	}
	return keys, true
}

func (c *optCap) limitOf(p *optPerson) int {
	if !c.byAttribute || p.allowed == -1 {
		return c.limit
	}
	return min(max(p.allowed, 0), c.most)
}

func (o *optOracle) load(name string) *time.Location {
	if o.places[name] == nil {
		zone, err := time.LoadLocation(name)
		if err != nil {
			panic(err)
		}
		o.places[name] = zone
	}
	return o.places[name]
}

// clocks are the zones that a cap's calendar is read in.
func (o *optOracle) clocks(c *optCap, p *optPerson) []string {
	switch {
	case c.zone == "UTC":
		return []string{"UTC"}
	case c.zone != "user" || c.scope == "total" || p.zone == "" && !o.protect:
		return []string{o.zone}
	case p.zone == "":
		return o.zones
	}
	return []string{p.zone}
}

// number counts the calendar windows before the one that holds a moment.
func (c *optCap) number(at int64, zone *time.Location) int64 {
	t := time.Unix(at, 0).In(zone)
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400
	n := int64(0)
	switch c.unit {
	case "hour":
		n = day*24 + int64(t.Hour())
	case "day":
		n = day
	case "week": // 1 January 1970 was a Thursday
		first := day - int64(t.Weekday()-c.weekStart+7)%7
		n = (first + int64(time.Thursday-c.weekStart+7)%7) / 7
	case "month":
		n = int64(t.Year()-1970)*12 + int64(t.Month()) - 1
	}
	return n / int64(c.every)
}

// inWindow: a use of a moment counts now; later ones count too.
func (o *optOracle) inWindow(c *optCap, at, now int64, zone string) bool {
	switch {
	case c.until > 0:
		return at >= c.from
	case c.rolling > 0:
		return at > now-c.rolling
	case c.unit != "":
		z := o.load(zone)
		return c.number(at, z) >= c.number(now, z)
	}
	return true
}

// times are the uses of a counter: those confirmed, and those held at a moment, at
// their latest.
func (o *optOracle) times(key optKey, p *optPerson, live int64, more []optUse) (at []int64) {
	mine := func(person string) bool { return key.cap.scope == "total" || person == p.id }
	for _, u := range slices.Concat(o.uses, more) {
		if u.key == key && !u.reject && mine(u.person) {
			at = append(at, u.at)
		}
	}
	for _, it := range o.items {
		if mine(it.person.id) && it.live(live, o.floor) && slices.Contains(it.held, key) {
			at = append(at, it.expires)
		}
	}
	return at
}

// live: the reservation still holds its uses.
func (it *optItem) live(now, floor int64) bool {
	ends := it.expires + it.grace
	if it.granted <= floor {
		ends = max(ends, floor+it.expires-it.granted+it.grace)
	}
	return it.reserved && !it.gone && now < ends
}

// used is how many uses of a counter are in its window at a moment, in the zone
// where they are most; what is held is what is held at live.
func (o *optOracle) used(key optKey, p *optPerson, now, live int64, more []optUse) int {
	all, most := o.times(key, p, live, more), 0
	for _, zone := range o.clocks(key.cap, p) {
		n := 0
		for _, at := range all {
			if o.inWindow(key.cap, at, now, zone) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// closed: rejections close a counter.
func (o *optOracle) closed(key optKey, it *optItem, now int64) bool {
	n, latest := 0, int64(0)
	for _, u := range o.uses {
		if u.key == key && u.reject && u.person == it.person.id {
			n, latest = n+1, max(latest, u.at)
		}
	}
	return key.cap.after > 0 && it.offer.class == "marketing" && n >= key.cap.after &&
		now < latest+key.cap.life
}

// full: a counter has no room at a moment.
func (o *optOracle) full(key optKey, it *optItem, now, live int64, more []optUse) bool {
	return o.used(key, it.person, now, live, more) >= key.cap.limitOf(it.person)
}

// tooSoon: a counter's latest use is not long ago.
func (o *optOracle) tooSoon(key optKey, it *optItem, now, live int64, more []optUse) bool {
	return key.cap.gap > 0 && slices.ContainsFunc(o.times(key, it.person, live, more),
		func(at int64) bool { return at > now-key.cap.gap })
}

// refuses tells why one cap alone refuses an item at a moment, "" = it does not.
func (o *optOracle) refuses(c *optCap, it *optItem, now, live int64, more []optUse) string {
	keys, ok := c.keys(it)
	any := func(f func(optKey) bool) bool { return slices.ContainsFunc(keys, f) }
	switch {
	case !ok:
		return "user_not_found"
	case c.until > 0 && now >= c.until:
		return ""
	case any(func(k optKey) bool { return o.closed(k, it, now) }):
		return "suppressed"
	case any(func(k optKey) bool { return o.full(k, it, now, live, more) }):
		switch {
		case c.scope == "total":
			return "capped_total"
		case c.per == "all" || c.per == "channel" || c.per == "placement":
			return "capped_contact"
		}
		return "capped_user"
	case any(func(k optKey) bool { return o.tooSoon(k, it, now, live, more) }):
		return "min_gap"
	}
	return ""
}

// judge tells why an item is refused now and by which cap.
func (o *optOracle) judge(it *optItem, now int64, more []optUse) (reason string, by *optCap) {
	const never = "capped_total by a limit of 0" // told without the ledger of totals
	order := []string{                           // which is asked last
		"suppressed", "user_not_found", "capped_user", "capped_contact", never, "min_gap",
		"capped_total",
	}
	at := len(order)
	for _, c := range o.caps {
		// Rejections are judged first, so a cap that is closed may be full too.
		why := o.refuses(c, it, now, now, more)
		if why == "capped_total" && c.limitOf(it.person) == 0 {
			why = never
		}
		if k := slices.Index(order, why); k >= 0 && k < at {
			at, reason, by = k, why, c
		}
	}
	if reason == never {
		reason = "capped_total"
	}
	return reason, by
}

// frees is the first second at which a cap would let an item pass if nothing else
// happened and what is held were confirmed at its last moment; 0 = never.
func (o *optOracle) frees(c *optCap, it *optItem, now int64, more []optUse) int64 {
	const span = 4000 * 86400
	n := sort.Search(span, func(n int) bool {
		return o.refuses(c, it, now+int64(n), now, more) == ""
	})
	if n == span {
		return 0
	}
	return now + int64(n)
}

// grant takes an item, with a reservation or the uses of the decision. It returns
// them for the next item of the same request.
func (o *optOracle) grant(it *optItem, now int64) {
	life := int64(24 * 3600)
	if it.channel == "web" {
		life = 600
	}
	normal, shortest := life, int64(0)
	for _, c := range o.caps {
		keys, _ := c.keys(it)
		switch {
		case c.binds(it.offer, it.channel, it.placement) && c.holds(it.channel) && len(keys) > 0:
			own := c.hold
			if own == 0 {
				own = normal
			}
			if shortest == 0 || own < shortest {
				shortest = own
			}
			it.held = append(it.held, keys...)
			it.grace = max(it.grace, c.grace)
		case c.kind() == "decision":
			o.use(keys, it, now)
		}
	}
	if shortest > 0 {
		life = shortest
	}
	it.held = slices.DeleteFunc(it.held, func(k optKey) bool { // over before the total begins
		return k.cap.scope == "total" && k.cap.until > 0 && now+life+1 < k.cap.from
	})
	it.granted, it.expires, it.reserved = now, now+life, len(it.held) > 0
	o.items = append(o.items, it)
}

func (o *optOracle) use(keys []optKey, it *optItem, at int64) {
	for _, k := range keys {
		if k.cap.until == 0 || at < k.cap.until {
			o.uses = append(o.uses, optUse{it.person.id, k, at, false})
		}
	}
}

// contact reports an impression, a send or a delivery.
func (o *optOracle) contact(it *optItem, on string, at, now int64) {
	if slices.Contains(it.counted, on) {
		return
	}
	if it.live(now, o.floor) {
		o.confirm(it, on, at)
	}
	for _, c := range o.caps { // late, or nothing of it is held: a fact
		keys, _ := c.keys(it)
		if c.kind() == "contact" && c.counts(on) && !slices.Contains(it.taken, c.id) {
			o.use(keys, it, at)
			it.counted = append(it.counted, on)
			it.taken = append(it.taken, c.id)
		}
	}
}

// confirm moves what the item holds for an outcome to when it happened.
func (o *optOracle) confirm(it *optItem, on string, at int64) {
	it.held = slices.DeleteFunc(it.held, func(k optKey) bool {
		if !k.cap.counts(on) {
			return false
		}
		o.uses = append(o.uses, optUse{it.person.id, k, min(max(at, it.granted), it.expires), false})
		it.taken = append(it.taken, k.cap.id)
		it.counted = append(it.counted, on)
		return true
	})
}

// reaction reports a click, an accept and the like; it tells whether a total let it.
func (o *optOracle) reaction(it *optItem, on string, at, now int64) bool {
	type take struct {
		keys []optKey
		c    *optCap
	}
	var takes []take
	counted := slices.Contains(it.counted, on)
	if on == "accept" && counted {
		return true // an item is accepted once
	}
	open := it.live(now, o.floor) &&
		slices.ContainsFunc(it.held, func(k optKey) bool { return k.cap.counts(on) })
	for _, c := range o.caps {
		keys, _ := c.keys(it)
		if c.kind() == "reaction" && c.counts(on) &&
			(!c.holds(it.channel) || !open && !counted) {
			for _, k := range keys {
				if c.scope == "total" && (c.until == 0 || now < c.until) &&
					o.full(k, it, now, now, nil) {
					return false
				}
			}
			takes = append(takes, take{keys, c})
		}
	}
	if open {
		o.confirm(it, on, at)
	}
	before := len(o.uses)
	for _, t := range takes {
		o.use(t.keys, it, at)
	}
	for _, c := range o.caps {
		if keys, _ := c.keys(it); c.after > 0 && slices.Contains(c.of, on) {
			for _, k := range keys {
				o.uses = append(o.uses, optUse{it.person.id, k, at, true})
			}
		}
	}
	if len(o.uses) > before {
		it.counted = append(it.counted, on)
	}
	return true
}

// event is an event of a person that belongs to no item: it counts for caps of all
// offers, of everybody or of the person's user_id.
func (o *optOracle) event(p *optPerson, name string, at int64) {
	for _, c := range o.caps {
		if c.per != "all" || c.scope == "device" {
			continue
		}
		k := optKey{c, ""}
		if c.scope == "identity" {
			k.dim = "@user"
		}
		it := &optItem{person: p}
		if c.kind() == "reaction" && c.counts(name) {
			o.use([]optKey{k}, it, at)
		}
		if c.after > 0 && slices.Contains(c.of, name) {
			o.uses = append(o.uses, optUse{p.id, k, at, true})
		}
	}
}
