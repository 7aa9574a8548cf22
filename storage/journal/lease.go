package journal

import "time"

// A Lease lets later grants of its owner be answered before they are durable.
// It travels in a record: that grant waits, and the lease is in force from the
// moment its record is durable. After a loss it says who may have been answered
// something that is gone. It belongs to one epoch and ends with it.
type Lease struct {
	Epoch uint32 // 0 = none
	ID    uint64 // reservation that carries it, number inside its group
	Start Msec
	End   Msec
	// Before is the end of the lease that was in force when this one was stored:
	// it applies until this one is durable. 0 = none was.
	Before Msec
	Life   uint32 // longest life of a reservation under it, seconds
	Grace  uint32 // longest grace of a confirm under it, seconds
}

// inForce reports whether a grant at now stands under the lease. durable is the
// highest id of the group whose record is durable.
func (l Lease) inForce(epoch uint32, durable uint64, now Msec) bool {
	switch {
	case l.Epoch != epoch || epoch == 0:
		return false
	case l.ID <= durable:
		return now < l.End
	default:
		return now < l.Before
	}
}

// Covers reports whether a reservation of this life and grace, in seconds, may
// be answered under the lease: a stand-in for it then lasts long enough.
func (l Lease) Covers(life, grace uint32) bool { return life <= l.Life && grace <= l.Grace }

// Incident is a loss that cannot be ruled out: some reservations of the dead
// epoch may have been answered and be gone. IDs are those of one group.
type Incident struct {
	Epoch  uint32 // dead
	Synced Msec   // M: everything stored before it was durable
	High   Msec   // server time at the start after the loss
	Known  uint64 // D: every reservation of the group up to it is known
}

// Charges reports whether the owner of a lease may have lost an answered
// reservation, and so is charged one stand-in.
//
// The lease is judged at Synced, not at High: it may have run out while the
// last records waited in a sync that was stuck.
func (i Incident) Charges(l Lease) bool {
	return l.Epoch != 0 && l.Epoch == i.Epoch && l.End >= i.Synced && l.Start <= i.High
}

// Lost reports whether an unknown reservation is one that the incident took:
// its confirm then takes the stand-in off its counters.
func (i Incident) Lost(epoch uint32, id uint64) bool { return epoch == i.Epoch && id > i.Known }

// Renew returns the lease that a grant should carry, and false when the one it
// has will do. id is the grant's reservation; the result covers life and grace
// in seconds. A lease is renewed in its last quarter, or to cover more.
func (j *Journal) Renew(l Lease, r *Record, life, grace uint32) (Lease, bool) {
	if !j.Fast() || r.Group >= uint16(len(j.durable)) || j.crowded() {
		return l, false
	}
	span := Msec(j.o.Lease / time.Millisecond)
	durable := j.durable[r.Group].Load()
	live := l.inForce(j.epoch.Load(), durable, r.Time)
	if live && l.Covers(life, grace) && l.End-r.Time > span/4 {
		return l, false
	}
	next := Lease{
		Epoch: j.epoch.Load(), ID: r.ID, Start: r.Time, End: r.Time + span,
		Life: life, Grace: grace,
	}
	if live {
		next.Start, next.Life = l.Start, max(life, l.Life)
		next.Grace, next.Before = max(grace, l.Grace), l.End
		if l.ID > durable {
			next.Before = l.Before
		}
		// Until this one is durable the old one covers no more than it did.
		if !l.Covers(life, grace) {
			next.Before = 0
		}
	}
	return next, true
}
