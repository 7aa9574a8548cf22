package bench

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probe is the pure two-miss look-up: an id's hash leads to an ordinal by open
// addressing, the ordinal to a row of three cache lines, of which one word each
// is read. Nothing that finds a user in memory can do less. Each look-up begins
// when the one before it has ended, as those of decisions do: else the processor
// would wait for several at once.
type probe struct {
	table []probeEntry
	rows  []probeRow
	mask  uint64
	order []uint64 // hashes in the order they are asked
	at    int
	sum   uint64 // keeps the compiler from leaving the reads out
}

type probeEntry struct {
	hash uint64
	ord  uint32
	_    uint32
}

type probeRow [24]uint64

// newProbe fills a table at no more than 0.7 with users rows, and draws the
// order of questions: asked of them at random, or one again and again.
func newProbe(users, asked int, seed uint64) *probe {
	size := 1 << bits.Len(uint(users*10/7))
	p := &probe{
		table: make([]probeEntry, size), rows: make([]probeRow, users), mask: uint64(size - 1),
	}
	for i := range users {
		h := mix(uint64(i) + 1)
		at := h & p.mask
		for p.table[at].hash != 0 {
			at = (at + 1) & p.mask
		}
		p.table[at] = probeEntry{hash: h, ord: uint32(i)}
		p.rows[i][0], p.rows[i][9] = h, uint64(i)
	}
	random := rand.New(rand.NewPCG(seed, 3))
	for range asked {
		p.order = append(p.order, mix(uint64(random.IntN(users))+1))
	}
	return p
}

// mix is a bijection of 64 bits that leaves no pattern; never 0 for i < 2⁶³.
//
// Source: D. Stafford, variant 13 of the finaliser of MurmurHash3.
func mix(i uint64) uint64 {
	i ^= i >> 30
	i *= 0xbf58476d1ce4e5b9
	i ^= i >> 27
	i *= 0x94d049bb133111eb
	return i ^ i>>31 | 1
}

func (p *probe) run(n int) (float64, error) {
	for range n {
		h := p.order[p.at]
		if p.at++; p.at >= len(p.order) {
			p.at = 0
		}
		at := h & p.mask
		for p.table[at].hash != h {
			at = (at + 1) & p.mask
		}
		r := &p.rows[p.table[at].ord]
		p.sum += r[0] + r[9]
		p.at += int(r[23]) // 0, which only the row knows
	}
	return float64(n), nil
}

// Bandwidth ANDs buffers of ordinary memory and counts the bits that are left:
// what a processor can do with bitmaps of that size. It is the reference of counts.
type Bandwidth struct {
	operands [][]uint64
	out      []uint64
	ones     int
}

// NewBandwidth makes operands of size bits each, set at random by a fixed seed.
func NewBandwidth(operands, size int) *Bandwidth {
	b := &Bandwidth{out: make([]uint64, (size+63)/64)}
	random := rand.New(rand.NewPCG(9, 9))
	for range operands {
		words := make([]uint64, len(b.out))
		for i := range words {
			words[i] = random.Uint64()
		}
		b.operands = append(b.operands, words)
	}
	return b
}

// Run ANDs all operands n times.
func (b *Bandwidth) Run(n int) {
	for range n {
		copy(b.out, b.operands[0])
		for _, words := range b.operands[1:] {
			out := b.out[:len(words)]
			for i, w := range words {
				out[i] &= w
			}
		}
		b.ones = 0
		for _, w := range b.out {
			b.ones += bits.OnesCount64(w)
		}
	}
}

// run is Run as a trial's reference.
func (b *Bandwidth) run(n int) (float64, error) {
	b.Run(n)
	return float64(n), nil
}

// appendLog is the bare durable log: records of a size, written in groups, each
// group ended by fdatasync.
type appendLog struct {
	file  *os.File
	group []byte
	each  int
}

func newAppendLog(folder string, records, size int) (*appendLog, error) {
	f, err := os.CreateTemp(folder, "append-*.log")
	if err != nil {
		return nil, err
	}
	group := make([]byte, records*size)
	for i := range group {
		group[i] = byte(mix(uint64(i)))
	}
	return &appendLog{file: f, group: group, each: records}, nil
}

// run writes n records, at least a group.
func (l *appendLog) run(n int) (float64, error) {
	done := 0
	for done < max(n, 1) {
		if _, err := l.file.Write(l.group); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(l.file.Fd())); err != nil {
			return 0, fmt.Errorf("fdatasync: %w", err)
		}
		done += l.each
	}
	return float64(done), nil
}

func (l *appendLog) close() {
	name := l.file.Name()
	_ = l.file.Close()
	_ = os.Remove(name)
}

// readDirect reads every file of a store that a start reads, once, with direct I/O,
// past the page cache: neither the event log nor the ballast. Where the file system
// refuses that, it reads through the cache after dropping what it holds of the file.
func readDirect(folder string) (total int64, direct bool, err error) {
	const block = 1 << 20
	raw := make([]byte, block+4096)
	buf := raw[alignment(raw):][:block]
	direct = true
	err = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "log" {
			return filepath.SkipDir
		}
		if err != nil || !d.Type().IsRegular() || d.Name() == "ballast" {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		if err != nil {
			direct = false
			if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				return err
			}
			_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
		}
		defer func() { _ = unix.Close(fd) }()
		for {
			n, err := unix.Read(fd, buf)
			if err != nil {
				return fmt.Errorf("%s: %w", d.Name(), err)
			}
			if n == 0 {
				return nil
			}
			total += int64(n)
		}
	})
	return total, direct, err
}

// dropCache asks the kernel to forget the pages of every file below folder.
func dropCache(folder string) error {
	return filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_ = unix.Fdatasync(int(f.Fd()))
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		return f.Close()
	})
}

// alignment is how far into b the next multiple of 4,096 lies.
func alignment(b []byte) int {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return int((4096 - at%4096) % 4096)
}
