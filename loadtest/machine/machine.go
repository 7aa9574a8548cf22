// Package machine reads what the kernel counts: the processor time of the whole
// machine, of which others may have taken a share, and that of one process. A
// measurement that others disturbed says so by it.
//
// It knows Linux only; elsewhere every reading is an error.
package machine

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Ticks are the processor times of the whole machine since it started, in units
// of the kernel.
type Ticks struct{ All, Stolen, Idle int64 }

// Now reads the machine's ticks.
func Now() (Ticks, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Ticks{}, err
	}
	return parse(text)
}

// parse reads the first line of a /proc/stat.
//
// Source: proc_stat(5): user nice system idle iowait irq softirq steal.
func parse(text []byte) (t Ticks, err error) {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(first)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return Ticks{}, fmt.Errorf("/proc/stat begins with %q", first)
	}
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return Ticks{}, fmt.Errorf("/proc/stat: %w", err)
		}
		switch t.All += n; i {
		case 3, 4:
			t.Idle += n
		case 7:
			t.Stolen = n
		}
	}
	return t, nil
}

// Since gives the shares, 0 to 1, of the processors that other machines took and
// that were idle since an earlier reading; ok is false where no tick passed.
func (t Ticks) Since(before Ticks) (stolen, idle float64, ok bool) {
	if t.All <= before.All {
		return 0, 0, false
	}
	all := float64(t.All - before.All)
	return float64(t.Stolen-before.Stolen) / all, float64(t.Idle-before.Idle) / all, true
}

// userTick is the unit of a process's times: USER_HZ is 100 on every Linux.
const userTick = 10 * time.Millisecond

// Process is the CPU time that a process has used, in user and kernel mode.
//
// Source: proc_pid_stat(5): fields 14 and 15; the name in field 2 may hold
// anything but ends with the last parenthesis.
func Process(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var sum int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		sum += n
	}
	return time.Duration(sum) * userTick, nil
}
