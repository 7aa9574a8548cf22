package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/journal"
	"tact/storage/lossy"
)

// A mergeCrash is a mergeWorld whose process is killed and whose power is cut, also in
// the midst of a merge and of a split, and whose people are granted reservations that
// are answered at once. What the client knows is in the lists of the world; a merge
// that was under way is made again, as whoever had asked for it would.
type mergeCrash struct {
	*mergeWorld
	fs    *lossy.FS
	ring  *ringMemory
	clock atomic.Int64
	point struct {
		sync.Mutex
		*cutPoint // nil: none is due
	}
	n struct{ grants, atOnce, merges, splits, kills, cuts, inDoubt, lost int }
}

// cutPoint is where the next end comes: before a batch is written, or behind it.
type cutPoint struct {
	behind bool
	take   func()
}

const mergeCaps = 3

func newMergeCrash(t *testing.T, seed uint64) *mergeCrash {
	t.Helper()
	w := &mergeCrash{fs: lossy.New(), ring: &ringMemory{}}
	w.mergeWorld = &mergeWorld{t: t, r: rand.New(rand.NewPCG(seed, 41)), now: 1_700_000_000}
	w.start()
	for i := range 4 {
		w.newPerson(i)
	}
	w.durable()
	return w
}

// start opens what is left.
func (w *mergeCrash) start() {
	w.t.Helper()
	o := simOptions()
	o.Groups, o.FS, o.JournalSlots, o.Lease = 2, w.fs, 64, 40*time.Second
	w.clock.Store(int64(w.now))
	o.Now = func() UnixMsec { return UnixMsec(w.clock.Load()) * 1000 }
	o.hooks.shm = w.ring
	o.hooks.commit = func(int) error { w.reach(false); return nil }
	o.hooks.synced = func() { w.reach(true) }
	w.o = o
	w.open()
	w.now = max(w.now, UnixSec((w.s.HighWater()+999)/1000))
	w.clock.Store(int64(w.now))
}

// reach takes what is left of the disk when the next end is to come here.
func (w *mergeCrash) reach(behind bool) {
	w.point.Lock()
	defer w.point.Unlock()
	if c := w.point.cutPoint; c != nil && c.behind == behind {
		w.point.cutPoint = nil
		c.take()
	}
}

// durable waits for everything.
func (w *mergeCrash) durable() {
	w.t.Helper()
	for _, g := range w.s.groups {
		g.Lock()
		frame := g.LastFrame()
		g.Unlock()
		if err := w.s.Wait(g.id, frame, time.Minute); err != nil {
			w.t.Fatal(err)
		}
	}
}

// left is how many uses of a counter a person has, or may still show, after a time.
func (w *mergeCrash) left(p *mergePerson, key CounterKey, since UnixSec) (n int) {
	for _, u := range p.uses {
		if u.key == key && u.at > since {
			n++
		}
	}
	for _, h := range p.open {
		for _, k := range h.keys {
			if k.Key == key && h.expires >= w.now && h.expires > since {
				n++
			}
		}
	}
	return n
}

// grant gives one use of some counters when all have room, and holds the law: there was
// room by what the client knows too.
func (w *mergeCrash) grant(p *mergePerson) {
	w.t.Helper()
	g := w.s.groups[p.ref.Group]
	g.Lock()
	t := g.Instant(w.now)
	var keys []HeldKey
	for c := range Name(mergeCaps) {
		key, since := CounterKey{c + 1, 0}, w.now-capWindow(c)
		if w.r.IntN(2) == 0 {
			continue
		}
		if u := g.Contact(p.ref.Ord).Count(key, since, t); u.Unknown || u.N >= capLimit(c) {
			g.Unlock()
			return
		}
		if n := w.left(p, key, since); n >= capLimit(c) {
			w.t.Fatalf("cap %d of person %v has room at %d, with %d uses of %d: %+v %+v",
				c+1, p.ref, w.now, n, capLimit(c), p.uses, p.open)
		}
		keys = append(keys, HeldKey{Key: key, CountOn: 1, Limit: RingMax})
	}
	h := mergeHeld{id: g.NextReservation(), keys: keys, granted: w.now, expires: w.now + capLife}
	_, ticket, err := g.Reserve(&Effect{
		Kind: EffectReserve, Ord: p.ref.Ord, Time: w.ms(),
		Reserve: ReserveEffect{
			ID: h.id, Offer: 1, Granted: h.granted, Expires: h.expires, Grace: capGrace, Keys: keys,
		},
	}, WaitNone)
	g.Unlock()
	if err == nil {
		err = w.s.WaitTicket(g.id, ticket, time.Minute)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.n.grants++
	if !ticket.Waits() {
		w.n.atOnce++
	}
	p.open = append(p.open, h)
}

// confirm brings a use that was shown in time to the store, or to what an incident took.
func (w *mergeCrash) confirm(p *mergePerson, i int) {
	w.t.Helper()
	h := p.open[i]
	at := min(max(w.now, h.granted), h.expires)
	e := Effect{
		Kind: EffectConfirm, Ord: p.ref.Ord, Time: w.ms(),
		Resolve: ResolveEffect{ID: h.id, CountOn: 1, At: at},
	}
	g := w.s.groups[p.ref.Group]
	g.Lock()
	switch _, state := g.Contact(p.ref.Ord).Reservation(h.id); {
	case state == ReservationOpen:
	case state == ReservationUnknown && g.LostReservation(h.id):
		e.Kind, e.Use = EffectUse, UseEffect{At: at, Keys: h.keys, Lost: h.id}
		w.n.lost++
	default:
		w.t.Fatalf("a reservation that may be shown is gone, state %d: %+v", state, h)
	}
	frame, err := g.Append(&e)
	g.Unlock()
	if err == nil {
		err = w.s.Wait(g.id, frame, time.Minute)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	p.open = slices.Delete(p.open, i, i+1)
	for _, k := range h.keys {
		p.uses = append(p.uses, mergeUse{key: k.Key, at: at})
	}
}

// pass lets time go by; what nobody showed runs out.
func (w *mergeCrash) pass(d UnixSec) {
	w.now += d
	w.clock.Store(int64(w.now))
	for _, p := range w.people {
		p.open = slices.DeleteFunc(p.open, func(h mergeHeld) bool { return h.expires < w.now })
	}
}

// crash ends the process while f is under way, if there is one.
func (w *mergeCrash) crash(f func()) {
	w.t.Helper()
	percent, ring := []int{0, 30, 80}[w.r.IntN(3)], &ringMemory{}
	kill := w.r.IntN(2) == 0
	if kill {
		percent, w.n.kills = 100, w.n.kills+1
	} else {
		w.n.cuts++
	}
	var cut *lossy.FS
	seed := w.r.Uint64()
	take := func() {
		if kill {
			ring = w.ring.copy(w.s)
		}
		cut = w.fs.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 1)),
		})
	}
	if f != nil {
		w.n.inDoubt++
		if w.r.IntN(4) > 0 {
			w.point.Lock()
			w.point.cutPoint = &cutPoint{w.r.IntN(2) == 0, take}
			w.point.Unlock()
		}
		f()
		w.point.Lock()
		w.point.cutPoint = nil
		w.point.Unlock()
	}
	if cut == nil {
		take()
	}
	if err := w.s.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.fs, w.ring = cut, ring
	w.pass(UnixSec(w.r.IntN(4)))
	w.start()
}

// pair draws who takes in whom; x is nil when only one is left.
func (w *mergeCrash) pair() (p, x *mergePerson) {
	var alive []*mergePerson
	for _, q := range w.people {
		if q.into == nil {
			alive = append(alive, q)
		}
	}
	if len(alive) < 2 {
		return alive[0], nil
	}
	w.r.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	return alive[0], alive[1]
}

// few makes a merge or split once more, which changes nothing. People who were merged
// and split again and again after losses have too many stand-ins for it until those of
// the last reservations have run out.
func (w *mergeCrash) few(f func() error) {
	w.t.Helper()
	err := f()
	if errors.Is(err, ErrTooLarge) {
		w.pass(capLife + capGrace + 10)
		err = f()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *mergeCrash) step() {
	w.t.Helper()
	p := w.alive()
	switch n := w.r.IntN(24); {
	case n < 9:
		w.grant(p)
	case n < 13 && len(p.open) > 0:
		w.confirm(p, w.r.IntN(len(p.open)))
	case n < 16:
		w.pass(UnixSec(w.r.IntN(25)))
	case n < 19:
		if a, b := w.pair(); b != nil {
			if w.r.IntN(3) == 0 {
				w.crash(func() { _ = w.s.MergeContacts(a.ref, b.ref, mergeEver, w.ms()) }) // in doubt
			}
			w.few(func() error { return w.s.MergeContacts(a.ref, b.ref, mergeEver, w.ms()) })
			w.mergeInto(a, b, mergeEver)
			w.n.merges++
		}
	case n < 22:
		if x := w.mergedInto(p); x != nil {
			also := w.also(p, x)
			if w.r.IntN(3) == 0 {
				w.crash(func() { _ = w.s.SplitContacts(p.ref, x.ref, also, w.ms()) }) // in doubt
			}
			w.few(func() error { return w.s.SplitContacts(p.ref, x.ref, also, w.ms()) })
			w.splitOff(p, x)
			w.n.splits++
		}
	default:
		w.crash(nil)
	}
}

// settled looks at every counter when nothing is open any more: no use is lost, none is
// counted twice, whoever holds it now.
func (w *mergeCrash) settled() {
	w.t.Helper()
	w.pass(500)
	for i, p := range w.people {
		g := w.s.groups[p.ref.Group]
		g.Lock()
		for c := range Name(mergeCaps) {
			key, want := CounterKey{c + 1, 0}, 0
			for _, u := range p.uses {
				if u.key == key {
					want++
				}
			}
			u := g.Contact(p.ref.Ord).Count(key, 0, g.Instant(w.now))
			if u.N != want || u.Pending != 0 || u.Unknown {
				w.t.Errorf("person %d cap %d: %+v, want %d uses", i, c+1, u, want)
			}
		}
		g.Unlock()
	}
}

// Merges and splits over kills and power cuts at every point of them, with grants that
// are answered at once: nothing is granted beyond a cap by all that the survivor has
// taken in, and no use is lost or counted twice.
func TestMergesOverCrashes(t *testing.T) {
	var sum mergeCrash
	counts := func() string { return fmt.Sprintf("%+v", sum.n) }
	play(t, "merges over crashes", 2000, counts, func(seed uint64) {
		w := newMergeCrash(t, seed)
		for range 50 {
			w.step()
			if t.Failed() {
				t.Fatal("seed ", seed)
			}
		}
		w.settled()
		if err := w.s.Check(); err != nil {
			t.Error(err)
		}
		mustClose(t, w.s)
		if t.Failed() {
			t.Fatal("seed ", seed)
		}
		a, b := &sum.n, &w.n
		a.grants, a.atOnce, a.merges = a.grants+b.grants, a.atOnce+b.atOnce, a.merges+b.merges
		a.splits, a.kills, a.cuts = a.splits+b.splits, a.kills+b.kills, a.cuts+b.cuts
		a.inDoubt, a.lost = a.inDoubt+b.inDoubt, a.lost+b.lost
	})
}

// Two people in session at one loss of power may each have lost a reservation: what
// they are united in has a stand-in for each, and keeps them over a split. The confirm
// of a lost one takes one of them, whichever group its reservation was made in.
func TestMergeKeepsBothStandIns(t *testing.T) {
	for _, down := range []bool{false, true} {
		w := newMergeCrash(t, 3)
		a := w.people[0]
		b := a
		for i := 1; b.ref.Group == a.ref.Group; i++ {
			if i == len(w.people) { // the store's seed has put all of them into one group
				w.newPerson(i)
				w.durable()
			}
			b = w.people[i]
		}
		if down {
			a, b = b, a
		}
		key := personKey(1)
		var lost ReservationID
		for _, p := range []*mergePerson{a, b, a, b} { // the first of each carries the lease
			g := w.s.groups[p.ref.Group]
			g.Lock()
			lost = g.NextReservation()
			_, ticket, err := g.Reserve(&Effect{
				Kind: EffectReserve, Ord: p.ref.Ord, Time: w.ms(), Reserve: ReserveEffect{
					ID: lost, Granted: w.now, Expires: w.now + capLife, Grace: capGrace,
					Keys: []HeldKey{personKey(2)},
				},
			}, WaitNone)
			g.Unlock()
			if err == nil && ticket.Waits() {
				err = w.s.WaitTicket(g.id, ticket, time.Minute)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		left := w.fs.CrashClone(vfs.CrashCloneCfg{})
		mustClose(t, w.s)
		w.fs, w.ring = left, &ringMemory{}
		w.start()
		f := func(what string, p *mergePerson, want int) {
			t.Helper()
			g := w.s.groups[p.ref.Group]
			g.Lock()
			defer g.Unlock()
			u := g.Contact(p.ref.Ord).Count(key.Key, 0, g.Instant(w.now))
			if u.Pending != want {
				t.Errorf("%s: %+v, want %d pending", what, u, want)
			}
		}
		f("survivor", a, 1)
		f("other", b, 1)
		w.mergeInto(a, b, mergeEver)
		f("united", a, 2)
		f("nobody", b, 0)
		lost.Number += 9 // beyond what is known
		if !w.s.LostReservation(lost) {
			t.Error("a reservation of the other group is not known to be lost")
		}
		w.append(a, Effect{Kind: EffectUse, Use: UseEffect{
			At: w.now, Keys: []HeldKey{key}, Lost: lost,
		}})
		f("one has come", a, 1)
		for range 2 {
			if err := w.s.SplitContacts(a.ref, b.ref, nil, w.ms()); err != nil {
				t.Fatal(err)
			}
			f("split", b, 1)
		}
		w.mergeInto(b, a, mergeEver)
		f("united again", b, 1) // what came of one lease is one again
		mustCheck(t, w.s)
		mustClose(t, w.s)
	}
}

// Merging and splitting the same people over and over leaves as many stand-ins as there
// were losses, and a part of the same size, whoever is united with whom: with a use of
// each, and with one of the lost uses confirmed in between.
func TestMergeAndSplitOverAndOver(t *testing.T) {
	w := newMergeCrash(t, 5)
	people := w.people[:3]
	key := personKey(1)
	reserve := func(p *mergePerson) {
		t.Helper()
		for range 2 { // the first carries the lease
			g := w.s.groups[p.ref.Group]
			g.Lock()
			_, ticket, err := g.Reserve(&Effect{
				Kind: EffectReserve, Ord: p.ref.Ord, Time: w.ms(), Reserve: ReserveEffect{
					ID: g.NextReservation(), Granted: w.now, Expires: w.now + capLife, Grace: capGrace,
					Keys: []HeldKey{personKey(2)},
				},
			}, WaitNone)
			g.Unlock()
			if err == nil && ticket.Waits() {
				err = w.s.WaitTicket(g.id, ticket, time.Minute)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range people {
		w.append(p, Effect{Kind: EffectUse, Use: UseEffect{
			At: w.now, Keys: []HeldKey{personKey(3)},
			Mark: UseMark{makeDecisionID(w.ms(), p.ref.Group, 1, 1, int(p.ref.Ord)), 1},
		}})
	}
	w.durable()
	for _, p := range people {
		reserve(p)
	}
	left := w.fs.CrashClone(vfs.CrashCloneCfg{})
	mustClose(t, w.s)
	w.fs, w.ring = left, &ringMemory{}
	w.start()
	pending := func(p *mergePerson) int {
		g := w.s.groups[p.ref.Group]
		g.Lock()
		defer g.Unlock()
		return g.Contact(p.ref.Ord).Count(key.Key, 0, g.Instant(w.now)).Pending
	}
	size := func(p *mergePerson) int {
		g := w.s.groups[p.ref.Group]
		g.Lock()
		defer g.Unlock()
		return len(g.Contact(p.ref.Ord).b)
	}
	for _, p := range people {
		if n := pending(p); n != 1 {
			t.Fatalf("%d stand-ins at the start, want 1", n)
		}
	}
	var first [3]int
	for round := range 100 {
		into := people[round%3]
		for _, p := range people {
			if p != into {
				w.mergeInto(into, p, mergeEver)
			}
		}
		if n := pending(into); n != 3 {
			t.Fatalf("round %d: %d pending of three people united, want 3", round, n)
		}
		if round < 6 {
			first[round%3] = size(into)
		}
		if n := size(into); n != first[round%3] {
			t.Fatalf("round %d: %d bytes, %d before", round, n, first[round%3])
		}
		for _, p := range people {
			if p == into {
				continue
			}
			if err := w.s.SplitContacts(into.ref, p.ref, nil, w.ms()); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			p.into = nil
			if n := pending(p); n < 1 || n > 3 {
				t.Fatalf("round %d: %d pending behind the split", round, n)
			}
		}
	}
	mustCheck(t, w.s)
	mustClose(t, w.s)
}

// More losses within the life of one lease's reservation than a part has room for are
// joined, and all of them count.
func TestStandInsBeyondTheirRoom(t *testing.T) {
	var d contactDraft
	key := CounterKey{Cap: 3}
	for epoch := uint32(1); epoch <= 40; epoch++ {
		high := journal.Msec(epoch) * 1000
		at := Instant{Now: UnixSec(epoch), incidents: incidents{{
			Incident: journal.Incident{Epoch: epoch, Synced: high, High: high}, frame: 1,
		}}}
		d.lease = journal.Lease{Epoch: epoch, Life: 600, Grace: 60, ID: 1, Start: 1, End: high + 1e6}
		d.charge(at)
		d.lease = journal.Lease{}
		c := Contact{d.append(nil)}
		if err := checkContact(c.b); err != nil {
			t.Fatal(err)
		}
		u := c.Count(key, 0, at)
		if u.Pending != int(epoch) || u.Latest != UnixSec(epoch)+600 {
			t.Fatalf("%d losses: %+v", epoch, u)
		}
		told := 0
		c.EachStandIn(key, at, func(StandIn) bool { told++; return true })
		if told != int(epoch) || d.nStandIns > standInsMax {
			t.Fatalf("%d losses: %d told, %d kept", epoch, told, d.nStandIns)
		}
		if k := c.KthLatest(key, int(epoch), at); k == 0 {
			t.Fatalf("%d losses: the oldest is not known", epoch)
		}
	}
}
