package engine

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"tact/storage"
)

// ViewLife is how long the people of a query are kept after their cursor was
// last made or used.
const ViewLife = 15 * time.Minute

// viewIdle is for how long an answer that was read on must not have been, before
// it may make room for another.
const viewIdle = time.Minute

// Bounds of the views that are kept, unless Options say otherwise.
const (
	defaultMaxViews  = 1024
	defaultViewBytes = 256 << 20
	viewGroupBytes   = 192 // about what is kept for a group beside its ordinals
)

// Audience is the answer of a query, kept so that it can be read on with a
// cursor. The people of it never change; ids and attributes are read when they
// are asked for.
type Audience struct {
	*People
	Reason string // why an offer is for nobody, or ""

	e     *Engine
	id    uint64 // 0: it is not kept
	bytes int64
	full  *Problem // why it is not kept
	// used, paged and done belong to views.mu.
	used  storage.UnixMsec
	paged bool // a cursor of it was used
	done  bool
}

// views are the audiences that are kept.
type views struct {
	mu struct {
		sync.Mutex
		byID  map[uint64]*Audience
		bytes int64
		last  uint64
	}
}

// Audience answers a query and keeps the answer for ViewLife after its cursor
// was last made or used. When as many are kept as may be, those that were read to
// their end make room first, then those that were read on and not for a minute.
// Where none does, the answer is whole all the same, but has no cursors: see Kept.
func (e *Engine) Audience(ctx context.Context, q *AudienceQuery) (*Audience, error) {
	p, reason, err := e.FindPeople(ctx, q)
	if err != nil {
		return nil, err
	}
	a := &Audience{People: p, Reason: reason, e: e}
	for i := range p.Groups {
		a.bytes += int64(p.Groups[i].Ords.GetSizeInBytes()) + viewGroupBytes
	}
	e.keep(a)
	return a, nil
}

// Kept returns nil when the audience can be read on with a cursor, else a *Problem
// of class ProblemTooMany that says when the next of those that are kept ends.
func (a *Audience) Kept() error {
	if a.full == nil {
		return nil
	}
	return a.full
}

// keep makes room for a and keeps it, if it can.
func (e *Engine) keep(a *Audience) {
	v := &e.views
	v.mu.Lock()
	defer v.mu.Unlock()
	now := e.clock.Now()
	if v.mu.byID == nil {
		v.mu.byID = make(map[uint64]*Audience)
	}
	v.dropOld(now)
	for len(v.mu.byID) >= e.opts.MaxViews || v.mu.bytes+a.bytes > e.opts.ViewBytes {
		if !v.makeRoom(now) {
			a.full = v.tooMany(now)
			return
		}
	}
	v.mu.last++
	a.id, a.used = v.mu.last, now
	v.mu.byID[a.id] = a
	v.mu.bytes += a.bytes
}

// dropOld forgets the views whose time is over. The lock is held.
func (v *views) dropOld(now storage.UnixMsec) {
	for _, a := range v.mu.byID {
		if int64(now-a.used) >= ViewLife.Milliseconds() {
			v.drop(a)
		}
	}
}

// makeRoom forgets the view that was not used for longest among those that were
// read to their end; when there is none, among those that were read on before
// and have been idle since.
func (v *views) makeRoom(now storage.UnixMsec) bool {
	var out *Audience
	for _, a := range v.mu.byID {
		idle := a.paged && int64(now-a.used) >= viewIdle.Milliseconds()
		switch {
		case !a.done && !idle, out != nil && out.done && !a.done:
		case out == nil, a.done && !out.done, a.used < out.used:
			out = a
		}
	}
	if out != nil {
		v.drop(out)
	}
	return out != nil
}

// tooMany says when the next view ends by itself. The lock is held.
func (v *views) tooMany(now storage.UnixMsec) *Problem {
	wait := ViewLife.Milliseconds()
	for _, a := range v.mu.byID {
		wait = min(wait, int64(a.used-now)+ViewLife.Milliseconds())
	}
	seconds := max(1, (wait+999)/1000)
	return &Problem{
		Class: ProblemTooMany, Code: "too_many_views", RetryAfter: seconds,
		Detail: fmt.Sprintf("as many answers are kept for their cursors as may be: ask without a "+
			"limit, read one to its end, or wait %d s until one has not been used for 15 minutes",
			seconds),
	}
}

func (v *views) drop(a *Audience) {
	delete(v.mu.byID, a.id)
	v.mu.bytes -= a.bytes
}

// sweep forgets the views whose time is over.
func (v *views) sweep(now storage.UnixMsec) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropOld(now)
}

// Done says that the audience was read to its end: it may make room for others
// before its time is over. A cursor of it that is used takes that back.
func (a *Audience) Done() {
	a.e.views.mu.Lock()
	defer a.e.views.mu.Unlock()
	a.done = true
}

// The text of a cursor is base64url without padding of
//
//	'c' | version u8 | epoch u32 | view u64 | group u16 | ord u32 | AES-CMAC 12
//
// all big-endian. A tracking token begins with another byte, so that neither
// is taken for the other.
const (
	cursorVersion = 1
	cursorBody    = 2 + 4 + 8 + 2 + 4
	cursorBytes   = cursorBody + tokenMACSize
)

// AppendCursor appends the cursor that goes on at a place; it also says that the
// view is in use now. Of an audience that is not kept there is none.
func (a *Audience) AppendCursor(dst []byte, from PeoplePos) []byte {
	if a.id == 0 {
		return dst
	}
	v := &a.e.views
	v.mu.Lock()
	a.used = a.e.clock.Now()
	v.mu.Unlock()
	var w tokenScratch
	b := append(w.raw[:0], 'c', cursorVersion)
	b = binary.BigEndian.AppendUint32(b, a.e.store.Epoch())
	b = binary.BigEndian.AppendUint64(b, a.id)
	b = binary.BigEndian.AppendUint16(b, uint16(from.Group))
	b = binary.BigEndian.AppendUint32(b, uint32(from.Ord))
	a.e.sealer.mac(&w, b)
	b = append(b, w.mac[:tokenMACSize]...)
	return base64.RawURLEncoding.AppendEncode(dst, b)
}

// AudienceAt finds the audience and the place of a cursor. A *Problem: the text
// is no cursor of this store (ProblemInvalid), or what it names is gone
// (ProblemGone): 15 minutes have passed since it was last used, or the server
// was started since.
func (e *Engine) AudienceAt(cursor []byte) (*Audience, PeoplePos, error) {
	var w tokenScratch
	from := PeoplePos{}
	if len(cursor) != base64.RawURLEncoding.EncodedLen(cursorBytes) {
		return nil, from, badCursor()
	}
	b := w.raw[:cursorBytes]
	if _, err := base64.RawURLEncoding.Strict().Decode(b, cursor); err != nil {
		return nil, from, badCursor()
	}
	e.sealer.mac(&w, b[:cursorBody])
	if subtle.ConstantTimeCompare(w.mac[:tokenMACSize], b[cursorBody:]) != 1 ||
		b[0] != 'c' || b[1] != cursorVersion {
		return nil, from, badCursor()
	}
	if binary.BigEndian.Uint32(b[2:]) != e.store.Epoch() {
		return nil, from, goneCursor("the server was started since the cursor was made")
	}
	from.Group = storage.GroupID(binary.BigEndian.Uint16(b[14:]))
	from.Ord = storage.Ord(binary.BigEndian.Uint32(b[16:]))
	v := &e.views
	v.mu.Lock()
	defer v.mu.Unlock()
	now := e.clock.Now()
	v.dropOld(now)
	a := v.mu.byID[binary.BigEndian.Uint64(b[6:])]
	if a == nil {
		return nil, from, goneCursor("the answer was kept for 15 minutes after its last use")
	}
	a.used, a.paged, a.done = now, true, false
	return a, from, nil
}

func badCursor() *Problem {
	return invalid("bad_cursor", "cursor", "not a cursor of this server")
}

func goneCursor(why string) *Problem {
	return &Problem{
		Class: ProblemGone, Code: "cursor_gone", Field: "cursor",
		Detail: why + "; ask again from the begin",
	}
}
