package engine

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tact/storage"
)

const (
	usePlaces = 8    // whose offers hold a contact; as many twins hold none
	usePeople = 2048 // whose sessions are open
	useRound  = 64   // decisions between two rests: their people are in the cache
)

// useDefinitions is a catalogue of n offers over two times usePlaces placements, ranked
// by product: those of the lower placements have a cap on contacts, those of the others
// none and else the same. Everybody may have some offer of each.
func useDefinitions(n int) string {
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: UTC\n")
	for i := range 8 {
		fmt.Fprintf(&b, "---\nkind: attribute\nid: a%d\ntype: int\n", i)
	}
	for i := range n {
		place, twin := i%(2*usePlaces), i-i%(2*usePlaces)+i%usePlaces
		fmt.Fprintf(&b, "---\nkind: offer\nid: o%d\nmessage_class: marketing\ngroup: g%d\n"+
			"value: %d\npropensity: 0.5\neligibility: {attribute: a%d, gte: %d}\n"+
			"treatments: [{id: t, channel: web, placements: [p%d], "+
			"content: {type: json, body: {title: offer %d}}}]\n",
			i, place, 1+twin%97, twin%8, twin/(2*usePlaces)%30, place, 100+twin)
	}
	var capped []string
	for i := range 2 * usePlaces {
		fmt.Fprintf(&b, "---\nkind: placement\nsticky: none\nid: p%d\nchannel: web\npolicy: p%d\n"+
			"---\nkind: decision_policy\nid: p%d\ncandidates: {offers: {groups: [g%d]}}\n"+
			"ranking: {by: product}\n", i, i, i, i)
		if i < usePlaces {
			capped = append(capped, fmt.Sprintf("g%d", i))
		}
	}
	fmt.Fprintf(&b, "---\nkind: cap\nid: contacts\nscope: person\nper: offer\n"+
		"applies_to: {offers: {groups: [%s]}}\ncount_on: impression\nwindow: {rolling: 7d}\n"+
		"limit: 60\n", strings.Join(capped, ", "))
	return b.String()
}

// useBed is an engine with a ring, and people whose sessions are open. nil: this
// machine has no place for a ring.
type useBed struct {
	e    *Engine
	req  DecideRequest
	out  Decision
	look Decision
	next [2]int // of the capped and of the free decisions
	id   []byte
	// places are the names of the placements, capped ones first.
	places [2 * usePlaces][]byte
	waited int
	kept   [2]uint64 // live decisions that a kept answer was given to, by kind
}

func newUseBed(b *testing.B) *useBed {
	b.Helper()
	const shared = "/dev/shm"
	if _, err := os.Stat(shared); err != nil {
		return nil
	}
	o := storage.Options{RingDir: shared}
	u := &useBed{e: benchBedWith(b, usePeople, useDefinitions(1000), o)}
	u.req.Placements = []PlacementAsk{{Key: []byte("k")}}
	for i := range u.places {
		u.places[i] = fmt.Appendf(nil, "p%d", i)
	}
	for i := range usePeople {
		u.ask(b, i, 0, ModeLive, &u.out)
		if i%useRound == 0 {
			u.rest()
		}
	}
	u.rest()
	return u
}

func (u *useBed) ask(b *testing.B, person, place int, mode Mode, out *Decision) {
	u.id = strconv.AppendInt(append(u.id[:0], "user-"...), int64(person), 10)
	u.req.UserID, u.req.Mode = u.id, mode
	u.req.Placements[0].PlacementID = u.places[place]
	if err := u.e.Decide(&u.req, out); err != nil {
		b.Fatal(err)
	}
}

// rest waits until what was decided is durable.
func (u *useBed) rest() {
	for u.e.StoreStats().DurableLag > 0 {
		time.Sleep(time.Millisecond)
	}
}

// window decides for useRound people at the placements of one kind, several rounds,
// and returns the processor time a decision took the deciding thread.
func (u *useBed) window(b *testing.B, kind int) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const rounds = 8
	var spent time.Duration
	for range rounds {
		// Person by person, as the bench does: the next use of one follows the last.
		from := u.next[kind]
		u.next[kind] += useRound
		if u.next[kind] > usePeople*(usePlaces-1) {
			b.Skip("no unused counter is left")
		}
		at := func(i int) (person, place int) {
			return i / (usePlaces - 1), kind*usePlaces + 1 + i%(usePlaces-1)
		}
		u.rest()
		for i := from; i < from+useRound; i++ {
			person, place := at(i)
			u.ask(b, person, place, ModeDryRun, &u.look)
		}
		kept, began := u.e.keptAnswers().given, ownTime(b)
		for i := from; i < from+useRound; i++ {
			person, place := at(i)
			u.ask(b, person, place, ModeLive, &u.out)
			if len(u.out.Items) != 1 {
				b.Fatal("nothing was decided")
			}
			if kind == 0 && u.out.Durability == durabilityStrict {
				u.waited++
			}
		}
		spent += ownTime(b) - began
		u.kept[kind] += u.e.keptAnswers().given - kept
	}
	return float64(spent.Nanoseconds()) / (rounds * useRound)
}

// ownTime is the processor time of the thread.
func ownTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// gateUse measures live decisions of people whose session is open: "use" takes a use
// of a cap each time, of another counter, and "free" none. What is written behind them
// is not in it.
func gateUse(b *testing.B) {
	u := newUseBed(b)
	if u == nil {
		return
	}
	for window := range 20 {
		for kind, name := range [...]string{"use", "free"} {
			b.Run(fmt.Sprintf("%s/%d", name, window), func(b *testing.B) {
				b.ReportMetric(u.window(b, kind), "ns/op")
			})
		}
	}
	if u.waited > u.next[0]/20 {
		b.Fatalf("%d of %d uses waited", u.waited, u.next[0])
	}
	b.Logf("answers given again: %d of %d uses, %d of %d free", u.kept[0], u.next[0],
		u.kept[1], u.next[1])
}

// BenchmarkUse is the part of BenchmarkGate about uses.
func BenchmarkUse(b *testing.B) { gateUse(b) }
