package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tact/storage"
)

// benchDefinitions is a catalogue of n offers over 16 placements with rules on
// three attributes, of which no decision uses a cap.
func benchDefinitions(n int) string {
	var b strings.Builder
	b.WriteString("kind: workspace\nid: default\ntimezone: UTC\n")
	for i := range 8 {
		fmt.Fprintf(&b, "---\nkind: attribute\nid: a%d\ntype: int\n", i)
	}
	for i := range n {
		fmt.Fprintf(&b, "---\nkind: offer\nid: o%d\nmessage_class: marketing\ngroup: g%d\n"+
			"value: %d\npropensity: 0.5\n"+
			"eligibility: {all: [{attribute: a%d, gte: %d}, {attribute: a%d, lt: %d}]}\n"+
			"treatments: [{id: t, channel: web, placements: [p%d], "+
			"content: {type: json, body: {title: offer %d}}}]\n",
			i, i%16, 1+i%97, i%8, i%30, (i+3)%8, 50+i%30, i%16, i)
	}
	for i := range 16 {
		fmt.Fprintf(&b, "---\nkind: placement\nsticky: none\nid: p%d\nchannel: web\npolicy: p%d\n"+
			"---\nkind: decision_policy\nid: p%d\ncandidates: {offers: {groups: [g%d]}}\n"+
			"ranking: {by: product}\n", i, i, i, i)
	}
	return b.String()
}

func benchBed(b testing.TB, users, offers int) *Engine {
	return benchBedWith(b, users, benchDefinitions(offers), storage.Options{})
}

func benchBedWith(b testing.TB, users int, definitions string, o storage.Options) *Engine {
	b.Helper()
	o.MinFree, o.Ballast = 1, 1<<20
	e, err := Open(b.TempDir(), Options{Storage: o})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	_, faults, _, err := e.Publish(testFiles(definitions), "bench", "", 0)
	if err != nil || len(faults) > 0 {
		b.Fatal(err, faults)
	}
	batch := e.Begin()
	for i := range users {
		doc := UserDoc{UserID: fmt.Appendf(nil, "user-%d", i)}
		for a := range 8 {
			doc.Attributes = append(doc.Attributes, NamedValue{
				fmt.Appendf(nil, "a%d", a),
				RawValue{Kind: RawNumber, Text: fmt.Appendf(nil, "%d", (i*7+a*13)%100)},
			})
		}
		if r := batch.User(&doc); r.Err != nil {
			b.Fatal(r.Err)
		}
	}
	if err := batch.Commit(time.Minute); err != nil {
		b.Fatal(err)
	}
	return e
}

// BenchmarkDecide: hot asks 64 people again and again, cold a random one.
func BenchmarkDecide(b *testing.B) {
	e := benchBed(b, 200_000, 1000)
	var out Decision
	var id []byte
	req := &DecideRequest{Placements: []PlacementAsk{{Key: []byte("k")}}}
	ask := func(i int) *DecideRequest {
		id = fmt.Appendf(id[:0], "user-%d", i)
		req.UserID = id
		req.Placements[0].PlacementID = []byte("p3")
		return req
	}
	for i := range 200_000 {
		if err := e.Decide(ask(i), &out); err != nil {
			b.Fatal(err)
		}
	}
	f := func(name string, spread int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			rng := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				if err := e.Decide(ask(rng.IntN(spread)), &out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("hot", 64)
	f("cold", 200_000)
}

// BenchmarkGate is what bench/gate compares between two commits: decisions without
// what is written behind them, in many short windows, of which the least counts.
func BenchmarkGate(b *testing.B) {
	e := benchBed(b, 20_000, 1000)
	var out Decision
	var id []byte
	req := &DecideRequest{
		Mode:       ModeDryRun,
		Placements: []PlacementAsk{{Key: []byte("k"), PlacementID: []byte("p3")}},
	}
	ask := func(i int) {
		id = fmt.Appendf(id[:0], "user-%d", i)
		req.UserID = id
		if err := e.Decide(req, &out); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		spread int
	}{{"hot", 64}, {"spread", 20_000}} {
		for i := range c.spread {
			ask(i)
		}
		for window := range 20 {
			b.Run(fmt.Sprintf("%s/%d", c.name, window), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, uint64(window)))
				for b.Loop() {
					ask(rng.IntN(c.spread))
				}
			})
		}
	}
	gateUse(b)
}
