package main

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// loadAverage is the machine's, of 1, 5 and 15 minutes.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}

// ticks are the processor times of the whole machine since it started, in units
// of the kernel: all, what other machines took, and what ran here.
type ticks struct{ all, stolen, idle int64 }

// machineTicks reads the first line of /proc/stat; zero where there is none.
//
// Source: proc_stat(5): user nice system idle iowait irq softirq steal.
func machineTicks() (t ticks) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	for i, field := range bytes.Fields(line) {
		n, err := strconv.ParseInt(string(field), 10, 64)
		switch {
		case i == 0 || i > 8:
			continue
		case err != nil:
			return ticks{}
		case i == 4 || i == 5:
			t.idle += n
		case i == 8:
			t.stolen = n
		}
		t.all += n
	}
	return t
}

// since gives which shares of the processors were taken by other machines and
// which were idle.
func (t ticks) since(before ticks) (stolen, idle float64) {
	all := float64(t.all - before.all)
	if all <= 0 {
		return 0, 0
	}
	return float64(t.stolen-before.stolen) / all, float64(t.idle-before.idle) / all
}

// cpuModel names the processor.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	_, rest, _ := strings.Cut(string(text), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimLeft(line, "\t :")
}

// resident gives the memory of this process that is in the machine now and was at
// most, in bytes, after what the heap does not need was given back.
//
// Source: proc_pid_status(5): VmRSS, VmHWM.
func resident() (now, most int64) {
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	kilobytes := func(name string) int64 {
		_, rest, _ := strings.Cut(string(text), name)
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return 0
		}
		return n << 10
	}
	return kilobytes("VmRSS:"), kilobytes("VmHWM:")
}
