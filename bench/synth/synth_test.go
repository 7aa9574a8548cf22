package synth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/zeebo/xxh3"

	"tact/engine/definition"
)

// checksum hashes everything that is drawn for the first n people.
func checksum(o Options, n int) string {
	p := New(o)
	r := p.Reader()
	var h xxh3.Hasher
	var line []byte
	for i := range n {
		line = AppendUser(line[:0], r.User(i))
		for _, e := range r.Events(i) {
			line = AppendEvent(append(line, '\n'), &e)
		}
		h.Write(append(line, '\n', p.InSegments(i), '\n'))
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// A seed gives the same bytes for ever. A checksum that changes means that
// every figure measured before was of other people.
func TestGolden(t *testing.T) {
	f := func(o Options, want string) {
		t.Helper()
		if got := checksum(o, 2000); got != want {
			t.Errorf("%+v: checksum %s, want %s", o, got, want)
		}
	}
	f(Options{}, "38204805f3d186c0")
	f(Options{Seed: 7}, "80e94cef8c4a7be8")
	f(Options{Shape: Bench}, "caf60fff72314f01")
}

// A person depends on seed and index alone.
func TestPersonDoesNotDependOnReadingOrder(t *testing.T) {
	for _, shape := range []Shape{Story, Bench} {
		a, b := New(Options{Shape: shape}).Reader(), New(Options{Shape: shape, Users: 10}).Reader()
		for _, i := range []int{9, 3, 3, 0, 7} {
			if i > 0 {
				b.User(i - 1)
				b.Events(i - 1)
			}
			one, other := AppendUser(nil, a.User(i)), AppendUser(nil, b.User(i))
			if !bytes.Equal(one, other) {
				t.Errorf("person %d:\n%s\n%s", i, one, other)
			}
			if x, y := len(a.Events(i)), len(b.Events(i)); x != y {
				t.Errorf("person %d: %d events, then %d", i, x, y)
			}
		}
	}
}

// What the line writers make is JSON that says what the document says.
func TestLinesAreJSON(t *testing.T) {
	for _, shape := range []Shape{Story, Bench} {
		r := New(Options{Shape: shape}).Reader()
		for i := range 500 {
			var user struct {
				UserID     string `json:"user_id"`
				Attributes map[string]any
			}
			u := r.User(i)
			if err := json.Unmarshal(AppendUser(nil, u), &user); err != nil {
				t.Fatal(err)
			}
			if user.UserID != string(u.UserID) || len(user.Attributes) != len(u.Attributes) {
				t.Errorf("person %d reads back as %+v", i, user)
			}
			for _, e := range r.Events(i) {
				if line := AppendEvent(nil, &e); !json.Valid(line) {
					t.Fatalf("%s", line)
				}
			}
		}
	}
}

// Events lie in (End-Days, End], oldest first, each with an id of its own.
func TestEventTimes(t *testing.T) {
	p := New(Options{Days: 90})
	r := p.Reader()
	seen := map[string]bool{}
	for i := range 5000 {
		last := int64(p.o.End) - 90*dayMs
		for _, e := range r.Events(i) {
			at := int64(e.OccurredAt)
			if at < last || at > int64(p.o.End) {
				t.Fatalf("%s at %d: after %d and until %d expected", e.EventID, at, last, p.o.End)
			}
			last = at
			if seen[string(e.EventID)] {
				t.Fatalf("%s stands twice", e.EventID)
			}
			seen[string(e.EventID)] = true
		}
	}
}

// The mean number of events is that of the activity levels: their weights sum
// to 100 and their means times weights to 482.
func TestPoissonMean(t *testing.T) {
	p := New(Options{})
	r := p.Reader()
	const n = 40_000
	sum := 0
	for i := range n {
		sum += len(r.Events(i))
	}
	// The variance of one draw is 4.82 + that of the levels, 46: six sigma are 0.21.
	if mean := float64(sum) / n; math.Abs(mean-4.82) > 0.21 {
		t.Errorf("%.3f events a person, want 4.82", mean)
	}
}

// Every attribute, tag, tag value, event, property and segment that is drawn is
// declared, with its type.
func TestEverythingIsDeclared(t *testing.T) {
	story, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	declared(t, Story, story)
	declared(t, Bench, Catalogue(CatalogueOptions{Caps: true}))
}

func declared(t *testing.T, shape Shape, files []definition.File) {
	t.Helper()
	set, faults := definition.Load(files)
	for _, fault := range faults {
		t.Error(fault)
	}
	attributes := map[string]definition.AttrType{}
	for _, a := range set.Attributes {
		attributes[a.ID] = a.Type
	}
	tags := map[string][]string{}
	for _, tag := range set.Tags {
		tags[tag.ID] = append(tag.Values, "")
		if len(tag.Values) > 0 {
			tags[tag.ID] = tag.Values
		}
	}
	events := map[string]*definition.Event{}
	for _, e := range set.Events {
		events[e.ID] = e
	}
	r := New(Options{Shape: shape}).Reader()
	for i := range 2000 {
		u := r.User(i)
		for _, a := range u.Attributes {
			if attributes[string(a.Name)] == 0 {
				t.Fatalf("attribute %s is not declared", a.Name)
			}
		}
		for _, tag := range u.Tags {
			if !slices.Contains(tags[string(tag.Name)], string(tag.Is)) {
				t.Fatalf("tag %s = %q is not declared", tag.Name, tag.Is)
			}
		}
		for _, e := range r.Events(i) {
			d := events[string(e.Event)]
			if d == nil {
				t.Fatalf("event %s is not declared", e.Event)
			}
			for _, p := range e.Properties {
				if !slices.ContainsFunc(d.Properties, func(q definition.Property) bool {
					return q.Name == string(p.Name)
				}) {
					t.Fatalf("event %s: property %s is not declared", e.Event, p.Name)
				}
			}
		}
	}
	if shape == Story {
		for _, want := range Segments() {
			if !slices.ContainsFunc(set.Segments, func(s *definition.Segment) bool {
				return s.ID == want && s.Static
			}) {
				t.Errorf("segment %s is not declared", want)
			}
		}
	}
}

// The story has what the demo promises: about twenty offers on five channels,
// five placements, caps of every window, an experiment and a holdout.
func TestStoryIsWhole(t *testing.T) {
	files, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	set, _ := definition.Load(files)
	channels := map[definition.Channel]bool{}
	for _, o := range set.Offers {
		for _, treatment := range o.Treatments {
			channels[treatment.Channel] = true
		}
	}
	rolling, calendar, gap, total := 0, 0, 0, 0
	for _, c := range set.Caps {
		switch {
		case c.Scope == definition.ScopeTotal:
			total++
		case c.Window.Rolling > 0:
			rolling++
		case c.Window.Unit != definition.UnitNone:
			calendar++
		}
		if c.MinGap > 0 {
			gap++
		}
	}
	got := fmt.Sprint(len(set.Offers), len(channels), len(set.Placements), rolling, calendar, gap,
		total, len(set.Experiments), len(set.Holdouts), len(set.Tests))
	const want = "21 5 5 4 2 2 1 2 1 10"
	if got != want {
		t.Errorf("offers, channels, placements, rolling and calendar caps, gaps, totals, "+
			"experiments, holdouts, tests: %s, want %s", got, want)
	}
}

// What a customer of the story is said to have ordered in a lifetime is never less
// than the orders among the events, and some have ordered nothing at all.
func TestOrdersAgree(t *testing.T) {
	r := New(Options{}).Reader()
	none := 0
	for i := range 5000 {
		total, spent := -1.0, -1.0
		for _, a := range r.User(i).Attributes {
			switch string(a.Name) {
			case "orders_total":
				_, _ = fmt.Sscan(string(a.Value.Text), &total)
			case "lifetime_value":
				_, _ = fmt.Sscan(string(a.Value.Text), &spent)
			}
		}
		orders := 0
		for _, e := range r.Events(i) {
			if string(e.Event) == "order_completed" {
				orders++
			}
		}
		if total < float64(orders) || spent < float64(orders) {
			t.Fatalf("person %d: %v orders in a lifetime for %v, %d of them among the events",
				i, total, spent, orders)
		}
		if total == 0 {
			none++
		}
	}
	if none < 500 {
		t.Errorf("%d of 5,000 have ordered nothing", none)
	}
}
