package rule

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tact/storage"
)

// countGroups is how many groups a store has unless it was told otherwise.
const countGroups = 16

// BenchmarkCountStore counts over a whole store of TACT_PEOPLE people in 16 groups, with
// as many goroutines as there are processors, in turns with an AND of as many plain bitmaps
// as the rule reads, of as many people, shared out in the same way, and with one of eight.
// The store lies in a temporary folder; people have five tags and segments, four values,
// and a tenth an event: 10M of them take 6 GiB of memory and some minutes to make. least-ms,
// and-ms and and8-ms are the least of the turns, by the wall; times is the first over the
// second.
func BenchmarkCountStore(b *testing.B) {
	n := benchPeople() / countGroups * countGroups
	s, err := storage.Open(b.TempDir(), storage.Options{
		Groups: countGroups, MinFree: 1, Ballast: 1 << 20, CommitMax: time.Minute,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	now := storage.UnixMsec(time.Now().UnixMilli())
	began := time.Now()
	each := func(f func(g int)) {
		var next atomic.Int32
		var all sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			all.Go(func() {
				for g := int(next.Add(1)) - 1; g < countGroups; g = int(next.Add(1)) - 1 {
					f(g)
				}
			})
		}
		all.Wait()
	}
	each(func(g int) { populate(b, s, storage.GroupID(g), n/countGroups) })
	b.Logf("%d people in %s", n, time.Since(began))
	const eight, most = 8, 64
	sets := make([][][]uint64, countGroups)
	for g := range sets {
		sets[g] = plainSets(most, n/countGroups)
	}
	for _, q := range []struct{ name, rule string }{
		{"eight atoms", `{"all":[{"tag":"churn"},{"tag":"complaint"},{"segment":"uploaded"},
			{"not":{"tag":"city_tier","is":"3"}},{"segment":"friends"},{"attribute":"gender","is":"female"},
			{"attribute":"subscribed","is":true},{"tag":"complaint"}]}`},
		{"mixed atoms", `{"all":[{"any":[{"tag":"churn"},{"tag":"complaint"},{"segment":"friends"}]},
			{"not":{"segment":"uploaded"}},{"not":{"tag":"city_tier","is":"3"}},
			{"attribute":"gender","is":"female"},{"attribute":"subscribed","is":true},
			{"attribute":"age","gte":45}]}`},
		{"with a window", `{"all":[{"tag":"churn"},{"tag":"complaint"},{"not":{"segment":"uploaded"}},
			{"not":{"tag":"city_tier","is":"3"}},{"segment":"friends"},{"attribute":"gender","is":"female"},
			{"attribute":"subscribed","is":true},{"not":{"event":"order","within":"30d"}}]}`},
	} {
		p := mustParse(b, q.rule).Population(nil)
		c := countStore{s: s, p: p, ask: p.ViewAsk("1"), now: now}
		var failed atomic.Pointer[error]
		count := func() uint64 {
			var sum atomic.Uint64
			each(func(g int) {
				held, err := c.group(storage.GroupID(g))
				if err != nil {
					failed.Store(&err)
				}
				sum.Add(held)
			})
			return sum.Load()
		}
		held := count() // indexes and outcomes are made then
		before := c.pools[0].Spreads
		count()
		read := c.pools[0].Spreads - before
		if read > most {
			b.Fatalf("%s reads %d bitmaps", q.name, read)
		}
		b.Run(q.name, func(b *testing.B) {
			const never = time.Duration(1 << 62)
			least, and, and8 := never, never, never
			join := func(n int, least *time.Duration) {
				start := time.Now()
				each(func(g int) { joinSets(sets[g][:n+1]) })
				*least = min(*least, time.Since(start))
			}
			for b.Loop() {
				start := time.Now()
				if again := count(); again != held {
					b.Fatalf("%d, then %d", held, again)
				}
				least = min(least, time.Since(start))
				join(read, &and)
				join(eight, &and8)
			}
			b.ReportMetric(least.Seconds()*1e3, "least-ms")
			b.ReportMetric(and.Seconds()*1e3, "and-ms")
			b.ReportMetric(and8.Seconds()*1e3, "and8-ms")
			b.ReportMetric(float64(read), "bitmaps")
			b.ReportMetric(float64(least)/float64(and), "times")
			b.ReportMetric(float64(held), "held")
			b.ReportMetric(0, "ns/op")
		})
		if err := failed.Load(); err != nil {
			b.Fatal(*err)
		}
	}
}

// plainSets makes n sets of one bit a person, the first for the outcome.
func plainSets(n, people int) [][]uint64 {
	sets := make([][]uint64, n+1)
	r := rand.New(rand.NewPCG(2, uint64(people)))
	for i := range sets {
		sets[i] = make([]uint64, people/64)
		for k := range sets[i] {
			sets[i][k] = r.Uint64() | r.Uint64()
		}
	}
	return sets
}

func joinSets(sets [][]uint64) {
	out := sets[0]
	copy(out, sets[1])
	for _, s := range sets[2:] {
		storage.Words(out).And(s)
	}
}

// countStore counts a rule group by group.
type countStore struct {
	s     *storage.Store
	p     *Population
	ask   *storage.ViewAsk
	now   storage.UnixMsec
	pools [countGroups]storage.WordPool
}

func (c *countStore) group(id storage.GroupID) (uint64, error) {
	g := c.s.Group(id)
	if err := g.BuildIndexes(context.Background(), c.ask); err != nil {
		return 0, err
	}
	g.SettleVerdicts(c.ask, c.now)
	v := g.OpenView(c.ask, c.now)
	defer v.Close()
	n, open, ok := c.p.CountBounds(v, c.now, &c.pools[id])
	if !ok {
		return 0, fmt.Errorf("group %d is not counted over words", id)
	}
	judge, w := c.p.Judge(), Who{Zone: time.UTC, Home: time.UTC, Now: c.now}
	err := v.Read(open.ToArray(), func(o storage.Ord, q *storage.PersonView) {
		w.ID, w.Profile, w.Tail, w.Activity = q.ID, q.Profile, q.Tail, q.Activity
		if judge.Holds(&w) {
			n++
		}
		for _, told := range judge.Told() {
			v.Learn(told.Condition, o, told.Holds, told.Until)
		}
	})
	return n, err
}

// populate makes the people of one group. An id need not lie in the group's slots here:
// nobody looks for it.
func populate(b *testing.B, s *storage.Store, id storage.GroupID, n int) {
	g, r := s.Group(id), rand.New(rand.NewPCG(1, uint64(id)))
	genders, now := []string{"female", "male"}, storage.UnixMsec(time.Now().UnixMilli())
	slot := storage.Slot(int(id) * storage.Slots / countGroups)
	var name []byte
	for i := range n {
		name = fmt.Appendf(name[:0], "u%d.%d", id, i)
		p := &storage.Patch{Attrs: []storage.AttrValue{
			{ID: 1, Value: val(storage.KindInt, int64(r.IntN(90)))},
			{ID: 3, Value: text(storage.KindString, genders[r.IntN(2)])},
			{ID: 5, Value: val(storage.KindBool, int64(r.IntN(2)))},
			{ID: 6, Value: val(storage.KindDate, int64(r.IntN(20_000)))},
		}}
		for tag := storage.Name(1); tag <= 3; tag++ {
			if r.IntN(3) > 0 {
				p.TagsAdd = append(p.TagsAdd, storage.TagValue{ID: tag, Value: tag / 2 % 2})
			}
		}
		for segment := storage.Name(1); segment <= 2; segment++ {
			if r.IntN(2) == 0 {
				p.SegmentsAdd = append(p.SegmentsAdd, segment)
			}
		}
		g.Lock()
		person, ord := g.NextPerson()
		effects := [...]storage.Effect{
			{Kind: storage.EffectCreate, Ord: ord, Create: storage.CreateEffect{
				Workspace: 1, Slot: slot, Person: person, ID: name,
				IDHash: s.IndexHash(1, name), Key: g.NewKey(),
			}},
			{Kind: storage.EffectPatch, Ord: ord, Patch: p},
			{Kind: storage.EffectEvent, Ord: ord, Time: now, Event: storage.EventEffect{
				Event: 1, Occurred: now - storage.UnixMsec(r.Int64N(60*dayMs)),
			}},
		}
		some := effects[:]
		if i%10 > 0 {
			some = effects[:2]
		}
		var frame uint64
		var err error
		for k := 0; k < len(some) && err == nil; k++ {
			frame, err = g.Append(&some[k])
		}
		g.Unlock()
		if err == nil && i%10_000 == 9_999 { // no faster than the disk
			err = s.Wait(id, frame, time.Minute)
		}
		if err != nil {
			b.Error(err)
			return
		}
	}
}
