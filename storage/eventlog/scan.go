package eventlog

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Query says which records of a stream a Scan yields. The zero value: all.
type Query struct {
	Stream      Stream
	From, Until int64    // ms of Record.Time, half-open; 0: no bound
	Types       []uint32 // rising; none: any
	Kinds       uint64   // bit by Kind; 0: any
	Among       Ords     // only of these people; nil: anybody's
	Person      bool     // only of Group and Ord
	Group       uint16
	Ord         uint32
	Personal    bool // read the personal parts too
	// Behind is, by group, a frame up to which nothing is asked for; nil: from the first.
	Behind []uint64
}

// Ords are people: of each group the ordinals, rising.
type Ords map[uint16][]uint32

func (q *Query) time(from, until int64) bool {
	return until >= q.From && (q.Until == 0 || from < q.Until)
}

func (q *Query) block(h *header) bool {
	if int(h.group) < len(q.Behind) && h.last <= q.Behind[h.group] {
		return false
	}
	if q.Person && h.group != q.Group || !q.time(h.from, h.until) ||
		q.Among != nil && len(q.Among[h.group]) == 0 {
		return false
	}
	return len(q.Types) == 0 || slices.ContainsFunc(q.Types, h.has)
}

func (q *Query) record(r *Record) bool {
	if int(r.Group) < len(q.Behind) && r.Frame <= q.Behind[r.Group] {
		return false
	}
	if q.Person && r.Ord != q.Ord || !q.time(r.Time, r.Time) ||
		q.Kinds != 0 && (r.Kind > 63 || q.Kinds>>r.Kind&1 == 0) {
		return false
	}
	if q.Among != nil {
		if _, ok := slices.BinarySearch(q.Among[r.Group], r.Ord); !ok {
			return false
		}
	}
	if len(q.Types) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(q.Types, r.Type)
	return ok
}

// Scan calls f for the records that q asks for, those of one group in their
// order. It ends at the first error of f. keyOf is asked when q.Personal is set.
// What is retired meanwhile may be left out. Cost: see the package comment;
// blocks of other times, types and people are not read.
func (l *Log) Scan(q *Query, keyOf KeyOf, f func(*Record) error) error {
	u, err := l.reader()
	if err != nil {
		return err
	}
	defer l.readers.Put(u)
	list := l.snapshot(q.Stream)
	for i := range list {
		if !q.time(list[i].from, list[i].until) {
			continue
		}
		err := l.each(&list[i], q.block, func(file io.ReaderAt, b *blockAt) error {
			return u.scan(b, q, fetcher(file, b), handler{keyOf, f})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls f for the blocks of a segment that want takes.
func (l *Log) each(g *segment, want func(*header) bool, f func(io.ReaderAt, *blockAt) error,
) (err error) {
	file, blocks, err := l.view(g)
	if err != nil || file == nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for i := range blocks {
		b := &blocks[i]
		if !want(&b.header) {
			continue
		}
		if err := f(file, b); err != nil {
			if errors.Is(err, ErrCorrupt) {
				err = fmt.Errorf("%s: at byte %d: %w", segmentName(g.stream, g.number), b.at, err)
			}
			return err
		}
	}
	return nil
}

type handler struct {
	keyOf KeyOf
	f     func(*Record) error
}

// scan yields the records of one block.
func (u *unpacker) scan(b *blockAt, q *Query, read fetch, to handler) error {
	if q.Person || q.Among != nil {
		u.stream.nonce = b.nonce
		filter, err := u.column(&b.header, columnFilter, read)
		has := func(ord uint32) bool { return filterHas(filter, ord) }
		if err != nil || q.Person && !has(q.Ord) ||
			q.Among != nil && !slices.ContainsFunc(q.Among[b.group], has) {
			return err
		}
	}
	c, err := u.open(&b.header, q.Personal, read)
	if err != nil {
		return err
	}
	var r Record
	for {
		part, more, err := c.next(&r)
		if !more {
			return err
		}
		shape, err := c.shapeOf()
		if err != nil {
			return err
		}
		if !q.record(&r) {
			continue
		}
		if c.speaks() {
			if key, ok := to.keyOf(r.Group, r.Ord); !ok {
				r.Lost = true
			} else if err := c.open(&r, part, shape, &key); err != nil {
				return err
			}
		}
		if err := to.f(&r); err != nil {
			return err
		}
	}
}

// First returns, by group, the first frame that a stream holds; 0 where it holds none.
// Cost: headers of blocks, which are kept, until every group is met.
func (l *Log) First(stream Stream) (frames []uint64, err error) {
	frames = make([]uint64, l.o.Groups)
	missing := len(frames)
	list := l.snapshot(stream)
	for i := 0; i < len(list) && missing > 0; i++ {
		all := func(*header) bool { return true }
		err := l.each(&list[i], all, func(_ io.ReaderAt, b *blockAt) error {
			if int(b.group) < len(frames) && frames[b.group] == 0 {
				frames[b.group] = b.first
				missing--
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return frames, nil
}

// Find calls f for the records of one frame and reports whether the log has the
// frame. Cost: reading one block, up to the frame.
func (l *Log) Find(stream Stream, group uint16, frame uint64, to func(*Record) error, keyOf KeyOf,
) (found bool, err error) {
	u, err := l.reader()
	if err != nil {
		return false, err
	}
	defer l.readers.Put(u)
	list := l.snapshot(stream)
	want := func(h *header) bool {
		return h.group == group && h.first <= frame && frame <= h.last
	}
	for i := len(list) - 1; i >= 0 && !found; i-- {
		err := l.each(&list[i], want, func(file io.ReaderAt, b *blockAt) error {
			got, err := u.find(b, frame, fetcher(file, b), handler{keyOf, to})
			found = found || got
			return err
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

func (u *unpacker) find(b *blockAt, frame uint64, read fetch, to handler) (bool, error) {
	c, err := u.open(&b.header, true, read)
	if err != nil {
		return false, err
	}
	var r Record
	for {
		part, more, err := c.next(&r)
		if err != nil {
			return false, err
		}
		if !more || c.frame > frame {
			return c.saw(frame), nil
		}
		shape, err := c.shapeOf()
		if err != nil {
			return false, err
		}
		if r.Frame != frame {
			continue
		}
		if c.speaks() {
			if key, ok := to.keyOf(r.Group, r.Ord); !ok {
				r.Lost = true
			} else if err := c.open(&r, part, shape, &key); err != nil {
				return false, err
			}
		}
		if err := to.f(&r); err != nil {
			return true, err
		}
	}
}

// saw reports whether a frame stands in the block.
func (c *cursor) saw(frame uint64) bool {
	in, number := reader{b: c.u.buf[columnFrames]}, c.h.first
	for len(in.b) > 0 && number <= frame {
		number += in.uvarint()
		in.varint()
		in.uvarint()
		if number == frame {
			return true
		}
	}
	return false
}

// Verify reads every byte that the state names, and the records of every block.
// It joins what is wrong, a segment's first fault each.
func (l *Log) Verify() error {
	u, err := l.reader()
	if err != nil {
		return err
	}
	defer l.readers.Put(u)
	nobody := handler{
		keyOf: func(uint16, uint32) (key [16]byte, ok bool) { return key, false },
		f:     func(*Record) error { return nil },
	}
	all := func(*header) bool { return true }
	var errs []error
	for stream := range Streams {
		list := l.snapshot(stream)
		for i := range list {
			errs = append(errs, l.each(&list[i], all, func(file io.ReaderAt, b *blockAt) error {
				read := fetcher(file, b)
				if _, err := u.column(&b.header, columnFilter, read); err != nil {
					return err
				}
				return u.scan(b, &Query{Stream: stream, Personal: true}, read, nobody)
			}))
		}
	}
	return errors.Join(errs...)
}
