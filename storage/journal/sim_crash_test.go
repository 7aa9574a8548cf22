package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// appendSim packs a reservation with the lease it carries.
func appendSim(b []byte, p *simPending, l Lease, twice int) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, p.epoch)
	b = le.AppendUint64(b, p.id)
	b = append(b, p.caps, byte(twice+1))
	b = le.AppendUint64(b, uint64(p.granted))
	b = le.AppendUint64(b, uint64(p.expires))
	b = le.AppendUint32(b, l.Epoch)
	b = le.AppendUint64(b, l.ID)
	b = le.AppendUint64(b, uint64(l.Start))
	b = le.AppendUint64(b, uint64(l.End))
	return le.AppendUint64(b, uint64(l.Before))
}

func parseSim(b []byte) (p simPending, l Lease, twice int) {
	le := binary.LittleEndian
	if len(b) < 66 {
		return p, l, -1
	}
	p = simPending{
		epoch: le.Uint32(b), id: le.Uint64(b[4:]), caps: b[12],
		granted: Msec(le.Uint64(b[14:])), expires: Msec(le.Uint64(b[22:])),
	}
	l = Lease{
		Epoch: le.Uint32(b[30:]), ID: le.Uint64(b[34:]), Start: Msec(le.Uint64(b[42:])),
		End: Msec(le.Uint64(b[50:])), Before: Msec(le.Uint64(b[58:])),
	}
	if l.Epoch != 0 {
		l.Life, l.Grace = 1, 1
	}
	return p, l, int(b[13]) - 1
}

// die ends the process: a kill leaves the ring, a loss of power does not. What
// was on its way to the disk arrives whole, in part or not at all.
func (w *world) die(power bool) {
	w.disk.fail = nil
	w.up = false
	if w.flush != nil && w.rng.IntN(2) == 0 {
		w.land(w.flush)
	}
	w.flush = nil
	if w.sync.hi != 0 {
		w.disk.torn = true
		_ = w.j.write(&w.sync) // the simulated disk does not fail here
		w.disk.torn = false
		w.sync.hi = 0
	}
	w.cutStore()
	switch {
	case power:
		w.n.power++
		w.o.bugs.sameBoot = false
		w.shm.mem = nil
	case w.rng.IntN(4) == 0: // moved to another machine: its memory is gone
		w.n.moved++
		w.o.bugs.sameBoot = w.bugs.bootAlone
		w.shm.mem = nil
	default:
		w.n.kills++
		if w.rng.IntN(4) == 0 { // and power later, before it is started again
			w.shm.mem = nil
		}
	}
	w.lose()
}

// cutStore leaves a record in the ring that was cut in the middle.
func (w *world) cutStore() {
	j := w.j
	if w.rng.IntN(3) > 0 || j.ring == nil || j.mu.tail-j.mu.water >= uint64(j.o.Slots) {
		return
	}
	r := Record{
		Kind: Reserve, Number: j.mu.tail + 1, Epoch: j.epoch.Load(), Time: j.mu.now,
		Payload: appendSim(nil, &simPending{caps: 7}, Lease{}, -1),
	}
	full := make([]byte, SlotSize)
	r.put(full, j.salt, j.table)
	n := w.rng.IntN(SlotSize)
	copy(j.slot(int(r.Number % uint64(j.o.Slots)))[4:4+min(n, SlotSize-4)], full[4:])
}

// lose drops what the process knew.
func (w *world) lose() {
	w.waits = nil
	if w.bias == 4 && w.rng.IntN(2) == 0 {
		w.skew += int64(w.rng.IntN(400)) // the clock is wrong after the loss
	}
	for _, c := range w.clients {
		if c.shown && !c.acked {
			c.frame = 0
			c.sendAt = w.t + int64(w.rng.IntN(20))
		}
	}
}

// stopCleanly ends the epoch with a mark (R1).
func (w *world) stopCleanly() {
	w.disk.fail = nil
	w.j.Quiesce()
	if w.bugs.cleanEarly {
		w.st.Clean = true
		if w.rng.IntN(2) == 0 {
			w.die(true)
			return
		}
	}
	if w.flush != nil {
		w.endFlush()
	}
	w.settleWaits()
	if w.rng.IntN(4) == 0 {
		w.die(w.rng.IntN(2) == 0)
		return
	}
	durable := make([]uint64, simGroups)
	f := &simFlush{}
	for g := range w.groups {
		f.chosen[g], durable[g] = true, w.groups[g].frame
		f.rows[g] = w.groups[g].clone()
		w.groups[g].frame++
	}
	f.st = w.j.Prospect(durable)
	w.land(f)
	w.j.Settle(f.st)
	w.settleWaits()
	w.st.Clean = true
	w.acknowledge()
	_ = w.j.Close(true) // of a simulated disk
	w.sync.hi, w.up = 0, false
	w.lose()
}

// boot recovers, with crashes before and after the batch that ends it.
func (w *world) boot() {
	fail := w.disk.fail
	w.disk.fail = nil
	defer func() { w.disk.fail = fail }()
	for {
		w.t += int64(w.rng.IntN(30))
		if w.bias == 3 && w.rng.IntN(3) == 0 {
			w.t += int64(w.rng.IntN(200))
		}
		w.epochs++
		j, rec, err := Recover(w.o, w.st)
		if err != nil {
			w.fault = fmt.Sprintf("start: %v", err)
			return
		}
		if w.crashNested() {
			continue
		}
		now := max(w.wall(), rec.Floor)
		for g := range w.rows {
			now = max(now, w.rows[g].high)
		}
		groups := w.recovered(rec, now)
		w.st = j.First(w.epochs, rec, now)
		for g := range groups {
			w.rows[g] = groups[g].clone()
		}
		if w.crashNested() {
			continue
		}
		if err := j.Start(w.st, now); err != nil {
			w.fault = fmt.Sprintf("start: %v", err)
			return
		}
		w.countLost(&groups)
		w.j, w.groups, w.now, w.up, w.used = j, groups, now, true, answered{}
		for g := range w.groups {
			w.groups[g].frame++
		}
		w.sync.hi, w.boots = 0, w.boots+1
		if w.bias == 5 && !rec.Harmless {
			w.hurryLate()
		}
		return
	}
}

// countLost counts answered reservations that are gone for good.
func (w *world) countLost(groups *[simGroups]simGroup) {
	for _, c := range w.clients {
		if c.counted || c.acked || c.epoch+1 > w.epochs {
			continue
		}
		r := &groups[groupOf(c.user)].rows[c.user]
		key := doneKey(c.epoch, c.id)
		held := slices.ContainsFunc(r.pending, func(p simPending) bool {
			return p.epoch == c.epoch && p.id == c.id
		})
		if !held && !slices.Contains(r.released, key) && !slices.Contains(r.shown, key) {
			c.counted = true
			w.n.lost++
		}
	}
}

// hurryLate lets late confirms arrive right behind an incident.
func (w *world) hurryLate() {
	for _, c := range w.clients {
		if c.shown && c.mode == confirmsLate && c.frame == 0 && w.now > c.expires+simGrace {
			c.sendAt = w.t
		}
	}
}

func (w *world) crashNested() bool {
	if w.rng.IntN(8) > 0 {
		return false
	}
	w.n.nested++
	if w.rng.IntN(2) == 0 {
		w.shm.mem = nil
	}
	return true
}

// recovered builds the rows of the next epoch: the durable ones, the journal's
// records that no durable frame holds, the incident.
func (w *world) recovered(rec *Recovery, now Msec) (groups [simGroups]simGroup) {
	w.bootMono = w.mono()
	var known [simGroups]uint64
	for g := range groups {
		groups[g] = w.rows[g].clone()
		known[g] = groups[g].id
	}
	for i := range rec.Records {
		r := &rec.Records[i]
		if r.Kind == Time || int(r.Group) >= simGroups {
			continue
		}
		g := &groups[r.Group]
		if r.Frame <= w.rows[r.Group].frame || r.Ord >= simUsers {
			continue
		}
		p, lease, twice := parseSim(r.Payload)
		row := &g.rows[r.Ord]
		switch {
		case r.Kind == Release:
			if _, ok := row.take(p.epoch, p.id); ok {
				row.forget(p.epoch, p.id)
			}
			continue
		case lease.Epoch != 0 && !w.bugs.leaseOverUncharged:
			w.charge(g, row)
		}
		row.enter(p, lease, twice)
		g.id = max(g.id, r.ID)
		if r.Number <= rec.Gapless {
			known[r.Group] = max(known[r.Group], r.ID)
		}
	}
	for g := range groups {
		gr := &groups[g]
		gr.frame = w.rows[g].frame + 1
		for i := range gr.incidents {
			gr.incidents[i].mono = w.bootMono
		}
		for i := range gr.rows {
			r := &gr.rows[i]
			for k := range r.pending {
				r.pending[k].mono = w.bootMono
			}
			for k := range r.phantoms {
				r.phantoms[k].mono = w.bootMono
			}
		}
		if !rec.Harmless {
			gr.incidents = append(gr.incidents,
				simIncident{rec.Incident(w.st, known[g], now), w.bootMono})
		}
	}
	return groups
}

// clientsAct lets clients show and confirm, and acknowledges confirms.
func (w *world) clientsAct() {
	if w.up {
		w.acknowledge()
	}
	for _, c := range w.clients {
		if !c.shown && w.t >= c.showAt {
			w.show(c)
		}
		if c.shown && !c.acked && w.up && w.t >= c.sendAt && c.frame == 0 {
			w.send(c)
		}
	}
}

func (w *world) show(c *client) {
	c.shown, c.shownAt = true, w.line()
	c.sendAt = w.t
	w.n.shown++
	switch c.mode {
	case confirmsLate:
		c.sendAt = w.t + simLife + simGrace + int64(w.rng.IntN(100))
	case confirmsAfterCrash:
		c.sendAt = w.t + int64(w.rng.IntN(simGrace/3))
	}
}

func (w *world) send(c *client) {
	g := &w.groups[groupOf(c.user)]
	w.sweep(g)
	late := w.confirm(g, c)
	if late {
		w.n.late++
	}
	if late && c.mode != confirmsLate {
		w.fault = "a confirm in time was called late: " + c.String()
	}
	c.frame, g.high = g.frame, max(g.high, w.now)
	if w.bugs.ackEarly {
		c.acked = true
	}
}

// acknowledge answers confirms whose frame is durable (A4).
func (w *world) acknowledge() {
	for _, c := range w.clients {
		if c.frame != 0 && c.frame <= w.rows[groupOf(c.user)].frame {
			c.acked = true
		}
	}
}

// check compares what was shown with the limits: no window that ends at a use
// may hold more uses than its cap allows.
func (w *world) check() string {
	type use struct {
		at Msec
		c  *client
	}
	for user := range simUsers {
		for k, limit := range w.caps {
			var uses []use
			for _, c := range w.clients {
				if c.shown && c.user == user && c.caps&(1<<k) != 0 && c.mode != confirmsLate {
					uses = append(uses, use{min(max(c.shownAt, c.granted), c.expires), c})
				}
			}
			slices.SortFunc(uses, func(a, b use) int { return int(a.at - b.at) })
			for i, u := range uses {
				n := 0
				for _, v := range uses[:i+1] {
					if v.at > limit.since(u.at) {
						n++
					}
				}
				if n > limit.limit {
					return fmt.Sprintf("user %d cap %d (%+v): %d uses in the window that ends at %d: %v",
						user, k, limit, n, u.at, u.c)
				}
			}
		}
	}
	for _, c := range w.clients {
		if c.shown && !c.acked {
			return errors.New("a confirm was never acknowledged: " + c.String()).Error()
		}
	}
	return ""
}
