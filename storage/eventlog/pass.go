package eventlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Pass adds blocks to a log: Add and Logged, Retire, Sync, State; then, once the
// state is durable, Commit, else Abort. Until Commit nobody reads what it added.
type Pass struct {
	l       *Log
	state   state
	added   map[uint64][]blockAt
	buf     []byte
	folder  bool // a file was made
	written [Streams]bool
	gone    []segment
}

// Begin begins a pass.
func (l *Log) Begin() *Pass {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Pass{l: l, state: l.mu.state.clone(), added: map[uint64][]blockAt{}}
}

// Logged says that every frame of a group up to this one is in the log.
func (p *Pass) Logged(group uint16, frame uint64) {
	p.state.logged[group] = max(p.state.logged[group], frame)
}

// Add writes the block of a builder that is not empty; it is not durable yet.
func (p *Pass) Add(b *Builder) error {
	g, err := p.segment(b)
	if err != nil {
		return err
	}
	buf, h, err := p.l.pack.pack(p.buf[:0], b, g.hash)
	p.buf = buf
	if err != nil {
		return err
	}
	hash := chainHash(buf[:h.size]) // a write may change what it is given
	if _, err := p.l.files[b.stream].Write(buf); err != nil {
		return fmt.Errorf("write %s: %w", segmentName(g.stream, g.number), err)
	}
	p.added[g.number] = append(p.added[g.number], blockAt{h, g.size})
	if h.records > 0 {
		if g.records == 0 {
			g.from, g.until = h.from, h.until
		}
		g.from, g.until = min(g.from, h.from), max(g.until, h.until)
	}
	g.hash = hash
	g.size += int64(len(buf))
	g.records += uint64(h.records)
	g.blocks++
	p.written[b.stream] = true
	return nil
}

// segment returns the segment that takes a block.
func (p *Pass) segment(b *Builder) (*segment, error) {
	l, stream := p.l, b.stream
	if l.files[stream] != nil {
		for i := len(p.state.segments) - 1; i >= 0; i-- {
			g := &p.state.segments[i]
			if g.stream == stream && g.size < l.o.SegmentBytes && !l.tooOld(g, b) {
				return g, nil
			}
			if g.stream == stream {
				break
			}
		}
		if err := p.finish(stream); err != nil {
			return nil, err
		}
	}
	if err := l.fs.MkdirAll(l.dir, 0o750); err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	g := segment{number: p.state.next, stream: stream, size: segmentHeader}
	name := segmentName(stream, g.number)
	f, err := l.fs.Create(l.fs.PathJoin(l.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	head := appendSegmentHeader(nil, l.o.StoreID, stream, g.number)
	if _, err := f.Write(head); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", name, err), f.Close())
	}
	p.folder = true
	l.files[stream] = f
	p.state.next++
	p.state.segments = append(p.state.segments, g)
	return &p.state.segments[len(p.state.segments)-1], nil
}

// tooOld tells whether a segment began so long before the records of a block that they
// go into another one.
func (l *Log) tooOld(g *segment, b *Builder) bool {
	age := l.o.SegmentAge[b.stream]
	return age > 0 && g.records > 0 && slices.ContainsFunc(b.entries, func(e entry) bool {
		return e.time-g.from >= age
	})
}

// finish syncs and closes the segment that a stream is written to.
func (p *Pass) finish(stream Stream) error {
	f := p.l.files[stream]
	p.l.files[stream], p.written[stream] = nil, false
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("end a segment of %s: %w", stream, err)
	}
	return nil
}

// Keep says how much of a stream is kept; 0: without a bound.
type Keep struct {
	Since int64 // ms: a segment whose newest record is older leaves
	Bytes int64
}

// Retire takes the segments out of the state that are too old, and the oldest ones
// of a stream that holds too much. The segment being written stays; another that
// holds no record, as a start may leave one behind, goes without being counted. It
// reports how many leave and how many of them held something; their files go at
// Commit.
func (p *Pass) Retire(keep [Streams]Keep) (leave, held int) {
	var size [Streams]int64
	var left [Streams]int
	for i := range p.state.segments {
		size[p.state.segments[i].stream] += p.state.segments[i].size
		left[p.state.segments[i].stream]++
	}
	before := len(p.gone)
	counted := p.retired()
	p.state.segments = slices.DeleteFunc(p.state.segments, func(g segment) bool {
		k, r := &keep[g.stream], &p.state.retired[g.stream]
		left[g.stream]--
		switch {
		case left[g.stream] == 0 && p.l.files[g.stream] != nil:
			return false
		case g.records == 0:
		case k.Since > 0 && g.until < k.Since:
			r.byDays++
		case k.Bytes > 0 && size[g.stream] > k.Bytes:
			r.byBytes++
		default:
			return false
		}
		r.until = max(r.until, g.until)
		size[g.stream] -= g.size
		p.gone = append(p.gone, g)
		return true
	})
	return len(p.gone) - before, int(p.retired() - counted)
}

// retired counts the segments that have left with what they held.
func (p *Pass) retired() (n uint64) {
	for i := range p.state.retired {
		n += p.state.retired[i].byDays + p.state.retired[i].byBytes
	}
	return n
}

// Sync makes durable what was added.
func (p *Pass) Sync() error {
	for i, f := range p.l.files {
		if p.written[i] {
			if err := f.Sync(); err != nil {
				return fmt.Errorf("sync the event log: %w", err)
			}
		}
	}
	if p.folder {
		if err := syncFolder(p.l.fs, p.l.dir); err != nil {
			return fmt.Errorf("sync the event log's folder: %w", err)
		}
		return syncFolder(p.l.fs, p.l.fs.PathDir(p.l.dir))
	}
	return nil
}

// State returns what the caller makes durable between Sync and Commit.
func (p *Pass) State() []byte { return p.state.append(nil) }

// Commit shows what was added, and removes the files of what was retired. An
// error is of a file that stays behind; Sweep takes it later.
func (p *Pass) Commit() error {
	l := p.l
	l.mu.Lock()
	l.mu.state = p.state
	for number, blocks := range p.added {
		have := l.mu.blocks[number]
		l.mu.blocks[number] = append(have[:len(have):len(have)], blocks...)
	}
	for _, g := range p.gone {
		delete(l.mu.blocks, g.number)
	}
	l.mu.Unlock()
	var errs []error
	for _, g := range p.gone {
		errs = append(errs, l.fs.Remove(l.fs.PathJoin(l.dir, segmentName(g.stream, g.number))))
	}
	return errors.Join(errs...)
}

// Abort forgets the pass. The next one begins new segments: what this one wrote
// behind the state's bytes stays unread.
func (p *Pass) Abort() error { return p.l.Close() }
