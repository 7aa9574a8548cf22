package journal

import "slices"

// The rows of the simulator: what a store keeps of each person's caps, in
// milliseconds. A group's rows are copied whole when a batch of frames starts
// and become durable, all chosen groups at once, when it ends.

const (
	simUsers  = 3
	simCaps   = 3
	simGroups = 2
)

type simPending struct {
	epoch            uint32
	id               uint64
	caps             uint8 // bit mask
	granted, expires Msec
	mono             int64 // of the grant, or of the boot after which it is known
}

type simPhantom struct {
	epoch uint32
	until Msec
	mono  int64
	taken uint8 // caps whose stand-in a confirm has taken
}

type simRow struct {
	uses     [simCaps][]Msec
	pending  []simPending
	lease    Lease
	phantoms []simPhantom
	released []uint64 // epoch<<32 | id
	shown    []uint64 // confirmed
}

type simIncident struct {
	Incident
	mono int64 // of the boot that found it, or of a later boot
}

type simGroup struct {
	rows      [simUsers]simRow
	incidents []simIncident
	frame     uint64 // open
	id        uint64 // last reservation
	high      Msec
}

func (g *simGroup) clone() simGroup {
	c := *g
	c.incidents = slices.Clone(g.incidents)
	for i := range c.rows {
		r := &c.rows[i]
		for k := range r.uses {
			r.uses[k] = slices.Clone(r.uses[k])
		}
		r.pending = slices.Clone(r.pending)
		r.phantoms = slices.Clone(r.phantoms)
		r.released = slices.Clone(r.released)
		r.shown = slices.Clone(r.shown)
	}
	return c
}

func doneKey(epoch uint32, id uint64) uint64 { return uint64(epoch)<<32 | id }

// standIns returns the phantoms of a row, those of incidents it has not been
// charged with yet included (R5).
func (w *world) standIns(g *simGroup, r *simRow) []simPhantom {
	if w.bugs.phantomForgotten || len(g.incidents) == 0 {
		return r.phantoms
	}
	out := slices.Clone(r.phantoms)
	for _, in := range g.incidents {
		if w.charged(&in, r) {
			out = append(out, simPhantom{epoch: in.Epoch, until: w.phantomUntil(&in), mono: in.mono})
		}
	}
	return out
}

func (w *world) charged(in *simIncident, r *simRow) bool {
	charges := in.Charges(r.lease)
	if w.o.bugs.leaseAtBoot {
		charges = r.lease.Epoch == in.Epoch && r.lease.End >= in.High
	}
	for _, p := range r.phantoms {
		if p.epoch == in.Epoch {
			return false
		}
	}
	return charges
}

func (w *world) phantomUntil(in *simIncident) Msec {
	switch {
	case w.bugs.phantomAtMark:
		return in.Synced
	case w.bugs.phantomWithoutLife:
		return in.High
	}
	return in.High + simLife
}

// charge writes the stand-ins of a row down, before its lease is written over.
func (w *world) charge(g *simGroup, r *simRow) { r.phantoms = w.standIns(g, r) }

// lives is rule T3: a pending use is given back when both clocks say so.
func (w *world) lives(expires Msec, mono int64) bool {
	if w.bugs.expiryByWall {
		return w.now < expires+simGrace
	}
	if w.bugs.noGraceAfterBoot && mono == w.bootMono {
		mono -= simLife + simGrace
	}
	return w.now < expires+simGrace || w.mono() < mono+simLife+simGrace
}

func (w *world) sweep(g *simGroup) {
	for i := range g.rows {
		r := &g.rows[i]
		r.pending = slices.DeleteFunc(r.pending, func(p simPending) bool {
			if w.lives(p.expires, p.mono) {
				return false
			}
			r.forget(p.epoch, p.id)
			return true
		})
		r.phantoms = slices.DeleteFunc(r.phantoms, func(p simPhantom) bool {
			return p.until != 0 && !w.lives(p.until, p.mono)
		})
	}
	g.incidents = slices.DeleteFunc(g.incidents, func(in simIncident) bool {
		return !w.lives(in.High+simLife, in.mono)
	})
}

// count counts the uses of a cap in the window that ends now, pending ones at
// their latest possible time (U1).
func (w *world) count(g *simGroup, user, c int) int {
	r := &g.rows[user]
	since := w.caps[c].since(w.now)
	n := 0
	add := func(at Msec) {
		if at > since {
			n++
		}
	}
	for _, at := range r.uses[c] {
		add(at)
	}
	for _, p := range r.pending {
		if p.caps&(1<<c) != 0 {
			at := p.expires
			if w.bugs.pendingAtGrant {
				at = p.granted
			}
			add(at)
		}
	}
	for _, p := range w.standIns(g, r) {
		if p.taken&(1<<c) == 0 {
			add(p.until)
		}
	}
	return n
}

// apply enters a reservation, live or found at a start.
func (r *simRow) apply(p simPending, lease Lease) {
	key := doneKey(p.epoch, p.id)
	if slices.Contains(r.released, key) || slices.Contains(r.shown, key) {
		return
	}
	for _, q := range r.pending {
		if q.epoch == p.epoch && q.id == p.id {
			return
		}
	}
	r.pending = append(r.pending, p)
	if lease.Epoch != 0 {
		r.lease = lease
	}
}

// forget notes that a reservation was given back. Only the latest are known: a
// confirm of an older one finds nothing.
func (r *simRow) forget(epoch uint32, id uint64) {
	r.released = append(r.released, doneKey(epoch, id))
	r.released = r.released[max(0, len(r.released)-3):]
}

// enter applies what a record holds: a reservation, and with twice a second use
// of that cap under the next id.
func (r *simRow) enter(p simPending, lease Lease, twice int) {
	r.apply(p, lease)
	if twice >= 0 {
		p.id++
		p.caps = 1 << twice
		r.apply(p, Lease{})
	}
}

// take takes a reservation out of the pending ones.
func (r *simRow) take(epoch uint32, id uint64) (simPending, bool) {
	for i, p := range r.pending {
		if p.epoch == epoch && p.id == id {
			r.pending = slices.Delete(r.pending, i, i+1)
			return p, true
		}
	}
	return simPending{}, false
}

// confirm enters a shown use; late says that its reservation had gone and was
// not one that an incident took (R6).
func (w *world) confirm(g *simGroup, c *client) (late bool) {
	r, key := &g.rows[c.user], doneKey(c.epoch, c.id)
	if slices.Contains(r.shown, key) {
		return false
	}
	use := func(caps uint8) {
		at := min(max(c.shownAt, c.granted), c.expires)
		for k := range simCaps {
			if caps&(1<<k) != 0 {
				r.uses[k] = append(r.uses[k], at)
			}
		}
		r.shown = append(r.shown, key)
	}
	if p, ok := r.take(c.epoch, c.id); ok {
		use(p.caps)
		return false
	}
	late = true
	if !slices.Contains(r.released, key) {
		w.charge(g, r)
		for _, in := range g.incidents {
			if in.Lost(c.epoch, c.id) || w.bugs.lateTakesPhantom {
				late = !r.takePhantom(in.Epoch, c.caps) && late
			}
		}
	}
	if late || !w.bugs.lostConfirmDropped {
		use(c.caps)
	}
	return late
}

func (r *simRow) takePhantom(epoch uint32, caps uint8) bool {
	for i := range r.phantoms {
		if r.phantoms[i].epoch == epoch {
			r.phantoms[i].taken |= caps
			return true
		}
	}
	return false
}
