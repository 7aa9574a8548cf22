package decide

import (
	"fmt"
	"math"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Totals are counted by the ledger of the node in windows that have numbers. A
// calendar window's number is its place in the calendar. A rolling window is
// counted in cells of a 24th of it, or of a 64th of the longest life of a
// reservation where that is longer; every use of a cell counts until the cell's
// last second has left. A minimum gap is a rolling window of one use, under a
// name of its own.
const (
	rollingCells = 24
	holdCells    = 64
)

// totalCells sets the cells of a rolling total and of a total's minimum gap.
func (c *compiler) totalCells(d *definition.Cap, out *Cap) {
	if d.Scope != definition.ScopeTotal {
		return
	}
	hold := out.longestHold()
	cell := func(window int64) int64 {
		return max((window+rollingCells-1)/rollingCells, (hold+holdCells-1)/holdCells, 1)
	}
	if d.Window.Rolling > 0 {
		out.cell = cell(d.Window.Rolling)
	}
	if d.MinGap > 0 {
		out.gapCell = cell(d.MinGap)
		name := fmt.Sprintf("%s#gap/%d/%d", d.ID, d.MinGap, out.gapCell)
		out.gapName = c.intern(&d.Meta, storage.DictCap, name)
	}
}

// counterName names the counters of a cap. Those of a total have numbered windows,
// which mean nothing under another window, so its shape is in their name, and one
// whose window changes begins anew; so does one whose unit changes, from uses to
// money or from one currency to another. A window of two times has one number: it is
// told by its start, and goes on when its end moves.
func counterName(c *Cap) string {
	w, id := &c.Window, c.ID
	if c.Def.Currency != "" {
		id += "#" + c.Def.Currency
	}
	switch {
	case c.Scope != definition.ScopeTotal:
	case c.cell > 0:
		return fmt.Sprintf("%s#rolling/%d/%d", id, w.Rolling, c.cell)
	case w.Unit == definition.UnitWeek:
		return fmt.Sprintf("%s#calendar/%d/%d/%s/%d", id, w.Unit, w.Every, w.Zone, w.WeekStart)
	case w.Unit != definition.UnitNone:
		return fmt.Sprintf("%s#calendar/%d/%d/%s", id, w.Unit, w.Every, w.Zone)
	case w.Until > 0:
		return fmt.Sprintf("%s#between/%d", id, w.From)
	}
	return id
}

// budgets checks that every offer that a budget in money binds says what it costs
// in the budget's currency.
func (c *compiler) budgets(out *Cap) {
	if out.money = out.Def.Currency != ""; !out.money {
		return
	}
	for i := range c.plan.Offers {
		o := &c.plan.Offers[i]
		switch cost := o.Def.Cost; {
		case !out.offers.has(int32(i)):
		case cost == nil:
			c.fault(&out.Def.Meta, "limit", "offer %s has no cost: a budget in money needs to know "+
				"what a use of it costs", o.ID)
		case cost.Currency != out.Def.Currency:
			c.fault(&out.Def.Meta, "limit", "offer %s costs %s, the budget is in %s", o.ID,
				cost.Currency, out.Def.Currency)
		}
	}
}

// cost is what a use of the offer costs a budget in money, in minor units.
func (o *Offer) cost(c *Cap) uint64 {
	if !c.money || o.Def.Cost == nil {
		return 0
	}
	return uint64(o.Def.Cost.Minor)
}

// CapCost is what a use of an offer costs a cap that is a budget in money; else 0.
func (p *Plan) CapCost(cap, offer int32) uint64 { return p.Offers[offer].cost(&p.Caps[cap]) }

// GreatestCost is what the dearest offer of a budget in money costs; 1 for a cap that
// counts uses.
func (p *Plan) GreatestCost(cap int32) int64 {
	c, most := &p.Caps[cap], int64(1)
	for i := range p.Offers {
		if c.money && c.offers.has(int32(i)) {
			most = max(most, int64(p.Offers[i].cost(c)))
		}
	}
	return most
}

// costIndex returns where a cost stands in Plan.costs: 0 for a cost of 0.
func (c *compiler) costIndex(cost uint64) uint16 {
	i, ok := c.costs[cost]
	switch n := len(c.plan.costs); {
	case ok:
	case n > math.MaxUint16:
		c.faults = append(c.faults, definition.Fault{
			Field: "cost", Message: "offers have more than 65,535 different costs",
		})
	default:
		i = uint16(n)
		c.costs[cost], c.plan.costs = i, append(c.plan.costs, cost)
	}
	return i
}

// gapKey is the counter of a total's minimum gap, used at a time.
func (p *Plan) gapKey(c *Cap, dim uint32, at storage.UnixMsec) storage.HeldKey {
	return storage.HeldKey{
		Key: storage.CounterKey{Cap: c.gapName, Dim: dim}, CountOn: uint16(c.CountOn), Limit: 1,
		Total: true, Coarse: storage.CoarseRolling,
		Window: uint32(secondUp(at) / c.gapCell),
	}
}

// totalWindow is the number of the window that a total counts a use in: of a
// calendar window the units since 1970 in the cap's zone, divided by `every`; of a
// rolling one its cell; 0 for others.
func (p *Plan) totalWindow(c *Cap, at storage.UnixMsec) uint32 {
	switch {
	case c.cell > 0:
		return uint32(secondUp(at) / c.cell)
	case c.Window.Unit == definition.UnitNone:
		return 0
	}
	sec := rule.FloorDiv(int64(at), 1000)
	return uint32(rule.CalendarIndex(&c.Window, sec, p.calendarZone(c)))
}

// TotalWindow is the number of the window that a use of a total's counter belongs
// to that happened at a time; false when the plan does not know the counter.
func (p *Plan) TotalWindow(name storage.Name, at storage.UnixMsec) (window uint32, ok bool) {
	if i, ok := p.gapNames[name]; ok {
		return uint32(secondUp(at) / p.Caps[i].gapCell), true
	}
	i, ok := p.counterNames[name]
	if !ok || p.Caps[i].Scope != definition.ScopeTotal {
		return 0, false
	}
	return p.totalWindow(&p.Caps[i], at), true
}

// TotalEarly tells whether a use of a total's counter that happened at a time lies before
// the total's window of two times: it is not counted.
func (p *Plan) TotalEarly(name storage.Name, at storage.UnixMsec) bool {
	i, ok := p.counterNames[name]
	if !ok {
		i, ok = p.gapNames[name]
	}
	return ok && p.Caps[i].early(clampSec(rule.FloorDiv(int64(at), 1000)))
}

// secondUp rounds a time up to seconds: a use in a rolling window errs to less
// contact.
func secondUp(at storage.UnixMsec) int64 { return rule.FloorDiv(int64(at)+999, 1000) }

// TotalRule says how the ledger judges a total's counter now: the number of uses
// that may lie in its windows from since on. An unknown name has a limit of 0, and so
// has one whose uses are not known: see TotalBlind. One whose window of two times has
// ended has none.
func (p *Plan) TotalRule(name storage.Name, now storage.UnixMsec) (limit int64, since uint32) {
	sec := rule.FloorDiv(int64(now), 1000)
	if i, ok := p.gapNames[name]; ok {
		c := &p.Caps[i]
		if c.over(clampSec(sec)) {
			return math.MaxInt64, 0
		}
		since = cellSince(sec, c.MinGap, c.gapCell)
		if _, blind := p.blindWindow(name, c, since); blind {
			return 0, since
		}
		return 1, since
	}
	i, ok := p.counterNames[name]
	if !ok {
		return 0, 0
	}
	c := &p.Caps[i]
	switch {
	case c.over(clampSec(sec)):
		return math.MaxInt64, 0
	case c.cell > 0:
		limit, since = int64(c.Limit), cellSince(sec, c.Window.Rolling, c.cell)
	default:
		limit, since = int64(c.Limit), p.totalWindow(c, now)
	}
	if _, blind := p.blindWindow(name, c, since); blind {
		limit = 0
	}
	return limit, since
}

// blindWindow is the last window of a total's counter in which a use may lie that
// nobody knows of: see Plan.Blind. blind: it is one of those from since on, or the
// counter's only one.
func (p *Plan) blindWindow(
	name storage.Name, c *Cap, since uint32,
) (window uint32, blind bool) {
	if p.Blind == 0 {
		return 0, false
	}
	at := storage.UnixMsec(after(p.Blind, int64(c.lifeMax))) * 1000
	if name == c.gapName {
		window = uint32(secondUp(at) / c.gapCell)
	} else {
		window = p.totalWindow(c, at)
	}
	return window, window >= since
}

// TotalBlind tells whether a total gives nothing now because what was used of it is
// not known, and until when: see Plan.Blind.
func (p *Plan) TotalBlind(
	name storage.Name, now storage.UnixMsec,
) (until storage.UnixSec, blind bool) {
	i, ok := p.gapNames[name]
	if !ok {
		if i, ok = p.counterNames[name]; !ok {
			return 0, false
		}
	}
	c := &p.Caps[i]
	if c.over(clampSec(rule.FloorDiv(int64(now), 1000))) {
		return 0, false
	}
	_, since := p.TotalRule(name, now)
	window, blind := p.blindWindow(name, c, since)
	if !blind {
		return 0, false
	}
	return p.TotalFree(name, now, window), true
}

// cellSince is the first cell of which a second lies in (now − window, now].
func cellSince(now, window, cell int64) uint32 {
	return uint32(max(now-window+1, 0) / cell)
}

// TotalFree returns when a full counter has room again if nothing else happens,
// frees being the window with which its limit-th latest use leaves: Never for
// lifetimes. The end of a calendar window is that of its zone.
func (p *Plan) TotalFree(name storage.Name, now storage.UnixMsec, frees uint32) storage.UnixSec {
	if i, ok := p.gapNames[name]; ok {
		c := &p.Caps[i]
		return cellFree(frees, c.MinGap, c.gapCell)
	}
	i, ok := p.counterNames[name]
	if !ok {
		return Never
	}
	c := &p.Caps[i]
	switch {
	case c.Limit == 0 && c.Window.Until == 0:
		return Never
	case c.cell > 0:
		return cellFree(frees, c.Window.Rolling, c.cell)
	}
	at := clampSec(rule.FloorDiv(int64(now), 1000))
	zones := [1]*time.Location{p.calendarZone(c)}
	end := capWindowEnd(c, at, zones[:])
	for end < Never && c.Window.Unit != definition.UnitNone &&
		p.totalWindow(c, storage.UnixMsec(end)*1000) <= frees {
		end = capWindowEnd(c, end, zones[:])
	}
	return end
}

// cellFree is the first second at which a cell lies before the window.
func cellFree(cell uint32, window, seconds int64) storage.UnixSec {
	return clampSec((int64(cell)+1)*seconds + window - 1)
}
