package journal

import (
	"errors"
	"math/rand/v2"
	"slices"
)

var errIO = errors.New("input/output error")

// simDisk is a disk in memory. A write is durable when it returns, unless torn
// is set: then each page of it is kept, dropped or mixed by sectors.
type simDisk struct {
	rng   *rand.Rand
	files map[string][]byte
	page  int
	torn  bool
	fail  func(op string) error // nil = nothing fails
}

func (d *simDisk) fault(op string) error {
	if d.fail == nil {
		return nil
	}
	return d.fail(op)
}

func (d *simDisk) Create(name string, header []byte, size int64) (File, error) {
	if err := d.fault("create"); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	copy(b, header)
	d.files[name] = b
	return simFile{d, name}, nil
}

func (d *simDisk) Open(name string) (File, error) {
	if err := d.fault("open"); err != nil {
		return nil, err
	}
	return simFile{d, name}, nil
}

func (d *simDisk) List() (names []string, err error) {
	for n := range d.files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, d.fault("list")
}

func (d *simDisk) Remove(name string) error {
	delete(d.files, name)
	return d.fault("remove")
}

type simFile struct {
	d    *simDisk
	name string
}

const simSector = 96 // smaller than a record, and no divisor of it

func (f simFile) ReadAt(p []byte, off int64) (int, error) {
	return copy(p, f.d.files[f.name][off:]), f.d.fault("read")
}

func (f simFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.fault("write"); err != nil {
		return 0, err
	}
	file := f.d.files[f.name]
	for at := 0; at < len(p); at += f.d.page {
		from, to := file[int(off)+at:], p[at:min(at+f.d.page, len(p))]
		if !f.d.torn {
			copy(from, to)
			continue
		}
		switch f.d.rng.IntN(3) {
		case 0:
			copy(from, to)
		case 1:
			for s := 0; s < len(to); s += simSector {
				if f.d.rng.IntN(2) == 0 {
					copy(from[s:], to[s:min(s+simSector, len(to))])
				}
			}
		}
	}
	return len(p), nil
}

func (f simFile) Size() (int64, error) { return int64(len(f.d.files[f.name])), nil }
func (f simFile) Direct() bool         { return true }
func (f simFile) Close() error         { return nil }

// simShm is shared memory: it outlives a process and not a power loss.
type simShm struct {
	mem  []byte
	fail error
}

func (s *simShm) Open(size int) ([]byte, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	if len(s.mem) != size {
		s.mem = make([]byte, size)
	}
	return s.mem, nil
}

func (s *simShm) Close(remove bool) error {
	if remove {
		s.mem = nil
	}
	return nil
}
