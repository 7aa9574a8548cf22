package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tact/loadtest/machine"
)

// cost is what a turn took, in the unit of its figure.
type cost struct{ cpu, wall float64 }

// turn does something once and says what it cost.
type turn func() (cost, error)

// thread is a turn of n operations: ns each, of this thread's CPU.
func thread(n int, f func() error) turn {
	return func() (cost, error) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return clocked(unix.CLOCK_THREAD_CPUTIME_ID, float64(n), f)
	}
}

// process is a turn of one operation that several threads work on: ms of this
// process's CPU, its background work included.
func process(f func() error) turn {
	return func() (cost, error) { return clocked(unix.CLOCK_PROCESS_CPUTIME_ID, 1e6, f) }
}

func clocked(clock int32, per float64, f func() error) (c cost, err error) {
	var from, to unix.Timespec
	began := time.Now()
	if err := unix.ClockGettime(clock, &from); err != nil {
		return c, fmt.Errorf("clock_gettime: %w", err)
	}
	if err := f(); err != nil {
		return c, err
	}
	if err := unix.ClockGettime(clock, &to); err != nil {
		return c, fmt.Errorf("clock_gettime: %w", err)
	}
	return cost{float64(to.Nano()-from.Nano()) / per, float64(time.Since(began)) / per}, nil
}

// mostStolen is the share of the processors from which a figure does not count.
const mostStolen = 0.10

// rounds runs rounds and says in the figures how the machine was meanwhile.
func (b *bed) rounds(round func(i int) error, figures ...*figure) error {
	before, _ := machine.Now() // without it nothing is known to be stolen
	for i := range b.o.rounds {
		if err := round(i); err != nil {
			return err
		}
	}
	after, _ := machine.Now()
	stolen, _, _ := after.Since(before)
	for _, f := range figures {
		f.Stolen = stolen
		if stolen > mostStolen {
			f.Missing = fmt.Sprintf("not measured: %.0f %% of the processors were taken by others",
				100*stolen)
		}
	}
	return nil
}

// compare takes own and the reference in turns, the first of a round going second
// in the next, and notes both in f.
func (b *bed) compare(f *figure, own, reference turn) error {
	return b.rounds(func(i int) error {
		var costs [2]cost
		turns := [2]turn{own, reference}
		for k := range turns {
			at := (k + i) % 2
			var err error
			if costs[at], err = turns[at](); err != nil {
				return err
			}
		}
		f.note(i, costs[0], costs[1])
		return nil
	}, f)
}

// note enters a round; a reference that cost nothing is none.
func (f *figure) note(round int, own, reference cost) {
	ratio := 0.0
	if reference.cpu > 0 {
		ratio = own.cpu / reference.cpu
	}
	if round == 0 {
		f.Value, f.Wall, f.ReferenceValue, f.Ratio = own.cpu, own.wall, reference.cpu, ratio
	}
	f.Value, f.Most = min(f.Value, own.cpu), max(f.Most, own.cpu)
	f.Wall, f.WallMost = min(f.Wall, own.wall), max(f.WallMost, own.wall)
	f.ReferenceValue = min(f.ReferenceValue, reference.cpu)
	f.Ratio, f.RatioMost = min(f.Ratio, ratio), max(f.RatioMost, ratio)
}

// probe is the reference of decisions: two reads that miss every cache, the second
// at a place that the first names.
type probe struct {
	buckets [][64]byte
	rows    [][192]byte
	random  *rand.Rand
	sum     int
	copied  []byte
}

const probeName = "two dependent cold reads"

// probeRows bounds the reference: 0.8 GB, more than any cache.
const probeRows = 4 << 20

func newProbe(users int) *probe {
	n := min(users, probeRows)
	p := &probe{
		buckets: make([][64]byte, max(n/5, 1)), rows: make([][192]byte, n),
		random: rand.New(rand.NewPCG(3, 3)),
	}
	for i := range p.buckets {
		p.buckets[i][0] = byte(i)
	}
	for i := range p.rows {
		p.rows[i][0] = byte(i)
	}
	return p
}

func (p *probe) run(n int) {
	for range n {
		i := p.random.IntN(len(p.buckets))
		at := (i*5 + int(p.buckets[i][p.sum&1]&1)) % len(p.rows)
		p.sum += int(p.rows[at][64])
	}
}

// turn is one of n reads.
func (p *probe) turn(n int) turn {
	return thread(n, func() error { p.run(n); return nil })
}

// copies copies 16 bytes of every step-th row, n times, front to back.
func (p *probe) copies(n, step int) turn {
	return thread(n, func() error {
		at := 0
		for range n {
			if len(p.copied) > 1<<16 {
				p.copied = p.copied[:0]
			}
			p.copied = append(p.copied, p.rows[at][64:80]...)
			if at += step; at >= len(p.rows) {
				at = 0
			}
		}
		return nil
	})
}

// userID appends the id of person i.
func userID(dst []byte, i int) []byte {
	return strconv.AppendInt(append(dst, "user-"...), int64(i), 10)
}
