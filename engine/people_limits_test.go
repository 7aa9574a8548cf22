package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Ten thousand segments that nothing live uses cost a decision nothing: the
// conditions judged for a person stay those of the live offers, and each segment
// can be asked for.
func TestSegmentsNothingLiveUses(t *testing.T) {
	b := newBed(t, testDefinitions)
	before := b.e.snap.Load().Plan.Program
	var all strings.Builder
	all.WriteString(testDefinitions)
	for i := range 10_000 {
		fmt.Fprintf(&all, "---\nkind: segment\nid: s%d\nrule: {attribute: age, is: %d}\n", i, i)
	}
	start := time.Now()
	b.publish(all.String())
	t.Logf("published 10,000 segments in %v", time.Since(start).Round(time.Millisecond))
	after := b.e.snap.Load().Plan.Program
	if after.Rev != before.Rev || len(after.UserAtoms) != len(before.UserAtoms) {
		t.Fatalf("%d conditions of revision %d, want %d of %d", len(after.UserAtoms), after.Rev,
			len(before.UserAtoms), before.Rev)
	}
	b.fill(40)
	for _, n := range []int{0, 7, 39} {
		p := b.people(PeopleQuery{Segment: fmt.Sprintf("s%d", n)})
		if ids := b.idsOf(p); len(ids) != 1 || ids[0] != fmt.Sprintf("u%d", n) {
			t.Fatalf("segment s%d holds %v", n, ids)
		}
	}
	if n := b.people(PeopleQuery{Segment: "s9999"}).Count(); n != 0 {
		t.Fatalf("%d people of 9,999 years", n)
	}
}
