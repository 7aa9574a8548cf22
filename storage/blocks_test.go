package storage

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

const (
	poolPeople = 12
	poolWindow = 60  // seconds
	poolLimit  = 500 // units in a window
	poolKeep   = 32  // uses that are given one by one
)

// A poolWorld gives units of one total to a few people, over losses of power and
// kills, and knows which were shown in which window.
type poolWorld struct {
	capWorld
	cost   uint64          // of a use; 0 = uses are counted
	spent  map[int64]int64 // units shown, by window
	wanted []poolWant
	sum    struct{ atOnce, burnt, taken int64 }
}

type poolWant struct {
	at    UnixMsec
	units int64
}

func (w *poolWorld) key(at UnixSec) HeldKey {
	return HeldKey{
		Key: CounterKey{9, 0}, CountOn: 1, Total: true, Window: uint32(at / poolWindow), Cost: w.cost,
	}
}

func (w *poolWorld) since() uint32 { return uint32(secondOf(w.now) / poolWindow) }

// give grants one use when it fits.
func (w *poolWorld) give() {
	k := w.key(secondOf(w.now+999) + capLife)
	if !w.s.Totals().Take(&k, w.since(), poolLimit) {
		return
	}
	w.wanted = append(w.wanted, poolWant{w.now, k.Units()})
	room := poolLimit - w.s.Totals().UsedSince(k.Key, w.since())
	p := uint64(w.rng.IntN(poolPeople))
	g, o := w.find(p)
	x, ticket := w.grant(g, o, p, []HeldKey{k}, room >= poolKeep*k.Units())
	w.hold(g, ticket, x)
}

func (w *poolWorld) feed() {
	err := w.s.FeedTotals(w.now, func(k TotalKey) int64 {
		unit := w.key(0)
		return poolLimit - w.s.Totals().UsedSince(k.CounterKey, w.since()) - poolKeep*unit.Units()
	})
	if err != nil {
		w.fail(err)
	}
}

// see shows some of what is held, in time.
func (w *poolWorld) see() {
	w.showHeld(func(x capGrant) { w.spent[int64(x.at/poolWindow)] += x.keys[0].Units() })
}

// tell confirms what was shown, dated when it was.
func (w *poolWorld) tell() {
	shown := w.shown
	w.shown = nil
	for _, x := range shown {
		g, o := w.find(x.person)
		at := w.key(x.at)
		e := Effect{Kind: EffectConfirm, Ord: o, Time: w.now, Resolve: ResolveEffect{
			ID: x.id, CountOn: 1, At: x.at, Windows: []TotalKey{{at.Key, at.Window}},
		}}
		_, state := g.Contact(o).Reservation(x.id)
		switch {
		case state == ReservationReleased:
			w.fail("a shown reservation was given back: ", x.id)
		case state != ReservationUnknown:
		case g.LostReservation(x.id):
			w.n.lost++
			w.s.Totals().Force(&at)
			w.s.Totals().GiveBurnt(&at)
			e = Effect{Kind: EffectUse, Ord: o, Time: w.now, Use: UseEffect{
				At: x.at, Keys: []HeldKey{at}, Lost: x.id,
			}}
		default:
			w.fail("a shown reservation is gone and no incident took it: ", x.id)
		}
		w.commit(g, &e)
	}
}

// second is the most that was wanted within any second.
func (w *poolWorld) second() (most int64) {
	from, sum := 0, int64(0)
	for i, x := range w.wanted {
		sum += x.units
		for w.wanted[i].at-w.wanted[from].at >= 1000 {
			sum -= w.wanted[from].units
			from++
		}
		most = max(most, sum)
	}
	return most
}

// end ends the process and looks at what the next start says is burnt.
func (w *poolWorld) end(power bool) {
	for range w.rng.IntN(20) {
		w.give() // the last of them are not on the disk
	}
	w.see()
	w.crash(power)
	burnt := w.s.Stats().Journal.Burnt
	w.sum.burnt += burnt
	switch {
	case !power && burnt != 0:
		w.fail("a kill burnt ", burnt)
	case burnt > w.second():
		w.fail(burnt, " units burnt, at most ", w.second(), " were wanted in a second")
	}
}

func (w *poolWorld) check() {
	for window, n := range w.spent {
		if n > poolLimit {
			w.fail(n, " units shown in window ", window, ", limit ", poolLimit)
		}
	}
}

func (w *poolWorld) play() {
	w.fs, w.ring, w.now = lossy.New(), &ringMemory{}, 1_700_000_000_000
	w.spent = make(map[int64]int64)
	w.open()
	for range 120 {
		w.pass(UnixMsec(20 + w.rng.IntN(400)))
		switch r := w.rng.IntN(40); {
		case r == 0:
			w.end(true)
		case r == 1:
			w.end(false)
		default:
			for range w.rng.IntN(12) {
				w.give()
			}
			w.feed()
			w.see()
			if w.rng.IntN(3) == 0 {
				w.tell()
			}
			if w.rng.IntN(4) == 0 {
				w.expire()
			}
		}
	}
	w.tell()
	w.feed()
	w.check()
	if err := w.s.Check(); err != nil {
		w.fail(err)
	}
	if err := w.s.Close(); err != nil {
		w.fail(err)
	}
}

func (w *poolWorld) expire() {
	for _, g := range w.s.groups {
		g.Lock()
		_, err := g.ExpireHolds(secondOf(w.now), 100)
		g.Unlock()
		if err != nil {
			w.fail(err)
		}
	}
}

// A total on the real store, over losses of power and kills: grants that blocks
// cover are answered at once, never is more shown than the limit, a kill burns
// nothing, and a loss of power at most what was wanted in a second.
func TestBlocksOverCrashes(t *testing.T) {
	var sum poolWorld
	counts := func() string { return fmt.Sprintf("%+v, %d units burnt", sum.n, sum.sum.burnt) }
	play(t, "totals over crashes", 2000, counts, func(seed uint64) {
		w := &poolWorld{cost: seed % 2 * 3}
		w.t, w.seed, w.rng = t, seed, rand.New(rand.NewPCG(seed, 13))
		w.play()
		sum.n.grants += w.n.grants
		sum.n.atOnce += w.n.atOnce
		sum.n.kills += w.n.kills
		sum.n.cuts += w.n.cuts
		sum.n.lost += w.n.lost
		sum.sum.burnt += w.sum.burnt
	})
	if sum.n.atOnce == 0 || sum.sum.burnt == 0 {
		t.Error("nothing was answered from a block, or nothing burnt")
	}
}

// What a loss of power burns, step by step: the block less what records on disk
// have drawn. A lost use that comes after all takes the place of a burnt one, and
// the next start burns nothing more.
func TestBurntUnits(t *testing.T) {
	w := &poolWorld{spent: make(map[int64]int64)}
	w.t, w.rng = t, rand.New(rand.NewPCG(1, 1))
	w.fs, w.ring, w.now = lossy.New(), &ringMemory{}, 1_700_000_040_000 // a window begins
	w.open()
	used := func(want int64) {
		t.Helper()
		if got := w.s.Totals().UsedSince(CounterKey{9, 0}, 0); got != want {
			t.Fatalf("%d used, want %d", got, want)
		}
	}
	for len(w.held) < 40 { // the leases of all begin; as many units are wanted in a second
		w.give()
	}
	w.feed()
	for w.s.Totals().Blocks() == 0 { // its frame is on its way
		time.Sleep(time.Millisecond)
		w.feed()
	}
	block := w.s.Totals().Blocks()
	if block < 1 || block > 40 {
		t.Fatalf("a block of %d units", block)
	}
	disk := w.fs.CrashClone(vfs.CrashCloneCfg{})
	before := w.n.atOnce
	for i := 0; w.n.atOnce < before+3; i++ {
		if w.give(); i == 1000 {
			t.Fatal("nothing is answered at once")
		}
	}
	lost := w.held[40:]
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.fs, w.ring = disk, &ringMemory{}
	w.open()
	burnt := w.s.Stats().Journal.Burnt
	if burnt < 3 || burnt > block {
		t.Fatalf("%d units burnt of a block of %d", burnt, block)
	}
	used(40 + burnt)
	counts := w.s.TotalCounts()
	if len(counts) != 1 || counts[0].Burnt != burnt || counts[0].Confirmed != burnt ||
		counts[0].Held != 40 {
		t.Fatalf("%+v", counts)
	}
	w.shown = nil
	for _, x := range lost {
		g, _ := w.find(x.person)
		if g.LostReservation(x.id) {
			x.at = x.granted
			w.shown = append(w.shown, x)
		}
		g.Unlock()
	}
	late := int64(len(w.shown))
	if late < 3 {
		t.Fatalf("%d lost", late)
	}
	w.tell()
	used(40 + burnt + late)
	w.feed()
	used(40 + max(burnt, late))
	if err := w.s.Check(); err != nil {
		t.Fatal(err)
	}
	w.crash(true)
	if again := w.s.Stats().Journal.Burnt; again != 0 {
		t.Fatalf("%d more units burnt", again)
	}
	used(40 + max(burnt, late))
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}
