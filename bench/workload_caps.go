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

// liveAt asks for people from one on, at some placements, in a random order.
func liveAt(from, people, place, places int) []engine.DecideRequest {
	out := make([]engine.DecideRequest, 0, people*places)
	for i := range people * places {
		out = append(out, engine.DecideRequest{
			UserID: synth.AppendUserID(nil, from+i%people), Mode: engine.ModeLive,
			Placements: []engine.PlacementAsk{{
				Key: []byte("p"), PlacementID: placeID(place + i/people),
			}},
		})
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
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
	t := &trial{fixed: true, clock: clockWall, scale: 1e6, figure: Figure{
		Unit: "µs", Reference: "fdatasync of 4 KiB written over",
		Target: &Target{"P15: first of a session ≤ 1.3 × fdatasync p50", 1.3},
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "ring": ringFolder, "callers": "1",
		},
	}}
	var waits, syncs []time.Duration
	from := w.options.Users
	var d engine.Decision
	t.own = func(int) (float64, error) {
		from -= turn
		set := liveAt(from, turn, openPlacement, 1)
		for i := range set {
			began := time.Now()
			if err := w.engine.Decide(&set[i], &d); err != nil {
				return 0, err
			}
			waits = append(waits, time.Since(began))
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
