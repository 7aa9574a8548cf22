package journal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Times of the simulator, in milliseconds.
const (
	simLife  = 60 // of a reservation
	simGrace = 60
	simAhead = 40 // of the high-water
)

// simBugs are planted in the simulator's rows, as bugs are in the journal.
type simBugs struct {
	phantomForgotten, phantomAtMark, phantomWithoutLife, pendingAtGrant    bool
	ackEarly, noGraceAfterBoot, expiryByWall, lostConfirmDropped           bool
	leaseOverUncharged, lateTakesPhantom, cleanEarly, lifeFromSteppedClock bool
	bootAlone                                                              bool
}

// simCap is a cap: limit uses in a window, rolling or by calendar.
type simCap struct {
	limit  int
	window Msec
	offset Msec // of the calendar; -1 = rolling
}

// since returns the time before the window that ends at now: a use counts when
// it lies behind it.
func (c simCap) since(now Msec) Msec {
	if c.offset < 0 {
		return now - c.window
	}
	return (now+c.offset)/c.window*c.window - c.offset - 1
}

// client holds an answered reservation.
type client struct {
	user             int
	caps             uint8
	epoch            uint32
	id               uint64
	granted, expires Msec // as the server told
	showAt           int64
	shownAt          Msec // on the server's line
	mode             int  // when it confirms
	shown            bool
	sendAt           int64
	frame            uint64 // the confirm waits for; 0 = not sent
	acked            bool
	counted          bool // as lost
}

// Modes of a client.
const (
	confirmsAtOnce = iota
	confirmsAfterCrash
	confirmsLate
)

// waiting is a grant that waits for its record.
type waiting struct {
	c        client
	number   uint64
	granted  int64 // mono
	deadline int64
	twin     int // cap that is used twice, with the next id; -1 = none
}

// world is one seed.
type world struct {
	rng  *rand.Rand
	o    Options
	bugs simBugs
	bias int
	caps [simCaps]simCap

	t        int64 // true time
	skew     int64 // the wall clock is behind by it
	frozen   bool
	base     int64 // wall at t = 0
	bootMono int64
	disk     *simDisk
	shm      *simShm

	// durable store
	rows   [simGroups]simGroup
	st     State
	epochs uint32

	// process
	up      bool
	now     Msec
	j       *Journal
	groups  [simGroups]simGroup
	flush   *simFlush
	sync    batch
	syncEnd int64
	waits   []waiting
	used    answered
	asked   []uint64 // counters of the grant in hand
	boots   int

	clients []*client
	n       simCounts
	fault   string
}

type simFlush struct {
	end    int64
	chosen [simGroups]bool
	rows   [simGroups]simGroup
	st     State
}

type simCounts struct {
	grants, atOnce, power, kills, moved, nested, lost, shown, waits, refused, eio, late int
}

func newWorld(seed uint64, b bugs, sb simBugs) *world {
	rng := rand.New(rand.NewPCG(seed, 0x7461637420636170))
	w := &world{rng: rng, bugs: sb, base: 1_000_000, bias: rng.IntN(6)}
	w.disk = &simDisk{rng: rng, files: map[string][]byte{}, page: 1024}
	w.shm = &simShm{}
	w.o = Options{
		Disk: w.disk, Shm: w.shm, StoreID: [16]byte{1, 2, 3}, Groups: simGroups,
		Slots: 12 + 4*rng.IntN(6), Ahead: simAhead * time.Millisecond,
		Lease: time.Duration(40+rng.IntN(300)) * time.Millisecond,
		Mono:  func() int64 { return w.mono() },
		Wall:  func() Msec { return w.wall() },
		page:  1024, batch: 64, bugs: b,
	}
	for i := range w.caps {
		c := simCap{limit: 1 + rng.IntN(5), offset: -1}
		switch i {
		case 0:
			c.window = Msec(50 + rng.IntN(300))
		case 1:
			c.window, c.offset = Msec(100+rng.IntN(400)), Msec(rng.IntN(100))
		case 2:
			c.window = Msec(400 + rng.IntN(1600))
		}
		w.caps[i] = c
	}
	if rng.IntN(50) == 0 {
		w.disk.fail = func(op string) error {
			if op != "read" && op != "open" && op != "list" && w.up && rng.IntN(60) == 0 {
				w.n.eio++
				return errIO
			}
			return nil
		}
	}
	return w
}

func (w *world) mono() int64 { return w.t }
func (w *world) wall() Msec  { return Msec(w.base + w.t - w.skew) }

// line is the server's time line at this moment, also while it is down.
func (w *world) line() Msec {
	if w.up {
		w.now = max(w.now, w.wall())
		return w.now
	}
	return max(w.now, w.wall())
}

func (w *world) tick() {
	step := int64(w.rng.IntN(4))
	if w.bias == 1 && w.rng.IntN(30) == 0 {
		for range w.rng.IntN(40) { // nobody asks for anything
			w.t += 3
			w.line()
			w.clientsAct()
			if w.up {
				w.serve(false)
			}
		}
	}
	w.t += step
	if w.bias != 2 && w.rng.IntN(40) == 0 {
		w.skew = int64(w.rng.IntN(151))
	}
	if w.bias == 2 { // a clock that stands still, and then catches up
		switch w.rng.IntN(50) {
		case 0, 1:
			w.frozen = true
		case 2:
			w.frozen, w.skew = false, 0
		}
		if w.frozen {
			w.skew += step
		}
	}
	w.line()
}

// run plays a seed to its end and returns what broke.
func (w *world) run() string {
	w.boot()
	for range 260 {
		w.step()
		if w.fault != "" {
			return w.fault
		}
	}
	w.disk.fail = nil
	// Everybody comes to an end: batches of frames leave groups out at random, so
	// a confirm may need several of them.
	for i := 0; i < 400 || i < 4000 && !w.settled(); i++ {
		w.t += 2
		w.line()
		if !w.up {
			w.boot()
		}
		w.serve(false)
		w.clientsAct()
		if w.fault != "" {
			return w.fault
		}
	}
	return w.check()
}

// settled says that every confirm of what was shown has been acknowledged.
func (w *world) settled() bool {
	for _, c := range w.clients {
		if c.shown && !c.acked {
			return false
		}
	}
	return true
}

func (w *world) step() {
	w.tick()
	if !w.up {
		w.clientsAct()
		if w.rng.IntN(6) == 0 {
			w.boot()
		}
		return
	}
	w.serve(true)
	w.clientsAct()
	switch r := w.rng.IntN(400); {
	case r < 4:
		w.die(true)
	case r < 6:
		w.die(false)
	case r < 7 || (w.bias == 1 && r < 10):
		w.stopCleanly()
	}
}

// serve lets the process do what is due, and decide.
func (w *world) serve(grants bool) {
	if w.sync.hi != 0 && w.t >= w.syncEnd {
		w.j.endSync(&w.sync, w.j.write(&w.sync))
		w.sync.hi = 0
	}
	if w.flush != nil && w.t >= w.flush.end {
		w.endFlush()
	}
	w.settleWaits()
	if grants {
		for range w.rng.IntN(3) {
			w.decide()
		}
	}
	if w.sync.hi == 0 && (!grants || w.rng.IntN(3) == 0) {
		w.startSync()
	}
	if w.flush == nil && (!grants || w.rng.IntN(6) == 0) {
		w.startFlush()
	}
	if w.rng.IntN(5) == 0 {
		w.j.stayAhead()
	}
}

func (w *world) startSync() {
	if !w.j.beginSync(&w.sync) {
		w.sync.hi = 0
		return
	}
	took := 1 + w.rng.IntN(8)
	if w.rng.IntN(12) == 0 || (w.bias == 2 || w.bias == 4) && w.rng.IntN(4) == 0 {
		took = 40 + w.rng.IntN(160)
	}
	w.syncEnd = w.t + int64(took)
}

func (w *world) startFlush() {
	f := &simFlush{end: w.t + 1 + int64(w.rng.IntN(12))}
	if w.bias == 4 && w.rng.IntN(3) == 0 {
		f.end += int64(w.rng.IntN(150))
	}
	durable := make([]uint64, simGroups)
	for g := range w.groups {
		f.chosen[g] = w.rng.IntN(3) > 0
		durable[g] = w.rows[g].frame
		if f.chosen[g] {
			durable[g] = w.groups[g].frame
			f.rows[g] = w.groups[g].clone()
			w.groups[g].frame++
		}
	}
	f.st = w.j.Prospect(durable)
	w.flush = f
}

// land makes a flush durable.
func (w *world) land(f *simFlush) {
	for g := range f.rows {
		if f.chosen[g] {
			w.rows[g] = f.rows[g].clone()
		}
	}
	w.st = f.st
}

func (w *world) endFlush() {
	w.land(w.flush)
	w.j.Settle(w.flush.st)
	w.flush = nil
}

// key names a counter of a user.
func simKey(user, c int) uint64 { return uint64(user*simCaps + c + 1) }

func groupOf(user int) int { return user % simGroups }

// simKind is the kind of a reservation's record: with its decision or without.
func simKind(id uint64) Kind {
	if id%2 == 0 {
		return Grant
	}
	return Reserve
}

// decide grants a reservation when every cap of it has room.
func (w *world) decide() {
	user := w.rng.IntN(simUsers)
	g := &w.groups[groupOf(user)]
	w.sweep(g)
	now := w.line()
	mask := uint8(1 + w.rng.IntN(1<<simCaps-1))
	double := w.rng.IntN(8) == 0 // two uses of a cap in one request
	a := Ask{AtOnce: true}
	w.asked = w.asked[:0]
	first := -1
	for c := range simCaps {
		if mask&(1<<c) == 0 {
			continue
		}
		need := 1
		if first < 0 && double {
			need = 2
			first = c
		}
		if w.count(g, user, c)+need > w.caps[c].limit {
			return
		}
		w.asked = append(w.asked, simKey(user, c))
	}
	if double && first >= 0 {
		w.asked = append(w.asked, simKey(user, first))
	}
	w.grant(g, user, mask, first, now, &a)
}

func (w *world) grant(g *simGroup, user int, mask uint8, twice int, now Msec, a *Ask) {
	row := &g.rows[user]
	a.Lease = row.lease
	g.high = max(g.high, now)
	g.id++
	epoch := w.j.epoch.Load()
	p := simPending{
		epoch: epoch, id: g.id, caps: mask, granted: now, expires: now + simLife, mono: w.mono(),
	}
	if twice >= 0 {
		g.id++
	}
	r := Record{
		Kind: simKind(g.id), Group: uint16(groupOf(user)), Ord: uint32(user), Frame: g.frame,
		Time: now, ID: g.id,
	}
	lease, carries := w.j.Renew(row.lease, &r, 1, 1)
	if carries {
		a.Carries = true
		if !w.bugs.leaseOverUncharged {
			w.charge(g, row)
		}
	} else {
		lease = Lease{}
	}
	r.Payload = appendSim(nil, &p, lease, twice)
	row.enter(p, lease, twice)
	w.used.ask(w.j, a, r.Group, w.asked...)
	number, atOnce := w.j.Put(&r, a)
	w.n.grants++
	c := client{
		user: user, caps: mask, epoch: epoch, id: p.id, granted: now, expires: p.expires,
	}
	if atOnce {
		w.n.atOnce++
		w.used.note(r.ID, w.asked...)
		w.answer(c, w.mono())
		if twice >= 0 {
			w.answerTwin(c, twice, w.mono())
		}
		return
	}
	if number == 0 {
		w.n.refused++
		number = 1 << 63
	}
	wait := waiting{
		c: c, number: number, granted: w.mono(), deadline: w.t + 10 + int64(w.rng.IntN(60)),
		twin: twice,
	}
	wait.c.frame = g.frame
	w.waits = append(w.waits, wait)
	w.n.waits++
}

// answer gives the client what is left of the reservation's life (T4).
func (w *world) answer(c client, granted int64) {
	left := int64(simLife) - max(int64(w.line()-c.granted), w.mono()-granted)
	if w.bugs.lifeFromSteppedClock {
		left = int64(simLife) - int64(w.line()-c.granted)
	}
	if left <= 0 {
		return
	}
	c.frame, c.mode = 0, confirmsAtOnce
	switch w.rng.IntN(8) {
	case 0:
		return // never shown
	case 1:
		c.mode = confirmsLate
	case 2, 3:
		c.mode = confirmsAfterCrash
	case 4, 5:
		if w.bias == 5 {
			c.mode = confirmsLate
		}
	}
	c.showAt = w.t + w.rng.Int64N(left)
	if w.rng.IntN(3) == 0 {
		c.showAt = w.t + left - 1
	}
	w.clients = append(w.clients, &c)
}

// answerTwin answers the second use of a cap that a record holds twice.
func (w *world) answerTwin(c client, twice int, granted int64) {
	c.id++
	c.caps = 1 << twice
	w.answer(c, granted)
}

func (w *world) settleWaits() {
	w.waits = slices.DeleteFunc(w.waits, func(x waiting) bool {
		g := &w.groups[groupOf(x.c.user)]
		framed := x.c.frame <= w.rows[groupOf(x.c.user)].frame && x.number == 1<<63
		switch {
		case x.number <= w.j.Synced() || framed:
			w.answer(x.c, x.granted)
			if x.twin >= 0 {
				w.answerTwin(x.c, x.twin, x.granted)
			}
			return true
		case w.t >= x.deadline:
			w.release(g, &x.c)
			if x.twin >= 0 {
				x.c.id++
				w.release(g, &x.c)
			}
			return true
		}
		return false
	})
}

// release gives back what was stored and never answered (A2).
func (w *world) release(g *simGroup, c *client) {
	r := &g.rows[c.user]
	if p, ok := r.take(c.epoch, c.id); ok {
		r.forget(p.epoch, p.id)
		rec := Record{
			Kind: Release, Group: uint16(groupOf(c.user)), Ord: uint32(c.user), Frame: g.frame,
			Time: w.line(), Payload: appendSim(nil, &p, Lease{}, -1),
		}
		w.j.Put(&rec, &Ask{})
	}
}

func (c *client) String() string {
	return fmt.Sprintf("user %d caps %03b id %d/%d granted %d expires %d shown %d",
		c.user, c.caps, c.epoch, c.id, c.granted, c.expires, c.shownAt)
}
