package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// folder is a Disk in a folder of the file system.
type folder struct{ dir string }

// Folder returns the Disk that keeps its files in a folder. Files are written
// past the page cache and synced by each write where the file system takes
// that, else written and synced.
func Folder(dir string) Disk { return folder{dir} }

func (d folder) Create(name string, header []byte, size int64) (File, error) {
	// It gets its name when it is whole: a file that is too short was cut.
	path := filepath.Join(d.dir, "new-"+name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, err
	}
	err = fillZeros(f, header, size)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	if err := os.Rename(path, filepath.Join(d.dir, name)); err != nil {
		return nil, err
	}
	if err := syncFolder(d.dir); err != nil {
		return nil, err
	}
	return d.Open(name)
}

// fillZeros writes every byte: a hole would meet a full disk later.
func fillZeros(f *os.File, header []byte, size int64) error {
	if _, err := f.WriteAt(header, 0); err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := int64(len(header)); at < size; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func (d folder) Open(name string) (File, error) {
	path := filepath.Join(d.dir, name)
	f, direct, err := openDirect(path)
	if err != nil {
		return nil, err
	}
	return &diskFile{f, direct}, nil
}

func (d folder) List() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d folder) Remove(name string) error {
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil {
		return err
	}
	return syncFolder(d.dir)
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// diskFile is a file of a folder.
type diskFile struct {
	f      *os.File
	direct bool
}

func (d *diskFile) ReadAt(p []byte, off int64) (int, error) { return d.f.ReadAt(p, off) }

func (d *diskFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.f.WriteAt(p, off)
	if err == nil && !d.direct {
		err = syncData(d.f)
	}
	return n, err
}

func (d *diskFile) Size() (int64, error) {
	info, err := d.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d *diskFile) Direct() bool { return d.direct }
func (d *diskFile) Close() error { return d.f.Close() }

var (
	// errNoRing says that this system has no ring.
	errNoRing = errors.New("no shared memory on this system")
	// errRingUsed says that the ring belongs to a store that is open: of two copies of a
	// store on one machine only one has the ring.
	errRingUsed = errors.New("another process uses it: does a copy of this store run?")
)

// ringWait is how long a ring is waited for whose process may just be ending.
const ringWait = time.Second

// sharedFile is a Shm: a mapped file in a folder whose content lies in memory.
type sharedFile struct {
	path  string
	f     *os.File
	mem   []byte
	fault error // why mem is not locked
}

// SharedFile returns the Shm that maps a file. The file's folder should be a
// tmpfs: one that lies on a disk is slow and no witness of anything.
func SharedFile(path string) Shm { return &sharedFile{path: path} }

func (s *sharedFile) Open(size int) ([]byte, error) {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := own(f); err != nil {
		return nil, errors.Join(fmt.Errorf("ring %s: %w", s.path, err), f.Close())
	}
	info, err := f.Stat()
	if err == nil && info.Size() != int64(size) {
		if err = f.Truncate(0); err == nil {
			err = fillZeros(f, nil, int64(size))
		}
	}
	if err == nil {
		s.mem, err = mapShared(f, size)
	}
	if err != nil {
		err = fmt.Errorf("ring %s: %w", s.path, err)
		if info == nil || info.Size() != int64(size) {
			err = errors.Join(err, os.Remove(s.path))
		}
		return nil, errors.Join(err, f.Close())
	}
	s.f, s.fault = f, lockMemory(s.mem)
	return s.mem, nil
}

// own keeps everybody else from using a file as a ring until it is closed.
func own(f *os.File) error {
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		taken, err := tryOwn(f)
		if taken || err != nil {
			return err
		}
		if time.Since(began) > ringWait {
			return errRingUsed
		}
	}
}

// LockFault returns why the pages may be swapped out; nil: they stay in memory.
func (s *sharedFile) LockFault() error { return s.fault }

func (s *sharedFile) Close(remove bool) error {
	if s.f == nil {
		return nil
	}
	err := errors.Join(unmapShared(s.mem), s.f.Close())
	s.f, s.mem = nil, nil
	if remove {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
