package loadtest

import (
	"fmt"
	"time"

	"tact/loadtest/machine"
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
	if late := t.late(); late != "" {
		return append([]string{late}, t.spoilt()...)
	}
	return t.spoilt()
}

// late says that the generator's own lateness is too much of what was measured;
// empty when it is not.
func (t *tally) late() string {
	late, limit, of := t.lateness.ValueAtQuantile(99), t.latency.ValueAtQuantile(99), "measured p99"
	if t.bound > 0 {
		limit, of = int64(t.bound), "bound"
	} else if t.lateness.TotalCount() == 0 || t.latency.TotalCount() == 0 {
		return ""
	}
	if float64(late) <= maxLatenessShare*float64(limit) {
		return ""
	}
	return fmt.Sprintf(
		"the generator sent late: p99 of its lateness is %s, more than %.0f %% of the %s %s",
		short(late), 100*maxLatenessShare, of, short(limit))
}

// spoilt says what else voids the result.
func (t *tally) spoilt() []string {
	var faults []string
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

// reading is what the machine and the processes had used at one moment.
type reading struct {
	machine machine.Ticks
	own     time.Duration
	server  time.Duration
}

func (ph *phase) sample() (reading, error) {
	var r reading
	var err error
	if r.machine, err = machine.Now(); err != nil {
		return r, err
	}
	if r.own, err = selfCPU(); err != nil {
		return r, err
	}
	for _, pid := range ph.pids {
		used, err := machine.Process(pid)
		if err != nil {
			return r, err
		}
		r.server += used
	}
	return r, nil
}
