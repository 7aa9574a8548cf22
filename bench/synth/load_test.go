package synth

import (
	"context"
	"errors"
	"testing"

	"tact/engine"
)

// Everybody is there after Load, with events and segments, and a second Load of
// the same people adds nothing.
func TestLoad(t *testing.T) {
	e, err := engine.Open(t.TempDir(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	files, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	if _, faults, tests, err := e.Publish(files, "test", "", 0); err != nil || len(faults) > 0 {
		t.Fatal(err, faults, tests)
	}
	// A tail keeps 90 days: all events lie within.
	p := New(Options{Users: 1200, End: e.Now(), Days: 89})
	for range 2 {
		last := 0
		events, err := Load(context.Background(), e, p, func(n int) { last = n })
		if err != nil {
			t.Fatal(err)
		}
		if want := countEvents(p); events != want || last != p.Len() {
			t.Errorf("%d events and %d people, want %d and %d", events, last, want, p.Len())
		}
	}
	if n := e.StoreStats().People; n != p.Len() {
		t.Errorf("%d people, want %d", n, p.Len())
	}
	r := p.Reader()
	for i := range p.Len() {
		v, err := e.User(AppendUserID(nil, i))
		if err != nil {
			t.Fatal(err)
		}
		in := 0
		for bit := range Segments() {
			in += int(p.InSegments(i) >> bit & 1)
		}
		doc := r.User(i)
		if len(v.Attributes) != len(doc.Attributes) || len(v.Tags) != len(doc.Tags) ||
			len(v.Consents) != len(doc.Consents) || len(v.Segments) != in ||
			len(v.Events) != min(len(r.Events(i)), 64) {
			t.Fatalf("person %d reads back as %+v", i, v)
		}
	}
}

func countEvents(p *Population) int {
	n, r := 0, p.Reader()
	for i := range p.Len() {
		n += len(r.Events(i))
	}
	return n
}

// A load stops when it is told to, with the cause.
func TestLoadStops(t *testing.T) {
	e, err := engine.Open(t.TempDir(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, faults, _, err := e.Publish(Catalogue(CatalogueOptions{Caps: true}), "test", "", 0); err != nil ||
		len(faults) > 0 {
		t.Fatal(err, faults)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	_, err = Load(ctx, e, New(Options{Users: 1_000_000, Shape: Bench}), func(int) { cancel(why) })
	if !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
}
