package main

import (
	"fmt"
	"strconv"
	"time"

	"tact/engine"
)

// nothing measures the worst case: no offer of one placement holds.
func (b *bed) nothing() error {
	offers := 10_000
	if b.o.quick {
		offers = 1000
	}
	s := shape{offers: offers, placements: 1, product: true, nothing: true}
	name := fmt.Sprintf("Decide, nothing holds, %d offers in one placement", offers)
	if _, err := b.point(s, name); err != nil {
		return err
	}
	s.almost = true
	_, err := b.point(s, name+", half of each rule does")
	return err
}

// events measures an event with the decision after it, and decisions alone.
func (b *bed) events() error {
	s := shape{offers: 1000, product: true, events: true}
	if err := publish(b.e, s.definitions()); err != nil {
		return err
	}
	people := min(2000, b.o.pool)
	set := b.requests(people, people, 16)
	var d engine.Decision
	alone, _, err := b.decide(set)
	if err != nil {
		return err
	}
	alone.Name = "Decide, 100 conditions on events among 1,000 offers"
	b.r.add(alone)
	n := 0
	var applied, after []float64
	for range b.o.rounds {
		batch := b.e.Begin()
		ns, err := timed(len(set), func() error {
			for i := range set {
				n++
				r := batch.Event(&engine.EventDoc{
					EventID: strconv.AppendInt([]byte("e"), int64(n), 10), UserID: set[i].UserID,
					Event: []byte("visit"),
				})
				if r.Err != nil {
					return r.Err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		applied = append(applied, ns)
		if err := batch.Commit(time.Minute); err != nil {
			return err
		}
		ns, err = timed(len(set), func() error {
			for i := range set {
				if err := b.e.Decide(&set[i], &d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		after = append(after, ns)
	}
	b.r.add(spread("an event, in memory", applied, "ns", "read, counted, framed; the disk apart"))
	b.r.add(spread("the decision after an event", after, "ns",
		"judges the page's conditions on that event anew"))
	return nil
}

// publishing measures a publish that adds a segment and an offer for it.
func (b *bed) publishing() error {
	s := shape{offers: 1000, product: true}
	if err := publish(b.e, s.definitions()); err != nil {
		return err
	}
	people := min(20_000, b.o.pool)
	set := b.requests(people, people, 1)
	var d engine.Decision
	var took, first []float64
	for round := range b.o.rounds {
		for i := range set {
			if err := b.e.Decide(&set[i], &d); err != nil {
				return err
			}
		}
		s.more = fmt.Sprintf("---\nkind: segment\nid: fresh\nrule: {all: [{tag: t%d}, {attribute: a%d, "+
			"gte: %d}, {event: visit, within: %dd}]}\n---\nkind: offer\nid: fresh\n"+
			"message_class: marketing\ngroup: g0\nvalue: 1000\n"+
			"eligibility: {segment: fresh}\ntreatments: [{id: t, channel: web, "+
			"placements: [p0], content: {type: json, body: {}}}]\n", round, round, 20+round, 3+round)
		began := time.Now()
		if err := publish(b.e, s.definitions()); err != nil {
			return err
		}
		took = append(took, float64(time.Since(began).Milliseconds()))
		ns, err := timed(len(set), func() error {
			for i := range set {
				if err := b.e.Decide(&set[i], &d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		first = append(first, ns)
	}
	b.r.add(spread("publish of a new segment and its offer, live for all", took, "ms",
		fmt.Sprintf("wall time; %d users, 1,000 offers: read, checked twice, compiled, made durable, "+
			"swapped; people are judged when they are next decided on", b.o.users)))
	b.r.add(spread("the first decision of a person after it", first, "ns", "three conditions are new"))
	return nil
}

// spread is a figure of rounds: the least, and the greatest beside it.
func spread(name string, rounds []float64, unit, conditions string) figure {
	f := figure{Name: name, Unit: unit, Value: rounds[0], Most: rounds[0], Conditions: conditions}
	for _, v := range rounds {
		f.Value, f.Most = min(f.Value, v), max(f.Most, v)
	}
	return f
}
