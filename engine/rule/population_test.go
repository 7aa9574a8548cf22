package rule

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
)

// crowd is random people of one group, with what they did.
type crowd struct {
	draw
	t     testing.TB
	fs    *vfs.MemFS
	s     *storage.Store
	g     *storage.Group
	home  *time.Location
	zones []*time.Location // by ordinal
	pool  storage.WordPool

	counted int // plans answered by a number alone
}

func newCrowd(t testing.TB, seed uint64, n int) *crowd {
	t.Helper()
	d := newDraw(seed)
	c := &crowd{draw: d, t: t, fs: vfs.NewMem(), home: zone(t, d.one(zones()...))}
	c.open()
	for range n {
		c.arrive()
	}
	var log []storage.Effect
	for o := range n {
		l := c.busy(t, []int{0, 2, 8, 30, 70, 150}[c.IntN(6)])
		for _, e := range l.log {
			e.Ord = storage.Ord(o)
			log = append(log, e)
		}
	}
	slices.SortStableFunc(log, func(a, b storage.Effect) int { return cmp.Compare(a.Time, b.Time) })
	for i := range log {
		c.add(&log[i])
	}
	return c
}

func (c *crowd) open() {
	c.t.Helper()
	var err error
	if c.s, err = storage.Open("store", storage.Options{
		Groups: 1, FS: c.fs, CommitMax: time.Minute,
	}); err != nil {
		c.t.Fatal(err)
	}
	c.g = c.s.Group(0)
}

func (c *crowd) restart() {
	c.t.Helper()
	c.close()
	c.open()
}

func (c *crowd) close() {
	c.t.Helper()
	if err := c.s.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) add(e *storage.Effect) {
	c.t.Helper()
	c.g.Lock()
	defer c.g.Unlock()
	if _, err := c.g.Append(e); err != nil {
		c.t.Fatal(err)
	}
}

// arrive makes a person, now and then a visitor.
func (c *crowd) arrive() {
	id := fmt.Appendf(nil, "u%d", len(c.zones))
	c.zones = append(c.zones, zone(c.t, c.one(zones()...)))
	c.g.Lock()
	person, ord := c.g.NextPerson()
	e := storage.Effect{Kind: storage.EffectCreate, Ord: ord, Create: storage.CreateEffect{
		Workspace: 1, Slot: c.s.SlotOf(1, id), Person: person, ID: id,
		IDHash: c.s.IndexHash(1, id), Key: c.g.NewKey(), Visitor: c.IntN(10) == 0,
	}}
	c.g.Unlock()
	e.Time = 1
	c.add(&e)
	if c.IntN(10) > 0 {
		c.add(&storage.Effect{Kind: storage.EffectPatch, Ord: ord, Patch: c.patch()})
	}
}

// stir changes some people: what they have, what they do; some go, some come.
func (c *crowd) stir() {
	for range 12 {
		o := storage.Ord(c.IntN(len(c.zones)))
		switch c.IntN(8) {
		case 0:
			c.arrive()
		case 1:
			c.add(&storage.Effect{Kind: storage.EffectForget, Ord: o}) // only visitors go
		case 2, 3:
			e := c.fact(c.now-storage.UnixMsec(c.IntN(5_000_000)), c.now, c.home)
			e.Ord = o
			c.add(&e)
		default:
			p := c.patch()
			for id := storage.Name(1); id <= 10; id++ {
				if c.IntN(6) == 0 {
					p.Attrs = append(p.Attrs, storage.AttrValue{ID: id, Remove: true})
				}
			}
			p.TagsReplace = c.IntN(2) == 0
			if c.IntN(3) == 0 {
				p.SegmentsRemove, p.SegmentsAdd = p.SegmentsAdd, nil
			}
			c.add(&storage.Effect{Kind: storage.EffectPatch, Ord: o, Patch: p})
		}
	}
}

// who reads a person; the group is locked. ok is false for visitors and those
// who are gone.
func (c *crowd) who(o storage.Ord, now storage.UnixMsec) (w *Who, ok bool) {
	row := c.g.Row(o)
	if row == nil || row.Flags&storage.RowVisitor != 0 {
		return nil, false
	}
	return &Who{
		ID: c.g.ID(o), Profile: c.g.Profile(o), Zone: c.zones[o], Home: c.home, Now: now,
		Tail: c.g.Tail(o), Activity: c.g.Activity(o),
	}, true
}

// plan answers by sets, and by a Judge where they leave it open.
func (c *crowd) plan(tree *Tree, now storage.UnixMsec, ctx []ContextValue) *roaring.Bitmap {
	c.t.Helper()
	p := tree.Population(ctx)
	if err := c.g.BuildIndexes(context.Background(), p.Ask()); err != nil {
		c.t.Fatal(err)
	}
	v := c.g.OpenView(p.Ask(), now)
	defer v.Close()
	sure, open := p.Bounds(v, now, nil)
	c.bothWays(tree, p, v, now)
	if sure.Intersects(open) || roaring.AndNot(roaring.Or(sure, open), v.Everyone).GetCardinality() > 0 {
		c.t.Fatalf("%s: sure %v, open %v of %v", tree.Explain(nil, nil, ""), sure, open, v.Everyone)
	}
	judge := p.Judge()
	err := v.Read(open.ToArray(), func(o storage.Ord, q *storage.PersonView) {
		if judge.Holds(&Who{
			ID: q.ID, Profile: q.Profile, Zone: c.zones[o], Home: c.home, Now: now,
			Tail: q.Tail, Activity: q.Activity,
		}) {
			sure.Add(uint32(o))
		}
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return sure
}

// bothWays answers a plan with numbers compared by sets and by words, in one pool each
// time: what is sure and what is open is the same, and where people can be counted
// without a set there are as many and nobody is open.
func (c *crowd) bothWays(tree *Tree, p *Population, v *storage.View, now storage.UnixMsec) {
	c.t.Helper()
	run := func(wordsFrom uint64) (sure, open *roaring.Bitmap) {
		r := p.run(v, now, &c.pool)
		r.wordsFrom = wordsFrom
		return r.bounds()
	}
	sure, open := run(math.MaxUint64)
	if n, unsure, ok := p.run(v, now, &c.pool).countBounds(); ok && unsure.IsEmpty() {
		c.counted++
		if !open.IsEmpty() || n != sure.GetCardinality() {
			c.t.Fatalf("%s: %d are counted, sure %v and open %v",
				tree.Explain(nil, nil, ""), n, sure, open)
		}
	}
	for range 2 {
		if s, o := run(0); !s.Equals(sure) || !o.Equals(open) {
			c.t.Fatalf("%s: by sets %v and open %v, by words %v and %v",
				tree.Explain(nil, nil, ""), sure, open, s, o)
		}
	}
}

// The bits of a row, the plan over the population and Naive agree on every
// (rule, person, time), whatever the people have been through since an index was
// built.
func TestThreeEvaluatorsAgree(t *testing.T) {
	r := newRun(t, 1e7)
	held, counted, plans := 0, 0, 0
	for seed := uint64(0); r.more(); seed++ {
		c := newCrowd(t, seed, 60)
		for range 40 {
			tree := mustParse(t, c.rule(c.IntN(4)))
			if !narrow(t, tree) {
				continue
			}
			s := build(t, nil, tree)
			now, ctx := c.now+storage.UnixMsec(c.IntN(3))*storage.UnixMsec(c.IntN(300*dayMs)), c.context()
			plan := c.plan(tree, now, ctx)
			plans++
			c.g.Lock()
			for o := range storage.Ord(c.g.Len()) {
				w, ok := c.who(o, now)
				got, want, bits := plan.Contains(uint32(o)), false, false
				if ok {
					user, request := s.fresh(w, ctx)
					want, bits = tree.Naive(w, ctx), s.conds[0].Holds(rowOf(user, request))
				}
				if got != want || bits != want {
					t.Fatalf("seed %d, ordinal %d at %d: %s\nthe plan says %v, bits %v, naive %v",
						seed, o, now, tree.Explain(nil, nil, ""), got, bits, want)
				}
				r.done++
				if want {
					held++
				}
			}
			c.g.Unlock()
			c.stir()
		}
		if err := c.s.Check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		counted += c.counted
		c.close()
	}
	if plans > 100 && counted*20 < plans {
		t.Fatalf("of %d plans %d are counted without a set", plans, counted)
	}
	if share := float64(held) / float64(r.done); share < 0.2 || share > 0.8 {
		t.Fatalf("a share of %.2f is held: the cases are too alike", share)
	}
}

// The laws of sets hold for whole populations, after a restart as before it.
func TestPopulationLaws(t *testing.T) {
	r := newRun(t, 1e7)
	for seed := uint64(0); seed < 4 || r.more(); seed++ {
		c := newCrowd(t, 1000+seed, 200)
		everybody := c.plan(True(), c.now, nil)
		for pair := range 25 {
			a, b := c.rule(2), c.rule(2)
			if strings.Contains(a+b, "safety") || strings.Contains(a+b, "illness") {
				continue // what is asked to be known is never negated
			}
			now, ctx := c.now+storage.UnixMsec(c.IntN(400*dayMs)), c.context()
			of := func(rule string) *roaring.Bitmap { return c.plan(mustParse(t, rule), now, ctx) }
			f := func(law, rule string, want *roaring.Bitmap) {
				t.Helper()
				if got := of(rule); !got.Equals(want) {
					t.Fatalf("seed %d: %s of\n%s\n%s\nis %v, want %v", seed, law, a, b, got, want)
				}
				r.done += len(c.zones)
			}
			x, y := of(a), of(b)
			both, either := roaring.And(x, y), roaring.Or(x, y)
			f("and", `{"all":[`+a+`,`+b+`]}`, both)
			f("and, the other way round", `{"all":[`+b+`,`+a+`]}`, both)
			f("or", `{"any":[`+a+`,`+b+`]}`, either)
			f("or, the other way round", `{"any":[`+b+`,`+a+`]}`, either)
			f("not", `{"not":`+a+`}`, roaring.AndNot(everybody, x))
			f("de morgan", `{"not":{"any":[{"not":`+a+`},{"not":`+b+`}]}}`, both)
			f("de morgan", `{"not":{"all":[{"not":`+a+`},{"not":`+b+`}]}}`, either)
			f("without", `{"all":[`+a+`,{"not":`+b+`}]}`, roaring.AndNot(x, y))
			f("absorption", `{"any":[`+a+`,{"all":[`+a+`,`+b+`]}]}`, x)
			if pair%12 == 0 {
				c.restart()
				f("restart", a, x)
				f("restart", `{"any":[`+a+`,`+b+`]}`, either)
			}
		}
		c.close()
	}
}

// Time travel: what comes later says nothing of a time before it, of everybody
// whose tail holds the whole life; and a plan made ahead is the plan made then.
func TestPlansOfOtherTimes(t *testing.T) {
	r := newRun(t, 1e6)
	kept, same := uint64(0), uint64(0)
	for seed := uint64(0); r.more(); seed++ {
		c := newCrowd(t, 3000+seed, 120)
		type asked struct {
			rule      string
			at        storage.UnixMsec
			before    *roaring.Bitmap
			aboutPast bool
		}
		var questions []asked
		for range 20 {
			past := asked{rule: c.event(), at: c.now - storage.UnixMsec(c.IntN(30*dayMs)), aboutPast: true}
			ahead := asked{rule: c.rule(2), at: c.now + storage.UnixMsec(c.IntN(90*dayMs))}
			for _, q := range []asked{past, ahead} {
				q.before = c.plan(mustParse(t, q.rule), q.at, nil)
				questions = append(questions, q)
			}
		}
		// Time goes by: somebody new comes, and nothing else is known of the others.
		c.now += 90 * dayOfMs
		c.arrive()
		stranger := roaring.BitmapOf(uint32(len(c.zones) - 1))
		f := func(q *asked, of *roaring.Bitmap) {
			t.Helper()
			got := c.plan(mustParse(t, q.rule), q.at, nil)
			want := roaring.And(q.before, of)
			if got.And(of); !got.Equals(want) {
				t.Fatalf("seed %d: %s at %d: %v, before %v", seed, q.rule, q.at, got, want)
			}
			same += want.GetCardinality()
			r.done += int(of.GetCardinality())
		}
		others := roaring.AndNot(c.plan(True(), c.now, nil), stranger)
		for i := range questions {
			if !questions[i].aboutPast {
				f(&questions[i], others)
			}
		}
		for range 200 {
			e := c.fact(c.now-storage.UnixMsec(1+c.IntN(89*dayMs)), c.now, c.home)
			e.Ord = storage.Ord(c.IntN(len(c.zones) - 1))
			c.add(&e)
		}
		whole := roaring.New()
		c.g.Lock()
		for _, o := range others.ToArray() {
			if c.g.Tail(storage.Ord(o)).Floor() == 0 {
				whole.Add(o)
			}
		}
		c.g.Unlock()
		kept += whole.GetCardinality()
		for i := range questions {
			if questions[i].aboutPast {
				f(&questions[i], whole)
			}
		}
		c.close()
	}
	if kept == 0 || same == 0 {
		t.Fatalf("%d people with a whole tail, %d held", kept, same)
	}
}
