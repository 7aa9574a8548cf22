package rule

import (
	"cmp"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/storage"
)

// setPart is one place of a plan over sets.
type setPart struct {
	kind    nodeKind
	subs    []*setPart
	test    *test // of a leaf
	indexes []int // that a leaf reads, in the population's ask
	leaf    int   // its number among the leaves
	verdict int   // whose outcomes are kept: its number in the ask + 1
}

// bounds are two sets: the condition holds for everybody in sure and for nobody
// outside of perhaps. sure is part of perhaps; one and the same set says that
// nothing is open.
type bounds struct{ sure, perhaps *roaring.Bitmap }

func (b bounds) exact() bool { return b.sure == b.perhaps }

// Bounds says for whom the tree holds, of everybody in the view, as far as sets
// can tell: for all of sure, for some of open, and for nobody else. Both sets
// belong to the caller.
//
// Of parts that must all hold, the one with the fewest people comes first, and
// the next ones look only at who is left; of parts of which one is enough, the
// next ones look only at who is not held yet.
//
// pool lends memory, and may serve one view after the other; nil: memory of its own.
//
// Cost: at most one operation on sets a condition (one a value or a bit of a
// number, see storage.IndexView), each over what is left.
func (p *Population) Bounds(
	v *storage.View, now storage.UnixMsec, pool *storage.WordPool,
) (sure, open *roaring.Bitmap) {
	return p.run(v, now, pool).bounds()
}

func (p *Population) run(
	v *storage.View, now storage.UnixMsec, pool *storage.WordPool,
) *setRun {
	if pool == nil {
		pool = &storage.WordPool{}
	}
	return &setRun{
		population: p, view: v, now: now, answers: make([]answer, p.leaves),
		words: pool, wordsFrom: uint64(v.Words()),
	}
}

func (r *setRun) bounds() (sure, open *roaring.Bitmap) {
	b := r.filter(r.population.plan, pool{r.view.Everyone, false}, false)
	if b.exact() {
		return b.sure, roaring.New()
	}
	b.perhaps.AndNot(b.sure)
	return b.sure, b.perhaps
}

// setRun is one call of Bounds or Count.
type setRun struct {
	population *Population
	view       *storage.View
	now        storage.UnixMsec
	answers    []answer // by leaf
	words      *storage.WordPool
	wordsFrom  uint64 // of so many people numbers are compared over words
	doubt      bool   // while counting: some condition is known of a part of the people
	upper      bool   // for whom the tree holds perhaps is counted
}

// pool is the people still asked about. An own one may be changed.
type pool struct {
	set *roaring.Bitmap
	own bool
}

func (p pool) and(m *roaring.Bitmap) *roaring.Bitmap {
	if !p.own {
		return roaring.And(p.set, m)
	}
	p.set.And(m)
	return p.set
}

func (p pool) andNot(m *roaring.Bitmap) *roaring.Bitmap {
	if !p.own {
		return roaring.AndNot(p.set, m)
	}
	p.set.AndNot(m)
	return p.set
}

// filter returns for whom of the pool a part holds, or does not hold. It uses
// an own pool up; what it returns belongs to the caller.
func (r *setRun) filter(p *setPart, from pool, negated bool) bounds {
	switch {
	case p.kind == nodeNot:
		return r.filter(p.subs[0], from, !negated)
	case p.kind == nodeLeaf:
		return r.leaf(p, from, negated)
	case (p.kind == nodeAll) != negated:
		return r.all(p, from, negated)
	}
	return r.any(p, from, negated)
}

// all filters by one part after the other, those with the fewest people first.
func (r *setRun) all(p *setPart, from pool, negated bool) bounds {
	if len(p.subs) == 0 {
		set := from.set
		if !from.own {
			set = set.Clone()
		}
		return bounds{set, set}
	}
	b := bounds{from.set, from.set}
	for _, sub := range r.ordered(p.subs, negated) {
		if from.own && b.perhaps.IsEmpty() {
			break
		}
		next := r.filter(sub, pool{b.perhaps, from.own}, negated)
		from.own = true
		if b.exact() {
			b = next
			continue
		}
		b.sure.And(next.sure)
		b.perhaps = next.perhaps
	}
	return b
}

// any joins what passes one of the parts. Sets that stand for themselves are joined
// first, at once; each other part looks only at who is not sure yet.
func (r *setRun) any(p *setPart, from pool, negated bool) bounds {
	sets, subs := r.known(p.subs, negated)
	sure := roaring.New()
	if len(sets) > 0 {
		sure = roaring.FastOr(sets...)
		sure.And(from.set)
		if len(subs) > 0 {
			from = pool{from.andNot(sure), true}
		}
	}
	b := bounds{sure, sure}
	subs = r.ordered(subs, negated)
	slices.Reverse(subs)
	for i, sub := range subs {
		if from.set.IsEmpty() {
			break
		}
		last := i == len(subs)-1
		next := r.filter(sub, pool{from.set, from.own && last}, negated)
		if !next.exact() && b.exact() {
			b.perhaps = b.sure.Clone()
		}
		if !last {
			from = pool{from.andNot(next.sure), true}
		}
		b.sure.Or(next.sure)
		if !b.exact() {
			b.perhaps.Or(next.perhaps)
		}
	}
	return b
}

// known splits parts into those that hold for exactly the people of a set at hand,
// when there are two at least, and the others.
func (r *setRun) known(subs []*setPart, negated bool) (sets []*roaring.Bitmap, others []*setPart) {
	if negated {
		return nil, subs
	}
	for _, sub := range subs {
		if sub.kind == nodeLeaf {
			if a := r.answer(sub); a.index == nil && a.exact() {
				sets = append(sets, a.sure)
				continue
			}
		}
		others = append(others, sub)
	}
	if len(sets) < 2 {
		return nil, subs
	}
	return sets, others
}

// ordered returns parts by how many people may pass, fewest first.
func (r *setRun) ordered(subs []*setPart, negated bool) []*setPart {
	if len(subs) < 2 {
		return slices.Clone(subs)
	}
	type sized struct {
		part *setPart
		size uint64
	}
	all := make([]sized, len(subs))
	for i, sub := range subs {
		all[i] = sized{sub, r.size(sub, negated)}
	}
	slices.SortStableFunc(all, func(a, b sized) int { return cmp.Compare(a.size, b.size) })
	out := make([]*setPart, len(all))
	for i := range all {
		out[i] = all[i].part
	}
	return out
}

// size estimates, from above, for how many a part holds or does not hold.
func (r *setRun) size(p *setPart, negated bool) uint64 {
	everyone := r.view.Everyone.GetCardinality()
	switch {
	case p.kind == nodeNot:
		return r.size(p.subs[0], !negated)
	case p.kind == nodeLeaf:
		a := r.answer(p)
		switch {
		case a.index != nil: // costs an operation a bit
			return min(everyone, 4*a.index.Has.GetCardinality())
		case negated:
			return everyone - min(everyone, a.sure.GetCardinality())
		}
		return a.perhaps.GetCardinality()
	}
	least, sum := everyone, uint64(0)
	for _, sub := range p.subs {
		n := r.size(sub, negated)
		least, sum = min(least, n), min(everyone, sum+n)
	}
	if (p.kind == nodeAll) != negated {
		return least
	}
	return sum
}

// leaf filters by one condition.
func (r *setRun) leaf(p *setPart, from pool, negated bool) bounds {
	a := r.answer(p)
	b := a.bounds
	if a.index != nil {
		if b = r.numbers(p.test, a.index, from.set); !negated {
			return b
		}
	}
	keep, lose := b.sure, b.perhaps
	switch {
	case b.exact() && negated:
		set := from.andNot(lose)
		return bounds{set, set}
	case b.exact():
		set := from.and(keep)
		return bounds{set, set}
	case negated:
		sure := roaring.AndNot(from.set, lose)
		return bounds{sure, from.andNot(keep)}
	}
	sure := roaring.And(from.set, keep)
	return bounds{sure, from.and(lose)}
}
