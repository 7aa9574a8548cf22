package decide

import (
	"time"

	"tact/engine/rule"
	"tact/storage"
)

// Dedupe says what may not be picked twice in one request. The same offer is
// never picked twice for one slot, whatever Dedupe says.
type Dedupe uint8

// Dedupe scopes. With DedupeOfferGroup two offers of exactly the same group
// exclude each other; an offer without a group excludes only itself.
const (
	DedupeOffer Dedupe = iota
	DedupeOfferGroup
	DedupeNone
)

// MaxCount is the largest number of items of one slot.
const MaxCount = 20

// Request is what is asked, in indices of the plan. Slices are borrowed until
// Pick returns.
type Request struct {
	Slots  []SlotRequest
	Dedupe Dedupe
	Words  []uint64 // request bits: Program.EvalRequest, len Program.RequestWords
	// Context is read for experiments whose unit is a context key: the unit is
	// the text of the value, or the eight big-endian bytes of its Num.
	Context []rule.ContextValue
	Explain bool // a trace line for every candidate of every slot
}

// SlotRequest is one placement to fill.
type SlotRequest struct {
	Placement int32
	Policy    int32   // -1 = the placement's, or what an experiment makes of it
	Count     int     // 0 = the placement's; at most MaxCount
	Allow     []int32 // offers; nil = no restriction, empty = nothing is allowed
	Block     []int32 // offers
}

// Person is the person asked about. Slices are borrowed until Pick returns.
type Person struct {
	HasID    bool   // the request named somebody
	Full     bool   // no row can be made for a stranger: no caps of the person
	Known    bool   // a row exists: Contact and Profile mean something
	ID       []byte // canonical id; the unit of experiments and holdouts
	Identity []byte // the identifier the request came by: experiments of unit identity
	Device   []byte // experiments of unit device
	// IdentityKey and DeviceKey are keyed hashes of the identity and the device that
	// the request named: what caps of scope identity and device count by. 0 = it
	// named none.
	IdentityKey, DeviceKey uint32
	// Bits are the person's predicate bits, page after page: 8 words for each of
	// Plan.Program.Pages(), of which those of Plan.Pages mean something.
	Bits    []uint64
	Contact storage.Contact
	Profile storage.Profile
	Zone    *time.Location // nil = unknown
	Listed  uint16         // channels that suppression lists block, bit per channel
}

// Moment is the time of the decision, borrowed until Pick returns. Instant.Now is Ms
// rounded down to seconds. Uses are dated by the conductor in seconds rounded up, so a
// rolling window errs by less than a second towards less contact.
type Moment struct {
	Ms      storage.UnixMsec
	Instant storage.Instant
}

// Overlay is what the conductor learnt from earlier tries of the same
// decision, and what tests force. nil = nothing.
type Overlay struct {
	FullTotals []storage.CounterKey // counters of total caps that are full now
	// FullUntil says of FullTotals, by the same index, when they have room again; 0
	// or none: at the end of their window.
	FullUntil []storage.UnixSec
	// FullCost says of FullTotals, by the same index, that only uses that cost as
	// much are refused: there may be room for less. 0 or none: all are.
	FullCost  []uint64
	Scarce    []ScarceTotal // counters with fewer units than the picks wanted
	Paced     []PacedTotal  // of FullTotals: what pacing holds back
	Excluded  []Exclusion   // picks that could not be rendered
	Stopped   []int32       // offers stopped by hand, outside publishing: inactive
	NoReserve bool          // after a durability timeout: no candidate with caps
	// NoExperiments: nobody is in an experiment or a holdout but through Assign.
	NoExperiments bool
	Assign        []Assign // forced variants: no targeting, range or coverage is asked
}

// PacedTotal is a counter of a total cap whose pacing gives no more units until
// a time.
type PacedTotal struct {
	Key   storage.CounterKey
	Until storage.UnixSec
}

// ScarceTotal is a counter of a total cap that has Left units for this request.
type ScarceTotal struct {
	Key  storage.CounterKey
	Left int64
}

// AddFull adds a total that has no room for a use of a cost, and when it has some
// again; 0: at the end of its window. A cost of 0 stands for any use.
func (o *Overlay) AddFull(key storage.CounterKey, cost uint64, until storage.UnixSec) {
	for len(o.FullUntil) < len(o.FullTotals) {
		o.FullUntil = append(o.FullUntil, 0)
	}
	for len(o.FullCost) < len(o.FullTotals) {
		o.FullCost = append(o.FullCost, 0)
	}
	o.FullTotals = append(o.FullTotals, key)
	o.FullUntil, o.FullCost = append(o.FullUntil, until), append(o.FullCost, cost)
}

// Reset empties the overlay and keeps its memory; offers that were stopped are
// forgotten with theirs, as they belong to the caller.
func (o *Overlay) Reset() {
	o.ResetTotals()
	o.Excluded, o.Assign, o.Stopped = o.Excluded[:0], o.Assign[:0], nil
	o.NoReserve, o.NoExperiments = false, false
}

// ResetTotals forgets what is known of totals and keeps the memory.
func (o *Overlay) ResetTotals() {
	o.FullTotals, o.FullUntil = o.FullTotals[:0], o.FullUntil[:0]
	o.FullCost, o.Scarce, o.Paced = o.FullCost[:0], o.Scarce[:0], o.Paced[:0]
}

// Exclusion takes an offer out of one slot.
type Exclusion struct{ Slot, Offer int32 }

// Assign forces a variant.
type Assign struct{ Experiment, Variant int32 }

// SlotKind says what a slot got.
type SlotKind uint8

// What a slot got.
const (
	SlotNone     SlotKind = iota // Reason says why
	SlotItems                    // 1 … count items
	SlotFallback                 // one item, Item.Fallback
)

// Result is what Pick found. The caller keeps it and hands it in again: Pick
// resets it and reuses its memory. Keys of item i:
// Keys[FirstKey:FirstKey+KeyCount] are to be held by one reservation,
// Keys[FirstDecisionKey:FirstDecisionKey+DecisionKeyCount] are used at once.
type Result struct {
	Slots       []SlotResult
	Items       []Item
	Keys        []storage.HeldKey
	Capped      []Capped // caps that kept a candidate from winning; see Pick
	Assignments []Assignment
	Trace       []TraceLine // with Request.Explain

	work work
}

// SlotResult is the answer for the slot of the same index.
type SlotResult struct {
	Kind         SlotKind
	First, Count int32 // into Result.Items
	Reason       Reason
	// Until is when the first of the candidates refused for this Reason may be
	// allowed again, if nothing else changes; 0 = not known or not soon.
	Until  storage.UnixSec
	Policy int32 // the policy that filled it, after experiments; -1 = none
}

// Item is one picked offer. Hold and Grace are the reservation's life and its
// confirm grace in seconds. Propensity is P(positive outcome) as the offer
// states it; Probability is P(this choice was made), 1 for a choice without
// exploration. Score is the product; for policies by order 1/position.
type Item struct {
	Slot             int32
	Offer, Treatment int32
	Rank             int // from 1, inside the slot
	Score            float64
	Propensity       float64
	Probability      float64
	Channel          uint8
	Fallback         bool
	FirstKey         int32
	KeyCount         int32
	FirstDecisionKey int32
	DecisionKeyCount int32
	Hold, Grace      uint32
	// Kept is the open reservation that the item is given again with, Hold being what
	// is left of it: it holds the item's uses already, and KeyCount is 0. The zero
	// id: the item holds uses of its own, or none.
	Kept storage.ReservationID
}

// Never is the Until of what does not end.
const Never = storage.UnixSec(0xFFFFFFFF)

// Capped is a cap that kept an offer from winning. Until is when it frees if
// nothing else happens and every open reservation is confirmed at its last
// moment; Never for lifetimes and limits of 0.
type Capped struct {
	Slot  int32
	Cap   int32
	Offer int32
	Until storage.UnixSec
}

// Assignment is an experiment that touched the decision: it changes the policy
// of a placement that was asked for, or an offer that was a candidate there.
type Assignment struct {
	Experiment int32
	Variant    int32
	Name       storage.Name // DictVariant
}

// TraceLine is the verdict on one candidate. Cap, Experiment, Holdout and Quiet
// are -1 when they did not refuse; Rank is not 0 for winners.
type TraceLine struct {
	Slot       int32
	Offer      int32
	Reason     Reason
	Stage      Stage
	Cap        int32
	Experiment int32
	Holdout    int32
	Quiet      int32 // into Plan.Quiet
	Until      storage.UnixSec
	Score      float64 // 0 for candidates that have no treatment here
	Rank       int
	Fallback   bool // the verdict on the policy's fallback
}

// Reset empties the result and keeps its memory. Pick does it itself.
func (r *Result) Reset() {
	r.Slots, r.Items, r.Keys = r.Slots[:0], r.Items[:0], r.Keys[:0]
	r.Capped, r.Assignments, r.Trace = r.Capped[:0], r.Assignments[:0], r.Trace[:0]
}
