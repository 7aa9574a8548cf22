package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names in the store's folder.
const (
	folderDatabase = "db"
	folderCreating = "db.new" // an unfinished creation: nothing in it was ever acknowledged
	fileLock       = "LOCK"
	fileBallast    = "ballast"
)

const (
	memTableBytes = 32 << 20
	cacheBytes    = 64 << 20
	// Everything large is read from one end to the other: a start takes a third less
	// of the processor with these blocks than with those of 4 KiB.
	blockBytes = 32 << 10
	// The sidecar keeps the checksum of the MANIFEST by reading what was added;
	// a small file keeps the first read at open short.
	manifestBytesMax = 4 << 20
	faultLogPause    = time.Second
	retryPause       = 100 * time.Millisecond
	triesMax         = 20 // of a flush that somebody waits for
)

// database is the Pebble store of a node and what guards it.
type database struct {
	view
	db      *pebble.DB
	faults  *faultLog
	commits commitCount
}

func newDatabase(db *pebble.DB, faults *faultLog) *database {
	return &database{view: view{db}, db: db, faults: faults}
}

// view reads a Pebble store, or a snapshot of one: what is read in several steps
// while the flusher writes must come from a snapshot.
type view struct{ from pebble.Reader }

// pebbleOpen says how to open the Pebble store in dir.
type pebbleOpen struct {
	fs       vfs.FS
	dir      string
	readOnly bool
	memTable uint64 // bytes; 0 = memTableBytes
	faults   *faultLog
	dead     *deathNote
}

// faultLog is Pebble's logger and event sink. It lets one error a second
// through, since Pebble retries a failing flush thousands of times a second.
type faultLog struct {
	log     *slog.Logger
	die     func(error)
	last    atomic.Int64 // unix nanoseconds of the last line
	failed  atomic.Int64 // unix nanoseconds of the last background error
	fault   atomic.Pointer[error]
	corrupt atomic.Int64 // DataCorruption events
	errors  atomic.Int64 // background errors
	stalls  atomic.Int64 // write stalls
}

// Infof drops Pebble's running commentary.
func (l *faultLog) Infof(string, ...any) {}

// Errorf logs an error of Pebble's, at most one a second.
func (l *faultLog) Errorf(format string, args ...any) {
	now := time.Now().UnixNano()
	last := l.last.Load()
	if now-last >= int64(faultLogPause) && l.last.CompareAndSwap(last, now) {
		l.log.Error("pebble", "error", fmt.Sprintf(format, args...))
	}
}

// Fatalf marks the store dead and never returns: Pebble's state is undefined
// after a fatal error, and a panic here can unlock a mutex twice, which ends the
// process without a word.
func (l *faultLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf("pebble stopped: "+format, args...)
	l.log.Error("pebble stopped", "error", err)
	l.die(err)
	select {}
}

// pause waits until a moment after the last background error.
func (l *faultLog) pause() {
	if failed := l.failed.Load(); failed != 0 {
		time.Sleep(time.Until(time.Unix(0, failed).Add(retryPause)))
	}
}

// lastFault is the last background error.
func (l *faultLog) lastFault() error {
	if p := l.fault.Load(); p != nil {
		return *p
	}
	return nil
}

func (l *faultLog) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			l.errors.Add(1)
			l.failed.Store(time.Now().UnixNano())
			l.fault.Store(&err)
			l.Errorf("background: %v", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.corrupt.Add(1)
			l.Errorf("corrupt file: %s", info)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			l.stalls.Add(1)
			l.Errorf("write stall: %s", info.Reason)
		},
	}
}

// open opens the store. Pebble may stop for good inside Open (see Fatalf), so it
// runs beside the caller.
func (p pebbleOpen) open() (db *pebble.DB, err error) {
	err = p.beside(func() (err error) {
		db, err = p.openNow()
		return err
	})
	if dead := p.dead.err(); dead != nil {
		return nil, dead
	}
	return db, pebbleFault(err, p.dir)
}

func (p pebbleOpen) openNow() (*pebble.DB, error) {
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	o := pebble.Options{
		FS:                          p.fs,
		ReadOnly:                    p.readOnly,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      p.faults,
		EventListener:               p.faults.listener(),
		Cache:                       cache,
		MemTableSize:                cmp.Or(p.memTable, memTableBytes),
		MemTableStopWritesThreshold: 4,
		// A pile of small tables slows reads down, which nothing here waits for; a
		// stop would hold every commit.
		L0StopWritesThreshold: 1000,
		// Parts of events lie all over the people: every table of them that is joined
		// with the level below rewrites much of it, so many are joined at once.
		// Measured: see bench/README.md.
		L0CompactionThreshold: 16,
		LBaseMaxBytes:         512 << 20,
		MaxManifestFileSize:   manifestBytesMax,
	}
	o.Levels[0].BlockSize = blockBytes // those below take what the level above has
	// Nearly all of the first level is sealed, or a frame that is deleted soon.
	o.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	o.Levels[1].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	return pebble.Open(p.dir, &o)
}

// beside runs what calls Pebble where nobody waits for it for ever. After a fatal
// error Pebble never returns; a flush that fails it tries again without end, which
// here ends after triesMax: then the store is dead.
func (p pebbleOpen) beside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if fault := recover(); fault != nil { // Pebble panics with errors of the disk
				done <- panicFault(fault)
			}
		}()
		done <- f()
	}()
	tick := time.NewTicker(retryPause)
	defer tick.Stop()
	for begun := p.faults.errors.Load(); ; {
		select {
		case err := <-done:
			return err
		case <-p.dead.ch:
			return p.dead.err()
		case <-tick.C:
			if p.faults.errors.Load()-begun >= triesMax {
				p.faults.die(fmt.Errorf("the disk does not take what must be written: %w",
					p.faults.lastFault()))
			}
		}
	}
}

func panicFault(p any) error {
	if err, ok := p.(error); ok {
		return fmt.Errorf("pebble: %w", err)
	}
	return fmt.Errorf("%w: pebble: %v", ErrCorrupt, p)
}

// pebbleFault gives an error of Pebble's the class it belongs to. What the
// system did not say is about the bytes: tables of another size, options that do
// not parse.
func pebbleFault(err error, dir string) error {
	var number syscall.Errno
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "unknown format major version"):
		return fmt.Errorf("%w: %s: %w", ErrNewerFormat, dir, err)
	case pebble.IsCorruptionError(err), errors.Is(err, os.ErrNotExist), !errors.As(err, &number):
		return damageOf(err)
	}
	return fmt.Errorf("open %s: %w", dir, err)
}

// get returns a copy of a value; ErrNotFound when there is none.
func (d view) get(key []byte) ([]byte, error) {
	v, closer, err := d.from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, readFault(err)
	}
	defer closer.Close()
	return append([]byte(nil), v...), nil
}

// scan calls f for every key in [from, to) in rising order. The slices are valid
// during the call.
func (d view) scan(from, to []byte, f func(key, value []byte) error) error {
	it, err := d.from.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return readFault(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return readFault(err)
		}
		if err := f(it.Key(), value); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return readFault(err)
	}
	return nil
}

// last returns copies of the last key that begins with prefix and its value;
// ErrNotFound when there is none.
func (d view) last(prefix []byte) (key, value []byte, err error) {
	it, err := d.from.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, nil, readFault(err)
	}
	defer it.Close()
	if !it.Last() {
		if err := it.Error(); err != nil {
			return nil, nil, readFault(err)
		}
		return nil, nil, ErrNotFound
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return nil, nil, readFault(err)
	}
	return append([]byte(nil), it.Key()...), append([]byte(nil), v...), nil
}

func readFault(err error) error {
	if pebble.IsCorruptionError(err) {
		return damageOf(err)
	}
	return fmt.Errorf("read: %w", err)
}

// lockFolder takes the folder for this process.
func lockFolder(fs vfs.FS, dir string) (io.Closer, error) {
	lock, err := fs.Lock(fs.PathJoin(dir, fileLock))
	if err == nil {
		return lock, nil
	}
	var path *os.PathError
	if errors.As(err, &path) {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
}

// syncFolder makes the names in a folder durable.
func syncFolder(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// exists reports whether there is a file or folder of that name.
func exists(fs vfs.FS, name string) (bool, error) {
	_, err := fs.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
