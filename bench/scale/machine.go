package main

import (
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
