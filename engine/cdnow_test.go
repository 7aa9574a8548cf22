package engine

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/cockroachdb/pebble/v2/vfs"

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

// cdnowDay is what was bought on one day: customer, discs, dollars.
type cdnowDay struct {
	at  time.Time // noon UTC
	all [][3]string
}

// cdnowDays reads cdnow/CDNOW_master.txt below TACT_DATA, by rising day.
func cdnowDays(t *testing.T) []cdnowDay {
	t.Helper()
	dir := os.Getenv("TACT_DATA")
	if dir == "" {
		t.Skip("TACT_DATA is not set: it names the folder that holds cdnow/CDNOW_master.txt")
	}
	f, err := os.Open(filepath.Join(dir, "cdnow", "CDNOW_master.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	byDay := map[string]*cdnowDay{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		if len(w) != 4 || w[0] == "customer_id" {
			continue
		}
		if byDay[w[1]] == nil {
			at, err := time.Parse("20060102 15", w[1]+" 12")
			if err != nil {
				t.Fatal(err)
			}
			byDay[w[1]] = &cdnowDay{at: at}
		}
		byDay[w[1]].all = append(byDay[w[1]].all, [3]string{w[0], w[2], w[3]})
	}
	var days []cdnowDay
	for _, d := range byDay {
		days = append(days, *d)
	}
	slices.SortFunc(days, func(a, b cdnowDay) int { return a.at.Compare(b.at) })
	return days
}

// Real input, in the engine: the thirty audiences over the purchases of 23,570
// customers are at twenty instants as many as brute force over the file says (the
// counts of testdata/cdnow.txt, which package rule makes and checks): as a count,
// as ids page by page with a cursor, and as a bitmap.
func TestCDNOWPeople(t *testing.T) {
	days := cdnowDays(t)
	golden, err := os.ReadFile("rule/testdata/cdnow.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, dir: "store", fs: vfs.NewMem(), m: &machine{
		wall: days[0].at.Add(-time.Hour).UnixMilli(), mono: 1,
	}}
	b.open()
	t.Cleanup(func() { _ = b.e.Close() })
	b.publish(cdnowDefinitions)
	first := time.Date(1997, 1, 20, 6, 0, 0, 0, time.UTC)
	bought := 0
	for instant := range 20 {
		now := first.AddDate(0, 0, instant*31)
		for ; len(days) > 0 && days[0].at.Before(now); days = days[1:] {
			b.reach(days[0].at)
			bought = b.buy(&days[0], bought)
		}
		b.reach(now)
		for line := range strings.Lines(string(golden)) {
			text, counts, _ := strings.Cut(strings.TrimSpace(line), "\t")
			b.countAll(text, strings.Fields(counts)[instant])
		}
	}
	if bought != 69_659 {
		t.Fatalf("%d purchases", bought)
	}
}

// reach moves the clock to a time.
func (b *bed) reach(at time.Time) {
	wall, _ := b.m.read()
	b.m.pass(time.Duration(at.UnixMilli()-wall) * time.Millisecond)
	b.e.tick()
}

// buy sends what was bought on a day; n purchases came before.
func (b *bed) buy(d *cdnowDay, n int) int {
	b.t.Helper()
	batch := b.e.Begin()
	for _, p := range d.all {
		doc := EventDoc{
			UserID: []byte(p[0]), EventID: fmt.Appendf(nil, "e%d", n), Event: []byte("buy"),
			BodyHash: 1, OccurredAt: storage.UnixMsec(d.at.UnixMilli()), Properties: []NamedValue{
				{[]byte("cds"), RawValue{Kind: RawNumber, Text: []byte(p[1])}},
				{[]byte("amount"), RawValue{Kind: RawNumber, Text: []byte(p[2])}},
			},
		}
		n++
		if r := batch.Event(&doc); r.Err != nil {
			b.t.Fatal(r.Err)
		}
	}
	if err := batch.Commit(time.Minute); err != nil {
		b.t.Fatal(err)
	}
	return n
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
