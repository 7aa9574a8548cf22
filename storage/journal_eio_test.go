package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/journal"
	"tact/storage/lossy"
)

// flakyDisk is a journal's disk on which writes fail from one on.
type flakyDisk struct {
	journal.Disk
	mode   flakyMode
	from   int64 // the write that fails first, from 1
	writes atomic.Int64
	failed *atomic.Int64
}

type flakyMode int

const (
	flakyOnce    flakyMode = iota // one write, nothing of it is there
	flakyEver                     // every write from then on
	flakyShort                    // one write stops in the middle
	flakySync                     // one write is there, and its sync says no
	flakySyncs                    // and so does every further one
	flakyNewFile                  // one write, and there is no room for a new file
	flakyModes
)

var errFlaky = errors.New("input/output error")

func (d *flakyDisk) fails(n int64) bool {
	ever := d.mode == flakyEver || d.mode == flakySyncs
	return n == d.from || ever && n > d.from
}

func (d *flakyDisk) Create(name string, header []byte, size int64) (journal.File, error) {
	if d.writes.Load() >= d.from && d.mode == flakyNewFile {
		return nil, errFlaky
	}
	f, err := d.Disk.Create(name, header, size)
	return flakyFile{f, d}, err
}

func (d *flakyDisk) Open(name string) (journal.File, error) {
	f, err := d.Disk.Open(name)
	return flakyFile{f, d}, err
}

type flakyFile struct {
	journal.File
	d *flakyDisk
}

func (f flakyFile) WriteAt(p []byte, off int64) (int, error) {
	if !f.d.fails(f.d.writes.Add(1)) {
		return f.File.WriteAt(p, off)
	}
	f.d.failed.Add(1)
	switch f.d.mode {
	case flakyShort:
		n, _ := f.File.WriteAt(p[:len(p)/2], off) // the error is the disk's own
		return n, errFlaky
	case flakySync, flakySyncs:
		n, _ := f.File.WriteAt(p, off) // and so is this one
		return n, errFlaky
	}
	return 0, errFlaky
}

// Caps over faults of the journal's disk, once and for ever, at writes and at syncs,
// with and without room for another file, and over kills and power cuts behind them:
// what was answered is there, nobody is shown more than a cap allows, and grants go on.
func TestCapsOverJournalFaults(t *testing.T) {
	var failed atomic.Int64
	var grants, dead int
	counts := func() string {
		return fmt.Sprintf("%d grants, %d writes failed, %d looks at a journal that had stopped",
			grants, failed.Load(), dead)
	}
	played := play(t, "caps over journal faults", 2000, counts, func(seed uint64) {
		w := &capWorld{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 12))}
		w.disk = func(d journal.Disk) journal.Disk {
			return &flakyDisk{
				Disk: d, mode: flakyMode(seed % uint64(flakyModes)), from: 1 + w.rng.Int64N(12),
				failed: &failed,
			}
		}
		w.watch = func() {
			if w.s.Stats().Journal.Dead {
				dead++
			}
		}
		w.run()
		grants += w.n.grants
	})
	if played.Seeds < uint64(flakyModes) {
		return
	}
	if failed.Load() == 0 || dead == 0 {
		t.Error("nothing failed")
	}
}

// A reservation holds counters of several owners in one record: the person's, those of
// an identity and of a device, and everybody's. After any end all of them are held, or
// none is, and the ledger says what people hold.
func TestKeysOfSeveralOwners(t *testing.T) {
	var held, gone int
	counts := func() string {
		return fmt.Sprintf("%d reservations held all their counters, %d none", held, gone)
	}
	play(t, "keys of several owners", 1500, counts, func(seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 13))
		fs, ring := lossy.New(), &ringMemory{}
		s, g, ord := carried(t, fs, ring)
		keys := []HeldKey{
			personKey(1),
			{Key: CounterKey{2, 77}, CountOn: 1, Limit: 4}, // an identity's
			{Key: CounterKey{3, 99}, CountOn: 1, Limit: 4}, // a device's
			{Key: CounterKey{4, 0}, CountOn: 1, Limit: 4, Total: true},
		}
		total := &keys[3]
		for range 4 {
			var tickets []Ticket
			for range 1 + rng.IntN(3) {
				s.Totals().Force(total)
				tickets = append(tickets, hold(t, s, g, ord, keys...))
			}
			sure := rng.IntN(len(tickets) + 1)
			for _, ticket := range tickets[:sure] {
				if err := s.WaitTicket(0, ticket, time.Minute); err != nil {
					t.Fatal(err)
				}
			}
			before := countHeld(t, seed, s, g, ord, len(keys))
			next := &ringMemory{}
			percent := []int{0, 30, 80, 100}[rng.IntN(4)]
			if percent == 100 {
				next = ring.copy(s)
			}
			left := fs.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, rng.Uint64())),
			})
			mustClose(t, s)
			fs, ring = left, next
			s, g, ord = carried(t, fs, ring)
			after := countHeld(t, seed, s, g, ord, len(keys))
			if least := before - len(tickets) + sure; after < least || after > before {
				t.Fatalf("seed %d: %d reservations are held, %d to %d were answered", seed, after, least,
					before)
			}
			if used := s.Totals().Used(total.Key, 0); used != int64(after) {
				t.Fatalf("seed %d: the ledger says %d, people hold %d", seed, used, after)
			}
			held, gone = held+after, gone+before-after
		}
		mustCheck(t, s)
		mustClose(t, s)
	})
	if held == 0 || gone == 0 {
		t.Error("too little happened to show anything")
	}
}

// countHeld counts the open reservations, each of which must hold all its keys.
func countHeld(t *testing.T, seed uint64, s *Store, g *Group, ord Ord, keys int) (n int) {
	t.Helper()
	g.Lock()
	defer g.Unlock()
	g.Contact(ord).EachReservation(func(h Held) bool {
		if h.Len() != keys {
			t.Fatalf("seed %d: a reservation holds %d keys of %d", seed, h.Len(), keys)
		}
		n++
		return true
	})
	at := g.Instant(secondOf(s.HighWater()))
	for _, key := range []CounterKey{{1, 0}, {2, 77}, {3, 99}} {
		if u := g.Contact(ord).Count(key, 0, at); u.N < n {
			t.Fatalf("seed %d: counter %v has %d uses of %d", seed, key, u.N, n)
		}
	}
	return n
}
