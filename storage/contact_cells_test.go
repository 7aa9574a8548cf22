package storage

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// cellModel keeps every use with the last second at which it may count.
type cellModel struct {
	rolling UnixSec // width of a cell, 0 = calendar days of UTC
	last    []UnixSec
	at      []UnixSec
	ringKey CounterKey
	contact contactDraft
}

func (m *cellModel) key(at UnixSec) HeldKey {
	if m.rolling > 0 {
		return HeldKey{
			Key: m.ringKey, CountOn: 1, Limit: 255, Coarse: CoarseRolling, Window: uint32(m.rolling),
		}
	}
	end := uint32(at/86400+1) * 86400
	return HeldKey{Key: m.ringKey, CountOn: 1, Limit: 255, Coarse: CoarseCalendar, Window: end}
}

func (m *cellModel) use(granted, at UnixSec) {
	m.contact.use(m.key(granted), at)
	last := at
	switch {
	case m.rolling > 0:
		last = at/m.rolling*m.rolling + m.rolling - 1
	case at/86400 == granted/86400:
		last = at/86400*86400 + 86399
	}
	m.last, m.at = append(m.last, last), append(m.at, at)
}

func (m *cellModel) compare(t *testing.T, now, since UnixSec) {
	t.Helper()
	c := Contact{m.contact.append(nil)}
	if err := checkContact(c.b); err != nil {
		t.Fatal(err)
	}
	u, want := c.Count(m.ringKey, since, Instant{Now: now}), 0
	for _, last := range m.last {
		if last > since {
			want++
		}
	}
	if u.N != want || u.Unknown {
		t.Fatalf("%+v since %d, want %d", u, since, want)
	}
	if want > 0 && u.Latest != slices.Max(m.at) {
		t.Fatalf("latest %d, want %d", u.Latest, slices.Max(m.at))
	}
	sorted := slices.Sorted(slices.Values(m.last))
	for _, k := range []int{1, 2, len(sorted)/2 + 1, len(sorted)} {
		if k > len(sorted) {
			continue
		}
		if got := c.KthLatest(m.ringKey, k, Instant{Now: now}); got != sorted[len(sorted)-k] {
			t.Fatalf("%d-th latest %d, want %d", k, got, sorted[len(sorted)-k])
		}
	}
}

// A counter of a great limit counts a use from when it happens until its cell
// has left the window: never less than there are, in a calendar window exactly.
func TestCellsEqualModel(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &cellModel{ringKey: CounterKey{3, 4}}
		window := UnixSec(24 * 86400)
		if seed%2 == 0 {
			window = UnixSec(24 * (1 + r.IntN(4000)))
			m.rolling = window / 24
		}
		now := UnixSec(1_700_000_000)
		for range 300 {
			now += UnixSec(r.IntN(int(window) / 40))
			m.use(now, now+UnixSec(r.IntN(3)*r.IntN(600)))
			since := now - window
			if m.rolling == 0 {
				since = now/86400*86400 - 1 - UnixSec(r.IntN(3))*86400
			}
			// Only what can still be in the window is compared: cells that have left
			// it may have been joined.
			for i := 0; i < len(m.last); i++ {
				if m.last[i]+30*window/24 < since {
					m.last = slices.Delete(m.last, i, i+1)
					m.at = slices.Delete(m.at, i, i+1)
					i--
				}
			}
			u := Contact{m.contact.append(nil)}.Count(m.ringKey, since, Instant{Now: now})
			true1, true2 := 0, 0
			for i := range m.at {
				if m.at[i] > since {
					true1++
				}
				if m.last[i] > since {
					true2++
				}
			}
			if u.N < true1 || u.N != true2 {
				t.Fatalf("seed %d: %d uses counted, %d are, %d should be", seed, u.N, true1, true2)
			}
		}
	}
}

// A few uses, compared in full.
func TestCellsKthLatest(t *testing.T) {
	m := &cellModel{ringKey: CounterKey{3, 4}, rolling: 100}
	now := UnixSec(1_700_000_000)
	for i := range UnixSec(60) {
		now += i * 7 % 90
		m.use(now, now)
		m.compare(t, now, now-2400)
		m.compare(t, now, now-300)
	}
}

// A ring of times becomes one of counts when the limit grows, and forgets nothing
// that it knew; what it had lost counts as any number.
func TestRingBecomesCells(t *testing.T) {
	var d contactDraft
	k := HeldKey{Key: CounterKey{1, 1}, Limit: 4}
	for _, at := range []UnixSec{10, 20, 20, 30, 40} {
		d.use(k, at)
	}
	k.Coarse, k.Window, k.Limit = CoarseRolling, 5, 255
	d.use(k, 52)
	c := Contact{d.append(nil)}
	if err := checkContact(c.b); err != nil {
		t.Fatal(err)
	}
	f := func(since UnixSec, n int, unknown bool) {
		t.Helper()
		if u := c.Count(k.Key, since, Instant{Now: 60}); u.N != n || u.Unknown != unknown {
			t.Errorf("since %d: %+v", since, u)
		}
	}
	f(5, 5, true)
	f(13, 5, true) // the lost use at 10 counts until 14
	f(14, 5, false)
	f(24, 3, false)
	f(54, 0, false)
	if at := c.KthLatest(k.Key, 9, Instant{Now: 60}); at != 14 {
		t.Errorf("the ninth latest use may be at %d", at)
	}
}

// Of more cells than are kept the oldest become one: nothing is lost, and it
// counts as late as its latest use.
func TestOldestCellsJoin(t *testing.T) {
	var d contactDraft
	k := HeldKey{Key: CounterKey{1, 1}, Limit: 255, Coarse: CoarseRolling, Window: 1}
	for i := range UnixSec(3 * cellsMax) {
		d.use(k, 1000+i)
	}
	d.use(k, 1000) // a very late fact
	c := Contact{d.append(nil)}
	if err := checkContact(c.b); err != nil {
		t.Fatal(err)
	}
	if u := c.Count(k.Key, 0, Instant{Now: 5000}); u.N != 3*cellsMax+1 || u.Unknown {
		t.Fatalf("%+v", u)
	}
	if u := c.Count(k.Key, 1000+2*cellsMax, Instant{Now: 5000}); u.N < cellsMax-1 {
		t.Fatalf("%+v", u)
	}
}
