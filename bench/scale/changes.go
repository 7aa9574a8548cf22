package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"tact/engine"
	"tact/engine/definition"
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

// changed people have an event or are decided on after a publish, each once.
const changed = 2000

// flip measures an event with the decision after it, and decisions alone, with
// some conditions on events.
func (b *bed) flip(conditions int) error {
	s := shape{offers: 1000, product: true, events: conditions}
	if err := publish(b.e, s.definitions()); err != nil {
		return err
	}
	people := min(changed, b.pool)
	among := fmt.Sprintf(", %d of 1,000 offers with a condition on it", conditions)
	alone, _, err := b.decide("Decide, the event apart"+among, people, 16)
	if err != nil {
		return err
	}
	b.add(alone)
	a := newAsking(people, 16)
	applied := figure{
		Name: "an event, in memory" + among, Unit: "ns", Reference: probeName,
		Conditions: "read, counted, framed; the disk apart",
	}
	after := figure{
		Name: "the decision after an event" + among, Unit: "ns", Reference: probeName,
		Conditions: "judges the page's conditions on that event anew",
	}
	reference := b.probe.turn(b.o.decisions)
	err = b.rounds(func(round int) error {
		batch := b.e.Begin()
		came, err := thread(people, func() error { return b.eventEach(batch, people) })()
		if err != nil {
			return err
		}
		if err := batch.Commit(time.Minute); err != nil {
			return err
		}
		decided, err := thread(people, func() error { return a.each(b.e) })()
		if err != nil {
			return err
		}
		probe, err := reference()
		if err != nil {
			return err
		}
		applied.note(round, came, probe)
		after.note(round, decided, probe)
		return nil
	}, &applied, &after)
	b.add(applied)
	b.add(after)
	return err
}

// eventEach adds one event of each person to a batch.
func (b *bed) eventEach(batch *engine.Batch, people int) error {
	doc := engine.EventDoc{Event: []byte("visit")}
	for i := range people {
		b.events++
		doc.EventID = strconv.AppendInt(append(doc.EventID[:0], 'e'), int64(b.events), 10)
		doc.UserID = userID(doc.UserID[:0], i)
		if r := batch.Event(&doc); r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// flips measures events that flip one bit, and that stir a hundred.
func (b *bed) flips() error {
	if err := b.flip(1); err != nil {
		return err
	}
	return b.flip(100)
}

// publishing measures publishes that add a segment and an offer for it.
func (b *bed) publishing() error {
	if err := b.fresh("of tags and numbers", func(round int) string {
		return fmt.Sprintf("{all: [{tag: t%d}, {attribute: a%d, gte: %d}]}", round, round, 20+round)
	}); err != nil {
		return err
	}
	return b.fresh("with a new window of events", func(round int) string {
		return fmt.Sprintf("{all: [{tag: t%d}, {attribute: a%d, gte: %d}, "+
			"{event: visit, within: %dd}]}", round, round, 20+round, 3+round)
	})
}

// fresh publishes a segment by a rule, a new one each round, with its offer.
func (b *bed) fresh(kind string, rule func(round int) string) error {
	s := shape{offers: 1000, product: true}
	if err := publish(b.e, s.definitions()); err != nil {
		return err
	}
	people := min(20_000, b.pool)
	a := newAsking(people, 1)
	swapped := figure{
		Name: "publish of a segment " + kind + " and its offer", Unit: "ms",
		Reference: "reading the same text from nothing",
		Conditions: fmt.Sprintf("%d users, 1,000 offers: read, checked, compiled twice, "+
			"made durable, swapped: from here on every decision and every count goes by it", b.users),
	}
	counted := figure{
		Name: "count of the new segment " + kind, Unit: "ms",
		Conditions: "the first after the publish",
	}
	first := figure{
		Name: "the first decision of a person after it, " + kind, Unit: "ns", Reference: probeName,
	}
	err := b.rounds(func(round int) error {
		if err := a.each(b.e); err != nil {
			return err
		}
		s.more = fmt.Sprintf("---\nkind: segment\nid: fresh\nrule: %s\n---\nkind: offer\nid: fresh\n"+
			"message_class: marketing\ngroup: g0\nvalue: 1000\n"+
			"eligibility: {segment: fresh}\ntreatments: [{id: t, channel: web, "+
			"placements: [p0], content: {type: json, body: {}}}]\n", rule(round))
		text := s.definitions()
		took, err := process(func() error { return publish(b.e, text) })()
		if err != nil {
			return err
		}
		read, err := process(func() error { return read(text) })()
		if err != nil {
			return err
		}
		swapped.note(round, took, read)
		if took, err = process(b.countFresh)(); err != nil {
			return err
		}
		counted.note(round, took, cost{})
		if took, err = thread(people, func() error { return a.each(b.e) })(); err != nil {
			return err
		}
		if read, err = b.probe.turn(b.o.decisions)(); err != nil {
			return err
		}
		first.note(round, took, read)
		return nil
	}, &swapped, &counted, &first)
	b.add(swapped)
	b.add(counted)
	b.add(first)
	return err
}

// countFresh counts the people of the segment that was published last.
func (b *bed) countFresh() error {
	_, err := b.e.People(context.Background(), &engine.PeopleQuery{Segment: "fresh"})
	return err
}

// read reads definitions as a publish does that knows none of them.
func read(text string) error {
	_, faults := definition.Load([]definition.File{{Name: "scale.yaml", Content: []byte(text)}})
	if len(faults) > 0 {
		return fmt.Errorf("read: %s", faults[0])
	}
	return nil
}
