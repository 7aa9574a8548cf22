package rule

import (
	"github.com/RoaringBitmap/roaring/v2"

	"tact/storage"
)

// Count says of how many of everybody in the view the tree holds: the number of
// people that Bounds finds, without making a set of them. Conditions are joined over
// one bit a person.
//
// ok is false, and n says nothing, where sets leave it to asking people one by one,
// where an index tells a number only nearly, and where so few may pass that Bounds
// costs less. pool is that of Bounds.
//
// Cost: two passes over a bit a person for each set, and for each bit of a number; no
// memory but the pool's.
func (p *Population) Count(
	v *storage.View, now storage.UnixMsec, pool *storage.WordPool,
) (n uint64, ok bool) {
	if p.asksPeople {
		return 0, false
	}
	r := p.run(v, now, pool)
	if r.size(p.plan, false) < r.wordsFrom {
		return 0, false
	}
	return r.count()
}

func (r *setRun) count() (n uint64, ok bool) {
	if !r.told(r.population.plan) {
		return 0, false
	}
	r.words.Reset(r.view.Words())
	w := r.words.Take()
	defer r.words.Give(w)
	r.words.SpreadTo(w, r.view.Everyone)
	r.narrow(r.population.plan, w, false)
	return w.Count(), true
}

// told says whether sets tell of each condition of a part who passes it.
func (r *setRun) told(p *setPart) bool {
	for _, sub := range p.subs {
		if !r.told(sub) {
			return false
		}
	}
	if p.kind != nodeLeaf {
		return true
	}
	x := r.answer(p).index
	if x == nil {
		return r.exactly(p) != nil
	}
	ranges, exact := p.test.ranges(r.now)
	for _, n := range ranges {
		exact = exact && n.inner == n.outer && x.Tells(n.outer.lo, n.outer.hi)
	}
	return exact
}

// narrow leaves in w for whom a part holds, or does not hold, of which sets told.
func (r *setRun) narrow(p *setPart, w storage.Words, negated bool) {
	switch {
	case p.kind == nodeNot:
		r.narrow(p.subs[0], w, !negated)
	case p.kind == nodeLeaf:
		r.narrowLeaf(p, w, negated)
	case (p.kind == nodeAll) != negated:
		for _, sub := range p.subs {
			r.narrow(sub, w, negated)
		}
	default:
		r.narrowAny(p.subs, w, negated)
	}
}

// narrowAny leaves in w who passes one of the parts.
func (r *setRun) narrowAny(subs []*setPart, w storage.Words, negated bool) {
	passed, one := r.words.Take(), r.words.Take()
	defer r.words.Give(passed)
	defer r.words.Give(one)
	clear(passed)
	for _, sub := range subs {
		if set := r.exactly(sub); set != nil && !negated {
			passed.Or(r.words.Spread(set))
			continue
		}
		copy(one, w)
		r.narrow(sub, one, negated)
		passed.Or(one)
	}
	w.And(passed)
}

// exactly returns the set of whom a condition holds; nil where there is none.
func (r *setRun) exactly(p *setPart) *roaring.Bitmap {
	if p.kind != nodeLeaf {
		return nil
	}
	if a := r.answer(p); a.index == nil && a.exact() {
		return a.sure
	}
	return nil
}

func (r *setRun) narrowLeaf(p *setPart, w storage.Words, negated bool) {
	a := r.answer(p)
	switch {
	case a.index != nil:
		r.narrowNumbers(p.test, a.index, w, negated)
	case negated:
		w.AndNot(r.words.Spread(a.sure))
	default:
		w.And(r.words.Spread(a.sure))
	}
}

func (r *setRun) narrowNumbers(
	t *test, x *storage.IndexView, w storage.Words, negated bool,
) {
	ranges, _ := t.ranges(r.now)
	if len(ranges) == 1 && !negated {
		x.KeepBetween(r.words, w, ranges[0].outer.lo, ranges[0].outer.hi)
		return
	}
	found, one := r.words.Take(), r.words.Take()
	clear(found)
	for _, n := range ranges {
		copy(one, w)
		x.KeepBetween(r.words, one, n.outer.lo, n.outer.hi)
		found.Or(one)
	}
	if negated {
		w.AndNot(found)
	} else {
		w.And(found)
	}
	r.words.Give(found)
	r.words.Give(one)
}
