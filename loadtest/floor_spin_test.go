package loadtest

import (
	"testing"
	"time"
)

// A spinner works in proportion to its time, and not at all for none.
func TestSpinner(t *testing.T) {
	if s := newSpinner(0); s.steps != 0 {
		t.Errorf("%d steps for no time", s.steps)
	}
	if s := newSpinner(3 * time.Microsecond); s.steps <= 0 || s.spin() == 0 {
		t.Errorf("%d steps for 3 µs", s.steps)
	}
	if a, b := (spinner{1}).spin(), (spinner{2}).spin(); a == b {
		t.Errorf("one step and two give %d", a)
	}
}
