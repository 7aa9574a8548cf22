package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

const fillDefinitions = `
{kind: attribute, id: age, type: int}
---
{kind: segment, id: target, members: static, track: true}
---
{kind: segment, id: other, members: static}
---
{kind: segment, id: young, rule: {attribute: age, lt: 6}}
---
{kind: segment, id: even, rule: {attribute: age, in: [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]}}
`

// members lists a segment's members, sorted.
func (b *bed) members(segment string) string {
	b.t.Helper()
	ids := b.idsOf(b.people(PeopleQuery{Segment: segment}))
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func (b *bed) fillOf(segment string, mode FillMode, ids ...string) FillResult {
	b.t.Helper()
	f, err := b.e.BeginFill(segment)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, id := range ids {
		if err := f.Add([]byte(id)); err != nil {
			b.t.Fatal(err)
		}
	}
	out, err := f.Commit(mode, 5*time.Second)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bed) ages(n int) {
	b.t.Helper()
	b.apply(func(x *Batch) LineResult {
		for i := range n {
			doc := UserDoc{UserID: fmt.Appendf(nil, "u%d", i), BodyHash: 1, Attributes: []NamedValue{
				{[]byte("age"), RawValue{Kind: RawNumber, Text: fmt.Append(nil, i)}},
			}}
			if r := x.User(&doc); r.Err != nil {
				b.t.Fatal(r.Err)
			}
		}
		return LineResult{}
	})
}

// A fill replaces, adds and removes; done twice it changes nothing the second
// time; an id that nobody has is named, and it survives a start.
func TestFill(t *testing.T) {
	b := newBed(t, fillDefinitions)
	b.ages(20)
	f := func(mode FillMode, want string, added, removed uint64, ids ...string) {
		t.Helper()
		out := b.fillOf("target", mode, ids...)
		if got := b.members("target"); got != want || out.Added != added || out.Removed != removed ||
			out.Members != uint64(len(strings.Fields(want))) {
			t.Fatalf("%s, %+v; want %s, %d added, %d removed", got, out, want, added, removed)
		}
		again := b.fillOf("target", mode, ids...)
		if again.Added+again.Removed != 0 || b.members("target") != want {
			t.Fatalf("the second time: %+v", again)
		}
	}
	f(FillAdd, "u1 u2 u3", 3, 0, "u1", "u2", "u3", "u2")
	f(FillRemove, "u1 u3", 0, 1, "u2", "u9")
	f(FillReplace, "u3 u4 u5", 2, 1, "u5", "u4", "u3")
	fill, err := b.e.BeginFill("target")
	if err != nil {
		t.Fatal(err)
	}
	var p *Problem
	if err := fill.Add([]byte("nobody")); !errors.As(err, &p) || p.Code != "user_not_found" {
		t.Fatal(err)
	}
	if err := fill.Add(nil); !errors.As(err, &p) || p.Code != "bad_id" {
		t.Fatal(err)
	}
	if _, err := b.e.BeginFill("young"); !errors.As(err, &p) || p.Code != "dynamic_segment" {
		t.Fatal(err)
	}
	if _, err := b.e.BeginFill("yuong"); !errors.As(err, &p) || p.Code != "unknown_segment" {
		t.Fatal(err)
	}
	b.reopen()
	if got := b.members("target"); got != "u3 u4 u5" {
		t.Fatal(got)
	}
	f(FillReplace, "", 0, 3)
	if err := b.e.CheckStore(); err != nil {
		t.Fatal(err)
	}
}

// A fill of more people than one batch takes is written down first: what a crash
// leaves of it comes about after the start, whole.
func TestLargeFillComesAboutAfterACrash(t *testing.T) {
	b := newBed(t, fillDefinitions)
	n := fillTogether + 100
	b.ages(n)
	fill, err := b.e.BeginFill("target")
	if err != nil {
		t.Fatal(err)
	}
	fill.AddPeople(b.people(PeopleQuery{}))
	if fill.Count() != uint64(n) {
		t.Fatalf("%d gathered, want %d", fill.Count(), n)
	}
	// What runFill does before the crash: the job is durable, a part has come about.
	job := &fillJob{segment: fill.segment, mode: FillReplace, sets: fill.sets}
	value, err := job.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.e.store.PutDoc(storage.Doc{Key: fillKey(job.segment), Value: value}); err != nil {
		t.Fatal(err)
	}
	b.fillOf("target", FillAdd, "u7", "u8")
	b.reopen()
	b.settle()
	if c := b.people(PeopleQuery{Segment: "target"}).Count(); c != uint64(n) {
		t.Fatalf("%d members, want %d", c, n)
	}
	out, err := fill.Commit(FillRemove, time.Second)
	if err == nil {
		t.Fatalf("a fill of a closed engine: %+v", out)
	}
	if out = b.fillOf("target", FillReplace); out.Removed != uint64(n) || out.Members != 0 {
		t.Fatalf("%+v", out)
	}
	b.reopen()
	b.settle() // nothing is left to be done again
	if got := b.members("target"); got != "" {
		t.Fatal(got)
	}
}

// Set operations are those of sets, over static and dynamic segments.
func TestSetOperations(t *testing.T) {
	b := newBed(t, fillDefinitions)
	b.ages(20)
	b.fillOf("other", FillReplace, "u2", "u3", "u18", "u19")
	f := func(q SegmentSource, want string) {
		t.Helper()
		p, err := b.e.SourcePeople(context.Background(), &q)
		if err != nil {
			t.Fatal(err)
		}
		fill, err := b.e.BeginFill("target")
		if err != nil {
			t.Fatal(err)
		}
		fill.AddPeople(p)
		if _, err := fill.Commit(FillReplace, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := b.members("target"); got != want {
			t.Fatalf("%+v: %s, want %s", q, got, want)
		}
	}
	f(SegmentSource{Union: []string{"young", "other"}}, "u0 u1 u18 u19 u2 u3 u4 u5")
	f(SegmentSource{Intersection: []string{"young", "other"}}, "u2 u3")
	f(SegmentSource{Intersection: []string{"young", "even", "other"}}, "u2")
	f(SegmentSource{Difference: []string{"young", "other", "even"}}, "u1 u5")
	f(SegmentSource{Union: []string{"target", "even"}}, "u0 u1 u10 u12 u14 u16 u18 u2 u4 u5 u6 u8")
	f(SegmentSource{Segment: "young"}, "u0 u1 u2 u3 u4 u5")
	f(SegmentSource{Rule: ruleNode(t, `{"attribute":"age","gte":18}`)}, "u18 u19")
	bad := func(q SegmentSource, code, field string) {
		t.Helper()
		var p *Problem
		if _, err := b.e.SourcePeople(context.Background(), &q); !errors.As(err, &p) ||
			p.Code != code || p.Field != field {
			t.Fatalf("%v, want %s at %s", err, code, field)
		}
	}
	bad(SegmentSource{}, "two_questions", "segment")
	bad(SegmentSource{Segment: "young", Union: []string{"even"}}, "two_questions", "segment")
	bad(SegmentSource{Union: []string{"young", "eveen"}}, "unknown_segment", "union[1]")
	bad(SegmentSource{Difference: make([]string, 21)}, "out_of_range", "difference")
}

// Random set operations equal those of maps, and the overlap matrix their sizes.
func TestOverlapEqualsNaive(t *testing.T) {
	b := newBed(t, fillDefinitions)
	b.ages(40)
	r := rand.New(rand.NewPCG(3, 4))
	var ids []string
	for range 15 {
		ids = append(ids, fmt.Sprintf("u%d", r.IntN(40)))
	}
	b.fillOf("other", FillReplace, ids...)
	b.fillOf("target", FillReplace, ids[:7]...)
	segments := []string{"target", "other", "young", "even"}
	sets := make([]map[string]bool, len(segments))
	for i, s := range segments {
		sets[i] = map[string]bool{}
		for _, id := range strings.Fields(b.members(s)) {
			sets[i][id] = true
		}
	}
	m, err := b.e.SegmentOverlap(context.Background(), segments, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range segments {
		for j := range segments {
			var want uint64
			for id := range sets[i] {
				if sets[j][id] {
					want++
				}
			}
			if m.Counts[i][j] != want {
				t.Errorf("%s and %s: %d, want %d", segments[i], segments[j], m.Counts[i][j], want)
			}
		}
	}
	var p *Problem
	_, err = b.e.SegmentOverlap(context.Background(), []string{"young", "x"}, 0)
	if !errors.As(err, &p) || p.Field != "segments[1]" {
		t.Fatal(err)
	}
	if _, err = b.e.SegmentOverlap(context.Background(), nil, 0); !errors.As(err, &p) {
		t.Fatal(err)
	}
}

// The counts of tracked segments are kept by the hour and by the day, over
// starts, and no longer than is said.
func TestGrowth(t *testing.T) {
	b := newBed(t, fillDefinitions)
	b.ages(10)
	b.settle()
	var want []uint64
	for i := range 30 {
		b.fillOf("target", FillAdd, fmt.Sprintf("u%d", i%10))
		b.m.pass(time.Hour)
		b.e.tick()
		b.settle()
		want = append(want, uint64(min(i+1, 10)))
		if i == 12 {
			b.reopen()
		}
	}
	points, err := b.e.Growth("target", false)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, p := range points {
		got = append(got, p.Count)
	}
	// The loop itself may have looked once before the first hour was over.
	if len(got) > len(want) {
		got = got[len(got)-len(want):]
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	if points, err = b.e.Growth("target", true); err != nil || len(points) < 1 || len(points) > 3 {
		t.Fatalf("%v, %v", points, err)
	}
	b.m.pass(40 * 24 * time.Hour)
	b.e.tick()
	if points, err = b.e.Growth("target", false); err != nil || len(points) > 1 {
		t.Fatalf("%d points are older than 31 days, %v", len(points), err)
	}
	var p *Problem
	if _, err = b.e.Growth("young", false); !errors.As(err, &p) || p.Code != "not_tracked" {
		t.Fatal(err)
	}
}

// A cursor serves after a start; one that is no cursor is refused; a reader sees
// its own segments only, and waits.
func TestSubscribe(t *testing.T) {
	b := newBed(t, fillDefinitions)
	b.ages(5)
	b.settle()
	ctx := context.Background()
	sub, err := b.e.Subscribe([]string{"target"}, ChangesLatest)
	if err != nil {
		t.Fatal(err)
	}
	next := func(s *Subscription, wait time.Duration) string {
		t.Helper()
		out, err := s.Next(ctx, 10, wait)
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, c := range out.List {
			sign := "-"
			if c.Entered {
				sign = "+"
			}
			words = append(words, sign+c.UserID+" "+c.Cause)
		}
		slices.Sort(words)
		return strings.Join(words, ", ")
	}
	if got := next(sub, 0); got != "" {
		t.Fatal(got)
	}
	b.fillOf("target", FillAdd, "u1", "u2")
	if got := next(sub, 5*time.Second); got != "+u1 change, +u2 change" {
		t.Fatal(got)
	}
	cursor := sub.Cursor()
	b.fillOf("target", FillRemove, "u1")
	b.reopen()
	if sub, err = b.e.Subscribe(nil, cursor); err != nil {
		t.Fatal(err)
	}
	if got := next(sub, 5*time.Second); got != "-u1 change" {
		t.Fatal(got)
	}
	if got := next(sub, 0); got != "" {
		t.Fatal(got)
	}
	b.publish(strings.Replace(fillDefinitions, ", track: true", "", 1))
	b.settle()
	if got := next(sub, 0); got != "-u2 ended" {
		t.Fatal(got)
	}
	var p *Problem
	if _, err = b.e.Subscribe([]string{"target"}, ""); !errors.As(err, &p) || p.Code != "not_tracked" {
		t.Fatal(err)
	}
	for _, bad := range []string{"x", "AQ", "AgAAAAA", "AQAAAAAA", "Af___w8AAAA"} {
		if _, err = b.e.Subscribe(nil, bad); !errors.As(err, &p) || p.Code != "bad_cursor" {
			t.Fatalf("%q: %v", bad, err)
		}
	}
}

// A fill that was written down is read back as it was; cut or changed bytes are
// refused or read, and nothing worse.
func FuzzFillJob(f *testing.F) {
	b := []byte{1, 1, 3, 0, 0, 0, 2, 0, 0}
	f.Add(b)
	f.Add(bytes.Repeat(b, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := decodeFill(b, 2)
		if err != nil {
			return
		}
		again, err := j.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeFill(again, 2); err != nil {
			t.Fatal(err)
		}
	})
}
