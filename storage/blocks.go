package storage

import (
	"cmp"
	"errors"
)

// A grant may be answered before it is durable only when what it takes of every
// total is covered by a durable block: units that a loss of power may take away
// without any counter passing its limit. A block holds at most what was used in
// the last second. Its units are drawn by grants, whose records say so; after a
// loss that cannot be ruled out, the units that no record has drawn are burnt:
// counted as used, by the first frames of the start. After a clean end and after
// a kill that the ring outlived every record is there, and nothing is burnt.

// blockIdle is how long nobody wants a counter before its block is forgotten.
const blockIdle = 5000 // ms

// block is what a counter may give before it is durable. Its shard's lock guards
// it.
type block struct {
	left   int64 // units that may be drawn
	wanted int64 // units drawn, or asked for in vain, since the time of counted
	rate   int64 // units wanted in the second before
	counted,
	latest UnixMsec // the last look that found units wanted
	coming blockOrder
}

// blockOrder is a BlockEffect on its way to the disk.
type blockOrder struct {
	units      int64
	group      GroupID
	frame      uint64
	generation uint32
}

// burntUnits is what is left of a charge, in the group that holds it.
type burntUnits struct {
	units int64
	group GroupID
	back  int64 // to be taken out again
}

// draw takes the units of every total among the keys from their blocks, all or
// none, and notes what was wanted. It does not allocate but for the first use of a
// counter in a window.
func (t *Totals) draw(keys []HeldKey) bool {
	for i := range keys {
		if k := &keys[i]; k.Total && !t.drawOne(k) {
			t.undraw(keys[:i])
			return false
		}
	}
	return true
}

func (t *Totals) drawOne(k *HeldKey) bool {
	s := t.shard(k.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	key, n := TotalKey{k.Key, k.Window}, k.Units()
	b := s.blocks[key]
	if b == nil {
		b = new(block)
		s.blocks[key] = b
	}
	b.wanted += n
	if b.left < n {
		return false
	}
	b.left -= n
	return true
}

// undraw gives back what draw took.
func (t *Totals) undraw(keys []HeldKey) {
	for i := range keys {
		k := &keys[i]
		if !k.Total {
			continue
		}
		s := t.shard(k.Key)
		s.mu.Lock()
		if b := s.blocks[TotalKey{k.Key, k.Window}]; b != nil {
			b.left += k.Units()
		}
		s.mu.Unlock()
	}
}

// Blocks returns the units that grants may draw now, of all counters.
func (t *Totals) Blocks() (units int64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, b := range s.blocks {
			units += b.left
		}
		s.mu.Unlock()
	}
	return units
}

// BurntFor tells whether units are burnt that a use may take the place of.
func (t *Totals) BurntFor(k *HeldKey) bool {
	s := t.shard(k.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.burntOf(k.Key, k.Window)
	return ok && s.burnt[at].units-s.burnt[at].back >= k.Units()
}

// GiveBurnt is told that a use whose reservation a loss of power took has come and
// is counted: units that were burnt for it are given back with the next FeedTotals.
func (t *Totals) GiveBurnt(k *HeldKey) {
	s := t.shard(k.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.burntOf(k.Key, k.Window); ok {
		b := s.burnt[at]
		b.back += min(k.Units(), b.units-b.back)
		s.burnt[at] = b
	}
}

// burntOf finds units burnt that are not taken yet: those of the first window from
// one on, since a lost reservation was counted at its last moment.
func (s *totalsShard) burntOf(key CounterKey, window uint32) (at TotalKey, ok bool) {
	for k, b := range s.burnt {
		if k.CounterKey == key && k.Window >= window && b.back < b.units &&
			(!ok || k.Window < at.Window) {
			at, ok = k, true
		}
	}
	return at, ok
}

// knowBurnt enters what the groups are charged with.
func (s *Store) knowBurnt() {
	for _, g := range s.groups {
		g.mu.Lock()
		for k, n := range g.mu.state.share.blocks.burnt {
			shard := s.totals.shard(k.CounterKey)
			shard.mu.Lock()
			shard.burnt[k] = burntUnits{units: n, group: g.id}
			shard.mu.Unlock()
		}
		g.mu.Unlock()
	}
}

// FeedTotals keeps the blocks of totals as large as what is wanted of them in a
// second. room says how many units of a counter may lie in blocks now; 0 or less:
// none. It asks for blocks, lets those be drawn that have become durable, takes
// back what nobody wants, and gives back what was burnt for uses that have come.
// Call it some times a second.
// Cost: the counters that were wanted in the last seconds.
func (s *Store) FeedTotals(now UnixMsec, room func(TotalKey) int64) error {
	s.totals.feeding.Lock()
	defer s.totals.feeding.Unlock()
	var errs []error
	for _, key := range s.totals.wanted() {
		errs = append(errs, s.feed(key, now, room(key)))
	}
	for _, u := range s.totals.takeBack() {
		e := Effect{Kind: EffectBurn, Ord: NoOrd, Time: now}
		e.Burn.Units = []BlockEffect{u.BlockEffect}
		_, err := s.appendTo(u.group, &e)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// wanted returns the counters that have a block, or want one.
func (t *Totals) wanted() (keys []TotalKey) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for k := range s.blocks {
			keys = append(keys, k)
		}
		s.mu.Unlock()
	}
	return keys
}

type burntBack struct {
	BlockEffect
	group GroupID
}

// takeBack returns the burnt units to be taken out again, as effects, and forgets
// them.
func (t *Totals) takeBack() (out []burntBack) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for k, b := range s.burnt {
			if b.back > 0 {
				out = append(out, burntBack{BlockEffect{k, -b.back}, b.group})
				b.units, b.back = b.units-b.back, 0
				s.burnt[k] = b
			}
		}
		s.mu.Unlock()
	}
	return out
}

// feed looks after one block.
func (s *Store) feed(key TotalKey, now UnixMsec, room int64) error {
	shard := s.totals.shard(key.CounterKey)
	shard.mu.Lock()
	b := shard.blocks[key]
	s.arrive(b)
	b.count(now)
	order := int64(0)
	switch want := max(min(b.rate, room), 0); {
	case b.coming.units > 0:
	case b.left > want: // what is taken back is gone at once, whatever the disk does
		order = want - b.left
		b.left = want
	case b.left < (want+1)/2:
		order = want - b.left
	case b.left == 0 && now-b.latest > blockIdle:
		delete(shard.blocks, key)
	}
	shard.mu.Unlock()
	if order == 0 {
		return nil
	}
	e := Effect{Kind: EffectBlock, Ord: NoOrd, Time: now, Block: BlockEffect{key, order}}
	group := GroupID(counterGroup(key.CounterKey, len(s.groups)))
	frame, err := s.appendTo(group, &e)
	if err != nil || order < 0 {
		return err
	}
	shard.mu.Lock()
	b.coming = blockOrder{order, group, frame, s.groups[group].generation.Load()}
	shard.mu.Unlock()
	return nil
}

// arrive lets the block's order be drawn once its frame is durable. One whose
// group was reloaded meanwhile is forgotten: it may have gone with a frame.
func (s *Store) arrive(b *block) {
	c := &b.coming
	if c.units == 0 {
		return
	}
	g := s.groups[c.group]
	durable := g.durable.Load() >= c.frame
	switch {
	case g.generation.Load() != c.generation:
		*c = blockOrder{}
	case durable:
		b.left += c.units
		*c = blockOrder{}
	}
}

// count ends the second of what was wanted.
func (b *block) count(now UnixMsec) {
	if b.wanted > 0 {
		b.latest = now
	}
	if b.counted == 0 || now < b.counted {
		b.counted, b.latest = now, now
	}
	if passed := int64(now - b.counted); passed >= 1000 {
		b.rate, b.wanted, b.counted = b.wanted*1000/passed, 0, now
		return
	}
	b.rate = max(b.rate, b.wanted)
}

// appendTo appends an effect of the group.
func (s *Store) appendTo(id GroupID, e *Effect) (uint64, error) {
	g := s.groups[id]
	g.Lock()
	defer g.Unlock()
	frame, err := g.Append(e)
	return frame, err
}

// counterGroup is the group in whose frames the blocks of a counter lie.
func counterGroup(k CounterKey, groups int) int {
	h := (uint64(k.Cap)<<32 | uint64(k.Dim)) * 0x9E3779B97F4A7C15
	return int(h >> 33 % uint64(groups))
}

func compareTotalKeys(a, b TotalKey) int {
	return cmp.Or(cmp.Compare(a.Cap, b.Cap), cmp.Compare(a.Dim, b.Dim),
		cmp.Compare(a.Window, b.Window))
}
