package rule

import (
	"github.com/RoaringBitmap/roaring/v2"

	"tact/storage"
)

// Count says of how many of everybody in the view the tree holds, where nobody has to
// be asked: CountBounds with nobody open.
func (p *Population) Count(
	v *storage.View, now storage.UnixMsec, pool *storage.WordPool,
) (n uint64, ok bool) {
	n, open, ok := p.CountBounds(v, now, pool)
	return n, ok && open.IsEmpty()
}

// CountBounds says for how many of everybody in the view the tree holds for sure, and
// who is open: the number of people that Bounds finds and the others, without making a
// set of the first. Conditions are joined over one bit a person. open belongs to the
// caller.
//
// ok is false, and the rest says nothing, where sets leave it to asking people one by
// one of whom nothing is kept, where an index tells a number only nearly, and where so
// few may pass that Bounds costs less. pool is that of Bounds.
//
// Cost: two passes over a bit a person for each set, and for each bit of a number; twice
// that where somebody may be open. No memory but the pool's and open.
func (p *Population) CountBounds(
	v *storage.View, now storage.UnixMsec, pool *storage.WordPool,
) (sure uint64, open *roaring.Bitmap, ok bool) {
	if p.asksPeople {
		return 0, nil, false
	}
	r := p.run(v, now, pool)
	if r.size(p.plan, false) < r.wordsFrom {
		return 0, nil, false
	}
	return r.countBounds()
}

func (r *setRun) countBounds() (sure uint64, open *roaring.Bitmap, ok bool) {
	if !r.told(r.population.plan) {
		return 0, nil, false
	}
	r.words.Reset(r.view.Words())
	w := r.words.Take()
	defer r.words.Give(w)
	r.words.SpreadTo(w, r.view.Everyone)
	r.narrow(r.population.plan, w, false)
	sure = w.Count()
	if !r.doubt {
		return sure, roaring.New(), true
	}
	more := r.words.Take()
	defer r.words.Give(more)
	r.words.SpreadTo(more, r.view.Everyone)
	r.upper = true
	r.narrow(r.population.plan, more, false)
	more.AndNot(w)
	return sure, more.Bitmap(), true
}

// told says whether sets tell of each condition of a part who passes it, or who did when
// they were last asked: then somebody may be open, and r.doubt is set.
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
	if x == nil && r.exactly(p) == nil {
		r.doubt = true
		return p.verdict != 0 && r.view.Verdict(p.verdict-1) != nil
	}
	if x == nil {
		return true
	}
	ranges, exact := p.test.ranges(r.now)
	for _, n := range ranges {
		exact = exact && n.inner == n.outer && x.Tells(n.outer.lo, n.outer.hi)
	}
	return exact
}

// narrow leaves in w for whom a part holds, or does not hold, of which sets told: for
// sure, or with r.upper perhaps.
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
	case negated && r.upper:
		w.AndNot(r.words.Spread(a.sure))
	case negated:
		w.AndNot(r.words.Spread(a.perhaps))
	case r.upper:
		w.And(r.words.Spread(a.perhaps))
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
