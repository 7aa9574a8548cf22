package decide

import (
	"slices"
	"time"

	"tact/engine/definition"
	"tact/engine/experiment"
	"tact/engine/rule"
	"tact/storage"
)

// Plan is a compiled set of definitions: what Pick reads. It is immutable and
// may be read by any number of goroutines. Things are named by int32 indices
// that mean something inside one plan only; what is stored or shown uses Name
// (dictionary id) and ID (text). Every slice is in rising order of ID, so the
// order of the documents does not matter.
type Plan struct {
	Revision    uint32
	Program     *rule.Program // the predicate bits of a person and of a request
	Names       *rule.Names   // what a rule may name, for explanations
	Workspace   Workspace
	Offers      []Offer
	Treatments  []Treatment // of one offer together, in the order of its document
	Placements  []Placement
	Policies    []Policy
	Caps        []Cap
	Experiments []Experiment
	Holdouts    []Holdout // at most MaxHoldouts
	Quiet       []Quiet   // at most MaxQuiet, the workspace's own first
	costs       []uint64  // what uses cost budgets in money; the first is 0
	scored      int       // attributes that scores read
	// Blind is that of the store, for totals, which Moment says nothing of: uses up to
	// it may be missing, and windows that may hold one are full. Set before the plan
	// is used; 0 = none are missing.
	Blind storage.UnixSec

	offerIDs, placementIDs, policyIDs, experimentIDs map[string]int32
	offerNames, placementNames, capNames             map[storage.Name]int32
	treatmentNames                                   map[storage.Name]int32
	counterNames                                     map[storage.Name]int32 // cap by Counter
	gapNames                                         map[storage.Name]int32 // cap by gapName

	history []int32 // caps that count from history
	dates   []int64 // unix ms, rising: when offers and holdouts begin and end

	slotExperiments []int32 // whose targeting asks for the placement or the channel
	slotQuiet       uint64  // quiet hours whose segment does, bit per Plan.Quiet

	slabs  []slab
	slabOf []int32 // [placement × policies + policy] → slab, -1 = not compiled

	places     []place  // where offers are candidates, those of one offer together
	placesFrom []uint32 // of offer o: places[placesFrom[o]:placesFrom[o+1]]
}

// Workspace is what is true for everybody.
type Workspace struct {
	Def             *definition.Workspace
	Zone            *time.Location
	Zones           []*time.Location // judge people without a zone, when Protect
	Protect         bool
	ConsentRequired uint16 // bit per channel: a missing consent refuses marketing
}

// Offer is one offer.
type Offer struct {
	ID             string
	Name           storage.Name // DictOffer
	Def            *definition.Offer
	Class          definition.MessageClass
	Group          storage.Name   // DictOfferGroup, 0 = none
	Groups         []storage.Name // every ancestor and the group itself, root first
	Campaign       storage.Name   // DictCampaign, 0 = none
	Purpose        storage.Name   // DictPurpose
	StartMs, EndMs int64          // [start, end) in unix ms, 0 = open
	FirstTreatment int32          // into Plan.Treatments
	TreatmentCount int32

	propensity, context operand
	rules               [3]rule.Cond // eligibility, applicability, suitability
	known               [3]rule.Cond // what a safety rule of that list wants known
	hasKnown            [3]bool
	holds               uint64  // holdouts that cover it, bit per Plan.Holdouts
	experiments         []int32 // that touch it, rising
}

// Treatment is an offer rendered for one channel and some placements.
type Treatment struct {
	ID         string // inside its offer
	Key        string // "offer/treatment"
	Name       storage.Name
	Def        *definition.Treatment
	Offer      int32
	Channel    definition.Channel
	placements bitset // nil = every placement of the channel
}

// Placement is a named place on a channel.
type Placement struct {
	ID      string
	Name    storage.Name
	Def     *definition.Placement
	Channel definition.Channel
	Policy  int32 // -1 = none
	Count   int
	Sticky  bool // what an open reservation of it holds is given again
	Context []ContextKey

	experiments []int32  // that change its policy, rising
	pages       uint32   // of a person's bits that filling it reads
	words       []uint64 // bits of a request that its slots add; nil = no rule asks
}

// ContextKey is a declared key of the request's context.
type ContextKey struct {
	Key  string
	ID   storage.Name // DictContext
	Type definition.AttrType
}

// Policy says how a placement is filled.
type Policy struct {
	ID         string
	Name       storage.Name
	Def        *definition.Policy
	Candidates []int32 // offers, rising
	Fallback   int32   // offer, -1 = none
}

// Experiment is a compiled experiment.
type Experiment struct {
	ID       string
	Name     storage.Name
	Def      *definition.Experiment
	Draw     *experiment.Experiment
	Variants []Variant

	targeting rule.Cond
	always    bool // no targeting
	unit      unitKind
	unitKey   storage.Name // DictContext, of unitContext
}

// Variant is one arm.
type Variant struct {
	ID   string
	Name storage.Name // DictVariant "experiment/variant"

	offers     []offerChange  // rising by offer
	placements []policyChange // rising by placement
}

type offerChange struct {
	offer     int32
	treatment int32 // -1 = unchanged
	lever     float64
	hasLever  bool
	exclude   bool
}

type policyChange struct{ placement, policy int32 }

type unitKind uint8

const (
	unitUser unitKind = iota
	unitIdentity
	unitDevice
	unitContext
)

// Holdout is a compiled holdout.
type Holdout struct {
	ID   string
	Name storage.Name
	Def  *definition.Holdout
	Draw *experiment.Holdout
}

// PlacementByID finds a placement by its text id. No allocation.
func (p *Plan) PlacementByID(id []byte) (int32, bool) {
	i, ok := p.placementIDs[string(id)]
	return i, ok
}

// OfferByID finds an offer by its text id. No allocation.
func (p *Plan) OfferByID(id []byte) (int32, bool) {
	i, ok := p.offerIDs[string(id)]
	return i, ok
}

// PolicyByID finds a decision policy by its text id. No allocation.
func (p *Plan) PolicyByID(id []byte) (int32, bool) {
	i, ok := p.policyIDs[string(id)]
	return i, ok
}

// ExperimentByID finds an experiment by its text id. No allocation.
func (p *Plan) ExperimentByID(id []byte) (int32, bool) {
	i, ok := p.experimentIDs[string(id)]
	return i, ok
}

// VariantByID finds a variant of an experiment by its text id.
func (p *Plan) VariantByID(experiment int32, id []byte) (int32, bool) {
	for i := range p.Experiments[experiment].Variants {
		if p.Experiments[experiment].Variants[i].ID == string(id) {
			return int32(i), true
		}
	}
	return 0, false
}

// OfferByName finds an offer by its dictionary id.
func (p *Plan) OfferByName(name storage.Name) (int32, bool) {
	i, ok := p.offerNames[name]
	return i, ok
}

// PlacementByName finds a placement by its dictionary id.
func (p *Plan) PlacementByName(name storage.Name) (int32, bool) {
	i, ok := p.placementNames[name]
	return i, ok
}

// TreatmentByName finds a treatment by its dictionary id.
func (p *Plan) TreatmentByName(name storage.Name) (int32, bool) {
	i, ok := p.treatmentNames[name]
	return i, ok
}

// CapByCounter finds a cap by the name of its counters (CounterKey.Cap).
func (p *Plan) CapByCounter(name storage.Name) (int32, bool) {
	i, ok := p.counterNames[name]
	return i, ok
}

// CapByName finds a cap by its dictionary id.
func (p *Plan) CapByName(name storage.Name) (int32, bool) {
	i, ok := p.capNames[name]
	return i, ok
}

// fits tells whether the treatment may fill the placement.
func (p *Plan) fits(treatment, placement int32) bool {
	t := &p.Treatments[treatment]
	return t.Channel == p.Placements[placement].Channel &&
		(t.placements == nil || t.placements.has(placement))
}

// DrawsByContext tells whether some experiment draws by a key of the context.
func (p *Plan) DrawsByContext() bool {
	return slices.ContainsFunc(p.Experiments, func(x Experiment) bool {
		return x.unit == unitContext
	})
}

// bitset is a set of indices.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) has(i int32) bool { return b[i>>6]&(1<<(uint(i)&63)) != 0 }
func (b bitset) add(i int32)      { b[i>>6] |= 1 << (uint(i) & 63) }
func (b bitset) drop(i int32)     { b[i>>6] &^= 1 << (uint(i) & 63) }
