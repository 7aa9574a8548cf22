package storage

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// markedUse is a use as a test remembers it.
type markedUse struct {
	at   UnixSec
	key  CounterKey
	mark UseMark
}

// Every use that a counter of times keeps has its mark, so have the newest 32 uses;
// marks that nothing needs leave. Over random counters, limits, and times that come
// in any order.
func TestMarksOfKeptUses(t *testing.T) {
	for seed := range uint64(effort(t, 3000)) {
		r := rand.New(rand.NewPCG(seed, 1))
		var d contactDraft
		var all []markedUse
		at, frame := UnixSec(1_790_000_000), uint64(1000)
		limits := make([]uint8, 1+r.IntN(6))
		for i := range limits {
			limits[i] = uint8(1 + r.IntN(64))
		}
		most := 0
		for range r.IntN(900) {
			at += UnixSec(r.IntN(4000) / (1 + r.IntN(4000)))
			frame += uint64(r.IntN(100_000))
			u := markedUse{
				at:  at - UnixSec(r.IntN(600)/(1+r.IntN(600))),
				key: CounterKey{Cap: Name(1 + r.IntN(len(limits)))},
				mark: UseMark{
					makeDecisionID(UnixMsec(at)*1000-UnixMsec(r.IntN(90_000)), GroupID(3+seed%2),
						uint32(7+r.IntN(2)), frame, r.IntN(3)), Name(1 + r.IntN(300)),
				},
			}
			k := HeldKey{Key: u.key, CountOn: uint16(1 << r.IntN(3)), Limit: limits[u.key.Cap-1]}
			coarse := HeldKey{Key: CounterKey{Cap: 99}, Coarse: CoarseRolling, Window: 3600, Limit: 255}
			d.load(Contact{d.append(nil)})
			d.use(k, u.at)
			d.use(coarse, u.at)
			d.mark(u.at, k.CountOn, &u.mark)
			all = append(all, u)
			c := Contact{d.append(nil)}
			if err := checkContact(c.b); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if len(all)%7 == 0 {
				most = max(most, checkMarked(t, c, all, at))
			}
		}
		if len(all) > 800 && most > 64*len(limits)+marksNewest+marksSweep {
			t.Fatalf("seed %d: %d marks of %d counters", seed, most, len(limits))
		}
	}
}

// checkMarked compares the marks of a part with what was used, and counts them.
func checkMarked(t *testing.T, c Contact, all []markedUse, now UnixSec) int {
	t.Helper()
	var marks []markedUse
	c.EachMark(func(at UnixSec, _ uint16, m UseMark) bool {
		marks = append(marks, markedUse{at: at, mark: m})
		return true
	})
	if !slices.IsSortedFunc(marks, func(a, b markedUse) int { return int(a.at) - int(b.at) }) {
		t.Fatal("marks are not in the order of their times")
	}
	knows := func(u *markedUse) bool {
		return slices.ContainsFunc(marks, func(m markedUse) bool {
			return m.at == u.at && m.mark == u.mark
		})
	}
	for i := range marks {
		if !slices.ContainsFunc(all, func(u markedUse) bool {
			return u.at == marks[i].at && u.mark == marks[i].mark
		}) {
			t.Fatalf("a mark of no use: %+v", marks[i])
		}
	}
	c.EachRing(func(r Ring) bool {
		for i := 0; i < r.Len() && !r.Coarse(); i++ {
			for k := range all {
				u := &all[k]
				// Of several uses in one second the ring may keep only some.
				if u.key == r.Key() && u.at == r.Time(i) && !knows(u) && r.Time(0) != u.at {
					t.Fatalf("%d uses: the mark of a kept use at %d is gone", len(all), u.at)
				}
			}
		}
		return true
	})
	newest := slices.Clone(all)
	slices.SortStableFunc(newest, func(a, b markedUse) int { return int(a.at) - int(b.at) })
	for i := range newest[max(0, len(newest)-marksNewest):] {
		u := &newest[max(0, len(newest)-marksNewest)+i]
		if now > u.at+3600 && !knows(u) {
			t.Fatalf("%d uses: the mark of one of the newest, at %d, is gone", len(all), u.at)
		}
	}
	return len(marks)
}

// The marks of a part that an older version wrote are read, and take the present
// form with the next use.
func TestMarksOfAnOlderVersion(t *testing.T) {
	le := binary.LittleEndian
	var d contactDraft
	d.use(HeldKey{Key: CounterKey{Cap: 1}, Limit: 4}, 50)
	body := d.append(nil)
	old := slices.Clone(body)
	old[3] |= contactMarked
	want := []usedMark{
		{UseMark{DecisionID{1, 15: 9}, 70_000}, 50, 2},
		{UseMark{DecisionID{2}, 3}, 40, 1},
		{UseMark{DecisionID{3}, 3}, 50, 512},
	}
	for _, m := range want {
		old = le.AppendUint32(old, uint32(m.at))
		old = le.AppendUint32(old, uint32(m.Offer))
		old = le.AppendUint32(old, uint32(m.on))
		old = append(old, m.Decision[:]...)
	}
	old = append(old, byte(len(want)), 0, 0, 0)
	if err := checkContact(old); err != nil {
		t.Fatal(err)
	}
	want = []usedMark{want[1], want[0], want[2]}
	f := func(b []byte) {
		t.Helper()
		var got []usedMark
		Contact{b}.EachMark(func(at UnixSec, on uint16, m UseMark) bool {
			got = append(got, usedMark{m, at, on})
			return true
		})
		if !slices.Equal(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	f(old)
	d.load(Contact{old})
	packed := d.append(nil)
	if err := checkContact(packed); err != nil || len(packed) >= len(old) {
		t.Fatal(len(packed), err)
	}
	f(packed)
	more := UseMark{DecisionID{9}, 3}
	d.load(Contact{old})
	d.mark(60, 1, &more)
	want = append(want, usedMark{more, 60, 1})
	f(d.append(nil))
}

// Beyond the bound the oldest leave; a use that comes late may be the oldest.
func TestMarksAreBounded(t *testing.T) {
	var d contactDraft
	id := func(i int) *UseMark {
		return &UseMark{makeDecisionID(UnixMsec(i)*1000, 1, 1, uint64(i), 0), 1}
	}
	const counters = marksMax/RingMax + 2
	for i := range counters * RingMax {
		if i%101 == 0 { // it takes seconds to take all apart for each
			d.load(Contact{d.append(nil)})
		}
		d.use(HeldKey{Key: CounterKey{Cap: Name(i % counters)}, Limit: RingMax}, UnixSec(10+i))
		if i > marksMax-200 {
			d.mark(UnixSec(10+i), 1, id(10+i))
			continue
		}
		d.used = append(d.used, usedMark{*id(10 + i), UnixSec(10 + i), 1})
		if i == marksMax-200 {
			d.packMarks()
		}
	}
	d.mark(5, 1, id(5))
	c := Contact{d.append(nil)}
	n, oldest := 0, UnixSec(0)
	c.EachMark(func(at UnixSec, _ uint16, _ UseMark) bool {
		if n++; n == 1 {
			oldest = at
		}
		return true
	})
	if err := checkContact(c.b); err != nil || n != marksMax ||
		oldest != UnixSec(10+counters*RingMax-marksMax) {
		t.Fatalf("%v, %d marks, the oldest at %d", err, n, oldest)
	}
	if len(d.marks) > 15*marksMax {
		t.Fatalf("%d bytes of marks", len(d.marks))
	}
}
