package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tact/bench/synth"
	"tact/engine"
	"tact/storage"
)

// ringFolder is a tmpfs, as the server's default is.
const ringFolder = "/dev/shm"

// ringOptions opens a store with a ring, where this machine has a tmpfs for it.
func ringOptions() engine.Options {
	if _, err := os.Stat(ringFolder); err != nil {
		return engine.Options{}
	}
	return engine.Options{Storage: storage.Options{RingDir: ringFolder}}
}

// openPlacement is where sessions are opened.
const openPlacement = 0

// publishContacts sets a contact cap on the offers of the lower placements.
func (w *world) publishContacts() error {
	return w.publish(catalogue{offers: 1000, placements: 16, contact: true})
}

// liveAt asks for people from one on, at some placements: person by person, or in a
// random order.
func liveAt(from, people, place, places int, mixed bool) []engine.DecideRequest {
	out := make([]engine.DecideRequest, 0, people*places)
	for i := range people * places {
		out = append(out, engine.DecideRequest{
			UserID: synth.AppendUserID(nil, from+i/places), Mode: engine.ModeLive,
			Placements: []engine.PlacementAsk{{
				Key: []byte("p"), PlacementID: placeID(place + i%places),
			}},
		})
	}
	if mixed {
		rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	return out
}

// useOpen measures decisions that use a cap of a person whose session is open,
// against the same decisions where no cap applies. Every use is of another counter,
// and the journal is let come after between the rounds, outside of the clock: what a
// server does that is not asked faster than its disk writes.
type useOpen struct {
	hot bool

	w       *world
	caps    []engine.DecideRequest
	none    []engine.DecideRequest
	spent   time.Duration // of the deciding thread
	d, look engine.Decision
	waited  int
	asked   int
}

const (
	openPeople = 1 << 14 // whose sessions are open: with their rows more than a cache
	coldRound  = 2048    // grants between two rests; the journal holds several times as many
	hotRound   = 112     // of people whose rows are in the cache
	hotRounds  = 16      // a turn
)

func (o useOpen) ready(w *world) (*trial, error) {
	if err := w.publishContacts(); err != nil {
		return nil, err
	}
	u := &o
	u.w = w
	people, from := min(openPeople, w.options.Users/4), 0
	if u.hot { // others: a use that is held already is not taken again
		from = people
	}
	if err := w.decideAll(liveAt(from, people, openPlacement, 1, false), 64); err != nil {
		return nil, err
	}
	u.caps = liveAt(from, people, 1, freePlacements-1, !u.hot)
	u.none = liveAt(from, people, freePlacements+1, freePlacements-1, !u.hot)
	t := &trial{fixed: true, clock: clockOwn, spent: &u.spent, figure: Figure{
		Unit: "ns", Reference: "the same where no cap applies",
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "sessions": strconv.Itoa(people),
			"ring": ringFolder, "counted": "the deciding thread",
		},
	}}
	t.own = func(int) (float64, error) { return u.turn(&u.caps) }
	t.reference = func(int) (float64, error) { return u.turn(&u.none) }
	before := w.engine.Waited()
	t.gather = func(f *Figure) { u.gather(f, before) }
	return t, nil
}

func (u *useOpen) turn(from *[]engine.DecideRequest) (float64, error) {
	round, rounds := coldRound, 1
	if u.hot {
		round, rounds = hotRound, hotRounds
	}
	ops := 0
	for range rounds {
		set := (*from)[:min(round, len(*from))]
		if *from = (*from)[len(set):]; len(set) == 0 {
			break
		}
		if err := u.rest(set); err != nil {
			return 0, err
		}
		began := threadTime()
		for i := range set {
			if err := u.w.engine.Decide(&set[i], &u.d); err != nil {
				return 0, err
			}
			if from == &u.caps {
				u.asked++
				if u.d.Durability == "strict" {
					u.waited++
				}
			}
		}
		u.spent += threadTime() - began
		ops += len(set)
	}
	return float64(ops), nil
}

// rest lets what was decided become durable, and brings people into the cache.
func (u *useOpen) rest(set []engine.DecideRequest) error {
	for u.w.engine.StoreStats().DurableLag > 0 {
		time.Sleep(time.Millisecond)
	}
	for i := 0; u.hot && i < len(set); i++ {
		r := set[i]
		r.Mode = engine.ModeDryRun
		if err := u.w.engine.Decide(&r, &u.look); err != nil {
			return err
		}
	}
	return nil
}

func (u *useOpen) gather(f *Figure, before [storage.WaitCauses]uint64) {
	f.Conditions["uses"] = strconv.Itoa(u.asked)
	f.Conditions["in an open session, not waiting"] = fmt.Sprintf("%.2f %%",
		100*float64(u.asked-u.waited)/float64(max(u.asked, 1)))
	for i, n := range u.w.engine.Waited() {
		if n -= before[i]; n > 0 {
			f.Conditions["waited: "+storage.WaitCause(i).String()] = strconv.FormatUint(n, 10)
		}
	}
	extra := make([]float64, 0, len(f.Pairs))
	for _, p := range f.Pairs {
		extra = append(extra, p.Own-p.Reference)
	}
	slices.Sort(extra)
	f.Conditions["extra"] = fmt.Sprintf("%.0f ns at least, %.0f in the median",
		extra[0], median(extra))
}

// firstOfSession measures the first grant of a session, which waits for its record,
// against fdatasync of a small write on the same disk: medians of every turn.
func firstOfSession(w *world) (*trial, error) {
	if err := w.publishContacts(); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(w.folder, "sync"))
	if err != nil {
		return nil, err
	}
	w.later(func() { _ = file.Close() })
	const turn = 200
	var spent time.Duration
	t := &trial{fixed: true, clock: clockOwn, spent: &spent, scale: 1e6, figure: Figure{
		Unit: "µs", Reference: "fdatasync of 4 KiB written over",
		Target: &Target{"P15: first of a session ≤ 1.3 × fdatasync p50", 1.3},
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "ring": ringFolder,
			"callers": "1, not bound to a thread",
			"asked":   "people whose rules were judged before",
		},
	}}
	var waits, syncs []time.Duration
	from := w.options.Users
	t.own = func(int) (float64, error) {
		from -= turn
		set := liveAt(from, turn, openPlacement, 1, false)
		// The measuring goroutine owns its thread, and a wait would pass through it.
		done := make(chan error)
		go func() { done <- w.firstUses(set, &waits) }()
		if err := <-done; err != nil {
			return 0, err
		}
		for _, wait := range waits[len(waits)-turn:] {
			spent += wait
		}
		return turn, nil
	}
	block := make([]byte, 4096)
	t.reference = func(int) (float64, error) {
		for i := range turn {
			began := time.Now()
			if _, err := file.WriteAt(block, int64(i)*4096); err != nil {
				return 0, err
			}
			if err := unix.Fdatasync(int(file.Fd())); err != nil {
				return 0, err
			}
			syncs = append(syncs, time.Since(began))
			spent += syncs[len(syncs)-1]
		}
		return turn, nil
	}
	if _, err := t.reference(1); err != nil { // the file's blocks are there then
		return nil, err
	}
	syncs = syncs[:0]
	t.gather = func(f *Figure) {
		slices.Sort(waits)
		slices.Sort(syncs)
		a, b := waits[len(waits)/2], syncs[len(syncs)/2]
		f.Conditions["p50 of both"] = fmt.Sprintf("%v / %v = %.2f", a, b, float64(a)/float64(b))
	}
	return t, nil
}

// firstUses appends how long the first use of each person took. The person was asked
// for before, in a dry run.
func (w *world) firstUses(set []engine.DecideRequest, waits *[]time.Duration) error {
	var d engine.Decision
	for i := range set {
		set[i].Mode = engine.ModeDryRun
		if err := w.engine.Decide(&set[i], &d); err != nil {
			return err
		}
		set[i].Mode = engine.ModeLive
		began := time.Now()
		if err := w.engine.Decide(&set[i], &d); err != nil {
			return err
		}
		*waits = append(*waits, time.Since(began))
	}
	return nil
}
