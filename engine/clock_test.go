package engine

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tact/storage"
)

// machine is a wall clock and a monotonic clock that a test moves apart.
// The engine's loops read it while pass moves it.
type machine struct {
	mu         sync.Mutex
	wall, mono int64
}

func (m *machine) read() (wall, mono int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wall, m.mono
}

func (m *machine) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wall += d.Milliseconds()
	m.mono += d.Milliseconds()
}

const clockStart = 1_700_000_000_000

// Server time never runs backwards, whatever the wall does, and between steps
// it advances with the monotonic clock.
func TestServerTimeNeverRunsBackwards(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := &machine{wall: clockStart, mono: 55}
	c := newClock(m.read, 0, false)
	last := c.Now()
	for i := range 20_000 {
		if i == 10_000 { // from here on the monotonic clock is read alone
			c.mono = func() int64 { _, mono := m.read(); return mono }
		}
		m.pass(time.Duration(rng.IntN(2000)) * time.Millisecond)
		m.wall += rng.Int64N(3000) - 2000
		if step := c.pending(); step > 0 && rng.IntN(2) == 0 {
			c.adopt(step)
		}
		now := c.Now()
		if now < last {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
}

// A forward step above a second waits for adoption; above ten minutes it is
// never adopted and the clock says so; after a backward step time stands until
// the wall has caught up.
func TestStepsOfTheWallClock(t *testing.T) {
	m := &machine{wall: clockStart}
	c := newClock(m.read, 0, false)
	want := func(ms int64) {
		t.Helper()
		if got := c.Now(); int64(got) != clockStart+ms {
			t.Fatalf("now = start%+d ms, want start%+d ms", int64(got)-clockStart, ms)
		}
	}
	want(0)
	m.wall += 900 // a small correction
	want(900)
	m.wall += 60_000
	want(900)
	if step := c.pending(); step != time.Minute {
		t.Fatalf("pending %v", step)
	}
	c.adopt(time.Minute)
	want(60_900)
	m.wall -= 30_000
	want(60_900)
	m.pass(10 * time.Second)
	want(60_900)
	m.pass(25 * time.Second)
	want(65_900)
	m.wall += (11 * time.Minute).Milliseconds()
	if step := c.pending(); step != 0 || !c.Skewed() {
		t.Fatalf("a step of 11 minutes: pending %v, skewed %v", step, c.Skewed())
	}
	m.pass(time.Second)
	want(66_900)
	m.wall -= (11 * time.Minute).Milliseconds()
	if c.pending(); c.Skewed() {
		t.Fatal("still skewed after the wall came back")
	}
}

// Where the monotonic clock is read alone, the wall clock is followed from the next
// millisecond on, and a step that is adopted at once.
func TestWallClockIsFollowedEachMillisecond(t *testing.T) {
	m := &machine{wall: clockStart}
	c := newClock(m.read, 0, false)
	c.mono = func() int64 { _, mono := m.read(); return mono }
	want := func(ms int64) {
		t.Helper()
		if got := c.Now(); int64(got) != clockStart+ms {
			t.Fatalf("now = start%+d ms, want start%+d ms", int64(got)-clockStart, ms)
		}
	}
	want(0)
	m.wall += 900
	want(0)
	m.pass(time.Millisecond)
	want(901)
	m.wall += 60_000
	if step := c.pending(); step != time.Minute {
		t.Fatalf("pending %v", step)
	}
	c.adopt(time.Minute)
	want(60_901)
}

// At start the store's high-water time is a floor, and a wall clock more than
// 30 days ahead of it is refused unless accepted.
func TestStartAgainstHighWater(t *testing.T) {
	f := func(floor time.Duration, accept bool, wantMs int64, skewed bool) {
		t.Helper()
		m := &machine{wall: clockStart, mono: 7}
		hw := storage.UnixMsec(clockStart + floor.Milliseconds())
		c := newClock(m.read, hw, accept)
		if got := c.Now(); int64(got) != wantMs || c.Skewed() != skewed {
			t.Errorf("floor %v: now %d skewed %v, want %d %v", floor, got, c.Skewed(), wantMs, skewed)
		}
	}
	f(-time.Hour, false, clockStart, false)
	f(time.Hour, false, clockStart+time.Hour.Milliseconds(), false)
	f(-31*24*time.Hour, false, clockStart-31*24*time.Hour.Milliseconds(), true)
	f(-31*24*time.Hour, true, clockStart, false)
}
