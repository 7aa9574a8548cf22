package storage

// Ids and times. All are plain numbers so that resident data has no pointers.
type (
	WorkspaceID uint32 // 1 is the default workspace
	Slot        uint16 // 0..4095: the top 12 bits of the slot hash of (workspace, canonical id)
	GroupID     uint16 // a log group: owns a contiguous range of slots
	PersonID    uint64 // minted per group, from 1, never reused
	Ord         uint32 // position of a person inside its group, 0-based, persisted, never reused
	UnixMsec    int64  // milliseconds since 1970-01-01 UTC
	UnixSec     uint32 // seconds since 1970-01-01 UTC
	Name        uint32 // a dictionary id: dense per DictKind, from 1, never reused; 0 = none
)

// NoOrd marks an effect that belongs to the group and not to one person.
const NoOrd Ord = 0xFFFFFFFF

// Slots is the number of slots of a store.
const Slots = 4096

// DictKind is one name space of the store's dictionary.
type DictKind uint8

// The dictionary's name spaces. The number is stored; it never changes.
const (
	DictAttribute DictKind = iota + 1
	DictTag
	DictTagValue // values of enum tags, all tags together
	DictSegment
	DictEvent
	DictProperty
	DictIdentityType
	DictPurpose
	DictZone   // IANA time zone names
	DictLocale // BCP 47 tags
	DictOffer
	DictTreatment // "offer/treatment"
	DictOfferGroup
	DictCampaign
	DictPlacement
	DictPolicy
	DictCap
	DictExperiment
	DictVariant // "experiment/variant"
	DictHoldout
	DictOutcome
	DictContext     // request context keys
	DictSource      // sources of consents
	DictConsentText // versions of the text a consent was given to; at most MaxConsentText
	DictList        // suppression lists
)

// ValueKind is the type of a Value. The number is stored; it never changes and
// equals definition.AttrType.
type ValueKind uint8

// Value kinds.
const (
	KindNone ValueKind = iota
	KindBool
	KindInt
	KindFloat
	KindString
	KindDate // days since 1970-01-01
	KindTime // unix milliseconds
	KindList // of strings, see Value.Bytes
	KindSemver
)

// Value is one typed value.
type Value struct {
	Kind  ValueKind
	Num   uint64 // bool 0/1; int64, date and time as two's complement; float64 bits
	Bytes []byte // string, semver: the text. list: (uvarint length, bytes) per element
}

// AttrValue sets or removes one attribute.
type AttrValue struct {
	ID     Name
	Remove bool
	Value  Value
}

// TagValue is one tag of a person. Value is a DictTagValue of an enum tag or 0
// for a label. Expires 0 = never; from that second on the tag is not held.
type TagValue struct {
	ID      Name // at most 2^24 - 1
	Value   Name
	Expires UnixSec
	Source  TagSource
}

// Consent is one entry of a person's consent history. Per (purpose, channel)
// the entry with the newest At holds. Text is the version of the text the person
// saw (DictConsentText, at most MaxConsentText); 0 = not said.
type Consent struct {
	Purpose Name
	Channel uint8
	Granted bool
	At      UnixMsec
	Source  Name
	Text    Name
}

// MaxConsentText is the largest dictionary id of a text version: a consent
// keeps it in 16 bits.
const MaxConsentText = 1<<16 - 1

// Identity is one identifier of a person. Value is normalised by the caller.
type Identity struct {
	Type  Name
	Value []byte
}

// Address replaces the addresses of one channel; no values removes them.
type Address struct {
	Channel uint8
	Values  [][]byte
}

// Patch is a resolved change of a profile: names are dictionary ids, values are
// typed. Slices are read during the call and not kept.
type Patch struct {
	Identities  []Identity // added
	Attrs       []AttrValue
	TagsReplace bool // first drop every tag
	TagsRemove  []Name
	TagsAdd     []TagValue
	TagSource   TagSource // who removes, for the history
	TagsMerged  bool      // TagsRemove become the tags added: said in the history
	// TagsExpire takes out every tag whose end has come by the effect's time. It is
	// the sweep's: the patch neither settles a visitor nor counts as a call.
	TagsExpire     bool
	SegmentsAdd    []Name // static segments
	SegmentsRemove []Name
	Consents       []Consent // appended to the history
	Blacklist      *uint16   // nil = unchanged; else the set of blocked channels, bit per channel
	Addresses      []Address
	Zone           *Name // nil = unchanged; 0 removes
	Locale         *Name
}

// ReservationID names a reservation for ever. Number holds the group in its
// top 16 bits and a per-group counter below.
type ReservationID struct {
	Epoch  uint32
	Number uint64
}

// DecisionID is 128 bits, big-endian: time ms 48 | group 12 | epoch 16 |
// frame 36 | index 16. It routes and locates a decision record without an index.
type DecisionID [16]byte

// CounterKey names one counter of one person: a cap and the value of its
// dimension (an offer, a group, a channel…; 0 for `per: all`).
type CounterKey struct {
	Cap Name
	Dim uint32
}

// HeldKey is one counter that a reservation holds a use of. CountOn is the set
// of contacts (definition.CountOn) whose outcome confirms it; Limit is the
// cap's limit at the grant (sizes the ring).
type HeldKey struct {
	Key     CounterKey
	CountOn uint16
	Limit   uint8
	Total   bool   // the use belongs to a cap of scope total: counted in Totals, not in a ring
	Window  uint32 // of a Total key: the window's number, 0 for lifetime; else see Coarse
	Coarse  Coarse // how the uses of a limit above RingMax are kept
	// Cost, of a Total key of a budget in money: what the use costs, in minor units
	// of the budget's currency. 0 = the counter counts uses. The keys of one
	// reservation that have a cost all have the same.
	Cost uint64
}

// Units returns what a use of a total takes out of its limit: its cost, or 1.
func (k *HeldKey) Units() int64 {
	if k.Cost != 0 {
		return int64(k.Cost)
	}
	return 1
}

// Coarse says how a counter is kept whose limit is above RingMax: as counts of
// uses instead of one time a use. The number is stored; it never changes.
type Coarse uint8

const (
	// CoarseNone keeps one time for each use.
	CoarseNone Coarse = iota
	// CoarseRolling counts uses in cells of HeldKey.Window seconds, aligned to
	// 1970; every use of a cell counts until the cell's last second has left.
	CoarseRolling
	// CoarseCalendar counts uses in calendar windows: HeldKey.Window is the end
	// of the one that holds the grant, in seconds, exclusive. A use at that time
	// or after it (a late confirm) gets a count of its own.
	CoarseCalendar
)
