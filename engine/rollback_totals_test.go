package engine

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage"
	"tact/storage/lossy"
)

// A store that is put back as it was earlier does not know what was used of totals and
// budgets since. Under protect none of them gives anything, at the decision or at the
// accept, until a window that began later is in force; under trust what was used is given
// again, which shows that the test is not empty. It holds over a further start.
func TestOlderCopyProtectsTotals(t *testing.T) {
	f := func(what, shape string, accepts bool, free time.Duration) {
		t.Helper()
		for _, policy := range []storage.CapsPolicy{storage.CapsProtect, storage.CapsTrust} {
			fs := lossy.New()
			b := &bed{t: t, dir: "store", fs: fs, m: &machine{wall: 1_790_000_000_000, mono: 1}}
			b.open()
			b.publish(pricedWorld + shape)
			b.user(UserDoc{UserID: []byte("ann")})
			b.reopen() // all of it is durable
			copied := fs.CrashClone(vfs.CrashCloneCfg{})
			give := func(user, id string) (given bool) {
				t.Helper()
				b.ask(b.decideReq(user, "spot"))
				if len(b.out.Items) == 0 {
					return false
				}
				on := "impression"
				if accepts {
					on = "accept"
				}
				r := b.outcome(bytes.Clone(b.out.Items[0].Token), on, id)
				if p, ok := r.Err.(*Problem); ok && accepts && p.Code == "capped_total" {
					return false
				}
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				return true
			}
			b.m.pass(time.Minute)
			for i := range 2 { // all there is, which the copy does not know
				if !give(fmt.Sprint("u", i), "1") {
					t.Fatalf("%s: use %d is not given: %v", what, i, b.out.Slots)
				}
				b.m.pass(3 * time.Minute)
			}
			if give("u9", "1") {
				t.Fatalf("%s: a third use is given", what)
			}
			if err := b.e.Close(); err != nil {
				t.Fatal(err)
			}
			b.fs = copied
			mark := storage.OlderCopy{Caps: policy, Newest: b.e.Now()}
			if err := storage.MarkOlderCopy("store", mark, storage.Options{FS: copied}); err != nil {
				t.Fatal(err)
			}
			b.open()
			trusted := policy == storage.CapsTrust
			if got := give("v1", "1"); got != trusted {
				t.Errorf("%s, %s: given %v", what, policy, got)
			}
			b.reopen()
			b.m.pass(5 * time.Minute)
			if got := give("v2", "1"); got != trusted {
				t.Errorf("%s, %s, after a further start: given %v", what, policy, got)
			}
			if free > 0 {
				b.m.pass(free)
				b.e.tick()
				if !give("v3", "1") {
					t.Errorf("%s, %s: nothing is given later: %+v", what, policy, b.out.Slots)
				}
			}
			if err := b.e.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	const (
		seen  = "count_on: impression\n"
		stock = "count_on: accept\n"
		money = "limit: {amount: \"5.00\", currency: CNY}\nspends: cost\n"
		day   = "window: {calendar: day, zone: UTC}\n"
	)
	f("lifetime", seen+"window: lifetime\nlimit: 2\n", false, 0)
	f("day", seen+day+"limit: 2\n", false, 49*time.Hour) // a send may be held for a day
	f("rolling", seen+"window: {rolling: 6h}\nlimit: 2\n", false, 31*time.Hour)
	f("stock", stock+"window: lifetime\nlimit: 2\n", true, 0)
	f("stock of the day", stock+day+"limit: 2\n", true, 25*time.Hour)
	f("stock that is held", stock+"hold: 15m\n"+day+"limit: 2\n", true, 26*time.Hour)
	f("budget", seen+"window: lifetime\n"+money, false, 0)
	f("budget of the day", stock+day+money, true, 25*time.Hour)
}

// pricedWorld is capWorld with an offer that costs something, under a total.
const pricedWorld = `
kind: workspace
id: default
timezone: UTC
---
kind: offer
id: a
group: g
message_class: marketing
cost: {amount: "2.50", currency: CNY}
treatments: [{id: t, channel: web, content: {type: text, body: a}}]
---
kind: placement
sticky: none
id: spot
channel: web
policy: p
---
kind: decision_policy
id: p
candidates: {offers: {groups: [g]}}
---
kind: cap
id: c
scope: total
per: offer
`
