// Command figures measures the first figures on the machine it runs on
// and prints them with their conditions:
//
//   - Decide in process: nanoseconds and allocations, hot and cold;
//   - resident bytes a user;
//   - start-up: from nothing in memory to the first correct decision;
//   - CPU of the server process a decision over HTTP, as a multiple of a bare
//     fasthttp handler with a reply of the same size, in the same run.
//
// Absolute times of a shared machine prove little: the multiple is the least of
// interleaved pairs, and a section during which more than a tenth of the CPU was
// stolen says "not measured".
//
// Run it from the module root: go run ./bench/figures [-users N] [-json]. It
// works in a temporary folder and leaves nothing behind. It starts itself as
// child processes for the two servers.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"tact/bench/synth"
	"tact/engine"
	"tact/loadtest/machine"
)

// options are the sizes of a run.
type options struct {
	users, offers int
	caps          bool
	pairs         int
	window        time.Duration
	folder        string
	json          bool
	cpuProfile    string
	child         string // what this process is when it is a child: tact or bare
	replyBytes    int    // of a bare child
}

func main() {
	var o options
	flag.IntVar(&o.users, "users", 1_000_000, "people in the store")
	flag.IntVar(&o.offers, "offers", 1000, "live offers over 16 placements")
	flag.BoolVar(&o.caps, "caps", false,
		"judge ten caps; a decision in sixteen holds a reservation and waits for the disk")
	flag.IntVar(&o.pairs, "pairs", 5, "interleaved pairs of the HTTP measurement")
	flag.DurationVar(&o.window, "window", 2*time.Second, "length of one half of a pair")
	flag.BoolVar(&o.json, "json", false, "print one JSON document")
	flag.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile of the decisions in process")
	flag.StringVar(&o.child, "child", "", "internal: serve as tact or as bare")
	flag.StringVar(&o.folder, "folder", "", "internal: store of a child")
	flag.IntVar(&o.replyBytes, "reply", 0, "internal: bytes of a bare reply")
	flag.Parse()
	err := o.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func (o *options) run() error {
	if o.child != "" {
		return o.serveChild()
	}
	return o.measure()
}

// figure is one measured number.
type figure struct {
	Name       string  `json:"name"`
	Value      float64 `json:"value"`
	Unit       string  `json:"unit"`
	Spread     string  `json:"spread,omitempty"`
	Conditions string  `json:"conditions"`
	Measured   bool    `json:"measured"` // false: too much CPU was stolen
	count      bool    // of things, not of time: stolen CPU does not touch it
}

// mostStolen is the share of CPU above which a section is not measured.
const mostStolen = 0.10

// table gathers figures, section by section.
type table struct {
	figures []figure
	stolen  float64 // of the section under way
}

// section runs f and notes how much CPU others took meanwhile.
func (t *table) section(f func() error) error {
	from := len(t.figures)
	before, err := machine.Now()
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	after, err := machine.Now()
	if err != nil {
		return err
	}
	t.stolen, _, _ = after.Since(before)
	for i := range t.figures[from:] {
		t.figures[from+i].Measured = t.stolen <= mostStolen || t.figures[from+i].count
	}
	return nil
}

func (t *table) add(f figure) { t.figures = append(t.figures, f) }

// measure runs all sections on one population.
func (o *options) measure() (err error) {
	if o.folder, err = os.MkdirTemp("", "figures-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.folder)) }()
	t := new(table)
	if err := t.section(func() error { return o.prepare(t) }); err != nil {
		return err
	}
	if err := t.section(func() error { return o.inProcess(t) }); err != nil {
		return err
	}
	if err := t.section(func() error { return o.overHTTP(t) }); err != nil {
		return err
	}
	return o.print(t)
}

// prepare loads the population into the store and closes it.
func (o *options) prepare(t *table) (err error) {
	e, err := o.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	_, faults, _, err := e.Publish(
		synth.Catalogue(synth.CatalogueOptions{Offers: o.offers, Caps: o.caps}), "figures", "", 0)
	if err != nil || len(faults) > 0 {
		return fmt.Errorf("publish the catalogue: %w, faults %v", err, faults)
	}
	began := time.Now()
	events, err := synth.Load(cancelNever(), e, o.population(), nil)
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	t.add(figure{
		Name: "load, durable", Value: float64(o.users+events) / took, Unit: "users and events/s",
		Conditions: fmt.Sprintf("%d users, %d events", o.users, events),
	})
	stats := e.StoreStats()
	b := &stats.Bytes
	resident := float64(b.Rows+b.Slab+b.Index+b.Identities+b.Bitmaps+b.Dedup) / float64(o.users)
	t.add(figure{
		Name: "resident bytes a user", Value: resident, Unit: "B", count: true,
		Spread: fmt.Sprintf("rows %d, slabs %d, index %d, identities %d, bitmaps %d, dedup %d",
			b.Rows/int64(o.users), b.Slab/int64(o.users), b.Index/int64(o.users),
			b.Identities/int64(o.users), b.Bitmaps/int64(o.users), b.Dedup/int64(o.users)),
		Conditions: "20 attributes, 20 of 200 tags, 2 identities, 30 events each (none for a tenth)",
	})
	return nil
}

func (o *options) open() (*engine.Engine, error) {
	return engine.Open(filepath.Join(o.folder, "store"), engine.Options{})
}

func (o *options) population() *synth.Population {
	return synth.New(synth.Options{Users: o.users, Shape: synth.Bench})
}

func (o *options) print(t *table) error {
	if o.json {
		return json.NewEncoder(os.Stdout).Encode(map[string]any{
			"figures": t.figures, "go": runtime.Version(), "cpus": runtime.NumCPU(),
		})
	}
	fmt.Printf("%-52s %14s  %-20s %s\n", "figure", "value", "unit", "conditions")
	for _, f := range t.figures {
		value := fmt.Sprintf("%.2f", f.Value)
		if !f.Measured {
			value = "not measured"
		}
		fmt.Printf("%-52s %14s  %-20s %s\n", f.Name, value, f.Unit, f.Conditions)
		if f.Spread != "" {
			fmt.Printf("%-52s %14s  %s\n", "", "", f.Spread)
		}
	}
	fmt.Printf("%s, %d CPUs\n", runtime.Version(), runtime.NumCPU())
	return nil
}
