package storage

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// mergeWorld plays uses, reservations, merges, splits and restarts against plain
// lists.
type mergeWorld struct {
	t      *testing.T
	r      *rand.Rand
	o      Options
	s      *Store
	now    UnixSec
	floor  UnixSec // of the last start
	people []*mergePerson
}

type mergePerson struct {
	ref  PersonRef
	into *mergePerson   // merged into
	had  []*mergePerson // whom it had taken in when it was merged
	uses []mergeUse
	open []mergeHeld
}

type mergeUse struct {
	key   CounterKey
	at    UnixSec
	from  Origin // 0 = its own
	until UnixSec
}

type mergeHeld struct {
	id      ReservationID
	keys    []HeldKey
	granted UnixSec
	expires UnixSec
	from    Origin
}

const mergeGrace = 5

func newMergeWorld(t *testing.T, seed uint64) *mergeWorld {
	t.Helper()
	w := &mergeWorld{t: t, r: rand.New(rand.NewPCG(seed, 3)), o: testOptions(vfs.NewMem())}
	w.o.Groups, w.now = 2, UnixSec(testDay/1000)+10
	w.open()
	for i := range 5 {
		w.newPerson(i)
	}
	return w
}

func (w *mergeWorld) newPerson(i int) {
	w.t.Helper()
	id := fmt.Appendf(nil, "p%d", i)
	slot := w.s.SlotOf(1, id)
	g := w.s.GroupOf(slot)
	g.Lock()
	person, ord := g.NextPerson()
	_, err := g.Append(&Effect{
		Kind: EffectCreate, Ord: ord, Time: w.ms(),
		Create: CreateEffect{
			Workspace: 1, Slot: slot, Person: person, ID: id,
			IDHash: w.s.IndexHash(1, id), Key: g.NewKey(),
		},
	})
	g.Unlock()
	if err != nil {
		w.t.Fatal(err)
	}
	w.people = append(w.people, &mergePerson{ref: PersonRef{g.id, ord, person}})
}

func (w *mergeWorld) open() {
	w.t.Helper()
	var err error
	if w.s, err = Open("store", w.o); err != nil {
		w.t.Fatal(err)
	}
	g := w.s.Group(0)
	g.Lock()
	w.floor = g.Floor()
	g.Unlock()
}

func (w *mergeWorld) ms() UnixMsec { return UnixMsec(w.now) * 1000 }

func (w *mergeWorld) append(p *mergePerson, e Effect) {
	w.t.Helper()
	g := w.s.Group(p.ref.Group)
	g.Lock()
	defer g.Unlock()
	e.Ord, e.Time = p.ref.Ord, w.ms()
	if _, err := g.Append(&e); err != nil {
		w.t.Fatal(err)
	}
	w.sweep(p)
}

// sweep drops what every change of a person drops: what a later start would not
// bring back.
func (w *mergeWorld) sweep(p *mergePerson) {
	p.open = slices.DeleteFunc(p.open, func(h mergeHeld) bool { return !w.live(&h) })
}

// key is one of some counters: of few uses, of many, and one that keeps counts.
func (w *mergeWorld) key() HeldKey {
	k := HeldKey{Key: CounterKey{Name(1 + w.r.IntN(3)), uint32(w.r.IntN(2))}, CountOn: 1, Limit: 4}
	switch k.Key.Cap {
	case 2:
		k.Limit = 64
	case 3:
		k.Limit, k.Coarse, k.Window = 255, CoarseRolling, 10
	}
	return k
}

// alive is somebody who is not merged into another.
func (w *mergeWorld) alive() *mergePerson {
	for {
		if p := w.people[w.r.IntN(len(w.people))]; p.into == nil {
			return p
		}
	}
}

func (w *mergeWorld) step() {
	w.t.Helper()
	p := w.alive()
	switch n := w.r.IntN(20); {
	case n < 6:
		k := w.key()
		w.append(p, Effect{Kind: EffectUse, Use: UseEffect{At: w.now, Keys: []HeldKey{k}}})
		p.uses = append(p.uses, mergeUse{key: k.Key, at: w.now})
	case n < 9:
		w.reserve(p)
	case n < 12 && len(p.open) > 0:
		w.resolve(p, w.r.IntN(len(p.open)))
	case n < 14:
		w.now += UnixSec(w.r.IntN(40))
	case n < 16:
		w.merge(p)
	case n < 18:
		w.split(p)
	case n == 18:
		if err := errors.Join(w.s.Check(), w.s.Close()); err != nil {
			w.t.Fatal(err)
		}
		w.open()
	}
}

func (w *mergeWorld) reserve(p *mergePerson) {
	w.t.Helper()
	k, more := w.key(), w.key()
	h := mergeHeld{keys: []HeldKey{k}, granted: w.now, expires: w.now + UnixSec(1+w.r.IntN(60))}
	if more.Key != k.Key {
		h.keys = append(h.keys, more)
	}
	g := w.s.Group(p.ref.Group)
	g.Lock()
	h.id = g.NextReservation()
	g.Unlock()
	w.append(p, Effect{Kind: EffectReserve, Reserve: ReserveEffect{
		ID: h.id, Offer: 1, Granted: h.granted, Expires: h.expires, Grace: mergeGrace, Keys: h.keys,
	}})
	p.open = append(p.open, h)
}

// resolve confirms or releases one that still lives.
func (w *mergeWorld) resolve(p *mergePerson, i int) {
	w.t.Helper()
	h := p.open[i]
	if !w.live(&h) {
		return
	}
	p.open = slices.Delete(p.open, i, i+1)
	if w.r.IntN(3) == 0 {
		w.append(p, Effect{Kind: EffectRelease, Resolve: ResolveEffect{ID: h.id}})
		return
	}
	at := min(max(w.now, h.granted), h.expires)
	w.append(p, Effect{Kind: EffectConfirm, Resolve: ResolveEffect{ID: h.id, CountOn: 1, At: at}})
	for _, k := range h.keys { // the survivor's own, whoever it was granted to
		p.uses = append(p.uses, mergeUse{key: k.Key, at: at})
	}
}

// live says that a reservation holds its uses: for its life and grace, and as long
// again after a start.
func (w *mergeWorld) live(h *mergeHeld) bool {
	end := h.expires + mergeGrace
	if h.granted <= w.floor {
		end = max(end, w.floor+h.expires-h.granted+mergeGrace)
	}
	return w.now < end
}

const mergeEver = math.MaxUint32

func (w *mergeWorld) merge(p *mergePerson) {
	w.t.Helper()
	x := w.alive()
	until := w.now + UnixSec(w.r.IntN(200))
	if w.r.IntN(2) == 0 {
		until = mergeEver
	}
	w.mergeInto(p, x, until)
}

// mergeInto lets p take x in.
func (w *mergeWorld) mergeInto(p, x *mergePerson, until UnixSec) {
	w.t.Helper()
	err := w.s.MergeContacts(p.ref, x.ref, until, w.ms())
	if x == p {
		if !errors.Is(err, ErrInvalid) {
			w.t.Fatalf("a merge with oneself: %v", err)
		}
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.settle(p, x)
	x.into, x.had = p, nil
	for _, y := range w.people {
		if y.into == x {
			x.had = append(x.had, y)
			y.into = p
		}
	}
	for _, u := range x.uses {
		if u.from == 0 {
			u.from, u.until = x.ref.Origin(), until
		}
		p.uses = append(p.uses, u)
	}
	for _, h := range x.open {
		if h.from == 0 {
			h.from = x.ref.Origin()
		}
		p.open = append(p.open, h)
	}
	x.uses, x.open = nil, nil
}

func (w *mergeWorld) split(p *mergePerson) {
	w.t.Helper()
	if x := w.mergedInto(p); x != nil {
		w.splitOff(p, x)
	}
}

// mergedInto is one of those whom p has taken in.
func (w *mergeWorld) mergedInto(p *mergePerson) *mergePerson {
	var of []*mergePerson
	for _, x := range w.people {
		if x.into == p {
			of = append(of, x)
		}
	}
	if len(of) == 0 {
		return nil
	}
	return of[w.r.IntN(len(of))]
}

// also are the origins that x had taken in before p took it in.
func (w *mergeWorld) also(p, x *mergePerson) (also []Origin) {
	for _, y := range x.had {
		if y.into == p {
			also = append(also, y.ref.Origin())
		}
	}
	return also
}

// splitOff takes x out of p.
func (w *mergeWorld) splitOff(p, x *mergePerson) {
	w.t.Helper()
	also := w.also(p, x)
	x.into = nil
	for _, y := range x.had {
		if y.into == p {
			y.into = x
		}
	}
	if err := w.s.SplitContacts(p.ref, x.ref, also, w.ms()); err != nil {
		w.t.Fatal(err)
	}
	w.settle(p, x)
	mine := func(from Origin) bool {
		return from != 0 && (from == x.ref.Origin() || slices.Contains(also, from))
	}
	var stay []mergeUse
	for _, u := range p.uses {
		if !mine(u.from) {
			stay = append(stay, u)
			continue
		}
		if u.from == x.ref.Origin() {
			u.from = 0
		}
		x.uses = append(x.uses, u)
	}
	var open []mergeHeld
	for _, h := range p.open {
		if !mine(h.from) {
			open = append(open, h)
			continue
		}
		if h.from == x.ref.Origin() {
			h.from = 0
		}
		x.open = append(x.open, h)
	}
	p.uses, p.open = stay, open
}

// settle does what a merge or split does first.
func (w *mergeWorld) settle(people ...*mergePerson) {
	for _, p := range people {
		w.sweep(p)
		for i := range p.uses {
			if u := &p.uses[i]; u.from != 0 && u.until <= w.now {
				u.from = 0
			}
		}
	}
}

func (w *mergeWorld) check() {
	w.t.Helper()
	for i, p := range w.people {
		g := w.s.Group(p.ref.Group)
		g.Lock()
		c, at := g.Contact(p.ref.Ord), g.Instant(w.now)
		for k := range 6 {
			key := CounterKey{Name(1 + k/2), uint32(k % 2)}
			for _, window := range []UnixSec{5, 50, 500, w.now} {
				since := w.now - window
				n, pending := 0, 0
				for _, u := range p.uses {
					if u.key == key && u.at > since {
						n++
					}
				}
				for _, h := range p.open {
					for _, held := range h.keys {
						if held.Key == key && h.expires > since && w.live(&h) {
							n, pending = n+1, pending+1
						}
					}
				}
				got := c.Count(key, since, at)
				exact := !got.Unknown && key.Cap != 3
				if got.Pending != pending || exact && got.N != n || !got.Unknown && got.N < n ||
					got.Unknown && got.N < min(n, RingMin) {
					w.t.Errorf("person %d %v in %d s: %+v, want %d with %d pending", i, key, window, got, n,
						pending)
				}
			}
		}
		g.Unlock()
	}
}

// What is united counts from the merge on, a split gives each side its own back,
// uses after a merge stay, and origins end: against plain lists, over restarts.
func TestMergeContacts(t *testing.T) {
	play(t, "merges", 10_000, nil, func(seed uint64) {
		w := newMergeWorld(t, seed)
		for range 60 {
			w.step()
			w.check()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		if err := errors.Join(w.s.Check(), w.s.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// A merge moves nothing before all that was granted to both is durable, however slow
// the disk is: what was answered would hang on two frames, of which a loss may take one.
func TestMergeWaitsForWhatWasAnswered(t *testing.T) {
	w := &mergeWorld{t: t, o: testOptions(vfs.NewMem())}
	w.o.Groups, w.now = 2, UnixSec(testDay/1000)+10
	var disk sync.Mutex // held: it does nothing
	w.o.hooks.commit = func(int) error {
		disk.Lock()
		defer disk.Unlock()
		return nil
	}
	w.open()
	for i := range 2 {
		w.newPerson(i)
	}
	a, b := w.people[0], w.people[1]
	for _, p := range w.people {
		g := w.s.Group(p.ref.Group)
		g.Lock()
		last := g.LastFrame()
		g.Unlock()
		if err := w.s.Wait(g.id, last, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	disk.Lock()
	w.append(b, Effect{Kind: EffectReserve, Reserve: ReserveEffect{
		ID: ReservationID{1, 77}, Granted: w.now, Expires: w.now + 10, Grace: mergeGrace,
		Keys: []HeldKey{personKey(1)},
	}})
	pending := func(p *mergePerson) int {
		g := w.s.Group(p.ref.Group)
		g.Lock()
		defer g.Unlock()
		return g.Contact(p.ref.Ord).Count(personKey(1).Key, 0, g.Instant(w.now)).Pending
	}
	merged := make(chan error, 1)
	go func() { merged <- w.s.MergeContacts(a.ref, b.ref, math.MaxUint32, w.ms()) }()
	for range 50 {
		time.Sleep(time.Millisecond)
		if n := pending(a); n != 0 {
			t.Fatal("moved before it was durable")
		}
	}
	disk.Unlock()
	if err := <-merged; err != nil || pending(a) != 1 || pending(b) != 0 {
		t.Errorf("%v, %d and %d pending", err, pending(a), pending(b))
	}
	if err := errors.Join(w.s.Check(), w.s.Close()); err != nil {
		t.Fatal(err)
	}
}

// A confirm that comes again after a merge counts nothing: what is resolved goes along,
// also over a start.
func TestMergedConfirmIsKnown(t *testing.T) {
	w := &mergeWorld{t: t, o: testOptions(vfs.NewMem())}
	w.o.Groups, w.now = 2, UnixSec(testDay/1000)+10
	w.open()
	for i := range 2 {
		w.newPerson(i)
	}
	a, b := w.people[0], w.people[1]
	id := ReservationID{1, 77}
	w.append(b, Effect{Kind: EffectReserve, Reserve: ReserveEffect{
		ID: id, Granted: w.now, Expires: w.now + 10, Grace: mergeGrace,
		Keys: []HeldKey{personKey(1)},
	}})
	confirm := func(p *mergePerson) {
		t.Helper()
		w.append(p, Effect{Kind: EffectConfirm, Resolve: ResolveEffect{
			ID: id, CountOn: personKey(1).CountOn, At: w.now,
		}})
	}
	used := func(p *mergePerson, want int) {
		t.Helper()
		g := w.s.Group(p.ref.Group)
		g.Lock()
		defer g.Unlock()
		c := g.Contact(p.ref.Ord)
		if n := c.Count(personKey(1).Key, 0, g.Instant(w.now)).N; n != want {
			t.Fatalf("%d uses, want %d", n, want)
		}
		if _, state := c.Reservation(id); want > 0 && state != ReservationConfirmed {
			t.Fatalf("the reservation is %d", state)
		}
	}
	confirm(b)
	used(b, 1)
	if err := w.s.MergeContacts(a.ref, b.ref, math.MaxUint32, w.ms()); err != nil {
		t.Fatal(err)
	}
	confirm(a)
	used(a, 1)
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	confirm(a)
	used(a, 1)
	if err := errors.Join(w.s.Check(), w.s.Close()); err != nil {
		t.Fatal(err)
	}
}

// Units of totals that a reservation holds move with it, and come back when it
// ends with whom it is then.
func TestMergeMovesTotals(t *testing.T) {
	w := newMergeWorld(t, 1)
	a, b := w.people[0], w.people[1]
	total := HeldKey{Key: CounterKey{9, 1}, CountOn: 1, Limit: 1, Total: true}
	key := TotalKey{CounterKey: total.Key}
	if !w.s.Totals().Take(&total, 0, 10) {
		t.Fatal("no unit")
	}
	w.append(b, Effect{Kind: EffectReserve, Reserve: ReserveEffect{
		ID: ReservationID{1, 77}, Granted: w.now, Expires: w.now + 10, Grace: mergeGrace,
		Keys: []HeldKey{total},
	}})
	if err := w.s.MergeContacts(a.ref, b.ref, math.MaxUint32, w.ms()); err != nil {
		t.Fatal(err)
	}
	if n := w.s.Totals().Used(key.CounterKey, 0); n != 1 {
		t.Fatalf("%d units after the merge", n)
	}
	if err := errors.Join(w.s.Check(), w.s.Close()); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.now += 30
	if err := w.s.SplitContacts(a.ref, b.ref, nil, w.ms()); err != nil {
		t.Fatal(err)
	}
	if n := w.s.Totals().Used(key.CounterKey, 0); n != 0 {
		t.Fatalf("%d units after it ran out", n)
	}
	if err := errors.Join(w.s.Check(), w.s.Close()); err != nil {
		t.Fatal(err)
	}
}

// People who are not there are refused, and nothing is changed.
func TestMergeRefused(t *testing.T) {
	w := newMergeWorld(t, 2)
	defer mustClose(t, w.s)
	a, nobody := w.people[0].ref, w.people[1].ref
	nobody.Ord = 99
	stranger := w.people[1].ref
	stranger.Person++
	elsewhere := PersonRef{Group: 77}
	for _, other := range []PersonRef{nobody, stranger, elsewhere, a} {
		if err := w.s.MergeContacts(a, other, 9, w.ms()); !errors.Is(err, ErrInvalid) {
			t.Errorf("merge with %+v: %v", other, err)
		}
		if err := w.s.SplitContacts(a, other, nil, w.ms()); !errors.Is(err, ErrInvalid) {
			t.Errorf("split from %+v: %v", other, err)
		}
	}
}
