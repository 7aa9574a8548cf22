package engine

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"tact/engine/audience"
	"tact/engine/content"
	"tact/engine/decide"
	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Snapshot is everything published, compiled: immutable, swapped as one
// pointer. A decision reads one Snapshot from its first line to its last.
type Snapshot struct {
	Revision uint32
	Set      *definition.Set
	Plan     *decide.Plan

	audience   *audience.Set // segments that are tracked
	messages   []message     // by treatment index of the plan
	attributes map[string]attributeSchema
	events     map[string]eventSchema
	tags       map[string]tagSchema
	renamed    map[string]string // names tags had → their names
	moving     []movingTag
	tiers      map[string]tagSchema
	segments   map[string]storage.Name
	context    map[string]contextSchema
	mint       intern                    // as compile was given it
	stocked    []bool                    // by offer of the plan: some total cap counts its reactions
	reactive   []bool                    // by offer: some cap of either scope counts its reactions
	scoped     bool                      // some cap counts by identity or device
	counted    map[string]storage.Name   // events that some cap counts
	tails      map[storage.Name]tailFact // events of tails that caps can count, for history
	paces      paces                     // by cap of the plan
	// learned is, by cap of the plan, the traffic that its pacing has learned; nil =
	// none yet, or it does not learn.
	learned []atomic.Pointer[decide.DayShares]
	// serial numbers the snapshots that were put in force since the start; 0 = this one
	// was not.
	serial     uint64
	contextual bool // see readsContext
}

// message is one treatment's content, ready to render.
type message struct {
	contentType string
	template    *content.Template
	sources     []content.Source
}

type attributeSchema struct {
	id     storage.Name
	typ    definition.AttrType
	values []string
}

type eventSchema struct {
	id      storage.Name
	indexed map[string]propertySchema
	lists   map[string][]memberSchema // properties of the elements of a list, by the list
}

type propertySchema struct {
	id  storage.Name
	typ definition.AttrType
}

type contextSchema struct {
	id  storage.Name
	typ definition.AttrType
}

// intern mints dictionary ids: the store's, or a throw-away one for checks.
type intern func(storage.DictKind, string) (storage.Name, error)

// loaded is a set of documents as files gave it, with the faults found so far.
// It may be compiled more than once: nothing changes it.
type loaded struct {
	set    *definition.Set
	faults []definition.Fault
}

func load(files []definition.File) (l loaded) {
	l.set, l.faults = definition.Load(files)
	return l
}

// load is that of a folder whose last set without faults it knows.
func (e *Engine) load(files []definition.File) (l loaded) {
	l.set, l.faults = e.reader.Load(files)
	return l
}

// compile turns documents into a Snapshot. Every fault of every file is returned;
// with faults the Snapshot is nil. previous may be nil,
// and shares: see decide.Env.
func compile(
	from loaded, mint intern, previous *Snapshot, now storage.UnixMsec,
	shares func(*rule.Program) []float32,
) (*Snapshot, []definition.Fault) {
	set, faults := from.set, from.faults
	if len(faults) > 0 {
		return nil, append(faults[:len(faults):len(faults)], moreFaults(set, faults)...)
	}
	s := &Snapshot{Set: set, mint: mint}
	env := decide.Env{Intern: mint, NowMs: now, Shares: shares}
	if previous != nil {
		if faults = changedTypes(previous, set); len(faults) > 0 {
			return nil, faults
		}
		env.Previous = previous.Plan
		env.Revision = previous.Revision + 1
	}
	plan, faults := decide.Compile(set, env)
	if len(faults) > 0 {
		return nil, faults
	}
	s.Plan = plan
	if err := s.index(mint); err != nil {
		return nil, []definition.Fault{{Message: err.Error()}}
	}
	s.findStock()
	if s.audience, faults = audience.Compile(
		set.Segments, plan.Names, set.Workspace.Timezone, mint,
	); len(faults) > 0 {
		return nil, faults
	}
	if err := s.findTails(mint); err != nil {
		return nil, []definition.Fault{{Message: err.Error()}}
	}
	faults = s.compileMessages()
	if len(faults) > 0 {
		return nil, faults
	}
	s.contextual = s.readsContext()
	return s, nil
}

// moreFaults reports the faults of rules and messages in a set that has others:
// all are shown at once. When some document could not be read at all, names may
// be missing without fault, and nothing more is said. It mints no lasting ids.
func moreFaults(set *definition.Set, seen []definition.Fault) []definition.Fault {
	for _, f := range seen {
		if f.Doc == "" {
			return nil
		}
	}
	mint := throwAway()
	faults := decide.CheckRules(set, mint)
	s := &Snapshot{Set: set, mint: mint}
	if s.index(mint) != nil {
		return faults
	}
	for _, o := range set.Offers {
		for i, t := range o.Treatments {
			_, bad := content.Compile(t.Content, s.resolve)
			faults = append(faults, messageFaults(bad, o.ID, i)...)
		}
	}
	return faults
}

// messageFaults says where the faults of a treatment's message are.
func messageFaults(bad []definition.Fault, offer string, treatment int) []definition.Fault {
	for i := range bad {
		bad[i].Doc = "offer/" + offer
		bad[i].Field = fmt.Sprintf("treatments[%d].content.%s", treatment, bad[i].Field)
	}
	return bad
}

// index builds the name tables that ingest reads.
func (s *Snapshot) index(mint intern) error {
	m := &minter{mint: mint}
	s.attributes = make(map[string]attributeSchema, len(s.Set.Attributes))
	for _, a := range s.Set.Attributes {
		s.attributes[a.ID] = attributeSchema{m.id(storage.DictAttribute, a.ID), a.Type, a.Values}
	}
	s.events = make(map[string]eventSchema, len(s.Set.Events))
	for _, ev := range s.Set.Events {
		schema := eventSchema{id: m.id(storage.DictEvent, ev.ID)}
		schema.indexed = make(map[string]propertySchema)
		for _, p := range ev.Properties {
			if !p.Indexed {
				continue
			}
			property := propertySchema{m.id(storage.DictProperty, p.Name), p.Type}
			if list, member, ok := strings.Cut(p.Name, "[]."); ok {
				if schema.lists == nil {
					schema.lists = make(map[string][]memberSchema)
				}
				schema.lists[list] = append(schema.lists[list], memberSchema{member, property})
				continue
			}
			schema.indexed[p.Name] = property
		}
		s.events[ev.ID] = schema
	}
	s.indexTags(m)
	s.segments = make(map[string]storage.Name, len(s.Set.Segments))
	for _, seg := range s.Set.Segments {
		if !seg.Static {
			continue // nobody is put into it
		}
		s.segments[seg.ID] = m.id(storage.DictSegment, seg.ID)
	}
	s.context = make(map[string]contextSchema)
	for _, p := range s.Set.Placements {
		for _, c := range p.Context {
			s.context[c.Name] = contextSchema{m.id(storage.DictContext, c.Name), c.Type}
		}
	}
	return m.err
}

// tailFact is what an event of a person's tail is to caps.
type tailFact struct {
	on     definition.CountOn
	custom storage.Name // DictEvent
}

// findTails names the events of a tail that caps count: outcomes of items, and
// declared events, which may be either. Nothing where no cap counts history.
func (s *Snapshot) findTails(mint intern) error {
	if len(s.Plan.History()) == 0 {
		return nil
	}
	m := &minter{mint: mint}
	s.tails = make(map[storage.Name]tailFact)
	for _, name := range []string{
		"impression", "send", "delivered", "click", "accept", "reject", "convert", "dismiss",
	} {
		id := m.id(storage.DictEvent, decide.OutcomeEvent+name)
		s.tails[id] = tailFact{on: outcomeOf([]byte(name))}
	}
	for name, event := range s.counted {
		custom := tailFact{definition.CountCustom, event}
		s.tails[event] = custom
		s.tails[m.id(storage.DictEvent, decide.OutcomeEvent+name)] = custom
	}
	return m.err
}

// minter keeps the first error of a run of interns.
type minter struct {
	mint intern
	err  error
}

func (m *minter) id(kind storage.DictKind, name string) storage.Name {
	id, err := m.mint(kind, name)
	if err != nil && m.err == nil {
		m.err = err
	}
	return id
}

// compileMessages compiles the content of every treatment.
func (s *Snapshot) compileMessages() []definition.Fault {
	var faults []definition.Fault
	s.messages = make([]message, len(s.Plan.Treatments))
	for i := range s.Plan.Treatments {
		def := s.Plan.Treatments[i].Def
		tmpl, bad := content.Compile(def.Content, s.resolve)
		if len(bad) > 0 {
			offer := &s.Plan.Offers[s.Plan.Treatments[i].Offer]
			place := i - int(offer.FirstTreatment)
			faults = append(faults, messageFaults(bad, offer.ID, place)...)
			continue
		}
		s.messages[i] = message{def.Content.Type, tmpl, tmpl.Sources()}
	}
	return faults
}

// resolve names what a template may use: user.id, user.locale, user.NAME for
// declared attributes, context.NAME for declared context keys.
func (s *Snapshot) resolve(path string) (content.Source, bool) {
	space, name, ok := strings.Cut(path, ".")
	if !ok {
		return content.Source{}, false
	}
	switch space {
	case "user":
		switch name {
		case "id":
			return content.Source{Space: content.SpaceUserID, Type: definition.TypeString}, true
		case "locale":
			return content.Source{Space: content.SpaceUserLocale, Type: definition.TypeString}, true
		}
		if a, ok := s.attributes[name]; ok {
			return content.Source{Space: content.SpaceUserAttr, ID: uint32(a.id), Type: a.typ}, true
		}
	case "context":
		if c, ok := s.context[name]; ok {
			return content.Source{Space: content.SpaceContext, ID: uint32(c.id), Type: c.typ}, true
		}
	}
	return content.Source{}, false
}

// findStock marks the offers whose reactions a cap counts, for a stranger gets a row
// with them, and those under totals that a decision takes nothing of: they are looked
// at before such an offer is given. Cost: offers × placements × caps, and nothing
// where no such cap exists.
func (s *Snapshot) findStock() {
	plan := s.Plan
	s.paces = make(paces, len(plan.Caps))
	s.learned = make([]atomic.Pointer[decide.DayShares], len(plan.Caps))
	s.counted = make(map[string]storage.Name)
	for id, event := range s.events {
		if plan.CountsEvent(event.id) {
			s.counted[id] = event.id
		}
	}
	for i := range plan.Caps {
		scope := plan.Caps[i].Scope
		s.scoped = s.scoped || scope == definition.ScopeIdentity || scope == definition.ScopeDevice
	}
	s.stocked = make([]bool, len(plan.Offers))
	s.reactive = make([]bool, len(plan.Offers))
	some := false
	for i := range plan.Caps {
		some = some || plan.Caps[i].CountOn&definition.CountReactions != 0 ||
			plan.Caps[i].Def.Suppress != nil || plan.Caps[i].Scope == definition.ScopeTotal
	}
	if !some {
		return
	}
	var keys []storage.HeldKey
	for o := range plan.Offers {
		for p := range plan.Placements {
			f := decide.Fact{
				Offer: int32(o), Placement: int32(p), Channel: plan.Placements[p].Channel,
				CountOn: definition.CountReactions, Late: true, IdentityKey: 1, DeviceKey: 1,
			}
			keys = plan.AppendReactionKeys(keys[:0], f)
			s.reactive[o] = s.reactive[o] || len(keys) > 0
			keys = plan.AppendUnheldTotals(keys[:0], f)
			s.stocked[o] = s.stocked[o] || len(keys) > 0
		}
	}
}

// shift is by how many seconds the workspace's clock is ahead of UTC at an
// instant: the days of a person's events are counted on it.
func (s *Snapshot) shift(at storage.UnixMsec) int32 {
	_, offset := time.UnixMilli(int64(at)).In(s.Plan.Workspace.Zone).Zone()
	return int32(offset)
}
