package rule

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// benchPeople is how many people are asked: TACT_PEOPLE, default 100,000. A store
// of several groups answers in so many of these.
func benchPeople() int {
	if n, err := strconv.Atoi(os.Getenv("TACT_PEOPLE")); err == nil && n > 0 {
		return n
	}
	return 100_000
}

// population makes one group of people with five tags, four values and, some of
// them, events.
func population(b *testing.B, n int) *crowd {
	b.Helper()
	s, err := storage.Open("store", storage.Options{Groups: 1, FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	c := &crowd{draw: newDraw(3), t: b, s: s, g: s.Group(0), home: time.UTC}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		id := fmt.Appendf(nil, "u%d", i)
		c.g.Lock()
		person, ord := c.g.NextPerson()
		e := storage.Effect{Kind: storage.EffectCreate, Ord: ord, Create: storage.CreateEffect{
			Workspace: 1, Slot: s.SlotOf(1, id), Person: person, ID: id,
			IDHash: s.IndexHash(1, id), Key: c.g.NewKey(),
		}}
		c.g.Unlock()
		c.add(&e)
		p := &storage.Patch{Attrs: []storage.AttrValue{
			{ID: 1, Value: val(storage.KindInt, int64(r.IntN(90)))},
			{ID: 3, Value: text(storage.KindString, []string{"female", "male"}[r.IntN(2)])},
			{ID: 5, Value: val(storage.KindBool, int64(r.IntN(2)))},
			{ID: 6, Value: val(storage.KindDate, int64(r.IntN(20_000)))},
		}}
		for id := storage.Name(1); id <= 3; id++ {
			if r.IntN(3) > 0 {
				p.TagsAdd = append(p.TagsAdd, storage.TagValue{ID: id, Value: storage.Name(id / 2 % 2)})
			}
		}
		if r.IntN(2) == 0 {
			p.SegmentsAdd = []storage.Name{1, 2}
		}
		c.add(&storage.Effect{Kind: storage.EffectPatch, Ord: ord, Patch: p})
		for range r.IntN(2) * 10 {
			c.add(&storage.Effect{
				Kind: storage.EffectEvent, Ord: ord, Time: c.now,
				Event: storage.EventEffect{Event: 1, Occurred: c.now - storage.UnixMsec(r.Int64N(60*dayMs))},
			})
		}
	}
	return c
}

// BenchmarkPopulation asks one group. "and" is the memory-bandwidth reference of
// the eight-atom count: as many plain bit sets of the same people joined word by
// word. ns/person is what one person of the group costs.
func BenchmarkPopulation(b *testing.B) {
	n := benchPeople()
	c := population(b, n)
	defer c.close()
	b.Run("and", func(b *testing.B) { benchAnd(b, n) })
	for _, q := range []struct{ name, rule string }{
		{"eight atoms", `{"all":[{"tag":"churn"},{"tag":"complaint"},{"segment":"uploaded"},
			{"not":{"tag":"city_tier","is":"3"}},{"segment":"friends"},{"attribute":"gender","is":"female"},
			{"attribute":"subscribed","is":true},{"tag":"complaint"}]}`},
		{"mixed atoms", `{"all":[{"any":[{"tag":"churn"},{"tag":"complaint"},{"segment":"friends"}]},
			{"not":{"segment":"uploaded"}},{"not":{"tag":"city_tier","is":"3"}},
			{"attribute":"gender","is":"female"},{"attribute":"subscribed","is":true},
			{"attribute":"age","gte":45}]}`},
		{"five atoms", `{"all":[{"tag":"churn"},{"attribute":"gender","is":"female"},
			{"attribute":"age","gte":30},{"attribute":"birthday","years_since":{"gte":18}},
			{"not":{"segment":"uploaded"}}]}`},
		{"age", `{"attribute":"age","between":[18,35]}`},
		{"never bought", `{"not":{"event":"order"}}`},
		{"with a window", `{"all":[{"tag":"churn"},{"attribute":"gender","is":"female"},
			{"attribute":"age","gte":30},{"not":{"segment":"uploaded"}},
			{"event":"order","count":{"gte":2},"within":"30d"}]}`},
		{"window of all", `{"event":"order","count":{"gte":2},"within":"30d"}`},
		{"percent of all", `{"percent":["0%","10%"],"salt":"x"}`},
	} {
		tree := mustParse(b, q.rule)
		p := tree.Population(nil)
		start := time.Now()
		ask := p.ViewAsk("1")
		if err := c.g.BuildIndexes(context.Background(), ask); err != nil {
			b.Fatal(err)
		}
		built := time.Since(start)
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			open, held := uint64(0), uint64(0)
			pool := &storage.WordPool{}
			for b.Loop() {
				v := c.g.OpenView(ask, c.now)
				sure := roaring.New()
				n, rest, ok := p.CountBounds(v, c.now, pool)
				if !ok {
					sure, rest = p.Bounds(v, c.now, pool)
				}
				open = rest.GetCardinality()
				judge, w := p.Judge(), Who{Zone: c.home, Home: c.home, Now: c.now}
				if err := v.Read(rest.ToArray(), func(o storage.Ord, q *storage.PersonView) {
					w.ID, w.Profile, w.Tail, w.Activity = q.ID, q.Profile, q.Tail, q.Activity
					if judge.Holds(&w) {
						sure.Add(uint32(o))
					}
					for _, told := range judge.Told() {
						v.Learn(told.Condition, o, told.Holds, told.Until)
					}
				}); err != nil {
					b.Fatal(err)
				}
				held = n + sure.GetCardinality()
				v.Close()
			}
			ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(ns/float64(n), "ns/person")
			b.ReportMetric(float64(open), "asked")
			b.ReportMetric(float64(held), "held")
			if open > 0 {
				b.ReportMetric(ns/float64(open), "ns/asked")
			}
			b.ReportMetric(float64(built.Nanoseconds())/float64(n), "build-ns/person")
		})
	}
}

func benchAnd(b *testing.B, n int) {
	sets := make([][]uint64, 8)
	r := rand.New(rand.NewPCG(2, 2))
	for i := range sets {
		sets[i] = make([]uint64, n/64)
		for k := range sets[i] {
			sets[i][k] = r.Uint64() | r.Uint64()
		}
	}
	out := make([]uint64, n/64)
	for b.Loop() {
		copy(out, sets[0])
		for _, s := range sets[1:] {
			for k, w := range s {
				out[k] &= w
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/person")
}

// BenchmarkIndexUpkeep is a patch that turns a value and a tag, without an index
// of either and with both.
func BenchmarkIndexUpkeep(b *testing.B) {
	c := population(b, 20_000)
	defer c.close()
	turn := func(b *testing.B) {
		patches := [2]*storage.Patch{}
		for i := range patches {
			patches[i] = &storage.Patch{
				TagsAdd: []storage.TagValue{{ID: 2, Value: storage.Name(1 + i)}},
				Attrs:   []storage.AttrValue{{ID: 1, Value: val(storage.KindInt, int64(20+i*31))}},
			}
		}
		i := 0
		for b.Loop() {
			c.g.Lock()
			e := storage.Effect{Kind: storage.EffectPatch, Ord: storage.Ord(i % 20_000), Patch: patches[i/20_000%2]}
			if _, err := c.g.Append(&e); err != nil {
				b.Fatal(err)
			}
			c.g.Unlock()
			i++
		}
	}
	b.Run("no index", turn)
	p := mustParse(b, `{"all":[{"attribute":"age","gte":30},{"tag":"city_tier","is":"1"}]}`).Population(nil)
	if err := c.g.BuildIndexes(context.Background(), p.Ask()); err != nil {
		b.Fatal(err)
	}
	b.Run("two indexes", turn)
}
