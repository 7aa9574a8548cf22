package journal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// refused checks a refusal that only a stand-in explains: the person had a lease,
// the stand-in took the last use and no more, and its time has not passed.
func (w *lossWorld) refused(user, c, n int) {
	behind := w.t - w.cutAt - lossDown
	w.n.latest = max(w.n.latest, behind)
	w.tally(user, func(sum *lossCount, k int) {
		if k == c {
			sum.refused[c]++
		}
	})
	switch {
	case !w.charged[user]:
		w.fault = fmt.Sprintf("person %d had no lease and pays for the cut", user)
	case n != w.caps[c].limit-1:
		w.fault = fmt.Sprintf("person %d cap %d: a stand-in holds %d uses", user, c, w.caps[c].limit-n)
	case behind >= lossLife+lossGrace && !w.run.asUse:
		w.fault = fmt.Sprintf("person %d cap %d: a stand-in after %d ms", user, c, behind)
	}
}

// lose cuts the power and starts again: the ring and what no durable frame holds
// are gone, the journal's last write is there whole, in part or not at all.
func (w *lossWorld) lose() error {
	st := w.state()
	if w.begun {
		w.disk.torn = true
		_ = w.j.write(&w.sync) // a simulated disk
		w.disk.torn, w.begun = false, false
	}
	w.shm.mem = nil
	synced := w.j.Synced()
	w.shows = slices.DeleteFunc(w.shows, func(s lossShow) bool { return s.number > synced })
	for i := len(w.undo) - 1; i >= 0; i-- {
		w.rows[w.undo[i].user] = w.undo[i].row
	}
	w.undo, w.flush = w.undo[:0], 0
	w.t += lossDown
	j, rec, err := Recover(w.o, st)
	if err != nil {
		return err
	}
	known := w.recovered(rec)
	inc := rec.Incident(st, known, max(w.now(), rec.Floor))
	w.inc = &inc
	if rec.Harmless {
		return fmt.Errorf("a power cut was called harmless: %s", rec.Why)
	}
	for user := range w.rows {
		r := &w.rows[user]
		for i := range r.pending {
			r.pending[i].mono = w.t
		}
		if inc.Charges(r.lease) {
			w.charged[user] = true
			w.n.charged++
			r.standIn = simPhantom{epoch: inc.Epoch, until: inc.High + lossLife, mono: w.t}
		}
	}
	first := j.First(st.Epoch+1, rec, inc.High)
	w.j, w.ended, w.used = j, w.frame, answered{}
	w.frame++
	w.next = w.t
	if err := j.Start(first, inc.High); err != nil {
		return err
	}
	again := w.acks
	w.acks = nil
	for _, s := range again {
		w.confirm(s)
	}
	for len(w.shows) > 0 && w.shows[0].at <= w.t {
		w.confirm(w.shows[0])
		w.shows = w.shows[1:]
	}
	return nil
}

// state is what the store has made durable of the journal.
func (w *lossWorld) state() State {
	m := &w.j.mu
	return State{
		Epoch: w.j.epoch.Load(), Water: m.water, Synced: m.mark, Ahead: m.aheadSaved, Shared: true,
	}
}

// recovered enters the records that no durable frame holds, and returns the
// highest reservation up to which all are known.
func (w *lossWorld) recovered(rec *Recovery) uint64 {
	known := w.framed
	for i := range rec.Records {
		r := &rec.Records[i]
		if r.Number <= rec.Gapless {
			known = max(known, r.ID)
		}
		if !r.Kind.holds() || r.Frame <= w.ended {
			continue
		}
		p, lease, _ := parseSim(r.Payload)
		row := &w.rows[r.Ord]
		row.pending = append(row.pending, p)
		if lease.Epoch != 0 {
			lease.Life, lease.Grace = lossLife/lossSecond, lossGrace/lossSecond
			row.lease = lease
		}
	}
	return known
}

// lossTable is what a cut cost, summed over worlds.
type lossTable struct {
	people, worlds int
	n              lossSum
	lost, refused  [simCaps]int
}

// add plays one population with the cut and without and takes the difference.
func (l *lossTable) add(seed uint64, people int, cut lossRun) error {
	views := lossViews(seed, people)
	var worlds [2]*lossWorld
	for i, run := range []lossRun{{}, cut} {
		w, err := newLossWorld(seed, people, run)
		if err != nil {
			return err
		}
		if fault := w.play(views); fault != "" {
			return fmt.Errorf("seed %d: %s", seed, fault)
		}
		worlds[i] = w
	}
	n := worlds[1].n
	l.people, l.worlds = l.people+people, l.worlds+1
	l.n.grants, l.n.atOnce = l.n.grants+n.grants, l.n.atOnce+n.atOnce
	l.n.charged, l.n.gone = l.n.charged+n.charged, l.n.gone+n.gone
	l.n.latest = max(l.n.latest, n.latest)
	for user := range people {
		for c := range simCaps {
			l.lost[c] += worlds[0].counts[user].given[c] - worlds[1].counts[user].given[c]
			l.refused[c] += worlds[1].counts[user].refused[c]
		}
	}
	return nil
}

func (l *lossTable) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d people, %d power cuts, one in each population; in session %d (%.1f %%);"+
		" answered and gone %d; grants that waited %.1f %%; last refusal %.1f min behind the start\n",
		l.people, l.worlds, l.n.charged, 100*float64(l.n.charged)/float64(l.people), l.n.gone,
		100*(1-float64(l.n.atOnce)/float64(l.n.grants)), float64(l.n.latest)/60/lossSecond)
	for c, name := range []string{"1/week", "3/day", "10/day"} {
		fmt.Fprintf(&b, "%-7s uses lost: %.4f a person in session, %.3f a 1,000 people;"+
			" views refused meanwhile: %.3f a person in session\n", name,
			float64(l.lost[c])/float64(l.n.charged), 1000*float64(l.lost[c])/float64(l.people),
			float64(l.refused[c])/float64(l.n.charged))
	}
	return b.String()
}

// TestUnderDelivery measures what a power cut takes from people in session, by the
// real journal: the same views are played with the cut and without. The law: only
// people with a lease pay, each at most the last use of a counter, and nobody
// after the life and the grace of a reservation.
func TestUnderDelivery(t *testing.T) {
	worlds, people := uint64(1), 1000
	if seeds, _ := effort(t); seeds != 1000 {
		worlds, people = max(1, seeds/100_000), 15_000
	}
	var sum lossTable
	for seed := range worlds {
		if err := sum.add(seed, people, lossRun{cut: true}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("\n%s", &sum)
	if sum.n.charged == 0 {
		t.Error("nobody was in session")
	}
	// Were a stand-in a use that nobody gives back, it would take far more.
	var use lossTable
	for seed := range max(1, worlds/5) {
		if err := use.add(seed, people, lossRun{cut: true, asUse: true}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("were a stand-in a use:\n%s", &use)
	for c := range simCaps {
		mine := float64(sum.lost[c]) / float64(sum.n.charged)
		if theirs := float64(use.lost[c]) / float64(use.n.charged); mine >= theirs {
			t.Errorf("cap %d: %.3f uses lost a person, %.3f were a stand-in a use", c, mine, theirs)
		}
	}
}

// TestUnderDeliveryOfTheLost cuts the power right behind a view, so that answered
// reservations are gone: their impressions take the place of the stand-ins, none of
// them is late, and the law of TestUnderDelivery holds.
func TestUnderDeliveryOfTheLost(t *testing.T) {
	gone := 0
	for seed := range uint64(6) {
		views := lossViews(100+seed, 100)
		w, err := newLossWorld(seed, 100, lossRun{cut: true})
		if err != nil {
			t.Fatal(err)
		}
		behind := func(at int64) int {
			return slices.IndexFunc(views, func(v lossView) bool { return v.at > at })
		}
		w.cutAt = views[behind(w.cutAt)].at + 2
		if fault := w.play(views[:behind(w.cutAt+lossDay/8)]); fault != "" {
			t.Errorf("seed %d: %s", seed, fault)
		}
		gone += w.n.gone
	}
	if gone == 0 {
		t.Error("nothing that was answered was lost")
	}
}
