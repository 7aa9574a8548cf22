package journal

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"tact/storage/seeds"
)

// effort returns how many seeds to play: 1,000, or TACT_EFFORT × 1,000,000.
func effort(t *testing.T) (seeds uint64, long bool) {
	t.Helper()
	v := os.Getenv("TACT_EFFORT")
	if v == "" {
		return 1000, false
	}
	share, err := strconv.ParseFloat(v, 64)
	if err != nil {
		t.Fatal(err)
	}
	return max(1, uint64(share*1e6)), share >= 0.1
}

// runSeed plays one seed. A planted bug may make it panic, which counts as seen.
func runSeed(seed uint64, b bugs, sb simBugs) (fault string, n simCounts) {
	w := newWorld(seed, b, sb)
	defer func() {
		if p := recover(); p != nil {
			if b == (bugs{}) && sb == (simBugs{}) {
				panic(fmt.Sprintf("seed %d: %v", seed, p))
			}
			fault = fmt.Sprint(p)
		}
	}()
	fault = w.run()
	return fault, w.n
}

// TestSimulation plays seeds of grants, shows, confirms, power losses, kills,
// moves, stuck syncs and clock steps against the real journal. In no window may
// more uses be shown than a cap allows, and no confirm in time may be called late.
func TestSimulation(t *testing.T) {
	var mu sync.Mutex
	var sum simCounts
	run := seeds.Run{
		Name: "journal simulation", Full: 1_000_000, Few: 1000, Workers: runtime.GOMAXPROCS(0),
		Counts: func() string {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprintf("%+v", sum)
		},
	}
	run.Play(t, func(seed uint64) (uint64, error) {
		fault, n := runSeed(seed, bugs{}, simBugs{})
		mu.Lock()
		defer mu.Unlock()
		sum.add(&n)
		if fault != "" {
			return 1, errors.New(fault)
		}
		return 1, nil
	})
}

// Seeds that failed once stay. Each is named after what broke.
func TestSeedsThatFailed(t *testing.T) {
	f := func(seed uint64, name string) {
		t.Helper()
		if fault, _ := runSeed(seed, bugs{}, simBugs{}); fault != "" {
			t.Errorf("%s: seed %d: %s", name, seed, fault)
		}
	}
	f(2, "the frame after a recovery had the number of the recovery's own batch")
	f(323762, "the run ended before a batch of frames had taken in the group of a confirm")
	f(3, "a client that slept through its reservation's life was taken to be in time")
}

func (n *simCounts) add(o *simCounts) {
	n.grants += o.grants
	n.atOnce += o.atOnce
	n.power += o.power
	n.kills += o.kills
	n.moved += o.moved
	n.nested += o.nested
	n.lost += o.lost
	n.shown += o.shown
	n.waits += o.waits
	n.refused += o.refused
	n.eio += o.eio
	n.late += o.late
}
