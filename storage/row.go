package storage

import "github.com/zeebo/xxh3"

// RowKind is one stored part of a person. The number is stored; it never
// changes.
type RowKind uint8

// Parts of a person.
const (
	RowProfile RowKind = iota + 1
	RowTail
	RowContact
	RowActivity
)

// RowEvents and the kinds behind it, rowEventsMax in all, are the events that came since
// the tail and the activity were written whole, in the order of their writing: see
// row_events.go.
const RowEvents RowKind = 16

// A Row is the fixed part of one person: three cache lines, without pointers,
// so that the garbage collector never looks at it. Rows lie in chunks of
// rowChunk; the ordinal is the position.
//
// Page, Changed, Stirred and Kept are derived by the engine, never logged, never
// written to disk and outside the checksum. Everything else is changed by
// apply alone.
type Row struct {
	Page BitPage // page 0 of the predicate bits; its Bits are the first cache line

	Person    PersonID
	LastFrame uint64 // last frame that changed a stored part of this person
	IDHash    uint64 // resident index hash of (workspace, canonical id)
	profile   Ref
	tail      Ref
	contact   Ref
	LastSeen  UnixSec // time of the last effect of this person
	Workspace WorkspaceID
	activity  Ref
	Slot      Slot
	Zone      uint16 // DictZone name; 0 = none
	Flags     RowFlags
	idLen     uint8
	events    uint8 // parts of kind RowEvents and up that lie on disk

	// What came since the engine computed a page of the bits, bit k for page k:
	// Changed, anything but events; Stirred, an event or an outcome. The engine
	// takes a page's bits away when it computes the page.
	Changed uint32
	Stirred uint32
	Key     [16]byte // seals the personal parts on disk
	id      [idInline]byte
	// Events that neither tail nor activity on disk have: those not written yet, in the
	// form of row_events.go; with rowEventsSealed those parts as they were loaded.
	pending Ref
}

// RowFlags are the flags of a Row.
type RowFlags uint16

// Flags of a row.
const (
	RowVisitor   RowFlags = 1 << iota // expires 24 h after LastSeen unless an event arrives
	RowSealed                         // the profile's personal part is not opened yet
	RowGone                           // forgotten; only the slot in the table is left
	RowWithdrawn                      // some consent in force is a withdrawal
	rowTailSealed
	rowLoaded // as read from disk: replay skips frames up to LastFrame
	rowDirtyProfile
	rowDirtyTail
	rowDirtyContact
	rowActivitySealed
	rowDirtyActivity
	// rowDirtyEvents: events to be written lie in pending; without any, the parts of
	// events on disk are of no use any more.
	rowDirtyEvents
	rowEventsSealed
	// RowKept is set by the engine, which keeps answers about the person then, and taken
	// away by every effect that may change one: all but a decision that gives no
	// reservation again.
	RowKept
)

const (
	rowDirtyWhole = rowDirtyTail | rowDirtyActivity
	rowDirty      = rowDirtyProfile | rowDirtyContact | rowDirtyWhole | rowDirtyEvents
	// idInline is the longest canonical id that lies in the row: a UUID does.
	idInline = 36
	idMax    = 128
	rowChunk = 4096
	// hugeFrom is from which chunk of a table on, of about a MiB each, huge pages
	// are asked for: what is smaller would only hold more memory.
	hugeFrom = 2
	// maxOrds bounds the people of a group.
	maxOrds = 1 << 28
)

// DedupKey makes an idempotency key the person's own: without the person's key nobody
// can tell what it was made of. key is Store.DedupHash; 0 stays 0, and nothing else
// becomes 0.
func (r *Row) DedupKey(key uint64) uint64 {
	if key == 0 {
		return 0
	}
	return max(xxh3.HashSeed(r.Key[:], key), 1)
}

// A rowTable holds rows by ordinal. A chunk that no row was put in is nil.
type rowTable struct {
	chunks []*[rowChunk]Row
	arena  arena[[rowChunk]Row]
	held   int // chunks that exist
}

// spot returns where the row of o lies, without reading it; nil when there is no chunk.
func (t *rowTable) spot(o Ord) *Row {
	c := int(o / rowChunk)
	if c >= len(t.chunks) || t.chunks[c] == nil {
		return nil
	}
	return &t.chunks[c][o%rowChunk]
}

// at returns the row of o, or nil when there never was one.
func (t *rowTable) at(o Ord) *Row {
	r := t.spot(o)
	if r == nil || r.Person == 0 {
		return nil
	}
	return r
}

// place returns the room of o, growing the table.
func (t *rowTable) place(o Ord) (*Row, error) {
	if o >= maxOrds {
		return nil, ErrStateFull
	}
	c := int(o / rowChunk)
	for c >= len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	if t.chunks[c] == nil {
		t.chunks[c] = t.arena.next(t.held)
		t.held++
	}
	return &t.chunks[c][o%rowChunk], nil
}

// each calls f for every row that is or was, in rising order, until f
// returns false.
func (t *rowTable) each(f func(Ord, *Row) bool) {
	for c, chunk := range t.chunks {
		if chunk == nil {
			continue
		}
		for i := range chunk {
			if r := &chunk[i]; r.Person != 0 && !f(Ord(c*rowChunk+i), r) {
				return
			}
		}
	}
}

// inlineID returns the id of a row whose id lies in the row.
func (r *Row) inlineID() []byte { return r.id[:r.idLen:r.idLen] }
