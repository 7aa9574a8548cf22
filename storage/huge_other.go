//go:build !linux

package storage

import "unsafe"

// preferHuge does nothing: only Linux is asked for huge pages.
func preferHuge(unsafe.Pointer, uintptr) {}

// HugeBytes returns 0: only Linux says how much lies in huge pages.
func HugeBytes() int64 { return 0 }
