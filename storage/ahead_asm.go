//go:build amd64 || arm64

package storage

import "unsafe"

// ahead asks the processor for so many cache lines from p on and waits for none of
// them. It reads nothing: p may be of memory that is gone meanwhile.
//
//go:noescape
func ahead(p unsafe.Pointer, lines int)
