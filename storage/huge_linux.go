package storage

import (
	"bytes"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page where the kernel is asked for one.
const hugePage = 2 << 20

// preferHuge asks the kernel to back size bytes at p, and the rest of the huge
// pages they lie in, with huge pages: a person who is looked up costs a walk
// through the page tables for each small page that is touched, which takes longer
// than the memory itself. It is advice: where huge pages are switched off or
// none is free, the memory is as it was.
//
// The neighbours of the bytes are the heap's own, which the advice may cover: it
// changes no content.
func preferHuge(p unsafe.Pointer, size uintptr) {
	lo := uintptr(p) &^ (hugePage - 1)
	hi := (uintptr(p) + size + hugePage - 1) &^ (hugePage - 1)
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, lo, hi-lo, unix.MADV_HUGEPAGE)
}

// HugeBytes returns how much memory of this process the kernel holds in huge
// pages; 0 where it does not say.
//
// Source: proc_pid_smaps(5): AnonHugePages of smaps_rollup, in KiB.
// Cost: a walk over the mappings, some ms for 10 GB in small pages.
func HugeBytes() int64 {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte("AnonHugePages:"))
	number, _, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte(" "))
	n, _ := strconv.ParseInt(string(number), 10, 64)
	return n << 10
}
