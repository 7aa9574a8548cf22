package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/engine/definition"
	"tact/storage"
)

const (
	maxOverlap  = 20 // segments of one matrix
	maxSegments = 1000
)

// SegmentView is one published segment.
type SegmentView struct {
	ID      string
	Static  bool
	Tracked bool
	// Counted: Count is known without judging anybody: of a static or a tracked
	// segment. Of a tracked one it is whole when Judged equals People.
	Counted bool
	Count   uint64
	Judged  uint64 // tracked: people that its rule has judged
	People  uint64 // tracked: people and visitors of the store
	Doc     *definition.Segment
}

// Segments lists the published segments behind an id, in the order of their ids,
// at most limit (1..1000; 0 = 1000). more: there are others behind them.
// Cost: one lock a group, and a look at each segment's bitmap.
func (e *Engine) Segments(after string, limit int) (list []SegmentView, more bool) {
	if limit <= 0 || limit > maxSegments {
		limit = maxSegments
	}
	snap := e.snap.Load()
	docs := slices.SortedFunc(slices.Values(snap.Set.Segments), func(a, b *definition.Segment) int {
		return strings.Compare(a.ID, b.ID)
	})
	from, _ := slices.BinarySearchFunc(docs, after, func(d *definition.Segment, id string) int {
		return strings.Compare(d.ID, id)
	})
	for from < len(docs) && docs[from].ID <= after {
		from++
	}
	docs = docs[from:]
	if len(docs) > limit {
		docs, more = docs[:limit], true
	}
	return e.viewSegments(snap, docs), more
}

// Segment returns one published segment.
func (e *Engine) Segment(id string) (*SegmentView, error) {
	snap := e.snap.Load()
	if err := snap.publishedSegment(id); err != nil {
		return nil, err
	}
	for _, d := range snap.Set.Segments {
		if d.ID == id {
			return &e.viewSegments(snap, []*definition.Segment{d})[0], nil
		}
	}
	return nil, snap.publishedSegment(id)
}

func (e *Engine) viewSegments(snap *Snapshot, docs []*definition.Segment) []SegmentView {
	list := make([]SegmentView, len(docs))
	names := make([]storage.Name, len(docs))
	for i, d := range docs {
		list[i] = SegmentView{
			ID: d.ID, Static: d.Static, Tracked: d.Track, Counted: d.Static || d.Track, Doc: d,
		}
		names[i], _ = e.store.Lookup(storage.DictSegment, d.ID)
	}
	for k := range e.track.groups {
		g := e.store.Group(storage.GroupID(k))
		g.Lock()
		for i := range list {
			v := &list[i]
			if v.Tracked {
				e.addTracked(g, names[i], v)
			}
			if v.Static {
				v.Count += uint64(g.SegmentSize(names[i]))
			}
		}
		g.Unlock()
	}
	return list
}

// addTracked adds what one group knows of a tracked segment. The group is locked.
func (e *Engine) addTracked(g *storage.Group, name storage.Name, v *SegmentView) {
	view, ok := g.Tracked(name)
	people := uint64(g.Len())
	v.People += people
	if !v.Static {
		v.Count += uint64(view.Members)
	}
	switch s := &e.track.groups[g.GroupID()].sweep; {
	case ok && view.Phase == storage.TrackWhole:
		v.Judged += people
	case s.active:
		v.Judged += uint64(s.cursor)
	}
}

// Overlap is how many people pairs of segments have in common.
type Overlap struct {
	At       storage.UnixMsec
	Revision uint32
	Segments []string
	Counts   [][]uint64 // Counts[i][j]: in both i and j; Counts[i][i]: in i
	ByDay    []uint64   // of how many people a window was answered by day; nil: of none
}

// SegmentOverlap judges up to 20 segments at one time and counts who is in two.
// Cost: that of the segments, and 210 intersections a group.
func (e *Engine) SegmentOverlap(ctx context.Context, ids []string, at storage.UnixMsec) (
	*Overlap, error,
) {
	if len(ids) == 0 || len(ids) > maxOverlap {
		return nil, invalid("out_of_range", "segments",
			fmt.Sprintf("want 1 to %d segments", maxOverlap))
	}
	people, err := e.peopleOfSegments(ctx, ids, at)
	if err != nil {
		return nil, err
	}
	out := &Overlap{
		At: people[0].At, Revision: people[0].Revision, Segments: ids,
		Counts: make([][]uint64, len(ids)),
	}
	byDay := make([]uint64, len(ids))
	for i := range ids {
		if byDay[i] = people[i].ByDay(); byDay[i] > 0 {
			out.ByDay = byDay
		}
		out.Counts[i] = make([]uint64, len(ids))
		for j := range i + 1 {
			var n uint64
			for k := range people[i].Groups {
				n += people[i].Groups[k].Ords.AndCardinality(people[j].Groups[k].Ords)
			}
			out.Counts[i][j], out.Counts[j][i] = n, n
		}
	}
	return out, nil
}

// peopleOfSegments judges segments by one revision and at one time.
func (e *Engine) peopleOfSegments(ctx context.Context, ids []string, at storage.UnixMsec) (
	[]*People, error,
) {
	if at == 0 {
		at = e.clock.Now()
	}
	list := make([]*People, len(ids))
	for i, id := range ids {
		p, err := e.People(ctx, &PeopleQuery{Segment: id, Now: at})
		if err != nil {
			if problem, ok := err.(*Problem); ok && problem.Field == "segment" {
				problem.Field = fmt.Sprintf("segments[%d]", i)
			}
			return nil, err
		}
		if p.Revision != list[0].revisionOr(p.Revision) {
			return nil, &Problem{
				Class: ProblemBusy, Code: "republished",
				Detail: "definitions were published meanwhile: ask again",
			}
		}
		list[i] = p
	}
	return list, nil
}

func (p *People) revisionOr(other uint32) uint32 {
	if p == nil {
		return other
	}
	return p.Revision
}

// SegmentSource says who is put into a static segment: one of the five.
type SegmentSource struct {
	Rule         *definition.Node
	Segment      string   // static or dynamic
	Union        []string // in some of them
	Intersection []string // in all of them
	Difference   []string // in the first and in none of the others
	At           storage.UnixMsec
}

// SourcePeople judges a source at one time and by one revision; each group of a
// segment is as it was when it was that segment's turn.
func (e *Engine) SourcePeople(ctx context.Context, q *SegmentSource) (*People, error) {
	given := 0
	for _, there := range [...]bool{
		q.Rule != nil, q.Segment != "", q.Union != nil, q.Intersection != nil, q.Difference != nil,
	} {
		if there {
			given++
		}
	}
	if given != 1 {
		return nil, invalid("two_questions", "segment",
			"give one of rule, segment, union, intersection, difference")
	}
	if q.Rule != nil || q.Segment != "" {
		return e.People(ctx, &PeopleQuery{Rule: q.Rule, Segment: q.Segment, Now: q.At})
	}
	field, ids := "union", q.Union
	combine := (*roaring.Bitmap).Or
	switch {
	case q.Intersection != nil:
		field, ids, combine = "intersection", q.Intersection, (*roaring.Bitmap).And
	case q.Difference != nil:
		field, ids, combine = "difference", q.Difference, (*roaring.Bitmap).AndNot
	}
	if len(ids) == 0 || len(ids) > maxOverlap {
		return nil, invalid("out_of_range", field, fmt.Sprintf("want 1 to %d segments", maxOverlap))
	}
	people, err := e.peopleOfSegments(ctx, ids, q.At)
	if err != nil {
		if problem, ok := err.(*Problem); ok {
			problem.Field = strings.Replace(problem.Field, "segments", field, 1)
		}
		return nil, err
	}
	out := *people[0]
	out.Groups = slices.Clone(out.Groups)
	for k := range out.Groups {
		out.Groups[k].Ords = out.Groups[k].Ords.Clone()
		for _, p := range people[1:] {
			combine(out.Groups[k].Ords, p.Groups[k].Ords)
			out.Groups[k].ByDay += p.Groups[k].ByDay
		}
	}
	return &out, nil
}
