package storage

import "tact/storage/journal"

// EffectKind is the kind of an Effect. The number is stored; it never changes.
type EffectKind uint8

// Effect kinds.
const (
	EffectCreate   EffectKind = iota + 1 // a person appears
	EffectPatch                          // a profile changes
	EffectEvent                          // a behaviour event
	EffectReserve                        // a decision holds uses
	EffectConfirm                        // held uses become uses
	EffectRelease                        // held uses are given back
	EffectUse                            // uses counted at once (decision caps, reactions, late facts)
	EffectOutcome                        // an outcome of a decision: statistics and the person's tail
	EffectDecision                       // a decision record
	EffectClaim                          // an identity points at a person (in the identity's group)
	EffectForget                         // a visitor row expires
	EffectTime                           // nothing but the frame's time
	EffectMember                         // people enter or leave a tracked segment
	EffectTrack                          // the tracking of a segment begins, is whole or ends
	EffectBlock                          // units of a total may be drawn before they are durable
	EffectBurn                           // such units are counted as used after a loss
	EffectCede                           // a person gives away what caps know, see MergeContacts
	EffectAbsorb                         // a person takes in what another has ceded
	EffectRefund                         // uses of totals are given back after they happened
	EffectRollback                       // the group is an older copy of itself, see RollbackEffect
	EffectErase                          // a person is erased, see Group.Erase
)

// effectLast is the highest kind.
const effectLast = EffectErase

// Effect is one typed change. The live path and replay hand the same Effect to
// apply, which is pure. Only the fields of its Kind are read. Slices and
// pointers are read during the call and not kept.
type Effect struct {
	Kind   EffectKind
	Ord    Ord      // the person; NoOrd for effects of the group
	Time   UnixMsec // server time; never runs backwards inside a group
	Config uint32   // definitions revision in force
	// Floor, of EffectTime: when not 0, the group's new floor: the boot or the
	// last adopted clock step. See Instant. It is in force for the whole frame, so
	// it should be the frame's first effect.
	Floor UnixSec
	// Incident, of EffectTime: with an epoch, the loss that the start has found.
	Incident journal.Incident

	// Idempotency key of the caller's line, in the same frame as the effect it
	// guards: keyed hash of the key and hash of the body. 0 = none.
	DedupKey  uint64
	DedupBody uint32

	Create   CreateEffect
	Patch    *Patch
	Event    EventEffect
	Reserve  ReserveEffect
	Resolve  ResolveEffect // confirm, release
	Use      UseEffect
	Outcome  OutcomeEffect
	Decision DecisionEffect
	Claim    ClaimEffect
	Member   MemberEffect
	Track    TrackEffect
	Block    BlockEffect
	Burn     BurnEffect
	// Refund, of EffectRefund: confirmed units that are given back, in the windows that
	// they were counted in.
	Refund []BlockEffect
	Cede   CedeEffect
	Absorb AbsorbEffect
	Erase  EraseEffect

	Rollback RollbackEffect
}

// CreateEffect makes a person.
type CreateEffect struct {
	Workspace WorkspaceID
	Slot      Slot
	Person    PersonID
	ID        []byte // canonical id, 1..128 bytes (personal)
	IDHash    uint64 // resident index hash
	Key       [16]byte
	Visitor   bool // expires 24 h after the last call unless an event arrives
}

// EventEffect is one behaviour event. Indexed properties stay in the tail; Raw
// (compact JSON of all properties) stays in the frame only.
type EventEffect struct {
	Event    Name
	Occurred UnixMsec
	Clamped  bool   // the caller's time lay in the future; Occurred is the receipt time
	EventID  []byte // the caller's event id (personal)
	Indexed  []AttrValue
	Raw      []byte
	Shift    int32 // seconds by which the days it is counted in are ahead of UTC at Occurred
}

// ReserveEffect holds one use of every key, all or none.
type ReserveEffect struct {
	ID        ReservationID
	Offer     Name
	Treatment Name
	Placement Name
	Channel   uint8
	Granted   UnixSec
	Expires   UnixSec
	Grace     uint32 // seconds after Expires in which a confirm is not late
	Keys      []HeldKey
	// Drawn: the totals among Keys are drawn from blocks. Group.Reserve sets it.
	Drawn bool
	// Lease, with an epoch, is the person's new lease: see Group.Reserve, which
	// sets it.
	Lease journal.Lease
}

// ResolveEffect confirms (for EffectConfirm) the keys of a reservation whose
// CountOn has one of the bits of CountOn, at time At, or releases (for
// EffectRelease) what is still held. Unknown or already resolved: a no-op.
type ResolveEffect struct {
	ID      ReservationID
	CountOn uint16
	At      UnixSec // clamped by the caller into [granted, expires]
	// Windows are those that At lies in, of keys of totals that a confirm moves out
	// of the window of their last possible moment. A key that is not named, or would
	// move to a later window, stays in its own.
	Windows []TotalKey
	Mark    UseMark // of a confirm: the decision of the use
}

// UseEffect counts uses at once.
type UseEffect struct {
	At   UnixSec
	Keys []HeldKey
	// Lost, with an epoch, is a reservation that an incident took, and that these
	// are the uses of: they take the place of its stand-in. See LostReservation.
	Lost ReservationID
	Mark UseMark // the decision that they came from
}

// OutcomeEffect is an outcome: it adds to the statistics and to the tail.
type OutcomeEffect struct {
	Outcome   Name // DictOutcome
	Event     Name // DictEvent: offer_impression, offer_click …
	Offer     Name // 0: the outcome of a decision without an item
	Treatment Name
	Placement Name
	Channel   uint8
	Variants  []Name // DictVariant of every experiment that touched the decision
	Occurred  UnixMsec
	Value     float64
	Flags     uint8 // OutcomeLate | OutcomeRepeat
	Shift     int32 // as of an event
}

// Flags of an outcome.
const (
	OutcomeLate   uint8 = 1 << iota // ungranted: the reservation had gone
	OutcomeRepeat                   // its reservation was confirmed already
)

// DecisionEffect is the raw decision record (engine owns its format) plus what
// storage needs of it: statistics and the table of live request ids.
type DecisionEffect struct {
	ID       DecisionID
	Record   []byte       // see engine/record.go; clear part, no personal text
	Personal []byte       // values the text used; sealed with the person's key on disk
	Request  uint64       // keyed hash of request_id; 0 = none
	Body     uint32       // hash of the request body
	Until    UnixSec      // how long the request id is answered with this decision
	Counts   []StatsCount // statistics this decision adds
	// Kept are open reservations of the person that this decision was answered with
	// as well: whoever made them must not take them back any more.
	Kept []ReservationID
}

// StatsKey is one row of the statistics. What is a DictOutcome or one of the
// reserved outcome names "decision", "no_decision", "fallback".
type StatsKey struct {
	Offer     Name
	Treatment Name
	Variant   Name // 0: the row over everybody
	What      Name
}

// StatsCount adds N to a row.
type StatsCount struct {
	Key   StatsKey
	N     uint32
	Value float64
}

// ClaimEffect points an identity at a person. It lives in the group of the
// identity's own slot. A claim is void when the person's profile does not list
// the identity (a crash between the claim and the profile leaves one). A target
// without a Person takes the claim out.
type ClaimEffect struct {
	Workspace WorkspaceID
	Slot      Slot // of the identity
	Hash      [16]byte
	Target    PersonRef
}

// CedeEffect takes out of what caps know of a person what came from some origins,
// or everything when none is named.
type CedeEffect struct{ Origins []Origin }

// AbsorbEffect adds a contact part that another person has ceded, which is known
// under its origin until a time. Origin 0 gives a person back what is its own.
type AbsorbEffect struct {
	Origin Origin
	Until  UnixSec
	Part   []byte
}

// EraseEffect takes a person out for good. What it says is personal: it is sealed with
// the person's key, so that the event log does not tell whose records it ended.
type EraseEffect struct {
	Workspace WorkspaceID
	Slot      Slot
	Person    PersonID
	Hash      [16]byte // Store.ErasureHash of the canonical id
	Held      Holdings // what was held of the person
	Names     []NameRef
}

// NameRef is a name of a dictionary.
type NameRef struct {
	Kind DictKind
	ID   Name
}

// PersonRef locates a person of this store.
type PersonRef struct {
	Group  GroupID
	Ord    Ord
	Person PersonID
}
