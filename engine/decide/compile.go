package decide

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Bounds of a plan.
const (
	MaxHoldouts   = 64      // one bit each in a candidate
	MaxCandidates = 4 << 20 // over all (placement, policy) pairs, about 0.5 GiB
	MaxCapped     = 64      // entries of Result.Capped without Explain
)

// Env is what Compile needs beside the definitions.
type Env struct {
	// Intern gives the dictionary id of a name; it mints new ones.
	Intern   func(storage.DictKind, string) (storage.Name, error)
	Previous *Plan // the plan in force: its predicate bits are kept; nil = none
	Revision uint32
	NowMs    storage.UnixMsec // time of the publish
	// Shares says what share of people each condition of a program holds for, by
	// bit; nil, or a nil answer: it is guessed. Only speed depends on it.
	Shares func(*rule.Program) []float32

	plain int // candidates looked at before an index is asked; 0 = plainScan
}

// Compile turns checked definitions into a plan. With faults the plan is nil;
// every fault is reported at once, in the order of their places. It reads the
// zone database and nothing else from outside.
//
// Predicate bits continue those of env.Previous, so that people's rows stay
// valid; when the new rules do not fit beside the old ones a fresh layout is
// begun.
//
// Cost: at publish, O(placements × policies × candidates).
func Compile(set *definition.Set, env Env) (*Plan, []definition.Fault) {
	var previous *rule.Program
	if env.Previous != nil {
		previous = env.Previous.Program
	}
	c := newCompiler(set, env, rule.NewBuilder(previous))
	if previous != nil && env.Previous.Workspace.Def.Timezone != set.Workspace.Timezone {
		// People without a zone are judged in the workspace's: no old bit holds.
		c = newCompiler(set, env, rule.NewLayout(previous))
	}
	c.compile()
	if previous != nil && errors.Is(c.builder.Err(), rule.ErrTooManyAtoms) {
		c = newCompiler(set, env, rule.NewLayout(previous))
		c.compile()
	}
	if err := c.builder.Err(); err != nil {
		c.fault(&set.Workspace.Meta, "", "%v", err)
	}
	if len(c.faults) > 0 {
		slices.SortStableFunc(c.faults, func(a, b definition.Fault) int {
			return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line),
				cmp.Compare(a.Pos.Column, b.Pos.Column))
		})
		return nil, c.faults
	}
	return c.plan, nil
}

// CheckRules reports the faults of the rules of a set that has other faults, so
// that all are seen at once. It builds no plan.
func CheckRules(set *definition.Set, mint func(storage.DictKind, string) (storage.Name, error),
) []definition.Fault {
	c := newCompiler(set, Env{Intern: mint}, rule.NewBuilder(nil))
	c.names()
	c.segments()
	for _, o := range set.Offers {
		names := *c.plan.Names
		names.Offer = o.Attributes
		for k, n := range [...]*definition.Node{o.Eligibility, o.Applicability, o.Suitability} {
			c.parse(&o.Meta, n, &names, Stage(k+1).String())
		}
	}
	for _, x := range set.Experiments {
		c.parse(&x.Meta, x.Targeting, c.plan.Names, "targeting")
	}
	return c.faults
}

// compiler is one run of Compile.
type compiler struct {
	set             *definition.Set
	env             Env
	plan            *Plan
	builder         *rule.Builder
	personalisation storage.Name
	faults          []definition.Fault
	costs           map[uint64]uint16 // where a cost stands in Plan.costs
	scored          map[storage.Name]int32
}

func newCompiler(set *definition.Set, env Env, b *rule.Builder) *compiler {
	return &compiler{
		set: set, env: env, builder: b, costs: map[uint64]uint16{0: 0},
		scored: map[storage.Name]int32{},
		plan:   &Plan{Revision: env.Revision, costs: []uint64{0}},
	}
}

func (c *compiler) compile() {
	c.workspace()
	c.names()
	c.segments()
	c.index()
	c.treatments()
	c.placements()
	c.policies()
	c.caps()
	c.experiments()
	c.holdouts()
	c.quietHours()
	c.rules()
	if len(c.faults) == 0 {
		if program := c.builder.Program(); program != nil && c.env.Shares != nil {
			c.builder.Observe(c.env.Shares(program))
		}
		c.buildSlabs()
		c.plan.indexPlaces()
		c.plan.indexPages()
	}
	if c.plan.Program = c.builder.Program(); c.plan.Program != nil {
		c.plan.indexSlots()
		c.plan.indexDates()
	}
}

func (c *compiler) fault(m *definition.Meta, field, message string, args ...any) {
	f := definition.Fault{Pos: m.Pos, Field: field, Message: fmt.Sprintf(message, args...)}
	if m.Kind != "" && m.ID != "" {
		f.Doc = m.Kind + "/" + m.ID
	}
	c.faults = append(c.faults, f)
}

// intern returns the dictionary id of a name; "" has none.
func (c *compiler) intern(m *definition.Meta, kind storage.DictKind, name string) storage.Name {
	if name == "" {
		return 0
	}
	id, err := c.env.Intern(kind, name)
	if err != nil {
		c.fault(m, "", "the name %q cannot be stored: %v", name, err)
	}
	return id
}

func (c *compiler) workspace() {
	w := &c.set.Workspace
	out := &c.plan.Workspace
	out.Def = w
	out.Zone = c.zone(w.Timezone, "timezone")
	out.Protect = w.ProtectZone
	for i, name := range w.Zones {
		out.Zones = append(out.Zones, c.zone(name, fmt.Sprintf("zones[%d]", i)))
	}
	if len(out.Zones) == 0 {
		out.Zones = []*time.Location{out.Zone}
	}
	if len(w.ConsentRequired) > 0 {
		out.ConsentRequired = channelBits(w.ConsentRequired)
	}
	c.personalisation = c.intern(&w.Meta, storage.DictPurpose, "personalisation")
}

func (c *compiler) zone(name, field string) *time.Location {
	if name == "" {
		return time.UTC
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		c.fault(&c.set.Workspace.Meta, field, "there is no time zone %q", name)
		return time.UTC
	}
	return zone
}

// names gathers what rules may name.
func (c *compiler) names() {
	n := &rule.Names{
		Attributes: map[string]rule.Attribute{}, Tags: map[string]rule.Tag{},
		Renamed: map[string]string{}, Tiers: map[string]rule.Tier{},
		Segments: map[string]storage.Name{}, Context: map[string]rule.ContextKey{},
		Today: c.env.NowMs,
	}
	for _, a := range c.set.Attributes {
		n.Attributes[a.ID] = rule.Attribute{
			ID: c.intern(&a.Meta, storage.DictAttribute, a.ID), Type: a.Type,
			Sensitive: a.Class == "sensitive", Values: a.Values,
		}
	}
	c.tagNames(n)
	for _, s := range c.set.Segments {
		if s.Static {
			n.Segments[s.ID] = c.intern(&s.Meta, storage.DictSegment, s.ID)
		}
	}
	c.eventNames(n)
	for _, p := range sorted(c.set.Placements, metaOfPlacement) {
		n.Placements = append(n.Placements, p.ID)
		for _, k := range p.Context {
			if was, ok := n.Context[k.Name]; ok && was.Type != k.Type {
				c.fault(&p.Meta, "context."+k.Name, "another placement declares another type")
				continue
			}
			n.Context[k.Name] = rule.ContextKey{
				ID: c.intern(&p.Meta, storage.DictContext, k.Name), Type: k.Type,
			}
		}
	}
	c.plan.Names = n
}

// index lays out everything that others refer to, by id.
func (c *compiler) index() {
	p := c.plan
	p.offerIDs, p.offerNames = map[string]int32{}, map[storage.Name]int32{}
	p.placementIDs, p.placementNames = map[string]int32{}, map[storage.Name]int32{}
	p.policyIDs, p.experimentIDs = map[string]int32{}, map[string]int32{}
	p.capNames, p.treatmentNames = map[storage.Name]int32{}, map[storage.Name]int32{}
	p.counterNames = map[storage.Name]int32{}
	p.gapNames = map[storage.Name]int32{}
	for _, o := range sorted(c.set.Offers, metaOfOffer) {
		p.offerIDs[o.ID] = int32(len(p.Offers))
		offer := c.offer(o)
		p.offerNames[offer.Name] = int32(len(p.Offers))
		p.Offers = append(p.Offers, offer)
	}
	for _, d := range sorted(c.set.Placements, metaOfPlacement) {
		name := c.intern(&d.Meta, storage.DictPlacement, d.ID)
		p.placementIDs[d.ID], p.placementNames[name] = int32(len(p.Placements)),
			int32(len(p.Placements))
		p.Placements = append(p.Placements, Placement{
			ID: d.ID, Name: name, Def: d, Channel: d.Channel, Policy: -1, Count: max(d.Count, 1),
			Sticky: d.Sticky,
		})
	}
	for _, d := range sorted(c.set.Policies, metaOfPolicy) {
		p.policyIDs[d.ID] = int32(len(p.Policies))
		p.Policies = append(p.Policies, Policy{
			ID: d.ID, Name: c.intern(&d.Meta, storage.DictPolicy, d.ID), Def: d, Fallback: -1,
		})
	}
}

func (c *compiler) offer(d *definition.Offer) Offer {
	o := Offer{
		ID: d.ID, Name: c.intern(&d.Meta, storage.DictOffer, d.ID), Def: d, Class: d.Class,
		Campaign: c.intern(&d.Meta, storage.DictCampaign, d.Campaign),
		Purpose:  c.intern(&d.Meta, storage.DictPurpose, d.Purpose),
		StartMs:  d.StartMs, EndMs: d.EndMs,
	}
	for at := 0; at < len(d.Group); {
		end := len(d.Group)
		if i := strings.IndexByte(d.Group[at:], '/'); i >= 0 {
			end = at + i
		}
		o.Groups = append(o.Groups, c.intern(&d.Meta, storage.DictOfferGroup, d.Group[:end]))
		at = end + 1
	}
	if n := len(o.Groups); n > 0 {
		o.Group = o.Groups[n-1]
	}
	o.propensity = c.operand(&d.Meta, "propensity", d.Propensity)
	o.context = c.operand(&d.Meta, "context", d.Context)
	if !o.propensity.dynamic && !(d.Propensity.Const >= 0 && d.Propensity.Const <= 1) {
		c.fault(&d.Meta, "propensity", "a propensity lies in [0, 1]")
	}
	c.nonNegative(&d.Meta, "context", d.Context.Const)
	c.nonNegative(&d.Meta, "value", d.Value)
	c.nonNegative(&d.Meta, "lever", d.Lever)
	return o
}

func (c *compiler) nonNegative(m *definition.Meta, field string, x float64) {
	if !(x >= 0 && x <= math.MaxFloat64) {
		c.fault(m, field, "must be a finite number of 0 or more")
	}
}

func (c *compiler) operand(m *definition.Meta, field string, d definition.Operand) operand {
	if d.Attribute == "" {
		return operand{constant: d.Const}
	}
	a, ok := c.plan.Names.Attributes[d.Attribute]
	if !ok || a.Type != definition.TypeInt && a.Type != definition.TypeFloat {
		c.fault(m, field, "there is no int or float attribute %q", d.Attribute)
	}
	scored, ok := c.scored[a.ID]
	if !ok {
		scored = int32(len(c.scored))
		c.scored[a.ID] = scored
		c.plan.scored = len(c.scored)
	}
	return operand{attribute: a.ID, scored: scored, dynamic: true}
}

func (c *compiler) treatments() {
	p := c.plan
	for i := range p.Offers {
		o := &p.Offers[i]
		o.FirstTreatment, o.TreatmentCount = int32(len(p.Treatments)), int32(len(o.Def.Treatments))
		for k, d := range o.Def.Treatments {
			t := Treatment{
				ID: d.ID, Key: o.ID + "/" + d.ID, Def: d, Offer: int32(i), Channel: d.Channel,
			}
			t.Name = c.intern(&o.Def.Meta, storage.DictTreatment, t.Key)
			if len(d.Placements) > 0 {
				t.placements = c.placementSet(&o.Def.Meta, fmt.Sprintf("treatments[%d].placements", k),
					d.Placements)
			}
			p.treatmentNames[t.Name] = int32(len(p.Treatments))
			p.Treatments = append(p.Treatments, t)
		}
	}
}

func (c *compiler) placementSet(m *definition.Meta, field string, ids []string) bitset {
	set := newBitset(len(c.plan.Placements))
	for i, id := range ids {
		at, ok := c.plan.placementIDs[id]
		if !ok {
			c.fault(m, fmt.Sprintf("%s[%d]", field, i), "there is no placement %q", id)
			continue
		}
		set.add(at)
	}
	return set
}

func (c *compiler) placements() {
	for i := range c.plan.Placements {
		p := &c.plan.Placements[i]
		if p.Def.Policy != "" {
			p.Policy = c.policy(&p.Def.Meta, "policy", p.Def.Policy)
		}
		for _, k := range p.Def.Context {
			p.Context = append(p.Context, ContextKey{
				Key: k.Name, ID: c.plan.Names.Context[k.Name].ID, Type: k.Type,
			})
		}
	}
}

func (c *compiler) policy(m *definition.Meta, field, id string) int32 {
	at, ok := c.plan.policyIDs[id]
	if !ok {
		c.fault(m, field, "there is no decision_policy %q", id)
		return -1
	}
	return at
}

func (c *compiler) policies() {
	for i := range c.plan.Policies {
		p := &c.plan.Policies[i]
		d := p.Def
		for at := range c.plan.Offers {
			if selects(&d.Candidates, c.plan.Offers[at].Def) {
				p.Candidates = append(p.Candidates, int32(at))
			}
		}
		if d.Fallback != "" {
			at, ok := c.plan.offerIDs[d.Fallback]
			if !ok {
				c.fault(&d.Meta, "fallback.offer", "there is no offer %q", d.Fallback)
				at = -1
			}
			p.Fallback = at
		}
		c.nonNegative(&d.Meta, "ranking.propensity", d.Propensity)
		c.nonNegative(&d.Meta, "ranking.context", d.Context)
		c.nonNegative(&d.Meta, "ranking.value", d.Value)
		c.nonNegative(&d.Meta, "ranking.lever", d.Lever)
	}
}

// selects tells whether a selector picks an offer: `ids` and `groups` name
// offers (one of them is enough; a group holds its sub-groups), `labels` must
// all be there beside, and `not` takes away.
func selects(s *definition.Selector, o *definition.Offer) bool {
	if !s.All && (len(s.IDs) > 0 || len(s.Groups) > 0) {
		named := slices.Contains(s.IDs, o.ID) || slices.ContainsFunc(s.Groups, func(g string) bool {
			return o.Group == g || strings.HasPrefix(o.Group, g+"/")
		})
		if !named {
			return false
		}
	}
	for k, v := range s.Labels {
		if have, ok := o.Labels[k]; !ok || have != v {
			return false
		}
	}
	if !s.All && len(s.IDs)+len(s.Groups)+len(s.Labels) == 0 && s.Not == nil {
		return false
	}
	return s.Not == nil || !selects(s.Not, o)
}

// sorted returns documents in rising order of id.
func sorted[T any](docs []*T, meta func(*T) *definition.Meta) []*T {
	out := slices.Clone(docs)
	slices.SortStableFunc(out, func(a, b *T) int { return cmp.Compare(meta(a).ID, meta(b).ID) })
	return out
}

func metaOfOffer(d *definition.Offer) *definition.Meta           { return &d.Meta }
func metaOfPlacement(d *definition.Placement) *definition.Meta   { return &d.Meta }
func metaOfPolicy(d *definition.Policy) *definition.Meta         { return &d.Meta }
func metaOfCap(d *definition.Cap) *definition.Meta               { return &d.Meta }
func metaOfExperiment(d *definition.Experiment) *definition.Meta { return &d.Meta }
func metaOfHoldout(d *definition.Holdout) *definition.Meta       { return &d.Meta }
