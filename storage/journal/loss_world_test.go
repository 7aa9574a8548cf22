package journal

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Times of a lossWorld in milliseconds. Life and grace are the defaults of caps
// on page channels, the pauses those of the journal and of frames.
const (
	lossSecond = 1000
	lossDay    = 24 * 3600 * lossSecond
	lossLife   = 600 * lossSecond
	lossGrace  = 300 * lossSecond
	lossShown  = 1 * lossSecond  // from the answer to the impression
	lossDown   = 10 * lossSecond // from the power cut to the start
	lossEvery  = 5               // pause between syncs and between ticks
	lossFrame  = 25              // from an effect to its durable frame
	lossBase   = 1_000_000_000   // server time at 0
	lossCutDay = 7 * lossDay
	lossEnd    = 15 * lossDay
)

// lossCaps are 1 a week, 3 a day and 10 a day, rolling.
func lossCaps() [simCaps]simCap {
	return [simCaps]simCap{{1, 7 * lossDay, -1}, {3, lossDay, -1}, {10, lossDay, -1}}
}

// lossRow is what the store keeps of one person.
type lossRow struct {
	uses    [simCaps][]Msec
	pending []simPending
	lease   Lease
	standIn simPhantom // until 0 = none
}

func (r *lossRow) clone() lossRow {
	c := *r
	c.pending = slices.Clone(r.pending)
	for k := range c.uses {
		c.uses[k] = slices.Clone(r.uses[k])
	}
	return c
}

// lossUndo is a row as it was before an effect of a frame.
type lossUndo struct {
	frame uint64
	user  int
	row   lossRow
}

// lossShow is a use that was given, and its impression.
type lossShow struct {
	at     int64
	user   int
	p      simPending
	number uint64 // the answer waits for; 0 = it was answered at once
	frame  uint64 // of the confirm
}

// lossRun is how a world is played.
type lossRun struct {
	cut   bool // the power goes
	asUse bool // a stand-in is a use and not a pending one: what the law forbids
}

// lossWorld is one population of pages, sessions and caps over the real journal.
type lossWorld struct {
	run    lossRun
	rng    *rand.Rand // of the disk
	caps   [simCaps]simCap
	t      int64
	o      Options
	disk   *simDisk
	shm    *simShm
	j      *Journal
	rows   []lossRow
	used   answered
	asked  []uint64 // counters of the grant in hand
	undo   []lossUndo
	id     uint64
	frame  uint64 // open
	ended  uint64 // durable
	framed uint64 // highest reservation in it
	flush  int64  // when the open frames are durable; 0 = nothing is open
	begun  bool   // a sync is on its way
	sync   batch
	next   int64 // tick
	shows  []lossShow
	acks   []lossShow // confirms whose frame is not durable
	cutAt  int64
	inc    *Incident

	charged []bool
	counts  []lossCount // by person, behind the cut
	n       lossSum
	fault   string
}

// lossCount counts behind the cut, in the window of each cap.
type lossCount struct{ given, refused [simCaps]int }

// lossSum is what a world saw.
type lossSum struct {
	grants, atOnce, charged, gone int
	latest                        int64 // refusal because of a stand-in, behind the start
}

// lossView is a page view: every cap with room gives one item.
type lossView struct {
	at   int64
	user int
}

// lossViews draws two sessions a day a person, of six views 40 s apart.
func lossViews(seed uint64, people int) []lossView {
	rng := rand.New(rand.NewPCG(seed, 0x7669657773))
	var out []lossView
	for user := range people {
		for t := rng.ExpFloat64() * lossDay / 2; t < lossEnd; t += rng.ExpFloat64() * lossDay / 2 {
			at := t
			for range 6 {
				out = append(out, lossView{int64(at), user})
				at += rng.ExpFloat64() * 40 * lossSecond
			}
		}
	}
	slices.SortFunc(out, func(a, b lossView) int { return cmp.Compare(a.at, b.at) })
	return out
}

func newLossWorld(seed uint64, people int, run lossRun) (*lossWorld, error) {
	rng := rand.New(rand.NewPCG(seed, 0x6469736b))
	w := &lossWorld{
		run: run, rng: rng, caps: lossCaps(), rows: make([]lossRow, people), frame: 1,
		charged: make([]bool, people), counts: make([]lossCount, people),
		cutAt: lossCutDay + rng.Int64N(lossDay), shm: &simShm{},
	}
	w.disk = &simDisk{rng: rng, files: map[string][]byte{}, page: pageSize}
	w.o = Options{
		Disk: w.disk, Shm: w.shm, StoreID: [16]byte{7}, Groups: 1,
		Mono: func() int64 { return w.t },
	}
	j, rec, err := Recover(w.o, State{})
	if err != nil {
		return nil, err
	}
	w.j, w.used = j, answered{}
	return w, j.Start(j.First(1, rec, w.now()), w.now())
}

func (w *lossWorld) now() Msec { return Msec(lossBase + w.t) }

// play plays the views, and the cut between them. Views while the server is down
// or would be are nobody's, so that runs with and without the cut have the same.
func (w *lossWorld) play(views []lossView) string {
	for _, v := range views {
		if v.at >= w.cutAt && w.inc == nil && w.run.cut {
			w.advance(w.cutAt)
			if err := w.lose(); err != nil {
				return err.Error()
			}
		}
		if v.at >= w.cutAt && v.at <= w.cutAt+lossDown {
			continue
		}
		w.advance(v.at)
		w.view(v.user)
		if w.fault != "" {
			return w.fault
		}
	}
	return ""
}

// advance lets syncs, frames and impressions happen up to a time.
func (w *lossWorld) advance(to int64) {
	for {
		at := w.next
		if w.flush != 0 {
			at = min(at, w.flush)
		}
		if len(w.shows) > 0 {
			at = min(at, w.shows[0].at)
		}
		if at > to {
			break
		}
		w.t = max(w.t, at)
		switch {
		case w.flush != 0 && w.flush == at:
			w.endFlush()
		case w.next == at:
			w.tick()
		default:
			s := w.shows[0]
			w.shows = w.shows[1:]
			w.confirm(s)
		}
	}
	w.t = max(w.t, to)
}

// tick ends a sync and begins the next; while nothing is to be synced it only
// keeps the high-water ahead.
func (w *lossWorld) tick() {
	if w.begun {
		w.j.endSync(&w.sync, w.j.write(&w.sync))
		w.begun = false
	}
	w.j.stayAhead()
	w.next = w.t + 500
	if w.j.mu.tail > w.j.Synced() {
		w.begin()
	}
}

// begin starts a sync: 1 ms, and now and then a disk that stalls.
func (w *lossWorld) begin() {
	if w.begun = w.j.beginSync(&w.sync); !w.begun {
		return
	}
	w.next = w.t + 1
	if w.rng.IntN(1000) == 0 {
		w.next = w.t + 100 + w.rng.Int64N(150)
	}
}

// kick makes the next sync start: at once for a grant that waits.
func (w *lossWorld) kick(waits bool) {
	switch {
	case w.begun:
	case waits:
		w.begin()
	default:
		w.next = min(w.next, w.t+lossEvery)
	}
	w.open()
}

func (w *lossWorld) open() {
	if w.flush == 0 {
		w.flush = w.t + lossFrame
	}
}

func (w *lossWorld) endFlush() {
	st := w.j.Prospect([]uint64{w.frame})
	w.j.Settle(st)
	w.ended, w.framed, w.flush = w.frame, w.id, 0
	w.frame++
	w.undo, w.acks = w.undo[:0], w.acks[:0]
}

// touch notes a row before an effect of the open frame.
func (w *lossWorld) touch(user int) *lossRow {
	w.undo = append(w.undo, lossUndo{w.frame, user, w.rows[user].clone()})
	w.open()
	return &w.rows[user]
}

func (w *lossWorld) lives(expires Msec, mono int64) bool {
	return w.now() < expires+lossGrace || w.t < mono+lossLife+lossGrace
}

// count counts a cap's uses now, and those of a stand-in apart.
func (w *lossWorld) count(r *lossRow, c int) (n, standIn int) {
	since := w.caps[c].since(w.now())
	for _, at := range r.uses[c] {
		if at > since {
			n++
		}
	}
	for _, p := range r.pending {
		if p.caps&(1<<c) != 0 && w.lives(p.expires, p.mono) {
			n++
		}
	}
	s := &r.standIn
	if s.until == 0 || s.taken&(1<<c) != 0 || s.until <= since {
		return n, 0
	}
	if w.run.asUse || w.lives(s.until, s.mono) {
		return n, 1
	}
	return n, 0
}

// view decides for a person: one item under every cap that has room.
func (w *lossWorld) view(user int) {
	r := &w.rows[user]
	mask := uint8(0)
	a := Ask{AtOnce: true, Lease: r.lease}
	w.asked = w.asked[:0]
	for c := range w.caps {
		n, standIn := w.count(r, c)
		switch {
		case n+standIn < w.caps[c].limit:
			mask |= 1 << c
			w.asked = append(w.asked, simKey(user, c))
		case n < w.caps[c].limit:
			w.refused(user, c, n)
		}
	}
	if mask != 0 {
		w.grant(user, mask, &a)
	}
}

func (w *lossWorld) grant(user int, mask uint8, a *Ask) {
	r := w.touch(user)
	r.pending = slices.DeleteFunc(r.pending, func(p simPending) bool {
		return !w.lives(p.expires, p.mono)
	})
	w.id++
	p := simPending{
		epoch: w.j.epoch.Load(), id: w.id, caps: mask, granted: w.now(),
		expires: w.now() + lossLife, mono: w.t,
	}
	rec := Record{Kind: simKind(w.id), Ord: uint32(user), Frame: w.frame, Time: w.now(), ID: w.id}
	lease, carries := w.j.Renew(r.lease, &rec, lossLife/lossSecond, lossGrace/lossSecond)
	if a.Carries = carries; carries {
		r.lease = lease
	} else {
		lease = Lease{}
	}
	r.pending = append(r.pending, p)
	rec.Payload = appendSim(nil, &p, lease, -1)
	w.used.ask(w.j, a, rec.Group, w.asked...)
	number, atOnce := w.j.Put(&rec, a)
	if number == 0 {
		w.fault = "a record found no slot"
		return
	}
	w.n.grants++
	if atOnce {
		w.n.atOnce++
		w.used.note(rec.ID, w.asked...)
		number = 0
	}
	w.kick(!atOnce)
	w.shows = append(w.shows, lossShow{at: w.t + lossShown, user: user, p: p, number: number})
	w.tally(user, func(n *lossCount, c int) { n.given[c] += int(mask >> c & 1) })
}

// tally counts behind the cut, for every cap whose window has not passed since.
func (w *lossWorld) tally(user int, add func(n *lossCount, c int)) {
	for c := range w.caps {
		if w.t > w.cutAt && w.t <= w.cutAt+int64(w.caps[c].window) {
			add(&w.counts[user], c)
		}
	}
}

// confirm counts a use that was shown. That of a lost reservation takes the place
// of the stand-in.
func (w *lossWorld) confirm(s lossShow) {
	r := w.touch(s.user)
	s.frame = w.frame
	w.acks = append(w.acks, s)
	at := slices.IndexFunc(r.pending, func(p simPending) bool {
		return p.epoch == s.p.epoch && p.id == s.p.id
	})
	if at >= 0 {
		r.pending = slices.Delete(r.pending, at, at+1)
	} else if w.inc == nil || !w.inc.Lost(s.p.epoch, s.p.id) || r.standIn.until == 0 {
		w.fault = fmt.Sprintf("person %d: the confirm of %d/%d is late", s.user, s.p.epoch, s.p.id)
	} else {
		w.n.gone++
		r.standIn.taken |= s.p.caps
	}
	for c, limit := range w.caps {
		if s.p.caps&(1<<c) == 0 {
			continue
		}
		use := lossBase + Msec(s.at)
		r.uses[c] = slices.DeleteFunc(r.uses[c], func(at Msec) bool { return at <= limit.since(use) })
		if r.uses[c] = append(r.uses[c], use); len(r.uses[c]) > limit.limit {
			w.fault = fmt.Sprintf("person %d cap %d: %d uses", s.user, c, len(r.uses[c]))
		}
	}
}
