package storage

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	guardEvery   = 50 * time.Millisecond
	sidecarEvery = 8 // times guardEvery
	minFreeBytes = 256 << 20
	minFreeMax   = 4 << 30
)

// guard refuses appends before the disk is full, for Pebble does not return an
// error then: it hangs. Below half the kept space it also deletes the ballast
// file, so that flushes and compactions can finish.
type guard struct {
	full    atomic.Bool
	free    atomic.Uint64 // as last seen
	minFree uint64
	ballast bool // the reserve file is there
}

// space returns the free and the total bytes of the store's disk; ok is false
// when the file system does not say.
func (s *Store) space() (free, total uint64, ok bool) {
	if f := s.o.hooks.freeSpace; f != nil {
		free, total = f()
		return free, total, true
	}
	u, err := s.o.FS.GetDiskUsage(s.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return 0, 0, false
	}
	if err != nil {
		s.db.faults.Errorf("free space: %v", err)
		return 0, 0, false
	}
	return u.AvailBytes, u.TotalBytes, true
}

// watchSpace looks at the disk once. One goroutine calls it.
func (s *Store) watchSpace() {
	free, total, ok := s.space()
	if !ok {
		return
	}
	if s.guard.minFree == 0 {
		s.guard.minFree = uint64(s.o.MinFree)
		if s.guard.minFree == 0 {
			s.guard.minFree = max(minFreeBytes, min(total/50, minFreeMax))
		}
	}
	keep := s.guard.minFree
	s.guard.free.Store(free)
	switch {
	case free < keep:
		if s.guard.full.CompareAndSwap(false, true) {
			s.o.Logger.Error("disk is nearly full: appends are refused", "free", free, "keep", keep)
		}
	case free >= keep+keep/16: // no flapping at the edge
		if s.guard.full.CompareAndSwap(true, false) {
			s.o.Logger.Info("disk has space again", "free", free)
		}
	}
	var err error
	switch {
	case free < keep/2 && s.guard.ballast:
		err = s.dropBallast()
	case free >= keep+keep/16+2*uint64(s.o.Ballast) && !s.guard.ballast && s.o.Ballast > 0:
		err = s.makeBallast()
	}
	if err != nil {
		s.db.faults.Errorf("ballast: %v", err)
	}
}

// makeBallast makes the reserve file. Where the file system cannot reserve
// blocks it is written, with bytes that are not zeros, which some do not store.
func (s *Store) makeBallast() error {
	name := s.o.FS.PathJoin(s.dir, fileBallast)
	s.guard.ballast = true
	if there, err := exists(s.o.FS, name); there || err != nil {
		return err
	}
	f, err := s.o.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if f.Preallocate(0, s.o.Ballast) != nil {
		block := make([]byte, 64<<10)
		for i := range block {
			block[i] = byte(i * 31)
		}
		for n := int64(0); err == nil && n < s.o.Ballast; n += int64(len(block)) {
			_, err = f.Write(block[:min(int64(len(block)), s.o.Ballast-n)])
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func (s *Store) dropBallast() error {
	s.guard.ballast = false
	return s.o.FS.Remove(s.o.FS.PathJoin(s.dir, fileBallast))
}

// watchLoop looks at the disk and keeps the sidecar fresh.
func (s *Store) watchLoop() {
	n := 0
	s.repeat(guardEvery, func() {
		s.watchSpace()
		if n++; n%sidecarEvery == 0 {
			if err := s.writeWatermark(false); err != nil {
				s.db.faults.Errorf("%v", err)
			}
		}
	})
}

// writeWatermark brings the sidecar up to date when anything has changed.
func (s *Store) writeWatermark(clean bool) error {
	if !clean && !s.side.durableBelow(s.groups) && s.side.sameManifest() {
		return nil
	}
	return s.side.update(func(r *sidecarRecord) {
		for i, g := range s.groups {
			r.durable[i] = max(r.durable[i], g.durable.Load())
		}
		r.time, r.clean = s.HighWater(), clean
	})
}
