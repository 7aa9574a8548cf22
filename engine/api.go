package engine

import (
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// RawKind is the JSON kind of a RawValue.
type RawKind uint8

// Kinds of a RawValue.
const (
	RawNull RawKind = iota
	RawBool
	RawNumber // Text is the literal
	RawString // Text is the unescaped text, valid UTF-8
	RawList   // List of strings
	RawOther  // an object or a list of other things: Text is the compact JSON
)

// RawValue is one value as a caller wrote it, before its declared type is
// known. Slices are borrowed: they live until the call they are passed to returns.
type RawValue struct {
	Kind RawKind
	Bool bool
	Text []byte
	List [][]byte
}

// NamedValue is one member of an object.
type NamedValue struct {
	Name  []byte
	Value RawValue
}

// IdentityRef is one identifier `{type, value}` as the caller wrote it.
type IdentityRef struct{ Type, Value []byte }

// Mode says what a decision may change.
type Mode uint8

// Modes of a decision.
const (
	ModeLive    Mode = iota
	ModeDryRun       // changes nothing, records nothing
	ModePreview      // a dry run on a given revision
)

// Explain says how much of the trace a reply carries.
type Explain uint8

// Levels of explanation.
const (
	ExplainNone Explain = iota
	ExplainWinners
	ExplainAll
)

// Dedupe says what may not be shown twice in one request.
type Dedupe uint8

// Dedupe scopes.
const (
	DedupeOffer Dedupe = iota
	DedupeOfferGroup
	DedupeNone
)

// DecideRequest is one call of /v1/decide. The codec fills it; slices are
// borrowed until Decide returns. Reset keeps the capacity.
type DecideRequest struct {
	RequestID  []byte
	BodyHash   uint32 // of the canonical body bytes as received
	UserID     []byte
	Identities []IdentityRef
	Placements []PlacementAsk
	Context    []NamedValue
	Dedupe     Dedupe
	Mode       Mode
	Revision   uint32           // of a preview; 0 = the current one
	Inline     *UserDoc         // inline_profile, or nil
	Now        storage.UnixMsec // test keys only; 0 = the clock
	Assign     []NamedValue     // force.assign: experiment -> variant; test keys only
	Explain    Explain
	Include    uint32        // reserved bits of `include`
	Timeout    time.Duration // 0 = the default of 20 ms

	// Waits, if not nil, is called in Decide when it is about to wait for the disk, once
	// for each time: a caller who serves others from the same goroutine lets another one
	// go on with them.
	Waits func()

	onlyKnown bool // a person who is not in the store is a fault
	batched   bool // the answer is not kept for the next decision
}

// PlacementAsk is one placement to fill. Key is the caller's own name for it.
type PlacementAsk struct {
	Key         []byte
	PlacementID []byte
	PolicyID    []byte // empty = the placement's
	Count       int    // 0 = the placement's
	Allow       [][]byte
	Block       [][]byte
}

// Decision is the answer. Byte slices point into its own buffer, strings into
// the snapshot; all are valid until the next Decide with the same Decision.
type Decision struct {
	ID          storage.DecisionID
	HasID       bool // false for dry runs
	UserID      []byte
	DecidedAt   storage.UnixMsec
	Revision    uint32
	Replayed    bool   // the same request_id was answered before
	Durability  string // "strict" when the reply waited for the disk, else "bounded(50ms)"; or "none"
	Slots       []SlotReply
	Items       []ItemReply
	Assignments []AssignmentReply
	Capped      []CappedReply
	Degraded    []string
	Trace       []TraceReply

	work decideWork // scratch of the conductor
}

// SlotReply is the answer for one placement: Count items from First, or a
// fallback (Fallback true: one item), or none with a Reason.
type SlotReply struct {
	Key      []byte
	First    int
	Count    int
	Fallback bool
	Reason   string // reason code when Count is 0
	// Until is when the reason may be over: of quiet hours the first open moment
	// of a message they hold, of caps when one frees. 0 = not known: dropped, or
	// not in sight.
	Until   storage.UnixSec
	Reasons []ReasonCount // counts per reason, with ExplainAll
}

// ReasonCount counts candidates per reason code.
type ReasonCount struct {
	Reason string
	N      int
}

// ItemReply is one picked offer.
type ItemReply struct {
	OfferID     string
	TreatmentID string
	Rank        int
	Score       float64
	Propensity  float64
	Probability float64
	Channel     string
	ContentType string
	Content     []byte // json: a JSON value; text and html: the raw text
	Token       []byte // tracking token; empty in a dry run
	Reserved    bool
	Reservation storage.ReservationID
	ExpiresAt   storage.UnixMsec
}

// AssignmentReply is one experiment that touched the decision.
type AssignmentReply struct{ ExperimentID, VariantID string }

// CappedReply is one cap that refused a candidate, and until when.
type CappedReply struct {
	CapID   string
	OfferID string
	Until   storage.UnixSec
}

// TraceReply is the reason of one candidate.
type TraceReply struct {
	Key     []byte // the caller's placement key
	OfferID string
	Reason  string // "" for a winner
	Detail  string // the cap, quiet hours, experiment or rule that refused
	Until   storage.UnixSec
	ByDay   bool // a window of the offer's rules was answered by calendar day
}

// UserDoc is one line of POST /v1/users.
type UserDoc struct {
	UserID       []byte
	Identities   []IdentityRef
	Attributes   []NamedValue
	Tags         []TagDoc
	TagsSet      bool // Tags came as tags_set: they replace
	TagsRemove   [][]byte
	Tiers        []TierDoc
	Source       []byte // of its tags and tiers: manual (default) rule import model
	Consents     []ConsentDoc
	Blacklist    [][]byte
	HasBlacklist bool
	Addresses    []AddressDoc
	Timezone     []byte
	HasTimezone  bool // empty with HasTimezone: removed (null)
	Locale       []byte
	HasLocale    bool
	// Idempotency: the Idempotency-Key header, or empty.
	Key      []byte
	BodyHash uint32
}

// TagDoc is a label, or an enum tag with its value. ExpiresAt and TTL, of which
// at most one is set, go before the ttl of its document.
type TagDoc struct {
	Name, Is  []byte
	ExpiresAt storage.UnixMsec // 0 = by the document
	TTL       []byte           // a duration such as 30d; empty = by the document
	Source    []byte           // empty = the line's
}

// TierDoc gives a person a level of a model; without one it takes the level away.
type TierDoc struct{ Tier, Level []byte }

// ConsentDoc is one consent.
type ConsentDoc struct {
	Purpose, Channel, Source []byte
	Text                     []byte // version of the text that was shown, or empty
	Granted                  bool
	At                       storage.UnixMsec // 0 = receipt time
}

// AddressDoc replaces the addresses of a channel; none removes them.
type AddressDoc struct {
	Channel []byte
	Values  [][]byte
}

// EventDoc is one line of POST /v1/events.
type EventDoc struct {
	EventID    []byte
	UserID     []byte
	Identities []IdentityRef
	Event      []byte
	OccurredAt storage.UnixMsec // 0 = receipt time
	Properties []NamedValue
	Raw        []byte // compact JSON of properties
	BodyHash   uint32
}

// OutcomeDoc is one line of POST /v1/outcomes.
type OutcomeDoc struct {
	EventID    []byte
	Token      []byte
	DecisionID []byte // hex, when there is no token
	Placement  []byte // the caller's key, with DecisionID
	OfferID    []byte
	Outcome    []byte
	Value      float64
	HasValue   bool
	OccurredAt storage.UnixMsec
	BodyHash   uint32
}

// LineStatus is what became of one line of a batch.
type LineStatus uint8

// Line statuses.
const (
	LineApplied   LineStatus = iota
	LineDuplicate            // seen before with the same body: applied once
	LineRejected             // Err says why; nothing of the line was applied
)

// LineResult is the answer for one line.
type LineResult struct {
	Status LineStatus
	Flags  LineFlags
	Err    error // *Problem for the caller's faults
}

// LineFlags are remarks on an applied line.
type LineFlags uint8

// Remarks.
const (
	FlagClockClamped LineFlags = 1 << iota // occurred_at lay in the future: receipt time taken
	FlagLate                               // its reservation held none of it, or had gone: ungranted
	FlagRepeat                             // repeat_impression: its reservation was confirmed already
)

// Problem is a fault of the caller. Code is stable; Field names the member.
// The server maps Class to a status code.
type Problem struct {
	Class  ProblemClass
	Code   string // e.g. unknown_placement, identity_conflict, wrong_type
	Field  string // e.g. placements[0].placement_id
	Detail string

	RetryAfter int64 // seconds after which it may be otherwise; 0 = not known
}

// ProblemClass sorts problems for the server's status table.
type ProblemClass uint8

// Problem classes.
const (
	ProblemInvalid   ProblemClass = iota // 422: the shape is right, a value is not
	ProblemMissing                       // 404
	ProblemConflict                      // 409
	ProblemGone                          // 410
	ProblemStale                         // 409: If-Match names another revision
	ProblemFull                          // 507: disk or memory cap
	ProblemBusy                          // 503 with Retry-After: not durable in time, in doubt
	ProblemTooMany                       // 429 with Retry-After: a bound of work at the same time
	ProblemForbidden                     // 403: the server was not started so that it may
	ProblemDamaged                       // 500: bytes on the disk are not what was written
)

// Error implements error.
func (p *Problem) Error() string {
	if p.Field == "" {
		return p.Code + ": " + p.Detail
	}
	return p.Code + " (" + p.Field + "): " + p.Detail
}

// UserView is a person read back. Events are the tail, newest first.
type UserView struct {
	UserID     string
	Visitor    bool
	Identities []IdentityView
	Attributes []AttributeView
	Tags       []TagView
	Tiers      []TagView // Tag is the model, Is the level
	TagHistory []TagChangeView
	Segments   []string
	Consents   []ConsentView
	Blacklist  []string
	Addresses  []AddressView
	Timezone   string
	Locale     string
	Events     []EventView
	Listed     []ListedView // suppression lists that hold the id or an address
}

// IdentityView is one identifier of a person.
type IdentityView struct{ Type, Value string }

// AttributeView is one attribute or property with its typed value.
type AttributeView struct {
	Name  string
	Value storage.Value
}

// TagView is one tag of a person; Is is empty for a label, Expires 0 for ever,
// Source "" and Since 0 where they are not known.
type TagView struct {
	Tag, Is string
	Expires storage.UnixSec
	Source  string
	Since   storage.UnixSec
}

// TagChangeView is one stay of a tag, or of a level of a model, with a person.
// Ended 0: still held; else How is cleared, expired, replaced or merged.
type TagChangeView struct {
	Tag, Tier, Is string
	Set, Ended    storage.UnixSec
	Source, By    string
	How           string
}

// ConsentView is one entry of a person's consent history.
type ConsentView struct {
	Purpose, Channel, Source string
	Text                     string
	Granted                  bool
	At                       storage.UnixMsec
}

// AddressView is the addresses of one channel.
type AddressView struct {
	Channel string
	Values  []string
}

// EventView is one event of the tail. Offer is set for outcomes. Clamped: the
// caller's time lay in the future and the receipt time was taken.
type EventView struct {
	Event    string
	Occurred storage.UnixMsec
	Clamped  bool
	Offer    string
	Props    []AttributeView
}

// StatsRow is one row of /v1/stats. Variant is "experiment/variant" or "".
type StatsRow struct {
	OfferID, TreatmentID, Variant, What string
	N                                   uint64
	Value                               float64
}

// RevisionView is one published revision.
type RevisionView struct {
	Number uint32
	At     storage.UnixMsec
	Author string
	Note   string
	Digest string
	Of     uint32 // for a rollback: the revision whose content it repeats

	Migrations []Migration // of a publish: types that it changed
}

// TestOutcome is the result of one `kind: test` document.
type TestOutcome struct {
	ID       string
	Pos      definition.Pos
	Passed   bool
	Expected string
	Got      string
	Trace    []string // one line per candidate
}
