package eventlog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options says how a log is kept. The zero value works but for StoreID and Key.
type Options struct {
	StoreID      [16]byte
	Key          [16]byte // of the store: encrypts the tables of blocks
	Groups       int      // of the store; default 1
	SegmentBytes int64    // from which a new segment begins; default 128 MiB
	// SegmentAge is the time in ms between a stream's first record of a segment and the
	// record from which a new one begins; 0: no bound. A segment leaves whole, so what is
	// in it stays that much longer at most.
	SegmentAge [Streams]int64
	Random     io.Reader // nil = crypto/rand
}

// Log is the event log in a folder. Scan, Find, Stats and Verify may be called
// from any goroutine, at any time; one Pass at a time is under way.
type Log struct {
	fs  vfs.FS
	dir string
	o   Options

	pack    *packer
	files   [Streams]vfs.File // being written, by the pass; nil: the next block begins one
	readers sync.Pool         // of *unpacker

	mu struct {
		sync.Mutex
		state  state
		blocks map[uint64][]blockAt // headers of segments, as far as they were asked for
	}
}

// Open opens the log that stateBytes, of Pass.State, describes; nil: a new one.
// Every file it names must be there at its length. Cost: one look at each file.
func Open(fs vfs.FS, dir string, o Options, stateBytes []byte) (*Log, error) {
	o.Groups = max(o.Groups, 1)
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 128 << 20
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	l := &Log{fs: fs, dir: dir, o: o}
	l.mu.blocks = map[uint64][]blockAt{}
	l.mu.state = state{next: 1, logged: make([]uint64, o.Groups)}
	var err error
	if stateBytes != nil {
		if l.mu.state, err = parseState(stateBytes); err != nil {
			return nil, err
		}
	}
	if len(l.mu.state.logged) != o.Groups {
		return nil, fmt.Errorf("%w: the state is of %d groups", ErrCorrupt, len(l.mu.state.logged))
	}
	if l.pack, err = newPacker(&o.Key, o.Random); err != nil {
		return nil, err
	}
	for i := range l.mu.state.segments {
		g := &l.mu.state.segments[i]
		name := segmentName(g.stream, g.number)
		info, err := fs.Stat(fs.PathJoin(dir, name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("%w: %s is missing", ErrCorrupt, name)
		case err != nil:
			return nil, fmt.Errorf("event log: %w", err)
		case info.Size() < g.size:
			return nil, fmt.Errorf("%w: %s has %d bytes, should have %d",
				ErrCorrupt, name, info.Size(), g.size)
		}
	}
	return l, nil
}

// Close lets go of the files. Nothing that is durable depends on it.
func (l *Log) Close() error {
	var errs []error
	for i, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close())
			l.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// Logged returns the last frame of a group that the log holds.
func (l *Log) Logged(group uint16) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.state.logged[group]
}

// snapshot returns the segments of a stream; they are not changed.
func (l *Log) snapshot(stream Stream) []segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []segment
	for _, g := range l.mu.state.segments {
		if g.stream == stream {
			list = append(list, g)
		}
	}
	return list
}

// view opens a segment for reading. nil without an error: it has been retired.
func (l *Log) view(g *segment) (vfs.File, []blockAt, error) {
	name := segmentName(g.stream, g.number)
	f, err := l.fs.Open(l.fs.PathJoin(l.dir, name))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && !l.names(g.number) {
			return nil, nil, nil
		}
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, name, err)
	}
	l.mu.Lock()
	blocks := l.mu.blocks[g.number]
	l.mu.Unlock()
	if len(blocks) < int(g.blocks) {
		if blocks, err = readBlocks(f, g, l.o.StoreID); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
		}
		l.mu.Lock()
		if len(l.mu.blocks[g.number]) < len(blocks) {
			l.mu.blocks[g.number] = slices.Clip(blocks)
		}
		l.mu.Unlock()
	}
	return f, blocks[:g.blocks], nil
}

func (l *Log) names(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.mu.state.segments, func(g segment) bool {
		return g.number == number
	})
}

func (l *Log) reader() (*unpacker, error) {
	if u, ok := l.readers.Get().(*unpacker); ok {
		return u, nil
	}
	return newUnpacker(&l.o.Key)
}

// Sweep removes files of segments that the state does not name: such a state must
// be durable. A pass must not be under way.
func (l *Log) Sweep() error {
	names, err := l.fs.List(l.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, name := range names {
		if number, ok := parseSegmentName(name); ok && !l.names(number) {
			errs = append(errs, l.fs.Remove(l.fs.PathJoin(l.dir, name)))
		}
	}
	return errors.Join(errs...)
}

// StreamStats are the figures of one stream.
type StreamStats struct {
	Segments, Blocks   int
	Bytes, Records     uint64
	From, Until        int64  // ms of the oldest and the newest record; 0: none
	GoneDays, GoneSize uint64 // segments that have left, by age and by bytes
	GoneUntil          int64  // ms of the newest record among them; 0: none has left
}

// Stats returns the figures of each stream.
func (l *Log) Stats() (all [Streams]StreamStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range l.mu.state.retired {
		all[i].GoneDays, all[i].GoneSize, all[i].GoneUntil = r.byDays, r.byBytes, r.until
	}
	for i := range l.mu.state.segments {
		g := &l.mu.state.segments[i]
		st := &all[g.stream]
		if st.Segments == 0 || g.from < st.From {
			st.From = g.from
		}
		st.Until = max(st.Until, g.until)
		st.Segments++
		st.Blocks += int(g.blocks)
		st.Bytes += uint64(g.size)
		st.Records += g.records
	}
	return all
}
