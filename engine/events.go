package engine

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"tact/engine/definition"
	"tact/storage"
)

// EventsQuery says which events of the event log to read. The zero value: all.
type EventsQuery struct {
	From, Until int64  // unix ms of receipt, half-open; 0: no bound
	Event       []byte // of this name only; nil: any
	UserID      []byte // of this person only; nil: anybody's
	// Follow makes it a reading that another can go on from: with the same of the above,
	// no event comes twice and none is left out. nil: all that there is.
	Follow *EventsFollow
}

// LoggedEvent is an event or an outcome as the event log has it. Its slices are
// valid until the next one.
type LoggedEvent struct {
	Person   []byte // canonical id: see EachPerson
	Event    string
	EventID  []byte // empty: the caller gave none; of an outcome it is not kept
	Occurred storage.UnixMsec
	Received storage.UnixMsec
	Clamped  bool   // the caller's time lay in the future: Occurred is that of receipt
	Raw      []byte // compact JSON of the properties; empty: there are none

	// Of an outcome; Treatment without its offer.
	Outcome, Offer, Treatment, Placement, Channel string
	Value                                         float64
	// Unreadable: its person is gone, and with the person's key all that was known of
	// who and what. Only Received is set.
	Unreadable bool
}

// errEventsEnd ends a scan that nobody reads on.
var errEventsEnd = errors.New("nobody reads on")

// Events reads events and outcomes as far back as the event log is kept, each once.
// Those of one person come in the order in which they were received; those of
// different people in no particular order. What is received while it is read may be
// left out; with Follow it comes with the next reading. A *Problem names an event that
// was never seen, a user, or a cursor. The error that the sequence yields is its last
// element.
//
// Cost: 1 µs an event; what lies in other times and of other names is not read.
func (e *Engine) Events(q *EventsQuery) (iter.Seq2[*LoggedEvent, error], error) {
	scan := eventsScan()
	scan.From, scan.Until = storage.UnixMsec(q.From), storage.UnixMsec(q.Until)
	if q.From != 0 && q.Until != 0 && q.From >= q.Until {
		return nil, invalid("bad_range", "until", "must be later than from")
	}
	if q.Event != nil {
		name, ok := e.store.LookupBytes(storage.DictEvent, q.Event)
		if !ok {
			return nil, invalid("unknown_event", "event",
				fmt.Sprintf("no event %q was ever seen", q.Event))
		}
		scan.Types = []storage.Name{name}
	}
	if q.UserID != nil {
		if err := checkUserID(q.UserID, "user_id"); err != nil {
			return nil, err
		}
		ref, ok := e.find(q.UserID)
		if !ok {
			return nil, &Problem{
				Class: ProblemMissing, Code: "user_not_found", Field: "user_id",
				Detail: fmt.Sprintf("no user %q", q.UserID),
			}
		}
		scan.Person = &ref
	}
	if q.Follow != nil {
		return e.eventsBehind(&scan, q.Follow)
	}
	return e.events(&scan), nil
}

// eventsScan asks for all events and outcomes.
func eventsScan() storage.LogQuery {
	return storage.LogQuery{
		Personal: true, Kinds: []storage.EffectKind{storage.EffectEvent, storage.EffectOutcome},
	}
}

func (e *Engine) events(scan *storage.LogQuery) iter.Seq2[*LoggedEvent, error] {
	return func(yield func(*LoggedEvent, error) bool) {
		r := eventReader{engine: e}
		err := e.store.ScanLog(scan, func(entry *storage.LogEntry) error {
			if !yield(r.read(entry), nil) {
				return errEventsEnd
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEventsEnd) {
			yield(nil, err)
		}
	}
}

// eventReader turns entries of the log into events.
type eventReader struct {
	engine *Engine
	event  LoggedEvent
	id     []byte
}

func (r *eventReader) read(entry *storage.LogEntry) *LoggedEvent {
	e, v := &entry.Effect, &r.event
	*v = LoggedEvent{Received: e.Time}
	g := r.engine.store.Group(entry.Group)
	g.Lock()
	r.id = append(r.id[:0], g.ID(e.Ord)...)
	g.Unlock()
	if v.Unreadable = entry.Lost || len(r.id) == 0; v.Unreadable {
		return v
	}
	v.Person = r.id
	name := r.engine.store.NameOf
	if e.Kind == storage.EffectEvent {
		v.Event, v.EventID = name(storage.DictEvent, e.Event.Event), e.Event.EventID
		v.Occurred, v.Clamped, v.Raw = e.Event.Occurred, e.Event.Clamped, e.Event.Raw
		return v
	}
	o := &e.Outcome
	v.Event, v.Outcome = name(storage.DictEvent, o.Event), name(storage.DictOutcome, o.Outcome)
	v.Offer, v.Placement = name(storage.DictOffer, o.Offer), name(storage.DictPlacement, o.Placement)
	_, v.Treatment, _ = strings.Cut(name(storage.DictTreatment, o.Treatment), "/")
	v.Channel = definition.Channel(o.Channel).String()
	v.Occurred, v.Value = o.Occurred, o.Value
	return v
}
