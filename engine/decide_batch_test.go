package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// story tells an answer without what differs from decision to decision.
func story(d *Decision, err error) string {
	if err != nil {
		return err.Error()
	}
	var s bytes.Buffer
	fmt.Fprintf(&s, "%s %d", d.UserID, d.Revision)
	for _, slot := range d.Slots {
		fmt.Fprintf(&s, " %s n=%d fallback=%v %s", slot.Key, slot.Count, slot.Fallback, slot.Reason)
	}
	for _, it := range d.Items {
		fmt.Fprintf(&s, " [%s %s %v %s reserved=%v until %d]", it.OfferID, it.TreatmentID, it.Score,
			it.Content, it.Reserved, it.ExpiresAt)
	}
	fmt.Fprintf(&s, " %v %v %v", d.Capped, d.Assignments, d.Degraded)
	return s.String()
}

// TestBatchDecidesAsDecide: a batch gives everybody, twice named and unknown
// people among them, what single calls in the same order give, live and dry, in
// two stores that saw the same.
func TestBatchDecidesAsDecide(t *testing.T) {
	for _, mode := range []Mode{ModeLive, ModeDryRun} {
		single, batched := newBed(t, testDefinitions), newBed(t, testDefinitions)
		for _, b := range []*bed{single, batched} {
			b.fill(150)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		var ids [][]byte
		for range 400 {
			ids = append(ids, fmt.Appendf(nil, "u%d", rng.IntN(200)))
		}
		ids = append(ids, []byte("bad\x01id"))
		template := single.decideReq("", "hero")
		template.UserID, template.Mode = nil, mode
		template.Context = []NamedValue{{[]byte("page"), text("home")}}
		var want []string
		for i, id := range ids {
			req := *template
			req.UserID, req.BodyHash = id, 1
			if mode == ModeLive {
				req.RequestID = fmt.Appendf(nil, "b%d/%s", i/200, id)
			}
			err := single.e.Decide(&req, &single.out)
			want = append(want, story(&single.out, err))
		}
		template.BodyHash = 1
		at := 0
		for at < len(ids) {
			b, err := batched.e.BeginDecisions(template, fmt.Appendf(nil, "b%d", at/200))
			if err != nil {
				t.Fatal(err)
			}
			end := min(at+200, len(ids))
			base := at
			for at < end {
				n := min(end-at, b.Block())
				err = b.Decide(ids[at:at+n], func(i int, d *Decision, err error) bool {
					if got := story(d, err); got != want[at+i] {
						t.Errorf("mode %d, %d %s:\nbatch  %s\nsingle %s", mode, at+i, ids[at+i], got,
							want[at+i])
					}
					return !t.Failed()
				})
				if err != nil || t.Failed() {
					t.Fatal(base, err)
				}
				at += n
			}
		}
	}
}

// A batch sent again repeats what it decided; another body is refused.
func TestBatchRepeats(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(20)
	var ids [][]byte
	for i := range 20 {
		ids = append(ids, fmt.Appendf(nil, "u%d", i))
	}
	run := func(prefix string, body uint32) (out []string, repeated int) {
		req := b.decideReq("", "hero")
		req.UserID, req.BodyHash = nil, body
		batch, err := b.e.BeginDecisions(req, []byte(prefix))
		if err != nil {
			t.Fatal(err)
		}
		if err := batch.Decide(ids, func(_ int, d *Decision, err error) bool {
			if err != nil {
				out = append(out, err.Error())
				return true
			}
			if d.Replayed {
				repeated++
			}
			out = append(out, fmt.Sprintf("%x %s", d.ID, story(d, nil)))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return out, repeated
	}
	first, n := run("p", 1)
	if n != 0 {
		t.Fatalf("%d repeated at first", n)
	}
	again, n := run("p", 1)
	if n == 0 || fmt.Sprint(again) != fmt.Sprint(first) {
		t.Fatalf("%d repeated:\n%v\nfirst\n%v", n, again, first)
	}
	other, _ := run("p", 2)
	if got := other[2]; got != `id_reused (request_id): the same request_id was sent before with`+
		` another body` {
		t.Errorf("another body: %s", got)
	}
	if next, n := run("q", 1); n != 0 || fmt.Sprint(next) == fmt.Sprint(first) {
		t.Errorf("another batch: %d repeated", n)
	}
	_, err := b.e.BeginDecisions(b.decideReq("", "hero"), nil)
	if p, ok := err.(*Problem); !ok || p.Field != "request_id" {
		t.Errorf("a live batch without a request id: %v", err)
	}
}

// A disk that is late makes the batch decide again without caps, as Decide does.
func TestBatchOnALateDisk(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(10)
	req := b.decideReq("", "hero")
	req.UserID, req.Timeout = nil, time.Nanosecond
	batch, err := b.e.BeginDecisions(req, []byte("p"))
	if err != nil {
		t.Fatal(err)
	}
	b.lateDisk(func() {
		err = batch.Decide([][]byte{[]byte("u2"), []byte("u4")}, func(_ int, d *Decision, err error) bool {
			if err != nil || len(d.Items) != 1 || d.Items[0].OfferID != "story" ||
				len(d.Degraded) != 1 || d.Degraded[0] != "deadline" {
				t.Errorf("%s", story(d, err))
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A publish in the middle of a batch: the people behind it are decided by it.
func TestBatchFollowsAPublish(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(10)
	req := b.decideReq("", "hero")
	req.UserID, req.Mode = nil, ModeDryRun
	batch, err := b.e.BeginDecisions(req, nil)
	if err != nil {
		t.Fatal(err)
	}
	var revisions []uint32
	next := func(id string) error {
		return batch.Decide([][]byte{[]byte(id)}, func(_ int, d *Decision, _ error) bool {
			revisions = append(revisions, d.Revision)
			return true
		})
	}
	if err := next("u1"); err != nil {
		t.Fatal(err)
	}
	b.publish(testDefinitions + "\n")
	if err := next("u2"); err != nil || revisions[0]+1 != revisions[1] {
		t.Fatalf("revisions %v: %v", revisions, err)
	}
}

// Nothing is allocated for a dry decision of a batch.
func TestBatchAllocatesNothing(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(50)
	req := b.decideReq("", "hero")
	req.UserID, req.Mode = nil, ModeDryRun
	batch, err := b.e.BeginDecisions(req, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids [][]byte
	for i := range 50 {
		ids = append(ids, fmt.Appendf(nil, "u%d", i))
	}
	give := func(int, *Decision, error) bool { return true }
	run := func() { _ = batch.Decide(ids, give) }
	run()
	if n := testing.AllocsPerRun(10, run); n > 0 {
		t.Errorf("%v allocations for 50 people", n)
	}
}

// BenchmarkBatch: decisions of a batch in process, per person; cold: over 200,000
// people. Compare BenchmarkDecide.
func BenchmarkBatch(b *testing.B) {
	e := benchBed(b, 200_000, 1000)
	all := make([][]byte, 200_000)
	for i := range all {
		all[i] = fmt.Appendf(nil, "user-%d", i)
	}
	give := func(int, *Decision, error) bool { return true }
	begin := func(b *testing.B, mode Mode, prefix int) *DecisionBatch {
		batch, err := e.BeginDecisions(&DecideRequest{
			Mode: mode, BodyHash: 1,
			Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte("p3")}},
		}, fmt.Append(nil, prefix))
		if err != nil {
			b.Fatal(err)
		}
		return batch
	}
	warm := begin(b, ModeDryRun, 0)
	n := warm.Block()
	for at := 0; at+n <= len(all); at += n { // everybody's conditions are known then
		_ = warm.Decide(all[at:at+n], give)
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	passes := 0
	f := func(name string, mode Mode) {
		b.Run(name, func(b *testing.B) {
			batch, at := begin(b, mode, passes), 0
			b.ReportAllocs()
			for b.Loop() {
				if at+n > len(all) { // another batch: nobody's decision is repeated
					passes++
					batch, at = begin(b, mode, passes), 0
				}
				_ = batch.Decide(all[at:at+n], give)
				at += n
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/person")
			passes++
		})
	}
	f("dry", ModeDryRun)
	f("live", ModeLive)
}

// Bulk questions and batches while people decide, change and definitions are
// published: nobody is named twice, and every cap holds as for single calls.
func TestBulkWhileEverythingGoesOn(t *testing.T) {
	b := newBed(t, testDefinitions)
	b.fill(400)
	done := make(chan struct{})
	var all, changes sync.WaitGroup
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			batch := b.e.Begin()
			batch.User(&UserDoc{UserID: fmt.Appendf(nil, "u%d", i%500), Attributes: []NamedValue{
				{[]byte("age"), RawValue{Kind: RawNumber, Text: fmt.Append(nil, i%90)}},
			}})
			_ = batch.Commit(time.Second)
			if i%20 == 19 {
				_, _, _, _ = b.e.Publish(testFiles(testDefinitions+strings.Repeat("\n", i%3)), "t", "", 0)
			}
		}
	})
	given := make([]map[string]int, 3)
	for w := range given {
		given[w] = map[string]int{}
		all.Go(func() {
			for round := range 5 {
				a, err := b.e.Audience(context.Background(), &AudienceQuery{
					Offer: []byte("points"), Gates: GatesAll,
				})
				if err != nil {
					t.Error(err)
					return
				}
				a.Done()
				seen := map[string]bool{}
				var ids [][]byte
				_ = b.e.EachPerson(a.People, PeoplePos{}, func(_ PeoplePos, id []byte) bool {
					if seen[string(id)] {
						t.Errorf("%s is named twice", id)
					}
					seen[string(id)] = true
					ids = append(ids, bytes.Clone(id))
					return len(ids) < batchBlock
				})
				req := b.decideReq("", "hero")
				req.UserID, req.BodyHash = nil, 1
				batch, err := b.e.BeginDecisions(req, fmt.Appendf(nil, "w%d.%d", w, round))
				if err != nil {
					t.Error(err)
					return
				}
				if err := batch.Decide(ids, func(i int, d *Decision, err error) bool {
					if err == nil && len(d.Items) > 0 && d.Items[0].Reserved {
						given[w][d.Items[0].OfferID+" "+string(ids[i])]++
					}
					return true
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	close(done)
	changes.Wait()
	total := map[string]int{}
	for _, m := range given {
		for k, n := range m {
			total[k] += n
		}
	}
	for k, n := range total {
		if n > 1 { // once an hour
			t.Errorf("%s was given %d times", k, n)
		}
	}
	if len(total) == 0 {
		t.Error("nothing was given")
	}
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
}
