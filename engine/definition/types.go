package definition

// Channels, in the order of their ids (Channel = index). Reserved: staff.
const (
	ChannelWeb Channel = iota
	ChannelInApp
	ChannelPush
	ChannelEmail
	ChannelSMS
	ChannelCall
	ChannelWechat
	ChannelWecom
	ChannelCount
)

// Channel is a way to a person. The number is stored; it never changes.
type Channel uint8

// MessageClass says which gates bind a message (docs/decision.md).
type MessageClass uint8

// The message classes. The number is stored; it never changes.
const (
	Marketing MessageClass = iota
	Transactional
	Mandatory
)

// Text is a human text: one string for all, or one per language.
type Text struct {
	Any string            // a plain string
	By  map[string]string // {en: …, zh: …}
}

// Meta is what every document has.
type Meta struct {
	Kind        string
	ID          string
	Name        Text
	Description Text
	Owner       string
	Labels      map[string]string
	Pos         Pos
	Raw         *Node // the whole document as written; nil of a set that was lightened

	packed string // Raw, where it was packed when it was read; see pack
}

// Set is a whole definitions folder: typed, checked in itself, not compiled.
// Slices are in the order of (file, position). Optional fields that were
// absent hold the documented default. Of a set that was lightened every *Node is nil.
type Set struct {
	Workspace   Workspace // the default workspace when no document says otherwise
	Attributes  []*Attribute
	Tags        []*Tag
	Tiers       []*Tier
	Events      []*Event
	Segments    []*Segment
	Calendars   []*Calendar
	Quiet       []*QuietRule
	Caps        []*Cap
	Offers      []*Offer
	Placements  []*Placement
	Policies    []*Policy
	Layers      []*Layer
	Experiments []*Experiment
	Holdouts    []*Holdout
	Tests       []*Test
}

// Workspace holds what is true for everybody.
type Workspace struct {
	Meta
	Timezone         string   // IANA name; default UTC
	Zones            []string // IANA names; default only Timezone
	ProtectZone      bool     // on_missing_timezone: protect (default) | workspace
	Locale           string
	Currency         string
	ConsentRequired  []Channel // default: sms email push call wechat wecom
	UndeclaredReject bool      // undeclared: keep (default) | reject
	IdentityOrder    []string  // default: user_id
	QuietHours       *QuietHours
}

// QuietHours: [From, Until) in minutes after local midnight; may cross midnight.
type QuietHours struct {
	Channels []Channel
	Classes  []MessageClass // default: marketing
	Windows  []MinuteSpan
	Hold     bool // when_hit: hold (default) | drop
}

// MinuteSpan is [From, Until) in minutes after local midnight, 0..1440. From >
// Until crosses midnight. Days has a bit for each day of the week on which the
// span begins, Sunday the first; 0 = every day.
type MinuteSpan struct {
	From, Until int
	Days        uint8
}

// QuietRule (kind quiet_hours): when what it selects may not be sent or shown.
// It is in force on the local days that are in one of On (all, when there is
// none) and in none of Except; a window belongs to the day on which it begins.
type QuietRule struct {
	Meta
	Offers     Selector
	Channels   []Channel      // empty = all
	Placements []string       // empty = all
	Classes    []MessageClass // default: marketing
	Segment    string         // "" = everybody
	Windows    []MinuteSpan   // empty = the whole day
	On         []string       // "calendar", or "calendar/day" for its days of one id
	Except     []string
	Hold       bool // when_hit: hold (default) | drop
}

// Calendar is a set of named days, such as public holidays.
type Calendar struct {
	Meta
	Source string // where the dates come from
	Days   []CalendarDay
}

// CalendarDay is the local days [From, Until) under one name, counted from
// 1970-01-01. Days of one calendar that share an ID are one holiday in several
// years.
type CalendarDay struct {
	ID          string
	Name        Text
	From, Until int32
	Pos         Pos
}

// AttrType is the type of an attribute or property or context key.
type AttrType uint8

// Attribute types. The number is stored; it never changes.
const (
	TypeBool AttrType = iota + 1
	TypeInt
	TypeFloat
	TypeString
	TypeDate
	TypeTime
	TypeList // of strings
	TypeSemver
)

// Attribute declares a user attribute. Its dictionary name is ID.
type Attribute struct {
	Meta
	Type     AttrType
	Class    string   // public internal personal sensitive; default internal
	Values   []string // for string: the closed list, empty = open
	Conflict string   // newest (default) oldest min max union, or "source"
	Sources  []string // for conflict: source:[…]
	Migrate  string   // what becomes of values of another type: "" cast drop
}

// Tag declares a label tag, or an enum tag when Values is not empty. Of a tag in
// a namespace the ID is "namespace/name": the name that everything uses.
type Tag struct {
	Meta
	Namespace string // a brand of the group; "" = none
	Values    []string
	TTL       int64    // seconds, 0 = for ever
	Formerly  []string // names it had, or of tags merged into it
}

// Tier declares a model that gives a person one of a few ordered levels.
type Tier struct {
	Meta
	Levels []string // lowest first
}

// Event declares an event and its properties.
type Event struct {
	Meta
	Properties []Property
}

// Property of an event. Indexed ones (at most 8) stay in a person's tail.
type Property struct {
	Name    string
	Type    AttrType
	Indexed bool
	Pos     Pos
}

// Segment: Static, or with a Rule (dynamic): a condition tree. Track: its members
// are kept, and who enters and leaves is recorded.
type Segment struct {
	Meta
	Static bool
	Rule   *Node
	Track  bool
}

// CapScope says whose uses a cap counts.
type CapScope uint8

// Cap scopes.
const (
	ScopePerson CapScope = iota
	ScopeIdentity
	ScopeDevice
	ScopeTotal
)

// CapPer is the dimension of a cap's counter key.
type CapPer uint8

// Cap dimensions.
const (
	PerAll CapPer = iota
	PerOffer
	PerOfferGroup
	PerCampaign
	PerChannel
	PerPlacement
)

// CountOn is a set of things a cap counts. Contacts and reactions do not mix.
type CountOn uint16

// The contacts (the first three), the decision, and the reactions.
const (
	CountImpression CountOn = 1 << iota
	CountSend
	CountDelivered
	CountDecision
	CountClick
	CountAccept
	CountConvert
	CountReject
	CountDismiss
	CountCustom    // an event of Cap.Events
	CountContacts  = CountImpression | CountSend | CountDelivered
	CountReactions = CountClick | CountAccept | CountConvert | CountReject | CountDismiss | CountCustom
)

// Unit is a calendar unit.
type Unit uint8

// Calendar units.
const (
	UnitNone Unit = iota
	UnitHour
	UnitDay
	UnitWeek
	UnitMonth
	UnitQuarter
	UnitYear
)

// Window: Rolling > 0, or Unit != UnitNone, or Until > 0, or all zero = lifetime.
type Window struct {
	From      int64  // [From, Until) in unix seconds
	Until     int64  // 0 = not a window of this sort
	Rolling   int64  // seconds
	Unit      Unit   // calendar
	Every     int    // ×N, at least 1
	Zone      string // "user" "workspace" "UTC"
	WeekStart int    // 0 Sunday … 6 Saturday; default 1 (Monday)
}

// Selector picks things by id, group or label. All = everything. An absent
// selector is All.
type Selector struct {
	All    bool
	IDs    []string
	Groups []string // a group holds its sub-groups: growth holds growth/activation
	Labels map[string]string
	Not    *Selector
}

// Cap: see docs/decision.md, Caps.
type Cap struct {
	Meta
	Scope         CapScope
	Per           CapPer
	Offers        Selector
	Channels      []Channel      // empty = all
	Placements    []string       // empty = all
	Classes       []MessageClass // empty = all
	CountOn       CountOn
	Events        []string // with CountCustom: the events, each declared
	Window        Window
	Limit         int    // 0 = never; of a limit by attribute its default; of a budget minor units
	Currency      string // of a budget in money; "" = the cap counts uses
	SpendsValue   bool   // a use costs the value of its outcome; else the offer's cost
	LimitFrom     string // the attribute that gives the limit; "" = none
	LimitMax      int    // with LimitFrom: no value of it gives more
	Suppress      *Suppression
	MinGap        int64 // seconds
	Exempt        []MessageClass
	Hold          int64     // seconds; 0 = default of the channel (10 min page, 24 h others)
	ConfirmGrace  int64     // seconds; default 300
	Pacing        Pacing    // of scope total; default asap
	Traffic       []float64 // nil = every hour alike; else 24 weights, of the hours of the day
	Learns        bool      // hours: learned: those of the last days' traffic
	CountsHistory bool      // counts_from: history
}

// Suppression closes a cap's counter for For seconds after every rejection from
// the After-th on.
type Suppression struct {
	After  int // 1 … 64
	Of     CountOn
	Events []string // with CountCustom in Of
	For    int64    // seconds
}

// Pacing says how a total cap spreads its units over its window.
type Pacing uint8

// Pacings.
const (
	PacingASAP Pacing = iota
	PacingEven
	PacingFrontLoaded
)

// Offer: a thing that can be chosen.
type Offer struct {
	Meta
	Group         string // "" or a path of up to six ids
	Class         MessageClass
	Purpose       string  // default "marketing"
	Value         float64 // default 1
	Cost          *Money  // what a use costs a budget in money; nil = it says nothing
	Lever         float64 // default 1
	Propensity    Operand // default constant 1
	Context       Operand // default constant 1
	Campaign      string
	Attributes    *Node // map of scalars, or nil
	StartMs       int64 // unix ms, inclusive; 0 = always
	EndMs         int64 // unix ms, exclusive; 0 = never
	Eligibility   *Node // condition trees or nil
	Applicability *Node
	Suitability   *Node
	Caps          []string // its own `caps:`
	HoldoutCovers bool     // a transactional offer that says holdout: true
	Treatments    []*Treatment
}

// Operand is a constant, or a user attribute read at decision time.
type Operand struct {
	Const     float64
	Attribute string
}

// Treatment is an offer rendered for one channel and some placements.
type Treatment struct {
	ID         string
	Channel    Channel
	Placements []string // empty = every placement of the channel
	Locale     string
	Content    Content
	Pos        Pos
}

// Content is what is sent: Body is a map Node for "json", a string Node for "text" and "html".
type Content struct {
	Type string
	Body *Node
	Pos  Pos
}

// Placement: a named place on a channel.
type Placement struct {
	Meta
	Channel Channel
	Policy  string
	Count   int        // 1..20, default 1
	Sticky  bool       // an open reservation's pick is given again; default on page channels
	Context []Property // typed request context keys: Name, Type
}

// RankBy is how a policy orders candidates.
type RankBy uint8

// Rankings.
const (
	RankProduct RankBy = iota
	RankOrder
)

// Policy (kind decision_policy): how a placement is filled.
type Policy struct {
	Meta
	Candidates Selector
	By         RankBy
	Propensity float64 // exponents of RankProduct, default 1
	Context    float64
	Value      float64
	Lever      float64
	Order      []string // offers of RankOrder, best first; candidates not named come after, by id
	Fallback   string   // offer id or ""
	Universal  bool
}

// Layer: experiments in disjoint ranges of one layer exclude each other.
type Layer struct{ Meta }

// Range is [From, Until) in hundredths of a percent, 0..10000.
type Range struct{ From, Until int }

// Experiment assigns variants.
type Experiment struct {
	Meta
	Layer     string
	Range     Range
	Unit      string // user (default) identity device, or a context key
	Coverage  int    // hundredths of a percent, default 10000
	Targeting *Node  // condition tree or nil
	Variants  []Variant
}

// Variant of an experiment. Weights are relative.
type Variant struct {
	ID         string
	Weight     float64
	Offers     map[string]OfferChange     // by offer id
	Placements map[string]PlacementChange // by placement id
	Pos        Pos
}

// OfferChange is what a variant sets on one offer.
type OfferChange struct {
	Exclude   bool     // false in YAML: not offered, reason experiment_excluded
	Treatment string   // "" = unchanged
	Lever     *float64 // nil = unchanged
}

// PlacementChange is what a variant sets on one placement.
type PlacementChange struct{ Policy string }

// Holdout: nobody in the range gets what it covers.
type Holdout struct {
	Meta
	Range   Range
	StartMs int64
	EndMs   int64
	Covers  Selector
	Classes []MessageClass // default: marketing
}

// Test is one decision with what it must give.
type Test struct {
	Meta
	AtMs      int64
	User      *Node // the shape of POST /v1/users plus id and events
	Placement string
	Context   *Node
	Assign    map[string]string // experiment -> variant
	Expect    TestExpect
}

// TestExpect: exactly one of Offer, Fallback, NoDecision is set.
type TestExpect struct {
	Offer      string
	Treatment  string
	Content    *Node  // subset match
	Fallback   string // offer id of the fallback
	NoDecision string // reason code
}

// Supported returns the kinds this build understands. Kinds that are reserved
// or not yet supported are refused by name.
func Supported() []string {
	return []string{
		"workspace", "attribute", "tag", "tier", "event", "segment", "calendar", "quiet_hours",
		"cap", "offer", "placement", "decision_policy", "layer", "experiment", "holdout", "test",
	}
}
