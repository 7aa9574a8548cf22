package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"tact/bench"
	"tact/engine"
	"tact/engine/definition"
)

// bed is the store that is measured, at one number of people.
type bed struct {
	o      *options
	e      *engine.Engine
	r      *run
	users  int // in the store
	pool   int // of them decisions are about
	probe  *probe
	random *rand.Rand // of what people have
	loaded int
	events int // ids given to events so far
	marked int // tags that tag made so far
}

// loadChunk people are committed together.
const loadChunk = 2000

// load puts people into the store until there are enough: 16 numbers, and about
// as many of 200 tags as asked for.
func (b *bed) load() error {
	if b.random == nil {
		b.random = rand.New(rand.NewPCG(1, 1))
	}
	names := make([][]byte, attributes)
	for i := range names {
		names[i] = fmt.Appendf(nil, "a%d", i)
	}
	began, first := time.Now(), b.loaded
	for ; b.loaded < b.users; b.loaded += loadChunk {
		batch := b.e.Begin()
		for i := b.loaded; i < min(b.loaded+loadChunk, b.users); i++ {
			doc := engine.UserDoc{UserID: userID(nil, i)}
			for a := range attributes {
				doc.Attributes = append(doc.Attributes, engine.NamedValue{
					Name: names[a], Value: engine.RawValue{
						Kind: engine.RawNumber,
						Text: strconv.AppendInt(nil, int64(b.random.IntN(values)), 10),
					},
				})
			}
			for range b.o.held {
				doc.Tags = append(doc.Tags, engine.TagDoc{
					Name: strconv.AppendInt([]byte("t"), int64(b.random.IntN(tags)), 10),
				})
			}
			if r := batch.User(&doc); r.Err != nil {
				return fmt.Errorf("load: %w", r.Err)
			}
		}
		if err := batch.Commit(time.Minute); err != nil {
			return fmt.Errorf("load: %w", err)
		}
	}
	b.loaded = b.users
	b.add(figure{
		Name: "load, durable", Value: float64(b.users-first) / time.Since(began).Seconds(),
		Unit: "users/s", Conditions: fmt.Sprintf("wall time, one goroutine; %d people", b.users-first),
	})
	return nil
}

// memory counts the resident bytes of a person, by part.
func (b *bed) memory() error {
	s := b.e.StoreStats().Bytes
	per := func(n int64) float64 { return float64(n) / float64(b.users) }
	b.add(figure{
		Name: "resident bytes a user", Unit: "B",
		Value: per(s.Sum()),
		Conditions: fmt.Sprintf("rows %.0f, packed parts %.0f, index %.0f, tag bitmaps %.0f, pages of "+
			"bits %.0f, indexes of values %.0f; %d numbers, about %d of %d tags, no events",
			per(s.Rows), per(s.Slab), per(s.Index), per(s.Bitmaps), per(s.Pages), per(s.Population),
			attributes, b.o.held, tags),
	})
	return nil
}

// tagged people get marks tags more: enough for an average over the sizes that
// packed profiles come in.
const (
	tagged = 100_000
	marks  = 8
)

// tag measures what one tag costs of memory.
func (b *bed) tag() error {
	doc := engine.UserDoc{}
	for range marks {
		b.marked++
		doc.Tags = append(doc.Tags, engine.TagDoc{Name: fmt.Appendf(nil, "mark%d", b.marked)})
	}
	n := min(tagged, b.users)
	before := b.e.StoreStats().Bytes
	for from := 0; from < n; from += loadChunk {
		batch := b.e.Begin()
		for i := from; i < min(from+loadChunk, n); i++ {
			doc.UserID = userID(doc.UserID[:0], i)
			if r := batch.User(&doc); r.Err != nil {
				return fmt.Errorf("tag: %w", r.Err)
			}
		}
		if err := batch.Commit(time.Minute); err != nil {
			return fmt.Errorf("tag: %w", err)
		}
	}
	after := b.e.StoreStats().Bytes
	packed := float64(after.SlabUsed-before.SlabUsed) / float64(n*marks)
	sets := float64(after.Bitmaps-before.Bitmaps) / float64(n*marks)
	b.add(figure{
		Name: "resident bytes of one tag more, a holder", Unit: "B", Value: packed + sets,
		Conditions: fmt.Sprintf("%.1f in the packed profile (value, source, time, history), %.1f in the "+
			"tag's set of people; the mean of %d tags of %d people", packed, sets, marks, n),
	})
	return nil
}

// process is the memory of the whole process, after everything was measured.
func (b *bed) process() error {
	if err := b.memory(); err != nil {
		return err
	}
	now, most := resident()
	other := int64(len(b.probe.rows))*192 + int64(len(b.probe.buckets))*64
	stats := b.e.StoreStats()
	counted := float64(stats.Bytes.Sum())
	b.add(figure{
		Name: "resident memory of the process", Unit: "GiB", Value: float64(now) / (1 << 30),
		Most: float64(most) / (1 << 30), Reference: "what the store counts as resident",
		ReferenceValue: counted / (1 << 30),
		Ratio:          float64(now-other) / counted,
		Conditions: fmt.Sprintf("VmRSS after a collection, VmHWM the greatest of the run so far; %.2f "+
			"GiB are the reference of decisions, left out of the ratio; GOGC %d",
			float64(other)/(1<<30), b.o.gc),
	})
	return nil
}

// people counts a rule of five conditions and streams the ids of its people.
func (b *bed) people() error {
	if b.probe == nil || len(b.probe.rows) < min(b.users, probeRows) {
		b.probe = newProbe(b.users)
	}
	rule, err := definition.NodeFromJSON([]byte(`{"all": [
		{"any": [{"tag": "t1"}, {"tag": "t2"}, {"tag": "t3"}]}, {"not": {"tag": "t4"}},
		{"attribute": "a1", "lt": 25}]}`), "rule")
	if err != nil {
		return fmt.Errorf("rule: %w", err)
	}
	query := &engine.PeopleQuery{Rule: rule}
	var counted *engine.PeopleCount
	count := process(func() (err error) {
		counted, err = b.e.CountPeople(context.Background(), query)
		return err
	})
	first, err := count()
	if err != nil {
		return err
	}
	b.add(figure{
		Name: "first count of a rule of five conditions", Value: first.cpu, Most: first.cpu,
		Wall: first.wall, WallMost: first.wall, Unit: "ms",
		Conditions: "builds the index of the numbers where it is not there yet: in the first run",
	})
	plain := bench.NewBandwidth(5, b.users)
	f := figure{
		Name: "count of a rule of five conditions", Unit: "ms",
		Reference: "an AND of five plain bitmaps of the same size",
	}
	if err := b.compare(&f, count, process(func() error { plain.Run(1); return nil })); err != nil {
		return err
	}
	f.Conditions = fmt.Sprintf("four tags and a comparison of numbers; it holds for %d of %d",
		counted.Users, b.users)
	b.add(f)
	found, err := b.e.People(context.Background(), query)
	if err != nil {
		return err
	}
	return b.stream(found)
}

// stream reads the ids of people.
func (b *bed) stream(found *engine.People) error {
	n := int(found.Count())
	if n == 0 {
		return errors.New("nobody was found")
	}
	bytes := 0
	own := thread(n, func() error {
		return b.e.EachPerson(found, engine.PeoplePos{}, func(_ engine.PeoplePos, id []byte) bool {
			bytes += len(id)
			return true
		})
	})
	f := figure{
		Name: "an id streamed", Unit: "ns",
		Reference: "a copy of 16 bytes of as many rows, front to back",
	}
	if err := b.compare(&f, own, b.probe.copies(n, max(b.users/n, 1))); err != nil {
		return err
	}
	f.Conditions = fmt.Sprintf("one thread, in process: %.1f M/s", 1000/f.Value)
	b.add(f)
	return nil
}
