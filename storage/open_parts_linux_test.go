package storage

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sys/unix"
)

// openPart is what one turn of a part of a start works on.
const openPart = 64 << 20

// BenchmarkOpenParts is the least that the parts of a start can cost a megabyte:
// memory that the kernel hands out and clears, in huge pages that nobody had lately, in
// huge pages that were just given back, and in small ones of that sort; bytes
// copied out of the page cache in blocks of a table; the checksum of a row's bytes;
// rows of 1.5 KiB read by Pebble from blocks as the store has them, page cache warm;
// and the same bytes put into a slab whose memory is there. Processor time of the
// process, the least and the middle of the turns.
func BenchmarkOpenParts(b *testing.B) {
	memory := func(advice, hold int) func(*testing.B) func() {
		return func(b *testing.B) func() { return partMemory(b, advice, hold) }
	}
	for _, p := range []struct {
		name string
		part func(*testing.B) func()
	}{
		{"fresh-huge", memory(unix.MADV_HUGEPAGE, freshTurns)},
		{"clear-huge", memory(unix.MADV_HUGEPAGE, 0)},
		{"clear-small", memory(unix.MADV_NOHUGEPAGE, 0)},
		{"page-cache", partPageCache},
		{"checksum", partChecksum},
		{"pebble", partPebble},
		{"slab", partSlab},
	} {
		b.Run(p.name, func(b *testing.B) {
			turn := p.part(b)
			cpu := make([]time.Duration, 0, b.N)
			for b.Loop() {
				begun := processorTime(b)
				turn()
				cpu = append(cpu, processorTime(b)-begun)
			}
			slices.Sort(cpu)
			perMB := func(d time.Duration) float64 {
				return float64(d.Nanoseconds()) / 1e3 / (openPart / 1e6)
			}
			b.ReportMetric(perMB(cpu[0]), "cpu-us/MB-least")
			b.ReportMetric(perMB(cpu[len(cpu)/2]), "cpu-us/MB-median")
		})
	}
}

// freshTurns is how many turns of memory are held, so that each gets other memory: up
// to a GiB, which a machine that is a guest itself may have to be given first.
const freshTurns = 15

// partMemory maps memory and writes a byte of each of its pages; the maps of so many
// turns before stay.
func partMemory(b *testing.B, advice, hold int) func() {
	var held [][]byte
	drop := func(keep int) {
		for ; len(held) > keep; held = held[1:] {
			if err := unix.Munmap(held[0]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Cleanup(func() { drop(0) })
	return func() {
		m, err := unix.Mmap(-1, 0, openPart+hugePage, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANON)
		if err == nil {
			err = unix.Madvise(m, advice)
		}
		if err != nil {
			b.Fatal(err)
		}
		from := hugePage - int(uintptr(unsafe.Pointer(&m[0]))%hugePage)
		for at := 0; at < openPart; at += 4096 {
			m[from+at] = 1
		}
		held = append(held, m)
		drop(hold)
	}
}

func partPageCache(b *testing.B) func() {
	name := filepath.Join(b.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, openPart), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	block := make([]byte, blockBytes)
	return func() {
		for at := int64(0); at < openPart; at += blockBytes {
			if _, err := f.ReadAt(block, at); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// partRow is a row's bytes.
const partRow = 1536

func partChecksum(*testing.B) func() {
	bytes := make([]byte, openPart)
	return func() {
		for at := 0; at+partRow <= openPart; at += partRow {
			_ = checkSum(bytes[at : at+partRow])
		}
	}
}

func partPebble(b *testing.B) func() {
	o := pebble.Options{FormatMajorVersion: pebble.FormatNewest, Cache: pebble.NewCache(cacheBytes)}
	b.Cleanup(o.Cache.Unref)
	o.Levels[0].BlockSize = blockBytes
	db, err := pebble.Open(b.TempDir(), &o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	row := make([]byte, partRow)
	for i := range uint64(openPart / partRow) {
		binary.LittleEndian.PutUint64(row, i*0x9e3779b97f4a7c15)
		if err := db.Set(binary.BigEndian.AppendUint64(nil, i), row, pebble.NoSync); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Flush(); err != nil {
		b.Fatal(err)
	}
	return func() {
		n := 0
		err := view{db}.scan(nil, nil, func(_, value []byte) error { n += len(value); return nil })
		if err != nil || n < openPart-partRow {
			b.Fatal(n, err)
		}
	}
}

func partSlab(*testing.B) func() {
	row := make([]byte, partRow)
	var s slab
	refs := make([]Ref, 0, openPart/partRow)
	return func() {
		for range cap(refs) {
			r, err := s.put(0, row)
			if err != nil {
				panic(err)
			}
			refs = append(refs, r)
		}
		for _, r := range refs {
			s.drop(r)
		}
		refs = refs[:0]
	}
}
