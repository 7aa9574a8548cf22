package loadtest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Bounds past which a result is void: it would show the generator or the
// machine, and not the server.
const (
	maxLatenessShare = 0.10 // p99 of own lateness over the measured p99
	minAchieved      = 0.99 // issued over intended rate
	maxStolen        = 0.10 // share of CPU time taken by other machines
)

// faults says why the result must not be believed; empty is healthy.
func (t *tally) faults() []string {
	var faults []string
	late, p99 := t.lateness.ValueAtQuantile(99), t.latency.ValueAtQuantile(99)
	if t.lateness.TotalCount() > 0 && t.latency.TotalCount() > 0 &&
		float64(late) > maxLatenessShare*float64(p99) {
		faults = append(faults, fmt.Sprintf(
			"the generator sent late: p99 of its lateness is %s, more than %.0f %% of the measured p99 %s",
			short(late), 100*maxLatenessShare, short(p99)))
	}
	if a := t.achieved(); a < minAchieved {
		faults = append(faults, fmt.Sprintf(
			"the generator did not keep up: %.1f %% of the intended rate, less than %.0f %%",
			100*a, 100*minAchieved))
	}
	if t.stolen > maxStolen {
		faults = append(faults, fmt.Sprintf(
			"other machines took %.1f %% of the CPU time, more than %.0f %%",
			100*t.stolen, 100*maxStolen))
	}
	if t.requests() == 0 {
		faults = append(faults, "nothing was asked")
	}
	return faults
}

// cpuTicks are the ticks of the whole machine since it started.
type cpuTicks struct{ all, stolen int64 }

// stolenShare is the share of CPU time between two readings that the hypervisor
// gave to others; < 0 where no tick passed.
func stolenShare(before, after cpuTicks) float64 {
	if after.all <= before.all {
		return -1
	}
	return float64(after.stolen-before.stolen) / float64(after.all-before.all)
}

// machineTicks reads the first line of a /proc/stat.
//
// Source: proc_stat(5): user nice system idle iowait irq softirq steal.
func machineTicks(text []byte) (cpuTicks, error) {
	var c cpuTicks
	first, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Fields(string(first))
	if len(fields) < 9 || fields[0] != "cpu" {
		return c, fmt.Errorf("/proc/stat begins with %q", first)
	}
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return c, fmt.Errorf("/proc/stat: %w", err)
		}
		c.all += n
		if i == 7 {
			c.stolen = n
		}
	}
	return c, nil
}

// userTick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux.
const userTick = 10 * time.Millisecond

// processCPU is the CPU time that a process has used, read from its stat file.
//
// Source: proc_pid_stat(5): fields 14 and 15; the name in field 2 may hold
// anything but ends with the last parenthesis.
func processCPU(pid int) (time.Duration, error) {
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

// reading is what the machine and the processes had used at one moment.
type reading struct {
	machine cpuTicks
	own     time.Duration
	server  time.Duration
}

func (ph *phase) sample() (reading, error) {
	var r reading
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return r, err
	}
	if r.machine, err = machineTicks(text); err != nil {
		return r, err
	}
	if r.own, err = selfCPU(); err != nil {
		return r, err
	}
	for _, pid := range ph.pids {
		used, err := processCPU(pid)
		if err != nil {
			return r, err
		}
		r.server += used
	}
	return r, nil
}
