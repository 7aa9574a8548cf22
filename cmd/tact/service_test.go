package main

import (
	"runtime"
	"testing"
)

// A server lets one goroutine more run than there are processors, unless the environment
// says how many, and takes it back.
func TestSpareProcessor(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	before := runtime.GOMAXPROCS(0)
	back := spareProcessor()
	if n := runtime.GOMAXPROCS(0); n != before+1 {
		t.Errorf("%d run at a time, want %d", n, before+1)
	}
	if back(); runtime.GOMAXPROCS(0) != before {
		t.Errorf("%d run at a time afterwards, want %d", runtime.GOMAXPROCS(0), before)
	}
	t.Setenv("GOMAXPROCS", "2")
	defer spareProcessor()()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("%d run at a time although the environment says how many", n)
	}
}
