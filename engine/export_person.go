package engine

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"strconv"
	"strings"

	"tact/engine/definition"
	"tact/storage"
)

// PersonExport is everything that is held of one person, and what an erasure of them
// at that moment would count: Held. Events and Decisions read the rest, from the log.
type PersonExport struct {
	At           storage.UnixMsec
	User         *UserView
	Held         storage.Holdings
	Tracked      []string // tracked segments the person is in
	Sums         []SumView
	Reservations []HeldView
	Counters     []CapUsesView
	Requests     []RequestView

	e   *Engine
	ref storage.PersonRef
}

// SumView is what is summed up of an event, or of an outcome of one offer.
type SumView struct {
	Event, OfferID string
	Outcome        bool
	First, Last    storage.UnixMsec
	Count          uint64
}

// HeldView is an open reservation.
type HeldView struct {
	OfferID, TreatmentID, PlacementID, Channel string
	GrantedAt, ExpiresAt                       storage.UnixSec
}

// CapUsesView is one counter of a cap with the uses that it keeps. Dimension is the
// offer, placement or whatever else it counts per, as a number.
type CapUsesView struct {
	CapID     string
	Dimension uint32
	Uses      []storage.UnixSec
}

// RequestView is a request that is answered with an earlier decision until a time.
type RequestView struct {
	Decision storage.DecisionID
	Until    storage.UnixSec
}

// LoggedDecision is a decision of the log. Values are what its texts used of the
// person, in their order. Its slices are valid until the next one.
type LoggedDecision struct {
	ID       storage.DecisionID
	At       storage.UnixMsec
	Revision uint32
	Items    []LoggedItem
	Values   []string
}

// LoggedItem is what was chosen.
type LoggedItem struct{ OfferID, TreatmentID, PlacementID, Channel string }

// ExportPerson reads everything that is held of a person. It errors with a
// ProblemMissing when nobody is there. Cost: as a look at the person; Events and
// Decisions read the blocks of the log that hold the person.
func (e *Engine) ExportPerson(p PersonRef) (*PersonExport, error) {
	id, err := e.canonicalOf(p)
	if err != nil {
		return nil, err
	}
	g := e.store.GroupOf(e.store.SlotOf(workspaceID, id))
	g.Lock()
	defer g.Unlock()
	ord, ok := g.Find(workspaceID, e.store.IndexHash(workspaceID, id), id)
	if !ok {
		return nil, userNotFound(id)
	}
	x := &PersonExport{
		e: e, At: e.clock.Now(), User: e.viewUser(g, ord, id), Held: g.Holdings(ord),
		ref: storage.PersonRef{Group: g.GroupID(), Ord: ord, Person: g.Row(ord).Person},
	}
	for _, n := range g.AppendTracked(nil) {
		if g.MemberBitmap(n).Contains(uint32(ord)) {
			x.Tracked = append(x.Tracked, e.store.NameOf(storage.DictSegment, n))
		}
	}
	for c := g.Activity(ord).Cursor(); c.Next(); {
		x.Sums = append(x.Sums, SumView{
			Event: e.store.NameOf(storage.DictEvent, c.Event), Outcome: c.Outcome,
			OfferID: e.store.NameOf(storage.DictOffer, c.Item), First: c.First, Last: c.Last,
			Count: c.Count,
		})
	}
	x.contact(g.Contact(ord))
	return x, nil
}

// contact reads what caps know.
func (x *PersonExport) contact(c storage.Contact) {
	name := x.e.store.NameOf
	c.EachReservation(func(h storage.Held) bool {
		x.Reservations = append(x.Reservations, HeldView{
			OfferID: name(storage.DictOffer, h.Offer()), TreatmentID: x.e.treatmentID(h.Treatment()),
			PlacementID: name(storage.DictPlacement, h.Placement()),
			Channel:     definition.Channel(h.Channel()).String(),
			GrantedAt:   h.Granted(), ExpiresAt: h.Expires(),
		})
		return true
	})
	c.EachRing(func(r storage.Ring) bool {
		key := r.Key()
		id, _, _ := strings.Cut(name(storage.DictCap, key.Cap), "#")
		v := CapUsesView{CapID: id, Dimension: key.Dim}
		for i := range r.Len() {
			v.Uses = append(v.Uses, r.Time(i))
		}
		x.Counters = append(x.Counters, v)
		return true
	})
	c.EachRequest(func(_ uint64, _ uint32, until storage.UnixSec, id storage.DecisionID) bool {
		x.Requests = append(x.Requests, RequestView{id, until})
		return true
	})
}

// Events reads the person's events and outcomes of the log, as Engine.Events does. Of
// somebody who is erased meanwhile the rest cannot be read.
func (x *PersonExport) Events() iter.Seq2[*LoggedEvent, error] {
	scan := eventsScan()
	scan.Person = &x.ref
	return x.e.events(&scan)
}

// Decisions reads the person's decisions of the log, as far back as they are kept. The
// error that the sequence yields is its last element.
func (x *PersonExport) Decisions() iter.Seq2[*LoggedDecision, error] {
	return func(yield func(*LoggedDecision, error) bool) {
		scan := storage.LogQuery{Decisions: true, Personal: true, Person: &x.ref}
		r := decisionReader{e: x.e}
		err := x.e.store.ScanLog(&scan, func(entry *storage.LogEntry) error {
			if entry.Lost {
				return nil // erased meanwhile
			}
			if err := r.read(&entry.Effect); err != nil {
				return err
			}
			if !yield(&r.decision, nil) {
				return errEventsEnd
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEventsEnd) {
			yield(nil, err)
		}
	}
}

// decisionReader turns decisions of the log into what they say.
type decisionReader struct {
	e        *Engine
	record   record
	decision LoggedDecision
}

func (r *decisionReader) read(e *storage.Effect) error {
	if err := r.record.decode(e.Decision.Record); err != nil {
		return err
	}
	v := &r.decision
	*v = LoggedDecision{
		ID: e.Decision.ID, At: decidedAt(&e.Decision.ID), Revision: r.record.Revision,
		Items: v.Items[:0], Values: v.Values[:0],
	}
	next := 0
	for _, s := range r.record.Slots {
		for _, it := range r.record.Items[next : next+s.Count] {
			v.Items = append(v.Items, LoggedItem{
				OfferID:     r.e.store.NameOf(storage.DictOffer, it.Offer),
				TreatmentID: r.e.treatmentID(it.Treatment),
				PlacementID: r.e.store.NameOf(storage.DictPlacement, s.Placement),
				Channel:     definition.Channel(it.Channel).String(),
			})
		}
		next += s.Count
	}
	var err error
	v.Values, err = appendKeptTexts(v.Values, e.Decision.Personal)
	return err
}

// appendKeptTexts reads the values of what decideWork.appendKept has written.
func appendKeptTexts(dst []string, b []byte) ([]string, error) {
	if len(b) == 0 {
		return dst, nil
	}
	in := recordReader{b: b}
	in.take(in.count(len(b))) // the id
	for len(in.b) > 0 && !in.bad {
		kind := definition.AttrType(in.u8())
		switch kind {
		case 0:
			continue
		case definition.TypeString, definition.TypeList, definition.TypeSemver:
			text := in.take(in.count(len(b)))
			if kind == definition.TypeList {
				text = listText(text)
			}
			dst = append(dst, string(text))
		case definition.TypeFloat:
			f := math.Float64frombits(in.uvarint())
			dst = append(dst, strconv.FormatFloat(f, 'g', -1, 64))
		default:
			dst = append(dst, strconv.FormatInt(int64(in.uvarint()), 10))
		}
	}
	if in.bad {
		return dst, errRecord
	}
	return dst, nil
}

// listText joins the elements of a list.
func listText(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return out
		}
		if len(out) > 0 {
			out = append(out, ", "...)
		}
		out = append(out, b[size:size+int(n)]...)
		b = b[size+int(n):]
	}
	return out
}
