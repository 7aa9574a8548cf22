package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Ten thousand segments are published, listed page by page and counted; 256 of
// them are tracked, one more is a fault. The times and the memory are printed, not
// judged.
func TestTenThousandSegments(t *testing.T) {
	n := max(trackEffort(10_000, 2_000), 300) // more than may be tracked
	document := func(tracked int) string {
		var b strings.Builder
		b.WriteString("{kind: attribute, id: age, type: int}\n---\n{kind: event, id: order}\n")
		for i := range n {
			rule := fmt.Sprintf("{all: [{attribute: age, gte: %d}, {not: {event: order, within: %dh}}]}",
				i%90, 1+i%700)
			fmt.Fprintf(&b, "---\n{kind: segment, id: s%05d, track: %t, rule: %s}\n", i, i < tracked, rule)
		}
		return b.String()
	}
	b := newBed(t, "")
	before, began := heapNow(), time.Now()
	b.publish(document(256))
	t.Logf("%d segments, 256 of them tracked, were published in %v, %d KiB of memory", n,
		time.Since(began), (heapNow()-before)>>10)
	b.ages(100)
	b.settle()
	seen, after := 0, ""
	began = time.Now()
	for {
		list, more := b.e.Segments(after, 1000)
		for i := range list {
			if v := &list[i]; v.Tracked && (!v.Counted || v.Judged != v.People) {
				t.Fatalf("%+v", v)
			}
		}
		seen += len(list)
		if !more {
			break
		}
		after = list[len(list)-1].ID
	}
	t.Logf("they were listed in %v", time.Since(began))
	if seen != n {
		t.Fatalf("%d listed, want %d", seen, n)
	}
	p, err := b.e.People(context.Background(), &PeopleQuery{Segment: "s00010"})
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.e.Segment("s00010")
	if err != nil || v.Count != p.Count() || v.Count != 90 {
		t.Fatalf("%+v, %d people, %v", v, p.Count(), err)
	}
	faults, _ := CheckFiles(testFiles(document(257)))
	if len(faults) != 1 || faults[0].Field != "track" ||
		!strings.Contains(faults[0].Message, "at most 256") {
		t.Fatal(faults)
	}
}

// BenchmarkEventFlipsTracked is an event that moves a person into a tracked
// segment, with the calendar's entry for the way out; beside it an event that no
// tracked segment looks at, and one where nothing is tracked.
func BenchmarkEventFlipsTracked(b *testing.B) {
	f := func(name, track, event string) {
		b.Run(name, func(b *testing.B) {
			t := &testing.T{}
			bed := &bed{t: t, dir: b.TempDir(), m: &machine{wall: 1_790_000_000_000, mono: 1}}
			bed.open()
			defer bed.e.Close()
			bed.publish(fmt.Sprintf(`
{kind: event, id: order}
---
{kind: event, id: visit}
---
{kind: segment, id: s, track: %s, rule: {event: order, count: {gte: 1}, within: 1h}}
`, track))
			bed.settle()
			batch := bed.e.Begin()
			var id, key []byte
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				id = fmt.Appendf(id[:0], "u%d", i)
				key = fmt.Appendf(key[:0], "e%d", i)
				i++
				r := batch.Event(&EventDoc{
					UserID: id, EventID: key, Event: []byte(event), BodyHash: 1,
				})
				if r.Err != nil {
					b.Fatal(r.Err)
				}
			}
		})
	}
	f("flips", "true", "order")
	f("others", "true", "visit")
	f("untracked", "false", "order")
}

// BenchmarkBackfill is the publish of a tracked segment until everybody has been
// judged by it.
func BenchmarkBackfill(b *testing.B) {
	const people = 100_000
	t := &testing.T{}
	bed := &bed{t: t, dir: b.TempDir(), m: &machine{wall: 1_790_000_000_000, mono: 1}}
	bed.open()
	defer bed.e.Close()
	bed.publish(fillDefinitions)
	bed.ages(people)
	on := false
	for b.Loop() {
		on = !on
		text := strings.Replace(fillDefinitions, "id: young, rule",
			fmt.Sprintf("id: young, track: %t, rule", on), 1)
		bed.publish(text)
		bed.e.trackPass(context.Background())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/people, "ns/person")
}
