package synth

import (
	"slices"
	"strconv"

	"github.com/zeebo/xxh3"

	"tact/engine"
	"tact/storage"
)

// eventKind is one event of the story and how often it happens.
type eventKind struct {
	name   string
	weight int
}

// The order is drawn from: it never changes.
const (
	kindPageViewed = iota
	kindProductViewed
	kindAppOpened
	kindCartAdded
	kindOrder
	kindCoupon
	kindComplaint
)

func eventKinds() []eventKind {
	return []eventKind{
		kindPageViewed:    {"page_viewed", 380},
		kindProductViewed: {"product_viewed", 250},
		kindAppOpened:     {"app_opened", 170},
		kindCartAdded:     {"cart_added", 80},
		kindOrder:         {"order_completed", 75},
		kindCoupon:        {"coupon_claimed", 38},
		kindComplaint:     {"complaint_opened", 7},
	}
}

const dayMs = 86_400_000

// shanghaiMs is the offset of UTC+8, in which most people live: the hours of
// the day are theirs.
const shanghaiMs = 8 * 3_600_000

// storyEvents fills r.events.
func (r *Reader) storyEvents(index int) {
	d := r.storyKinds(index)
	r.eventTimes(&d, len(r.kinds))
	for i, at := range r.times {
		kind := r.kinds[i]
		r.beginEvent(index, i, at, r.p.t.kinds[kind].name)
		r.storyProperties(&d, kind)
		r.endEvent()
	}
}

// storyKinds draws which events the person at index has, into r.kinds. It returns
// where the drawing of everything else about them goes on.
func (r *Reader) storyKinds(index int) draw {
	t := r.p.t
	d := r.draw(index, drawEvents)
	r.kinds = r.kinds[:0]
	for range d.poisson(t.activities[t.activityPick.pick(&d)]) {
		r.kinds = append(r.kinds, t.kindPick.pick(&d))
	}
	return d
}

// storyOrders is how many orders the person at index has among the events.
func (r *Reader) storyOrders(index int) (n int) {
	r.storyKinds(index)
	for _, kind := range r.kinds {
		if kind == kindOrder {
			n++
		}
	}
	return n
}

// eventTimes draws n times in (End-Days, End], in rising order.
func (r *Reader) eventTimes(d *draw, n int) {
	r.times = r.times[:0]
	end := int64(r.p.o.End)
	for range n {
		// The local day, its hour by how busy it is, and the rest evenly.
		day := int64(d.below(r.p.o.Days))
		hour := int64(r.p.t.hourPick.pick(d))
		ago := day*dayMs + ((end+shanghaiMs)%dayMs-hour*3_600_000-int64(d.below(3_600_000))+dayMs)%dayMs
		r.times = append(r.times, end-ago)
	}
	slices.Sort(r.times)
}

func (r *Reader) storyProperties(d *draw, kind int) {
	t := r.p.t
	switch kind {
	case kindPageViewed:
		r.textProperty("page", t.pages[d.below(len(t.pages))])
	case kindProductViewed, kindCartAdded:
		sku := t.skuPick.pick(d)
		r.textProperty("sku", r.sku(sku))
		r.textProperty("category", t.categories[sku%len(t.categories)])
		r.moneyProperty("price", price(sku))
	case kindOrder:
		sku, n := t.skuPick.pick(d), 1+min(d.below(4), d.below(4))
		r.moneyProperty("amount", price(sku)*n)
		r.textProperty("category", t.categories[sku%len(t.categories)])
		r.boolProperty("new_product", sku%7 == 0)
	case kindCoupon:
		r.textProperty("coupon", t.coupons[d.below(len(t.coupons))])
	case kindComplaint:
		r.textProperty("topic", t.topics[d.below(len(t.topics))])
	case kindAppOpened:
		r.textProperty("app_version", t.versions[t.versionPick.pick(d)])
	}
}

// price of a product in fen: from 9.90 to 999, dear ones rare.
func price(sku int) int { return 990 + sku*sku%997*100 }

func (r *Reader) sku(sku int) []byte {
	from := len(r.raw)
	r.raw = strconv.AppendInt(append(r.raw, "sku-"...), int64(sku)+1, 10)
	return r.raw[from:len(r.raw):len(r.raw)]
}

// beginEvent opens the n-th event of the person at index.
func (r *Reader) beginEvent(index, n int, at int64, name string) {
	from := len(r.raw)
	r.raw = append(strconv.AppendInt(append(r.raw, 'e'), int64(index)+1, 10), '-')
	r.raw = strconv.AppendInt(r.raw, int64(n)+1, 10)
	eventID := r.raw[from:len(r.raw):len(r.raw)]
	from = len(r.raw)
	r.raw = AppendUserID(r.raw, index)
	r.events = append(r.events, engine.EventDoc{
		EventID: eventID, UserID: r.raw[from:len(r.raw):len(r.raw)], Event: r.keep(name),
		OccurredAt: storage.UnixMsec(at),
		Properties: r.props[len(r.props):],
	})
}

// keep copies a word beside the events.
func (r *Reader) keep(word string) []byte {
	from := len(r.raw)
	r.raw = append(r.raw, word...)
	return r.raw[from:len(r.raw):len(r.raw)]
}

// endEvent writes the properties as JSON and hashes what makes the event.
func (r *Reader) endEvent() {
	e := &r.events[len(r.events)-1]
	from := len(r.raw)
	r.raw = appendObject(r.raw, e.Properties)
	e.Raw = r.raw[from:len(r.raw):len(r.raw)]
	e.BodyHash = uint32(xxh3.Hash(e.Raw))
}

func (r *Reader) property(name string, v engine.RawValue) {
	e := &r.events[len(r.events)-1]
	from := len(r.props) - len(e.Properties)
	r.props = append(r.props, engine.NamedValue{Name: r.keep(name), Value: v})
	e.Properties = r.props[from:len(r.props):len(r.props)]
}

func (r *Reader) textProperty(name string, text []byte) {
	r.property(name, engine.RawValue{Kind: engine.RawString, Text: text})
}

func (r *Reader) boolProperty(name string, is bool) {
	r.property(name, engine.RawValue{Kind: engine.RawBool, Bool: is})
}

// moneyProperty takes hundredths.
func (r *Reader) moneyProperty(name string, hundredths int) {
	from := len(r.raw)
	r.raw = appendHundredths(r.raw, hundredths)
	r.property(name, engine.RawValue{
		Kind: engine.RawNumber, Text: r.raw[from:len(r.raw):len(r.raw)],
	})
}
