package decide

import (
	"testing"

	"tact/storage"
)

// TestLasts: until the moment that Lasts names, Pick gives what it gave, to the same
// request, person and overlay. The person's bits, whose time is told by the rules, stay
// as they are.
func TestLasts(t *testing.T) {
	w := newWorld(t)
	now, long, bound := startMs, 0, 0
	seeds(t, 1500, func(seed uint64) {
		s := randomSession(t, w, seed, now)
		for range 4 {
			now += one(s.r, int64(0), 500, 61_000, 3_600_000, 86_400_000)
			s.now = now
			s.step(t)
			if t.Failed() {
				return
			}
			long, bound = s.checkLasts(t, long, bound)
		}
		now += 1000
	})
	if effort() >= 1 && (long < 100 || bound < 100) {
		t.Errorf("%d picks last, %d of them end in a day: the cases are too narrow", long, bound)
	}
}

// checkLasts asks once, and again at moments while the picks last.
func (s *session) checkLasts(t *testing.T, long, bound int) (int, int) {
	t.Helper()
	req, over, _ := s.request()
	req.Explain = false
	w := s.world
	w.group.Lock()
	defer w.group.Unlock()
	who := w.person(s.f.id, storage.UnixMsec(s.now))
	at := moment(storage.UnixMsec(s.now))
	w.plan.Pick(req, &who, &at, over, &w.out)
	until := int64(w.plan.Lasts(req, &who, &at, &w.out))
	if until == 0 {
		return long, bound
	}
	if until <= s.now {
		t.Errorf("at %d the picks last until %d", s.now, until)
		return long, bound
	}
	if long++; until < s.now+86_400_000 {
		bound++
	}
	want := s.describe(req, &w.out)
	edges := []int64{s.now, until - 1, s.now + 1, s.now + 59_000}
	for range 4 {
		edges = append(edges, s.now+s.r.Int64N(min(until-s.now, 1<<s.r.IntN(36))))
	}
	for _, ms := range edges {
		if ms >= until || ms > s.now+(1<<37) {
			continue
		}
		at := moment(storage.UnixMsec(ms))
		w.plan.Pick(req, &who, &at, over, &w.out)
		if got := s.describe(req, &w.out); got != want {
			t.Errorf("at %d, to last until %d:\n%s\nat %d:\n%s", s.now, until, want, ms, got)
			return long, bound
		}
	}
	return long, bound
}
