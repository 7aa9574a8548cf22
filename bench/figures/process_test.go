package main

import (
	"os"
	"testing"
	"time"
)

// The CPU time of this process rises by about what it burns.
func TestProcessCPU(t *testing.T) {
	before, err := processCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := before + 5*tick; ; {
		now, err := processCPU(os.Getpid())
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
	if _, err := processCPU(-1); err == nil {
		t.Error("a process that is not there has CPU time")
	}
}

func TestStolenSince(t *testing.T) {
	f := func(before, after cpuTimes, want float64) {
		t.Helper()
		if got := after.stolenSince(before); got != want {
			t.Errorf("from %+v to %+v: %v, want %v", before, after, got, want)
		}
	}
	f(cpuTimes{}, cpuTimes{}, 0)
	f(cpuTimes{all: 100, stolen: 1}, cpuTimes{all: 200, stolen: 11}, 0.1)
	if _, err := machineCPU(); err != nil {
		t.Error(err)
	}
}

// Stolen CPU spoils times and leaves counts alone.
func TestSection(t *testing.T) {
	var table table
	err := table.section(func() error {
		table.add(figure{Name: "time"})
		table.add(figure{Name: "count", count: true})
		time.Sleep(time.Millisecond)
		return nil
	})
	if err != nil || len(table.figures) != 2 || !table.figures[1].Measured ||
		table.figures[0].Measured != (table.stolen <= mostStolen) {
		t.Errorf("%+v, %v", table, err)
	}
}
