package rule

import (
	"context"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"tact/storage"
)

// kept answers a tree as a census does: what conditions on events came to is asked for,
// and kept. Before people are asked, between runs. It returns how many were asked.
func (c *crowd) kept(
	tree *Tree, now storage.UnixMsec, ctx []ContextValue, between func(),
) (held *roaring.Bitmap, counted uint64, asked int) {
	c.t.Helper()
	p := tree.Population(ctx)
	ask := p.ViewAsk("1")
	if err := c.g.BuildIndexes(context.Background(), ask); err != nil {
		c.t.Fatal(err)
	}
	c.g.SettleVerdicts(ask, now)
	v := c.g.OpenView(ask, now)
	defer v.Close()
	held, open := p.Bounds(v, now, nil)
	r := p.run(v, now, &c.pool)
	r.wordsFrom = 0
	counted, rest, words := r.countBounds()
	switch {
	case words && (!rest.Equals(open) || counted != held.GetCardinality()):
		c.t.Fatalf("%s: by words %d and open %v, by sets %v and %v",
			tree.Explain(nil, nil, ""), counted, rest, held, open)
	case !words:
		counted = held.GetCardinality()
	}
	between()
	judge := p.Judge()
	err := v.Read(open.ToArray(), func(o storage.Ord, q *storage.PersonView) {
		asked++
		if judge.Holds(&Who{
			ID: q.ID, Profile: q.Profile, Zone: c.zones[o], Home: c.home, Now: now,
			Tail: q.Tail, Activity: q.Activity,
		}) {
			held.Add(uint32(o))
			counted++
		}
		if judge.ByDay() {
			return
		}
		for _, told := range judge.Told() {
			v.Learn(told.Condition, o, told.Holds, told.Until)
		}
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return held, counted, asked
}

// naive is for whom a tree holds by Naive.
func (c *crowd) naive(tree *Tree, now storage.UnixMsec, ctx []ContextValue) *roaring.Bitmap {
	c.g.Lock()
	defer c.g.Unlock()
	m := roaring.New()
	for o := range storage.Ord(c.g.Len()) {
		if w, ok := c.who(o, now); ok && tree.Naive(w, ctx) {
			m.Add(uint32(o))
		}
	}
	return m
}

// Questions that follow one another find whom Naive finds, although people of whom it is
// known what conditions on events came to are not judged anew: while time goes on in
// small and large steps, people change between questions and while one is answered,
// questions share conditions, and one of an earlier time comes late.
func TestKeptVerdictsAgree(t *testing.T) {
	r := newRun(t, 1e7)
	r.goal = max(r.goal, 30_000)
	questions, saved, held := 0, 0, 0
	for seed := uint64(0); r.more(); seed++ {
		c := newCrowd(t, 5000+seed, 60)
		rules := []string{
			c.event(), c.event(), `{"all":[` + c.rule(1) + `,` + c.event() + `]}`,
			`{"any":[` + c.event() + `,` + c.event() + `]}`, `{"not":` + c.event() + `}`,
		}
		rules = append(rules, `{"all":[`+rules[0]+`,{"not":`+rules[1]+`}]}`)
		ctx := c.context()
		for range 40 {
			tree := mustParse(t, rules[c.IntN(len(rules))])
			if !narrow(t, tree) {
				continue
			}
			steps := [...]int{0, 0, 1, 1000, 60_000, 3_600_000, dayMs, 20 * dayMs}
			c.now += storage.UnixMsec(c.IntN(1 + steps[c.IntN(len(steps))]))
			now := c.now
			if c.IntN(10) == 0 {
				now -= storage.UnixMsec(c.IntN(2 * dayMs))
			}
			want := c.naive(tree, now, ctx)
			got, counted, asked := c.kept(tree, now, ctx, func() {
				if c.IntN(3) == 0 {
					c.stir()
				}
			})
			if !got.Equals(want) || counted != want.GetCardinality() {
				t.Fatalf("seed %d at %d: %s\nholds for %v, %d counted, naive %v",
					seed, now, tree.Explain(nil, nil, ""), got, counted, want)
			}
			questions++
			r.done += len(c.zones)
			saved += len(c.zones) - asked
			held += int(want.GetCardinality())
			if c.IntN(4) == 0 {
				c.stir()
			}
		}
		c.close()
	}
	if share := float64(saved) / float64(r.done); share < 0.4 {
		t.Fatalf("%.2f of the people were not asked: little is kept", share)
	}
	if share := float64(held) / float64(r.done); share < 0.05 || share > 0.95 {
		t.Fatalf("a share of %.2f is held: the cases are too alike", share)
	}
}
