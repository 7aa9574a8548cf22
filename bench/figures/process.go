package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func listenAnywhere() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// onTerminate gives a channel that hears of SIGTERM and SIGINT.
func onTerminate() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, os.Interrupt)
	return c
}

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// processCPU is the CPU time a process has used, in user and kernel mode.
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
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * tick, nil
}

// cpuTimes are the ticks of the whole machine since it started.
type cpuTimes struct{ all, stolen int64 }

// machineCPU reads the first line of /proc/stat.
//
// Source: proc_stat(5): user nice system idle iowait irq softirq steal.
func machineCPU() (cpuTimes, error) {
	var c cpuTimes
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return c, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, f := range fields[1:9] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return c, err
		}
		c.all += n
		if i == 7 {
			c.stolen = n
		}
	}
	return c, nil
}

// stolenSince is the share of CPU, 0 to 1, that other machines took.
func (c cpuTimes) stolenSince(before cpuTimes) float64 {
	if c.all == before.all {
		return 0
	}
	return float64(c.stolen-before.stolen) / float64(c.all-before.all)
}
