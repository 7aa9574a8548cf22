package storage

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Trials that may end their process, since a panic of Pebble's cannot be caught,
// run in children: this binary again, which runs trials from..to and writes a
// line when one begins and when it ends.
const (
	childRange = "TACT_CHILD" // "name from to"
	childHang  = 90 * time.Second
)

// childTrials runs the trials that the parent asked for, when this process is the
// child of the test of that name.
func childTrials(name string, trial func(i int) (outcome string)) bool {
	fields := strings.Fields(os.Getenv(childRange))
	if len(fields) != 3 || fields[0] != name {
		return false
	}
	from, err1 := strconv.Atoi(fields[1])
	to, err2 := strconv.Atoi(fields[2])
	if err1 != nil || err2 != nil {
		fmt.Println("bad range", fields)
		os.Exit(1)
	}
	for i := from; i < to; i++ {
		fmt.Println("begin", i)
		fmt.Println("end", i, strings.ReplaceAll(trial(i), "\n", " / "))
	}
	return true
}

// childRun is what the trials of children came to.
type childRun struct {
	done     int
	outcomes map[string]int // by first word
	faults   []string
}

// runTrials runs trials first..first+n-1 in children, each at most batch of them,
// until ten have failed. A trial fails when its outcome begins with "FAULT", when
// its process ends, and when it says nothing for childHang.
func runTrials(t *testing.T, name string, first, n, batch int) childRun {
	t.Helper()
	run := childRun{outcomes: map[string]int{}}
	p := newProgress(t, name, n)
	defer func() { p.end(run.done, len(run.faults)) }()
	for i := first; i < first+n && len(run.faults) < 10; {
		before := len(run.faults)
		i = run.child(t, name, i, min(i+batch, first+n))
		p.at(run.done, len(run.faults))
		for _, fault := range run.faults[before:] {
			p.line(fault)
		}
	}
	return run
}

// child runs trials i..to-1 and returns the next one to run.
func (r *childRun) child(t *testing.T, name string, i, to int) int {
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v=false")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", childRange, name, i, to))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var hung atomic.Bool
	watch := time.AfterFunc(childHang, func() { hung.Store(true); _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	at := i // the trial under way
	var said []string
	for lines.Scan() {
		watch.Reset(childHang)
		word, rest, _ := strings.Cut(lines.Text(), " ")
		number, outcome, _ := strings.Cut(rest, " ")
		if n, err := strconv.Atoi(number); word == "end" && err == nil && n == at {
			r.outcome(name, at, outcome)
			at++
		} else if word != "begin" {
			said = append(said, lines.Text())
		}
	}
	watch.Stop()
	err = cmd.Wait()
	if at == to {
		return to
	}
	why := fmt.Sprintf("its process ended: %v", err)
	if hung.Load() {
		why = fmt.Sprintf("it said nothing for %v", childHang)
	}
	text := strings.Join(said, "\n") + stderr.String()
	r.outcome(name, at, fmt.Sprintf("FAULT %s\n%.3000s", why, text))
	return at + 1
}

func (r *childRun) outcome(name string, i int, outcome string) {
	r.done++
	word, _, _ := strings.Cut(outcome, " ")
	r.outcomes[word]++
	if word == "FAULT" {
		r.faults = append(r.faults, fmt.Sprintf("%s %d: %s", name, i, outcome))
	}
}

// report fails the test with every fault, and says how to repeat one.
func (r *childRun) report(t *testing.T, name string) {
	t.Helper()
	for _, f := range r.faults {
		t.Errorf("%s\nagain: TACT_SEED=N TACT_TRIALS=1 go test -run '^%s$' ./storage", f, t.Name())
	}
	t.Logf("%s: %d trials: %v", name, r.done, r.outcomes)
}

// trials scales a number of trials as effort does; TACT_TRIALS=n says it.
func trials(t *testing.T, full int, short float64) int {
	t.Helper()
	if v := os.Getenv("TACT_TRIALS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	share := short
	if v := os.Getenv("TACT_EFFORT"); v != "" {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			t.Fatal(err)
		}
		share = f
	}
	return max(1, int(float64(full)*share))
}

// progress tells how far a long run has come: a line in $TACT_REPORT, a file, now
// and then and at the end, so that a run that is cut short has said what it did.
type progress struct {
	t     *testing.T
	name  string
	goal  int // 0: nobody knows
	begun time.Time
	last  time.Time
}

func newProgress(t *testing.T, name string, goal int) *progress {
	return &progress{t: t, name: name, goal: goal, begun: time.Now(), last: time.Now()}
}

func (p *progress) at(done, faults int) {
	if time.Since(p.last) > 5*time.Second {
		p.write(done, faults)
	}
}

func (p *progress) end(done, faults int) { p.write(done, faults) }

func (p *progress) write(done, faults int) {
	p.last = time.Now()
	of := ""
	if p.goal > 0 {
		of = fmt.Sprintf(" of %d", p.goal)
	}
	p.line(fmt.Sprintf("%s: %d%s done, first seed %d, %d faults, %.0f s", p.name, done, of,
		firstSeed(p.t), faults, time.Since(p.begun).Seconds()))
}

// line adds a line to the report.
func (p *progress) line(text string) {
	path := os.Getenv("TACT_REPORT")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, text); err != nil {
		p.t.Error(err)
	}
}
