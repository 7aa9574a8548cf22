package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"time"

	"tact/engine"
	"tact/engine/definition"
)

// bed is one run over one store.
type bed struct {
	o     *options
	e     *engine.Engine
	r     *report
	probe *probe
}

// loadChunk people are committed together.
const loadChunk = 2000

// load puts the people into the store: 16 attributes, 20 of 200 tags.
func (b *bed) load() error {
	random := rand.New(rand.NewPCG(1, 1))
	names := make([][]byte, attributes)
	for i := range names {
		names[i] = fmt.Appendf(nil, "a%d", i)
	}
	began := time.Now()
	for from := 0; from < b.o.users; from += loadChunk {
		batch := b.e.Begin()
		for i := from; i < min(from+loadChunk, b.o.users); i++ {
			doc := engine.UserDoc{UserID: userID(nil, i)}
			for a := range attributes {
				doc.Attributes = append(doc.Attributes, engine.NamedValue{
					Name: names[a], Value: engine.RawValue{
						Kind: engine.RawNumber,
						Text: strconv.AppendInt(nil, int64(random.IntN(values)), 10),
					},
				})
			}
			for range held {
				doc.Tags = append(doc.Tags, engine.TagDoc{
					Name: strconv.AppendInt([]byte("t"), int64(random.IntN(tags)), 10),
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
	b.r.add(figure{
		Name: "load, durable", Value: float64(b.o.users) / time.Since(began).Seconds(), Unit: "users/s",
		Conditions: "wall time, one goroutine",
	})
	s := b.e.StoreStats().Bytes
	per := func(n int64) float64 { return float64(n) / float64(b.o.users) }
	b.r.add(figure{
		Name: "resident bytes a user", Unit: "B",
		Value: per(s.Rows + s.Pages + s.Slab + s.Index + s.Identities + s.Bitmaps + s.Dedup),
		Conditions: fmt.Sprintf("rows %.0f, packed parts %.0f, index %.0f, tag bitmaps %.0f; "+
			"%d numbers, about %d tags, no events", per(s.Rows), per(s.Slab), per(s.Index),
			per(s.Bitmaps), attributes, held),
	})
	b.r.add(figure{
		Name: "resident bytes of a tag's bitmap, a holder", Unit: "B",
		Value:      per(s.Bitmaps) / held,
		Conditions: "a tenth of all hold each of 200 tags; estimated by the store",
	})
	return nil
}

// people counts a rule of five conditions and streams the ids of its people.
func (b *bed) people() error {
	tag := func(i int) *definition.Node { return mapping("tag", text(fmt.Sprint("t", i))) }
	rule := mapping("all", &definition.Node{Kind: definition.NodeList, List: []*definition.Node{
		mapping("any", &definition.Node{Kind: definition.NodeList, List: []*definition.Node{
			tag(1), tag(2), tag(3),
		}}), mapping("not", tag(4)), mapping("not", tag(5)),
	}})
	var took []float64
	var found *engine.People
	for range b.o.rounds {
		began := time.Now()
		p, err := b.e.People(context.Background(), &engine.PeopleQuery{Rule: rule})
		if err != nil {
			return err
		}
		took, found = append(took, float64(time.Since(began).Microseconds())/1000), p
	}
	slices.Sort(took)
	b.r.add(figure{
		Name: "count of a rule of five tags", Value: took[0], Most: took[len(took)-1], Unit: "ms",
		Conditions: fmt.Sprintf("wall time; %d of %d people", found.Count(), b.o.users),
	})
	n := 0
	ns, err := timed(1, func() error {
		return b.e.EachPerson(found, engine.PeoplePos{}, func(engine.PeoplePos, []byte) bool {
			n++
			return true
		})
	})
	if err != nil || n == 0 {
		return errors.Join(err, errors.New("nobody was streamed"))
	}
	b.r.add(figure{
		Name: "ids streamed", Value: float64(n) / ns * 1000, Unit: "M/s",
		Conditions: "one thread, in process",
	})
	return nil
}

func text(s string) *definition.Node {
	return &definition.Node{Kind: definition.NodeString, Text: s}
}

func mapping(key string, value *definition.Node) *definition.Node {
	return &definition.Node{
		Kind: definition.NodeMap, Keys: []definition.Key{{Name: key, Value: value}},
	}
}

// requests asks for people drawn at random, of the first `people`, on one of
// `placements`. They are dry runs: no record is written, so nothing works in the
// background.
func (b *bed) requests(n, people, placements int) []engine.DecideRequest {
	random := rand.New(rand.NewPCG(5, 5))
	out := make([]engine.DecideRequest, n)
	step := max(b.o.users/people, 1)
	for i := range out {
		out[i].UserID = userID(nil, random.IntN(people)*step)
		out[i].Mode = engine.ModeDryRun
		out[i].Placements = []engine.PlacementAsk{{
			Key:         []byte("k"),
			PlacementID: strconv.AppendInt([]byte("p"), int64(random.IntN(placements)), 10),
		}}
	}
	return out
}

// decide measures decisions and says how many gave an offer.
func (b *bed) decide(set []engine.DecideRequest) (f figure, given float64, err error) {
	var d engine.Decision
	n := 0
	for i := range set { // judges the conditions of everybody once
		if err := b.e.Decide(&set[i], &d); err != nil {
			return f, 0, err
		}
		n += len(d.Items)
	}
	runtime.GC()
	at := 0
	f.Unit = "ns"
	f.Value, f.Most, f.Probe, err = b.inTurns(b.o.decisions, func() error {
		for range b.o.decisions {
			if at++; at == len(set) {
				at = 0
			}
			if err := b.e.Decide(&set[at], &d); err != nil {
				return err
			}
		}
		return nil
	})
	return f, float64(n) / float64(len(set)), err
}

// curves measures decisions at rising numbers of live offers.
func (b *bed) curves() error {
	sizes := []int{10, 100, 1000, 10_000}
	if b.o.quick {
		sizes = sizes[:3]
	}
	for _, placements := range []int{16, 1} {
		for _, product := range []bool{false, true} {
			ranking, spread := "fixed order", "16 placements"
			if product {
				ranking = "product"
			}
			if placements == 1 {
				spread = "one placement"
			}
			cold := curve{Name: ranking + ", " + spread}
			for _, offers := range sizes {
				ns, err := b.point(shape{offers: offers, placements: placements, product: product},
					fmt.Sprintf("Decide, %s, %d offers in %s", ranking, offers, spread))
				if err != nil {
					return err
				}
				cold.Points = append(cold.Points, point{offers, ns})
			}
			b.r.Curves = append(b.r.Curves, cold)
			first, last := cold.Points[0], cold.Points[len(cold.Points)-1]
			b.r.add(figure{
				Name:  fmt.Sprintf("growth from %d to %d offers, %s", first.Offers, last.Offers, cold.Name),
				Value: last.Ns / first.Ns, Unit: "times", Conditions: "cold",
			})
		}
	}
	return nil
}

// point measures one catalogue, hot and cold, and returns the cold figure.
func (b *bed) point(s shape, name string) (float64, error) {
	if err := publish(b.e, s.definitions()); err != nil {
		return 0, err
	}
	hot, _, err := b.decide(b.requests(64, 64, s.placements))
	if err != nil {
		return 0, err
	}
	hot.Name = name + ", hot"
	hot.Conditions = "64 people"
	b.r.add(hot)
	cold, given, err := b.decide(b.requests(b.o.pool, b.o.pool, s.placements))
	if err != nil {
		return 0, err
	}
	cold.Name = name + ", cold"
	cold.Conditions = fmt.Sprintf("%d people; %.0f %% get an offer", b.o.pool, given*100)
	b.r.add(cold)
	return cold.Value, nil
}
