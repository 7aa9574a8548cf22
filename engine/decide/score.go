package decide

import (
	"math"

	"tact/engine/definition"
	"tact/storage"
)

// operand is a compiled operand of the score.
type operand struct {
	constant  float64
	attribute storage.Name
	scored    int32 // of attribute among those that scores read
	dynamic   bool
}

// factors are the parts of a score, already raised to the policy's exponents.
// The parts that are attributes are raised when they are read.
type factors struct {
	propensity, context, value, lever float64
	stated                            float64 // the propensity as stated, before its exponent
	exponents                         exponents
}

type exponents struct{ propensity, context, lever float64 }

func newFactors(o *Offer, pol *definition.Policy) factors {
	return factors{
		propensity: power(o.propensity.constant, pol.Propensity),
		context:    power(o.context.constant, pol.Context),
		value:      power(o.Def.Value, pol.Value),
		lever:      power(o.Def.Lever, pol.Lever),
		stated:     o.propensity.constant,
		exponents:  exponents{pol.Propensity, pol.Context, pol.Lever},
	}
}

// product is propensity^p × context^c × value^v × lever^l of raised factors, as
// explicit float64 products in this order, so that every machine gets the same
// bits. The result is finite: beyond the range of float64 it is the largest
// finite number, and 0 × ∞ is 0.
func (f *factors) product(propensity, context, lever float64) float64 {
	s := float64(propensity * context)
	s = float64(s * f.value)
	s = float64(s * lever)
	if s != s {
		return 0
	}
	return min(s, math.MaxFloat64)
}

// power is x^e for x ≥ 0 and e ≥ 0. The exponents 0, 1 and 2 never call
// math.Pow.
func power(x, e float64) float64 {
	switch e {
	case 0:
		return 1
	case 1:
		return x
	case 2:
		return float64(x * x)
	}
	return math.Pow(x, e)
}

// dynamic returns the score of a candidate whose propensity or context is an
// attribute of the person, or whose lever a variant sets, and the propensity
// it used. lever is raised already.
//
// A propensity outside [0, 1], a context that is negative or not finite, and an
// attribute that is missing or not a number count as 0: what is not known never
// lifts an offer above one whose propensity is known.
func (r *run) dynamic(o *Offer, f *factors, lever float64) (score, propensity float64) {
	p, ctx, propensity := f.propensity, f.context, f.stated
	if o.propensity.dynamic {
		propensity = r.attribute(&o.propensity)
		if !(propensity >= 0 && propensity <= 1) {
			propensity = 0
		}
		p = power(propensity, f.exponents.propensity)
	}
	if o.context.dynamic {
		x := r.attribute(&o.context)
		if !(x >= 0 && x <= math.MaxFloat64) {
			x = 0
		}
		ctx = power(x, f.exponents.context)
	}
	return f.product(p, ctx, lever), propensity
}

// attribute reads a numeric attribute of the person; 0 when there is none. Many
// offers are scored by few attributes, each of which is looked up once a Pick.
func (r *run) attribute(o *operand) float64 {
	w := &r.out.work
	if w.scoredSet.has(o.scored) {
		return w.scored[o.scored]
	}
	x := r.number(o.attribute)
	w.scored[o.scored] = x
	w.scoredSet.add(o.scored)
	return x
}

// outbid tells that a candidate with flagScored scores less than the best so far,
// without judging it: its bound is its score at a propensity of 1, so that times
// the person's propensity, and a margin for how products round, it is a bound too.
//
// The margin holds while no partial product leaves the range in which rounding is
// relative, which ordinary factors see to.
func (r *run) outbid(c *candidate, best float64) bool {
	if !(best > 0) {
		return false
	}
	w := &r.out.work
	if !w.scoredSet.has(c.scored) {
		r.attribute(&r.p.Offers[c.offer].propensity)
	}
	p := w.scored[c.scored]
	return p >= leastFactor && p <= 1 && c.bound*p*(1+1e-12) < best
}

// leastFactor is the least factor of a product of four that stays far above the
// numbers that are rounded absolutely.
const leastFactor = 1e-60

// ordinary tells whether a factor is neither tiny nor huge.
func ordinary(x float64) bool { return x >= leastFactor && x <= 1/leastFactor }

// number looks a numeric attribute of the person up; 0 when there is none.
func (r *run) number(id storage.Name) float64 {
	if !r.who.Known {
		return 0
	}
	switch kind, num, _ := r.who.Profile.AttrNear(id, &r.out.work.places); kind {
	case storage.KindFloat:
		return math.Float64frombits(num)
	case storage.KindInt:
		return float64(int64(num))
	}
	return 0
}
