package decide

import (
	"fmt"
	"slices"
	"strings"

	"tact/engine/definition"
	"tact/engine/rule"
	"tact/storage"
)

// Outcomes are the outcomes that rules may name. Each is kept of a person as an
// event, named OutcomeEvent and the outcome.
func Outcomes() []string {
	return []string{
		"impression", "send", "delivered", "click", "accept", "convert", "reject", "dismiss",
	}
}

// OutcomeEvent begins the name of the event that an outcome is.
const OutcomeEvent = "offer_"

// eventNames adds the events, outcomes and offers that rules may name.
func (c *compiler) eventNames(n *rule.Names) {
	n.Events = make(map[string]rule.Event, len(c.set.Events))
	for _, d := range c.set.Events {
		e := rule.Event{
			ID:         c.intern(&d.Meta, storage.DictEvent, d.ID),
			Properties: make(map[string]rule.Property, len(d.Properties)),
		}
		for _, p := range d.Properties {
			property := rule.Property{
				Type: p.Type, Indexed: p.Indexed, Each: strings.Contains(p.Name, "[]."),
			}
			if p.Indexed {
				property.ID = c.intern(&d.Meta, storage.DictProperty, p.Name)
			}
			e.Properties[p.Name] = property
		}
		n.Events[d.ID] = e
	}
	n.Outcomes = make(map[string]storage.Name)
	for _, o := range Outcomes() {
		n.Outcomes[o] = c.intern(&c.set.Workspace.Meta, storage.DictEvent, OutcomeEvent+o)
	}
	for _, o := range sorted(c.set.Offers, metaOfOffer) {
		n.Offers = append(n.Offers, rule.OfferName{
			ID: o.ID, Name: c.intern(&o.Meta, storage.DictOffer, o.ID), Group: o.Group,
			Labels: o.Labels,
		})
	}
}

// segments parses the rules of dynamic segments, each after those it names.
func (c *compiler) segments() {
	s := segmentOrder{
		compiler: c, docs: map[string]*definition.Segment{}, state: map[string]segmentState{},
	}
	for _, d := range c.set.Segments {
		if d.Rule != nil {
			s.docs[d.ID] = d
		}
	}
	c.plan.Names.Rules = make(map[string]*rule.Tree, len(s.docs))
	for _, d := range c.set.Segments {
		if d.Rule != nil {
			s.visit(d)
		}
	}
}

// segmentOrder walks over segments in the order of what they name.
type segmentOrder struct {
	*compiler
	docs  map[string]*definition.Segment
	state map[string]segmentState
	path  []string // the segments being visited
}

type segmentState uint8

const (
	segmentNew segmentState = iota
	segmentOpen
	segmentDone
)

// maxSegmentPath bounds how deep segments name segments: a rule with its
// segments is no deeper than rule.MaxDepth anyway.
const maxSegmentPath = rule.MaxDepth

// visit parses a segment's rule when those of the segments it names are parsed.
// A segment that comes back to itself is a fault at the place that names it.
func (s *segmentOrder) visit(d *definition.Segment) {
	s.state[d.ID] = segmentOpen
	s.path = append(s.path, d.ID)
	faults := len(s.faults)
	s.walk(d, d.Rule, "rule")
	if len(s.faults) == faults {
		if tree := s.parse(&d.Meta, d.Rule, s.plan.Names, "rule"); tree != nil {
			s.plan.Names.Rules[d.ID] = tree
		}
	}
	if s.plan.Names.Rules[d.ID] == nil {
		s.plan.Names.Rules[d.ID] = rule.True() // its own fault is enough
	}
	s.path = s.path[:len(s.path)-1]
	s.state[d.ID] = segmentDone
}

// walk visits every segment that a rule names.
func (s *segmentOrder) walk(d *definition.Segment, n *definition.Node, field string) {
	for i, item := range n.List {
		s.walk(d, item, fmt.Sprintf("%s[%d]", field, i))
	}
	for _, k := range n.Keys {
		at := field + "." + k.Name
		if k.Name != "segment" || k.Value.Kind != definition.NodeString {
			s.walk(d, k.Value, at)
			continue
		}
		named := s.docs[k.Value.Text]
		if named == nil {
			continue
		}
		message := ""
		switch state := s.state[named.ID]; {
		case state == segmentOpen:
			from := slices.Index(s.path, named.ID)
			message = "the segments name each other: " +
				strings.Join(append(slices.Clone(s.path[from:]), named.ID), " → ")
		case state == segmentNew && len(s.path) == maxSegmentPath:
			message = fmt.Sprintf("segments name segments more than %d deep", maxSegmentPath)
		case state == segmentNew:
			s.visit(named)
		}
		if message != "" {
			s.faults = append(s.faults, definition.Fault{
				Pos: k.Value.Pos, Doc: "segment/" + d.ID, Field: at, Message: message,
			})
		}
	}
}
