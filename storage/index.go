package storage

import "unsafe"

// An index maps the hash of a person's canonical id to ordinals. It is open
// addressing over buckets of one cache line: eight pairs of a 32-bit tag (the
// hash's high half) and an ordinal. A look-up walks buckets from the hash's low
// bits until one has an empty place, and confirms each tag hit with the caller.
//
// A deleted entry in a bucket without an empty place leaves a mark, since
// look-ups may have walked past that bucket. The table doubles, or is built
// anew without marks, at three quarters full. It has no pointers inside.
type index struct {
	buckets []indexBucket // a power of two, or none
	used    int           // entries and marks
	live    int           // entries
}

type indexBucket struct {
	tags [8]uint32
	ords [8]uint32 // ordinal + 1; 0 = empty, indexMark = deleted
}

const (
	indexMark       = 0xFFFFFFFF
	indexMinBuckets = 8
)

// find returns the first ordinal under hash that confirm takes.
// Cost: one cold cache line plus confirm's.
func (x *index) find(hash uint64, confirm func(Ord) bool) (Ord, bool) {
	if len(x.buckets) == 0 {
		return 0, false
	}
	mask := uint64(len(x.buckets) - 1)
	tag := uint32(hash >> 32)
	for i := hash & mask; ; i = (i + 1) & mask {
		b := &x.buckets[i]
		empty := false
		for j := range b.ords {
			switch {
			case b.ords[j] == 0:
				empty = true
			case b.ords[j] != indexMark && b.tags[j] == tag:
				if o := Ord(b.ords[j] - 1); confirm(o) {
					return o, true
				}
			}
		}
		if empty {
			return 0, false
		}
	}
}

// add enters o under hash. hashOf gives the hash of an entered ordinal; it is
// used when the table is built anew.
func (x *index) add(hash uint64, o Ord, hashOf func(Ord) uint64) {
	if 4*(x.used+1) > 3*8*len(x.buckets) {
		x.rebuild(hashOf)
	}
	x.insert(hash, o)
}

// remove takes o out; an ordinal that is not there is a no-op.
func (x *index) remove(hash uint64, o Ord) {
	if len(x.buckets) == 0 {
		return
	}
	mask := uint64(len(x.buckets) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		b := &x.buckets[i]
		at, empty := -1, false
		for j := range b.ords {
			if b.ords[j] == 0 {
				empty = true
			} else if b.ords[j] == uint32(o)+1 {
				at = j
			}
		}
		if at >= 0 {
			b.tags[at], b.ords[at] = 0, indexMark
			if empty {
				b.ords[at] = 0
				x.used--
			}
			x.live--
			return
		}
		if empty {
			return
		}
	}
}

// bytes returns the memory of the table.
func (x *index) bytes() int64 { return int64(len(x.buckets)) * 64 }

func (x *index) insert(hash uint64, o Ord) {
	mask := uint64(len(x.buckets) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		b := &x.buckets[i]
		for j := range b.ords {
			if b.ords[j] == 0 || b.ords[j] == indexMark {
				if b.ords[j] == 0 {
					x.used++
				}
				b.tags[j], b.ords[j] = uint32(hash>>32), uint32(o)+1
				x.live++
				return
			}
		}
	}
}

// rebuild makes a table that the live entries fill to half at most.
func (x *index) rebuild(hashOf func(Ord) uint64) {
	n := indexMinBuckets
	for 4*n < x.live+1 {
		n *= 2
	}
	old := x.buckets
	x.buckets, x.used, x.live = make([]indexBucket, n), 0, 0
	if size := uintptr(n) * unsafe.Sizeof(x.buckets[0]); size >= hugeFrom<<20 {
		preferHuge(unsafe.Pointer(&x.buckets[0]), size)
	}
	for i := range old {
		for _, v := range old[i].ords {
			if v != 0 && v != indexMark {
				x.insert(hashOf(Ord(v-1)), Ord(v-1))
			}
		}
	}
}
