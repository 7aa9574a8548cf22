package storage

// ExpireHolds appends an EffectRelease for up to max open reservations that hold
// a use of a total cap and no longer live at now, and returns how many it
// appended. Other reservations need no such call: they are dropped with the next
// effect of their person. The caller holds the lock.
// Cost: logarithmic in the group's reservations with a total key, for each.
func (g *Group) ExpireHolds(now UnixSec, max int) (int, error) {
	due := g.mu.state.expiredHolds(nil, now, max)
	for i := range due {
		e := Effect{
			Kind: EffectRelease, Ord: due[i].ord, Time: UnixMsec(now) * 1000,
			Resolve: ResolveEffect{ID: due[i].id},
		}
		if _, err := g.Append(&e); err != nil {
			return i, err
		}
	}
	return len(due), nil
}
