package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"tact/storage"
)

// moneyWorld is three offers that cost 20, 7 and nothing, under budgets in money:
// one that impressions spend, one that the values of accepts do.
const moneyWorld = `
kind: workspace
id: default
timezone: Asia/Shanghai
currency: CNY
---
{kind: offer, id: dear, group: g, message_class: marketing, value: 3, cost: "20.00",
 treatments: [{id: t, channel: web, content: {type: text, body: a}}]}
---
{kind: offer, id: cheap, group: g, message_class: marketing, value: 2, cost: 7,
 treatments: [{id: t, channel: web, content: {type: text, body: b}}]}
---
{kind: offer, id: free, group: g, message_class: marketing, value: 1, cost: 0,
 treatments: [{id: t, channel: web, content: {type: text, body: c}}]}
---
{kind: placement, id: spot, channel: web, policy: p}
---
{kind: decision_policy, id: p, candidates: {offers: {groups: [g]}}, ranking: {by: product}}
---
{kind: cap, id: shown, scope: total, per: all, count_on: impression,
 window: {calendar: day}, limit: {amount: "50.00", currency: CNY}}
---
{kind: cap, id: sold, scope: total, per: offer, count_on: accept, spends: value,
 window: lifetime, limit: {amount: "30.00", currency: CNY}}
`

// value reports an outcome with a value.
func (b *bed) value(token []byte, name, eventID string, value float64) LineResult {
	b.t.Helper()
	doc := OutcomeDoc{
		Token: bytes.Clone(token), Outcome: []byte(name), EventID: []byte(eventID), BodyHash: 1,
		Value: value, HasValue: true,
	}
	return b.apply(func(x *Batch) LineResult { return x.Outcome(&doc) })
}

func (b *bed) totalsAre(want ...TotalView) {
	b.t.Helper()
	got := b.e.Totals()
	if len(got) != len(want) {
		b.t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			b.t.Fatalf("%+v, want %+v", got[i], want[i])
		}
	}
}

// A budget in money gives what fits: where the dear offer does not, the cheap one
// may. What is held comes back, what is shown stays, also over a restart.
func TestBudgetOfImpressions(t *testing.T) {
	b := newBed(t, moneyWorld)
	var tokens [][]byte
	give := func(user, want string) {
		t.Helper()
		b.want(b.decideReq(user, "spot"), want)
		tokens = append(tokens, bytes.Clone(b.out.Items[0].Token))
	}
	shown := func(spent, held int64) {
		t.Helper()
		b.totalsAre(TotalView{
			CapID: "shown", Currency: "CNY", Spent: spent, Held: held, Limit: 5000, Planned: 5000,
		})
	}
	give("u0", "dear")
	give("u1", "dear")
	give("u2", "cheap") // 47
	give("u3", "free")
	shown(0, 4700)
	if r := b.outcome(tokens[0], "impression", "i"); r.Err != nil {
		t.Fatal(r.Err)
	}
	shown(2000, 2700)
	b.reopen()
	shown(2000, 2700)
	give("u4", "free")
	b.m.pass(41 * time.Minute)
	b.e.tick()
	shown(2000, 0)
	if r := b.outcome(tokens[2], "impression", "i"); r.Flags&FlagLate == 0 {
		t.Fatalf("%+v", r)
	}
	shown(2700, 0) // a fact
	give("u5", "dear")
	give("u6", "free") // 47 of 50
	until := b.out.Capped[0].Until
	if len(b.out.Capped) != 2 || b.out.Capped[0].CapID != "shown" || until%86400 != 16*3600 {
		t.Fatalf("%+v", b.out.Capped)
	}
	b.m.pass(24 * time.Hour)
	b.e.tick()
	give("u7", "dear") // another day
}

// A budget that spends values takes what the accept reports, the offer's cost when
// it reports nothing, and refuses what does not fit.
func TestBudgetOfValues(t *testing.T) {
	b := newBed(t, moneyWorld)
	n := 0
	accept := func(user string, value float64, code string) {
		t.Helper()
		n++
		b.m.pass(20 * time.Minute)
		b.e.tick()
		b.want(b.decideReq(user, "spot"), "dear")
		token, id := bytes.Clone(b.out.Items[0].Token), fmt.Sprint("a", n)
		r := b.value(token, "accept", id, value)
		if value == 0 {
			r = b.outcome(token, "accept", id+"x")
		}
		var p *Problem
		if errors.As(r.Err, &p) != (code != "") || p != nil && p.Code != code {
			t.Fatalf("accept of %v: %+v", value, r)
		}
	}
	accept("u0", 9.99, "")
	accept("u0", -1, "out_of_range")
	b.reopen()
	accept("u1", 20.02, "capped_total")
	accept("u1", 0, "") // an explicit 0 costs nothing; then the cost of the offer, 20.00
	b.totalsAre(TotalView{
		CapID: "shown", Currency: "CNY", Held: 2000, Limit: 5000, Planned: 5000,
	}, TotalView{
		CapID: "sold", Of: "dear", Currency: "CNY", Spent: 2999, Limit: 3000, Planned: 3000,
	})
	b.want(b.decideReq("u2", "spot"), "cheap") // 20 more of dear would not fit
	v, err := b.e.ContactState([]byte("u2"), []byte("dear"))
	if err != nil || v.Caps[1].CapID != "sold" || v.Caps[1].Reason != "capped_total" ||
		v.Caps[1].Currency != "CNY" {
		t.Fatalf("%+v, %v", v, err)
	}
	v, err = b.e.ContactState([]byte("u2"), []byte("cheap"))
	if err != nil || v.Caps[1].CapID != "sold" || v.Caps[1].Reason != "" {
		t.Fatalf("%+v, %v", v, err)
	}
}

// moneyModel is what budgets may have given, as plain sums.
type moneyModel struct {
	shown    []spentAt
	sold     map[string]int64
	accepted map[string]bool // by what a decision reserved, else by its item
}

type spentAt struct {
	at   int64 // ms
	cost int64
}

// Random decisions, impressions, accepts, clocks and starts: the impressions of a
// day never cost more than its budget, and the first accept of an item is refused
// exactly when its value does not fit; a further one counts nothing.
func TestBudgetsEqualPlainSums(t *testing.T) {
	cost := map[string]int64{"dear": 2000, "cheap": 700}
	type item struct {
		offer   string
		token   []byte
		expires int64
		done    bool
		key     string
	}
	f := func(seed uint64) {
		b := newBed(t, moneyWorld)
		r := rand.New(rand.NewPCG(seed, 4))
		m := moneyModel{sold: map[string]int64{}, accepted: map[string]bool{}}
		var items []*item
		for step := range 150 {
			now := int64(b.e.Now())
			switch r.IntN(9) {
			case 0, 1, 2:
				if got := b.ask(b.decideReq(fmt.Sprint("u", r.IntN(40)), "spot")); got != "" {
					it := &b.out.Items[0]
					key := string(it.Token)
					if it.Reservation.Number != 0 { // a reload shares it
						key = fmt.Sprint(it.Reservation)
					}
					items = append(items, &item{
						offer: got, token: bytes.Clone(it.Token), expires: int64(it.ExpiresAt), key: key,
					})
				}
			case 3, 4:
				if len(items) == 0 {
					continue
				}
				it := items[len(items)-1-r.IntN(min(len(items), 5))]
				res := b.outcome(it.token, "impression", "i")
				if res.Err != nil {
					t.Fatal(res.Err)
				}
				if !it.done && res.Flags&FlagLate == 0 && cost[it.offer] > 0 {
					m.shown = append(m.shown, spentAt{now, cost[it.offer]})
				}
				it.done = true
			case 5, 6:
				if len(items) == 0 {
					continue
				}
				it := items[r.IntN(len(items))]
				minor := r.Int64N(900)
				res := b.value(it.token, "accept", fmt.Sprint("a", step), float64(minor)/100)
				again := m.accepted[it.key]
				fits := again || m.sold[it.offer]+minor <= 3000
				if (res.Err == nil) != fits || again != (res.Flags&FlagRepeat != 0) {
					t.Fatalf("seed %d: %d more of %s, sold %d, accepted %v: %+v", seed, minor, it.offer,
						m.sold[it.offer], again, res)
				}
				if fits && !again {
					m.sold[it.offer] += minor
					m.accepted[it.key] = true
				}
			case 7:
				b.m.pass(time.Duration(r.IntN(400)) * time.Minute)
				b.e.tick()
			case 8:
				b.reopen()
			}
			days := map[storage.UnixMsec]int64{}
			for _, s := range m.shown {
				day := storage.UnixMsec(s.at+8*3600_000) / 86_400_000
				if days[day] += s.cost; days[day] > 5000 {
					t.Fatalf("seed %d: %d spent in a day", seed, days[day])
				}
			}
		}
		if len(m.shown) == 0 || m.sold["dear"] == 0 {
			t.Errorf("seed %d: nothing happened", seed)
		}
		if err := b.e.CheckStore(); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(12) {
		f(seed)
	}
}
