package decide

import (
	"math"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Cap is a compiled cap. Selectors are sets over the plan's indices.
type Cap struct {
	ID      string
	Name    storage.Name // DictCap
	Counter storage.Name // DictCap: what its counters are kept under; of a total see counterName
	Def     *definition.Cap
	Scope   definition.CapScope
	Per     definition.CapPer
	CountOn definition.CountOn
	Window  definition.Window
	Limit   int   // uses in a window; 0 = never; -1 = only MinGap; of limitFrom the default
	MinGap  int64 // seconds

	limitFrom storage.Name // DictAttribute: the attribute that gives the limit; 0 = none
	most      int          // the greatest limit that anybody can have
	coarse    storage.Coarse
	events    []storage.Name // DictEvent, of CountCustom
	suppress  suppression    // name 0 = none
	history   storage.Name   // DictCap, of the mark that history was counted; 0 = from publish
	cell      int64          // of a rolling total: seconds that are counted as one
	gapName   storage.Name   // DictCap, of a total's min_gap: the counter that keeps it
	gapCell   int64
	lifeMax   uint32 // seconds from a grant, or from the receipt of an event, to the use

	kind       capKind
	reason     Reason // capped_user, capped_contact or capped_total
	offers     bitset // selected, or naming the cap themselves
	placements bitset // nil = all
	channels   uint16 // bit per channel
	classes    uint8  // bit per message class, exempt ones taken out
	pace       *pace  // nil: as fast as possible
	money      bool   // a budget: its units are minor units of Def.Currency
}

// suppression closes a cap's counter for life seconds after every rejection from
// the after-th on. classes are those it binds: marketing, and transactional where
// quiet_hours.classes names it.
type suppression struct {
	name    storage.Name // DictCap, of the counter of rejections
	after   int
	on      definition.CountOn
	events  []storage.Name
	life    int64
	classes uint8
}

// capKind says when a use comes about.
type capKind uint8

const (
	capContact  capKind = iota // held at the decision, confirmed by the contact
	capDecision                // used at the grant
	capReaction                // used by the reaction; nothing is reserved unless Hold is set
)

const (
	holdPage     = 10 * 60      // seconds a reservation lives on page channels
	holdOther    = 24 * 60 * 60 // and on the others
	graceDefault = 5 * 60       // seconds after it in which a confirm is not late
	// eventAhead is how many seconds an event may be dated ahead of its receipt.
	eventAhead = 5 * 60
)

// applies tells whether a cap binds an offer on a channel and placement. A
// placement of -1 is none: only caps for every placement bind.
func (p *Plan) applies(c *Cap, offer int32, ch definition.Channel, placement int32) bool {
	return c.offers.has(offer) &&
		c.channels&(1<<ch) != 0 &&
		c.classes&(1<<p.Offers[offer].Class) != 0 &&
		(c.placements == nil || placement >= 0 && c.placements.has(placement))
}

// dimensions returns how many counters the cap keeps for the offer: one, or one
// for each ancestor of its group.
func (p *Plan) dimensions(c *Cap, offer int32) int {
	if c.Per == definition.PerOfferGroup {
		return len(p.Offers[offer].Groups)
	}
	return 1
}

// dimension returns the k-th dimension of the cap's counters for an offer; ok
// is false when the offer has none (no campaign, no placement).
func (p *Plan) dimension(
	c *Cap, offer int32, ch definition.Channel, placement int32, k int,
) (dim uint32, ok bool) {
	o := &p.Offers[offer]
	switch c.Per {
	case definition.PerAll:
		return 0, true
	case definition.PerOffer:
		return uint32(o.Name), true
	case definition.PerOfferGroup:
		return uint32(o.Groups[k]), true
	case definition.PerCampaign:
		return uint32(o.Campaign), o.Campaign != 0
	case definition.PerChannel:
		return uint32(ch) + 1, true // 0 is the dimension of `per: all`
	case definition.PerPlacement:
		if placement < 0 {
			return 0, false
		}
		return uint32(p.Placements[placement].Name), true
	}
	return 0, false
}

func (p *Plan) heldKey(
	c *Cap, dim uint32, at storage.UnixMsec, zones []*time.Location,
) storage.HeldKey {
	k := storage.HeldKey{
		Key:     storage.CounterKey{Cap: c.Counter, Dim: dim},
		CountOn: uint16(c.CountOn),
		Limit:   uint8(min(max(c.most, 1), 255)),
		Total:   c.Scope == definition.ScopeTotal,
		Coarse:  c.coarse,
	}
	switch {
	case k.Total:
		k.Window = p.totalWindow(c, at)
		if c.cell > 0 {
			k.Coarse = storage.CoarseRolling
		}
	case c.coarse == storage.CoarseRolling:
		k.Window = uint32(min((c.Window.Rolling+coarseCells-1)/coarseCells, math.MaxUint32))
	case c.coarse == storage.CoarseCalendar:
		k.Window = uint32(firstEnd(c, clampSec(rule.FloorDiv(int64(at), 1000)), zones))
	}
	return k
}

// coarseCells is how many cells of a rolling window count the uses of a limit
// above storage.RingMax: a use counts up to W/24 longer than it should.
const coarseCells = 24

// mixDim is the counter of an identity or device inside the counters of a
// dimension: 32 bits of a hash of both. Two of one person that meet share their
// uses, which errs to less contact.
func mixDim(key, dim uint32) uint32 {
	x := (uint64(key)<<32 | uint64(dim)) * 0x9E3779B97F4A7C15
	x ^= x >> 29
	x *= 0xBF58476D1CE4E5B9
	return uint32(x >> 32)
}

// keyOf is the counter of a use for this person.
func (r *run) keyOf(u *capUse) storage.CounterKey {
	switch u.scope {
	case definition.ScopeIdentity:
		return storage.CounterKey{Cap: u.key.Cap, Dim: mixDim(r.who.IdentityKey, u.key.Dim)}
	case definition.ScopeDevice:
		return storage.CounterKey{Cap: u.key.Cap, Dim: mixDim(r.who.DeviceKey, u.key.Dim)}
	}
	return u.key
}

// limit is the limit of a cap for this person: a whole attribute in [0, max], else
// the default.
func (r *run) limit(c *Cap) int {
	if c.limitFrom == 0 {
		return c.Limit
	}
	v, ok := r.who.Profile.Attr(c.limitFrom)
	if !ok || !r.who.Known {
		return c.Limit
	}
	return limitOf(v, c.Limit, c.most)
}

func limitOf(v storage.Value, normal, most int) int {
	switch v.Kind {
	case storage.KindInt:
		return int(min(max(int64(v.Num), 0), int64(most)))
	case storage.KindFloat:
		if f := math.Float64frombits(v.Num); f == f {
			return int(min(max(f, 0), float64(most)))
		}
	}
	return normal
}

// held tells whether a decision on the channel holds a use of the cap: contacts
// that can happen there, and reactions with a `hold`.
func (c *Cap) held(ch definition.Channel) bool {
	switch c.kind {
	case capContact:
		return c.CountOn&contactsOf(ch) != 0
	case capReaction:
		return c.Scope == definition.ScopeTotal && c.Def.Hold > 0
	}
	return false
}

// longestHold is how many seconds a reservation of the cap's uses may live; of a cap
// on the decision its hold, which has no meaning there.
func (c *Cap) longestHold() int64 {
	switch hold := c.Def.Hold; {
	case c.kind != capContact || hold > 0:
		return hold
	case c.channels&^(1<<definition.ChannelWeb|1<<definition.ChannelInApp) == 0:
		return holdPage
	default:
		return holdOther
	}
}

// longestLife is how many seconds after a grant, or after the receipt of an event,
// a use of the cap may be dated.
func (c *Cap) longestLife() uint32 {
	if c.kind == capDecision {
		return 0
	}
	return uint32(min(max(c.longestHold(), eventAhead), math.MaxUint32))
}

// contactsOf is the set of contacts that can happen on a channel.
func contactsOf(ch definition.Channel) definition.CountOn {
	if pageChannel(ch) {
		return definition.CountImpression
	}
	return definition.CountContacts
}
