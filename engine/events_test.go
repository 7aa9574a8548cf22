package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tact/storage"
)

// Events yields what was received, once each, as a plain list of it is filtered:
// from frames, from the event log and from both.
func TestEventsEqualAPlainList(t *testing.T) {
	type entry struct {
		user, name, text string
		at               storage.UnixMsec
	}
	for seed := range uint64(4) {
		b := newBed(t, testDefinitions)
		random := rand.New(rand.NewPCG(seed, 8))
		var all []entry
		users, names := []string{"a", "b", "用户"}, []string{"visit", "order", "下单"}
		for i := range 60 {
			user, name := users[random.IntN(3)], names[random.IntN(3)]
			now := b.e.clock.Now()
			doc := EventDoc{
				EventID: fmt.Appendf(nil, "e%d", i), UserID: []byte(user), Event: []byte(name),
				Raw: fmt.Appendf(nil, `{"n":%d}`, i), BodyHash: 1,
				OccurredAt: now - storage.UnixMsec(random.IntN(100_000)),
			}
			if r := b.apply(func(x *Batch) LineResult { return x.Event(&doc) }); r.Err != nil {
				t.Fatal(r.Err)
			}
			all = append(all, entry{user, name, fmt.Sprintf("e%d %d %s", i, doc.OccurredAt, doc.Raw), now})
			if random.IntN(4) > 0 {
				b.m.pass(time.Duration(random.IntN(5_000)) * time.Millisecond)
			}
			if random.IntN(20) == 0 {
				if err := b.e.store.FlushLog(); err != nil {
					t.Fatal(err)
				}
			}
			if random.IntN(30) == 0 {
				b.reopen()
			}
		}
		for range 40 {
			var q EventsQuery
			if random.IntN(2) == 0 {
				q.From = int64(all[random.IntN(len(all))].at)
			}
			if random.IntN(2) == 0 {
				q.Until = int64(all[random.IntN(len(all))].at) + 1
			}
			if q.From != 0 && q.Until != 0 && q.From >= q.Until {
				continue
			}
			if random.IntN(2) == 0 {
				q.Event = []byte(names[random.IntN(3)])
			}
			if random.IntN(2) == 0 {
				q.UserID = []byte(users[random.IntN(3)])
			}
			want := map[string][]string{} // by user, in order
			for _, x := range all {
				if int64(x.at) >= q.From && (q.Until == 0 || int64(x.at) < q.Until) &&
					(q.Event == nil || string(q.Event) == x.name) &&
					(q.UserID == nil || string(q.UserID) == x.user) {
					want[x.user] = append(want[x.user], x.name+" "+x.text)
				}
			}
			got := map[string][]string{}
			events, err := b.e.Events(&q)
			if err != nil {
				t.Fatal(err)
			}
			for v, err := range events {
				if err != nil {
					t.Fatal(err)
				}
				got[string(v.Person)] = append(got[string(v.Person)],
					fmt.Sprintf("%s %s %d %s", v.Event, v.EventID, v.Occurred, v.Raw))
			}
			for _, user := range users {
				if !slices.Equal(got[user], want[user]) {
					t.Fatalf("seed %d, %+v, %s:\n%q\nwant\n%q", seed, q, user, got[user], want[user])
				}
			}
		}
	}
}

// What cannot be read is named; who stops reading ends the scan.
func TestEventsRefusesAndStops(t *testing.T) {
	b := newBed(t, testDefinitions)
	for i := range 3 {
		doc := EventDoc{UserID: []byte("a"), Event: []byte("visit"), EventID: fmt.Append(nil, i)}
		if r := b.apply(func(x *Batch) LineResult { return x.Event(&doc) }); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	f := func(q EventsQuery, code, field string) {
		t.Helper()
		_, err := b.e.Events(&q)
		var p *Problem
		if !errors.As(err, &p) || p.Code != code || p.Field != field {
			t.Errorf("%+v: %v, want %s of %s", q, err, code, field)
		}
	}
	f(EventsQuery{Event: []byte("never")}, "unknown_event", "event")
	f(EventsQuery{Event: []byte{}}, "unknown_event", "event")
	f(EventsQuery{UserID: []byte("nobody")}, "user_not_found", "user_id")
	f(EventsQuery{UserID: []byte{}}, "bad_id", "user_id")
	f(EventsQuery{From: 5, Until: 5}, "bad_range", "until")
	events, err := b.e.Events(&EventsQuery{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range events {
		if n++; n == 2 {
			break
		}
	}
	if err := b.e.Close(); err != nil { // nothing is left open
		t.Error(err)
	}
	for _, err := range events {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("of a closed store: %v", err)
		}
	}
	b.e = nil
}
