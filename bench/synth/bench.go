package synth

import (
	"strconv"

	"tact/engine"
)

// What a row of the Bench shape holds: the conditions of the memory figure.
const (
	BenchTags       = 200 // tags defined
	benchHeld       = 20  // tags held by each
	benchText       = 6   // string attributes
	benchInts       = 8
	benchFloats     = 4
	benchBools      = 2
	benchEventsEach = 30 // events of nine tenths of the people
)

// benchUser fills r.user with a row of fixed size.
func (r *Reader) benchUser(index int) {
	d := r.draw(index, drawBench)
	for i := range benchText {
		r.attribute(benchName("text", i), engine.RawString,
			r.join("value-", string(r.number(d.below(10_000)))))
	}
	for i := range benchInts {
		r.attribute(benchName("int", i), engine.RawNumber, r.number(d.below(1000)))
	}
	for i := range benchFloats {
		r.attribute(benchName("float", i), engine.RawNumber, r.hundredths(1+d.below(99)))
	}
	for i := range benchBools {
		r.user.Attributes = append(r.user.Attributes, engine.NamedValue{
			Name:  r.join(benchName("bool", i)),
			Value: engine.RawValue{Kind: engine.RawBool, Bool: d.chance(500)},
		})
	}
	// One tag of each block of ten: every tag is held by a tenth.
	for block := range benchHeld {
		r.user.Tags = append(r.user.Tags, engine.TagDoc{
			Name: r.join(benchName("tag", block*10+d.below(BenchTags/benchHeld))),
		})
	}
	id := string(r.number(index + 1))
	r.identity("email", r.join("user", id, "@example.com"))
	r.identity("device", r.join("device-", id))
	r.user.Timezone, r.user.HasTimezone = r.join("Asia/Shanghai"), true
}

// benchEvents fills r.events: none for a tenth, 30 for the others.
func (r *Reader) benchEvents(index int) {
	d := r.draw(index, drawBenchEvents)
	if d.chance(100) {
		return
	}
	r.eventTimes(&d, benchEventsEach)
	for i, at := range r.times {
		r.beginEvent(index, i, at, benchName("event", d.below(8)))
		r.moneyProperty("amount", 100+d.below(100_000))
		r.endEvent()
	}
}

func benchName(kind string, i int) string { return kind + "_" + strconv.Itoa(i) }
