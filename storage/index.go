package storage

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// An index maps the hash of a person's canonical id to ordinals. It is open
// addressing over buckets of one cache line: six entries of a tag (the highest bits
// of the hash), an ordinal and where the person's profile was last. A look-up walks
// buckets from the hash's low bits until one has an empty place, and confirms each tag
// hit with the caller.
//
// The place of the profile is a hint: it lets the profile be asked for together with the
// row, which alone knows where it is. Nothing but speed depends on it.
//
// A deleted entry in a bucket without an empty place leaves a mark, since
// look-ups may have walked past that bucket. The table doubles, or is built
// anew without marks, at five sixths full. It has no pointers inside.
type index struct {
	buckets []indexBucket // a power of two, or none
	used    int           // entries and marks
	live    int           // entries
	shown   *atomic.Pointer[indexTable]
}

// An indexTable is what Ahead knows of a table.
type indexTable struct{ buckets []indexBucket }

type indexBucket struct {
	ords  [indexPlaces]uint32 // ordinal + 1; 0 = empty, indexMark = deleted
	hints [indexPlaces]Ref
	tags  [indexPlaces]uint16
	_     [4]byte
}

const (
	indexPlaces     = 6
	indexMost       = 5 // entries and marks a bucket, in the mean
	indexMark       = 0xFFFFFFFF
	indexMinBuckets = 8
	indexTag        = 48 // bits below the tag of a hash
)

// probe is how far a look-up has come: a bucket, and which of its places are left.
type probe struct {
	bucket uint64
	left   uint32 // a bit each
}

const everyPlace = 1<<indexPlaces - 1

// first returns where the look-up of a hash begins.
func (x *index) first(hash uint64) probe {
	return probe{hash, everyPlace}
}

// next returns the first ordinal from p on whose tag is that of the hash, which the
// caller confirms, its hint, and where to go on when it is another's.
// Cost: one cold cache line; the places of a bucket are compared without branches.
func (x *index) next(hash uint64, p probe) (o Ord, hint *Ref, more probe, ok bool) {
	if len(x.buckets) == 0 {
		return 0, nil, probe{}, false
	}
	tag, last := uint16(hash>>indexTag), uint64(len(x.buckets)-1)
	for {
		b := &x.buckets[p.bucket&last]
		t := &b.tags
		hits := same(t[0], tag) | same(t[1], tag)<<1 | same(t[2], tag)<<2 | same(t[3], tag)<<3 |
			same(t[4], tag)<<4 | same(t[5], tag)<<5
		for hits &= p.left; hits != 0; hits &= hits - 1 {
			j := bits.TrailingZeros32(hits)
			if v := b.ords[j]; v != 0 && v != indexMark {
				return Ord(v - 1), &b.hints[j], probe{p.bucket, p.left &^ (2<<j - 1)}, true
			}
		}
		for _, v := range b.ords {
			if v == 0 {
				return 0, nil, probe{}, false
			}
		}
		p = probe{p.bucket + 1, everyPlace}
	}
}

// same is 1 when a tag is the one that is looked for.
func same(a, b uint16) uint32 {
	if a == b {
		return 1
	}
	return 0
}

// find returns the first ordinal under hash that confirm takes.
func (x *index) find(hash uint64, confirm func(Ord) bool) (Ord, bool) {
	for p := x.first(hash); ; {
		o, _, next, ok := x.next(hash, p)
		if !ok || confirm(o) {
			return o, ok
		}
		p = next
	}
}

// add enters o under hash. hashOf gives the hash of an entered ordinal; it is
// used when the table is built anew.
func (x *index) add(hash uint64, o Ord, hashOf func(Ord) uint64) {
	if x.used+1 > indexMost*len(x.buckets) {
		x.rebuild(hashOf)
	}
	x.insert(hash, o, 0)
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
			b.tags[at], b.ords[at], b.hints[at] = 0, indexMark, 0
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

func (x *index) insert(hash uint64, o Ord, hint Ref) {
	mask := uint64(len(x.buckets) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		b := &x.buckets[i]
		for j := range b.ords {
			if b.ords[j] == 0 || b.ords[j] == indexMark {
				if b.ords[j] == 0 {
					x.used++
				}
				b.tags[j], b.ords[j], b.hints[j] = uint16(hash>>indexTag), uint32(o)+1, hint
				x.live++
				return
			}
		}
	}
}

// reserve makes an empty table for n entries, none for none.
func (x *index) reserve(n int) {
	if n == 0 {
		return
	}
	buckets := indexMinBuckets
	for n > indexMost*buckets {
		buckets *= 2
	}
	x.make(buckets)
}

// make makes an empty table.
func (x *index) make(buckets int) {
	x.buckets, x.used, x.live = make([]indexBucket, buckets), 0, 0
	if size := uintptr(buckets) * unsafe.Sizeof(x.buckets[0]); size >= hugeFrom<<20 {
		preferHuge(unsafe.Pointer(&x.buckets[0]), size)
	}
	x.show()
}

// show tells the group's Ahead of the table.
func (x *index) show() {
	if x.shown != nil && len(x.buckets) > 0 {
		x.shown.Store(&indexTable{x.buckets})
	}
}

// aheadAll asks for the line that the look-up of each hash begins with. There is one.
func (x *index) aheadAll(hashes []uint64) {
	last := uint64(len(x.buckets) - 1)
	for _, h := range hashes {
		ahead(unsafe.Pointer(&x.buckets[h&last]), 1)
	}
}

// rebuild makes a table that the live entries fill to half at most.
func (x *index) rebuild(hashOf func(Ord) uint64) {
	n := indexMinBuckets
	for indexPlaces/2*n < x.live+1 {
		n *= 2
	}
	old := x.buckets
	x.make(n)
	for i := range old {
		for j, v := range old[i].ords {
			if v != 0 && v != indexMark {
				x.insert(hashOf(Ord(v-1)), Ord(v-1), old[i].hints[j])
			}
		}
	}
}
