package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// threadCPU is the CPU time that the calling thread has used.
func threadCPU() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// timed is the CPU time of f on this thread, a call of n.
func timed(n int, f func() error) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	from, err := threadCPU()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	to, err := threadCPU()
	return float64(to-from) / float64(n), err
}

// inTurns measures f and the probe in turns: the least and the greatest of the
// rounds of f, and the least of the probe, in ns a call.
func (b *bed) inTurns(n int, f func() error) (least, most, probe float64, err error) {
	var own, other []float64
	for range b.o.rounds {
		ns, err := timed(n, f)
		if err != nil {
			return 0, 0, 0, err
		}
		own = append(own, ns)
		ns, err = timed(n, func() error { b.probe.run(n); return nil })
		if err != nil {
			return 0, 0, 0, err
		}
		other = append(other, ns)
	}
	return slices.Min(own), slices.Max(own), slices.Min(other), nil
}

// probe is the reference: two reads that miss every cache, the second at a place
// that the first names.
type probe struct {
	buckets [][64]byte
	rows    [][192]byte
	random  *rand.Rand
	sum     int
}

func newProbe(users int) *probe {
	p := &probe{
		buckets: make([][64]byte, max(users/5, 1)), rows: make([][192]byte, users),
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

// userID appends the id of person i.
func userID(dst []byte, i int) []byte {
	return strconv.AppendInt(append(dst, "user-"...), int64(i), 10)
}
