package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tact/bench/synth"
	"tact/engine"
	"tact/engine/definition"
)

// The size of an event on its way into the log, about.
const eventBytes = 100

// ingestBatch is how many events become durable together.
const ingestBatch = 4096

// events makes events nobody has sent before.
type events struct {
	random *rand.Rand
	users  int
	serial *atomic.Int64
	docs   []engine.EventDoc // as many as the engine takes best at a time

	results []engine.LineResult
}

func (w *world) newEvents(stream uint64) *events {
	return &events{
		random: rand.New(rand.NewPCG(w.options.Seed, 100+stream)),
		users:  w.options.Users, serial: &w.serial,
		docs:    make([]engine.EventDoc, engine.EventsBlock()),
		results: make([]engine.LineResult, engine.EventsBlock()),
	}
}

// next makes an event that happens when it is received.
func (v *events) next() *engine.EventDoc {
	v.fill(&v.docs[0])
	return &v.docs[0]
}

// several makes as many events as the engine takes best at a time, n at most.
func (v *events) several(n int) []engine.EventDoc {
	docs := v.docs[:min(n, len(v.docs))]
	for i := range docs {
		v.fill(&docs[i])
	}
	return docs
}

func (v *events) fill(d *engine.EventDoc) {
	d.EventID = strconv.AppendInt(append(d.EventID[:0], "bench-"...), v.serial.Add(1), 10)
	d.UserID = synth.AppendUserID(d.UserID[:0], v.random.IntN(v.users))
	d.Event = strconv.AppendInt(append(d.Event[:0], "event_"...), int64(v.random.IntN(8)), 10)
	if d.Properties == nil {
		d.Properties = []engine.NamedValue{{
			Name: []byte("amount"), Value: engine.RawValue{Kind: engine.RawNumber},
		}}
	}
	number := &d.Properties[0].Value
	number.Text = strconv.AppendInt(number.Text[:0], int64(v.random.IntN(100_000)), 10)
}

// ingestBatched takes in batches against a bare log that syncs as many records.
func ingestBatched(w *world) (*trial, error) {
	log, err := newAppendLog(w.folder, ingestBatch, eventBytes)
	if err != nil {
		return nil, err
	}
	w.later(log.close)
	source := w.newEvents(1)
	t := &trial{clock: clockProcess, figure: Figure{
		Unit: "ns", Reference: "bare append log with fdatasync",
		Target: &Target{"P8: ≥ 40 % of a bare log is ≤ 2.5", 2.5},
		Conditions: map[string]string{
			"events a batch":           strconv.Itoa(ingestBatch),
			"record of the log, bytes": strconv.Itoa(eventBytes),
			"people":                   strconv.Itoa(w.options.Users),
		},
	}}
	w.settle()
	all := behind{began: processTime(), wrote: bytesWritten()}
	t.own = func(n int) (float64, error) {
		done, err := w.ingest(source, n*ingestBatch) // n turns out as batches
		all.done += done
		return done, err
	}
	t.reference = func(n int) (float64, error) {
		before := threadTime()
		done, err := log.run(n)
		all.others += threadTime() - before
		all.wrote += int64(done) * eventBytes
		return done, err
	}
	t.gather = func(f *Figure) {
		w.settle()
		f.Conditions["mean with all that is written behind, ns"] = strconv.Itoa(int(all.each()))
		f.Conditions["events in all"] = strconv.Itoa(int(all.done))
		if n := bytesWritten(); n > 0 {
			f.Conditions["bytes written an event"] = strconv.Itoa(int(float64(n-all.wrote) / all.done))
		}
	}
	return t, nil
}

// settle waits until little goes on in this process, thirty windows at most: what was
// loaded is still being sorted behind, for some time.
func (w *world) settle() {
	for range 30 {
		busy := processTime()
		time.Sleep(w.options.Window)
		if processTime()-busy < w.options.Window/20 {
			return
		}
	}
}

// behind is the processor time of everything from the first turn to the last: what is
// written behind events goes on while the reference has its turn.
type behind struct {
	began  time.Duration
	others time.Duration // of the reference's thread
	wrote  int64         // before, and by the reference
	done   float64
}

// bytesWritten is how many bytes this process has given to system calls that write; 0
// where the kernel does not say.
func bytesWritten() (n int64) {
	text, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "wchar: "); ok {
			n, _ = strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return n
}

// each is what an operation has cost, in nanoseconds.
func (b *behind) each() float64 {
	return float64((processTime() - b.began - b.others).Nanoseconds()) / b.done
}

// ingest takes n events in, batch by batch.
func (w *world) ingest(source *events, n int) (float64, error) {
	b := w.engine.Begin()
	done := 0
	for done < n {
		for left := ingestBatch; left > 0; {
			docs := source.several(left)
			b.Events(docs, source.results)
			for i := range docs {
				if err := source.results[i].Err; err != nil {
					return 0, err
				}
			}
			left -= len(docs)
		}
		if err := b.Commit(time.Minute); err != nil {
			return 0, err
		}
		done += ingestBatch
	}
	return float64(done), nil
}

// ingestSingle waits for each event, against fdatasync of one record: both by the
// wall, since both wait.
func ingestSingle(w *world) (*trial, error) {
	log, err := newAppendLog(w.folder, 1, eventBytes)
	if err != nil {
		return nil, err
	}
	w.later(log.close)
	source := w.newEvents(2)
	t := &trial{clock: clockWall, scale: 1e6, figure: Figure{
		Unit: "µs", Reference: "append of one record with fdatasync",
		Target:     &Target{"P8: ≤ 1.3 × fdatasync", 1.3},
		Conditions: map[string]string{"people": strconv.Itoa(w.options.Users), "callers": "1"},
	}}
	t.own = func(n int) (float64, error) {
		b := w.engine.Begin()
		for range n {
			if r := b.Event(source.next()); r.Err != nil {
				return 0, r.Err
			}
			if err := b.Commit(time.Minute); err != nil {
				return 0, err
			}
		}
		return float64(n), nil
	}
	t.reference = log.run
	return t, nil
}

// publishKnown changes a lever: conditions stay, so decisions see it with the swap.
func publishKnown(w *world) (*trial, error) {
	serial := 0
	return w.publishing(&Target{"P13: ≤ 100 ms", 100}, func() catalogueEdit {
		serial++
		return catalogueEdit{lever: fmt.Sprintf("1.%d", serial%9+1), serial: serial}
	})
}

// publishNew adds a condition with each publish.
func publishNew(w *world) (*trial, error) {
	serial := 0
	return w.publishing(nil, func() catalogueEdit {
		serial++
		return catalogueEdit{bound: 100 + serial, serial: serial}
	})
}

// catalogueEdit is one small change of the published files.
type catalogueEdit struct {
	lever  string
	bound  int
	serial int
}

// publishing measures from the call to a decision that sees the revision.
func (w *world) publishing(target *Target, next func() catalogueEdit) (*trial, error) {
	base := catalogue{offers: 1000, placements: 16}
	request := decideTrial{shown: base}.requests(w, 1)
	var dec engine.Decision
	t := &trial{clock: clockWall, scale: 1e3, fixed: true, warm: 1, figure: Figure{
		Unit: "ms", Target: target,
		Conditions: map[string]string{"people": strconv.Itoa(w.options.Users), "offers": "1000"},
	}}
	t.own = func(int) (float64, error) {
		edit := next()
		files := base.files()
		content := fmt.Sprintf("kind: offer\nid: extra\ngroup: place_0\nmessage_class: marketing\n"+
			"lever: %s\neligibility: {attribute: int_0, gte: %d}\n"+
			"treatments: [{id: a, channel: web, placements: [place_0], "+
			"content: {type: json, body: {n: %d}}}]\n",
			orDefault(edit.lever, "1"), orDefault(edit.bound, 100), edit.serial)
		files = append(files, definition.File{Name: "extra.yaml", Content: []byte(content)})
		view, faults, _, err := w.engine.Publish(files, "bench", "", 0)
		if err != nil || len(faults) > 0 {
			return 0, errors.Join(err, fmt.Errorf("publish: %d faults", len(faults)))
		}
		w.shown = catalogue{} // not what a catalogue says
		if err := w.engine.Decide(&request[0], &dec); err != nil {
			return 0, err
		}
		if dec.Revision != view.Number {
			return 0, fmt.Errorf("decided by revision %d after %d was published", dec.Revision, view.Number)
		}
		return 1, nil
	}
	return t, nil
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// collectorTime is the processor time of all collections so far by the runtime's account:
// marking by its own workers, by threads that had nothing else to do, and by those that
// allocated meanwhile, and what all processors waited while the world was stopped.
func collectorTime() (sum time.Duration) {
	samples := [...]metrics.Sample{
		{Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/assist:cpu-seconds"},
		{Name: "/cpu/classes/gc/pause:cpu-seconds"},
	}
	metrics.Read(samples[:])
	for i := range samples {
		sum += time.Duration(samples[i].Value.Float64() * 1e9)
	}
	return sum
}

// collectorLooks says what a collection has to look at.
func collectorLooks() string {
	samples := []metrics.Sample{
		{Name: "/gc/heap/objects:objects"},
		{Name: "/gc/scan/heap:bytes"},
		{Name: "/gc/scan/stack:bytes"},
		{Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(samples)
	mega := func(i int) float64 { return float64(samples[i].Value.Uint64()) / 1e6 }
	return fmt.Sprintf(
		"%d objects, %.1f MB of them with pointers, %.1f MB of stacks, %.1f MB of globals",
		samples[0].Value.Uint64(), mega(1), mega(2), mega(3))
}

// rest waits until a process, whose processor time is given, does next to nothing, and
// says so if it never does.
func (t *trial) rest(spent func() time.Duration) {
	const look, most = 100 * time.Millisecond, 20 * time.Second
	for began := time.Now(); time.Since(began) < most; {
		used := spent()
		time.Sleep(look)
		if spent()-used < look/12 { // timers alone take a twenty-fifth of a processor
			return
		}
	}
	t.note("at rest", "not, after "+most.String())
}

// fullGC collects with everything resident: processor time of one cycle, which is what the
// runtime says of it and the thread that asked for it. The time of the process would hold
// what a server does beside it too: frames and rows written behind, tables joined.
func fullGC(w *world) (*trial, error) {
	// The definitions in force are most of what a collection looks at.
	if err := w.publish(catalogue{offers: 1000, placements: 16}); err != nil {
		return nil, err
	}
	var spent time.Duration
	t := &trial{clock: clockOwn, spent: &spent, scale: 1e3, fixed: true, figure: Figure{
		Unit: "ms", Target: &Target{"P11: ≤ 5 ms", 5},
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "offers": "1000",
			"counted": "marking, pauses on all processors, and the thread that asks for it",
		},
	}}
	runtime.GC()
	// The runtime counts the time of its workers by the wall, what else wants the
	// processors included.
	t.between = func() error { t.rest(processTime); return nil }
	var process []float64
	t.own = func(int) (float64, error) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		all, own, collector := processTime(), threadTime(), collectorTime()
		runtime.GC()
		spent += threadTime() - own + collectorTime() - collector
		process = append(process, float64((processTime()-all).Microseconds())/1e3)
		t.note("looked at", collectorLooks())
		t.note("the whole process meanwhile", fmt.Sprintf("%.1f ms at least", slices.Min(process)))
		return 1, nil
	}
	return t, nil
}
