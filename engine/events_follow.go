package engine

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"tact/storage"
)

// EventsFollow makes a reading of the event log one that can be gone on with: see
// [EventsQuery.Follow].
type EventsFollow struct {
	After []byte // EventsStart, or Next of the reading before
	Limit int64  // events from which it ends, with the frame that they end in; 0: none

	// When the sequence has come to its end: where to go on, and whether it was the limit
	// that ended it.
	Next []byte
	More bool
}

// EventsStart is where the event log begins.
const EventsStart = "start"

// Form of a cursor: version u8 | epoch u32 | number of groups uvarint | for each its
// frame uvarint, time uvarint | keyed hash u64, in URL-safe base64 without padding.
const (
	eventsCursorVersion = 1
	maxEventsCursor     = 64 << 10
)

// dedupCursor keeps the keyed hash of a cursor apart from those of idempotency keys,
// whose kinds are small.
const dedupCursor uint8 = 200

// eventsBehind is events behind a cursor.
func (e *Engine) eventsBehind(
	scan *storage.LogQuery, f *EventsFollow,
) (iter.Seq2[*LoggedEvent, error], error) {
	if f.Limit < 0 {
		return nil, invalid("bad_limit", "limit", "must not be negative")
	}
	var cursor storage.LogCursor
	if string(f.After) != EventsStart {
		if err := e.parseEventsCursor(f.After, &cursor); err != nil {
			return nil, err
		}
	}
	if err := e.store.CanFollow(&cursor); err != nil {
		return nil, e.followProblem(err)
	}
	return func(yield func(*LoggedEvent, error) bool) {
		r := eventReader{engine: e}
		more, err := e.store.FollowLog(scan, &cursor, f.Limit, func(entry *storage.LogEntry) error {
			if !yield(r.read(entry), nil) {
				return errEventsEnd
			}
			return nil
		})
		switch {
		case errors.Is(err, errEventsEnd):
		case err != nil:
			yield(nil, e.followProblem(err))
		default:
			f.Next, f.More = e.appendEventsCursor(nil, &cursor), more
		}
	}, nil
}

// followProblem tells what a reader can do about an error of FollowLog.
func (e *Engine) followProblem(err error) error {
	switch {
	case errors.Is(err, storage.ErrUnknownCursor):
		return &Problem{
			Class: ProblemGone, Code: "cursor_expired", Field: "after",
			Detail: err.Error() + ": begin again with after=" + EventsStart,
		}
	case errors.Is(err, storage.ErrLogGone):
		st := e.store.Stats().Log.Effects
		return &Problem{
			Class: ProblemGone, Code: "cursor_expired", Field: "after",
			Detail: fmt.Sprintf("%v: files up to %s have (%d for their age, %d for the log's bytes), "+
				"and not all in them was read; begin again with after=%s", err,
				time.UnixMilli(int64(st.GoneUntil)).UTC().Format(time.RFC3339), st.GoneDays,
				st.GoneBytes, EventsStart),
		}
	case errors.Is(err, storage.ErrLogMoved):
		return &Problem{
			Class: ProblemBusy, Code: "log_moved", Field: "after",
			Detail: err.Error() + ": ask again with the same cursor",
		}
	}
	return err
}

func (e *Engine) appendEventsCursor(dst []byte, c *storage.LogCursor) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{eventsCursorVersion}, c.Epoch)
	b = binary.AppendUvarint(b, uint64(len(c.Groups)))
	for _, p := range c.Groups {
		b = binary.AppendUvarint(b, p.Frame)
		b = binary.AppendUvarint(b, uint64(p.Time))
	}
	b = binary.LittleEndian.AppendUint64(b, e.store.DedupHash(dedupCursor, b))
	return base64.RawURLEncoding.AppendEncode(dst, b)
}

// parseEventsCursor reads what appendEventsCursor of this store made.
func (e *Engine) parseEventsCursor(text []byte, c *storage.LogCursor) error {
	bad := invalid("bad_cursor", "after", "not a cursor of this store: begin with after="+EventsStart)
	if len(text) > maxEventsCursor || bytes.ContainsAny(text, "\r\n") {
		return bad
	}
	b, err := base64.RawURLEncoding.Strict().AppendDecode(nil, text)
	if err != nil || len(b) < 14 || b[0] != eventsCursorVersion {
		return bad
	}
	body, mac := b[:len(b)-8], binary.LittleEndian.Uint64(b[len(b)-8:])
	if e.store.DedupHash(dedupCursor, body) != mac {
		return bad
	}
	c.Epoch = binary.LittleEndian.Uint32(body[1:])
	n, size := binary.Uvarint(body[5:])
	if size <= 0 || n == 0 || n > uint64(len(body)) {
		return bad
	}
	body = body[5+size:]
	c.Groups = make([]storage.LogPosition, n)
	for i := range c.Groups {
		frame, a := binary.Uvarint(body)
		if a <= 0 {
			return bad
		}
		at, z := binary.Uvarint(body[a:])
		if z <= 0 || at>>62 != 0 {
			return bad
		}
		body = body[a+z:]
		c.Groups[i] = storage.LogPosition{Frame: frame, Time: storage.UnixMsec(at)}
	}
	if len(body) > 0 {
		return bad
	}
	return nil
}
