// Package suppress holds the hashes of a suppression list in memory: who must
// not be reached, by the hash of a user id or of an address.
//
// A Set is a few sorted runs of 128-bit hashes. A bloom filter before each run
// says the fast no; its yes is confirmed in the run, so a filter alone never
// decides. Readers take no lock: they see the runs of one instant, which never
// change.
//
// Laws, each with a test:
//  1. Has is true for exactly the hashes that were added and not removed since.
//  2. Of each size there are fewer than fanout runs: at most 3·log4(n) of them.
//
// Memory: 16 bytes a hash and 10 bits of filter. Has: one or two cache lines a
// run for a no; a yes costs an interpolation search.
package suppress

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/bits-and-blooms/bloom/v3"
)

// Hash is a keyed 128-bit hash, spread evenly.
type Hash struct{ Hi, Lo uint64 }

// HashOf reads a hash from its big-endian bytes, which sort as hashes do.
func HashOf(b [16]byte) Hash {
	return Hash{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// Append appends the bytes of h.
func (h Hash) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, h.Hi), h.Lo)
}

// Compare orders hashes as their bytes are ordered.
func (h Hash) Compare(o Hash) int {
	switch {
	case h.Hi < o.Hi || h.Hi == o.Hi && h.Lo < o.Lo:
		return -1
	case h == o:
		return 0
	}
	return 1
}

const (
	// fanout runs of one size, a power of it, are merged into one, so a hash is
	// copied and filtered log4(n) times in its life.
	fanout = 4
	// filterMin is the smallest run with a filter: a smaller one is searched.
	filterMin = 1024
	// filterRate is the share of absent hashes that the filter lets through to
	// the search: 9.6 bits a hash.
	filterRate = 0.01
)

// Set is a set of hashes. The zero Set is empty. Has and Len may be called from
// any goroutine; Add and Remove of one Set exclude each other.
type Set struct {
	edit sync.Mutex
	runs atomic.Pointer[[]run]
}

// run is a sorted run without repeats.
type run struct {
	hashes []Hash
	filter *bloom.BloomFilter // nil: a short run
}

func newRun(hashes []Hash) run {
	r := run{hashes: hashes}
	if len(hashes) >= filterMin {
		r.filter = bloom.NewWithEstimates(uint(len(hashes)), filterRate)
		var b [16]byte
		for _, h := range hashes {
			r.filter.Add(h.Append(b[:0]))
		}
	}
	return r
}

func (s *Set) view() []run {
	if p := s.runs.Load(); p != nil {
		return *p
	}
	return nil
}

// Has tells whether h is in the set. No allocation.
func (s *Set) Has(h Hash) bool {
	runs := s.view()
	for i := range runs {
		if runs[i].has(h) {
			return true
		}
	}
	return false
}

func (r *run) has(h Hash) bool {
	if r.filter != nil {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], h.Hi)
		binary.BigEndian.PutUint64(b[8:], h.Lo)
		if !r.filter.Test(b[:]) {
			return false
		}
	}
	_, ok := search(r.hashes, h)
	return ok
}

// search finds h by where an even spread puts it, then by halves.
func search(sorted []Hash, h Hash) (at int, ok bool) {
	n := len(sorted)
	guess, _ := bits.Mul64(h.Hi, uint64(n))
	lo, hi := int(guess), int(guess)
	for step := 8; lo > 0 && sorted[lo-1].Compare(h) >= 0; step *= 4 {
		lo = max(lo-step, 0)
	}
	for step := 8; hi < n && sorted[hi].Compare(h) < 0; step *= 4 {
		hi = min(hi+step, n)
	}
	at, ok = slices.BinarySearchFunc(sorted[lo:hi], h, Hash.Compare)
	at += lo
	return at, ok || at < n && sorted[at] == h
}

// Len returns the number of hashes.
func (s *Set) Len() int {
	n := 0
	for _, r := range s.view() {
		n += len(r.hashes)
	}
	return n
}

// Bytes returns the memory the set holds.
func (s *Set) Bytes() int64 {
	n := int64(0)
	for _, r := range s.view() {
		n += int64(cap(r.hashes)) * 16
		if r.filter != nil {
			n += int64(r.filter.Cap() / 8)
		}
	}
	return n
}

// Load makes the set hold exactly the hashes, which rise and do not repeat. The
// set keeps the slice.
func (s *Set) Load(sorted []Hash) {
	s.edit.Lock()
	defer s.edit.Unlock()
	if len(sorted) == 0 {
		s.runs.Store(nil)
		return
	}
	s.runs.Store(&[]run{newRun(sorted)})
}

// Missing returns those of the hashes that are not in the set, sorted, each
// once. Cost: O(n log n).
func (s *Set) Missing(hashes []Hash) []Hash {
	sorted := slices.Clone(hashes)
	slices.SortFunc(sorted, Hash.Compare)
	sorted = slices.Compact(sorted)
	return slices.DeleteFunc(sorted, s.Has)
}

// Present returns those of the hashes that are in the set, sorted, each once.
func (s *Set) Present(hashes []Hash) []Hash {
	sorted := slices.Clone(hashes)
	slices.SortFunc(sorted, Hash.Compare)
	sorted = slices.Compact(sorted)
	return slices.DeleteFunc(sorted, func(h Hash) bool { return !s.Has(h) })
}

// Add adds hashes that rise, do not repeat and are not in the set (Missing).
// The set keeps the slice. Readers see all of them or none.
//
// Cost: a hash is copied and filtered anew each time its run is merged, about
// log4(n) times; one call may copy the whole set.
func (s *Set) Add(sorted []Hash) {
	if len(sorted) == 0 {
		return
	}
	s.edit.Lock()
	defer s.edit.Unlock()
	runs := s.view()
	from, merged := len(runs), sorted
	for {
		begin, total := from, len(merged) // of the runs that are no larger than merged
		for begin > 0 && size(len(runs[begin-1].hashes)) <= size(len(merged)) {
			begin--
			total += len(runs[begin].hashes)
		}
		if from-begin < fanout-1 && (begin == from || total >= filterMin) {
			break
		}
		for ; from > begin; from-- {
			merged = merge(runs[from-1].hashes, merged)
		}
	}
	kept := append(slices.Clone(runs[:from]), newRun(merged))
	s.runs.Store(&kept)
}

// size is the power of fanout that a run of n hashes has reached.
func size(n int) int { return bits.Len(uint(n)) / 2 }

// merge merges two sorted runs that have nothing in common.
func merge(a, b []Hash) []Hash {
	out := make([]Hash, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].Compare(b[0]) < 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// Remove removes hashes that rise and do not repeat. Cost: the runs that hold
// one of them are copied; their filters stay, and let a little more through.
func (s *Set) Remove(sorted []Hash) {
	if len(sorted) == 0 {
		return
	}
	s.edit.Lock()
	defer s.edit.Unlock()
	var runs []run
	for _, r := range s.view() {
		kept := without(r.hashes, sorted)
		switch {
		case len(kept) == 0:
		case len(kept) == len(r.hashes):
			runs = append(runs, r)
		default:
			runs = append(runs, run{hashes: kept, filter: r.filter})
		}
	}
	s.runs.Store(&runs)
}

// without returns a without what is in b; a itself when nothing is.
func without(a, b []Hash) []Hash {
	var cut []int
	for _, h := range b {
		if at, ok := search(a, h); ok {
			cut = append(cut, at)
		}
	}
	if len(cut) == 0 {
		return a
	}
	out := make([]Hash, 0, len(a)-len(cut))
	from := 0
	for _, at := range cut {
		out = append(out, a[from:at]...)
		from = at + 1
	}
	return append(out, a[from:]...)
}
