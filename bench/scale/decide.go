package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"

	"tact/engine"
)

// asking makes requests for people drawn at random. They are dry runs: no record
// is written, so nothing works in the background. Drawing one and writing its id
// takes about 40 ns, which are in the figures.
type asking struct {
	random     *rand.Rand
	people     int // the first so many
	placements []engine.PlacementAsk
	req        engine.DecideRequest
	d          engine.Decision
	given      int // items
}

func newAsking(people, placements int) *asking {
	a := &asking{random: rand.New(rand.NewPCG(5, 5)), people: people}
	for i := range placements {
		a.placements = append(a.placements, engine.PlacementAsk{
			Key: []byte("k"), PlacementID: strconv.AppendInt([]byte("p"), int64(i), 10),
		})
	}
	a.req.Mode = engine.ModeDryRun
	return a
}

// about decides for person i.
func (a *asking) about(e *engine.Engine, i int) error {
	at := 0
	if len(a.placements) > 1 {
		at = a.random.IntN(len(a.placements))
	}
	a.req.UserID = userID(a.req.UserID[:0], i)
	a.req.Placements = a.placements[at : at+1]
	if err := e.Decide(&a.req, &a.d); err != nil {
		return err
	}
	a.given += len(a.d.Items)
	return nil
}

// each decides for everybody once.
func (a *asking) each(e *engine.Engine) error {
	a.given = 0
	for i := range a.people {
		if err := a.about(e, i); err != nil {
			return err
		}
	}
	return nil
}

// decide measures decisions about people whose conditions have been judged, and
// says which share gave an offer.
func (b *bed) decide(name string, people, placements int) (f figure, given float64, err error) {
	a := newAsking(people, placements)
	if err := a.each(b.e); err != nil {
		return f, 0, err
	}
	given = float64(a.given) / float64(people)
	runtime.GC()
	n := b.o.decisions
	own := thread(n, func() error {
		for range n {
			if err := a.about(b.e, a.random.IntN(a.people)); err != nil {
				return err
			}
		}
		return nil
	})
	f = figure{Name: name, Unit: "ns", Reference: probeName}
	return f, given, b.compare(&f, own, b.probe.turn(n))
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
				f, err := b.point(shape{offers: offers, placements: placements, product: product},
					fmt.Sprintf("Decide, %s, %d offers in %s", ranking, offers, spread))
				if err != nil {
					return err
				}
				cold.Points = append(cold.Points, point{offers, f.Value, f.ReferenceValue})
			}
			b.r.Curves = append(b.r.Curves, cold)
			first, last := cold.Points[0], cold.Points[len(cold.Points)-1]
			b.add(figure{
				Name:  fmt.Sprintf("growth from %d to %d offers, %s", first.Offers, last.Offers, cold.Name),
				Value: last.Ns / first.Ns, Unit: "times", Conditions: "cold",
			})
		}
	}
	return nil
}

// point measures one catalogue, hot and cold, and returns the cold figure.
func (b *bed) point(s shape, name string) (cold figure, err error) {
	if err := publish(b.e, s.definitions()); err != nil {
		return cold, err
	}
	hot, _, err := b.decide(name+", hot", 64, s.placements)
	if err != nil {
		return cold, err
	}
	hot.Conditions = "64 people"
	b.add(hot)
	cold, given, err := b.decide(name+", cold", b.pool, s.placements)
	if err != nil {
		return cold, err
	}
	cold.Conditions = fmt.Sprintf("%d people; %.0f %% get an offer", b.pool, given*100)
	b.add(cold)
	return cold, nil
}
