// Command scale measures how cost grows with the number of live offers, on the
// machine it runs on:
//
//   - Decide in process at 10, 100, 1,000 and 10,000 live offers, spread over 16
//     placements and all in one, in a fixed order and by product, hot and cold;
//   - the worst case: 10,000 offers in one placement of which none holds;
//   - an event that flips a bit, with the decision after it;
//   - a publish that adds a segment and an offer for it, and the first decision
//     of a person after it;
//   - the count of a rule of five conditions, and ids streamed;
//   - resident bytes, by part.
//
// Times are CPU times of the measuring thread, which neighbours on a shared
// machine disturb least. Beside every decision stands a reference measured in
// turns with it: a probe of two dependent cold reads, an index bucket and a row.
// The figure is the least of the rounds, the spread stands beside it.
//
// Run it from the module root: go run ./bench/scale [-users N] [-quick]. -json
// and -svg name the files to write. It works in a temporary folder and leaves
// nothing else behind.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"tact/engine"
	"tact/storage"
)

// options are the sizes of a run.
type options struct {
	users     int
	quick     bool
	rounds    int
	decisions int // of a round
	pool      int // people that cold decisions are about
	json, svg string
	drawn     string
}

func main() {
	o := options{rounds: 7, decisions: 50_000, pool: 200_000}
	flag.IntVar(&o.users, "users", 1_000_000, "people in the store")
	flag.BoolVar(&o.quick, "quick", false, "50,000 people and up to 1,000 offers: a minute")
	flag.StringVar(&o.json, "json", "", "file for the figures; empty: standard output")
	flag.StringVar(&o.svg, "svg", "", "file for the curve; empty: none")
	flag.StringVar(&o.drawn, "draw", "", "measure nothing: draw the figures of this file into -svg")
	flag.Parse()
	if o.quick {
		o.users, o.rounds, o.decisions = min(o.users, 50_000), 5, 10_000
	}
	o.pool = min(o.pool, o.users)
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// figure is one measured number.
type figure struct {
	Name       string  `json:"name"`
	Value      float64 `json:"value"`
	Unit       string  `json:"unit"`
	Most       float64 `json:"most,omitempty"`  // the greatest of the rounds
	Probe      float64 `json:"probe,omitempty"` // ns of the reference in the same rounds
	Conditions string  `json:"conditions,omitempty"`
}

// report is everything a run found.
type report struct {
	When    string   `json:"when"`
	Go      string   `json:"go"`
	CPUs    int      `json:"cpus"`
	Load    string   `json:"load_average"` // before and after
	Users   int      `json:"users"`
	Figures []figure `json:"figures"`
	Curves  []curve  `json:"curves"`
}

// curve is the growth of one kind of decision.
type curve struct {
	Name   string  `json:"name"`
	Points []point `json:"points"`
}

type point struct {
	Offers int     `json:"offers"`
	Ns     float64 `json:"ns"`
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
	folder, err := os.MkdirTemp("", "scale-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	r := &report{
		When: time.Now().UTC().Format(time.RFC3339), Go: runtime.Version(),
		CPUs: runtime.NumCPU(), Load: loadAverage(), Users: o.users,
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
	b := &bed{o: o, e: e, r: r, probe: newProbe(o.users)}
	for _, section := range []func() error{
		b.load, b.people, b.curves, b.nothing, b.events, b.publishing,
	} {
		if err := section(); err != nil {
			return err
		}
	}
	r.Load += " | " + loadAverage()
	return o.write(r)
}

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

// loadAverage is the machine's, of 1, 5 and 15 minutes.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return string(text[:min(len(text), 14)])
}

// add notes a figure and prints it.
func (r *report) add(f figure) {
	r.Figures = append(r.Figures, f)
	fmt.Fprintf(os.Stderr, "%-64s %10.1f %s (to %.1f, probe %.0f) %s\n",
		f.Name, f.Value, f.Unit, f.Most, f.Probe, f.Conditions)
}
