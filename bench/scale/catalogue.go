package main

import (
	"fmt"
	"strings"

	"tact/engine"
	"tact/engine/definition"
)

// Sizes of the population and of what rules may say of it.
const (
	attributes = 16
	values     = 50 // of an attribute: an equality holds for one person in fifty
	tags       = 200
)

// shape says what a catalogue looks like.
type shape struct {
	offers     int
	placements int // 1 to 16; 0 = 16
	product    bool
	nothing    bool   // no rule holds for anybody
	almost     bool   // nor here, but half of every rule holds for everybody
	events     int    // offers with a condition on events
	more       string // documents added
}

// definitions writes the catalogue: rules of one to four conditions on at most
// 1,000 distinct ones, 800 equalities of attributes and 200 tags.
func (s shape) definitions() string {
	placements := s.placements
	if placements == 0 {
		placements = 16
	}
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: UTC\n" +
		"---\nkind: event\nid: visit\n---\nkind: event\nid: order\n")
	for i := range attributes {
		fmt.Fprintf(&b, "---\nkind: attribute\nid: a%d\ntype: int\n", i)
	}
	for i := range tags {
		fmt.Fprintf(&b, "---\nkind: tag\nid: t%d\n", i)
	}
	for i := range 16 {
		by := "order, offers: [o0]"
		if s.product {
			by = "product"
		}
		fmt.Fprintf(&b, "---\nkind: placement\nsticky: none\nid: p%d\nchannel: web\npolicy: p%d\n"+
			"---\nkind: decision_policy\nid: p%d\ncandidates: {offers: {groups: [g%d]}}\n"+
			"ranking: {by: %s}\n", i, i, i, i, by)
	}
	for i := range s.offers {
		at := i % placements
		fmt.Fprintf(&b, "---\nkind: offer\nid: o%d\nmessage_class: marketing\ngroup: g%d\n"+
			"value: %d\npropensity: 0.%d\neligibility: %s\ntreatments: [{id: t, channel: web, "+
			"placements: [p%d], content: {type: json, body: {title: offer %d}}}]\n",
			i, at, 1+i*7%97, 1+i%9, s.rule(i), at, i)
	}
	b.WriteString(s.more)
	return b.String()
}

// rule is the condition of offer i: an equality or a tag that one person in ten or
// fifty has, and up to three more that most have.
func (s shape) rule(i int) string {
	if s.almost {
		return fmt.Sprintf("{all: [{attribute: a%d, lt: %d}, {attribute: a%d, gt: %d}]}", i%attributes,
			values+i/attributes%40, (i+1)%attributes, values+i/attributes%40)
	}
	mix := i * 2654435761 % (1 << 31)
	value := mix / 7 % values
	if s.nothing {
		value += values // nobody has it
	}
	parts := []string{fmt.Sprintf("{attribute: a%d, is: %d}", mix%attributes, value)}
	if !s.nothing && i%3 == 0 {
		parts[0] = fmt.Sprintf("{tag: t%d}", mix%tags)
	}
	if every := s.offers / max(s.events, 1); s.events > 0 && i%every == 0 {
		parts = append(parts, fmt.Sprintf("{event: visit, count: {gte: %d}, within: %dd}",
			1+i/every%10, 1+i/every%28))
	}
	for k := range i % 4 {
		parts = append(parts, fmt.Sprintf("{not: {tag: t%d}}", (mix/11+k*37)%tags))
	}
	return "{all: [" + strings.Join(parts, ", ") + "]}"
}

// publish puts definitions in force.
func publish(e *engine.Engine, text string) error {
	files := []definition.File{{Name: "scale.yaml", Content: []byte(text)}}
	_, faults, _, err := e.Publish(files, "scale", "", 0)
	if err == nil && len(faults) > 0 {
		err = fmt.Errorf("%d faults, the first: %s", len(faults), faults[0])
	}
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}
