package storage

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// bitmaps holds, for each name of one kind, the ordinals of the people who
// carry it. They are derived from the profiles: never logged nor written out.
type bitmaps struct {
	byName  map[Name]*roaring.Bitmap
	members int64
}

func (b *bitmaps) add(n Name, o Ord) {
	m := b.byName[n]
	if m == nil {
		m = newSet()
		b.byName[n] = m
	}
	if m.CheckedAdd(uint32(o)) {
		b.members++
	}
}

func (b *bitmaps) remove(n Name, o Ord) {
	m := b.byName[n]
	if m == nil || !m.CheckedRemove(uint32(o)) {
		return
	}
	b.members--
	if m.IsEmpty() {
		delete(b.byName, n)
	}
}

// bytes estimates the memory: two bytes a member, 64 a bitmap.
func (b *bitmaps) bytes() int64 { return 2*b.members + 64*int64(len(b.byName)) }

// differ says in which way the bitmaps are not what wanted holds.
func (b *bitmaps) differ(wanted *bitmaps) error {
	if len(b.byName) != len(wanted.byName) || b.members != wanted.members {
		return fmt.Errorf("%d bitmaps with %d members, want %d with %d: %w",
			len(b.byName), b.members, len(wanted.byName), wanted.members, ErrCorrupt)
	}
	for n, m := range wanted.byName {
		if have := b.byName[n]; have == nil || !have.Equals(m) {
			return fmt.Errorf("bitmap of name %d differs from the profiles: %w", n, ErrCorrupt)
		}
	}
	return nil
}
