package engine

import (
	"math/bits"

	"tact/engine/content"
	"tact/engine/decide"
	"tact/storage"
)

// Bounds of the answers that are kept.
const (
	keptSets    = 128 // of a group: 512 answers, about 350 KiB, made when first needed
	keptWays    = 4
	keptItems   = 2   // longer answers are not kept
	keptWords   = 4   // nor are those to requests with more words of bits,
	keptAssigns = 4   // with more experiments,
	keptBytes   = 320 // or longer messages
)

// kept are answers of one group that hold until something changes them. Whoever is
// asked for again gets the picks and the messages that came out last time without
// being judged anew. Guarded by the group's lock.
//
// An answer is kept when all it depends on is in its key or lasts until a moment that
// is known: what the person is and did (any effect on the person takes RowKept away),
// the definitions in force, the request, and the clock (see decide.Plan.Lasts and
// storage.BitPage.Next). What has explanations, several placements, a use of a counter
// or a cap that refuses is judged each time. Totals are asked each time.
//
// Cost for people who are not asked for again: one cache line of the table.
type kept struct {
	table *keptTable // nil: nobody was asked for twice
	stamp uint32
	keptCounts
	_ [24]byte // a cache line for each group
}

// keptCounts say how far keeping answers goes, since the start.
type keptCounts struct {
	given   uint64 // answers given again
	judged  uint64 // answers that may have been kept, judged anew
	dropped uint64 // answers that had ended, or made room, when another was kept
}

// keptAnswers sums up what became of the answers of all groups.
func (e *Engine) keptAnswers() (sum keptCounts) {
	for i := range e.kept {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		of := e.kept[i].keptCounts
		g.Unlock()
		sum.given, sum.judged = sum.given+of.given, sum.judged+of.judged
		sum.dropped += of.dropped
	}
	return sum
}

// keptTable is the memory of a group, without pointers.
type keptTable struct {
	sets    [keptSets]keptSet
	answers [keptSets][keptWays]keptAnswer
}

// keptSet says what lies in the answers of a set: one cache line.
type keptSet struct {
	who   [keptWays]uint32 // ordinal + 1; 0 = free
	where [keptWays]uint32 // hash of what was asked
	seen  uint32           // who was judged last, and where, by a hash
	next  uint8            // of the answers, to be replaced
	_     [27]byte
}

// keptKey is what an answer depends on beside the person, the definitions' own dates
// and the moment.
type keptKey struct {
	snapshot          uint64 // Snapshot.serial
	words             [keptWords]uint64
	placement, policy int32
	count             int32
	ord               storage.Ord
	identity, device  uint32
	floor             storage.UnixSec
	incidents         uint32
	listed            uint16
	dedupe            uint8
	empty             bool // caps know nothing of the person
}

// keptAnswer is one answer: the picks, and the messages of its items one behind the
// other.
type keptAnswer struct {
	key         keptKey
	from, until storage.UnixMsec // [from, until)
	stamp       uint32
	filled      bool // text and ends are there
	items       uint8
	assigns     uint8
	ends        [keptItems]uint16 // of the messages in text
	slot        decide.SlotResult
	item        [keptItems]decide.Item
	assign      [keptAssigns]decide.Assignment
	text        [keptBytes]byte
}

// keeping is what a decision knows of the answers that are kept.
type keeping struct {
	able  bool // the request is one whose answer may be kept
	key   keptKey
	where uint32
	set   uint32
	at    *keptAnswer // the answer that was given again, or is to be filled
	stamp uint32      // of the answer to be filled; 0 = none
	ready bool        // the messages are in buf
}

// recall gives w.result the answer that is kept, if there is one that holds and whose
// totals have room. The group is locked, and the person is read.
func (e *Engine) recall(req *DecideRequest, w *decideWork) bool {
	k := &w.keeping
	k.able, k.at, k.stamp, k.ready = w.keepable(req), nil, 0, false
	if !k.able {
		return false
	}
	slot := &w.slots[0]
	hash := uint64(uint32(slot.Placement))<<8 ^ uint64(uint8(slot.Count))
	for _, word := range w.words {
		hash = (hash ^ word) * 0x9E3779B97F4A7C15
	}
	k.where = uint32(hash>>32) ^ uint32(hash)
	k.set = uint32(uint64(w.ord) * 0x9E3779B97F4A7C15 >> 57)
	t := e.kept[w.group.GroupID()].table
	if t == nil || w.group.Row(w.ord).Flags&storage.RowKept == 0 {
		return false
	}
	way := t.sets[k.set].find(uint32(w.ord)+1, k.where)
	if way < 0 {
		return false
	}
	a := &t.answers[k.set][way]
	if w.now < a.from || w.now >= a.until {
		return false
	}
	if w.keptKey(); a.key != k.key {
		return false
	}
	res := &w.result
	res.Reset()
	res.Slots = append(res.Slots, a.slot)
	res.Items = append(res.Items, a.item[:a.items]...)
	res.Assignments = append(res.Assignments, a.assign[:a.assigns]...)
	w.takes = w.takes[:0]
	if !e.takeTotals(req.Mode == ModeLive, w) {
		return false
	}
	e.kept[w.group.GroupID()].given++
	k.at, k.stamp = a, a.stamp
	return true
}

// find returns where an answer lies, or -1.
func (s *keptSet) find(who, where uint32) int {
	for i := range s.who {
		if s.who[i] == who && s.where[i] == where {
			return i
		}
	}
	return -1
}

// keepable tells whether the request is one whose answer may be kept: a plain one for
// one placement, of somebody who is known.
func (w *decideWork) keepable(req *DecideRequest) bool {
	return w.known && len(w.slots) == 1 && (req.Mode == ModeLive || req.Mode == ModeDryRun) &&
		req.Now == 0 && req.Explain == ExplainNone && w.snap.serial != 0 &&
		w.slots[0].Allow == nil && len(w.slots[0].Block) == 0 &&
		len(w.words) <= keptWords && len(w.over.Assign) == 0 &&
		(len(w.context) == 0 || !w.snap.contextual)
}

// keptKey fills in the key, and the moment that it is a part of.
func (w *decideWork) keptKey() {
	w.at.Ms = w.now
	w.group.SetInstant(&w.at.Instant, toSec(w.now))
	slot := &w.slots[0]
	w.keeping.key = keptKey{
		snapshot: w.snap.serial, placement: slot.Placement, policy: slot.Policy,
		count: int32(slot.Count), ord: w.ord, identity: w.person.IdentityKey,
		device: w.person.DeviceKey, floor: w.at.Instant.Floor,
		incidents: uint32(w.at.Instant.Incidents()), listed: w.person.Listed,
		dedupe: uint8(w.request.Dedupe), empty: w.person.Contact.Empty(),
	}
	copy(w.keeping.key.words[:], w.words)
}

// keepAnswer keeps the answer in w.result when it lasts and the person was asked for before.
// Its messages are added by fillKept. The group is locked.
func (e *Engine) keepAnswer(w *decideWork) {
	k := &w.keeping
	if !k.able {
		return
	}
	g := &e.kept[w.group.GroupID()]
	if g.table == nil {
		g.table = new(keptTable)
	}
	set := &g.table.sets[k.set]
	who := uint32(w.ord) + 1
	if mark := who*0x9E3779B1 ^ k.where; set.seen != mark {
		set.seen = mark
		return
	}
	until := w.lasts()
	if until <= w.now {
		return
	}
	row := w.group.Row(w.ord)
	before := set.filled()
	way := set.place(who, k.where, row.Flags&storage.RowKept != 0)
	g.dropped += uint64(before + 1 - set.filled())
	row.Flags |= storage.RowKept
	g.stamp = max(g.stamp+1, 1)
	w.keptKey()
	a := &g.table.answers[k.set][way]
	a.key, a.from, a.until, a.stamp, a.filled = k.key, w.now, until, g.stamp, false
	a.slot = w.result.Slots[0]
	a.items = uint8(copy(a.item[:], w.result.Items))
	a.assigns = uint8(copy(a.assign[:], w.result.Assignments))
	k.at, k.stamp = a, a.stamp
}

// lasts is how long the answer in w.result may be kept; 0: not at all.
func (w *decideWork) lasts() storage.UnixMsec {
	res, over := &w.result, &w.over
	if len(res.Items) > keptItems || len(res.Assignments) > keptAssigns ||
		len(over.FullTotals)+len(over.Scarce)+len(over.Paced)+len(over.Excluded) > 0 ||
		over.NoReserve || len(over.Stopped) > 0 || !w.person.Contact.HoldsNothing() ||
		w.group.Row(w.ord).Flags&storage.RowSealed != 0 {
		return 0
	}
	until := w.snap.Plan.Lasts(&w.request, &w.person, &w.at, res)
	for open := w.pages; open != 0; open &= open - 1 {
		page := &w.group.Row(w.ord).Page
		if k := bits.TrailingZeros32(open); k != 0 {
			page = w.group.Page(w.ord, k)
		}
		if page == nil {
			return 0 // no memory for it: nobody told until when its bits hold
		}
		until = min(until, storage.UnixMsec(page.Next)*1000)
	}
	return until
}

// filled is how many answers lie in the set.
func (s *keptSet) filled() (n int) {
	for _, who := range s.who {
		if who != 0 {
			n++
		}
	}
	return n
}

// place chooses where an answer goes. valid: those of the same person hold; else they
// are given up.
func (s *keptSet) place(who, where uint32, valid bool) int {
	way := s.find(who, where)
	for i := range s.who {
		if !valid && s.who[i] == who {
			s.who[i] = 0
		}
		if way < 0 && s.who[i] == 0 {
			way = i
		}
	}
	if way < 0 {
		s.next = (s.next + 1) % keptWays
		way = int(s.next)
	}
	s.who[way], s.where[way] = who, where
	return way
}

// keptMessages takes the messages of the answer that is given again. The group is
// locked.
func (w *decideWork) keptMessages() {
	k := &w.keeping
	if !k.at.filled {
		return
	}
	k.stamp, k.ready = 0, true
	w.buf, w.spans = w.buf[:0], w.spans[:0]
	for i, lo := 0, 0; i < int(k.at.items); i++ {
		hi := int(k.at.ends[i])
		w.spans = append(w.spans, span{contentLo: lo, contentHi: hi})
		lo = hi
	}
	if n := len(w.spans); n > 0 {
		w.buf = append(w.buf, k.at.text[:w.spans[n-1].contentHi]...)
	}
}

// fillKept adds the messages that were rendered to the answer they are of, unless
// another one lies there by now.
func (e *Engine) fillKept(w *decideWork) {
	k := &w.keeping
	if k.stamp == 0 || len(w.buf) > keptBytes || len(w.spans) > keptItems {
		return
	}
	w.group.Lock()
	defer w.group.Unlock()
	if k.at.stamp != k.stamp {
		return
	}
	copy(k.at.text[:], w.buf)
	for i := range w.spans {
		k.at.ends[i] = uint16(w.spans[i].contentHi)
	}
	k.at.filled = true
}

// readsContext tells whether an answer may depend on more of the request's context
// than the bits that rules made of it.
func (s *Snapshot) readsContext() bool {
	for i := range s.messages {
		for _, source := range s.messages[i].sources {
			if source.Space == content.SpaceContext {
				return true
			}
		}
	}
	return s.Plan.DrawsByContext()
}
