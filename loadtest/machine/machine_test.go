package machine

import (
	"os"
	"testing"
)

func TestTicks(t *testing.T) {
	f := func(text string, want Ticks, ok bool) {
		t.Helper()
		if got, err := parse([]byte(text)); got != want || (err == nil) != ok {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	f("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1\n", Ticks{36, 8, 9}, true)
	f("cpu 1 2 3\n", Ticks{}, false)
	f("", Ticks{}, false)
	f("intr 1 2 3 4 5 6 7 8\n", Ticks{}, false)
	f("cpu 1 2 3 4 x 6 7 8\n", Ticks{}, false)
	if now, err := Now(); err != nil || now.All == 0 {
		t.Errorf("%v, %v", now, err)
	}
}

func TestSince(t *testing.T) {
	f := func(before, after Ticks, stolen, idle float64, ok bool) {
		t.Helper()
		if s, i, some := after.Since(before); s != stolen || i != idle || some != ok {
			t.Errorf("from %v to %v: %v, %v, %v", before, after, s, i, some)
		}
	}
	f(Ticks{100, 10, 50}, Ticks{200, 35, 60}, 0.25, 0.1, true)
	f(Ticks{100, 10, 50}, Ticks{100, 10, 50}, 0, 0, false)
	f(Ticks{}, Ticks{}, 0, 0, false)
}

// The CPU time of this process rises by about what it burns.
func TestProcess(t *testing.T) {
	before, err := Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := before + 5*userTick; ; {
		now, err := Process(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now < before {
			t.Fatalf("CPU time went back from %s to %s", before, now)
		}
		if now >= end {
			break
		}
	}
	if _, err := Process(-1); err == nil {
		t.Error("a process that is not there has CPU time")
	}
}
