package invariant

import "testing"

// A false condition panics exactly when checks are enabled.
func TestCheck(t *testing.T) {
	f := func(cond, wantPanic bool) {
		t.Helper()
		defer func() {
			if got := recover() != nil; got != wantPanic {
				t.Errorf("Check(%v): panic %v, want %v", cond, got, wantPanic)
			}
		}()
		Check(cond, "the sky is up")
	}
	f(true, false)
	f(false, Enabled)
}

func TestCheckDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Check(true, "free") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
