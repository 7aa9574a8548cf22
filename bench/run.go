package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"tact/bench/synth"
	"tact/engine"
)

// Options say what to run. The zero value of a number stands for its default.
type Options struct {
	Users    int            // people; default 1,000,000, quick 50,000
	Pairs    int            // turns of each figure; default 9, quick 5, at least 5
	Window   time.Duration  // length of a turn; default 1 s, quick 100 ms
	Seed     uint64         // of people and requests; default 1
	Quick    bool           // the small sizes, and Within of two minutes
	Within   time.Duration  // about how long all may take; default no bound, quick 2 min
	Only     *regexp.Regexp // names of workloads; nil: all
	Folder   string         // where stores lie; "" = a temporary folder
	Profiles string         // folder for a processor profile of each figure; "" = none

	// Server and Floor start servers in processes of their own, for the figures over
	// HTTP; nil leaves those out, said. The store lies in folder/store.
	Server func(ctx context.Context, folder string) (*Process, error)
	// A floor uses the processor for spin before each reply.
	Floor func(ctx context.Context, replyBytes int, spin time.Duration) (*Process, error)

	// Progress is told what goes on; nil: nobody.
	Progress func(done, planned int, what string)

	Build string   // which build this is, for the document
	Flags []string // as they were given
}

// Process is a server under test.
type Process struct {
	Address string // host:port
	Key     string // for Authorization: Bearer; "" = none
	PID     int
	Stop    func() error
}

func (o *Options) normalise() error {
	users, pairs, window := 1_000_000, 9, time.Second
	if o.Quick {
		users, pairs, window = 50_000, 5, 100*time.Millisecond
	}
	if o.Quick {
		o.Within = cmp.Or(o.Within, 2*time.Minute)
	}
	o.Users = cmp.Or(o.Users, users)
	o.Pairs = cmp.Or(o.Pairs, pairs)
	o.Window = cmp.Or(o.Window, window)
	o.Seed = cmp.Or(o.Seed, 1)
	var errs []error
	if o.Users < 1000 || o.Users > 20_000_000 {
		errs = append(errs, fmt.Errorf("users is %d: want 1,000 to 20,000,000", o.Users))
	}
	if o.Pairs < 5 || o.Pairs > 1000 {
		errs = append(errs, fmt.Errorf("pairs is %d: want 5 to 1,000", o.Pairs))
	}
	if o.Window < time.Millisecond || o.Window > time.Minute {
		errs = append(errs, fmt.Errorf("window is %v: want 1ms to 1m", o.Window))
	}
	return errors.Join(errs...)
}

// A workload makes trials: most one, a curve several.
type workload struct {
	name, about string
	// ready sets up the world and gives the trial.
	ready func(w *world) (*trial, error)
}

// Names lists the workloads in the order in which they run, with what they are.
func Names() [][2]string {
	var out [][2]string
	for _, w := range workloads() {
		out = append(out, [2]string{w.name, w.about})
	}
	return out
}

// Run runs the workloads that o asks for. When ctx ends it stops and returns what
// was done, which the document says; other errors are those of a workload.
func Run(ctx context.Context, o Options) (d *Document, err error) {
	if err := o.normalise(); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	if err := o.folders(); err != nil {
		return nil, err
	}
	var plan []workload
	for _, w := range workloads() {
		if o.Only == nil || o.Only.MatchString(w.name) {
			plan = append(plan, w)
		}
	}
	if len(plan) == 0 {
		return nil, fmt.Errorf("no workload has a name like %s", o.Only)
	}
	d = &Document{
		Format: formatVersion, Started: time.Now().UTC(), Machine: ThisMachine(), Build: o.Build,
		Flags: o.Flags, Users: o.Users, Seed: o.Seed, Planned: len(plan), Figures: []Figure{},
	}
	defer func() { d.Took = time.Since(d.Started) }()
	w := &world{options: &o, ctx: ctx}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.open(); err != nil {
		return d, w.cut(d, err)
	}
	for i, load := range plan {
		left, ok := o.share(time.Since(d.Started), len(plan)-i)
		if !ok {
			f := missing("", "the time was over").figure
			f.Name, f.About = load.name, load.about
			d.Figures = append(d.Figures, f)
			d.Cut = fmt.Sprintf("%v were over", o.Within)
			continue
		}
		o.say(d.Done, d.Planned, load.name)
		w.patience = left
		f, err := w.do(load)
		if err != nil {
			return d, w.cut(d, fmt.Errorf("%s: %w", load.name, err))
		}
		d.Figures = append(d.Figures, *f)
		d.Done++
	}
	o.say(d.Done, d.Planned, "")
	return d, nil
}

// share is how long the next of some workloads may take for pairs beyond the first
// three: twice its part of what is left of Options.Within, 0 for no bound. ok is false
// when half as much again has passed: the rest is not measured.
func (o *Options) share(passed time.Duration, workloads int) (left time.Duration, ok bool) {
	if o.Within == 0 {
		return 0, true
	}
	return max(2*(o.Within-passed)/time.Duration(workloads), 1), passed <= o.Within*3/2
}

// folders looks at the folders that are named before anything is measured.
func (o *Options) folders() error {
	for _, f := range [...]struct{ name, path string }{
		{"profiles", o.Profiles}, {"store", o.Folder},
	} {
		if f.path == "" {
			continue
		}
		info, err := os.Stat(f.path)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a folder", f.path)
		}
		if err != nil {
			return fmt.Errorf("folder of the %s: %w", f.name, err)
		}
	}
	return nil
}

func (o *Options) say(done, planned int, what string) {
	if o.Progress != nil {
		o.Progress(done, planned, what)
	}
}

// cut notes why a run ended early; an end that was asked for is no error.
func (w *world) cut(d *Document, err error) error {
	d.Cut = err.Error()
	if w.ctx.Err() != nil {
		d.Cut = "interrupted"
		return nil
	}
	return err
}

// world is what the workloads share: one population in one store.
type world struct {
	options *Options
	ctx     context.Context
	folder  string
	remove  bool
	engine  *engine.Engine
	events  int
	loading time.Duration
	shown   catalogue // the one published last
	server  *Process
	serial  atomic.Int64 // of events

	patience time.Duration // for the pairs of a workload beyond the first three; 0: no bound

	undo []func()
}

func (w *world) storeFolder() string { return filepath.Join(w.folder, "store") }

// open loads the population into a new store.
func (w *world) open() (err error) {
	o := w.options
	w.folder = o.Folder
	if w.folder == "" {
		if w.folder, err = os.MkdirTemp("", "tact-bench-"); err != nil {
			return err
		}
		w.remove = true
	}
	if _, err := os.Stat(w.storeFolder()); err == nil {
		return fmt.Errorf("%s is there already: give a folder without a store", w.storeFolder())
	}
	options := ringOptions()
	options.BackupDir = w.backupFolder()
	if w.engine, err = engine.Open(w.storeFolder(), options); err != nil {
		return err
	}
	if err := w.publish(catalogue{offers: 1000, placements: 16}); err != nil {
		return err
	}
	began := time.Now()
	people := synth.New(synth.Options{Users: o.Users, Shape: synth.Bench, Seed: o.Seed})
	w.events, err = synth.Load(w.ctx, w.engine, people, func(done int) {
		o.say(0, 0, fmt.Sprintf("loading %d of %d people", done, o.Users))
	})
	w.loading = time.Since(began)
	return err
}

// publish puts a catalogue in force, unless it is already.
func (w *world) publish(c catalogue) error {
	if w.shown == c {
		return nil
	}
	_, faults, _, err := w.engine.Publish(c.files(), "bench", "", 0)
	if err != nil || len(faults) > 0 {
		return errors.Join(err, fmt.Errorf("publish: %d faults: %v",
			len(faults), faults[:min(3, len(faults))]))
	}
	w.shown = c
	return nil
}

// do runs one workload.
func (w *world) do(load workload) (*Figure, error) {
	defer w.undoAll()
	t, err := load.ready(w)
	if err != nil {
		return nil, err
	}
	f := &t.figure
	f.Name, f.About = load.name, load.about
	if t.own == nil { // a count, or something that cannot be had here
		return f, nil
	}
	if err := w.options.measure(w.ctx, t, w.patience); err != nil {
		return nil, err
	}
	return f, nil
}

// later runs f when the workload is over.
func (w *world) later(f func()) { w.undo = append(w.undo, f) }

func (w *world) undoAll() {
	for i := len(w.undo) - 1; i >= 0; i-- {
		w.undo[i]()
	}
	w.undo = nil
}

func (w *world) close() error {
	var errs []error
	if w.server != nil {
		errs = append(errs, w.server.Stop())
	}
	if w.engine != nil {
		errs = append(errs, w.engine.Close())
	}
	if w.remove {
		errs = append(errs, os.RemoveAll(w.folder))
	}
	return errors.Join(errs...)
}

// missing is the figure of something that cannot be measured here.
func missing(unit, why string) *trial {
	return &trial{figure: Figure{Unit: unit, Missing: strings.TrimSpace(why)}}
}
