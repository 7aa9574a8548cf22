package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tact/bench/cdnow"
	"tact/engine/definition"
	"tact/storage"
)

const cdnowDefinitions = `
kind: workspace
id: default
timezone: UTC
---
kind: event
id: buy
properties: {cds: {type: int, indexed: true}, amount: {type: float, indexed: true}}
`

// Real input, in the engine: the thirty audiences over the purchases of 23,570
// customers are at twenty instants as many as brute force over the file says (the
// counts of testdata/cdnow.txt, which package rule makes and checks): as a count,
// as ids page by page with a cursor, and as a bitmap.
func TestCDNOWPeople(t *testing.T) {
	purchases, err := cdnow.Read()
	if errors.Is(err, cdnow.ErrNoData) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("rule/testdata/cdnow.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, dir: "store", fs: vfs.NewMem(), m: &machine{
		wall: purchases[0].At.Add(-time.Hour).UnixMilli(), mono: 1,
	}}
	b.open()
	t.Cleanup(func() { _ = b.e.Close() })
	b.publish(cdnowDefinitions)
	first := time.Date(1997, 1, 20, 6, 0, 0, 0, time.UTC)
	bought := 0
	for instant := range 20 {
		now := first.AddDate(0, 0, instant*31)
		for bought < len(purchases) && purchases[bought].At.Before(now) {
			b.reach(purchases[bought].At)
			bought += b.buy(purchases[bought:], bought)
		}
		b.reach(now)
		for line := range strings.Lines(string(golden)) {
			text, counts, _ := strings.Cut(strings.TrimSpace(line), "\t")
			b.countAll(text, strings.Fields(counts)[instant])
		}
	}
	if bought != len(purchases) {
		t.Fatalf("%d of %d purchases", bought, len(purchases))
	}
}

// reach moves the clock to a time.
func (b *bed) reach(at time.Time) {
	wall, _ := b.m.read()
	b.m.pass(time.Duration(at.UnixMilli()-wall) * time.Millisecond)
	b.e.tick()
}

// buy sends what was bought on the day of the first of rest, and says how many
// purchases that were; n came before.
func (b *bed) buy(rest []cdnow.Purchase, n int) (count int) {
	b.t.Helper()
	batch := b.e.Begin()
	for ; count < len(rest) && rest[count].At.Equal(rest[0].At); count++ {
		p := &rest[count]
		doc := EventDoc{
			UserID: []byte(p.Customer), EventID: fmt.Appendf(nil, "e%d", n+count),
			Event: []byte("buy"), BodyHash: 1, OccurredAt: storage.UnixMsec(p.At.UnixMilli()),
			Properties: []NamedValue{
				{[]byte("cds"), RawValue{Kind: RawNumber, Text: fmt.Append(nil, p.CDs)}},
				{[]byte("amount"), RawValue{Kind: RawNumber, Text: fmt.Append(nil, p.Amount)}},
			},
		}
		if r := batch.Event(&doc); r.Err != nil {
			b.t.Fatal(r.Err)
		}
	}
	if err := batch.Commit(time.Minute); err != nil {
		b.t.Fatal(err)
	}
	return count
}

// countAll counts an audience by a count, by pages and by a bitmap.
func (b *bed) countAll(text, want string) {
	b.t.Helper()
	rule, err := definition.NodeFromJSON([]byte(text), "rule")
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := b.e.Audience(context.Background(), &AudienceQuery{Rule: rule})
	if err != nil {
		b.t.Fatal(err)
	}
	cursor := string(a.AppendCursor(nil, PeoplePos{}))
	seen := map[string]bool{}
	for more := true; more; {
		page, from, err := b.e.AudienceAt([]byte(cursor))
		if err != nil {
			b.t.Fatal(err)
		}
		n := 0
		err = b.e.EachPerson(page.People, from, func(pos PeoplePos, id []byte) bool {
			seen[string(id)] = true
			from = pos.Next()
			n++
			return n < 7000
		})
		if err != nil {
			b.t.Fatal(err)
		}
		more, cursor = n == 7000, string(page.AppendCursor(nil, from))
	}
	data, _, err := a.AppendRoaring(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	set := roaring64.New()
	if err := set.UnmarshalBinary(data); err != nil {
		b.t.Fatal(err)
	}
	got := fmt.Sprint(a.Count(), len(seen), set.GetCardinality())
	if got != want+" "+want+" "+want {
		b.t.Errorf("%s at %d: %s, want %s", text, a.At, got, want)
	}
	a.Done()
}
