package storage

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/storage/lossy"
)

// hangAfter is when a call is said to hang: far beyond Options.CommitMax of these
// trials, on a machine that is busy.
const (
	faultCommitMax = 500 * time.Millisecond
	hangAfter      = 20 * time.Second
	faultSteps     = 40
	faultPeople    = 6
)

// faultRun is one client of a store whose disk fails. What was answered is kept.
type faultRun struct {
	in   *injection
	mem  *lossy.FS
	s    *Store
	log  logText
	hung string

	commitMax time.Duration // 0: faultCommitMax

	events [faultPeople]int // answered, by person; a decision is in the frame of each
	docs   int              // answered documents 0..docs-1
	lists  int              // answered edits
	grants [faultPeople]int

	decisions int // asked for

	refused int  // calls that were answered with an error
	late    bool // a call was answered well after an error
}

// logText keeps what the store says.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func faultOptions(fs vfs.FS, log *slog.Logger) Options {
	o := testOptions(fs)
	o.CommitMax, o.JournalSlots, o.Logger = faultCommitMax, 64, log
	o.LogEvery, o.LogBlock, o.LogSegment = 3*time.Millisecond, 2<<10, 16<<10
	o.KeepEffects, o.KeepDecisions = -1, -1
	o.hooks.memTable = 64 << 10
	o.hooks.shm = &ringMemory{}
	return o
}

// within runs f and says whether it came back.
func (r *faultRun) within(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(hangAfter):
		if r.hung == "" {
			r.hung = what
		}
		return errors.New("hangs")
	}
}

func faultPerson(i int) []byte { return fmt.Appendf(nil, "person-%d", i) }

// person finds or makes a person; the frame is that of its making, or 0.
func (r *faultRun) person(i int) (*Group, Ord, error) {
	id := faultPerson(i)
	hash, slot := r.s.IndexHash(1, id), r.s.SlotOf(1, id)
	g := r.s.GroupOf(slot)
	g.Lock()
	if o, ok := g.Find(1, hash, id); ok {
		g.Unlock()
		return g, o, nil
	}
	person, o := g.NextPerson()
	e := Effect{Kind: EffectCreate, Ord: o, Time: testDay, Create: CreateEffect{
		Workspace: 1, Slot: slot, Person: person, ID: id, IDHash: hash, Key: g.NewKey(),
	}}
	frame, err := g.Append(&e)
	g.Unlock()
	if err == nil {
		err = r.s.Wait(g.id, frame, 0)
	}
	return g, o, err
}

func (r *faultRun) event(i int) error {
	g, o, err := r.person(i)
	if err != nil {
		return err
	}
	g.Lock()
	frame, err := g.Append(&Effect{Kind: EffectEvent, Ord: o, Time: testDay, Event: EventEffect{
		Event: 1, Occurred: testDay, Raw: bytes.Repeat([]byte("x"), 900),
	}})
	if err == nil {
		r.decisions++
		frame, err = g.Append(&Effect{Kind: EffectDecision, Ord: o, Time: testDay, Decision: DecisionEffect{
			ID: DecisionID{1, byte(r.decisions >> 8), byte(r.decisions)}, Record: []byte("of an event"),
		}})
	}
	g.Unlock()
	if err == nil {
		err = r.s.Wait(g.id, frame, 0)
	}
	if err == nil {
		r.events[i]++
	}
	return err
}

func (r *faultRun) grant(i int) error {
	g, o, err := r.person(i)
	if err != nil {
		return err
	}
	if err = grantSafely(r.s, g, o, 3); err == nil {
		r.grants[i]++
	}
	return err
}

func (r *faultRun) doc() error {
	err := r.s.PutDoc(Doc{fmt.Sprint("doc/", r.docs), []byte("content")})
	if err == nil {
		r.docs++
	}
	return err
}

func (r *faultRun) list() error {
	_, err := r.s.EditList(&ListEdit{List: 1, Add: [][16]byte{{byte(r.lists), 1}}})
	if err == nil {
		r.lists++
	}
	return err
}

// step makes one call of the client. A class of error is told, reads go on.
func (r *faultRun) step(i int) error {
	calls := []struct {
		name string
		f    func() error
	}{
		{"event", func() error { return r.event(i % faultPeople) }},
		{"grant", func() error { return r.grant(i % faultPeople) }},
		{"event", func() error { return r.event(i % faultPeople) }},
		{"document", r.doc},
		{"event", func() error { return r.event(i % faultPeople) }},
		{"list", r.list},
	}
	c := calls[i%len(calls)]
	err := r.within(c.name, c.f)
	switch {
	case err == nil && r.refused > 0:
		r.late = true
	case err == nil, r.hung != "":
	case errors.Is(err, ErrUnknown), errors.Is(err, ErrFenced), errors.Is(err, ErrDiskFull):
		r.refused++
	default:
		return fmt.Errorf("%s: an error without a class: %w", c.name, err)
	}
	return r.within("read", func() error {
		return errors.Join(r.reads(i%faultPeople), r.readsDoc())
	})
}

// reads looks for a person of whom something was answered.
func (r *faultRun) reads(i int) error {
	id := faultPerson(i)
	g := r.s.GroupOf(r.s.SlotOf(1, id))
	g.Lock()
	defer g.Unlock()
	o, ok := g.Find(1, r.s.IndexHash(1, id), id)
	if !ok {
		if r.events[i] > 0 {
			return fmt.Errorf("%s cannot be read", id)
		}
		return nil
	}
	if n := g.Tail(o).Len(); n < r.events[i] {
		return fmt.Errorf("%s has %d events, %d were answered", id, n, r.events[i])
	}
	return nil
}

// readsDoc reads a document from the disk, which may say that it cannot.
func (r *faultRun) readsDoc() error {
	if r.docs > 0 {
		_, err := r.s.GetDoc("doc/0")
		if errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// live opens the store, uses it and ends it. opened is false when it did not open.
func (r *faultRun) live() (opened bool, err error) {
	log := slog.New(slog.NewTextHandler(&r.log, nil))
	err = r.within("open", func() (err error) {
		o := faultOptions(injectFS{r.mem, r.in}, log)
		o.CommitMax = cmp.Or(r.commitMax, faultCommitMax)
		r.s, err = Open("store", o)
		return err
	})
	if err != nil || r.hung != "" {
		return false, err
	}
	for i := range faultSteps {
		if err := r.step(i); err != nil || r.hung != "" {
			return true, err
		}
		time.Sleep(time.Millisecond)
	}
	return true, nil
}

// verify opens a disk that works again and looks for all that was answered.
func (r *faultRun) verify(fs *lossy.FS) error {
	s, err := Open("store", faultOptions(fs, nil))
	if err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	old := r.s
	r.s = s
	defer func() { r.s = old }()
	for i := range faultPeople {
		err = errors.Join(err, r.reads(i), r.counted(i))
	}
	for i := range r.docs {
		_, e := s.GetDoc(fmt.Sprint("doc/", i))
		err = errors.Join(err, e)
	}
	for i := range r.lists {
		if !s.Listed([16]byte{byte(i), 1}) {
			err = errors.Join(err, fmt.Errorf("entry %d of the list is gone", i))
		}
	}
	return errors.Join(err, r.logged(), s.VerifyLog(), s.Check(), s.Close())
}

// logged looks for all answered events, and their decisions, in the event log and
// the frames behind it. Each is there once.
func (r *faultRun) logged() error {
	var people [faultPeople]PersonRef
	for i := range people {
		id := faultPerson(i)
		g := r.s.GroupOf(r.s.SlotOf(1, id))
		g.Lock()
		if o, ok := g.Find(1, r.s.IndexHash(1, id), id); ok {
			people[i] = PersonRef{Group: g.id, Ord: o, Person: 1}
		}
		g.Unlock()
	}
	for _, decisions := range []bool{false, true} {
		var n [faultPeople]int
		seen := make(map[string]bool)
		err := r.s.ScanLog(&LogQuery{Decisions: decisions, Personal: true}, func(e *LogEntry) error {
			for i, p := range people {
				mine := p.Person != 0 && p.Group == e.Group && p.Ord == e.Effect.Ord
				if mine && (decisions || e.Effect.Kind == EffectEvent) {
					n[i]++
				}
			}
			if key := string(e.Effect.Decision.ID[:]); decisions && seen[key] {
				return fmt.Errorf("decision %x is in the log twice", key)
			} else if decisions {
				seen[key] = true
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("event log: %w", err)
		}
		for i := range n {
			if n[i] < r.events[i] {
				return fmt.Errorf("event log, decisions %v: %d of person %d, %d were answered",
					decisions, n[i], i, r.events[i])
			}
		}
	}
	return nil
}

func (r *faultRun) counted(i int) error {
	if r.grants[i] == 0 {
		return nil
	}
	g, o, err := r.person(i)
	if err != nil {
		return err
	}
	g.Lock()
	defer g.Unlock()
	u := g.Contact(o).Count(personKey(3).Key, 0, g.Instant(secondOf(r.s.HighWater())))
	if int(u.N) < r.grants[i] {
		return fmt.Errorf("person %d: %d uses are held, %d were answered", i, u.N, r.grants[i])
	}
	return nil
}

// faultTrial runs a client on a disk that fails at an operation, and looks at what
// is left after the end of the process and after a power loss.
func faultTrial(mode injectMode, index int64, seed uint64) string {
	r := &faultRun{in: &injection{mode: mode, index: index}, mem: lossy.New()}
	opened, err := r.live()
	rng := rand.New(rand.NewPCG(seed, 23))
	power := r.mem.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: []int{0, 10, 50, 90}[rng.IntN(4)], RNG: rng,
	})
	killed := r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
	outcome := "unhurt"
	if r.in.hits.Load() == 0 {
		outcome = "missed"
	}
	switch {
	case r.hung != "":
		return fmt.Sprintf("FAULT %s: %s hangs\n%s", r.in, r.hung, r.log.String())
	case !opened && r.in.hits.Load() == 0:
		return fmt.Sprintf("FAULT %s: open: %v", r.in, err)
	case !opened:
		outcome = "refused"
	case err != nil:
		return fmt.Sprintf("FAULT %s: %v", r.in, err)
	case r.s.Err() != nil:
		outcome = "stopped"
		if !strings.Contains(r.log.String(), "level=ERROR") {
			return fmt.Sprintf("FAULT %s: it stopped without a word: %v", r.in, r.s.Err())
		}
	case r.refused > 0 && !r.late:
		return fmt.Sprintf("FAULT %s: nothing is taken any more, and nothing says so", r.in)
	case r.refused > 0:
		outcome = "resumed"
	}
	for name, fs := range map[string]*lossy.FS{"killed": killed, "power loss": power} {
		if err := r.verify(fs); err != nil {
			return fmt.Sprintf("FAULT %s: %s: %v", r.in, name, err)
		}
	}
	if opened && r.s.Err() == nil {
		if err := r.within("close", func() error { _ = r.s.Close(); return nil }); err != nil {
			return fmt.Sprintf("FAULT %s: close hangs", r.in)
		}
	}
	return outcome + " " + r.in.String()
}

// faultOps is how many operations of each mode a run on a disk that works has:
// once with the children's environment, so that they need not count again.
const faultOps = "TACT_FAULT_OPS"

// countFaults sets faultOps.
func countFaults(t *testing.T) (counts [injectModes]int64) {
	t.Helper()
	var text []string
	for mode := range counts {
		r := &faultRun{
			in: &injection{mode: injectMode(mode)}, mem: lossy.New(), commitMax: hangAfter,
		}
		if _, err := r.live(); err != nil || r.refused > 0 {
			t.Fatalf("a disk that works: %v, %d calls refused\n%s", err, r.refused, r.log.String())
		}
		if passes := r.s.logs.passes.Load(); passes == 0 {
			t.Fatal("nothing was moved into the event log")
		}
		counts[mode] = r.in.ops.Load() * 11 / 10 // it is not the same number each time
		mustClose(t, r.s)
		text = append(text, fmt.Sprint(counts[mode]))
	}
	t.Setenv(faultOps, strings.Join(text, " "))
	return counts
}

// faultCounts reads faultOps.
func faultCounts() (counts [injectModes]int64) {
	for mode, field := range strings.Fields(os.Getenv(faultOps)) {
		counts[mode], _ = strconv.ParseInt(field, 10, 64) // countFaults wrote it
	}
	return counts
}

// An input/output error, once or for ever, a full disk, a write that stops in the
// middle and a sync that fails, at every operation of the file system: nothing
// that was answered is lost, from the rows nor from the event log, no call hangs,
// reads go on, and a store that takes nothing more says why. Each in a child
// process. TACT_EFFORT=1 takes every index.
func TestIOFaults(t *testing.T) {
	n := trials(t, 1000, 0.05)
	every := n >= 1000
	trial := func(i int) string {
		counts := faultCounts()
		if !every {
			rng := rand.New(rand.NewPCG(firstSeed(t), uint64(i)))
			mode := injectMode(i % injectModes)
			return faultTrial(mode, 1+rng.Int64N(counts[mode]), uint64(i))
		}
		index := int64(i)
		for mode, ops := range counts {
			if index < ops {
				return faultTrial(injectMode(mode), index+1, uint64(i))
			}
			index -= ops
		}
		return "behind the end"
	}
	if childTrials("iofaults", trial) {
		return
	}
	counts := countFaults(t)
	if every {
		n = 0
		for _, ops := range counts {
			n += int(ops)
		}
	}
	run := runTrials(t, "iofaults", 0, n, 60)
	run.report(t, "iofaults")
}

// A document whose commit fails has an answer of a class, whoever hears it first: the
// caller that waits or the store that ends. Found by trial 451 of TestIOFaults.
func TestFailedDocumentHasAClass(t *testing.T) {
	in := &injection{}
	s, err := Open("store", faultOptions(injectFS{vfs.NewMem(), in}, nil))
	if err != nil {
		t.Fatal(err)
	}
	syncs := in.ops.Load()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	in = &injection{mode: injectSyncs, index: syncs + 1}
	if s, err = Open("store", faultOptions(injectFS{vfs.NewMem(), in}, nil)); err != nil {
		t.Fatal(err)
	}
	defer s.Close() // a dead store says so again
	for range int(syncs) + 1 {
		b := s.db.db.NewBatch()
		if err := b.Set(docKey("k"), []byte("v"), nil); err != nil {
			t.Fatal(err)
		}
		if err = s.commitDoc(b); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v, want an unknown outcome", err)
	}
	if err := s.PutDoc(Doc{"k", nil}); !errors.Is(err, ErrFenced) || errors.Is(err, ErrUnknown) {
		t.Fatalf("the next one: got %v, want only that the store has ended", err)
	}
}
