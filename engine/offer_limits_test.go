package engine

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// heapNow is the memory in use after a collection.
func heapNow() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what a finalizer let go
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Ten thousand live offers are published and decided on, all in one placement and
// spread over sixteen: everybody gets the offer that a look at all of them gives.
// The times and the memory are printed, not judged.
func TestTenThousandOffers(t *testing.T) {
	n := trackEffort(10_000, 1_000)
	const ages = 90
	for _, placements := range []int{1, 16} {
		var text strings.Builder
		text.WriteString("{kind: attribute, id: age, type: int}\n---\n{kind: tag, id: vip}\n")
		for p := range placements {
			fmt.Fprintf(&text, "---\n{kind: placement, id: p%d, channel: web, policy: p%d}\n"+
				"---\n{kind: decision_policy, id: p%d, candidates: {offers: {groups: [g%d]}}, "+
				"ranking: {by: product}}\n", p, p, p, p)
		}
		for i := range n {
			rule := fmt.Sprintf("{attribute: age, is: %d}", i%ages)
			if i%7 == 0 {
				rule = fmt.Sprintf("{all: [{attribute: age, is: %d}, {tag: vip}]}", i%ages)
			}
			fmt.Fprintf(&text, "---\n{kind: offer, id: o%d, message_class: marketing, group: g%d, value: %d, "+
				"eligibility: %s, treatments: [{id: t, channel: web, placements: [p%d], "+
				"content: {type: text, body: a}}]}\n", i, i%placements, 1+i, rule, i%placements)
		}
		b := newBed(t, "")
		before, began := heapNow(), time.Now()
		b.publish(text.String())
		t.Logf("%d offers in %d placements (%d bytes) were published in %v, %d KiB of memory", n,
			placements, text.Len(), time.Since(began), (heapNow()-before)>>10)
		b.ages(2 * ages)
		for i := range ages {
			b.user(UserDoc{
				UserID: fmt.Appendf(nil, "u%d", ages+i), Tags: []TagDoc{{Name: []byte("vip")}},
				Attributes: []NamedValue{
					{[]byte("age"), RawValue{Kind: RawNumber, Text: fmt.Append(nil, i)}},
				},
			})
		}
		began = time.Now()
		for i := range 2 * ages {
			user, p := fmt.Sprintf("u%d", i), i%placements
			view, err := b.e.User([]byte(user))
			if err != nil || len(view.Attributes) != 1 {
				t.Fatal(user, err)
			}
			age := int(view.Attributes[0].Value.Num)
			want := "none: ineligible"
			for o := n - 1; o >= 0; o-- { // the last that fits has the greatest value
				if o%placements == p && o%ages == age && (o%7 != 0 || i >= ages) {
					want = fmt.Sprintf("o%d", o)
					break
				}
			}
			b.want(b.decideReq(user, fmt.Sprintf("p%d", p)), want)
		}
		t.Logf("%d people were decided on and checked in %v", 2*ages, time.Since(began))
	}
}
