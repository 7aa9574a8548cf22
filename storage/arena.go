package storage

import "unsafe"

const (
	// arenaShare is how much of what a table holds it may hold more at once.
	arenaShare = 8
	// arenaMax blocks are allocated at once, at most: 16 MiB of slabs.
	arenaMax = 16
	// hugeLeast bytes are worth a huge page, or the end of one.
	hugeLeast = 512 << 10
)

// An arena makes the blocks of a table. Of a table that has grown many lie in one
// allocation, since a collection spends about a microsecond on each. What was not
// handed out is not touched, and takes no memory of the machine.
type arena[T any] struct{ spare []T }

// next returns a block of a table that holds so many. Huge pages are asked for from
// the block hugeFrom on.
func (a *arena[T]) next(held int) *T {
	if len(a.spare) == 0 {
		a.spare = make([]T, min(max(held/arenaShare, 1), arenaMax))
		size := uintptr(len(a.spare)) * unsafe.Sizeof(a.spare[0])
		if held >= hugeFrom && size >= hugeLeast {
			preferHuge(unsafe.Pointer(&a.spare[0]), size)
		}
	}
	b := &a.spare[0]
	a.spare = a.spare[1:]
	return b
}
