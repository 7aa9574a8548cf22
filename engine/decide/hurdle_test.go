package decide

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tact/storage"
)

// No candidate gets further than its hurdles say.
func TestHurdlesBoundReach(t *testing.T) {
	told, exact := 0, 0
	seeds(t, 60, func(seed uint64) {
		r := rand.New(rand.NewPCG(seed, 11))
		w := newWorld(t)
		now := storage.UnixMsec(startMs)
		if faults := w.publish(crowdedPlacement(r, 40+r.IntN(40)), now); faults != "" {
			t.Fatal(faults)
		}
		for k := range 8 {
			id := fmt.Sprint("u", k)
			w.patch(w.create(id, now), now, randomPatch(w, r))
			near, same := checkHurdles(t, w, id, now)
			told, exact = told+near, exact+same
		}
	})
	if told == 0 || exact <= told/2 {
		t.Errorf("hurdles told of %d candidates, exactly of %d", told, exact)
	}
}

// checkHurdles compares them with the rules for one person: it returns of how many
// candidates they told something, and of how many all.
func checkHurdles(t *testing.T, w *world, id string, now storage.UnixMsec) (told, exact int) {
	t.Helper()
	w.group.Lock()
	defer w.group.Unlock()
	who, at := w.person(id, now), moment(now)
	req := &Request{Words: make([]uint64, w.plan.Program.RequestWords)}
	r := run{p: w.plan, req: req, who: &who, at: &at, over: &Overlay{}, out: &w.out}
	if !r.prepare(^uint32(0)) {
		t.Fatal("not to be judged")
	}
	for i := range w.plan.slabs {
		s := &w.plan.slabs[i]
		if s.index == nil {
			continue
		}
		for c := range s.index.hurdles {
			bound, reach := r.within(&s.index.hurdles[c]), r.reach(s, c)
			if bound < reach {
				t.Fatalf("%s: candidate %d reaches %d, its hurdles say %d", id, c, reach, bound)
			}
			if bound < depthTimed {
				told++
				if bound == reach {
					exact++
				}
			}
		}
	}
	return told, exact
}

// BenchmarkReason finds why one person gets none of 600 offers, each of which the
// index has found.
func BenchmarkReason(b *testing.B) {
	var text strings.Builder
	text.WriteString("kind: workspace\nid: default\ntimezone: UTC\n" +
		"---\nkind: placement\nid: p\nchannel: web\npolicy: p\n" +
		"---\nkind: decision_policy\nid: p\ncandidates: {offers: all}\nranking: {by: product}\n")
	tags := &storage.Patch{}
	w := newWorld(b)
	for i := range 20 {
		fmt.Fprintf(&text, "---\nkind: attribute\nid: a%d\ntype: int\n---\nkind: tag\nid: t%d\n", i, i)
		tags.TagsAdd = append(tags.TagsAdd, storage.TagValue{
			ID: w.name(storage.DictTag, fmt.Sprint("t", i)),
		})
	}
	for i := range 600 {
		fmt.Fprintf(&text, "---\nkind: offer\nid: o%d\nmessage_class: marketing\nvalue: 1\n"+
			"eligibility: {tag: t%d}\nsuitability: {attribute: a%d, gte: %d}\n"+
			"treatments: [{id: t, channel: web, content: {type: text, body: x}}]\n",
			i, i%20, i%20, i/20)
	}
	now := storage.UnixMsec(startMs)
	if faults := w.publish(text.String(), now); faults != "" {
		b.Fatal(faults)
	}
	w.patch(w.create("u", now), now, tags)
	req := &Request{
		Slots: []SlotRequest{{Policy: -1}},
		Words: make([]uint64, w.plan.Program.RequestWords),
	}
	w.group.Lock()
	defer w.group.Unlock()
	who, at := w.person("u", now), moment(now)
	b.ReportAllocs()
	for b.Loop() {
		w.plan.Pick(req, &who, &at, nil, &w.out)
	}
	if got := w.out.Slots[0].Reason; got != NotSuitable {
		b.Fatal(got)
	}
}

// Classes of what refuses stay few, however many rules say safety: true, of whatever
// stage what comes behind them is.
func TestClassesAreBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("kind: workspace\nid: default\ntimezone: UTC\n---\n" +
		"kind: placement\nid: p\nchannel: web\npolicy: p\n---\nkind: decision_policy\nid: p\n" +
		"candidates: {offers: all}\nranking: {by: product}\n---\nkind: tag\nid: t\n")
	offer := func(id string, value int, rest string) {
		fmt.Fprintf(&text, "---\nkind: offer\nid: %s\nmessage_class: marketing\nvalue: %d\n%s\n"+
			"treatments: [{id: t, channel: web, content: {type: text, body: x}}]\n", id, value, rest)
	}
	safe := func(stage string, k int) string {
		return fmt.Sprintf("%s: {safety: true, all: [{attribute: a%d, is: 1}]}", stage, k)
	}
	for i := range maxClasses + 5 {
		fmt.Fprintf(&text, "---\nkind: attribute\nid: a%d\ntype: int\n", i)
		offer(fmt.Sprintf("s%d", i), 9, safe("eligibility", i))
	}
	for i := range 300 {
		stage := [...]string{"applicability", "suitability"}[i%2]
		offer(fmt.Sprintf("o%d", i), 2, stage+": {tag: t}")
		offer(fmt.Sprintf("q%d", i), 1, safe(stage, i%maxClasses))
	}
	w := newWorld(t)
	if faults := w.publish(text.String(), storage.UnixMsec(startMs)); faults != "" {
		t.Fatal(faults)
	}
	if n := len(w.plan.slabs[0].index.classes); n < maxClasses || n > maxClasses+6 {
		t.Errorf("%d classes, want %d and two a stage at most", n, maxClasses)
	}
}
