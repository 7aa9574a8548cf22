package storage_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"tact/storage"
	"tact/storage/backup"
	"tact/storage/lossy"
)

// A drill writes from many sides while backups are taken, and restores the store as it
// was at many moments: each time what is there is what the log of the writers gives.
// TACT_EFFORT=1 runs 100 seeds.
type drill struct {
	*storage.Drill
	t     *testing.T
	fs    *lossy.FS
	s     *storage.Store
	marks []storage.DrillMark
	seed  uint64
	made  int
}

func newDrill(t *testing.T, seed uint64) *drill {
	d := &drill{Drill: storage.NewDrill(seed, 4), t: t, fs: lossy.New(), seed: seed}
	d.open()
	return d
}

func (d *drill) open() {
	d.t.Helper()
	var err error
	if d.s, err = d.Drill.Open(d.fs); err != nil {
		d.t.Fatal(err)
	}
}

func (d *drill) close() {
	d.t.Helper()
	if err := d.s.Close(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *drill) options() backup.Options {
	return backup.Options{FS: d.fs, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
}

// work writes while a backup is taken.
func (d *drill) work(n int, o backup.Options) *backup.Manifest {
	d.t.Helper()
	errs := make(chan error, 1)
	go func() { errs <- d.Write(d.s, n) }()
	m, err := backup.Take(d.t.Context(), d.s, "backups", o)
	if err := errors.Join(err, <-errs); err != nil {
		d.t.Fatalf("seed %d: %v", d.seed, err)
	}
	return m
}

func (d *drill) mark() {
	d.t.Helper()
	m, err := d.Mark(d.s)
	if err != nil {
		d.t.Fatal(err)
	}
	d.marks = append(d.marks, m)
}

func (d *drill) restore(at storage.UnixMsec) ([]uint64, *backup.Restored, error) {
	var ends []uint64
	d.made++
	to := fmt.Sprintf("restored/%d", d.made)
	o := d.Options()
	r, err := backup.Restore(d.t.Context(), "backups", to, backup.Restoring{
		At: at, Caps: storage.CapsTrust, Storage: o,
		Settle: func(s *storage.Store, _ *backup.Restored) (err error) {
			ends, err = d.Compare(s)
			return err
		},
	}, d.options())
	if err != nil {
		return nil, nil, err
	}
	o.FS = d.fs
	s, err := storage.Open(to, o)
	if err != nil {
		return nil, nil, err
	}
	return ends, r, errors.Join(s.Check(), s.Close(), d.fs.RemoveAll(to))
}

func TestBackupDrill(t *testing.T) {
	for seed := range uint64(storage.Effort(t, 100)) {
		d := newDrill(t, seed)
		if err := d.Write(d.s, 30); err != nil {
			t.Fatal(err)
		}
		d.mark()
		var taken []*backup.Manifest
		for round := range 3 {
			m := d.work(40, d.options())
			if (m.Kind == backup.Full) != (round == 0) {
				t.Fatalf("seed %d, backup %d is %s: %s", seed, round, m.Kind, m.WhyFull)
			}
			taken = append(taken, m)
			d.mark()
			if round == 1 { // over a restart
				if err := d.s.Close(); err != nil {
					t.Fatal(err)
				}
				d.open()
			}
		}
		taken = append(taken, d.work(1, d.options()))
		first, last := taken[0].Until, taken[len(taken)-1].Until
		for i, m := range d.marks {
			ends, r, err := d.restore(m.At)
			if int64(m.At) < first {
				if !errors.Is(err, backup.ErrNotCovered) {
					t.Fatalf("seed %d, mark %d: %v", seed, i, err)
				}
				continue
			}
			if err != nil || r.Until > m.At {
				t.Fatalf("seed %d, mark %d: until %d: %v", seed, i, m.At, err)
			}
			for g, end := range ends {
				// A start at the same moment is one frame behind the mark. It belongs to
				// what is restored if all that was committed with it is as old.
				before := d.LastBefore(g, m.At)
				if end < m.Ends[g] || end > before || before > m.Ends[g]+1 {
					t.Errorf("seed %d, mark %d: group %d goes up to frame %d, marked %d, before it %d",
						seed, i, g, end, m.Ends[g], before)
				}
			}
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		for round := range 6 {
			at := storage.UnixMsec(first + rng.Int64N(last-first+1))
			if of := d.Moments(); round > 0 { // between what belongs together
				at = max(storage.UnixMsec(first), min(of[rng.IntN(len(of))], storage.UnixMsec(last)))
			}
			ends, r, err := d.restore(at)
			if err != nil || r.Until > at {
				t.Fatalf("seed %d, at %d: until %v: %v", seed, at, r, err)
			}
			for g, end := range ends {
				if end > d.LastBefore(g, at) {
					t.Errorf("seed %d, at %d: group %d goes up to frame %d", seed, at, g, end)
				}
			}
		}
		if _, _, err := d.restore(0); err != nil {
			t.Fatalf("seed %d: the newest: %v", seed, err)
		}
		if _, _, err := d.restore(storage.UnixMsec(last + 1)); !errors.Is(err, backup.ErrNotCovered) {
			t.Fatal(err)
		}
		if err := d.s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
