package engine

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"tact/engine/audience"
	"tact/engine/rule"
	"tact/storage"
)

const (
	// trackEvery is how often who is due is looked for: a membership leaves at most
	// so long after the second it ends in, or begins in, is over.
	trackEvery = 250 * time.Millisecond
	// sweepRows and dueRows bound the people judged under one lock: about 0.1 ms.
	sweepRows = 128
	dueRows   = 128
	// maxCatchUp bounds the flips of one person that are told one by one after the
	// calendar was late; what is left of them is told as one.
	maxCatchUp = 64
)

// tracking keeps the members of the tracked segments: it hears of every change
// of a person at the end of the lock section that made it, and follows the
// calendar. Who enters or leaves is an effect in the frame of what caused it, or
// of the calendar's own lock section.
type tracking struct {
	groups []groupTracking
	growth growth
	pause  sync.Mutex // held by a pass of the loop
	// apply is held while a snapshot is swapped, and while its segments are given to
	// the groups: no group gets an older set after a newer one.
	apply  sync.Mutex
	behind atomic.Bool
}

// groupTracking is what the engine keeps of one group. The group's lock guards
// it. It is derived: a start, or a reload of the group, makes it anew by judging
// everybody by what depends on time.
type groupTracking struct {
	set        *audience.Set // whose watch the group has
	generation uint32
	calendar   audience.Calendar
	sweep      sweep
	due        []audience.Due
	flips      flips
	effect     storage.Effect
	refused    bool // the group took no effect: set by appendMember
}

// sweep is a walk over everybody in a group: those below cursor are judged.
type sweep struct {
	active bool
	cursor storage.Ord
	ask    storage.WatchSet // of these segments
	fresh  storage.WatchSet // among them those whose members are not known yet
	// calendar: for people from cursor on the calendar knows nothing.
	calendar bool
}

// flips gathers who enters and leaves, by segment, until they are recorded.
type flips struct {
	in, out map[int][]storage.Ord
}

// follow is called with g locked, at the end of a lock section that changed what
// tracked segments look at.
func (e *Engine) follow(g *storage.Group, touched []storage.Touch) {
	t := &e.track.groups[g.GroupID()]
	if t.set == nil {
		return
	}
	t.check(g)
	now := e.clock.Now()
	for i := range touched {
		o, ask := touched[i].Ord, touched[i].Set
		unswept := t.sweep.active && o >= t.sweep.cursor
		if unswept && t.sweep.calendar || t.calendar.At(o) <= toSec(now) {
			ask.Join(&t.set.Timed)
		}
		if ask = t.known(ask, o); !ask.Empty() {
			e.judge(g, t, &question{o, ask, now, storage.CauseChange})
		}
	}
}

// known leaves out what the sweep has yet to judge of a person.
func (t *groupTracking) known(ask storage.WatchSet, o storage.Ord) storage.WatchSet {
	if t.sweep.active && o >= t.sweep.cursor {
		return ask.Without(&t.sweep.fresh)
	}
	return ask
}

// check begins anew when the group was reloaded: the calendar may know what did
// not come to pass.
func (t *groupTracking) check(g *storage.Group) {
	if n := g.Generation(); n != t.generation {
		t.generation = n
		t.begin(g, true)
	}
}

// question is who is judged by which segments, when and for what reason.
type question struct {
	ord   storage.Ord
	ask   storage.WatchSet
	at    storage.UnixMsec
	cause storage.MemberCause
}

// judge judges a person, records what the person entered and left, and returns
// when the person is due next by the segments asked.
func (e *Engine) judge(g *storage.Group, t *groupTracking, q *question) storage.UnixSec {
	var who rule.Who
	if !e.whoIs(g, t.set, q, &who) {
		return audience.Never
	}
	holds, next := t.set.Judge(&who, &q.ask)
	for i := range q.ask.Each {
		name := t.set.Segments[i].Name
		members := g.MemberBitmap(name)
		if members == nil || members.Contains(uint32(q.ord)) == holds.Has(i) {
			continue
		}
		t.effect.Member = storage.MemberEffect{
			Segment: name, Entered: holds.Has(i), Cause: q.cause, At: q.at,
			Ords: append(t.effect.Member.Ords[:0], q.ord),
		}
		if !e.appendMember(g, t) {
			next = min(next, toSec(q.at)+1)
		}
	}
	if left := t.set.Timed.Without(&q.ask); left.Empty() {
		t.calendar.Set(q.ord, next)
	} else {
		t.calendar.Lower(q.ord, next)
	}
	return next
}

// whoIs reads a person; false when there is nobody to be judged: a visitor, or a
// person who is gone.
func (e *Engine) whoIs(
	g *storage.Group, set *audience.Set, q *question, who *rule.Who,
) bool {
	o := q.ord
	row := g.Row(o)
	if row == nil || row.Flags&storage.RowVisitor != 0 {
		return false
	}
	home := e.snap.Load().Plan.Workspace.Zone
	*who = rule.Who{ID: g.ID(o), Profile: g.Profile(o), Zone: home, Home: home, Now: q.at}
	if zone := e.zone(row.Zone); zone != nil {
		who.Zone = zone
	}
	if set.ReadsEvents(&q.ask) {
		who.Tail, who.Activity = g.Tail(o), g.Activity(o)
	}
	return true
}

// appendMember appends t.effect. When the group takes nothing, everybody is
// judged again later: what is in memory may be ahead of what was recorded.
func (e *Engine) appendMember(g *storage.Group, t *groupTracking) bool {
	t.effect.Kind, t.effect.Ord = storage.EffectMember, storage.NoOrd
	t.effect.Time, t.effect.Config = e.clock.Now(), e.snap.Load().Revision
	if _, err := g.Append(&t.effect); err != nil {
		e.log.Debug("a change of membership is left for later", "group", g.GroupID(), "err", err)
		t.refused = true
		t.begin(g, true)
		t.sweep.ask, t.sweep.active = t.set.All, true
		return false
	}
	return true
}

// appendTrack records how far the tracking of a segment is.
func (e *Engine) appendTrack(g *storage.Group, t storage.TrackEffect) error {
	_, err := g.Append(&storage.Effect{
		Kind: storage.EffectTrack, Ord: storage.NoOrd, Time: e.clock.Now(),
		Config: e.snap.Load().Revision, Track: t,
	})
	return err
}

// retrack gives a group the segments to be tracked: those that are not any more
// end, new ones begin, and those whose rule changed are judged anew.
func (e *Engine) retrack(g *storage.Group, set *audience.Set) error {
	g.Lock()
	defer g.Unlock()
	t := &e.track.groups[g.GroupID()]
	wanted := make(map[storage.Name]bool, len(set.Segments))
	for i := range set.Segments {
		s := &set.Segments[i]
		wanted[s.Name] = true
		view, tracked := g.Tracked(s.Name)
		phase := storage.TrackBuilding
		switch {
		case !tracked:
		case view.Digest == s.Digest:
			continue
		case view.Phase != storage.TrackBuilding:
			phase = storage.TrackChanged
		}
		if err := e.appendTrack(g, storage.TrackEffect{
			Segment: s.Name, Phase: phase, Digest: s.Digest,
		}); err != nil {
			return err
		}
	}
	for _, n := range g.AppendTracked(nil) {
		if !wanted[n] {
			if err := e.appendTrack(g, storage.TrackEffect{
				Segment: n, Phase: storage.TrackEnded,
			}); err != nil {
				return err
			}
		}
	}
	// The numbers of the old set mean nothing in the new one.
	first := t.set == nil || t.sweep.active && t.sweep.calendar
	t.set, t.generation = set, g.Generation()
	if len(set.Segments) == 0 {
		g.SetWatch(nil)
		t.set, t.sweep = nil, sweep{}
		t.calendar.Reset()
		return nil
	}
	g.SetWatch(set.Watch)
	t.begin(g, first)
	return nil
}

// begin starts a sweep over what is not known: the members of segments that are
// not whole, and, with calendar, who is due when.
func (t *groupTracking) begin(g *storage.Group, calendar bool) {
	s := sweep{calendar: calendar}
	for i := range t.set.Segments {
		if v, ok := g.Tracked(t.set.Segments[i].Name); ok && v.Phase != storage.TrackWhole {
			s.fresh.Add(i)
		}
	}
	s.ask = s.fresh
	if calendar {
		t.calendar.Reset()
		s.ask.Join(&t.set.Timed)
	}
	s.active = !s.ask.Empty()
	t.sweep = s
}

// sweepStep judges the next people of a group; false: there is nothing to do, or
// the group takes no effects.
func (e *Engine) sweepStep(g *storage.Group) bool {
	g.Lock()
	defer g.Unlock()
	t := &e.track.groups[g.GroupID()]
	if t.set == nil {
		return false
	}
	t.check(g)
	if !t.sweep.active {
		return false
	}
	now := e.clock.Now()
	until := min(t.sweep.cursor+sweepRows, storage.Ord(g.Len()))
	t.flips.reset()
	for o := t.sweep.cursor; o < until; o++ {
		e.sweepOne(g, t, o, now)
	}
	if !e.recordFlips(g, t, now) {
		return false // judged again from the beginning, when the group takes effects
	}
	t.sweep.cursor = until
	if int(until) == g.Len() {
		return e.sweepEnds(g, t)
	}
	return true
}

func (e *Engine) sweepOne(
	g *storage.Group, t *groupTracking, o storage.Ord, now storage.UnixMsec,
) {
	var who rule.Who
	q := question{ord: o, ask: t.sweep.ask, at: now}
	if !e.whoIs(g, t.set, &q, &who) {
		return
	}
	holds, next := t.set.Judge(&who, &q.ask)
	if t.sweep.calendar {
		t.calendar.Set(o, next)
	} else {
		t.calendar.Lower(o, next)
	}
	for i := range t.sweep.ask.Each {
		members := g.MemberBitmap(t.set.Segments[i].Name)
		if members != nil && members.Contains(uint32(o)) != holds.Has(i) {
			t.flips.add(i, o, holds.Has(i))
		}
	}
}

// recordFlips appends what a step of the sweep found, a segment at a time.
func (e *Engine) recordFlips(g *storage.Group, t *groupTracking, now storage.UnixMsec) bool {
	for i := range t.set.Segments {
		s := &t.set.Segments[i]
		view, _ := g.Tracked(s.Name)
		cause := storage.CauseTime
		switch view.Phase {
		case storage.TrackBuilding:
			cause = storage.CauseBackfill
		case storage.TrackChanged:
			cause = storage.CausePublish
		}
		for _, part := range [...]struct {
			ords    []storage.Ord
			entered bool
		}{{t.flips.out[i], false}, {t.flips.in[i], true}} {
			if len(part.ords) == 0 {
				continue
			}
			t.effect.Member = storage.MemberEffect{
				Segment: s.Name, Entered: part.entered, Cause: cause, At: now, Ords: part.ords,
			}
			ok := e.appendMember(g, t)
			t.effect.Member.Ords = nil
			if !ok {
				return false
			}
		}
	}
	return true
}

// sweepEnds records that the members are whole; false: the group does not take it.
func (e *Engine) sweepEnds(g *storage.Group, t *groupTracking) bool {
	for i := range t.sweep.fresh.Each {
		s := &t.set.Segments[i]
		err := e.appendTrack(g, storage.TrackEffect{
			Segment: s.Name, Phase: storage.TrackWhole, Digest: s.Digest,
		})
		if err != nil {
			e.log.Debug("a back-fill is left for later", "segment", s.ID, "err", err)
			return false // the next pass looks at nobody and comes here again
		}
	}
	t.sweep = sweep{}
	return true
}

func (f *flips) reset() {
	if f.in == nil {
		f.in, f.out = map[int][]storage.Ord{}, map[int][]storage.Ord{}
	}
	for _, m := range [...]map[int][]storage.Ord{f.in, f.out} {
		for i := range m {
			m[i] = m[i][:0]
		}
	}
}

func (f *flips) add(i int, o storage.Ord, entered bool) {
	if entered {
		f.in[i] = append(f.in[i], o)
		return
	}
	f.out[i] = append(f.out[i], o)
}

// dueStep judges people whose time has come; false: nobody's has, or the group
// takes no effects: then a sweep judges everybody later.
func (e *Engine) dueStep(g *storage.Group) bool {
	g.Lock()
	defer g.Unlock()
	t := &e.track.groups[g.GroupID()]
	if t.set == nil {
		return false
	}
	t.check(g)
	now := e.clock.Now()
	t.due = t.calendar.Due(toSec(now), dueRows, t.due[:0])
	t.refused = false
	for _, d := range t.due {
		if e.judgeDue(g, t, d, now); t.refused {
			return false
		}
	}
	return len(t.due) > 0
}

// judgeDue judges a person at the end of every second in which time may have
// moved the person, up to now.
func (e *Engine) judgeDue(
	g *storage.Group, t *groupTracking, d audience.Due, now storage.UnixMsec,
) {
	q := question{d.Ord, t.known(t.set.Timed, d.Ord), now, storage.CauseTime}
	for n := range maxCatchUp {
		q.at = min(storage.UnixMsec(d.At)*1000+999, now)
		if n == maxCatchUp-1 {
			q.at = now
		}
		d.At = e.judge(g, t, &q)
		if d.At > toSec(now) || t.refused {
			return
		}
		if q.at == now { // later in this second
			t.calendar.Set(d.Ord, toSec(now)+1)
			return
		}
	}
}

// trackLoop follows the calendar and sweeps, until ctx ends.
func (e *Engine) trackLoop(ctx context.Context) {
	every(ctx, trackEvery, func() { e.trackPass(ctx) })
}

// trackPass judges who is due, and goes on with the sweeps until they end, with
// a look at who is due in between.
func (e *Engine) trackPass(ctx context.Context) {
	e.track.pause.Lock()
	defer e.track.pause.Unlock()
	if e.track.behind.Load() {
		e.retrackAll()
	}
	for busy := true; busy && ctx.Err() == nil; {
		busy = false
		for i := range e.track.groups {
			g := e.store.Group(storage.GroupID(i))
			for e.dueStep(g) && ctx.Err() == nil {
				runtime.Gosched()
			}
			for range 16 {
				if ctx.Err() != nil || !e.sweepStep(g) {
					break
				}
				busy = true
				runtime.Gosched()
			}
		}
	}
}

// retrackAll gives every group the segments of the snapshot in force.
func (e *Engine) retrackAll() {
	e.track.apply.Lock()
	defer e.track.apply.Unlock()
	e.retrackGroups()
}

// swapTracked puts a snapshot in force and gives every group its segments.
func (e *Engine) swapTracked(snap *Snapshot) {
	defer e.learnTraffic() // the new plan is told of it
	e.track.apply.Lock()
	defer e.track.apply.Unlock()
	snap.serial = e.serials.Add(1)
	e.snap.Store(snap)
	e.retrackGroups()
}

// retrackGroups is retrackAll with track.apply held. What does not succeed is
// tried again by the loop.
func (e *Engine) retrackGroups() {
	e.track.behind.Store(false)
	set := e.snap.Load().audience
	for i := range e.track.groups {
		if err := e.retrack(e.store.Group(storage.GroupID(i)), set); err != nil {
			e.track.behind.Store(true)
			e.log.Warn("segments are not tracked yet", "group", i, "err", err)
		}
	}
}
