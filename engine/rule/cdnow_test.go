package rule

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/bench/cdnow"
	"tact/engine/definition"
	"tact/storage"
)

type purchase = cdnow.Purchase

// readPurchases reads the file below TACT_DATA, in order of time.
func readPurchases(t *testing.T) []purchase {
	t.Helper()
	all, err := cdnow.Read()
	if errors.Is(err, cdnow.ErrNoData) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// past is what one customer bought before now, oldest first.
type past struct {
	now time.Time
	all []purchase
}

func (p past) since(from time.Time) []purchase {
	i := 0
	for i < len(p.all) && !p.all[i].At.After(from) {
		i++
	}
	return p.all[i:]
}

func (p past) within(days int) []purchase { return p.since(p.now.AddDate(0, 0, -days)) }

func total(list []purchase) (sum float64) {
	for _, p := range list {
		sum += p.Amount
	}
	return sum
}

func discs(list []purchase) (n int) {
	for _, p := range list {
		n += p.CDs
	}
	return n
}

func some(list []purchase, f func(purchase) bool) (n int) {
	for _, p := range list {
		if f(p) {
			n++
		}
	}
	return n
}

func days(list []purchase) int {
	seen := map[time.Time]bool{}
	for _, p := range list {
		seen[p.At] = true
	}
	return len(seen)
}

func (p past) last() time.Time {
	if len(p.all) == 0 {
		return time.Time{}
	}
	return p.all[len(p.all)-1].At
}

// monthBegin is the first midnight of the month of now.
func (p past) monthBegin() time.Time {
	return time.Date(p.now.Year(), p.now.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// audience is a rule with the count it must equal.
type audience struct {
	rule  string
	holds func(past) bool
}

func audiences() []audience {
	year := func(p past) time.Time { return time.Date(p.now.Year(), 1, 1, 0, 0, 0, 0, time.UTC) }
	big := func(p purchase) bool { return p.Amount >= 100 }
	const buy = `{"event":"buy"`
	return []audience{
		{buy + `}`, func(p past) bool { return len(p.all) > 0 }},
		{buy + `,"count":{"gte":2},"within":"90d"}`, func(p past) bool { return len(p.within(90)) >= 2 }},
		{
			buy + `,"count":{"gte":3},"within":"180d"}`,
			func(p past) bool { return len(p.within(180)) >= 3 },
		},
		{buy + `,"count":{"is":1}}`, func(p past) bool { return len(p.all) == 1 }},
		{buy + `,"count":{"gte":10}}`, func(p past) bool { return len(p.all) >= 10 }},
		{buy + `,"count":{"gt":50}}`, func(p past) bool { return len(p.all) > 50 }},
		{buy + `,"count":{"is":0},"within":"30d"}`, func(p past) bool { return len(p.within(30)) == 0 }},
		{`{"not":` + buy + `,"within":"365d"}}`, func(p past) bool { return len(p.within(365)) == 0 }},
		{`{"not_seen_for":"180d"}`, func(p past) bool { return len(p.within(180)) == 0 }},
		{`{"all":[` + buy + `},{"not_seen_for":"180d"}]}`, // lapsed
			func(p past) bool { return len(p.all) > 0 && len(p.within(180)) == 0 }},
		{
			`{"all":[{"not_seen_for":"60d"},` + buy + `,"count":{"gte":5}}]}`,
			func(p past) bool { return len(p.within(60)) == 0 && len(p.all) >= 5 },
		},
		{buy + `,"sum":{"gte":500},"of":"amount"}`, func(p past) bool { return total(p.all) >= 500 }},
		{
			buy + `,"sum":{"gte":100},"of":"amount","within":"90d"}`,
			func(p past) bool { return total(p.within(90)) >= 100 },
		},
		{
			buy + `,"sum":{"lt":20},"of":"amount","within":"270d"}`,
			func(p past) bool { return total(p.within(270)) < 20 },
		},
		{
			buy + `,"sum":{"gte":20},"of":"cds","within":"120d"}`,
			func(p past) bool { return discs(p.within(120)) >= 20 },
		},
		{buy + `,"max":{"gte":200},"of":"amount"}`, func(p past) bool {
			return some(p.all, func(x purchase) bool { return x.Amount >= 200 }) > 0
		}},
		{buy + `,"min":{"lt":10},"of":"amount","within":"200d"}`, func(p past) bool {
			return some(p.within(200), func(x purchase) bool { return x.Amount < 10 }) > 0
		}},
		{buy + `,"avg":{"gte":4},"of":"cds"}`, func(p past) bool {
			return len(p.all) > 0 && float64(discs(p.all))/float64(len(p.all)) >= 4
		}},
		{buy + `,"max":{"is":1},"of":"cds"}`, func(p past) bool {
			return len(p.all) > 0 && some(p.all, func(x purchase) bool { return x.CDs > 1 }) == 0
		}},
		{
			buy + `,"distinct":"day","count":{"gte":4},"within":"150d"}`,
			func(p past) bool { return days(p.within(150)) >= 4 },
		},
		{
			buy + `,"where":[{"property":"amount","gte":100}],"within":"80d"}`,
			func(p past) bool { return some(p.within(80), big) > 0 },
		},
		{buy + `,"where":[{"property":"amount","gte":20},{"property":"cds","lte":2}],` +
			`"count":{"gte":2},"within":"60d"}`, func(p past) bool {
			return some(p.within(60), func(x purchase) bool { return x.Amount >= 20 && x.CDs <= 2 }) >= 2
		}},
		{buy + `,"last":{"within_last":"45d"}}`, func(p past) bool { return len(p.within(45)) > 0 }},
		{buy + `,"first":{"before":"1997-02-01"}}`, func(p past) bool {
			return len(p.all) > 0 && p.all[0].At.Before(time.Date(1997, 2, 1, 0, 0, 0, 0, time.UTC))
		}},
		{
			`{"all":[` + buy + `,"first":{"within_last":"200d"}},` + buy + `,"count":{"gte":3}}]}`,
			func(p past) bool {
				return len(p.all) >= 3 && len(p.since(p.all[0].At)) >= 0 &&
					p.all[0].At.After(p.now.AddDate(0, 0, -200))
			},
		},
		{buy + `,"window":{"calendar":"month"}}`, func(p past) bool {
			return len(p.since(p.monthBegin())) > 0
		}},
		{buy + `,"count":{"gte":2},"window":{"calendar":"quarter","zone":"UTC"}}`, func(p past) bool {
			month := (p.now.Month()-1)/3*3 + 1
			return len(p.since(time.Date(p.now.Year(), month, 1, 0, 0, 0, 0, time.UTC))) >= 2
		}},
		{
			buy + `,"sum":{"gte":150},"of":"amount","window":{"calendar":"year","zone":"user"}}`,
			func(p past) bool { return total(p.since(year(p))) >= 150 },
		},
		{buy + `,"count":{"gte":2},"window":{"between":["1997-03-01T00:00:00Z",` +
			`"1997-06-01T00:00:00Z"]}}`, func(p past) bool {
			return some(p.all, func(x purchase) bool {
				return x.At.Month() >= 3 && x.At.Month() <= 5 && x.At.Year() == 1997
			}) >= 2
		}},
		{`{"sequence":[{"event":"buy","where":[{"property":"cds","is":1}]},{"event":"buy","where":` +
			`[{"property":"cds","gte":3}]}],"within":"30d"}`, nil},
	}
}

// shop is a store with the customers of the file.
type shop struct {
	group *storage.Group
	ords  map[string]storage.Ord
	past  map[string][]purchase
}

// golden is testdata/cdnow.txt: a rule and its counts at the twenty instants on a
// line. Package engine counts the same people by its own ways.
func golden(list []audience, counts [][]int) string {
	var b strings.Builder
	for i, a := range list {
		b.WriteString(a.rule + "\t")
		for k := range counts {
			fmt.Fprintf(&b, "%d ", counts[k][i])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Real input: thirty audiences, at twenty instants, over 69,659 purchases of
// 23,570 customers, equal a count over the file for every customer: by the bits of
// each customer, by the plan over all of them, and in number.
func TestCDNOW(t *testing.T) {
	purchases := readPurchases(t)
	var clock atomic.Int64 // the store's own loops read it too
	clock.Store(purchases[0].At.UnixMilli())
	store, err := storage.Open("store", storage.Options{
		Groups: 1, FS: vfs.NewMem(),
		Now: func() storage.UnixMsec { return storage.UnixMsec(clock.Load()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c := shop{store.Group(0), map[string]storage.Ord{}, map[string][]purchase{}}
	names := &Names{Events: map[string]Event{"buy": {ID: 1, Properties: map[string]Property{
		"cds":    {ID: 1, Type: definition.TypeInt, Indexed: true},
		"amount": {ID: 2, Type: definition.TypeFloat, Indexed: true},
	}}}}
	builder := NewBuilder(nil)
	list := audiences()
	conds := make([]Cond, len(list))
	var plans []*Population
	var all [][]int
	for i, a := range list {
		tree, faults := Parse(mustNode(t, a.rule), names, "rule")
		if len(faults) > 0 {
			t.Fatalf("%s: %+v", a.rule, faults)
		}
		if conds[i], err = builder.Cond(tree); err != nil {
			t.Fatal(err)
		}
		plans = append(plans, tree.Population(nil))
	}
	s := system{builder.Program(), conds}
	first := time.Date(1997, 1, 20, 6, 0, 0, 0, time.UTC)
	var spent time.Duration
	judged := 0
	for instant := range 20 {
		now := first.AddDate(0, 0, instant*31)
		for len(purchases) > 0 && purchases[0].At.Before(now) {
			clock.Store(purchases[0].At.UnixMilli())
			c.buy(t, store, purchases[0])
			purchases = purchases[1:]
		}
		counts, took := c.judge(t, &s, list, now)
		for i, p := range plans {
			if n := c.count(t, p, list[i], now); n != counts[i] {
				t.Fatalf("%s at %s: the plan counts %d, each alone %d", list[i].rule, now, n, counts[i])
			}
		}
		all = append(all, counts)
		spent, judged = spent+took, judged+len(c.ords)
		t.Logf("%s %d customers: %v", now.Format("2006-01-02"), len(c.ords), counts)
	}
	if len(c.ords) != 23_570 || len(purchases) != 0 {
		t.Fatalf("%d customers, %d purchases left", len(c.ords), len(purchases))
	}
	t.Logf("%d people judged by %d atoms each, %v a person", judged, len(s.program.UserAtoms),
		spent/time.Duration(judged))
	t.Logf("%d bytes a customer for tail and sums",
		store.Stats().Bytes.SlabUsed/int64(len(c.ords)))
	if want, err := os.ReadFile("testdata/cdnow.txt"); err != nil || string(want) != golden(list, all) {
		t.Errorf("testdata/cdnow.txt (%v) is not\n%s", err, golden(list, all))
	}
	if err := store.Check(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// judge compares every audience with a count over what every customer bought
// before now, and returns the sizes and the time spent on bits.
func (c *shop) judge(t *testing.T, s *system, list []audience, now time.Time) (
	counts []int, spent time.Duration,
) {
	t.Helper()
	counts = make([]int, len(list))
	c.group.Lock()
	defer c.group.Unlock()
	for customer, ord := range c.ords {
		who := &Who{
			ID: []byte(customer), Now: storage.UnixMsec(now.UnixMilli()),
			Tail: c.group.Tail(ord), Activity: c.group.Activity(ord),
		}
		begin := time.Now()
		var user [PageWords]uint64
		s.program.EvalUser(who, 0, user[:])
		spent += time.Since(begin)
		p := past{now, c.past[customer]}
		for i := range list {
			want := list[i].holds
			if want == nil {
				want = oneThenThree
			}
			got := s.conds[i].Holds(rowOf(user, nil))
			if got != want(p) {
				t.Fatalf("%s at %s: customer %s: %v; bought %v", list[i].rule, now, customer, got, p.all)
			}
			if got {
				counts[i]++
			}
		}
	}
	return counts, spent
}

// count compares the plan over everybody with the file, customer by customer, and
// returns how many it finds.
func (c *shop) count(t *testing.T, p *Population, a audience, now time.Time) int {
	t.Helper()
	if err := c.group.BuildIndexes(t.Context(), p.Ask()); err != nil {
		t.Fatal(err)
	}
	at := storage.UnixMsec(now.UnixMilli())
	v := c.group.OpenView(p.Ask(), at)
	defer v.Close()
	sure, open := p.Bounds(v, at, nil)
	judge := p.Judge()
	err := v.Read(open.ToArray(), func(o storage.Ord, q *storage.PersonView) {
		if judge.Holds(&Who{ID: q.ID, Now: at, Tail: q.Tail, Activity: q.Activity}) {
			sure.Add(uint32(o))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := a.holds
	if want == nil {
		want = oneThenThree
	}
	for customer, ord := range c.ords {
		if got := sure.Contains(uint32(ord)); got != want(past{now, c.past[customer]}) {
			t.Fatalf("%s at %s: the plan says %v of customer %s", a.rule, now, got, customer)
		}
	}
	return int(sure.GetCardinality())
}

// oneThenThree: one disc, then three or more within 30 days. The tail holds the
// last 64 purchases, at most 90 days old when the last of them came.
func oneThenThree(p past) bool {
	kept := p.all
	if n := len(kept); n > 0 {
		kept = past{p.last(), kept}.within(90)
	}
	kept = kept[max(0, len(kept)-64):]
	for i, a := range kept {
		for _, b := range kept[i+1:] {
			if a.CDs == 1 && b.CDs >= 3 && b.At.Sub(a.At) <= 30*24*time.Hour {
				return true
			}
		}
	}
	return false
}

// buy appends a purchase, of a new customer after the customer.
func (c *shop) buy(t *testing.T, store *storage.Store, p purchase) {
	t.Helper()
	g := c.group
	g.Lock()
	defer g.Unlock()
	at := storage.UnixMsec(p.At.UnixMilli())
	ord, known := c.ords[p.Customer]
	if !known {
		person, next := g.NextPerson()
		id := []byte(p.Customer)
		if _, err := g.Append(&storage.Effect{
			Kind: storage.EffectCreate, Ord: next, Time: at, Create: storage.CreateEffect{
				Workspace: 1, Slot: store.SlotOf(1, id), Person: person, ID: id,
				IDHash: store.IndexHash(1, id), Key: g.NewKey(),
			},
		}); err != nil {
			t.Fatal(err)
		}
		ord = next
		c.ords[p.Customer] = ord
	}
	if _, err := g.Append(&storage.Effect{
		Kind: storage.EffectEvent, Ord: ord, Time: at, Event: storage.EventEffect{
			Event: 1, Occurred: at, Indexed: []storage.AttrValue{
				{ID: 1, Value: val(storage.KindInt, int64(p.CDs))}, {ID: 2, Value: floatValue(p.Amount)},
			},
		},
	}); err != nil {
		t.Fatal(err)
	}
	c.past[p.Customer] = append(c.past[p.Customer], p)
}
