package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// PeopleQuery says who is asked for: those for whom one of Rule and Segment
// holds; without both, everybody.
//
// A visitor (a row that a decision made, of a person of whom no user line and no
// event has come) is in no answer: nothing is known of it that an audience could
// be built on, and it is gone a day later. People who were forgotten are in no
// answer.
type PeopleQuery struct {
	Rule    *definition.Node // a condition tree as documents write it
	Segment string           // a published segment, static or dynamic
	Now     storage.UnixMsec // when the rule is judged; 0 = server time
	// Context is the request that conditions on the request are judged in: for all
	// people the same. A key that is absent is missing, so that such a condition is
	// false. Names and values are checked as those of a decision are.
	Context []NamedValue
}

// People are those for whom something held at one time.
type People struct {
	At       storage.UnixMsec // when it was judged
	Revision uint32           // of the definitions it was judged by
	Groups   []GroupPeople    // every group, in rising order
}

// GroupPeople are the people of one group, by ordinal.
type GroupPeople struct {
	Group    storage.GroupID
	Position uint64 // the last frame of the group that was judged, whole
	// ByDay is of how many people, in the answer or not, a window that reaches
	// behind their tail of events was answered by calendar day.
	ByDay uint64
	Ords  *roaring.Bitmap // shared: it must not be changed

	counted uint64 // of a question for the count alone, where Ords is nil
}

// PeoplePos is a place in the order of all people: by group, then by ordinal.
// The order is stable: neither ever changes for a person.
type PeoplePos struct {
	Group storage.GroupID
	Ord   storage.Ord
}

// Next returns the place behind p: where to go on after the person at p.
func (p PeoplePos) Next() PeoplePos {
	if p.Ord == storage.NoOrd {
		return PeoplePos{Group: p.Group + 1}
	}
	return PeoplePos{p.Group, p.Ord + 1}
}

// Count returns how many people there are. Cost: a few ns for 65,536 ordinals.
func (p *People) Count() uint64 {
	var n uint64
	for i := range p.Groups {
		n += p.Groups[i].Ords.GetCardinality()
	}
	return n
}

// ByDay returns of how many people, in the answer or not, a window was answered
// by calendar day.
func (p *People) ByDay() uint64 {
	var n uint64
	for i := range p.Groups {
		n += p.Groups[i].ByDay
	}
	return n
}

// People returns for whom a rule or a segment holds: all judged by one revision
// and at one time, each group exactly as it was at its Position, while changes
// go on. A fault of the query is a *Problem that names the field; of a rule it
// begins with "rule". The error of ctx is returned when it ends before.
func (e *Engine) People(ctx context.Context, q *PeopleQuery) (*People, error) {
	return e.askPeople(ctx, q, false)
}

// askPeople is People; with countOnly the groups need no Ords.
func (e *Engine) askPeople(ctx context.Context, q *PeopleQuery, countOnly bool) (*People, error) {
	snap := e.snap.Load()
	ask, err := snap.peopleQuery(q)
	if err != nil {
		return nil, err
	}
	if ask.at == 0 {
		ask.at, ask.current = e.clock.Now(), true
	}
	ask.countOnly = countOnly
	return e.peopleOf(ctx, snap, ask)
}

// PeopleCount is how many people something held for at one time.
type PeopleCount struct {
	At       storage.UnixMsec // when it was judged
	Revision uint32           // of the definitions it was judged by
	Users    uint64
	ByDay    uint64 // as of GroupPeople, of all groups
}

// CountPeople returns how many people People finds, judged in the same way, with the
// same errors. Where nobody has to be asked, no set of the people is made. Cost: two
// passes over a bit a person for each tag, segment and value that the rule names, and
// for each bit of the numbers it compares; a condition on events is judged for those who
// changed since it was asked last.
func (e *Engine) CountPeople(ctx context.Context, q *PeopleQuery) (*PeopleCount, error) {
	p, err := e.askPeople(ctx, q, true)
	if err != nil {
		return nil, err
	}
	out := &PeopleCount{At: p.At, Revision: p.Revision, ByDay: p.ByDay()}
	for i := range p.Groups {
		if of := &p.Groups[i]; of.Ords != nil {
			out.Users += of.Ords.GetCardinality()
		} else {
			out.Users += of.counted
		}
	}
	return out, nil
}

// peopleAsk is a query made ready.
type peopleAsk struct {
	tree      *rule.Tree
	context   []rule.ContextValue
	at        storage.UnixMsec
	countOnly bool // groups need no Ords
	current   bool // at is a reading of the clock
}

// peopleQuery reads a query under a snapshot.
func (s *Snapshot) peopleQuery(q *PeopleQuery) (*peopleAsk, error) {
	if q.Now < 0 {
		return nil, invalid("bad_time", "now", "a time before 1970")
	}
	node, field := q.Rule, "rule"
	if q.Segment != "" {
		if q.Rule != nil {
			return nil, invalid("two_questions", "segment", "give a rule or a segment, not both")
		}
		if problem := s.publishedSegment(q.Segment); problem != nil {
			return nil, problem
		}
		node, field = &definition.Node{Kind: definition.NodeMap, Keys: []definition.Key{
			{Name: "segment", Value: &definition.Node{Kind: definition.NodeString, Text: q.Segment}},
		}}, ""
	}
	tree, faults := rule.Parse(node, s.Plan.Names, field)
	if len(faults) > 0 {
		return nil, ruleProblem(faults)
	}
	ask := &peopleAsk{tree: tree, at: q.Now}
	given, slot, err := s.slotContext(q.Context)
	if err != nil {
		return nil, err
	}
	w := decideWork{snap: s}
	if err := w.prepareContext(&DecideRequest{Context: given}); err != nil {
		return nil, err
	}
	ask.context = append(w.context, slot...)
	return ask, nil
}

// publishedSegment says whether a segment can be asked for.
func (s *Snapshot) publishedSegment(id string) error {
	names := s.Plan.Names
	_, static := names.Segments[id]
	if _, dynamic := names.Rules[id]; static || dynamic {
		return nil
	}
	among := make([]string, 0, len(names.Segments)+len(names.Rules))
	for known := range names.Segments {
		among = append(among, known)
	}
	for known := range names.Rules {
		among = append(among, known)
	}
	return &Problem{
		Class: ProblemMissing, Code: "unknown_segment", Field: "segment",
		Detail: fmt.Sprintf("no segment %q is published%s", id, suggestion(id, among)),
	}
}

// ruleProblem tells the first fault of a rule, and how many more there are.
func ruleProblem(faults []definition.Fault) *Problem {
	f := &faults[0]
	p := &Problem{Class: ProblemInvalid, Code: "bad_rule", Field: f.Field, Detail: f.Message}
	if f.Suggest != "" {
		p.Detail += fmt.Sprintf("; did you mean %q?", f.Suggest)
	}
	if more := len(faults) - 1; more > 0 {
		p.Detail += fmt.Sprintf(" (and %d more)", more)
	}
	return p
}

// peopleOf judges everybody: half of the processors take group after group.
func (e *Engine) peopleOf(ctx context.Context, snap *Snapshot, ask *peopleAsk) (*People, error) {
	p := &People{
		At: ask.at, Revision: snap.Revision, Groups: make([]GroupPeople, e.store.Groups()),
	}
	c := census{
		e: e, at: ask.at, home: snap.Plan.Workspace.Zone, holds: ask.tree.Population(ask.context),
		countOnly: ask.countOnly,
	}
	c.view = c.holds.ViewAsk(verdictScope(snap, ask))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int32
	var workers sync.WaitGroup
	for range min(len(p.Groups), max(1, runtime.GOMAXPROCS(0)/2)) {
		workers.Go(func() {
			pool := &storage.WordPool{}
			for i := int(next.Add(1)) - 1; i < len(p.Groups); i = int(next.Add(1)) - 1 {
				var err error
				g := e.store.Group(storage.GroupID(i))
				if p.Groups[i], err = c.group(ctx, g, pool); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return p, nil
}

// census is one question to everybody.
type census struct {
	e     *Engine
	at    storage.UnixMsec
	home  *time.Location
	holds *rule.Population
	view  *storage.ViewAsk

	countOnly bool
}

const (
	// censusBlock is how many people are judged under one lock: at about 0.3 µs
	// each some tens of microseconds, in which no decision of the group is made.
	censusBlock = 128
	// censusWeight is the greatest weight of a rule with whole blocks; they are the
	// shorter the more a rule weighs, down to one person.
	censusWeight = 64
	// censusTries is how often a group is begun anew whose view was lost.
	censusTries = 3
)

// group judges one group as it is at one position. What sets leave open is judged
// person by person, in blocks, while changes go on. When too much changes to be
// remembered meanwhile, it begins anew, and at last judges the whole group in one
// go with the group locked.
func (c *census) group(
	ctx context.Context, g *storage.Group, pool *storage.WordPool,
) (GroupPeople, error) {
	for range censusTries {
		out, err := c.look(ctx, g, pool)
		if !errors.Is(err, storage.ErrViewLost) {
			return out, err
		}
		c.e.log.Debug("too much changed while a group was judged", "group", g.GroupID())
	}
	return c.atOnce(g), nil
}

// verdictScope tells what the outcomes of conditions on events are valid for beside the
// condition and the person: the definitions. Of a time that is not that of the clock
// they are neither asked for nor kept: then it is empty.
func verdictScope(snap *Snapshot, ask *peopleAsk) string {
	if !ask.current || snap.serial == 0 {
		return ""
	}
	return strconv.FormatUint(snap.serial, 10)
}

func (c *census) look(
	ctx context.Context, g *storage.Group, pool *storage.WordPool,
) (GroupPeople, error) {
	out := GroupPeople{Group: g.GroupID()}
	if err := g.BuildIndexes(ctx, c.view); err != nil {
		return out, err
	}
	g.SettleVerdicts(c.view, c.at)
	v := g.OpenView(c.view, c.at)
	defer v.Close()
	out.Position = v.Position
	if c.countOnly {
		if n, open, ok := c.holds.CountBounds(v, c.at, pool); ok {
			out.counted = n
			err := c.askOpen(ctx, v, open, &out)
			return out, err
		}
	}
	sure, open := c.holds.Bounds(v, c.at, pool)
	out.Ords = sure
	sure.SetCopyOnWrite(false) // it is read by many from here on
	err := c.askOpen(ctx, v, open, &out)
	return out, err
}

// askOpen judges people one by one, and adds to out those who pass: to the set, or where
// there is none to the count.
func (c *census) askOpen(
	ctx context.Context, v *storage.View, open *roaring.Bitmap, out *GroupPeople,
) error {
	if open.IsEmpty() {
		return nil
	}
	v.Narrow(open)
	judge := c.holds.Judge()
	passed := make([]uint32, 0, censusBlock)
	var whole [censusBlock]uint32
	block := whole[:c.block()]
	for it := open.ManyIterator(); ; runtime.Gosched() {
		n := it.NextMany(block)
		if n == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		passed = passed[:0]
		err := v.Read(block[:n], func(o storage.Ord, p *storage.PersonView) {
			if judge.Holds(c.who(p)) {
				passed = append(passed, uint32(o))
			}
			if judge.ByDay() {
				out.ByDay++ // and is asked again each time, so that it is told each time
				return
			}
			for _, t := range judge.Told() {
				v.Learn(t.Condition, o, t.Holds, t.Until)
			}
		})
		if err != nil {
			return err
		}
		if out.Ords == nil {
			out.counted += uint64(len(passed))
		} else {
			out.Ords.AddMany(passed)
		}
	}
}

// block is how many people are judged under one lock, 1 to censusBlock.
func (c *census) block() int {
	return min(censusBlock, max(1, censusBlock*censusWeight/max(1, c.holds.Weight())))
}

func (c *census) who(p *storage.PersonView) *rule.Who {
	who := rule.Who{
		ID: p.ID, Profile: p.Profile, Zone: c.home, Home: c.home, Now: c.at,
		Tail: p.Tail, Activity: p.Activity,
	}
	if zone := c.e.zone(p.Zone); zone != nil {
		who.Zone = zone
	}
	return &who
}

// atOnce judges a whole group under one lock.
func (c *census) atOnce(g *storage.Group) GroupPeople {
	out := GroupPeople{Group: g.GroupID(), Ords: roaring.New()}
	judge := c.holds.Judge()
	g.Lock()
	defer g.Unlock()
	out.Position = g.Seal()
	for o := range storage.Ord(g.Len()) {
		row := g.Row(o)
		if row == nil || row.Flags&storage.RowVisitor != 0 {
			continue
		}
		p := storage.PersonView{ID: g.ID(o), Profile: g.Profile(o), Zone: row.Zone}
		if c.holds.ReadsEvents() {
			p.Tail, p.Activity = g.Tail(o), g.Activity(o)
		}
		if judge.Holds(c.who(&p)) {
			out.Ords.Add(uint32(o))
		}
		if judge.ByDay() {
			out.ByDay++
		}
	}
	return out
}

// peopleBlock is how many ids are read under one lock.
const peopleBlock = 512

// EachPerson calls f for the people of p from a place on, in the order of places,
// with their canonical ids, until f returns false. The zero place is before
// everybody. id is valid during the call only. Who was forgotten since p was made
// is passed over. f runs without a lock and may take its time.
func (e *Engine) EachPerson(
	p *People, from PeoplePos, f func(pos PeoplePos, id []byte) bool,
) error {
	var ords [peopleBlock]uint32
	var ends [peopleBlock]int
	var buf []byte
	for i := range p.Groups {
		of := &p.Groups[i]
		if of.Group < from.Group {
			continue
		}
		if int(of.Group) >= e.store.Groups() {
			return invalid("bad_position", "group", "there is no such group")
		}
		it := of.Ords.Iterator()
		if of.Group == from.Group {
			it.AdvanceIfNeeded(uint32(from.Ord))
		}
		for it.HasNext() {
			n := 0
			for ; n < len(ords) && it.HasNext(); n++ {
				ords[n] = it.Next()
			}
			buf = readIDs(e.store.Group(of.Group), ords[:n], buf[:0], ends[:])
			start := 0
			for k, o := range ords[:n] {
				id := buf[start:ends[k]:ends[k]]
				start = ends[k]
				if len(id) > 0 && !f(PeoplePos{of.Group, storage.Ord(o)}, id) {
					return nil
				}
			}
		}
	}
	return nil
}

// readIDs copies canonical ids into buf; ends[k] is where the k-th ends. Of who
// is gone there is none.
func readIDs(g *storage.Group, ords []uint32, buf []byte, ends []int) []byte {
	g.Lock()
	defer g.Unlock()
	for k, o := range ords {
		buf = append(buf, g.ID(storage.Ord(o))...)
		ends[k] = len(buf)
	}
	return buf
}
