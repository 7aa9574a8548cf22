package storage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/journal"
	"tact/storage/lossy"
)

// ringMemory is shared memory of a test: it outlives a store.
type ringMemory struct{ mem []byte }

func (r *ringMemory) Open(size int) ([]byte, error) {
	if len(r.mem) != size {
		r.mem = make([]byte, size)
	}
	return r.mem, nil
}

func (r *ringMemory) Close(remove bool) error {
	if remove {
		r.mem = nil
	}
	return nil
}

// copy is what a kill of a store at this moment leaves of its ring.
func (r *ringMemory) copy(s *Store) *ringMemory {
	left := &ringMemory{}
	s.carry.j.Still(func() { left.mem = slices.Clone(r.mem) })
	return left
}

// A capWorld grants reservations of a few people on a real store that loses
// power or is killed, and knows what was answered and shown.
type capWorld struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	fs    *lossy.FS
	ring  *ringMemory
	disk  func(journal.Disk) journal.Disk // nil: a sound one
	watch func()                          // called before the process ends; nil: by nobody
	s     *Store
	now   UnixMsec
	clock atomic.Int64 // now, for the goroutines of the store
	held  []capGrant
	shown []capGrant
	uses  map[CounterKey][]UnixSec // by person<<16 | cap
	n     struct{ grants, atOnce, kills, cuts, lost, incidents, refused int }
}

type capGrant struct {
	person  uint64
	id      ReservationID
	keys    []HeldKey
	granted UnixSec
	expires UnixSec
	at      UnixSec // shown
}

const (
	capLife   = 20 // seconds
	capGrace  = 10
	capPeople = 3
)

func capLimit(c Name) int         { return 1 + int(c)%3 }
func capWindow(c Name) UnixSec    { return UnixSec(20 + 40*c) }
func capPerson(p uint64) []byte   { return fmt.Appendf(nil, "person-%d", p) }
func (w *capWorld) fail(a ...any) { w.t.Helper(); w.t.Fatal("seed ", w.seed, ": ", fmt.Sprintln(a...)) }

// pass lets time go by.
func (w *capWorld) pass(d UnixMsec) {
	w.now += d
	w.clock.Store(int64(w.now))
}

func (w *capWorld) open() {
	o := simOptions()
	o.Groups, o.FS, o.JournalSlots, o.Lease = 2, w.fs, 64, 40*time.Second
	o.FlushEvery, o.BoundedMax = 3*time.Millisecond, 8*time.Millisecond
	w.clock.Store(int64(w.now))
	o.Now = func() UnixMsec { return UnixMsec(w.clock.Load()) }
	o.hooks.shm, o.hooks.disk = w.ring, w.disk
	s, err := Open("store", o)
	if err != nil {
		w.fail(err)
	}
	w.s = s
	w.pass(max(0, s.HighWater()-w.now))
	if s.Stats().Journal.Incident {
		w.n.incidents++
	}
}

// crash ends the process: a kill keeps the ring and all that was written.
func (w *capWorld) crash(power bool) {
	if w.watch != nil {
		w.watch()
	}
	percent, ring := []int{0, 30, 80}[w.rng.IntN(3)], &ringMemory{}
	if power {
		w.n.cuts++
	} else {
		w.n.kills++
		percent = 100
	}
	fs := w.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(w.seed, w.rng.Uint64())),
	})
	if !power {
		ring = w.ring.copy(w.s)
	}
	if err := w.s.Close(); err != nil {
		w.fail(err)
	}
	w.fs, w.ring = fs, ring
	if power && w.rng.IntN(2) == 0 {
		w.now -= UnixMsec(w.rng.IntN(20_000)) // the clock is wrong after the loss
	}
	w.now += UnixMsec(w.rng.IntN(4000))
	w.open()
}

func (w *capWorld) find(p uint64) (*Group, Ord) {
	id := capPerson(p)
	g := w.s.GroupOf(w.s.SlotOf(0, id))
	g.Lock()
	o, ok := g.Find(0, w.s.IndexHash(0, id), id)
	if ok {
		return g, o
	}
	person, o := g.NextPerson()
	e := Effect{Kind: EffectCreate, Ord: o, Time: w.now, Create: CreateEffect{
		Slot: w.s.SlotOf(0, id), Person: person, ID: id, IDHash: w.s.IndexHash(0, id), Key: g.NewKey(),
	}}
	if _, err := g.Append(&e); err != nil {
		w.fail(err)
	}
	return g, o
}

// decide grants one use of some caps when all have room.
func (w *capWorld) decide() {
	p := uint64(w.rng.IntN(capPeople))
	g, o := w.find(p)
	t := g.Instant(secondOf(w.now))
	var keys []HeldKey
	for c := range Name(3) {
		key := CounterKey{c + 1, 0}
		if w.rng.IntN(2) == 0 {
			continue
		}
		u := g.Contact(o).Count(key, t.Now-min(t.Now, capWindow(c)), t)
		if u.Unknown || u.N >= capLimit(c) {
			g.Unlock()
			return
		}
		keys = append(keys, HeldKey{Key: key, CountOn: 1, Limit: uint8(capLimit(c))})
	}
	x, ticket := w.grant(g, o, p, keys, true)
	if w.rng.IntN(12) == 0 && ticket.Waits() {
		w.giveBack(g, o, x.id) // a deadline: it was never answered
		return
	}
	w.hold(g, ticket, x)
}

// grant reserves keys for person p, whose group is locked, and unlocks it.
func (w *capWorld) grant(
	g *Group, o Ord, p uint64, keys []HeldKey, atOnce bool,
) (capGrant, Ticket) {
	x := capGrant{
		person: p, id: g.NextReservation(), keys: keys, granted: secondOf(w.now),
		expires: secondOf(w.now+999) + capLife,
	}
	e := Effect{Kind: EffectReserve, Ord: o, Time: w.now, Reserve: ReserveEffect{
		ID: x.id, Offer: 1, Granted: x.granted, Expires: x.expires, Grace: capGrace, Keys: keys,
	}}
	why := WaitNone
	if !atOnce {
		why = WaitTotal
	}
	_, ticket, err := g.Reserve(&e, why)
	g.Unlock()
	if err != nil {
		w.fail(err)
	}
	w.n.grants++
	if !ticket.Waits() {
		w.n.atOnce++
	}
	return x, ticket
}

// hold waits until a grant may be answered.
func (w *capWorld) hold(g *Group, ticket Ticket, x capGrant) {
	if err := w.s.WaitTicket(g.GroupID(), ticket, time.Minute); err != nil {
		w.fail(err)
	}
	w.held = append(w.held, x)
}

func (w *capWorld) giveBack(g *Group, o Ord, id ReservationID) {
	g.Lock()
	defer g.Unlock()
	e := Effect{Kind: EffectRelease, Ord: o, Time: w.now, Resolve: ResolveEffect{ID: id}}
	if _, err := g.Release(&e); err != nil {
		w.fail(err)
	}
}

// show lets held reservations be shown in their life, or run out.
func (w *capWorld) show() {
	w.showHeld(func(x capGrant) {
		for _, k := range x.keys {
			key := CounterKey{Name(x.person)<<16 | k.Key.Cap, 0}
			w.uses[key] = append(w.uses[key], x.at)
		}
	})
}

// showHeld shows some of what is held, in time, and tells count of each.
func (w *capWorld) showHeld(count func(capGrant)) {
	w.held = slices.DeleteFunc(w.held, func(x capGrant) bool {
		now := secondOf(w.now + 999)
		switch {
		case now > x.expires:
			return true
		case w.rng.IntN(4) > 0:
			return false
		}
		x.at = now
		w.shown = append(w.shown, x)
		count(x)
		return true
	})
}

// confirm brings what was shown to the store, until it is durable.
func (w *capWorld) confirm() {
	shown := w.shown
	w.shown = nil
	for _, x := range shown {
		g, o := w.find(x.person)
		e := Effect{Kind: EffectConfirm, Ord: o, Time: w.now, Resolve: ResolveEffect{
			ID: x.id, CountOn: 1, At: min(max(x.at, x.granted), x.expires),
		}}
		_, state := g.Contact(o).Reservation(x.id)
		switch {
		case state != ReservationUnknown:
		case g.LostReservation(x.id):
			w.n.lost++
			e = Effect{Kind: EffectUse, Ord: o, Time: w.now, Use: UseEffect{
				At: e.Resolve.At, Keys: x.keys, Lost: x.id,
			}}
		default:
			w.fail("a shown reservation is gone and no incident took it: ", x.id)
		}
		if state == ReservationReleased {
			w.fail("a shown reservation was given back: ", x.id, x, w.now)
		}
		w.commit(g, &e)
	}
}

// commit makes an effect durable; the group is locked, and is no more.
func (w *capWorld) commit(g *Group, e *Effect) {
	frame, err := g.Append(e)
	g.Unlock()
	if err == nil {
		err = w.s.Wait(g.GroupID(), frame, time.Minute)
	}
	if err != nil {
		w.fail(err)
	}
}

// check looks for a window with more uses than its cap allows.
func (w *capWorld) check() {
	for key, uses := range w.uses {
		c := key.Cap&0xFFFF - 1
		slices.Sort(uses)
		for i, at := range uses {
			n := 0
			for _, b := range uses[:i+1] {
				if b > at-capWindow(c) {
					n++
				}
			}
			if n > capLimit(c) {
				w.fail(n, "uses of", key, "within", capWindow(c), "s, limit", capLimit(c), ":", uses)
			}
		}
	}
}

func (w *capWorld) run() {
	w.fs = lossy.New()
	w.ring = &ringMemory{}
	w.now = 1_700_000_000_000
	w.uses = make(map[CounterKey][]UnixSec)
	w.open()
	for range 60 {
		w.pass(UnixMsec(w.rng.IntN(1500)))
		switch r := w.rng.IntN(40); {
		case r == 0:
			w.crash(true)
		case r == 1:
			w.crash(false)
		case r == 2:
			if err := w.s.Check(); err != nil {
				w.fail(err)
			}
		default:
			for range w.rng.IntN(5) {
				w.decide()
			}
			w.show()
			if w.rng.IntN(3) == 0 {
				w.confirm()
			}
		}
	}
	w.confirm()
	w.check()
	if err := w.s.Check(); err != nil {
		w.fail(err)
	}
	if err := w.s.Close(); err != nil {
		w.fail(err)
	}
}

// Caps on the real store, over losses of power, kills and wrong clocks: nobody
// is shown more than a cap allows, and no shown use is called late.
func TestCapsOverCrashes(t *testing.T) {
	var sum capWorld
	counts := func() string { return fmt.Sprintf("%+v", sum.n) }
	play(t, "caps over crashes", 2000, counts, func(seed uint64) {
		w := &capWorld{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 11))}
		w.run()
		sum.n.grants += w.n.grants
		sum.n.atOnce += w.n.atOnce
		sum.n.kills += w.n.kills
		sum.n.cuts += w.n.cuts
		sum.n.lost += w.n.lost
		sum.n.incidents += w.n.incidents
	})
}
