package storage

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"tact/storage/journal"
)

// An Incident is a start after which some answered reservations of the epoch
// before may be gone: see journal.Incident. It is an effect of every group, the
// first of its frame, and charges each owner of a lease one stand-in: a pending
// use of every counter, dated at the latest time that a lost use may have.
type Incident struct {
	journal.Incident
	frame uint64
}

const (
	// incidentsMax bounds the incidents that a group remembers. The oldest are
	// long past the life of any reservation then.
	incidentsMax = 64
	incidentSize = 36
)

// incidents are a group's latest, in rising order of epochs and of frames.
type incidents []Incident

func (l *incidents) add(in Incident) {
	if n := len(*l); n > 0 && (*l)[n-1].Epoch >= in.Epoch {
		return
	}
	*l = append(*l, in)
	if len(*l) > incidentsMax {
		*l = slices.Delete(*l, 0, 1)
	}
}

// in returns those that are in force in a frame.
func (l incidents) in(frame uint64) incidents {
	n := len(l)
	for n > 0 && l[n-1].frame > frame {
		n--
	}
	return l[:n]
}

// of returns the incident that ended an epoch.
func (l incidents) of(epoch uint32) (Incident, bool) {
	i, ok := slices.BinarySearchFunc(l, epoch, func(in Incident, e uint32) int {
		return cmp.Compare(in.Epoch, e)
	})
	if !ok {
		return Incident{}, false
	}
	return l[i], true
}

// appendIncident appends epoch u32 | synced i64 | high i64 | known u64.
func appendIncident(b []byte, in *journal.Incident) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, in.Epoch)
	b = le.AppendUint64(b, uint64(in.Synced))
	b = le.AppendUint64(b, uint64(in.High))
	return le.AppendUint64(b, in.Known)
}

// append appends n u8 × (frame u64 | incident).
func (l incidents) append(b []byte) []byte {
	b = append(b, byte(len(l)))
	for i := range l {
		b = binary.LittleEndian.AppendUint64(b, l[i].frame)
		b = appendIncident(b, &l[i].Incident)
	}
	return b
}

// load reads what append wrote; r may be at its end when there were none.
func (l *incidents) load(r *reader) bool {
	if len(r.b) == 0 {
		return true
	}
	n := int(r.byte())
	if n > incidentsMax || len(r.b) < n*incidentSize {
		return false
	}
	for range n {
		in := Incident{frame: r.u64()}
		in.Epoch, in.Synced = r.u32(), journal.Msec(r.u64())
		in.High, in.Known = journal.Msec(r.u64()), r.u64()
		if in.Epoch == 0 || len(*l) > 0 && (*l)[len(*l)-1].Epoch >= in.Epoch {
			return false
		}
		*l = append(*l, in)
	}
	return true
}

// secondUp rounds a time up to a second.
func secondUp(t journal.Msec) UnixSec {
	return UnixSec(min(max((t+999)/1000, 0), math.MaxUint32))
}

// LostReservation tells whether a reservation that a person does not know is one
// that an incident took: its use is then counted with UseEffect.Lost. The
// reservation may be one that a merge has brought from another group.
func (s *Store) LostReservation(id ReservationID) bool {
	of := s.incidents[id.Number>>48%uint64(len(s.incidents))]
	in, ok := of.of(id.Epoch)
	return ok && in.Lost(id.Epoch, id.Number)
}

// LostReservation is Store.LostReservation.
func (g *Group) LostReservation(id ReservationID) bool { return g.store.LostReservation(id) }

// knowIncidents keeps what every group knows of incidents, which no one adds to
// before the next start.
func (s *Store) knowIncidents() {
	s.incidents = make([]incidents, len(s.groups))
	for i, g := range s.groups {
		g.mu.Lock()
		s.incidents[i] = slices.Clone(g.mu.state.incidents)
		g.mu.Unlock()
	}
}

// Instant is the moment now as the group judges reservations by. The group must
// be locked; the result is valid until it is unlocked.
func (g *Group) Instant(now UnixSec) Instant {
	var at Instant
	g.SetInstant(&at, now)
	return at
}

// SetInstant makes at what Instant returns, without a copy.
func (g *Group) SetInstant(at *Instant, now UnixSec) {
	st := g.mu.state
	at.Now, at.Floor, at.incidents = now, st.floor(), st.incidents
	at.blind, at.certain = st.blind, false
}
