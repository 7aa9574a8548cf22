package storage

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// BlockEffect lets units of a total be drawn by grants that are answered before
// they are durable, once the effect itself is durable: see Store.FeedTotals. Units
// below 0 take back what nobody drew.
type BlockEffect struct {
	Key   TotalKey
	Units int64
}

// BurnEffect counts units of totals that were burnt: drawn from blocks by grants
// that a loss of power took, or drawn by nobody. Units below 0 take burnt ones out
// again: the use that was taken for lost has come.
type BurnEffect struct {
	// Ends: the epoch of the group's blocks is over, nothing is drawn from them any
	// more.
	Ends  bool
	Units []BlockEffect
}

func appendBlock(b []byte, e *BlockEffect) []byte {
	b = binary.AppendUvarint(b, uint64(e.Key.Cap))
	b = binary.AppendUvarint(b, uint64(e.Key.Dim))
	b = binary.AppendUvarint(b, uint64(e.Key.Window))
	return binary.AppendVarint(b, e.Units)
}

func appendBurn(b []byte, e *BurnEffect) []byte {
	ends := byte(0)
	if e.Ends {
		ends = 1
	}
	return appendUnits(append(b, ends), e.Units)
}

func appendUnits(b []byte, units []BlockEffect) []byte {
	b = binary.AppendUvarint(b, uint64(len(units)))
	for i := range units {
		b = appendBlock(b, &units[i])
	}
	return b
}

func (d *effectDecoder) block() BlockEffect {
	key := TotalKey{
		CounterKey: CounterKey{Cap: d.in.name(), Dim: d.in.uvarint32()}, Window: d.in.uvarint32(),
	}
	u := d.in.uvarint()
	return BlockEffect{key, int64(u>>1) ^ -int64(u&1)}
}

func (d *effectDecoder) burn(e *BurnEffect) {
	e.Ends = d.in.flag()
	e.Units = d.unitList()
}

func (d *effectDecoder) unitList() []BlockEffect {
	d.units = d.units[:0]
	for range d.in.count(4) {
		d.units = append(d.units, d.block())
	}
	return orNil(d.units)
}

// refund gives confirmed units back, as far as they are known.
func (t *totalsShare) refund(units []BlockEffect) {
	for _, u := range units {
		n := max(min(u.Units, t.confirmed[u.Key]), 0)
		addTo(t.confirmed, u.Key, -n)
		if t.ledger != nil {
			t.ledger.add(u.Key, -n)
		}
	}
}

// blockShare is what one group knows of the blocks of totals: the units of the
// blocks that lie in its frames and those that its own reservations have drawn,
// both of the present epoch, and the units burnt that are charged to it.
type blockShare struct {
	allowed map[TotalKey]int64
	drawn   map[TotalKey]int64
	burnt   map[TotalKey]int64
}

func newBlockShare() blockShare {
	return blockShare{
		allowed: make(map[TotalKey]int64), drawn: make(map[TotalKey]int64),
		burnt: make(map[TotalKey]int64),
	}
}

func (b *blockShare) empty() bool { return len(b.allowed)+len(b.drawn)+len(b.burnt) == 0 }

// addTo adds n to a counter, and takes it out when it comes to 0.
func addTo(to map[TotalKey]int64, k TotalKey, n int64) {
	if n += to[k]; n == 0 {
		delete(to, k)
		return
	}
	to[k] = n
}

// drew counts what a reservation drew from blocks.
func (b *blockShare) drew(e *ReserveEffect) {
	if !e.Drawn {
		return
	}
	for i := range e.Keys {
		if k := &e.Keys[i]; k.Total {
			addTo(b.drawn, TotalKey{k.Key, k.Window}, k.Units())
		}
	}
}

// burn applies a BurnEffect: what is burnt counts as confirmed.
func (t *totalsShare) burn(e *BurnEffect) {
	if e.Ends {
		clear(t.blocks.allowed)
		clear(t.blocks.drawn)
	}
	for _, u := range e.Units {
		n := max(u.Units, -t.blocks.burnt[u.Key])
		addTo(t.blocks.burnt, u.Key, n)
		addTo(t.confirmed, u.Key, n)
		if t.ledger != nil {
			t.ledger.add(u.Key, n)
		}
	}
}

const metaBlockRow = 36

// append appends the section of a group's meta, nothing when there is nothing:
//
//	n u32 × (cap u32 | dim u32 | window u32 | allowed i64 | drawn i64 | burnt i64)
func (b *blockShare) append(dst []byte) []byte {
	if b.empty() {
		return dst
	}
	keys := make(map[TotalKey]bool)
	for _, m := range []map[TotalKey]int64{b.allowed, b.drawn, b.burnt} {
		for k := range m {
			keys[k] = true
		}
	}
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(len(keys)))
	for k := range keys {
		dst = appendTotalKey(dst, k)
		dst = le.AppendUint64(dst, uint64(b.allowed[k]))
		dst = le.AppendUint64(dst, uint64(b.drawn[k]))
		dst = le.AppendUint64(dst, uint64(b.burnt[k]))
	}
	return dst
}

// load reads what append wrote; none: no rows are good too.
func (b *blockShare) load(r *reader, none bool) bool {
	n := int64(r.u32())
	if n == 0 && !none || n*metaBlockRow > int64(len(r.b)) {
		return false
	}
	for range n {
		k := TotalKey{CounterKey{Name(r.u32()), r.u32()}, r.u32()}
		addTo(b.allowed, k, int64(r.u64()))
		addTo(b.drawn, k, int64(r.u64()))
		addTo(b.burnt, k, int64(r.u64()))
	}
	return true
}

// sum adds up what checksum says of the blocks.
func (b *blockShare) sum(hash func([]byte) uint64) (sum uint64) {
	var buf []byte
	for kind, m := range []map[TotalKey]int64{b.allowed, b.drawn, b.burnt} {
		for k, n := range m {
			buf = append(appendTotalKey(buf[:0], k), 'b', byte(kind))
			sum += hash(binary.LittleEndian.AppendUint64(buf, uint64(n)))
		}
	}
	return sum
}

// lostUnits are, of all groups together, the units of blocks that no reservation
// on disk has drawn: after a loss of power grants may have drawn them.
func (s *Store) lostUnits() []BlockEffect {
	left := make(map[TotalKey]int64)
	for _, g := range s.groups {
		for k, n := range g.mu.state.share.blocks.allowed {
			left[k] += n
		}
		for k, n := range g.mu.state.share.blocks.drawn {
			left[k] -= n
		}
	}
	var out []BlockEffect
	for k, n := range left {
		if n > 0 {
			out = append(out, BlockEffect{k, n})
		}
	}
	slices.SortFunc(out, func(a, b BlockEffect) int { return compareTotalKeys(a.Key, b.Key) })
	return out
}

// endBlocks ends the blocks of the epoch before, and burns what is left of them
// when grants that drew from them may be lost.
func (s *Store) endBlocks(at UnixMsec) error {
	c := &s.carry
	burnt := make([][]BlockEffect, len(s.groups))
	if !c.rec.Harmless {
		for _, u := range s.lostUnits() {
			g := counterGroup(u.Key.CounterKey, len(s.groups))
			burnt[g] = append(burnt[g], u)
			c.burnt += u.Units
			s.o.Logger.Warn("totals: units of a block are burnt after a loss", "cap",
				s.NameOf(DictCap, u.Key.Cap), "dimension", u.Key.Dim, "window", u.Key.Window,
				"units", u.Units)
		}
	}
	for i, g := range s.groups {
		blocks := &g.mu.state.share.blocks
		if len(blocks.allowed)+len(blocks.drawn)+len(burnt[i]) == 0 {
			continue
		}
		e := Effect{Kind: EffectBurn, Ord: NoOrd, Time: at, Burn: BurnEffect{true, burnt[i]}}
		if _, err := s.appendTo(g.id, &e); err != nil {
			return fmt.Errorf("group %d: first frame: %w", i, err)
		}
	}
	return nil
}
