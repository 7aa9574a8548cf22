// Command scale measures how cost grows with the number of live offers and with
// the number of people, on the machine it runs on:
//
//   - Decide in process at 10, 100, 1,000 and 10,000 live offers, spread over 16
//     placements and all in one, in a fixed order and by product, hot and cold;
//   - the worst case: 10,000 offers in one placement of which none holds;
//   - an event that flips a bit, with the decision after it;
//   - a publish that adds a segment and an offer for it, the count of its people,
//     and the first decision of a person after it;
//   - the count of a rule of five conditions, and ids streamed;
//   - resident bytes of a person, by part, of a tag, and of the process.
//
// Times are CPU times, which neighbours on a shared machine disturb least: of the
// measuring thread, or of the whole process where others work too (publish and
// count). Wall times stand beside them. Next to each stands a reference of the
// same run, measured in turns with it. The value is the least of the rounds, the
// ratio the least of the rounds' ratios, and the greatest stand beside both.
//
// Run it from the module root: go run ./bench/scale [-users N[,M…]] [-quick].
// Of several numbers of people each is measured when the store has grown to it.
// -json and -svg name the files to write. It works in a temporary folder and
// leaves nothing else behind.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"tact/bench"
	"tact/engine"
	"tact/loadtest/machine"
	"tact/storage"
)

// options are the sizes of a run.
type options struct {
	users     []int // rising
	held      int   // tags of a person
	quick     bool
	rounds    int
	decisions int // of a round
	pool      int // people that cold decisions are about, at most
	gc        int
	json, svg string
	drawn     string
}

func main() {
	o := options{rounds: 7, decisions: 50_000, pool: 3_000_000}
	users := flag.String("users", "1000000", "people in the store; several numbers: one run for each")
	flag.IntVar(&o.held, "held", 20, "tags of a person, of 200")
	flag.IntVar(&o.gc, "gc", 20, "percent by which the heap may grow between two collections")
	flag.BoolVar(&o.quick, "quick", false, "50,000 people and up to 1,000 offers: a minute")
	flag.StringVar(&o.json, "json", "", "file for the figures; empty: standard output")
	flag.StringVar(&o.svg, "svg", "", "file for the curve; empty: none")
	flag.StringVar(&o.drawn, "draw", "", "measure nothing: draw the figures of this file into -svg")
	flag.Parse()
	err := o.sizes(*users)
	if err == nil {
		err = o.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// sizes reads the numbers of people.
func (o *options) sizes(text string) error {
	for _, word := range strings.Split(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1000 {
			return fmt.Errorf("-users: %q is no number of at least 1000", word)
		}
		o.users = append(o.users, n)
	}
	if o.held < 1 || o.held > tags || !slices.IsSorted(o.users) {
		return fmt.Errorf("-users must rise, -held be 1 to %d", tags)
	}
	if o.quick {
		o.users, o.rounds, o.decisions = []int{50_000}, 5, 10_000
	}
	return nil
}

func (o *options) sizesText() string {
	var words []string
	for _, n := range o.users {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}

// figure is one measured number.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"` // the least of the rounds
	Unit  string  `json:"unit"`
	Most  float64 `json:"most,omitempty"` // the greatest of the rounds
	// Wall time of the same rounds, where CPU time is not all that is asked for.
	Wall     float64 `json:"wall,omitempty"`
	WallMost float64 `json:"wall_most,omitempty"`
	// The reference, in the same unit, its least; and the least and the greatest
	// ratio of one round.
	Reference      string  `json:"reference,omitempty"`
	ReferenceValue float64 `json:"reference_value,omitempty"`
	Ratio          float64 `json:"ratio,omitempty"`
	RatioMost      float64 `json:"ratio_most,omitempty"`
	Stolen         float64 `json:"stolen"`            // share of the processors, by other machines
	Missing        string  `json:"missing,omitempty"` // why it does not count
	Conditions     string  `json:"conditions,omitempty"`
}

// report is everything a call found.
type report struct {
	Command string `json:"command"`
	Go      string `json:"go"`
	CPU     string `json:"cpu"`
	CPUs    int    `json:"cpus"`
	Runs    []*run `json:"runs"`
}

// run is what was found with one number of people.
type run struct {
	Users   int      `json:"users"`
	Began   string   `json:"began"`
	Ended   string   `json:"ended"`
	Load    []string `json:"load_average"` // of 1, 5 and 15 minutes, before and after
	Stolen  float64  `json:"stolen"`       // share of the processors, by other machines
	Idle    float64  `json:"idle"`
	Figures []figure `json:"figures"`
	Curves  []curve  `json:"curves"`
}

// curve is the growth of one kind of decision.
type curve struct {
	Name   string  `json:"name"`
	Points []point `json:"points"`
}

type point struct {
	Offers    int     `json:"offers"`
	Ns        float64 `json:"ns"`
	Reference float64 `json:"reference"` // ns of the reference in the same rounds
}

// redraw draws the figures of an earlier run.
func (o *options) redraw() error {
	text, err := os.ReadFile(o.drawn)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", o.drawn, err)
	}
	return os.WriteFile(o.svg, draw(&r), 0o644)
}

func (o *options) run() (err error) {
	if o.drawn != "" {
		return o.redraw()
	}
	debug.SetGCPercent(o.gc)
	folder, err := os.MkdirTemp("", "scale-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	r := &report{
		Command: fmt.Sprintf("go run ./bench/scale -users %s -held %d", o.sizesText(), o.held),
		Go:      runtime.Version(), CPU: bench.ThisMachine().CPU, CPUs: runtime.NumCPU(),
	}
	e, err := engine.Open(folder, engine.Options{
		Storage: storage.Options{MinFree: 1, Ballast: 1 << 20},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if err := publish(e, shape{offers: 10}.definitions()); err != nil {
		return err
	}
	b := &bed{o: o, e: e}
	for _, users := range o.users {
		if err := b.measure(r, users); err != nil {
			return err
		}
		if err := o.write(r); err != nil {
			return err
		}
	}
	return nil
}

// measure lets the store grow to a number of people and measures everything.
func (b *bed) measure(r *report, users int) error {
	b.users, b.pool = users, min(b.o.pool, users)
	b.r = &run{
		Users: users, Began: time.Now().UTC().Format(time.RFC3339), Load: []string{loadAverage()},
	}
	r.Runs = append(r.Runs, b.r)
	before, _ := machine.Now() // without it nothing is known to be stolen
	for _, section := range []func() error{
		b.load, b.memory, b.tag, b.people, b.curves, b.nothing, b.flips, b.publishing, b.process,
	} {
		if err := section(); err != nil {
			return err
		}
	}
	after, _ := machine.Now()
	b.r.Stolen, b.r.Idle, _ = after.Since(before)
	b.r.Load = append(b.r.Load, loadAverage())
	b.r.Ended = time.Now().UTC().Format(time.RFC3339)
	return nil
}

// write writes what was found so far.
func (o *options) write(r *report) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if o.svg != "" {
		if err := os.WriteFile(o.svg, draw(r), 0o644); err != nil {
			return err
		}
	}
	if o.json == "" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(o.json, text, 0o644)
}

// add notes a figure and prints it.
func (b *bed) add(f figure) {
	b.r.Figures = append(b.r.Figures, f)
	line := fmt.Sprintf("%-72s %9.1f %s", f.Name, f.Value, f.Unit)
	if f.Most > 0 {
		line += fmt.Sprintf(" (to %.1f; wall %.1f to %.1f)", f.Most, f.Wall, f.WallMost)
	}
	if f.Ratio > 0 {
		line += fmt.Sprintf(", ×%.2f to %.2f of %s", f.Ratio, f.RatioMost, f.Reference)
	}
	fmt.Fprintln(os.Stderr, line, f.Conditions, f.Missing)
}
