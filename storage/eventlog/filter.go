package eventlog

import (
	"encoding/binary"
	"slices"
)

// A filter says which ordinals a block may hold: a Bloom filter of filterBits a
// person and filterHashes hashes, which says yes wrongly about once in a hundred.
//
// Source: B. H. Bloom, CACM 13 (1970) 422-426; two hashes for all by A. Kirsch,
// M. Mitzenmacher, ESA 2006.
const (
	filterBits   = 10
	filterHashes = 6
)

// filter writes the filter of the block's people: words u64.
func (p *packer) filter(b *Builder) {
	p.ords = p.ords[:0]
	for i := range b.entries {
		if ord := b.entries[i].ord; ord != NoOrd {
			p.ords = append(p.ords, ord)
		}
	}
	slices.Sort(p.ords)
	p.ords = slices.Compact(p.ords)
	if len(p.ords) == 0 {
		return
	}
	words := make([]uint64, (len(p.ords)*filterBits+63)/64)
	for _, ord := range p.ords {
		filterEach(ord, uint32(len(words))*64, func(bit uint32) bool {
			words[bit/64] |= 1 << (bit % 64)
			return true
		})
	}
	for _, w := range words {
		p.columns[columnFilter] = binary.LittleEndian.AppendUint64(p.columns[columnFilter], w)
	}
}

// filterEach calls f for the bits of ord until it returns false.
func filterEach(ord, bits uint32, f func(bit uint32) bool) {
	h := (uint64(ord) + 1) * 0x9E3779B97F4A7C15
	h ^= h >> 29
	h *= 0xBF58476D1CE4E5B9
	h ^= h >> 32
	a, step := uint32(h), uint32(h>>32)|1
	for range filterHashes {
		if !f(uint32(uint64(a) * uint64(bits) >> 32)) {
			return
		}
		a += step
	}
}

// filterHas reports whether the filter may hold ord.
func filterHas(filter []byte, ord uint32) bool {
	bits := uint32(len(filter) / 8 * 64)
	if bits == 0 {
		return false
	}
	found := true
	filterEach(ord, bits, func(bit uint32) bool {
		w := binary.LittleEndian.Uint64(filter[bit/64*8:])
		found = w>>(bit%64)&1 == 1
		return found
	})
	return found
}
