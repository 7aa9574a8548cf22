package engine

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// slowDisk takes up to some milliseconds for a sync.
type slowDisk struct {
	vfs.FS
	seed  uint64
	syncs atomic.Uint64
}

type slowDiskFile struct {
	vfs.File
	d *slowDisk
}

func (d *slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return slowDiskFile{f, d}, nil
}

func (d *slowDisk) OpenReadWrite(
	name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption,
) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	if err != nil {
		return nil, err
	}
	return slowDiskFile{f, d}, nil
}

func (f slowDiskFile) wait() {
	if n := f.d.syncs.Add(1); n%3 == 0 {
		x := (f.d.seed + n) * 0x9E3779B97F4A7C15 >> 40
		time.Sleep(time.Duration(x) % linSlowestMax)
	}
}

func (f slowDiskFile) Sync() error     { f.wait(); return f.File.Sync() }
func (f slowDiskFile) SyncData() error { f.wait(); return f.File.SyncData() }
