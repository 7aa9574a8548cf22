package storage

// TotalCount is what is known of one counter of a total cap: the uses that have
// happened, and beside them those that reservations hold.
type TotalCount struct {
	Key       TotalKey
	Confirmed int64 // with what was burnt
	Held      int64
	Burnt     int64 // counted as used after a loss of power: see BurnEffect
}

// TotalCounts returns every counter of the ledger, in no order. It locks each
// group for a moment, so counters of different groups may be a moment apart:
// a use that is confirmed meanwhile may be told as held.
func (s *Store) TotalCounts() []TotalCount {
	at := map[TotalKey]int{}
	var out []TotalCount
	count := func(k TotalKey) *TotalCount {
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, TotalCount{Key: k})
		}
		return &out[i]
	}
	for _, g := range s.groups {
		g.mu.Lock()
		for k, n := range g.mu.state.share.confirmed {
			count(k).Confirmed += n
		}
		for k, n := range g.mu.state.share.blocks.burnt {
			count(k).Burnt += n
		}
		g.mu.Unlock()
	}
	s.totals.Each(func(k TotalKey, used int64) {
		c := count(k)
		c.Held = max(used-c.Confirmed, 0)
	})
	return out
}
