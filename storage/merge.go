package storage

import "fmt"

// mergeTries bounds how often a merge or split waits for grants to be durable.
const mergeTries = 16

// MergeContacts unites what caps know of two people in the survivor: from then on
// the uses and open reservations of both count against every limit, and the other
// has none. What came from the other is known under its id until a time, the end
// of the longest window that may hold it, so that SplitContacts can give it back:
// math.MaxUint32 = for ever. What the other had taken in before keeps its own
// origin. Both are there after a crash, or neither.
//
// Nothing is lost of what was answered: it waits until every grant of both is
// durable. The lease of the survivor goes on and that of the other ends; stand-ins
// of lost reservations count on. Live request ids of the other end: a retry is
// decided anew. Idempotency keys stay in the group that they were entered in: while
// Contact.KeysAway says so, whoever applies an outcome of the person asks every group.
//
// No route of the server calls it yet. The caller sends what comes for the other
// person to the survivor from then on: the outcome of a reservation that the other
// held is the survivor's to confirm, and counts as the survivor's own use.
//
// Errors: ErrInvalid for people who are not there or are the same, ErrTooLarge for
// too many open reservations or stand-ins, else those of Append and Wait; nothing is changed
// then. Cost: one durable commit, and both groups locked for some microseconds.
func (s *Store) MergeContacts(survivor, other PersonRef, until UnixSec, now UnixMsec) error {
	return s.moveContacts(&contactMove{
		from: other, to: survivor, now: now,
		absorb: AbsorbEffect{Origin: other.Origin(), Until: until},
	})
}

// SplitContacts takes out of the survivor what carries one of the origins, and
// gives it to the other person: the other's own uses and open reservations, origin
// other.Origin(), and those of people the other had taken in before. What was used
// after the merge, and what the survivor had before, stays with the survivor; a
// reservation that is still open goes back to whom it was granted to. Uses whose
// origin has ended stay. Errors and cost are those of MergeContacts.
func (s *Store) SplitContacts(
	survivor, other PersonRef, alsoFrom []Origin, now UnixMsec,
) error {
	return s.moveContacts(&contactMove{
		from: survivor, to: other, now: now,
		origins: append([]Origin{other.Origin()}, alsoFrom...),
	})
}

// contactMove moves what caps know from one person to another.
type contactMove struct {
	from, to PersonRef
	origins  []Origin // nil = everything
	absorb   AbsorbEffect
	now      UnixMsec
	done     bool
}

func (s *Store) moveContacts(m *contactMove) error {
	a, b := s.Group(m.from.Group), s.Group(m.to.Group)
	if a == nil || b == nil || m.from == m.to {
		return fmt.Errorf("%w: people of a merge", ErrInvalid)
	}
	for range mergeTries {
		var wait [2]uint64
		var err error
		s.Together(func() { wait, err = m.try(a, b) })
		for i, g := range [...]*Group{a, b} {
			if err == nil {
				err = s.Wait(g.id, wait[i], 0)
			}
		}
		if err != nil || m.done {
			return err
		}
	}
	return fmt.Errorf("%w: grants of the people go on", ErrUnknown)
}

// try moves what is to be moved when all that was answered of both people is
// durable. It returns the frames to wait for: of the move, or before the next try.
//
// It is the one place that holds two groups, in the order of their numbers.
func (m *contactMove) try(a, b *Group) (wait [2]uint64, err error) {
	first, second := a, b
	if b.id < a.id {
		first, second = b, a
	}
	first.Lock()
	defer first.Unlock()
	if second != first {
		second.Lock()
		defer second.Unlock()
	}
	from, to := a.mu.state.row(m.from.Ord), b.mu.state.row(m.to.Ord)
	if from == nil || to == nil || from.Person != m.from.Person || to.Person != m.to.Person {
		return wait, fmt.Errorf("%w: a person of a merge is not there", ErrInvalid)
	}
	if from.LastFrame > a.durable.Load() || to.LastFrame > b.durable.Load() {
		return [2]uint64{from.LastFrame, to.LastFrame}, nil
	}
	cede := Effect{Kind: EffectCede, Ord: m.from.Ord, Time: m.now, Cede: CedeEffect{m.origins}}
	if err := a.admit(&cede); err != nil {
		return wait, err
	}
	absorb := Effect{Kind: EffectAbsorb, Ord: m.to.Ord, Time: m.now, Absorb: m.absorb}
	absorb.Absorb.Part = a.ceded(&cede)
	if wait[1], err = b.Append(&absorb); err != nil {
		return wait, err
	}
	wait[0], err = a.Append(&cede)
	m.done = true
	return wait, err
}

// ceded returns what an EffectCede will take out.
func (g *Group) ceded(e *Effect) []byte {
	e.Time = max(e.Time, UnixMsec(g.high.Load()))
	t := g.Instant(secondOf(e.Time))
	d := contactDraft{self: PersonRef{Group: g.id, Person: g.mu.state.row(e.Ord).Person}.Origin()}
	d.load(g.Contact(e.Ord))
	d.sweep(t)
	return d.cede(e.Cede.Origins, t)
}
