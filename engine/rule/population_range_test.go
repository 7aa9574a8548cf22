package rule

import (
	"math"
	"testing"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// Ranges are never too wide inside nor too narrow outside, in whatever zone a
// person lives: every value of an inner range passes, no value outside of the
// outer ones does.
func TestRanges(t *testing.T) {
	inner, outside, between := 0, 0, 0
	d := newDraw(11)
	var places []*time.Location
	for _, name := range append(zones(), "Pacific/Kiritimati", "Etc/GMT+12") {
		places = append(places, zone(t, name))
	}
	for range 4000 {
		n := mustParse(t, d.one(d.timed(), d.timed(), d.number(`"attribute":"age"`, "18", "-5", "30"),
			d.number(`"attribute":"price"`, "0.5", "-0.0", "30"))).rule
		for n.kind != nodeLeaf {
			if len(n.subs) == 0 {
				break
			}
			n = n.subs[0]
		}
		if n.kind != nodeLeaf {
			continue
		}
		x := compile(n.leaf).test
		now := d.now + storage.UnixMsec(d.IntN(dayMs))
		ranges, exact := x.ranges(now)
		for range 30 {
			v, rank := d.near(&x, ranges, now)
			in, out := false, true
			for _, r := range ranges {
				in = in || exact && r.inner.lo <= rank && rank <= r.inner.hi
				out = out && (rank < r.outer.lo || rank > r.outer.hi)
			}
			e := evaluation{who: &Who{}, flip: never, clock: newClock(now, places[d.IntN(len(places))])}
			var holds bool
			if x.dynamic() {
				holds = e.moving(&x, v)
			} else {
				holds = x.static(v)
			}
			switch {
			case in && !holds, out && holds:
				t.Fatalf("%s: %d in %s at %d: holds %v, in %v, out %v of %+v",
					(&Tree{rule: n}).Explain(nil, nil, ""), rank, e.clock.zone, now, holds, in, out, ranges)
			case in:
				inner++
			case out:
				outside++
			default:
				between++
			}
		}
	}
	if inner < 5000 || outside < 5000 || between < 2000 {
		t.Fatalf("%d inside, %d outside, %d between", inner, outside, between)
	}
}

// near draws a value close to an end of a range.
func (d draw) near(x *test, ranges []rankRange, now storage.UnixMsec) (storage.Value, int64) {
	r := ranges[d.IntN(len(ranges))]
	at := []int64{r.inner.lo, r.inner.hi, r.outer.lo, r.outer.hi}[d.IntN(4)]
	if at == math.MinInt64 || at == math.MaxInt64 {
		at = 0
		if x.typ == definition.TypeTime {
			at = int64(now)
		}
	}
	step := int64(1)
	if x.typ == definition.TypeTime {
		step = []int64{1, 1000, 3_600_000, dayMs}[d.IntN(4)]
	}
	at += step * int64(d.IntN(7)-3)
	switch x.typ {
	case definition.TypeFloat:
		f := []float64{0.5, 0, 30, 29.999999, -1, 1e300, math.Copysign(0, -1)}[d.IntN(7)]
		f = math.Nextafter(f, []float64{f, -1e308, 1e308}[d.IntN(3)])
		return floatValue(f), storage.FloatRank(f)
	case definition.TypeDate:
		at = max(dayMin, min(at, dayMax))
		return val(storage.KindDate, at), at
	case definition.TypeTime:
		at = max(dayMin*dayMs, min(at, (dayMax+1)*dayMs-1))
		return val(storage.KindTime, at), at
	}
	return val(storage.KindInt, at), at
}

// What an index keeps of a number rises with it.
func TestNumbersBetween(t *testing.T) {
	values := []storage.Value{}
	for _, n := range []int64{
		math.MinInt64, math.MinInt32 - 1, math.MinInt32, -6, -5, -1, 0, 1, 17, 18, 19, 255, 256,
		math.MaxInt32 - 1, math.MaxInt32, math.MaxInt32 + 1, 1 << 53, math.MaxInt64,
	} {
		values = append(values, val(storage.KindInt, n))
	}
	patches := make([]*storage.Patch, len(values))
	for i, v := range values {
		patches[i] = &storage.Patch{Attrs: []storage.AttrValue{{ID: 1, Value: v}}}
	}
	c := newCrowd(t, 1, 0)
	defer c.close()
	for i, p := range patches {
		c.arrive()
		c.add(&storage.Effect{Kind: storage.EffectPatch, Ord: storage.Ord(i), Patch: p})
	}
	for _, rule := range []string{
		`{"attribute":"age","gte":18}`, `{"attribute":"age","gt":2147483646}`,
		`{"attribute":"age","gt":2147483647}`, `{"attribute":"age","lt":-2147483648}`,
		`{"attribute":"age","between":[-5,17]}`, `{"attribute":"age","is":0}`,
		`{"attribute":"age","in":[-6,256,9007199254740992]}`, `{"attribute":"age","is_set":true}`,
		`{"attribute":"age","in":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]}`,
		`{"attribute":"age","lte":9223372036854775807}`, `{"not":{"attribute":"age","lt":-2147483647}}`,
	} {
		tree := mustParse(t, rule)
		got := c.plan(tree, c.now, nil)
		c.g.Lock()
		for o := range storage.Ord(c.g.Len()) {
			w, ok := c.who(o, c.now)
			if want := ok && tree.Naive(w, nil); got.Contains(uint32(o)) != want {
				t.Errorf("%s of %d: the plan says %v", rule, int64(values[o].Num), !want)
			}
		}
		c.g.Unlock()
	}
}
