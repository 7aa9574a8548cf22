//go:build !linux

package engine

// memoryTotal returns 0: the machine's memory is not known here.
func memoryTotal() int64 { return 0 }
