package storage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// What is kept of a condition is, at every time, what a plain map says: of who was judged
// no later, is not changed since, and whose second has not come. Also where a settling
// stops half way, and for the conditions that are given up for newer ones.
func TestVerdictsAgainstAMap(t *testing.T) {
	type outcome struct {
		holds bool
		until UnixSec
	}
	const people = 3 * verdictBlock
	r := rand.New(rand.NewPCG(7, 8))
	s := newState(0, stateOptions{})
	model := map[string]map[Ord]outcome{}
	newest, settled := map[string]UnixMsec{}, map[string]UnixMsec{}
	var keys []string // the latest last
	now, answered := UnixMsec(1_000_000), 0
	for range 4000 {
		now += UnixMsec(r.IntN(3) * r.IntN(2000))
		at := now - UnixMsec(r.IntN(2)*r.IntN(2)*r.IntN(3000))
		key := fmt.Sprint(r.IntN(MaxVerdicts + r.IntN(2)))
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == key })
		if keys = append(keys, key); len(keys) > MaxVerdicts {
			delete(model, keys[0])
			delete(newest, keys[0])
			keys = keys[1:]
		}
		if model[key] == nil {
			model[key], settled[key] = map[Ord]outcome{}, 0
		}
		if at >= newest[key] { // what has ended once is not known at a time before
			at = max(at, settled[key])
			settled[key] = at
		}
		if x := s.verdicts.open(key); r.IntN(2) == 0 && at >= newest[key] {
			x.expire(at, r.IntN(3))
		}
		v := s.verdictView(key, at)
		if at < newest[key] {
			if v.set != nil {
				t.Fatalf("at %d something is told that was judged at %d", at, newest[key])
			}
			continue
		}
		known, held := roaring.New(), roaring.New()
		for o, out := range model[key] {
			if UnixSec(at/1000) >= out.until {
				continue
			}
			known.Add(uint32(o))
			if out.holds {
				held.Add(uint32(o))
			}
		}
		if !v.Known.Equals(known) || !v.Held.Equals(held) {
			t.Fatalf("key %s at %d: %v known, %v held, want %v and %v", key, at, v.Known, v.Held,
				known, held)
		}
		answered += int(known.GetCardinality())
		for range r.IntN(20) {
			o := Ord(r.IntN(people))
			out := outcome{r.IntN(2) == 0, UnixSec(at/1000) + UnixSec(r.IntN(40))}
			v.set.learn(o, at, out.holds, out.until)
			if out.until > UnixSec(at/1000) {
				model[key][o], newest[key] = out, max(newest[key], at)
			}
		}
		for range r.IntN(3) {
			o := Ord(r.IntN(people))
			s.verdicts.changed(o)
			for _, m := range model {
				delete(m, o)
			}
		}
	}
	if answered < 10_000 {
		t.Errorf("%d answers: little is kept", answered)
	}
}
