package bench

import (
	"fmt"
	"strconv"

	"tact/bench/synth"
	"tact/engine"
	"tact/engine/definition"
)

// eightAtoms counts people by eight conditions on tags and attributes, against
// an AND of as many bitmaps of one bit a person.
func eightAtoms(w *world) (*trial, error) {
	const atoms = 8
	t, err := w.audience(`{"all": [
		{"any": [{"tag": "tag_0"}, {"tag": "tag_10"}, {"tag": "tag_20"}]},
		{"not": {"tag": "tag_30"}}, {"not": {"tag": "tag_40"}},
		{"attribute": "bool_0", "is": true}, {"attribute": "bool_1", "is": false},
		{"attribute": "int_0", "gte": 500}]}`)
	if err != nil {
		return nil, err
	}
	t.figure.Reference = "AND of eight bitmaps of the same size"
	t.figure.Target = &Target{"P7: ≤ 3 × the bandwidth", 3}
	t.reference = NewBandwidth(atoms, w.options.Users).run
	return t, nil
}

// fiveAtoms counts by five conditions, of which one looks at events.
func fiveAtoms(w *world) (*trial, error) {
	t, err := w.audience(`{"all": [
		{"tag": "tag_0"}, {"not": {"tag": "tag_10"}}, {"attribute": "int_0", "gte": 300},
		{"attribute": "bool_0", "is": true},
		{"event": "event_0", "count": {"gte": 2}, "within": "60d"}]}`)
	if err != nil {
		return nil, err
	}
	t.figure.Reference = "AND of five bitmaps of the same size"
	t.reference = NewBandwidth(5, w.options.Users).run
	return t, nil
}

// audience makes the trial of a rule's count: an operation is one count.
func (w *world) audience(rule string) (*trial, error) {
	node, err := definition.NodeFromJSON([]byte(rule), "rule")
	if err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	if err := w.publish(catalogue{offers: 1000, placements: 16}); err != nil {
		return nil, err
	}
	var count uint64
	t := &trial{
		clock: clockProcess, scale: 1e3, warm: 1,
		figure: Figure{Unit: "ms", Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users),
		}},
	}
	t.own = func(n int) (float64, error) {
		for range n {
			people, err := w.engine.CountPeople(w.ctx, &engine.PeopleQuery{Rule: node})
			if err != nil {
				return 0, err
			}
			count = people.Users
		}
		return float64(n), nil
	}
	t.gather = func(f *Figure) { f.Conditions["held for"] = strconv.FormatUint(count, 10) }
	return t, nil
}

// audienceIDs walks over the ids of a tenth of the people; an operation is one id.
func audienceIDs(w *world) (*trial, error) {
	node, err := definition.NodeFromJSON([]byte(`{"tag": "tag_0"}`), "rule")
	if err != nil {
		return nil, err
	}
	if err := w.publish(catalogue{offers: 1000, placements: 16}); err != nil {
		return nil, err
	}
	people, err := w.engine.People(w.ctx, &engine.PeopleQuery{Rule: node})
	if err != nil {
		return nil, err
	}
	bytes := 0
	t := &trial{clock: clockProcess, warm: 1, figure: Figure{
		Unit: "ns", Target: &Target{"P7: ≥ 5M ids/s is ≤ 200 ns an id", 200},
		Conditions: map[string]string{
			"people": strconv.Itoa(w.options.Users), "ids": strconv.FormatUint(people.Count(), 10),
		},
	}}
	t.own = func(n int) (float64, error) {
		ids := 0
		for ids < n {
			before := ids
			err := w.engine.EachPerson(people, engine.PeoplePos{}, func(_ engine.PeoplePos, id []byte) bool {
				bytes += len(id)
				ids++
				return true
			})
			if err != nil {
				return 0, err
			}
			if ids == before {
				return 0, fmt.Errorf("the audience is empty")
			}
		}
		return float64(ids), nil
	}
	return t, nil
}

// resident counts the resident bytes a person.
func resident(w *world) (*trial, error) {
	stats := w.engine.StoreStats()
	b := &stats.Bytes
	users := int64(w.options.Users)
	parts := map[string]int64{
		"rows": b.Rows, "packed parts": b.Slab, "index": b.Index, "identities": b.Identities,
		"bitmaps": b.Bitmaps, "idempotency keys": b.Dedup,
	}
	f := Figure{
		Unit: "B", Target: &Target{"P9: everything ≤ 1,100 B", 1100},
		Conditions: map[string]string{
			"people": strconv.FormatInt(users, 10), "events": strconv.Itoa(w.events),
			"shape": fmt.Sprintf("20 attributes, 20 of %d tags, 2 identities", synth.BenchTags),
		},
	}
	var sum int64
	for name, n := range parts {
		sum += n
		f.Conditions[name+", bytes each"] = strconv.FormatInt(n/users, 10)
	}
	f.Conditions["packed parts in use, bytes each"] = strconv.FormatInt(b.SlabUsed/users, 10)
	each := float64(sum) / float64(users)
	f.Count = &each
	return &trial{figure: f}, nil
}
