package storage

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// Chunks from hugeFrom on lie in memory that the kernel was asked to hold in huge
// pages; the first ones do not.
func TestTablesAskForHugePages(t *testing.T) {
	mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil || strings.Contains(string(mode), "[never]") {
		t.Skipf("this kernel gives no huge pages: %q, %v", mode, err)
	}
	var s slab
	for range 6 * slabChunk / 1000 {
		if _, err := s.put(0, make([]byte, 996)); err != nil {
			t.Fatal(err)
		}
	}
	var rows rowTable
	for o := Ord(0); o < 6*rowChunk; o += rowChunk {
		if _, err := rows.place(o); err != nil {
			t.Fatal(err)
		}
	}
	var x index
	for o := Ord(0); o < 1<<17; o++ {
		x.add(mix(uint64(o)), o, func(o Ord) uint64 { return mix(uint64(o)) })
	}
	for name, at := range map[string]unsafe.Pointer{
		"slab": unsafe.Pointer(&s.chunks[hugeFrom][0]), "rows": unsafe.Pointer(rows.chunks[hugeFrom]),
		"index": unsafe.Pointer(&x.buckets[0]),
	} {
		if !asked(t, uintptr(at)) {
			t.Errorf("%s: the memory at %p is not marked for huge pages", name, at)
		}
	}
	if HugeBytes() < 0 {
		t.Error("a negative number of bytes in huge pages")
	}
}

// mix spreads numbers over 64 bits.
func mix(v uint64) uint64 {
	v *= 0x9E3779B97F4A7C15
	return v ^ v>>29
}

// asked tells whether the mapping that holds an address has the flag hg.
func asked(t *testing.T, at uintptr) bool {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	inside := false
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		var lo, hi uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &lo, &hi); n == 2 {
			inside = lo <= at && at < hi
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return strings.Contains(flags+" ", " hg ")
		}
	}
	t.Fatalf("no mapping holds %#x", at)
	return false
}
