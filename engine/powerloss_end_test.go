package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// under sends one line while the power goes; the client sends it again later.
func (l *loss) under() func() {
	u := l.pick()
	l.oracle.n++
	n := l.oracle.n
	switch l.rng.IntN(3) {
	case 0:
		doc := eventDoc(u.id, n)
		l.doubt = append(l.doubt, func() error {
			r, err := l.line(func(b *Batch) LineResult { return b.Event(doc) })
			l.oracle.events[u.id] = append(l.oracle.events[u.id], n)
			return errors.Join(err, r.Err)
		})
		return func() { _, _ = l.line(func(b *Batch) LineResult { return b.Event(doc) }) } // in doubt
	case 1:
		for _, it := range l.shown {
			if it.at != 0 && !it.done {
				return l.underImpression(it)
			}
		}
	}
	req := DecideRequest{UserID: []byte(u.id), Timeout: time.Second, Placements: []PlacementAsk{
		{Key: []byte("k"), PlacementID: l.place(), Count: 2},
	}}
	var out Decision
	return func() { _ = l.e.Decide(&req, &out) } // nobody sees the answer
}

// underImpression reports it while the power goes. Late or not is known from the
// one report that was applied: the first, when the second is a duplicate.
func (l *loss) underImpression(it *impression) func() {
	doc := l.impressionDoc(it)
	at := min(it.at, int64(l.e.Now()))
	var first LineResult
	l.doubt = append(l.doubt, func() error {
		if now := min(it.at, int64(l.e.Now())); now < at {
			at = now // server time may have lain ahead of what was durable
		}
		r, err := l.line(func(b *Batch) LineResult { return b.Outcome(doc) })
		if err = errors.Join(err, r.Err); err != nil {
			return err
		}
		if r.Status == LineDuplicate {
			r.Flags = first.Flags
		}
		it.done = true
		l.oracle.impression(it, at, r.Flags&FlagLate != 0)
		return nil
	})
	return func() {
		first, _ = l.line(func(b *Batch) LineResult { return b.Outcome(doc) }) // in doubt
	}
}

// crash ends the life of the engine: by a clean end, a kill that loses nothing of
// the ring and the file system, or a power loss.
func (l *loss) crash() error {
	kind := l.rng.IntN(5)
	if kind == 0 && !l.early {
		return l.e.Close()
	}
	l.losses++
	percent := 100
	if kind > 1 || l.early {
		percent = []int{0, 10, 50, 90}[l.rng.IntN(4)]
	}
	if l.early {
		cut := l.clone(0)
		if err := errors.Join(l.patch(), l.event(), l.e.Close()); err != nil {
			return err
		}
		l.fs = cut
		return l.lose(false)
	}
	l.forget(percent == 100)
	run := l.under()
	done := make(chan struct{})
	go func() { defer close(done); run() }()
	if pause := l.rng.IntN(3); pause > 0 {
		time.Sleep(time.Duration(l.rng.IntN(300)) * time.Microsecond)
	}
	if err := l.lose(percent == 100); err != nil {
		return err
	}
	cut := l.clone(percent)
	<-done
	err := l.e.Close()
	l.fs = cut
	return err
}

func (l *loss) clone(percent int) *lossy.FS {
	return l.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(l.seed, l.rng.Uint64())),
	})
}

// lose moves to a new folder of the ring, with a copy of the old one when it is
// kept. Records that come behind the copy are those of the line in doubt.
func (l *loss) lose(keep bool) error {
	if l.ring == "" {
		return nil
	}
	old := l.ring
	l.ring = filepath.Join(filepath.Dir(old), strconv.Itoa(l.losses))
	return copyRing(old, l.ring, keep)
}

// cutOpen loses the power, or is killed, while the engine opens. Of a kill the ring is
// kept as it was a moment before the disk.
func (l *loss) cutOpen() error {
	var cut *lossy.FS
	var copied error
	done, kill := make(chan struct{}), l.rng.IntN(3) == 0
	pause := time.Duration(l.rng.IntN(4000)) * time.Microsecond
	percent := []int{0, 10, 50, 90}[l.rng.IntN(4)]
	if kill {
		percent = 100
	}
	old := l.ring
	l.losses++
	if err := l.lose(false); err != nil {
		return err
	}
	next := l.ring
	l.ring = old
	go func() {
		defer close(done)
		time.Sleep(pause)
		if kill && old != "" {
			copied = copyRing(old, next, true)
		}
		cut = l.clone(percent)
	}()
	e, err := l.open()
	<-done
	if err = errors.Join(err, copied); err != nil {
		return fmt.Errorf("open that is cut: %w", err)
	}
	if err := e.Close(); err != nil {
		return err
	}
	l.fs, l.ring = cut, next
	l.forget(false)
	return nil
}

// reopen opens what is left, perhaps ending again while it recovers, and looks for
// everything that was answered.
func (l *loss) reopen() (err error) {
	for l.rng.IntN(4) == 0 {
		if err := l.cutOpen(); err != nil {
			return err
		}
	}
	if l.e, err = l.open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := l.oracle.missing(l.e, l.shown); err != nil {
		return err
	}
	for _, f := range l.doubt {
		if err := f(); err != nil {
			return fmt.Errorf("sent again: %w", err)
		}
	}
	l.doubt = nil
	before := l.repeats
	for i := range l.asked {
		if err := l.askAgain(&l.asked[i]); err != nil {
			return fmt.Errorf("after a loss: %w", err)
		}
	}
	l.kept += l.repeats - before
	return errors.Join(l.oracle.exceeded(l), l.e.CheckStore())
}
