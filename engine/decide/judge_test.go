package decide

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tact/engine/definition"
	"tact/storage"
)

// TestJudgeAgreesWithPick (law 8): over random catalogues, people and requests, with all
// gates an offer is eligible at a placement exactly when Pick with it as the
// only offer allowed gives it, and refused for the reason in Pick's trace.
// Without a placement it is eligible where any placement would have it, and
// taking gates away never refuses what was eligible.
func TestJudgeAgreesWithPick(t *testing.T) {
	w := newWorld(t)
	now := startMs
	eligible, reasons := 0, map[Reason]int{}
	seeds(t, 1500, func(seed uint64) {
		r := rand.New(rand.NewPCG(seed, 7))
		c := randomCatalogue(r)
		c.fix(startMs)
		w.plan = nil
		if faults := w.compile(c.set, storage.UnixMsec(now)); len(faults) > 0 {
			t.Fatalf("%+v", faults)
		}
		w.grants = w.grants[:0]
		f := randomFacts(r, fmt.Sprint("j", seed))
		if r.IntN(8) == 0 {
			f = &facts{id: one(r, "", f.id)}
		} else {
			w.load(f, storage.UnixMsec(now))
		}
		s := &session{world: w, m: &model{catalogue: c}, f: f, r: r}
		for range 3 {
			now += one(r, int64(0), 500, 61_000, 3_600_000, 86_400_000)
			s.now = now
			req, over, _ := s.request()
			over.NoReserve, over.Excluded = false, nil
			s.pick(req, f.id, storage.UnixMsec(now), over, true) // uses up caps
			s.compareJudge(t, req, over, &eligible, reasons)
			if t.Failed() {
				return
			}
		}
		now += 1000
	})
	if eligible == 0 || len(reasons) < 10 {
		t.Errorf("%d eligible, reasons %v: the cases are too narrow", eligible, reasons)
	}
}

func (s *session) compareJudge(
	t *testing.T, req *Request, over *Overlay, eligible *int, reasons map[Reason]int,
) {
	t.Helper()
	anywhere := make([]bool, len(s.plan.Offers))
	for p := range s.plan.Placements {
		for o := range s.plan.Offers {
			offer := int32(o)
			got := s.judge(req, over, Question{
				Offers: []int32{offer}, Placement: int32(p), Gates: GatesAll,
			})
			want := s.onlyOffer(req, over, int32(p), offer)
			got.slab, got.index, got.Placement = -1, -1, -1
			if got != want {
				t.Errorf("now %d placement %d offer %s: Judge %+v, Pick %+v", s.now, p,
					s.plan.Offers[o].ID, got, want)
			}
			if got.Reason == ReasonNone {
				anywhere[o] = true
				*eligible++
			}
			reasons[got.Reason]++
		}
	}
	for o, want := range anywhere {
		for gates := Gates(0); gates <= GatesAll; gates++ {
			v := s.judge(req, over, Question{Offers: []int32{int32(o)}, Placement: -1, Gates: gates})
			if is := v.Reason == ReasonNone; gates == GatesAll && is != want || want && !is {
				// An experiment may lead a placement to another policy: without its gate
				// the question is about the placement's own.
				if gates&GateExperiments != 0 || len(s.plan.Experiments) == 0 {
					t.Errorf("now %d offer %s gates %d anywhere: %+v, want eligible %v", s.now,
						s.plan.Offers[o].ID, gates, v, want)
				}
			}
		}
	}
}

// judge asks one question about the session's person.
func (s *session) judge(req *Request, over *Overlay, q Question) Verdict {
	s.group.Lock()
	defer s.group.Unlock()
	now := storage.UnixMsec(s.now)
	who := s.person(s.f.id, now)
	s.spoil(&who, s.plan.QuestionPages(&q))
	q.Words, q.Context, q.Overlay = req.Words, req.Context, over
	return s.plan.Judge(&q, &who, moment(now), nil, &s.out)[0]
}

// onlyOffer is what Pick says of one offer, as a verdict.
func (s *session) onlyOffer(req *Request, over *Overlay, placement, offer int32) Verdict {
	alone := &Request{
		Slots:   []SlotRequest{{Placement: placement, Policy: -1, Count: 1, Allow: []int32{offer}}},
		Words:   req.Words,
		Context: req.Context, Explain: true,
	}
	out := s.pick(alone, s.f.id, storage.UnixMsec(s.now), over, false)
	for _, l := range out.Trace {
		if l.Offer == offer && !l.Fallback {
			v := newVerdict(offer, l.Reason)
			v.Stage, v.Cap, v.Until = l.Stage, l.Cap, l.Until
			v.Experiment, v.Holdout = l.Experiment, l.Holdout
			return v
		}
	}
	at := Overlay{}
	if over != nil {
		at.Stopped = over.Stopped
	}
	now := moment(storage.UnixMsec(s.now))
	r := run{p: s.plan, over: &at, at: &now}
	if early := r.catalogue(offer); early != ReasonNone {
		return newVerdict(offer, early)
	}
	return newVerdict(offer, PlacementMismatch)
}

// TestAppendTotalKeys: a total that is full refuses the offer, and only then.
func TestAppendTotalKeys(t *testing.T) {
	w := newWorld(t)
	w.publish(judgeCatalogue, 1000)
	if w.plan == nil {
		t.Fatal(w.publish(judgeCatalogue, 1000))
	}
	s := &session{world: w, f: &facts{id: "u"}, now: 1000}
	req := &Request{Words: make([]uint64, w.plan.Program.RequestWords)}
	q := Question{Offers: []int32{0}, Placement: -1, Gates: GatesAll}
	v := s.judge(req, &Overlay{}, q)
	keys := w.plan.AppendTotalKeys(nil, &v, 1000)
	if v.Reason != ReasonNone || len(keys) != 1 || !keys[0].Total {
		t.Fatalf("verdict %+v, totals %+v", v, keys)
	}
	v = s.judge(req, &Overlay{FullTotals: []storage.CounterKey{keys[0].Key}}, q)
	if v.Reason != CappedTotal {
		t.Errorf("with the stock used up: %+v", v)
	}
	q.Gates = GatesAll &^ GateCaps
	if v = s.judge(req, &Overlay{FullTotals: []storage.CounterKey{keys[0].Key}}, q); v.Reason != 0 {
		t.Errorf("without the gate of caps: %+v", v)
	}
	q.Channels = ChannelBit(definition.ChannelSMS)
	if v = s.judge(req, nil, q); v.Reason != ChannelMismatch {
		t.Errorf("on a channel it is not on: %+v", v)
	}
}

const judgeCatalogue = `
kind: workspace
id: default
timezone: UTC
---
kind: cap
id: stock
scope: total
per: offer
count_on: accept
window: lifetime
limit: 2
---
kind: offer
id: a
message_class: marketing
treatments: [{id: t, channel: web, content: {type: text, body: a}}]
---
kind: placement
id: p
channel: web
policy: pol
---
kind: decision_policy
id: pol
candidates: {offers: all}
ranking: {by: product}
`

// BenchmarkJudge: all gates of 100 offers for one person, per offer.
func BenchmarkJudge(b *testing.B) {
	w := newWorld(b)
	w.publish(judgeCatalogue, 1000)
	var bits [8]uint64
	who := Person{HasID: true, ID: []byte("u"), Bits: bits[:]}
	q := Question{Placement: -1, Gates: GatesAll, Words: make([]uint64, w.plan.Program.RequestWords)}
	for range 100 {
		q.Offers = append(q.Offers, 0)
	}
	var verdicts []Verdict
	b.ReportAllocs()
	for b.Loop() {
		verdicts = w.plan.Judge(&q, &who, moment(1000), verdicts[:0], &w.out)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100), "ns/offer")
}
