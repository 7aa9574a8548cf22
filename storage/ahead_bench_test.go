package storage

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"unsafe"
)

// coldProbe is the least that finds somebody in memory: a hash leads to an ordinal, by
// open addressing, and that to a record as long as what a store holds of a person. Two
// words of it are read. It lies in huge pages where the kernel gives them.
type coldProbe struct {
	table  []uint64 // upper half of the hash, ordinal + 1
	memory []uint64
	stride int // words a record
}

func newColdProbe(hashes []uint64, bytes int) *coldProbe {
	size := 1
	for size*7 < len(hashes)*10 {
		size *= 2
	}
	p := &coldProbe{
		table: make([]uint64, size), memory: make([]uint64, bytes/8), stride: bytes / 8 / len(hashes),
	}
	preferHuge(unsafe.Pointer(&p.table[0]), uintptr(size*8))
	preferHuge(unsafe.Pointer(&p.memory[0]), uintptr(bytes))
	for i := range p.memory {
		p.memory[i] = 1
	}
	for i, h := range hashes {
		at := h & uint64(size-1)
		for p.table[at] != 0 {
			at = (at + 1) & uint64(size-1)
		}
		p.table[at] = h>>32<<32 | uint64(i+1)
	}
	return p
}

func (p *coldProbe) find(h uint64) uint64 {
	last := uint64(len(p.table) - 1)
	for at := h & last; ; at = (at + 1) & last {
		if e := p.table[at]; e>>32 == h>>32 {
			record := p.memory[int(uint32(e)-1)*p.stride:]
			return record[0] + record[9]
		}
	}
}

// BenchmarkLookUp finds people at random, each once the one before was found, in
// TACT_PEOPLE people, 2M by default: "probe" by the least that can find them, in turns
// with "find", which is Group.Find and a look at the profile.
func BenchmarkLookUp(b *testing.B) {
	people := 2_000_000
	if n, err := strconv.Atoi(os.Getenv("TACT_PEOPLE")); err == nil {
		people = n
	}
	states := populace(b, 16, people, 200)
	each := people / len(states)
	hashes, held := make([]uint64, 0, people), 0
	for _, s := range states {
		of := s.bytes()
		held += int(of.Rows + of.SlabUsed + of.Index)
		for i := range each {
			hashes = append(hashes, s.rows.at(Ord(i)).IDHash)
		}
	}
	probe := newColdProbe(hashes, held)
	random := rand.New(rand.NewPCG(4, 4))
	type question struct {
		hash uint64
		who  int
	}
	order := make([]question, 1<<20)
	for i := range order {
		who := random.IntN(len(hashes))
		order[i] = question{hashes[who], who}
	}
	id := []byte("person-xxxxxxxx")
	find := func(q question) uint64 {
		s := states[q.who/each]
		binary.LittleEndian.PutUint64(id[7:], uint64(q.who%each))
		o, ok := s.find(1, q.hash, id)
		if !ok {
			b.Fatal("nobody is found")
		}
		_, profile, _ := s.view(o)
		return uint64(profile.b[len(profile.b)/2])
	}
	at, sum := 0, uint64(0)
	// Whoever is next depends on what was read of the last: no two look-ups overlap.
	next := func() question {
		at = (at + 1 + int(sum>>63)) % len(order)
		return order[at]
	}
	for turn := range 5 {
		b.Run("probe/"+strconv.Itoa(turn), func(b *testing.B) {
			for b.Loop() {
				sum += probe.find(next().hash) & 1
			}
		})
		b.Run("find/"+strconv.Itoa(turn), func(b *testing.B) {
			for b.Loop() {
				sum += find(next()) & 1
			}
		})
	}
	b.Logf("%d MB of rows, packed parts and index", held>>20)
}
