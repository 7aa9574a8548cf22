package seeds

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fakeTest is a test that notes what it is told.
type fakeTest struct {
	deadline time.Time
	logs     []string
	faults   []string
}

func (f *fakeTest) Helper()                   {}
func (f *fakeTest) Name() string              { return "TestFake" }
func (f *fakeTest) Failed() bool              { return len(f.faults) > 0 }
func (f *fakeTest) Logf(s string, a ...any)   { f.logs = append(f.logs, fmt.Sprintf(s, a...)) }
func (f *fakeTest) Errorf(s string, a ...any) { f.faults = append(f.faults, fmt.Sprintf(s, a...)) }
func (f *fakeTest) Deadline() (time.Time, bool) {
	return f.deadline, !f.deadline.IsZero()
}

// environment sets what a run reads, and nothing else.
func environment(t *testing.T, pairs ...string) {
	t.Helper()
	for _, name := range []string{"TACT_EFFORT", "TACT_SEED", "TACT_TIME", "TACT_REPORT"} {
		t.Setenv(name, "")
	}
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
	}
}

// How long a run is and where it begins.
func TestLength(t *testing.T) {
	f := func(workers int, want uint64, first uint64, pairs ...string) {
		t.Helper()
		environment(t, pairs...)
		var played, least atomic.Uint64
		least.Store(1 << 60)
		fake := &fakeTest{}
		got := Run{Name: "x", Full: 1000, Few: 7, First: 1, Workers: workers}.Play(fake,
			func(seed uint64) (uint64, error) {
				played.Add(1)
				for was := least.Load(); seed < was && !least.CompareAndSwap(was, seed); {
					was = least.Load()
				}
				return 1, nil
			})
		if played.Load() != want || got.Seeds != want || got.Units != want || !got.Whole ||
			least.Load() != first {
			t.Errorf("%v: %d seeds from %d, %+v, want %d from %d", pairs, played.Load(), least.Load(),
				got, want, first)
		}
		if len(fake.faults) > 0 || len(fake.logs) != 1 {
			t.Errorf("%v: %q %q", pairs, fake.faults, fake.logs)
		}
	}
	for _, workers := range []int{0, 1, 4} {
		f(workers, 7, 1)
		f(workers, 1000, 1, "TACT_EFFORT", "1")
		f(workers, 10, 1, "TACT_EFFORT", "0.01")
		f(workers, 1, 1, "TACT_EFFORT", "0")
		f(workers, 1, 90, "TACT_SEED", "90")
		f(workers, 100, 90, "TACT_SEED", "90", "TACT_EFFORT", "0.1")
	}
}

// A run that counts something else than seeds ends when it has enough of it.
func TestUnits(t *testing.T) {
	environment(t)
	fake := &fakeTest{}
	run := Run{
		Name: "x", Unit: "calls", Full: 1, Few: 100, Counts: func() string { return "all well" },
	}
	got := run.Play(fake, func(uint64) (uint64, error) { return 30, nil })
	if got != (Result{Seeds: 4, Units: 120, Whole: true}) {
		t.Errorf("%+v", got)
	}
	want := "x: 120 of 100 calls done, first seed 0, 0 faults, 0 s, 4 seeds: all well"
	if len(fake.logs) != 1 || fake.logs[0] != want {
		t.Errorf("%q", fake.logs)
	}
}

// A fault ends the run, and is told with how to see it again.
func TestFault(t *testing.T) {
	environment(t)
	fake := &fakeTest{}
	got := Run{Name: "x", Full: 1000, Few: 50}.Play(fake, func(seed uint64) (uint64, error) {
		if seed == 7 {
			return 1, errors.New("broken")
		}
		return 1, nil
	})
	if got != (Result{Seeds: 8, Units: 8}) {
		t.Errorf("%+v", got)
	}
	want := "seed 7: broken\nagain: TACT_SEED=7 go test -run '^TestFake$'"
	if len(fake.faults) != 1 || fake.faults[0] != want {
		t.Errorf("%q", fake.faults)
	}
	if len(fake.logs) != 1 || !strings.Contains(fake.logs[0], "8 of 50 seeds done") ||
		!strings.Contains(fake.logs[0], "1 faults") {
		t.Errorf("%q", fake.logs)
	}
}

// A seed that ends the test by itself is named too, and what came before is told.
func TestEndedByItself(t *testing.T) {
	environment(t)
	fake := &fakeTest{}
	over := make(chan struct{})
	go func() {
		defer close(over)
		Run{Name: "x", Full: 1000, Few: 50}.Play(fake, func(seed uint64) (uint64, error) {
			if seed == 3 {
				runtime.Goexit() // as FailNow does
			}
			return 1, nil
		})
	}()
	<-over
	if len(fake.faults) != 1 || !strings.HasPrefix(fake.faults[0], "seed 3: it ended the test\n") ||
		len(fake.logs) != 1 || !strings.HasPrefix(fake.logs[0], "x: 3 of 50 seeds done") {
		t.Errorf("%q %q", fake.faults, fake.logs)
	}
}

// What is cut short says what it achieved: by the test's deadline, by the budget and
// by an interrupt, of which the last is no success.
func TestCutShort(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report")
	f := func(what string, fake *fakeTest, each func(), pairs ...string) {
		t.Helper()
		environment(t, append(pairs, "TACT_REPORT", report)...)
		n := uint64(0)
		got := Run{Name: "x", Full: 1, Few: 1 << 40}.Play(fake, func(uint64) (uint64, error) {
			n++
			each()
			return 1, nil
		})
		if got.Whole || got.Seeds != n || len(fake.logs) != 1 ||
			!strings.HasPrefix(fake.logs[0], fmt.Sprintf("x: %d of 1099511627776 seeds done", n)) ||
			!strings.Contains(fake.logs[0], what) {
			t.Errorf("%s: %+v after %d: %q", what, got, n, fake.logs)
		}
		if failed := what == "interrupted"; fake.Failed() != failed {
			t.Errorf("%s: %q", what, fake.faults)
		}
		text, err := os.ReadFile(report)
		if err != nil || !strings.HasSuffix(string(text), fake.logs[0]+"\n") {
			t.Errorf("%s: report %q, %v", what, text, err)
		}
	}
	nap := func() { time.Sleep(time.Millisecond) }
	f("its time is over", &fakeTest{deadline: time.Now().Add(spare + 20*time.Millisecond)}, nap)
	f("its time is over", &fakeTest{}, nap, "TACT_TIME", "20ms")
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	sent := false
	f("interrupted", &fakeTest{}, func() {
		if !sent {
			sent = true
			if err := self.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
		nap()
	})
}

// What cannot be read is said, and nothing is played.
func TestBadEnvironment(t *testing.T) {
	f := func(name, value string) {
		t.Helper()
		environment(t, name, value)
		fake := &fakeTest{}
		Run{Name: "x", Full: 1, Few: 1}.Play(fake, func(uint64) (uint64, error) {
			t.Errorf("%s=%s: played", name, value)
			return 1, nil
		})
		if len(fake.faults) != 1 || !strings.Contains(fake.faults[0], name+"="+value) {
			t.Errorf("%q", fake.faults)
		}
	}
	f("TACT_EFFORT", "much")
	f("TACT_EFFORT", "-1")
	f("TACT_SEED", "x")
	f("TACT_TIME", "20")
}
