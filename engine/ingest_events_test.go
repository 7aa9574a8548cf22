package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Events does to a store, and answers, what Event does line by line: with people who are
// known, who are not, who are named twice in a block or by an identity, with events sent
// again, sent with another body, and refused.
func TestEventsEqualEventByEvent(t *testing.T) {
	const seeds, lines = 6, 400
	for seed := range uint64(seeds) {
		one, many := newBed(t, testDefinitions), newBed(t, testDefinitions)
		random := rand.New(rand.NewPCG(seed, 77))
		for range 3 {
			docs := drawEvents(random, lines)
			want, got := make([]LineResult, lines), make([]LineResult, lines)
			b := one.e.Begin()
			for i := range docs {
				want[i] = b.Event(&docs[i])
			}
			commit(t, b)
			b = many.e.Begin()
			for from, n := 0, 0; from < lines; from += n {
				n = min(1+random.IntN(200), lines-from)
				b.Events(docs[from:from+n], got[from:from+n])
			}
			commit(t, b)
			for i := range docs {
				if got[i].Status != want[i].Status || got[i].Flags != want[i].Flags ||
					fmt.Sprint(got[i].Err) != fmt.Sprint(want[i].Err) {
					t.Fatalf("seed %d, line %d: %+v, want %+v", seed, i, got[i], want[i])
				}
			}
			if a, b := eventsOf(one), eventsOf(many); !maps.EqualFunc(a, b, slices.Equal[[]string]) {
				t.Fatalf("seed %d:\n%q\nwant\n%q", seed, b, a)
			}
			if random.IntN(2) == 0 { // what is read next lies on the disk, sealed
				one.reopen()
				many.reopen()
			}
		}
	}
}

func commit(t *testing.T, b *Batch) {
	t.Helper()
	if err := b.Commit(time.Minute); err != nil {
		t.Fatal(err)
	}
}

// drawEvents draws events of few people, so that they meet in one block.
func drawEvents(random *rand.Rand, n int) []EventDoc {
	docs := make([]EventDoc, n)
	for i := range docs {
		d := &docs[i]
		*d = EventDoc{
			EventID:  fmt.Appendf(nil, "e%d", random.IntN(3*n)),
			UserID:   fmt.Appendf(nil, "u%d", random.IntN(40)),
			Event:    []byte([]string{"visit", "order", "下单"}[random.IntN(3)]),
			Raw:      []byte(`{"n":1}`),
			BodyHash: uint32(random.IntN(20) / 19),
		}
		switch random.IntN(25) {
		case 0:
			d.UserID = nil // nobody
		case 1:
			d.UserID, d.Identities = nil, []IdentityRef{{
				Type: []byte("email"), Value: fmt.Appendf(nil, "%d@x", random.IntN(5)),
			}}
		case 2:
			d.UserID = make([]byte, maxUserID+1)
		case 3:
			d.EventID = nil
		}
	}
	return docs
}

// eventsOf lists the events of each person, in the order in which they were received.
func eventsOf(b *bed) map[string][]string {
	b.t.Helper()
	events, err := b.e.Events(&EventsQuery{})
	if err != nil {
		b.t.Fatal(err)
	}
	list := map[string][]string{}
	for v, err := range events {
		if err != nil {
			b.t.Fatal(err)
		}
		list[string(v.Person)] = append(list[string(v.Person)], fmt.Sprintf("%s %s", v.Event, v.EventID))
	}
	return list
}
